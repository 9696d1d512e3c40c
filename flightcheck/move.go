package flightcheck

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// This file holds what fromxsync and fromresenje have in common.

// importsOf returns the imports of a package in a file. Mostly there is one at most.
func importsOf(file *ast.File, path string) (specs []*ast.ImportSpec) {
	for _, spec := range file.Imports {
		if p, _ := strconv.Unquote(spec.Path.Value); p == path {
			specs = append(specs, spec)
		}
	}
	return specs
}

func imports(file *ast.File, path string) bool { return len(importsOf(file, path)) > 0 }

// whyStays says why a package that imports that of the path has to keep all imports of it, or
// returns "".
func whyStays(pass *analysis.Pass, path string) string {
	if obj := exchanged(pass, path); obj != nil {
		return fmt.Sprintf("%s of %s has its types", obj.Name(), obj.Pkg().Path())
	}
	for _, file := range pass.Files {
		if imports(file, path) && ast.IsGenerated(file) {
			name, how := filepath.Base(pass.Fset.Position(file.Package).Filename), "is generated"
			if strings.HasSuffix(pass.Fset.File(file.FileStart).Name(), ".cgo1.go") {
				how = "uses cgo"
			}
			return fmt.Sprintf("%s imports it, which %s", name, how)
		}
	}
	for _, name := range pass.IgnoredFiles {
		text, err := pass.ReadFile(name)
		if err != nil {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err == nil && strings.TrimSuffix(file.Name.Name, "_test") == strings.TrimSuffix(pass.Pkg.Name(), "_test") && imports(file, path) {
			return fmt.Sprintf("%s imports it, which is not in this build", filepath.Base(name))
		}
	}
	return ""
}

// compares reports whether a file imports coalesce beside the package of that path. Then
// there is a reason to have both.
func compares(pass *analysis.Pass, path string) bool {
	return slices.ContainsFunc(pass.Files, func(file *ast.File) bool {
		return imports(file, path) && (imports(file, core) || imports(file, dropIn))
	})
}

// exchanged returns a use in the package of something of another module that has the types
// of the package of that path in its own type, as a function that takes a Group. It returns
// nil if there is none.
func exchanged(pass *analysis.Pass, path string) types.Object {
	var first *ast.Ident
	for id, obj := range pass.TypesInfo.Uses {
		if (first == nil || id.Pos() < first.Pos()) && obj.Pkg() != nil && obj.Pkg().Path() != path &&
			!sameModule(pass, obj.Pkg()) && mentions(obj.Type(), path, true) {
			if _, ok := obj.(*types.PkgName); !ok {
				first = id
			}
		}
	}
	if first == nil {
		return nil
	}
	return pass.TypesInfo.Uses[first]
}

func sameModule(pass *analysis.Pass, pkg *types.Package) bool {
	if pkg == pass.Pkg || strings.TrimSuffix(pass.Pkg.Path(), "_test") == pkg.Path() {
		return true
	}
	if pass.Module == nil || pass.Module.Path == "" {
		return false
	}
	return pkg.Path() == pass.Module.Path || strings.HasPrefix(pkg.Path(), pass.Module.Path+"/")
}

// mentions reports whether t is written with a type of the package of that path; if within
// is set, also whether it is, or is written with, an interface of which a method is, or a
// struct of which an exported field is.
func mentions(t types.Type, path string, within bool) bool {
	switch t := t.(type) {
	case *types.Alias:
		return mentions(types.Unalias(t), path, within)
	case *types.Named:
		if pkg := t.Obj().Pkg(); pkg != nil && pkg.Path() == path {
			return true
		}
		for arg := range t.TypeArgs().Types() {
			if mentions(arg, path, within) {
				return true
			}
		}
		switch u := t.Underlying().(type) {
		case *types.Interface:
			return within && mentions(u, path, false)
		case *types.Struct:
			for f := range u.Fields() {
				if within && f.Exported() && mentions(f.Type(), path, false) {
					return true
				}
			}
		}
	case *types.TypeParam:
		return within && mentions(t.Constraint(), path, true)
	case *types.Interface:
		for m := range t.Methods() {
			if mentions(m.Signature(), path, false) {
				return true
			}
		}
	case *types.Tuple:
		for v := range t.Variables() {
			if mentions(v.Type(), path, within) {
				return true
			}
		}
	case *types.Signature:
		return mentions(t.Params(), path, within) || mentions(t.Results(), path, within)
	case *types.Struct:
		for f := range t.Fields() {
			if mentions(f.Type(), path, within) {
				return true
			}
		}
	case *types.Map:
		return mentions(t.Key(), path, within) || mentions(t.Elem(), path, within)
	case interface{ Elem() types.Type }: // pointer, slice, array, channel
		return mentions(t.Elem(), path, within)
	}
	return false
}
