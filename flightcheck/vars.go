package flightcheck

import (
	"go/ast"
	"go/token"
	"go/types"
	"reflect"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

// This file knows what is assigned to the variables of a package.

// varsAnalyzer has the variables of a package as its result.
var varsAnalyzer = &analysis.Analyzer{
	Name:       "flightvars",
	Doc:        "find what is assigned to variables, for other analyzers",
	Requires:   []*analysis.Analyzer{inspect.Analyzer},
	ResultType: reflect.TypeFor[*variables](),
	Run:        func(pass *analysis.Pass) (any, error) { return findVariables(pass), nil },
}

type variables struct {
	info   *types.Info
	values map[*types.Var][]value
	params map[*types.Var]bool // parameters of functions that have a body
}

// A value is what a variable is assigned somewhere.
type value struct {
	at     token.Pos
	expr   ast.Expr // nil if it is not known, as when the variable's address is taken
	result int      // which result of expr, if that is a call with several
	tuple  bool     // whether it is such a call
}

func vars(pass *analysis.Pass) *variables { return pass.ResultOf[varsAnalyzer].(*variables) }

func findVariables(pass *analysis.Pass) *variables {
	v := &variables{pass.TypesInfo, make(map[*types.Var][]value), make(map[*types.Var]bool)}
	for c := range root(pass).Preorder((*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.RangeStmt)(nil),
		(*ast.IncDecStmt)(nil), (*ast.UnaryExpr)(nil), (*ast.FuncDecl)(nil), (*ast.FuncLit)(nil)) {
		switch n := c.Node().(type) {
		case *ast.AssignStmt:
			if n.Tok == token.ASSIGN || n.Tok == token.DEFINE {
				v.assign(n.Lhs, n.Rhs)
			} else {
				v.assign(n.Lhs, []ast.Expr{nil})
			}
		case *ast.ValueSpec:
			names := make([]ast.Expr, len(n.Names))
			for i, name := range n.Names {
				names[i] = name
			}
			if n.Values != nil {
				v.assign(names, n.Values)
			}
		case *ast.RangeStmt:
			v.assign([]ast.Expr{n.Key}, []ast.Expr{nil})
			v.assign([]ast.Expr{n.Value}, []ast.Expr{nil})
		case *ast.IncDecStmt:
			v.assign([]ast.Expr{n.X}, []ast.Expr{nil})
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				v.assign([]ast.Expr{n.X}, []ast.Expr{nil})
			}
		case *ast.FuncDecl:
			if n.Body != nil {
				v.addParams(n.Type)
			}
		case *ast.FuncLit:
			v.addParams(n.Type)
		}
	}
	return v
}

func (v *variables) assign(to, from []ast.Expr) {
	for i, e := range to {
		x := v.variable(e)
		if x == nil {
			continue
		}
		val := value{at: e.Pos()}
		if len(from) == len(to) {
			val.expr = from[i]
		} else if len(from) == 1 {
			val.expr, val.result, val.tuple = from[0], i, true
		}
		v.values[x] = append(v.values[x], val)
	}
}

func (v *variables) addParams(f *ast.FuncType) {
	for _, field := range f.Params.List {
		for _, name := range field.Names {
			if x, ok := v.info.Defs[name].(*types.Var); ok {
				v.params[x] = true
			}
		}
	}
}

// variable returns the variable that e is, or nil.
func (v *variables) variable(e ast.Expr) *types.Var {
	if e == nil {
		return nil
	}
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return nil
	}
	x, _ := v.info.ObjectOf(id).(*types.Var)
	return x
}

// only returns e, or if e is a local variable that is assigned once, what that is.
func (v *variables) only(e ast.Expr) ast.Expr {
	e = ast.Unparen(e)
	x := v.variable(e)
	if x == nil || v.params[x] || x.Parent() == nil || x.Parent() == x.Pkg().Scope() {
		return e
	}
	if vals := v.values[x]; len(vals) == 1 && vals[0].expr != nil && !vals[0].tuple {
		return ast.Unparen(vals[0].expr)
	}
	return e
}

// assignedIn reports whether x is assigned within n.
func (v *variables) assignedIn(x *types.Var, n ast.Node) bool {
	for _, val := range v.values[x] {
		if within(val.at, n) {
			return true
		}
	}
	return false
}

func within(pos token.Pos, n ast.Node) bool { return n.Pos() <= pos && pos < n.End() }
