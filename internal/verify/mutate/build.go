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

// This file holds the compilation of test binaries with mutants.

// A Package is the source of a package and its mutants.
type Package struct {
	Dir     string         // where its tests run
	Mutants []*Mutant      // whether they compile or not, in the order of the source
	Skipped map[string]int // statements without a mutant, by reason
	Sum     string         // of the source

	name    string
	sources []*source
}

// Load finds the mutants of the package in dir, an absolute path.
func Load(dir string) (*Package, error) {
	paths, name, err := sourceFiles(dir)
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
	p := &Package{
		Dir: dir, Skipped: map[string]int{}, Sum: fmt.Sprintf("%x", sum.Sum(nil)[:8]),
		name: name, sources: sources,
	}
	for _, s := range sources {
		p.Mutants = append(p.Mutants, s.mutants...)
		for reason, n := range s.skipped {
			p.Skipped[reason] += n
		}
	}
	return p, nil
}

// Find returns the mutant with the given key. If there is none, the error lists those that
// the key may have been meant for: of its kind in its function, with their source.
func (p *Package) Find(key string) (*Mutant, error) {
	fn, rest, _ := strings.Cut(key, " ")
	kind, _, _ := strings.Cut(rest, " ")
	var near []string
	for _, m := range p.Mutants {
		if m.Key() == key {
			return m, nil
		}
		if m.Func == fn && string(m.Kind) == kind {
			near = append(near, "\n\t"+m.String())
		}
	}
	if near == nil {
		return nil, fmt.Errorf("there is no mutant %q, and none of its kind in its function", key)
	}
	return nil, fmt.Errorf("there is no mutant %q; of its kind in its function there are:%s", key, strings.Join(near, ""))
}

// A Build is a package's test binaries with some of its mutants.
type Build struct {
	Mutants  []*Mutant         // those that compile
	Dropped  []*Mutant         // those that do not
	dir      string            // the package's
	binaries map[string]string // by what Stage.binary returns
}

// Compile compiles the tests of p with the mutants that are chosen, once for each flag
// and each package that the stages name. It writes its files to scratch.
func (p *Package) Compile(scratch string, chosen []*Mutant, stages []Stage) (*Build, error) {
	in := map[int]bool{}
	for _, m := range chosen {
		in[m.ID] = true
	}
	if err := p.settle(scratch, in); err != nil {
		return nil, err
	}
	b := &Build{dir: p.Dir, binaries: map[string]string{}}
	for _, m := range chosen {
		if in[m.ID] {
			b.Mutants = append(b.Mutants, m)
		} else {
			b.Dropped = append(b.Dropped, m)
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
	cmd.Dir = b.dir
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

// settle writes the overlay with the mutants in in, and removes those from in that do not
// compile.
func (p *Package) settle(scratch string, in map[int]bool) error {
	for {
		written := map[string]string{} // by path
		if err := p.overlay(scratch, in, written); err != nil {
			return err
		}
		cmd := exec.Command("go", "build", "-gcflags=-e", "-overlay", filepath.Join(scratch, "overlay.json"), ".")
		cmd.Dir = p.Dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		before := len(in)
		for _, place := range errorPlace.FindAllStringSubmatch(string(out), -1) {
			line, _ := strconv.Atoi(place[2])
			column, _ := strconv.Atoi(place[3]) // 0 if there is none
			delete(in, blame(written[filepath.Base(place[1])], line, column, place[4]))
		}
		if len(in) == before {
			return fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
}

var (
	errorPlace = regexp.MustCompile(`(?m)^(\S+\.go):(\d+)(?::(\d+))?: (.*)$`)
	guardCall  = regexp.MustCompile(`mutated\((\d+)[,)]`)
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

// overlay writes the sources with the mutants in in to scratch, and the file that replaces
// the package's own by them. The texts are entered in written by their files' base names.
func (p *Package) overlay(scratch string, in map[int]bool, written map[string]string) error {
	replace := map[string]string{}
	put := func(name, text string) error {
		path := filepath.Join(scratch, name)
		replace[filepath.Join(p.Dir, name)] = path
		written[name] = text
		return os.WriteFile(path, []byte(text), 0o600)
	}
	for _, s := range p.sources {
		if err := put(s.name, s.render(in)); err != nil {
			return err
		}
	}
	// The name comes first, so that a call that initializes the sources' own variables
	// may be a mutant as well.
	if err := put("0mutated.go", support(p.name)); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(scratch, "overlay.json"), text, 0o600)
}
