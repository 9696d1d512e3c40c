package flightcheck

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/types/typeutil"
)

func stringKey(pass *analysis.Pass) {
	reported := make(map[token.Pos]bool) // a key of several calls is reported once
	for _, c := range calls(pass) {
		for _, key := range c.keysOf() {
			for _, part := range parts(vars(pass), key) {
				reportOperands(pass, part, reported)
			}
		}
	}
}

// parts returns the calls of fmt of which a key is made.
func parts(vars *variables, key ast.Expr) []*ast.CallExpr {
	switch e := vars.only(key).(type) {
	case *ast.BinaryExpr:
		return append(parts(vars, e.X), parts(vars, e.Y)...)
	case *ast.CallExpr:
		if vars.info.Types[e.Fun].IsType() && len(e.Args) == 1 {
			return parts(vars, e.Args[0])
		}
		if isFrom(typeutil.Callee(vars.info, e), "fmt", "Sprint", "Sprintf", "Sprintln") && !e.Ellipsis.IsValid() {
			return []*ast.CallExpr{e}
		}
	}
	return nil
}

// reportOperands reports the operands of a call of fmt that are not fit for a key.
func reportOperands(pass *analysis.Pass, call *ast.CallExpr, reported map[token.Pos]bool) {
	name := typeutil.Callee(pass.TypesInfo, call).Name()
	report := func(operand ast.Expr, verb, why string) {
		if why == "" || reported[operand.Pos()] {
			return
		}
		reported[operand.Pos()] = true
		pass.Report(analysis.Diagnostic{
			Pos: operand.Pos(), End: operand.End(),
			Message: fmt.Sprintf("key formatted by %s%s: %s", name, verb, why),
		})
	}
	if name != "Sprintf" {
		for _, operand := range call.Args {
			report(operand, "", unfit(pass.TypesInfo.TypeOf(operand), false))
		}
		return
	}
	if len(call.Args) == 0 {
		return
	}
	format := pass.TypesInfo.Types[call.Args[0]].Value
	if format == nil || format.Kind() != constant.String {
		return
	}
	for _, v := range verbs(constant.StringVal(format)) {
		if 1+v.arg >= len(call.Args) {
			continue
		}
		operand := call.Args[1+v.arg]
		switch {
		case v.char == 'p':
			report(operand, " with %p", address)
		case v.char == 'v' && v.sharp:
			report(operand, " with %#v", unfit(pass.TypesInfo.TypeOf(operand), true))
		case v.char == 'v':
			report(operand, " with %v", unfit(pass.TypesInfo.TypeOf(operand), false))
		}
	}
}

const address = "it is an address, which differs for equal values"

// unfit says why a value of type t, as %v or %#v (sharp) prints it, is no key, or returns
// "".
func unfit(t types.Type, sharp bool) string {
	p := printed{sharp: sharp}
	p.add(t, 0)
	switch {
	case p.address:
		return address
	case p.loose > 1:
		return fmt.Sprintf("different values of type %s may print alike", types.TypeString(t, (*types.Package).Name))
	}
	return ""
}

// A printed is what is known of how a value is printed.
type printed struct {
	sharp   bool
	address bool // whether an address is in it
	loose   int  // how many parts have no end that can be seen: strings; a slice of them is two
}

func (p *printed) add(t types.Type, depth int) {
	if p.address || p.loose > 1 {
		return // it is no key
	}
	if has(t, "Format") || !p.sharp && (has(t, "String") || has(t, "Error")) || p.sharp && has(t, "GoString") {
		return
	}
	if param, ok := types.Unalias(t).(*types.TypeParam); ok || types.IsInterface(t) {
		if !p.sharp && (!ok || !isBasic(param.Constraint())) {
			p.loose += 2 // it could be anything
		}
		return
	}
	if depth > 5 {
		return // it may hold itself
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		if u.Kind() == types.UnsafePointer {
			p.address = true
		} else if depth > 0 && !p.sharp && u.Info()&types.IsString != 0 {
			p.loose++
		}
	case *types.Chan, *types.Signature:
		p.address = true
	case *types.Pointer:
		switch u.Elem().Underlying().(type) {
		case *types.Struct, *types.Array, *types.Slice, *types.Map:
			if depth == 0 { // it is printed as &{...}
				p.add(u.Elem(), 1)
				return
			}
		}
		p.address = true
	case *types.Struct:
		for i := range u.NumFields() {
			p.add(u.Field(i).Type(), depth+1)
		}
	case *types.Array:
		p.addMany(depth+1, u.Elem())
	case *types.Slice:
		p.addMany(depth+1, u.Elem())
	case *types.Map:
		p.addMany(depth+1, u.Key(), u.Elem())
	}
}

// isBasic reports whether a constraint has basic types alone.
func isBasic(constraint types.Type) bool {
	switch u := constraint.Underlying().(type) {
	case *types.Basic:
		return true
	case *types.Union:
		for term := range u.Terms() {
			if _, ok := term.Type().Underlying().(*types.Basic); !ok {
				return false
			}
		}
		return true
	case *types.Interface:
		for part := range u.EmbeddedTypes() {
			if isBasic(part) {
				return true // types have to be in all parts
			}
		}
	}
	return false
}

// addMany adds any number of values of these types.
func (p *printed) addMany(depth int, types ...types.Type) {
	before := p.loose
	for _, t := range types {
		p.add(t, depth)
	}
	p.loose += p.loose - before
}

// has reports whether values of type t have a method of that name.
func has(t types.Type, name string) bool {
	obj, _, _ := types.LookupFieldOrMethod(t, false, nil, name)
	_, ok := obj.(*types.Func)
	return ok
}
