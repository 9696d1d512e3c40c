package flightcheck_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// A program is a module with the stubs of testdata as the modules that it requires.
type program struct {
	dir  string
	tool string
}

func newProgram(t *testing.T, files map[string]string) program {
	t.Helper()
	temp := t.TempDir()
	p := program{filepath.Join(temp, "program"), filepath.Join(temp, "flightcheck.exe")}
	command(t, ".", "build", "-o", p.tool, "./cmd/flightcheck")
	mod := "module example.com/program\n\ngo 1.26\n"
	for _, module := range []string{"github.com/seed342dcb2d/coalesce", "golang.org/x/sync", "other.org/cache", "resenje.org/singleflight"} {
		dir := filepath.Join(temp, "modules", module)
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(analysistest.TestData(), "src", module))); err != nil {
			t.Fatal(err)
		}
		stub := "module " + module + "\n\ngo 1.26\n"
		if module == "other.org/cache" {
			stub += "\nrequire golang.org/x/sync v0.0.0\nrequire resenje.org/singleflight v0.0.0\n"
		}
		write(t, filepath.Join(dir, "go.mod"), stub)
		mod += "\nrequire " + module + " v0.0.0\nreplace " + module + " => " + dir + "\n"
	}
	write(t, filepath.Join(p.dir, "go.mod"), mod)
	for name, text := range files {
		write(t, filepath.Join(p.dir, name), text)
	}
	return p
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// command runs the go command, and returns its output and whether it exited with 0.
func command(t *testing.T, dir string, args ...string) (output string, ok bool) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOPROXY=off")
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

// vet wants that go vet reports these lines, and nothing else.
func (p program) vet(t *testing.T, want ...string) {
	t.Helper()
	out, ok := command(t, p.dir, "vet", "-vettool="+p.tool, "./...")
	if ok != (len(want) == 0) {
		t.Errorf("go vet: got success %v, want %v", ok, !ok)
	}
	var got []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(got) // the order of the analyzers is not fixed
	slices.Sort(want)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || filepath.ToSlash(got[i]) != want[i] {
			t.Fatalf("go vet: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// fix runs go fix, and wants a program that compiles.
func (p program) fix(t *testing.T) {
	t.Helper()
	if out, ok := command(t, p.dir, "fix", "-fixtool="+p.tool, "./..."); !ok {
		t.Fatalf("go fix: %s", out)
	}
	if out, ok := command(t, p.dir, "vet", "./..."); !ok {
		t.Fatalf("after go fix: %s", out)
	}
}

// TestCommand_MovesAProgram: the command reports under go vet and mends under go fix, across
// the packages of a module and its tests. After that there is nothing to report.
func TestCommand_MovesAProgram(t *testing.T) {
	p := newProgram(t, map[string]string{
		"pages/pages.go": `package pages

import "resenje.org/singleflight"

var Pages singleflight.Group[string, int]
`,
		"main.go": `package main

import (
	"context"

	"example.com/program/pages"
	"golang.org/x/sync/singleflight"
)

var group singleflight.Group

func load(context.Context) (int, error) { return 1, nil }

func main() {
	ctx := context.Background()
	v, err, shared := group.Do("k", func() (interface{}, error) { return 1, nil })
	println(v.(int), err, shared)
	page(ctx)
}

func page(ctx context.Context) (int, error) {
	v, _, err := pages.Pages.Do(ctx, "k", func(context.Context) (int, error) { return load(ctx) })
	return v, err
}
`,
		"main_test.go": `package main

import (
	"testing"

	"golang.org/x/sync/singleflight"
)

func Test(t *testing.T) {
	var r singleflight.Result = <-group.DoChan("k", nil)
	_ = r
}
`,
	})
	p.vet(t,
		"pages/pages.go:3:8: resenje.org/singleflight can be replaced by github.com/seed342dcb2d/coalesce, which does not cancel fn's context when Do returns",
		"main.go:22:89: function passed to Do uses its caller's ctx instead of its own context: if this caller leaves, it fails for all",
		"main.go:22:27: Do of resenje.org/singleflight is DoContext of github.com/seed342dcb2d/coalesce",
		"main.go:7:2: golang.org/x/sync/singleflight can be replaced by github.com/seed342dcb2d/coalesce/singleflight, where a panic or Goexit of DoChan's fn is a Result",
		"main_test.go:6:2: golang.org/x/sync/singleflight can be replaced by github.com/seed342dcb2d/coalesce/singleflight, where a panic or Goexit of DoChan's fn is a Result",
	)
	p.fix(t)
	p.vet(t)
	text, err := os.ReadFile(filepath.Join(p.dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"github.com/seed342dcb2d/coalesce/singleflight"`,
		`pages.Pages.DoContext(ctx, "k", func(ctx context.Context) (int, error) { return load(ctx) })`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("after go fix: got\n%s\nwant %s in it", text, want)
		}
	}
}

// TestCommand_KeepsWhatOthersNeed: a group that goes to another module stays what it is.
func TestCommand_KeepsWhatOthersNeed(t *testing.T) {
	p := newProgram(t, map[string]string{
		"main.go": `package main

import (
	"golang.org/x/sync/singleflight"
	"other.org/cache"
)

var group singleflight.Group

func main() { println(cache.New(&group)) }
`,
	})
	p.fix(t)
	p.vet(t, "main.go:4:2: golang.org/x/sync/singleflight cannot be replaced by"+
		" github.com/seed342dcb2d/coalesce/singleflight: New of other.org/cache has its types")
}

// TestCommand_LeavesWhatCannotMove: a package compiles after go fix though one of its files is
// generated, in another build or in C, or a struct would have a name twice. The reports say why
// nothing was fixed.
func TestCommand_LeavesWhatCannotMove(t *testing.T) {
	const file = "package %s\n\nimport \"golang.org/x/sync/singleflight\"\n\n"
	text := func(pkg, rest string) string { return strings.Replace(file, "%s", pkg, 1) + rest + "\n" }
	files := map[string]string{
		"made/made.go":       "// Code generated by a test. DO NOT EDIT.\n\n" + text("made", "func New() *singleflight.Group { return nil }"),
		"made/hand.go":       text("made", "var group *singleflight.Group = New()"),
		"tags/tags.go":       text("tags", "var group singleflight.Group"),
		"tags/tags_plan9.go": text("tags", "var same *singleflight.Group = &group"),
		"beside/beside.go": `package beside

import (
	"bytes"

	"resenje.org/singleflight"
)

type pages struct {
	bytes.Buffer
	singleflight.Group[string, int]
}

func size(p *pages) int { return p.Len() }
`,
	}
	const cannot = "golang.org/x/sync/singleflight cannot be replaced by github.com/seed342dcb2d/coalesce/singleflight: "
	want := []string{
		"made/hand.go:3:8: " + cannot + "made.go imports it, which is generated",
		"made/made.go:5:8: " + cannot + "made.go imports it, which is generated",
		"tags/tags.go:3:8: " + cannot + "tags_plan9.go imports it, which is not in this build",
		"beside/beside.go:6:2: resenje.org/singleflight cannot be replaced by github.com/seed342dcb2d/coalesce:" +
			" it is embedded beside bytes.Buffer, which has Len, too",
	}
	cgo, _ := command(t, ".", "env", "CGO_ENABLED")
	if _, err := exec.LookPath("gcc"); err == nil && strings.TrimSpace(cgo) == "1" {
		files["inc/inc.go"] = "package inc\n\nimport \"C\"\n\nimport \"golang.org/x/sync/singleflight\"\n\nvar group singleflight.Group\n\nvar zero C.int\n"
		files["inc/go.go"] = text("inc", "var same *singleflight.Group = &group")
		want = append(want,
			"inc/go.go:3:8: "+cannot+"inc.go imports it, which uses cgo",
			"inc/inc.go:5:8: "+cannot+"inc.go imports it, which uses cgo")
	}
	p := newProgram(t, files)
	p.vet(t, want...)
	p.fix(t)
	p.vet(t, want...)
}
