package flightcheck

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/types/typeutil"
)

// same reports whether the expressions a and b, one outside of fn and one inside, have the
// same value: constants, variables that fn does not assign, fields, elements, and functions
// of which the result is known to depend on nothing else.
func (v *variables) same(a, b ast.Expr, fn ast.Node) bool {
	a, b = ast.Unparen(a), ast.Unparen(b)
	ta, tb := v.info.Types[a], v.info.Types[b]
	if ta.Value != nil || tb.Value != nil {
		return ta.Value != nil && tb.Value != nil && ta.Value.Kind() == tb.Value.Kind() &&
			constant.Compare(ta.Value, token.EQL, tb.Value) && types.Identical(ta.Type, tb.Type)
	}
	if ta.IsType() || tb.IsType() {
		return ta.IsType() && tb.IsType() && types.Identical(ta.Type, tb.Type)
	}
	switch a := a.(type) {
	case *ast.Ident:
		b, ok := b.(*ast.Ident)
		if !ok {
			return false
		}
		obj := v.info.ObjectOf(a)
		if obj == nil || obj != v.info.ObjectOf(b) {
			return false
		}
		x, ok := obj.(*types.Var)
		return !ok || !v.assignedIn(x, fn) && !within(x.Pos(), fn)
	case *ast.SelectorExpr:
		b, ok := b.(*ast.SelectorExpr)
		if !ok || v.info.ObjectOf(a.Sel) == nil || v.info.ObjectOf(a.Sel) != v.info.ObjectOf(b.Sel) {
			return false
		}
		if _, ok := v.info.Selections[a]; !ok {
			return true // of a package
		}
		return v.same(a.X, b.X, fn) && !v.written(fn, a)
	case *ast.StarExpr:
		b, ok := b.(*ast.StarExpr)
		return ok && v.same(a.X, b.X, fn) && !v.written(fn, a)
	case *ast.UnaryExpr:
		b, ok := b.(*ast.UnaryExpr)
		return ok && a.Op == b.Op && a.Op != token.ARROW && v.same(a.X, b.X, fn)
	case *ast.BinaryExpr:
		b, ok := b.(*ast.BinaryExpr)
		return ok && a.Op == b.Op && v.same(a.X, b.X, fn) && v.same(a.Y, b.Y, fn)
	case *ast.IndexExpr:
		b, ok := b.(*ast.IndexExpr)
		return ok && v.same(a.X, b.X, fn) && v.same(a.Index, b.Index, fn) && !v.written(fn, a)
	case *ast.CompositeLit:
		b, ok := b.(*ast.CompositeLit)
		return ok && types.Identical(v.info.TypeOf(a), v.info.TypeOf(b)) && v.allSame(a.Elts, b.Elts, fn)
	case *ast.KeyValueExpr:
		b, ok := b.(*ast.KeyValueExpr)
		if !ok || !v.same(a.Value, b.Value, fn) {
			return false
		}
		fa, oka := a.Key.(*ast.Ident)
		fb, okb := b.Key.(*ast.Ident)
		if oka && okb && v.info.ObjectOf(fa) == v.info.ObjectOf(fb) {
			return true
		}
		return v.same(a.Key, b.Key, fn)
	case *ast.CallExpr:
		b, ok := b.(*ast.CallExpr)
		return ok && a.Ellipsis.IsValid() == b.Ellipsis.IsValid() && v.pure(a) &&
			v.same(a.Fun, b.Fun, fn) && v.allSame(a.Args, b.Args, fn)
	}
	return false
}

// written reports whether fn assigns the field, the element or the value pointed to that e is,
// or another of its kind, or takes the address of one.
func (v *variables) written(fn ast.Node, e ast.Expr) bool {
	found := false
	write := func(to ast.Expr) {
		switch to := ast.Unparen(to).(type) {
		case *ast.SelectorExpr:
			e, ok := e.(*ast.SelectorExpr)
			found = found || ok && v.info.ObjectOf(e.Sel) == v.info.ObjectOf(to.Sel)
		case *ast.IndexExpr:
			e, ok := e.(*ast.IndexExpr)
			found = found || ok && types.Identical(v.info.TypeOf(e.X), v.info.TypeOf(to.X))
		case *ast.StarExpr:
			e, ok := e.(*ast.StarExpr)
			found = found || ok && types.Identical(v.info.TypeOf(e), v.info.TypeOf(to))
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				write(to)
			}
		case *ast.IncDecStmt:
			write(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND && !isGroup(v.info.TypeOf(n.X)) {
				write(n.X)
			}
		}
		return !found
	})
	return found
}

func (v *variables) allSame(a, b []ast.Expr, fn ast.Node) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !v.same(a[i], b[i], fn) {
			return false
		}
	}
	return true
}

// pure reports whether a call is a conversion, or of a function of which the result depends
// on its arguments alone.
func (v *variables) pure(call *ast.CallExpr) bool {
	if v.info.Types[call.Fun].IsType() {
		return true
	}
	callee := typeutil.Callee(v.info, call)
	if callee == nil || callee.Pkg() == nil {
		return false
	}
	switch callee.Pkg().Path() {
	case "fmt":
		return isFrom(callee, "fmt", "Sprint", "Sprintf", "Sprintln")
	case "strconv", "strings":
		_, function := callee.(*types.Func)
		return function
	}
	return false
}
