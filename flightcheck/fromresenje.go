package flightcheck

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/refactor/satisfy"
)

func fromResenje(pass *analysis.Pass) {
	if compares(pass, resenje) {
		return
	}
	methods := resenjeMethods(pass)
	why := whyResenjeStays(pass, methods)
	for _, file := range pass.Files {
		var renames []analysis.TextEdit
		for _, m := range methods {
			if id := m.Node().(*ast.Ident); id.Name == "Do" && within(id.Pos(), file) {
				renames = append(renames, analysis.TextEdit{Pos: id.Pos(), End: id.End(), NewText: []byte("DoContext")})
			}
		}
		spec := importOf(file, resenje)
		if spec == nil {
			if why == "" {
				reportRenames(pass, renames)
			}
			continue
		}
		d := analysis.Diagnostic{Pos: spec.Path.Pos(), End: spec.Path.End()}
		if why != "" {
			d.Message = fmt.Sprintf("%s cannot be replaced by %s: %s", resenje, core, why)
		} else {
			d.Message = fmt.Sprintf("%s can be replaced by %s, which does not cancel fn's context when Do returns",
				resenje, core)
			d.SuggestedFixes = []analysis.SuggestedFix{{
				Message:   "Import " + core + ", and rename Do to DoContext",
				TextEdits: append(moveImport(pass, spec), renames...),
			}}
		}
		pass.Report(d)
	}
}

// reportRenames reports calls in a file that uses groups without importing their package.
func reportRenames(pass *analysis.Pass, renames []analysis.TextEdit) {
	for _, edit := range renames {
		pass.Report(analysis.Diagnostic{
			Pos: edit.Pos, End: edit.End,
			Message:        fmt.Sprintf("Do of %s is DoContext of %s", resenje, core),
			SuggestedFixes: []analysis.SuggestedFix{{Message: "Rename Do to DoContext", TextEdits: []analysis.TextEdit{edit}}},
		})
	}
}

// resenjeMethods returns the names of the package's methods where the package uses them.
func resenjeMethods(pass *analysis.Pass) []inspector.Cursor {
	var found []inspector.Cursor
	for at := range root(pass).Preorder((*ast.Ident)(nil)) {
		method, ok := pass.TypesInfo.Uses[at.Node().(*ast.Ident)].(*types.Func)
		if ok && isResenje(method) && isGroup(method.Signature().Recv().Type()) {
			found = append(found, at)
		}
	}
	return found
}

func isResenje(f *types.Func) bool {
	return f.Pkg() != nil && f.Pkg().Path() == resenje && f.Signature().Recv() != nil
}

// whyResenjeStays says why the types do not allow another Group, or returns "".
func whyResenjeStays(pass *analysis.Pass, methods []inspector.Cursor) string {
	imported := false
	for _, file := range pass.Files {
		if spec := importOf(file, resenje); spec != nil {
			imported = true
			if spec.Name != nil && spec.Name.Name == "." {
				return "it is imported with a dot"
			}
		}
	}
	if !imported && len(methods) == 0 {
		return ""
	}
	if obj := exchanged(pass, resenje); obj != nil {
		return whyExchanged(obj)
	}
	for _, m := range methods {
		called := m.ParentEdgeKind() == edge.SelectorExpr_Sel && m.Parent().ParentEdgeKind() == edge.CallExpr_Fun
		if id := m.Node().(*ast.Ident); id.Name == "Forget" && !called {
			return fmt.Sprintf("Forget is a value in line %d", pass.Fset.Position(id.Pos()).Line)
		}
	}
	var asInterface []string
	finder := satisfy.Finder{}
	finder.Find(pass.TypesInfo, pass.Files)
	for c := range finder.Result {
		for _, name := range []string{"Do", "Forget"} {
			obj, _, _ := types.LookupFieldOrMethod(c.RHS, true, nil, name)
			method, ok := obj.(*types.Func)
			if wanted, _, _ := types.LookupFieldOrMethod(c.LHS, false, nil, name); ok && wanted != nil && isResenje(method) {
				asInterface = append(asInterface, fmt.Sprintf("it is used as %s, which has %s",
					types.TypeString(c.LHS, types.RelativeTo(pass.Pkg)), name))
			}
		}
	}
	if len(asInterface) > 0 {
		return slices.Min(asInterface)
	}
	return ""
}

// moveImport returns the edits that change an import, and the name of the package where it
// is used, if the new one is free there.
func moveImport(pass *analysis.Pass, spec *ast.ImportSpec) []analysis.TextEdit {
	moved := strconv.Quote(core)
	path := func(text string) analysis.TextEdit {
		return analysis.TextEdit{Pos: spec.Path.Pos(), End: spec.Path.End(), NewText: []byte(text)}
	}
	if spec.Name != nil {
		return []analysis.TextEdit{path(moved)}
	}
	const name = "coalesce"
	pkg := pass.TypesInfo.Implicits[spec]
	edits := []analysis.TextEdit{path(moved)}
	for id, obj := range pass.TypesInfo.Uses {
		if obj != pkg {
			continue
		}
		if _, other := pass.Pkg.Scope().Innermost(id.Pos()).LookupParent(name, token.NoPos); other != nil {
			return []analysis.TextEdit{path(pkg.Name() + " " + moved)}
		}
		edits = append(edits, analysis.TextEdit{Pos: id.Pos(), End: id.End(), NewText: []byte(name)})
	}
	return edits
}
