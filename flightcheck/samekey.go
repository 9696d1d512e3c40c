package flightcheck

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

func sameKey(pass *analysis.Pass) {
	reported := make(map[*ast.CallExpr]bool) // a call in two fns is reported for the outer one
	for _, outer := range calls(pass) {
		lit := outer.literal(vars(pass))
		if lit == nil {
			continue
		}
		if body, ok := root(pass).FindNode(lit.Body); ok {
			reportNested(pass, outer, lit, body, reported)
		}
	}
}

// reportNested reports the calls in the body of lit, the fn of outer, that wait for it.
func reportNested(pass *analysis.Pass, outer call, lit *ast.FuncLit, body inspector.Cursor, reported map[*ast.CallExpr]bool) {
	vars := vars(pass)
	forgotten := token.NoPos // where the first Forget of the key is
	body.Inspect([]ast.Node{(*ast.CallExpr)(nil), (*ast.FuncLit)(nil), (*ast.GoStmt)(nil)}, func(at inspector.Cursor) bool {
		switch n := at.Node().(type) {
		case *ast.GoStmt:
			return false
		case *ast.FuncLit:
			return awaited(pass, at)
		case *ast.CallExpr:
			method, group := groupMethod(pass.TypesInfo, n)
			if method == nil || !vars.same(outer.group, group, lit) {
				break
			}
			switch method.Name() {
			case "ForgetFunc", "ForgetFlight":
				forgotten = n.Pos() // perhaps of this key
			case "Forget", "ForgetUnshared":
				if len(n.Args) == 1 && slices.ContainsFunc(outer.keysOf(), func(key ast.Expr) bool {
					return vars.same(key, n.Args[0], lit)
				}) {
					forgotten = n.Pos()
				}
			}
			inner, ok := callOf(pass.TypesInfo, n)
			if !ok || inner.refuses || forgotten.IsValid() || inner.channel && !received(at) {
				break
			}
			if !reported[n] && sharedKey(vars, outer, inner, lit) {
				reported[n] = true
				pass.Report(analysis.Diagnostic{
					Pos: n.Pos(), End: n.End(),
					Message: fmt.Sprintf("%s inside the function passed to %s has the same group and key: it waits for itself",
						inner.name, outer.name),
				})
			}
		}
		return true
	})
}

// keysOf returns the keys of c: one, or those in the literal of a slice.
func (c call) keysOf() []ast.Expr {
	key := ast.Unparen(c.expr.Args[c.key])
	if lit, ok := key.(*ast.CompositeLit); ok && c.keys {
		return lit.Elts
	}
	return []ast.Expr{key}
}

// sharedKey reports whether the two calls have a key, or a slice of keys, in common.
func sharedKey(vars *variables, outer, inner call, fn ast.Node) bool {
	for _, a := range outer.keysOf() {
		for _, b := range inner.keysOf() {
			if (vars.same(vars.only(a), vars.only(b), fn) || vars.same(a, b, fn)) && !mayBeNaN(vars.info, a) {
				return true
			}
		}
	}
	return false
}

// mayBeNaN reports whether a key is a number that may differ from itself.
func mayBeNaN(info *types.Info, key ast.Expr) bool {
	t, ok := info.TypeOf(key).Underlying().(*types.Basic)
	return ok && t.Info()&(types.IsFloat|types.IsComplex) != 0 && info.Types[key].Value == nil
}

// awaited reports whether the function literal at a cursor runs before the function around
// it goes on: whether it is called there, or the fn of a call.
func awaited(pass *analysis.Pass, at inspector.Cursor) bool {
	parent, ok := at.Parent().Node().(*ast.CallExpr)
	if !ok {
		return false
	}
	if at.ParentEdgeKind() == edge.CallExpr_Fun {
		return true
	}
	c, ok := callOf(pass.TypesInfo, parent)
	return ok && at.Node() == c.expr.Args[c.fn] && (!c.channel || received(at.Parent()))
}

// received reports whether the channel that the call at a cursor returns is received from
// in the same expression.
func received(at inspector.Cursor) bool {
	n, ok := at.Parent().Node().(*ast.UnaryExpr)
	return ok && n.Op == token.ARROW
}
