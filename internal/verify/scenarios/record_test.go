package scenarios

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// This file holds the tests of what is recorded: that it is complete, and that
// what readers find is no other.

// TestScenarios checks that there are all thirty-three, each once, and that this
// library fails in none.
func TestScenarios(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range All() {
		if seen[s.Name] {
			t.Errorf("%s is there twice", s.Name)
		}
		seen[s.Name] = true
		if s.Requires == "" || strings.Contains(s.Requires, "|") {
			t.Errorf("%s requires %q", s.Name, s.Requires)
		}
		for name, how := range s.Fails {
			if name != XSync && name != Resenje || how == "" || strings.Contains(how, "|") {
				t.Errorf("%s: %s fails: %q", s.Name, name, how)
			}
		}
		for _, p := range Peers() {
			if !s.Applies(p) && s.Fails[p.Name] != "" {
				t.Errorf("%s does not apply to %s", s.Name, p.Name)
			}
		}
	}
	for i := 1; i <= 33; i++ {
		if !seen[strconv.Itoa(i)] {
			t.Errorf("no scenario %d", i)
		}
	}
}

// TestCatalog checks that all fifty bugs are there, that each is kept out by
// something or said not to apply, and that what is named exists.
func TestCatalog(t *testing.T) {
	tests := testsIn(t, "../../..", "../rules", "../costs", "../storm")
	if tests["TestNobodyHasWrittenThis"] || !tests["TestStorm"] {
		t.Fatal("the list of tests is wrong")
	}
	known := make(map[string]bool)
	for _, s := range All() {
		known[s.Name] = true
	}
	if len(Catalog) != 50 {
		t.Errorf("%d bugs, want 50", len(Catalog))
	}
	for i, b := range Catalog {
		if want := "B" + strconv.Itoa(i+1); b.Name != want || b.What == "" {
			t.Errorf("%s is there where %s should be, or says nothing", b.Name, want)
		}
		if (b.By == "") == (b.Not == "") {
			t.Errorf("%s: kept out by %q, or does not apply: %q", b.Name, b.By, b.Not)
		}
		for _, s := range b.Scenarios() {
			if !known[s] {
				t.Errorf("%s: no scenario %s", b.Name, s)
			}
		}
		for _, name := range b.Tests() {
			if !tests[name] {
				t.Errorf("%s: no test %s", b.Name, name)
			}
		}
	}
}

// testsIn returns the names of the functions in the test files of some folders.
func testsIn(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	var files []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: got %d test files, error %v", dir, len(found), err)
		}
		files = append(files, found...)
	}
	names := make(map[string]bool)
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

// TestDocument checks that the tables for readers are those of the record.
func TestDocument(t *testing.T) {
	const file = "README.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := Replace(string(doc)); err != nil || string(doc) != want {
		t.Errorf("%s is not up to date (%v): go run ./cmd/table -write %s", file, err, file)
	}
	if _, err := Replace("no marks"); err == nil {
		t.Error("a document without marks is taken for one with them")
	}
}

// TestVersions checks that the tables name the versions that are compared.
func TestVersions(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{XSync + " " + XSyncVersion, Resenje + " " + ResenjeVersion} {
		if !strings.Contains(string(mod), "\t"+want+"\n") {
			t.Errorf("go.mod does not require %s", want)
		}
	}
}
