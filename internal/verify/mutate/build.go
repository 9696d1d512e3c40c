package mutate

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// This file holds the compilation of one test binary with all mutants.

// A Build is a package's test binaries with all of its mutants.
type Build struct {
	Dir      string            // of the package, where its tests run
	Mutants  []*Mutant         // those that compile
	Dropped  []*Mutant         // those that do not
	Skipped  map[string]int    // statements without a mutant, by reason
	Sum      string            // of the package's source
	binaries map[string]string // by what Stage.binary returns
}

// Compile finds the mutants of the package in dir and compiles its tests with them, once
// for each flag and each package that the stages name. It writes its files to scratch.
func Compile(dir, scratch string, stages []Stage) (*Build, error) {
	paths, pkg, err := sourceFiles(dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sources, err := parse(paths, func(path string) (string, error) {
		text, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(path), len(text), text)
		return string(text), err
	})
	if err != nil {
		return nil, err
	}
	b := &Build{
		Dir: dir, Skipped: map[string]int{}, Sum: fmt.Sprintf("%x", sum.Sum(nil)[:8]),
		binaries: map[string]string{},
	}
	dropped, err := settle(sources, dir, scratch, pkg)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		for reason, n := range s.skipped {
			b.Skipped[reason] += n
		}
		for _, m := range s.mutants {
			if dropped[m.ID] {
				b.Dropped = append(b.Dropped, m)
			} else {
				b.Mutants = append(b.Mutants, m)
			}
		}
	}
	for _, stage := range stages {
		if b.binaries[stage.binary()] == "" {
			path := filepath.Join(scratch, fmt.Sprintf("mutants%d.test", len(b.binaries)))
			if err := b.link(scratch, path, stage); err != nil {
				return nil, err
			}
			b.binaries[stage.binary()] = path
		}
	}
	return b, nil
}

// link compiles a test binary with the overlay in scratch.
func (b *Build) link(scratch, path string, stage Stage) error {
	args := []string{"test", "-c", "-vet=off", "-overlay", filepath.Join(scratch, "overlay.json"), "-o", path}
	if stage.Flag != "" {
		args = append(args, stage.Flag)
	}
	cmd := exec.Command("go", append(args, cmp.Or(stage.Package, "."))...)
	cmd.Dir = b.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c %s %s: %w\n%s", stage.Flag, stage.Package, err, out)
	}
	return nil
}

// sourceFiles returns the files of the package in dir that are built here, and
// its name.
func sourceFiles(dir string) (paths []string, pkg string, err error) {
	cmd := exec.Command("go", "list", "-f", `{{range .GoFiles}}{{.}} {{end}}`, ".")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, "", fmt.Errorf("go list in %s: %w", dir, err)
	}
	for _, name := range strings.Fields(string(out)) {
		paths = append(paths, filepath.Join(dir, name))
	}
	if len(paths) == 0 {
		return nil, "", fmt.Errorf("no Go files in %s", dir)
	}
	f, err := parser.ParseFile(token.NewFileSet(), paths[0], nil, parser.PackageClauseOnly)
	if err != nil {
		return nil, "", err
	}
	return paths, f.Name.Name, nil
}

// settle writes the overlay without the mutants that do not compile, and
// returns those.
func settle(sources []*source, dir, scratch, pkg string) (dropped map[int]bool, err error) {
	dropped = map[int]bool{}
	for {
		written := map[string]string{} // by path
		if err := overlay(sources, dir, scratch, pkg, dropped, written); err != nil {
			return nil, err
		}
		cmd := exec.Command("go", "build", "-gcflags=-e", "-overlay", filepath.Join(scratch, "overlay.json"), ".")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return dropped, nil
		}
		before := len(dropped)
		for _, place := range errorPlace.FindAllStringSubmatch(string(out), -1) {
			line, _ := strconv.Atoi(place[2])
			column, _ := strconv.Atoi(place[3]) // 0 if there is none
			if id := blame(written[filepath.Base(place[1])], line, column, place[4]); id > 0 {
				dropped[id] = true
			}
		}
		if len(dropped) == before {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
}

var (
	errorPlace = regexp.MustCompile(`(?m)^(\S+\.go):(\d+)(?::(\d+))?: (.*)$`)
	guardCall  = regexp.MustCompile(`mutated\((\d+)\)`)
)

// blame returns the mutant whose guard is the last before an error's place: the code that
// a guard adds, and that does not compile, comes after it. The compiler gives no column
// where a constant overflows, but begins its message with the expression. blame returns 0
// if there is no such mutant.
func blame(text string, line, column int, message string) int {
	lines := strings.SplitAfter(text, "\n")
	if line < 1 || line > len(lines) {
		return 0
	}
	at := lines[line-1]
	if column == 0 {
		column = len(at)
		expr, _, _ := strings.Cut(message, " (constant")
		if i := strings.Index(at, strings.ReplaceAll(expr, " ", "")); i >= 0 {
			column = i
		}
	}
	before := strings.Join(lines[:line-1], "") + at[:min(column, len(at))]
	found := guardCall.FindAllStringSubmatch(before, -1)
	if found == nil {
		return 0
	}
	id, _ := strconv.Atoi(found[len(found)-1][1])
	return id
}

// overlay writes the sources with their mutants to scratch, and the file that replaces
// the package's own by them. The texts are entered in written by their files' base names.
func overlay(sources []*source, dir, scratch, pkg string, dropped map[int]bool, written map[string]string) error {
	replace := map[string]string{}
	put := func(name, text string) error {
		path := filepath.Join(scratch, name)
		replace[filepath.Join(dir, name)] = path
		written[name] = text
		return os.WriteFile(path, []byte(text), 0o600)
	}
	for _, s := range sources {
		if err := put(s.name, s.render(dropped)); err != nil {
			return err
		}
	}
	// The name comes first, so that a call that initializes the sources' own variables
	// may be a mutant as well.
	if err := put("0mutated.go", support(pkg)); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(scratch, "overlay.json"), text, 0o600)
}
