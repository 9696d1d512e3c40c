package flightcheck

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

func callerCtx(pass *analysis.Pass) {
	fns := make(map[*ast.FuncLit]call) // each is looked at once, for the first call that runs it
	var lits []*ast.FuncLit
	for _, c := range calls(pass) {
		if lit := c.literal(vars(pass)); lit != nil && fns[lit].expr == nil {
			fns[lit] = c
			lits = append(lits, lit)
		}
	}
	for _, lit := range lits {
		c := fns[lit]
		uses := c.callerContexts(pass, lit, fns)
		if c.ctx < 0 {
			if i := slices.IndexFunc(uses, func(u use) bool { return u.mayFail(pass.TypesInfo) }); i >= 0 {
				e := uses[i].expr
				pass.Report(analysis.Diagnostic{
					Pos: e.Pos(), End: e.End(),
					Message: fmt.Sprintf("function passed to %s uses its caller's %s: if that ends, it fails for all callers",
						c.name, types.ExprString(e)),
				})
			}
			continue
		}
		var like *types.Var // the first whose uses are fixed
		for _, u := range uses {
			fixes := c.ownContext(pass, lit, u, like)
			if len(fixes) > 0 && like == nil {
				like = u.x
			}
			pass.Report(analysis.Diagnostic{
				Pos: u.expr.Pos(), End: u.expr.End(),
				Message: fmt.Sprintf("function passed to %s uses its caller's %s instead of its own context:"+
					" if this caller leaves, it fails for all", c.name, types.ExprString(u.expr)),
				SuggestedFixes: fixes,
			})
		}
	}
}

// A use is a use of a caller's context in fn.
type use struct {
	expr ast.Expr   // ctx or r.Context()
	x    *types.Var // ctx or r
	at   inspector.Cursor
}

// callerContexts returns the uses of callers' contexts in lit, the fn of c, but for those
// in other fns.
func (c call) callerContexts(pass *analysis.Pass, lit *ast.FuncLit, fns map[*ast.FuncLit]call) []use {
	vars := vars(pass)
	given := func(*types.Var) bool { return false } // whether it is the context of the call
	if c.ctx >= 0 {
		if ctx := vars.variable(c.expr.Args[c.ctx]); ctx != nil && !vars.endless(ctx) {
			given = func(x *types.Var) bool { return x == ctx }
		}
	}
	body, ok := root(pass).FindNode(lit.Body)
	if !ok {
		return nil
	}
	var uses []use
	body.Inspect([]ast.Node{(*ast.Ident)(nil), (*ast.CallExpr)(nil), (*ast.FuncLit)(nil)}, func(at inspector.Cursor) bool {
		switch n := at.Node().(type) {
		case *ast.FuncLit:
			return fns[n].expr == nil
		case *ast.CallExpr:
			if r := vars.ofRequest(n); r != nil && !within(r.Pos(), lit) && !harmless(pass.TypesInfo, at) {
				uses = append(uses, use{n, r, at})
			}
		case *ast.Ident:
			x, ok := pass.TypesInfo.Uses[n].(*types.Var)
			if ok && !within(x.Pos(), lit) && !x.IsField() && isContext(x.Type()) &&
				(vars.ends(x, n.Pos()) || given(x)) && !harmless(pass.TypesInfo, at) {
				uses = append(uses, use{n, x, at})
			}
		}
		return true
	})
	return uses
}

// harmless reports whether the context at a cursor is only read from, or cut off.
func harmless(info *types.Info, at inspector.Cursor) bool {
	switch parent := at.Parent().Node().(type) {
	case *ast.AssignStmt:
		if at.ParentEdgeKind() == edge.AssignStmt_Lhs {
			return true
		}
		blank, ok := parent.Lhs[0].(*ast.Ident)
		return ok && blank.Name == "_"
	case *ast.BinaryExpr:
		return true
	case *ast.SelectorExpr: // of Value, or of what other contexts do not have
		return !slices.Contains([]string{"Deadline", "Done", "Err"}, parent.Sel.Name)
	case *ast.CallExpr:
		callee := typeutil.Callee(info, parent)
		return isFrom(callee, "context", "WithoutCancel") || isFrom(callee, core, "Detach")
	}
	return false
}

// mayFail reports whether fn can fail at u because the context has ended.
func (u use) mayFail(info *types.Info) bool {
	switch parent := u.at.Parent().Node().(type) {
	case *ast.SelectorExpr:
		return parent.Sel.Name == "Done" || parent.Sel.Name == "Err"
	case *ast.CallExpr:
		if f := typeutil.Callee(info, parent); f != nil && strings.Contains(f.Name(), "From") && strings.HasSuffix(f.Name(), "Context") {
			return false // it only reads a value, as metadata.FromIncomingContext does
		}
		fails := func(t types.Type) bool { return isError(t) || isContext(t) }
		t := info.TypeOf(parent)
		results, ok := t.(*types.Tuple)
		if !ok {
			return t != nil && fails(t)
		}
		for i := range results.Len() {
			t := results.At(i).Type()
			if fails(t) && !(isContext(t) && dropped(u.at.Parent(), i)) {
				return true
			}
		}
	}
	return false
}

// dropped reports whether the result with a number of the call at a cursor is assigned to the
// blank identifier, as in _, span := tracer.Start(ctx, "load").
func dropped(call inspector.Cursor, result int) bool {
	assign, ok := call.Parent().Node().(*ast.AssignStmt)
	if !ok || result >= len(assign.Lhs) {
		return false
	}
	to, ok := assign.Lhs[result].(*ast.Ident)
	return ok && to.Name == "_"
}

// ownContext returns the fix that puts the context of lit, the fn of c, in the place of u. If
// lit has no name for it, it gets one, which is that of the variable like if possible. A nil
// like is the one that u uses.
func (c call) ownContext(pass *analysis.Pass, lit *ast.FuncLit, u use, like *types.Var) []analysis.SuggestedFix {
	if !vars(pass).madeOf(c.expr.Args[c.ctx], u.x, c.expr.Pos(), nil) {
		return nil // fn's own may lack its values, and the compiler would not have it unused
	}
	if !isNamed(pass.TypesInfo.TypeOf(u.expr), "context", "Context") {
		return nil // fn's own lacks its methods
	}
	if like == nil {
		like = u.x
	}
	first := lit.Type.Params.List[0]
	var edits []analysis.TextEdit
	var name string
	if len(first.Names) > 0 && first.Names[0].Name != "_" {
		name = first.Names[0].Name
		scope := pass.Pkg.Scope().Innermost(u.expr.Pos())
		if _, obj := scope.LookupParent(name, u.expr.Pos()); obj == nil || obj != pass.TypesInfo.Defs[first.Names[0]] {
			return nil // it is hidden
		}
	} else {
		for _, candidate := range []string{like.Name(), "ctx", "fnCtx"} {
			if isFree(pass.TypesInfo, lit, candidate, like) {
				name = candidate
				break
			}
		}
		if name == "" {
			return nil
		}
		for i, field := range lit.Type.Params.List {
			text := "_ "
			if i == 0 {
				text = name + " "
			}
			switch {
			case len(field.Names) == 0:
				edits = append(edits, analysis.TextEdit{Pos: field.Pos(), End: field.Pos(), NewText: []byte(text)})
			case i == 0:
				edits = append(edits, analysis.TextEdit{Pos: field.Pos(), End: field.Names[0].End(), NewText: []byte(name)})
			}
		}
	}
	if types.ExprString(u.expr) != name {
		edits = append(edits, analysis.TextEdit{Pos: u.expr.Pos(), End: u.expr.End(), NewText: []byte(name)})
	}
	return []analysis.SuggestedFix{{Message: "Use the function's own context, which has no deadline", TextEdits: edits}}
}

// isFree reports whether a parameter of lit may have a name: whether lit does not use that
// name, or only for the context like, which it does not assign.
func isFree(info *types.Info, lit *ast.FuncLit, name string, like *types.Var) bool {
	free := true
	ast.Inspect(lit, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if n.Name == name && (info.ObjectOf(n) != like || !isContext(like.Type())) {
				free = false
			}
		case *ast.SelectorExpr:
			ast.Inspect(n.X, func(x ast.Node) bool {
				id, ok := x.(*ast.Ident)
				if ok && id.Name == name && (info.ObjectOf(id) != like || !isContext(like.Type())) {
					free = false
				}
				return true
			})
			return false // a field or a method is no use of the name
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				if id, ok := to.(*ast.Ident); ok && id.Name == name {
					free = false
				}
			}
		}
		return free
	})
	return free
}
