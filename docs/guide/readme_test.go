package guide

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnippets: all code in the README and in the guide is in files that are
// compiled, and most of it in tests that run.
func TestSnippets(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "../../*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: got %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.WriteString(flush(string(text)))
		}
	}
	for _, name := range []string{"README.md", "../../README.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(text), "```go\n")
		if len(parts) < 3 {
			t.Errorf("%s: got %d pieces of code, want more", name, len(parts)-1)
		}
		for _, part := range parts[1:] {
			snippet, _, _ := strings.Cut(part, "```")
			if !strings.Contains(code.String(), flush(snippet)) {
				t.Errorf("%s: this is in no test:\n%s", name, snippet)
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
