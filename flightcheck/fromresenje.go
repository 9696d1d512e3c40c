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
		specs := importsOf(file, resenje)
		if len(specs) == 0 && why == "" {
			reportRenames(pass, renames)
		}
		for _, spec := range specs {
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
				renames = nil // they are in the fix of the first import
			}
			pass.Report(d)
		}
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
		for _, spec := range importsOf(file, resenje) {
			imported = true
			if spec.Name != nil && spec.Name.Name == "." {
				return "it is imported with a dot"
			}
		}
	}
	if !imported && len(methods) == 0 {
		return ""
	}
	if why := whyStays(pass, resenje); why != "" {
		return why
	}
	for _, m := range methods {
		id := m.Node().(*ast.Ident)
		called := m.ParentEdgeKind() == edge.SelectorExpr_Sel && m.Parent().ParentEdgeKind() == edge.CallExpr_Fun
		if id.Name == "Forget" && !called {
			return fmt.Sprintf("Forget is a value in line %d", pass.Fset.Position(id.Pos()).Line)
		}
		if sel, ok := m.Parent().Node().(*ast.SelectorExpr); ok && id.Name == "Do" {
			if obj, _, _ := types.LookupFieldOrMethod(pass.TypesInfo.TypeOf(sel.X), true, pass.Pkg, "DoContext"); obj != nil {
				return fmt.Sprintf("%s has a DoContext of its own", types.TypeString(pass.TypesInfo.TypeOf(sel.X), types.RelativeTo(pass.Pkg)))
			}
		}
	}
	if why := embeddedBeside(pass); why != "" {
		return why
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

// added are the names that coalesce's Group has and resenje's lacks.
var added = []string{
	"Clone", "DoChan", "DoContext", "DoFresh", "DoMulti", "Flights", "ForgetFlight", "ForgetFunc", "ForgetUnshared", "Hash",
	"Hooks", "Len", "Linger", "LingerFor", "LingerMax", "MaxAge", "MaxWaiters", "Shards", "Shutdown", "Stats", "TryDo",
}

// embeddedBeside says which struct embeds a Group beside something that has one of the added
// names, which would be ambiguous, or returns "".
func embeddedBeside(pass *analysis.Pass) string {
	for at := range root(pass).Preorder((*ast.StructType)(nil)) {
		t, ok := pass.TypesInfo.TypeOf(at.Node().(*ast.StructType)).(*types.Struct)
		if !ok {
			continue
		}
		var others []types.Type
		group := false
		for f := range t.Fields() {
			if f.Embedded() && isGroup(f.Type()) && mentions(f.Type(), resenje, false) {
				group = true
			} else if f.Embedded() {
				others = append(others, f.Type())
			}
		}
		for _, other := range others {
			for _, name := range added {
				if obj, _, _ := types.LookupFieldOrMethod(other, true, pass.Pkg, name); obj != nil && group {
					return fmt.Sprintf("it is embedded beside %s, which has %s, too",
						types.TypeString(other, types.RelativeTo(pass.Pkg)), name)
				}
			}
		}
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
