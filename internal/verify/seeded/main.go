// Seeded plants bugs in package coalesce, one at a time, and checks that the
// detectors find them: a test that has never failed has not shown that it can.
//
//	go run ./internal/verify/seeded                                    each bug, by the detectors that must find it
//	go run ./internal/verify/seeded -all -write internal/verify/seeded/README.md   by all of them, and the table
//
// It is run in the root of the module. The bugs are mutants of the package (see bugs.go),
// which internal/verify/mutate compiles in an overlay: the sources stay as they are, and
// are compiled without a trace of this.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/verify/mutate"
)

// The detectors. The explorer is several of them, one for each family of its programs.
const (
	inlines    = "Inline" // systematic schedules
	pairs      = "Pairs"
	triples    = "Triples"
	maxAge     = "MaxAge"
	maxWaiters = "MaxWaiters"
	lingering  = "Linger"
	releases   = "Releases"
	stormed    = "storms" // random load, with the checker of histories
	tested     = "tests"  // everything else that is exact
	fuzzed     = "fuzz"   // the seeds of the fuzz targets, against the model
)

// A column of the table has detectors that are alike.
type column struct {
	name   string
	stages []mutate.Stage // those of a detector have its name
}

// programs returns the stages of the explorer.
func programs(names ...string) (stages []mutate.Stage) {
	for _, name := range names {
		stages = append(stages, mutate.Stage{
			Name: name, Package: "./internal/verify/explore", Flag: "-tags=coalesceexplore",
			Args: []string{"-test.run=^TestExplore_" + name + "$", "-test.cpu=1"}, Timeout: 3 * time.Minute,
		})
	}
	return stages
}

// storms returns the stage of the storms of a package.
func storms(pkg string) mutate.Stage {
	return mutate.Stage{
		Name: stormed, Package: pkg, Timeout: time.Minute, Stall: 5 * time.Second,
		Args: []string{"-test.run=^TestStorm(_|$)", "-test.short", "-test.count=10"},
	}
}

// tests returns the stage of the tests of a package that are no storms. It leaves out the
// one test that takes longer than three seconds.
func tests(pkg string) mutate.Stage {
	return mutate.Stage{
		Name: tested, Package: pkg, Timeout: time.Minute, Stall: 8 * time.Second,
		Args: []string{"-test.run=^(Test|Example)", "-test.skip=^(TestStorm(_.*)?|TestDeadlock_RandomCycles)$", "-test.short"},
	}
}

// Without a bug, and on two cores, none of them takes longer than 15 s.
var columns = []column{
	{"explorer", programs(inlines, pairs, triples, maxAge, maxWaiters, lingering, releases)},
	{"storms", []mutate.Stage{storms("."), storms("./internal/verify/storm")}},
	{"tests", []mutate.Stage{tests("."), tests("./internal/verify/rules"), tests("./internal/verify/costs")}},
	{"fuzz", []mutate.Stage{{
		Name: fuzzed, Package: ".", Timeout: time.Minute, Stall: 5 * time.Second, Args: []string{"-test.run=^Fuzz"},
	}}},
}

// of returns the stages of the detectors with the given names.
func (c column) of(names []string) []mutate.Stage {
	return slices.DeleteFunc(slices.Clone(c.stages), func(s mutate.Stage) bool { return !slices.Contains(names, s.Name) })
}

func main() {
	all := flag.Bool("all", false, "try every detector on every bug")
	only := flag.String("run", "", "the bugs whose names match this expression only")
	write := flag.String("write", "", "the file in which to put the table, between its markers")
	parallel := flag.Int("parallel", 2, "how many detectors run side by side")
	flag.Parse()
	if err := check(flag.Args(), *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(2)
	}
	if err := run(*all, *only, *write, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(1)
	}
}

// check returns an error for wrong arguments and flags.
func check(args []string, parallel int) error {
	const mostParallel = 256
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case parallel < 1 || parallel > mostParallel:
		return fmt.Errorf("-parallel is %d (want 1 to %d)", parallel, mostParallel)
	}
	return nil
}

func run(all bool, only, write string, parallel int) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if write != "" && (!all || only != "") {
		return errors.New("the table is of all bugs and detectors: -write needs -all, and no -run")
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	p, err := mutate.Load(dir)
	if err != nil {
		return err
	}
	mutants, err := find(p)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "seeded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	var stages []mutate.Stage
	for _, c := range columns {
		stages = append(stages, c.stages...)
	}
	build, err := p.Compile(temp, mutants, stages)
	if err != nil {
		return err
	}
	if build.Dropped != nil {
		return fmt.Errorf("these do not compile: %v", build.Dropped)
	}

	// A detector that fails without a bug finds none.
	var jobs []*job
	for _, c := range columns {
		for _, stage := range c.stages {
			used := slices.ContainsFunc(bugs, func(b bug) bool { return slices.Contains(b.by, stage.Name) })
			if all || used {
				jobs = append(jobs, &job{bug: bug{name: "no bug"}, mutant: &mutate.Mutant{}, column: c.name, stages: []mutate.Stage{stage}})
			}
		}
	}
	for i, b := range bugs {
		if !chosen.MatchString(b.name) {
			continue
		}
		for _, c := range columns {
			j := &job{bug: b, mutant: mutants[i], column: c.name, stages: c.of(b.by)}
			j.must = len(j.stages) > 0
			if all {
				j.stages = c.stages
			}
			if len(j.stages) > 0 {
				jobs = append(jobs, j)
			}
		}
	}
	work(build, jobs, parallel)

	var failures []string
	for _, j := range jobs {
		switch {
		case j.mutant.ID == 0 && j.found != nil:
			failures = append(failures, fmt.Sprintf("%s finds something where there is no bug: %s\n%s", j.column, j.found, j.found.Output))
		case j.must && j.found == nil:
			failures = append(failures, fmt.Sprintf("%q is not found by the %s: %s", j.bug.name, j.column, j.mutant))
		}
	}
	if failures != nil {
		return errors.New(strings.Join(failures, "\n"))
	}
	if write != "" {
		return rewrite(write, table(jobs))
	}
	return nil
}

// find returns the mutants of all bugs, in their order.
func find(p *mutate.Package) (mutants []*mutate.Mutant, err error) {
	var missing []error
	for _, b := range bugs {
		m, err := p.Find(b.key)
		if err != nil {
			missing = append(missing, fmt.Errorf("%q in bugs.go: %w", b.name, err))
		}
		mutants = append(mutants, m)
	}
	return mutants, errors.Join(missing...)
}

// A job is the detectors of a column, or some of them, on one bug or on none.
type job struct {
	bug    bug
	mutant *mutate.Mutant // with the ID 0 for no bug
	column string
	stages []mutate.Stage
	must   bool // they have to find the bug

	found *mutate.Death // nil if it has not
}

// work does jobs, some of them side by side, and prints the result of each.
func work(build *mutate.Build, jobs []*job, parallel int) {
	queue := make(chan *job)
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range parallel {
		wg.Go(func() {
			for j := range queue {
				began := time.Now()
				j.found = build.Run(j.mutant.ID, j.stages)
				took := time.Since(began)
				found, by := "not found", ""
				if j.found != nil {
					found, by = "found", j.found.By
				}
				mu.Lock()
				n++
				fmt.Printf("%3d of %d  %-31s %-9s %-9s %5.1f s  %s\n", n, len(jobs), j.bug.name, j.column, found, took.Seconds(), by)
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
	b.WriteString("| bug | effect | mutant |")
	for _, c := range columns {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for i, j := range jobs {
		if j.mutant.ID == 0 {
			continue
		}
		if jobs[i-1].bug.name != j.bug.name {
			text := strings.ReplaceAll(j.mutant.Text, "|", `\|`)
			fmt.Fprintf(&b, "| %s | %s | %s: `%s` |", j.bug.name, j.bug.what, j.mutant.Key(), text)
		}
		cell := "–"
		if j.found != nil {
			test, how, ended := strings.Cut(j.found.By, ", ") // a test's name has no space
			test, _, _ = strings.Cut(test, "/")
			cell = "`" + test + "`"
			if ended {
				cell += ", " + how
			}
		}
		fmt.Fprintf(&b, " %s |", cell)
		if i+1 == len(jobs) || jobs[i+1].bug.name != j.bug.name {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// rewrite puts the table between its markers in a file.
func rewrite(file, table string) error {
	const begin, end = "<!-- seeded:begin -->\n", "<!-- seeded:end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %s and %s after it", file, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(file, []byte(before+begin+table+end+after), 0o644)
}
