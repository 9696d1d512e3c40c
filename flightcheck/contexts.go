package flightcheck

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/types/typeutil"
)

// This file knows which contexts end with a call.

// isContext reports whether t has the methods of context.Context.
func isContext(t types.Type) bool {
	for _, name := range []string{"Deadline", "Done", "Err", "Value"} {
		if obj, _, _ := types.LookupFieldOrMethod(t, false, nil, name); obj == nil {
			return false
		} else if _, ok := obj.(*types.Func); !ok {
			return false
		}
	}
	return true
}

// isRequest reports whether t is *http.Request.
func isRequest(t types.Type) bool {
	p, ok := types.Unalias(t).(*types.Pointer)
	return ok && isNamed(p.Elem(), "net/http", "Request")
}

func isNamed(t types.Type, pkg, name string) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Name() == name && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == pkg
}

// isFrom reports whether f is the function of that name.
func isFrom(f types.Object, pkg string, names ...string) bool {
	if f == nil || f.Pkg() == nil || f.Pkg().Path() != pkg {
		return false
	}
	for _, name := range names {
		if f.Name() == name {
			return true
		}
	}
	return false
}

// ends reports whether the context x, as it is at a position, is a caller's: whether it is
// a parameter of a function, and all that is assigned to it before is made of one; or no
// parameter, and made of one.
func (v *variables) ends(x *types.Var, at token.Pos) bool { return v.endsBut(x, at, nil) }

func (v *variables) endsBut(x *types.Var, at token.Pos, seen []*types.Var) bool {
	if slices.Contains(seen, x) {
		return true // it is what it was
	}
	if x.IsField() || !isContext(x.Type()) {
		return false
	}
	made := v.params[x]
	for _, val := range v.values[x] {
		if val.at >= at {
			continue
		}
		if val.expr == nil || !v.made(val, append(seen, x)) {
			return false
		}
		made = true
	}
	return made
}

// made reports whether a value is the context of a caller, or made of one.
func (v *variables) made(val value, seen []*types.Var) bool {
	e := ast.Unparen(val.expr)
	if x := v.variable(e); x != nil {
		return v.endsBut(x, val.at, seen)
	}
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	if v.ofRequest(call) != nil {
		return true
	}
	arg := -1
	for i, a := range call.Args {
		if x := v.variable(a); x != nil && isContext(x.Type()) && v.endsBut(x, val.at, seen) {
			arg = i
			break
		}
		if inner, ok := ast.Unparen(a).(*ast.CallExpr); ok && isContext(v.info.TypeOf(inner)) &&
			v.made(value{at: val.at, expr: inner}, seen) {
			arg = i
			break
		}
	}
	if arg < 0 {
		return false
	}
	callee := typeutil.Callee(v.info, call)
	if isFrom(callee, "context", "WithCancel", "WithCancelCause", "WithDeadline", "WithDeadlineCause",
		"WithTimeout", "WithTimeoutCause", "WithValue") {
		return true
	}
	// ctx, span := tracer.Start(ctx) and group, ctx := errgroup.WithContext(ctx) go on with
	// ctx. What returns a context alone, or with a function that ends it, may cut it off.
	results, ok := v.info.TypeOf(call).(*types.Tuple)
	if !ok {
		return false
	}
	for i := range results.Len() {
		t := results.At(i).Type()
		if _, function := t.Underlying().(*types.Signature); i != val.result && !function && !isError(t) && !isContext(t) {
			return true
		}
	}
	return false
}

// madeOf reports whether the expression e, as it is at a position, is made of the variable x,
// or is x.
func (v *variables) madeOf(e ast.Expr, x *types.Var, at token.Pos, seen []*types.Var) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !found {
			y, _ := v.info.ObjectOf(id).(*types.Var)
			found = y != nil && (y == x || v.assignedFrom(y, x, at, seen))
		}
		return !found
	})
	return found
}

// assignedFrom is madeOf for anything that is assigned to the variable y.
func (v *variables) assignedFrom(y, x *types.Var, at token.Pos, seen []*types.Var) bool {
	if y.IsField() || slices.Contains(seen, y) {
		return false
	}
	for _, val := range v.values[y] {
		if val.at < at && val.expr != nil && v.madeOf(val.expr, x, at, append(seen, y)) {
			return true
		}
	}
	return false
}

// ofRequest returns the variable r if call is r.Context() and r a parameter that is an
// *http.Request.
func (v *variables) ofRequest(call *ast.CallExpr) *types.Var {
	sel, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Context" {
		return nil
	}
	if r := v.variable(sel.X); r != nil && v.params[r] && isRequest(r.Type()) && len(v.values[r]) == 0 {
		return r
	}
	return nil
}

func isError(t types.Type) bool {
	return types.Identical(t, types.Universe.Lookup("error").Type())
}

// endless reports whether all that is assigned to the context x never ends, or ends with a
// test.
func (v *variables) endless(x *types.Var) bool {
	for _, val := range v.values[x] {
		call, ok := val.expr.(*ast.CallExpr)
		if !ok {
			return false
		}
		callee := typeutil.Callee(v.info, call)
		if !isFrom(callee, "context", "Background", "TODO", "WithoutCancel") && !isFrom(callee, "testing", "Context") {
			return false
		}
	}
	return !v.params[x] && len(v.values[x]) > 0
}
