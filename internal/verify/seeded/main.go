// Seeded plants bugs in package coalesce, one at a time, and checks that the
// detectors find them: a test that has never failed has not shown that it can.
//
//	go run ./internal/verify/seeded                                    each bug, by the detectors that must find it
//	go run ./internal/verify/seeded -all -write internal/verify/seeded/README.md   by all of them, and the table
//	go run ./internal/verify/seeded -modes 20 -write internal/verify/seeded/README.md   by twenty storms in each mode
//
// It is run in the root of the module. The bugs are changes to the text of the
// package (see bugs.go), in an overlay: the sources stay as they are, and are
// compiled without a trace of this.
package main

import (
	"bytes"
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
	"strings"
	"sync"
	"time"
)

// The detectors.
const (
	explored = "explorer" // systematic schedules
	stormed  = "storms"   // random load, with the checker of histories
	tested   = "tests"    // everything else that is exact
	fuzzed   = "fuzz"     // the seeds of the fuzz targets, against the model
)

// A detector is a part of the test suite.
type detector struct {
	name     string
	packages []string // the packages of the tests
	tags     string   // the build tags
	args     []string
	limit    time.Duration // a run that takes longer hangs, and finds the bug
}

// binary returns the file in temp that has the tests of a package as d builds them.
func (d detector) binary(temp, pkg string) string {
	return filepath.Join(temp, strings.ReplaceAll(pkg, "/", "_")+d.tags+".test")
}

// Without a bug, the explorer takes some 30 s on two cores, the tests of a package 20 s, and the others
// 5 s at most.
var detectors = []detector{
	{explored, []string{"./internal/verify/explore"}, "coalesceexplore", []string{"-test.run=^TestExplore_(Inline|Pairs|Triples|MaxAge|MaxWaiters|Linger)$", "-test.cpu=1"}, 6 * time.Minute},
	{stormed, []string{".", "./internal/verify/storm"}, "", []string{"-test.run=^TestStorm_", "-test.short", "-test.count=10", "-test.failfast"}, time.Minute},
	{tested, []string{".", "./internal/verify/rules", "./internal/verify/costs"}, "", []string{"-test.run=^(Test|Example)", "-test.skip=^TestStorm_", "-test.short"}, 90 * time.Second},
	{fuzzed, []string{"."}, "", []string{"-test.run=^Fuzz"}, time.Minute},
}

// variable names the bug that is switched on.
const variable = "COALESCE_SEEDED"

func main() {
	all := flag.Bool("all", false, "try every detector on every bug")
	only := flag.String("run", "", "the bugs whose names match this expression only")
	write := flag.String("write", "", "the file in which to put the table, between its markers")
	parallel := flag.Int("parallel", 2, "how many detectors run side by side")
	storms := flag.Int("modes", 0, "try so many storms in each mode on each bug instead")
	flag.Parse()
	if err := check(flag.Args(), *parallel, *storms); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(2)
	}
	if err := run(*all, *only, *write, *parallel, *storms); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(1)
	}
}

// check returns an error for wrong arguments and flags.
func check(args []string, parallel, storms int) error {
	const (
		mostParallel = 256
		mostStorms   = 1_000_000
	)
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case parallel < 1 || parallel > mostParallel:
		return fmt.Errorf("-parallel is %d (want 1 to %d)", parallel, mostParallel)
	case storms < 0 || storms > mostStorms:
		return fmt.Errorf("-modes is %d (want 0 to %d)", storms, mostStorms)
	}
	return nil
}

func run(all bool, only, write string, parallel, storms int) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if write != "" && (!all && storms == 0 || only != "") {
		return errors.New("the tables are of all bugs and detectors: -write needs -all or -modes, and no -run")
	}
	temp, err := os.MkdirTemp("", "seeded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	overlay, err := plant(temp)
	if err != nil {
		return err
	}
	if storms > 0 {
		rows, err := runModes(overlay, temp, chosen, storms, parallel)
		if err != nil || write == "" {
			return err
		}
		return rewrite(write, "modes", rows)
	}
	compiled := map[string]bool{}
	for _, d := range detectors {
		for _, pkg := range d.packages {
			if binary := d.binary(temp, pkg); !compiled[binary] {
				compiled[binary] = true
				if err := compile(overlay, binary, "-tags", d.tags, pkg); err != nil {
					return err
				}
			}
		}
	}

	// A detector that fails without a bug finds none.
	var jobs []*job
	for _, d := range detectors {
		jobs = append(jobs, &job{detector: d, must: false, bug: bug{}})
	}
	for _, b := range bugs {
		if !chosen.MatchString(b.name) {
			continue
		}
		for _, d := range detectors {
			must := slices.Contains(b.by, d.name)
			if all || must {
				jobs = append(jobs, &job{bug: b, detector: d, must: must})
			}
		}
	}
	work(jobs, parallel, func(j *job) {
		for _, pkg := range j.detector.packages {
			if j.run(j.detector.binary(temp, pkg), pkg); j.found {
				return
			}
		}
	})

	var failures []string
	for _, j := range jobs {
		switch {
		case j.bug.name == "" && j.found:
			failures = append(failures, fmt.Sprintf("%s finds something where there is no bug: %s", j.detector.name, j.output))
		case j.must && !j.found:
			failures = append(failures, fmt.Sprintf("%q is not found by the %s", j.bug.name, j.detector.name))
		}
	}
	if failures != nil {
		return errors.New(strings.Join(failures, "\n"))
	}
	if write != "" {
		return rewrite(write, "seeded", table(jobs))
	}
	return nil
}

// plant writes the package with all bugs in it, switched off, to temp, and returns the
// file that replaces the package's own text by it.
func plant(temp string) (overlay string, err error) {
	texts := map[string]string{}
	for _, b := range bugs {
		text, ok := texts[b.file]
		if !ok {
			bytes, err := os.ReadFile(b.file)
			if err != nil {
				return "", fmt.Errorf("%w (is this the root of the module?)", err)
			}
			text = string(bytes)
		}
		if n := strings.Count(text, b.old); n != 1 {
			return "", fmt.Errorf("%q: %s has its text %d times: the code has changed, and the bug has to, too", b.name, b.file, n)
		}
		texts[b.file] = strings.Replace(text, b.old, b.new, 1)
	}
	texts["seeded.go"] = "package coalesce\n\nimport \"os\"\n\nvar seed = os.Getenv(\"" + variable +
		"\")\n\nfunc seeded(name string) bool { return seed == name }\n"

	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	replace := struct{ Replace map[string]string }{map[string]string{}}
	for name, text := range texts {
		file := filepath.Join(temp, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace.Replace[filepath.Join(root, name)] = file
	}
	list, err := json.Marshal(replace)
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(temp, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o644)
}

// compile compiles the tests of the package that the last argument names, with an
// overlay.
func compile(overlay, binary string, flags ...string) error {
	args := append([]string{"test", "-c", "-vet=off", "-overlay", overlay, "-o", binary}, flags...)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}

// A job is one detector on one bug, or on none.
type job struct {
	bug      bug
	detector detector
	must     bool // it has to find the bug

	found  bool
	how    string // for the table
	output string
	took   time.Duration
}

// failure matches the first line that names a failure.
var failure = regexp.MustCompile(`(?m)^(?:\s*--- FAIL: |panic: |fatal error: )`)

// begun matches the line at the beginning of a test.
var begun = regexp.MustCompile(`(?m)^=== RUN +([^\s/]+)`)

// schedules matches the number of schedules in the explorer's output.
var schedules = regexp.MustCompile(`after (\d+) schedules: ([^\n;:]*)`)

// run runs the detector's tests of one package.
func (j *job) run(binary, pkg string) {
	ctx, cancel := context.WithTimeout(context.Background(), j.detector.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"-test.v", "-test.failfast", "-test.timeout=0"}, j.detector.args...)...)
	cmd.Env = append(os.Environ(), variable+"="+j.bug.name)
	cmd.Dir = pkg
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	j.took += time.Since(began)
	j.found = err != nil
	if !j.found {
		return
	}
	j.output = out.String()
	until := j.output
	at := failure.FindStringIndex(until)
	if at != nil {
		until = until[:at[0]]
	}
	if tests := begun.FindAllStringSubmatch(until, -1); tests != nil {
		j.how = tests[len(tests)-1][1]
	}
	switch {
	case ctx.Err() != nil:
		j.how += ", a hang"
	case at == nil:
	case strings.HasPrefix(j.output[at[0]:], "panic: "):
		j.how += ", a panic"
	case strings.HasPrefix(j.output[at[0]:], "fatal error: all goroutines are asleep"):
		j.how += ", a deadlock"
	case strings.HasPrefix(j.output[at[0]:], "fatal error: "):
		j.how += ", a crash"
	}
	if m := schedules.FindStringSubmatch(j.output); m != nil {
		j.how += fmt.Sprintf(", %s schedules", m[1])
	}
}

// work does jobs, some of them side by side, and prints the result of each.
func work(jobs []*job, parallel int, do func(*job)) {
	queue := make(chan *job)
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range parallel {
		wg.Go(func() {
			for j := range queue {
				do(j)
				mu.Lock()
				n++
				found, name := "not found", j.bug.name
				if j.found {
					found = "found"
				}
				if name == "" {
					name = "no bug"
				}
				fmt.Printf("%3d of %d  %-31s %-9s %-9s %5.1f s  %s\n", n, len(jobs), name, j.detector.name, found, j.took.Seconds(), j.how)
				mu.Unlock()
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wg.Wait()
}

// table returns a row for each bug.
func table(jobs []*job) string {
	var b strings.Builder
	b.WriteString("| bug | effect |")
	for _, d := range detectors {
		b.WriteString(" " + d.name + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(detectors)) + "\n")
	for _, bug := range bugs {
		fmt.Fprintf(&b, "| %s | %s |", bug.name, bug.what)
		for _, d := range detectors {
			i := slices.IndexFunc(jobs, func(j *job) bool { return j.bug.name == bug.name && j.detector.name == d.name })
			cell := "–"
			if i >= 0 && jobs[i].found {
				test, how, _ := strings.Cut(jobs[i].how, ",")
				cell = "`" + test + "`"
				if how != "" {
					cell += "," + how
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// rewrite puts the table between the markers of that name in a file.
func rewrite(file, name, table string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %s and %s after it", file, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(file, []byte(before+begin+table+end+after), 0o644)
}
