package flightcheck

import (
	"go/ast"
	"go/types"
	"iter"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// This file knows the calls of the four packages.

const (
	core    = "github.com/seed342dcb2d/coalesce"
	dropIn  = core + "/singleflight"
	xsync   = "golang.org/x/sync/singleflight"
	resenje = "resenje.org/singleflight"
)

// A form is a method of a Group that runs a function fn.
type form struct {
	ctx, key, fn int  // which arguments these are; ctx is -1 if fn gets no context
	keys         bool // whether key is a slice of them
	channel      bool // whether it returns a channel at once
	refuses      bool // whether it returns at once if fn runs already
}

var (
	simple  = form{ctx: -1, key: 0, fn: 1}
	withCtx = form{ctx: 0, key: 1, fn: 2}
	forms   = map[string]map[string]form{
		core: {
			"Do":        simple,
			"DoChan":    {ctx: 0, key: 1, fn: 2, channel: true},
			"DoContext": withCtx,
			"DoFresh":   withCtx,
			"DoMulti":   {ctx: 0, key: 1, fn: 2, keys: true},
			"TryDo":     {ctx: -1, key: 0, fn: 1, refuses: true},
		},
		dropIn: {
			"Do":     simple,
			"DoChan": {ctx: -1, key: 0, fn: 1, channel: true},
		},
		xsync: {
			"Do":     simple,
			"DoChan": {ctx: -1, key: 0, fn: 1, channel: true},
		},
		resenje: {
			"Do": withCtx,
		},
	}
)

// A call is a call of a form.
type call struct {
	form
	name  string // of the method
	group ast.Expr
	expr  *ast.CallExpr
}

// callOf returns the call that e is, if it is one.
func callOf(info *types.Info, e *ast.CallExpr) (call, bool) {
	method, group := groupMethod(info, e)
	if method == nil {
		return call{}, false
	}
	f, ok := forms[method.Pkg().Path()][method.Name()]
	if !ok || len(e.Args) <= f.fn { // f(g()) passes several arguments by one
		return call{}, false
	}
	return call{f, method.Name(), group, e}, true
}

// groupMethod returns the method of a Group that e calls, and the expression of the group.
func groupMethod(info *types.Info, e *ast.CallExpr) (*types.Func, ast.Expr) {
	sel, ok := ast.Unparen(e.Fun).(*ast.SelectorExpr)
	if !ok {
		return nil, nil
	}
	s := info.Selections[sel]
	if s == nil || s.Kind() != types.MethodVal {
		return nil, nil
	}
	method := s.Obj().(*types.Func)
	if method.Pkg() == nil || forms[method.Pkg().Path()] == nil || !isGroup(method.Signature().Recv().Type()) {
		return nil, nil
	}
	return method, sel.X
}

// isGroup reports whether t is a Group of one of the packages, or a pointer to one.
func isGroup(t types.Type) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Name() == "Group" && named.Obj().Pkg() != nil && forms[named.Obj().Pkg().Path()] != nil
}

// calls returns the calls of the package.
func calls(pass *analysis.Pass) iter.Seq2[inspector.Cursor, call] {
	return func(yield func(inspector.Cursor, call) bool) {
		for c := range root(pass).Preorder((*ast.CallExpr)(nil)) {
			if found, ok := callOf(pass.TypesInfo, c.Node().(*ast.CallExpr)); ok && !yield(c, found) {
				return
			}
		}
	}
}

func root(pass *analysis.Pass) inspector.Cursor {
	return pass.ResultOf[inspect.Analyzer].(*inspector.Inspector).Root()
}

// literal returns the function literal that is the fn of c, or nil.
func (c call) literal(vars *variables) *ast.FuncLit {
	lit, _ := vars.only(c.expr.Args[c.fn]).(*ast.FuncLit)
	return lit
}
