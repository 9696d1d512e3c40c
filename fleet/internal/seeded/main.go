// Seeded plants bugs in package fleet, one at a time, and counts the simulations and tests
// that find each: an invariant that has never failed has not shown that it can.
//
//	go run ./internal/seeded                            each bug, 10 000 simulations
//	go run ./internal/seeded -bug 'no nonce' -seeds 500  those whose names contain it
//	go run ./internal/seeded -write internal/seeded/README.md  the table, too
//
// It is run in the root of the module fleet. A bug is a replacement of source text (see
// bugs.go), which is compiled in an overlay: the sources stay as they are, and have no
// trace of this.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	seeds := flag.Int("seeds", 10_000, "simulations for each bug")
	only := flag.String("bug", "", "plant only the bugs whose names contain this")
	write := flag.String("write", "", "write the table to this file")
	flag.Parse()
	if err := run(*seeds, *only, *write); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(1)
	}
}

func run(seeds int, only, write string) error {
	dir, err := os.MkdirTemp("", "seeded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var rows [][]string
	var wrong []string
	for _, b := range bugs {
		if !strings.Contains(b.name, only) {
			continue
		}
		binary, err := build(dir, b)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		found, n, err := simulate(binary, seeds)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		tests := test(binary)
		switch {
		case b.equivalent == "" && len(found) == 0 && len(tests) == 0:
			wrong = append(wrong, b.name+" is not found")
		case b.equivalent != "" && len(found) > 0:
			wrong = append(wrong, b.name+" is found, and so not equivalent")
		}
		row := []string{b.name, counts(found, n), strings.Join(tests, ", ")}
		if b.equivalent != "" {
			row[1] += ": " + b.equivalent
		}
		fmt.Printf("%s\n\t%s\n\t%s\n", row[0], row[1], row[2])
		rows = append(rows, row)
	}
	if write != "" {
		if err := os.WriteFile(write, table(rows, seeds), 0o644); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

// build compiles the tests of the package with a bug, and returns the binary.
func build(dir string, b bug) (string, error) {
	edited, err := apply(b)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range edited {
		path, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		copied := filepath.Join(dir, file)
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			return "", err
		}
		overlay.Replace[path] = copied
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	config, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "fleet.test")
	if err := os.WriteFile(config, data, 0o644); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "test", "-c", "-overlay", config, "-o", binary, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
}

// apply returns the text of the files that a bug changes, by name.
func apply(b bug) (map[string][]byte, error) {
	edited := map[string][]byte{}
	for _, e := range b.edits {
		text, ok := edited[e.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(e.file); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s has the text %d times, want once:\n%s", e.file, n, e.old)
		}
		edited[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	return edited, nil
}

const (
	stuck     = "stuck" // the simulation has panicked, or does not end
	mostStuck = 3       // how many may be, until the rest is left out

	stallSimulation = 20 * time.Second
	stallTests      = time.Minute
)

var tally = regexp.MustCompile(`(?m)^tally (\d+) ?(.*)$`)

// simulate runs simulations, and returns in how many of them each invariant is broken, and
// how many there were.
func simulate(binary string, seeds int) (found map[string]int, n int, err error) {
	found = map[string]int{}
	for first := 1; first <= seeds; {
		out, failed := execute(stallSimulation, binary, "-test.run=^TestSimulation$", "-tally", fmt.Sprint("-seed=", first), fmt.Sprint("-seeds=", seeds-first+1))
		last := first - 1
		for _, m := range tally.FindAllStringSubmatch(out, -1) {
			if last, err = strconv.Atoi(m[1]); err != nil {
				return nil, 0, err
			}
			n++
			for name := range strings.FieldsSeq(m[2]) {
				found[name]++
			}
		}
		if !failed {
			break
		}
		n++
		if found[stuck]++; found[stuck] == mostStuck {
			break
		}
		first = last + 2
	}
	return found, n, nil
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// test runs the other tests, and returns those that fail.
func test(binary string) []string {
	out, failed := execute(stallTests, binary, "-test.run=^(Test|Example)", "-test.skip=^TestSimulation$")
	if !failed {
		return nil
	}
	var names []string
	for _, m := range failure.FindAllStringSubmatch(out, -1) {
		names = append(names, m[1])
	}
	if len(names) == 0 {
		names = []string{"(stuck)"}
	}
	const enough = 3
	if len(names) > enough {
		names = append(names[:enough], fmt.Sprintf("%d more", len(names)-enough))
	}
	return names
}

// execute runs the binary until it ends, or prints nothing for a while, and reports whether
// it has failed.
func execute(stall time.Duration, binary string, args ...string) (out string, failed bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	w := &watched{timer: time.AfterFunc(stall, cancel), stall: stall}
	defer w.timer.Stop()
	cmd.Stdout, cmd.Stderr = w, w
	failed = cmd.Run() != nil
	return w.String(), failed
}

// A watched keeps what is written, and has a timer that starts again each time.
type watched struct {
	bytes.Buffer
	timer *time.Timer
	stall time.Duration
}

func (w *watched) Write(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	return w.Buffer.Write(p)
}

// counts returns a text of what was found.
func counts(found map[string]int, n int) string {
	if len(found) == 0 {
		return fmt.Sprintf("none of %d", n)
	}
	var parts []string
	for name, count := range found {
		parts = append(parts, fmt.Sprintf("%s %d", name, count))
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Compare(a, b) })
	return strings.Join(parts, ", ") + fmt.Sprintf(" of %d", n)
}

// table returns the table of the bugs.
func table(rows [][]string, seeds int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Seeded bugs of package fleet

Written by `+"`go run ./internal/seeded -write internal/seeded/README.md`"+`: each bug was planted alone, and
%d simulations were run, and the other tests. The middle column has in how many
simulations each invariant of `+"`sim_check_test.go`"+` was broken; "stuck" are those which panicked, or
never ended, after %d of which the rest was left out. A bug that only changes what a run costs,
or that shows in a situation of its own, is found by a test alone.

| bug | simulations | tests |
|---|---|---|
`, seeds, mostStuck)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
	}
	return b.Bytes()
}
