package flightcheck_test

import (
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
	"golang.org/x/tools/go/packages"

	"github.com/seed342dcb2d/coalesce/flightcheck"
)

// TestStubs: what testdata has in the place of a package has its names and signatures, and
// all of its calls, so that a new or changed one is noticed here.
func TestStubs(t *testing.T) {
	if _, err := os.Stat("../doc.go"); err != nil {
		t.Skip("not in the repository of coalesce")
	}
	stubs := []string{"GO111MODULE=off", "GOFLAGS=", "GOPATH=" + analysistest.TestData()}
	for path, dir := range map[string]string{
		"github.com/seed342dcb2d/coalesce":              "..",
		"github.com/seed342dcb2d/coalesce/singleflight": "..",
		"golang.org/x/sync/singleflight":                ".",
	} {
		stub := exported(t, path, filepath.Join(analysistest.TestData(), "src"), stubs...)
		all := exported(t, path, dir)
		for name, sig := range stub {
			if all[name] != sig {
				t.Errorf("%s of %s: got %s in testdata, want %s", name, path, sig, all[name])
			}
		}
		for name, sig := range all {
			if strings.HasPrefix(name, "Group.") && strings.Contains(sig, "error)") && stub[name] == "" {
				t.Errorf("%s of %s: got nothing in testdata, want %s", name, path, sig)
			}
		}
	}
}

// TestAdded: the names that coalesce's Group has beside Do and Forget are known to fromresenje,
// so that a new one is noticed here.
func TestAdded(t *testing.T) {
	if _, err := os.Stat("../doc.go"); err != nil {
		t.Skip("not in the repository of coalesce")
	}
	group := loaded(t, "github.com/seed342dcb2d/coalesce", "..").Scope().Lookup("Group").Type().(*types.Named)
	var got []string
	for m := range group.Methods() {
		got = append(got, m.Name())
	}
	for f := range group.Underlying().(*types.Struct).Fields() {
		got = append(got, f.Name())
	}
	got = slices.DeleteFunc(got, func(name string) bool { return !token.IsExported(name) || name == "Do" || name == "Forget" })
	slices.Sort(got)
	if !slices.Equal(got, flightcheck.Added) {
		t.Errorf("got the names %q of Group, want %q, which fromresenje has", got, flightcheck.Added)
	}
}

// loaded returns the package of a path, as it is in a directory.
func loaded(t *testing.T, path, dir string, env ...string) *types.Package {
	t.Helper()
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedDeps,
		Dir:  dir,
		Env:  append(os.Environ(), append([]string{"GOWORK=off"}, env...)...),
	}, path)
	if err != nil || len(pkgs) != 1 || len(pkgs[0].Errors) > 0 {
		t.Fatalf("%s: got %v, %v", path, pkgs, err)
	}
	return pkgs[0].Types
}

// exported returns the functions and methods of a package, with their signatures, and its
// types that are no Group.
func exported(t *testing.T, path, dir string, env ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	scope := loaded(t, path, dir, env...).Scope()
	text := func(typ types.Type) string {
		return strings.ReplaceAll(types.TypeString(typ, (*types.Package).Name), "interface{}", "any")
	}
	for _, name := range scope.Names() {
		obj := scope.Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch obj := obj.(type) {
		case *types.Func:
			found[name] = text(obj.Type())
		case *types.TypeName:
			if name != "Group" {
				found[name] = text(obj.Type().Underlying())
			}
			named, ok := obj.Type().(*types.Named)
			if !ok {
				continue
			}
			for m := range named.Methods() {
				if m.Exported() {
					found[name+"."+m.Name()] = text(m.Type())
				}
			}
		}
	}
	return found
}
