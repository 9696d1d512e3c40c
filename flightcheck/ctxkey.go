package flightcheck

import (
	"fmt"
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

func ctxKey(pass *analysis.Pass) {
	report := func(e ast.Expr, what string) {
		pass.Report(analysis.Diagnostic{
			Pos: e.Pos(), End: e.End(),
			Message: fmt.Sprintf("key has %s: only calls with the same one share a flight", what),
		})
	}
	for c := range root(pass).Preorder((*ast.IndexListExpr)(nil)) {
		n := c.Node().(*ast.IndexListExpr)
		if t := pass.TypesInfo.Types[n]; t.IsType() && isGroup(t.Type) {
			if what := personal(pass.TypesInfo.TypeOf(n.Indices[0]), ""); what != "" {
				report(n.Indices[0], what)
			}
		}
	}
	for _, c := range calls(pass) {
		key := c.expr.Args[c.key]
		if c.keys || !keyIsInterface(pass.TypesInfo, c) {
			continue
		}
		if what := personal(pass.TypesInfo.TypeOf(key), ""); what != "" {
			report(key, what)
		}
	}
}

// keyIsInterface reports whether the type of a call's keys is an interface that is no
// context, so that a context may be in one.
func keyIsInterface(info *types.Info, c call) bool {
	method, _ := groupMethod(info, c.expr)
	t := method.Signature().Params().At(c.key).Type()
	return types.IsInterface(t) && !isContext(t)
}

// personal says what in a key of type t belongs to one call alone: a context or a request.
// It returns "" if there is nothing of the kind. path is where in the key t is.
func personal(t types.Type, path string) string {
	switch {
	case isRequest(t):
		return "an *http.Request" + path
	case isContext(t):
		return "a context" + path
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for i := range u.NumFields() {
			f := u.Field(i)
			if what := personal(f.Type(), fmt.Sprintf(" in field %s", f.Name())); what != "" {
				return what
			}
		}
	case *types.Array:
		return personal(u.Elem(), path)
	}
	return ""
}
