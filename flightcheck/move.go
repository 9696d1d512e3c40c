package flightcheck

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// This file holds what fromxsync and fromresenje have in common.

// importOf returns the import of a package in a file, or nil.
func importOf(file *ast.File, path string) *ast.ImportSpec {
	for _, spec := range file.Imports {
		if p, _ := strconv.Unquote(spec.Path.Value); p == path {
			return spec
		}
	}
	return nil
}

// compares reports whether a file imports coalesce beside the package of that path. Then
// there is a reason to have both.
func compares(pass *analysis.Pass, path string) bool {
	return slices.ContainsFunc(pass.Files, func(file *ast.File) bool {
		return importOf(file, path) != nil && (importOf(file, core) != nil || importOf(file, dropIn) != nil)
	})
}

// exchanged returns a use in the package of something of another module that has the types
// of the package of that path in its own type, as a function that takes a Group. It returns
// nil if there is none.
func exchanged(pass *analysis.Pass, path string) types.Object {
	var first *ast.Ident
	for id, obj := range pass.TypesInfo.Uses {
		if (first == nil || id.Pos() < first.Pos()) && obj.Pkg() != nil && obj.Pkg().Path() != path &&
			!sameModule(pass, obj.Pkg()) && mentions(obj.Type(), path) {
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

// mentions reports whether t is written with a type of the package of that path.
func mentions(t types.Type, path string) bool {
	switch t := t.(type) {
	case *types.Alias:
		return mentions(types.Unalias(t), path)
	case *types.Named:
		if pkg := t.Obj().Pkg(); pkg != nil && pkg.Path() == path {
			return true
		}
		for arg := range t.TypeArgs().Types() {
			if mentions(arg, path) {
				return true
			}
		}
	case *types.Tuple:
		for v := range t.Variables() {
			if mentions(v.Type(), path) {
				return true
			}
		}
	case *types.Signature:
		return mentions(t.Params(), path) || mentions(t.Results(), path)
	case *types.Struct:
		for f := range t.Fields() {
			if mentions(f.Type(), path) {
				return true
			}
		}
	case *types.Map:
		return mentions(t.Key(), path) || mentions(t.Elem(), path)
	case interface{ Elem() types.Type }: // pointer, slice, array, channel
		return mentions(t.Elem(), path)
	}
	return false
}

// whyExchanged says why a package has to keep the types of another.
func whyExchanged(obj types.Object) string {
	return fmt.Sprintf("%s of %s has its types", obj.Name(), obj.Pkg().Path())
}
