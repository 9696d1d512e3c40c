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

// This file holds the tests of the record: that it is complete, and that the tables for
// readers agree with it.

// TestScenarios checks that there are all thirty-three, each once, and that this
// library fails in none.
func TestScenarios(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range All() {
		if seen[s.Name] {
			t.Errorf("%s: got it twice, want it once", s.Name)
		}
		seen[s.Name] = true
		if s.Requires == "" || strings.Contains(s.Requires, "|") {
			t.Errorf("%s: got the requirement %q, want one for a table", s.Name, s.Requires)
		}
		for name, how := range s.Fails {
			if name != XSync && name != Resenje || how == "" || strings.Contains(how, "|") {
				t.Errorf("%s: got the failure %q of %s, want a failure of a peer, for a table", s.Name, how, name)
			}
		}
		for _, p := range Peers() {
			if !s.Applies(p) && s.Fails[p.Name] != "" {
				t.Errorf("%s: got a failure of %s, want none where the scenario does not apply", s.Name, p.Name)
			}
		}
	}
	for i := 1; i <= 33; i++ {
		if !seen[strconv.Itoa(i)] {
			t.Errorf("got no scenario %d, want one", i)
		}
	}
}

// TestCatalog checks that all fifty bugs are there, that each is excluded by a test or
// has a reason why it does not apply, and that all names exist.
func TestCatalog(t *testing.T) {
	tests := testsIn(t, "../../..", "../rules", "../costs", "../storm")
	if tests["TestThatDoesNotExist"] || !tests["TestStorm"] {
		t.Fatal("got a wrong list of tests, want TestStorm in it and no invented name")
	}
	known := make(map[string]bool)
	for _, s := range All() {
		known[s.Name] = true
	}
	if len(Catalog) != 50 {
		t.Errorf("got %d bugs, want 50", len(Catalog))
	}
	for i, b := range Catalog {
		if want := "B" + strconv.Itoa(i+1); b.Name != want || b.What == "" {
			t.Errorf("got %s with %q, want %s with a text", b.Name, b.What, want)
		}
		if (b.By == "") == (b.Not == "") {
			t.Errorf("%s: got tests %q and reason %q, want one of the two", b.Name, b.By, b.Not)
		}
		for _, s := range b.Scenarios() {
			if !known[s] {
				t.Errorf("%s: got no scenario %s, want one", b.Name, s)
			}
		}
		for _, name := range b.Tests() {
			if !tests[name] {
				t.Errorf("%s: got no test %s, want one", b.Name, name)
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
			t.Fatalf("%s: got %d test files, %v, want some, nil", dir, len(found), err)
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
		t.Errorf("%s: got an old document (%v), want that of go run ./cmd/table -write %s", file, err, file)
	}
	if _, err := Replace("no marks"); err == nil {
		t.Error("a document without marks: got no error, want one")
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
			t.Errorf("go.mod: got another version, want %s", want)
		}
	}
}
