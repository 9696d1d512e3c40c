package guide

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSnippets: all code in the README and in the guide is in files that are
// compiled, and most of it in tests that run. So is each line that a diff adds.
func TestSnippets(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "../../*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: got %d files, %v, want some, nil", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.WriteString(flush(string(text)))
		}
	}
	for name, least := range map[string]int{"README.md": 2, "moving.md": 1, "../../README.md": 2} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, diff := range strings.Split(string(text), "```diff\n")[1:] {
			diff, _, _ = strings.Cut(diff, "```")
			for line := range strings.Lines(diff) {
				if added, ok := strings.CutPrefix(line, "+"); ok && !strings.Contains(code.String(), "\n"+flush(added)) {
					t.Errorf("%s: got a line that is in no test, want it in one:\n%s", name, line)
				}
			}
		}
		parts := strings.Split(string(text), "```go\n")
		if len(parts)-1 < least {
			t.Errorf("%s: got %d pieces of code, want more", name, len(parts)-1)
		}
		for _, part := range parts[1:] {
			snippet, _, _ := strings.Cut(part, "```")
			if !strings.Contains(code.String(), flush(snippet)) {
				t.Errorf("%s: got code that is in no test, want it in one:\n%s", name, snippet)
			}
		}
	}
}

// flush returns the lines of text without their indentation.
func flush(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	return strings.Join(lines, "\n")
}

// TestLinks: the files to which the documents of the project point exist.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)`)
	err := filepath.WalkDir("../..", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || e.Name() == ".git"):
			return fs.SkipDir
		case e.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(name)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: got a link to %s, want one to a file that exists", name, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
