// Report runs the workloads of module benchmarks on package coalesce, on its peers and on
// the floors, and writes the results: BENCHMARKS.md with the charts that it shows, the
// tables of all results, and the table in a README.
//
//	go run ./cmd/report            # everything
//	go run ./cmd/report -quick     # the quick set, in under five minutes
//	go run ./cmd/report -render    # draw again, measure nothing
//
// It is to be run in the directory of module benchmarks.
//
// Every single result is written to a file as soon as it is there, so a run that was cut
// off goes on from there: give the same command again. The results of one file are all of
// one machine, one version of Go and one version of the code; with any other the command
// refuses to go on.
//
// # How it measures
//
// Round by round: each workload in turn, and within a workload each implementation in
// turn, beginning with another one in each round. Figures that are compared were
// therefore measured within seconds of each other, and a machine that changes its speed
// changes it for all.
//
// Each single run has a process of its own. One implementation can then leave nothing
// behind for the next: no garbage to collect, no heap that has grown and sets the
// collector's pace, no timers, goroutines or stacks in the runtime's caches, and no
// memory that is already paid for. Each round also draws new hash seeds and a new layout
// of the heap, which in a single process would be the same accident for all rounds; and
// GOMAXPROCS does not change after the start of the runtime. The price is some ten
// milliseconds a run for the start of a process, which the measurement does not include,
// and a cold start, which testing.B's own first short runs make up for. An implementation
// that crashes or hangs affects no other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// tablesFile is where the tables of all results are, below the -out directory.
const tablesFile = "benchmarks/RESULTS.md"

const (
	defaultRounds    = 20
	maxRounds        = 1000
	maxBenchtime     = time.Hour
	maxIterations    = 1_000_000_000
	defaultBenchtime = "100ms"

	// quickBudget is the time for which the quick set may be measured. The rest of the
	// five minutes that it promises is for go run to compile.
	quickBudget = 4*time.Minute + 15*time.Second
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	workloads := benchmarks.Workloads(false)
	if spec, ok := os.LookupEnv(childEnv); ok {
		os.Exit(child(spec, workloads, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt kills
	p := program{
		workloads:    workloads,
		leftOut:      benchmarks.LeftOut(false),
		surroundings: here,
		measure:      inChild,
		now:          time.Now,
		stdout:       os.Stdout,
		stderr:       os.Stderr,
	}
	os.Exit(p.main(ctx, os.Args[1:]))
}

// A program is the command with its surroundings.
type program struct {
	workloads    []benchmarks.Workload
	leftOut      []string // workloads that need more memory than this machine has: lines for a reader
	surroundings func() (conditions, error)
	measure      measureFunc
	now          func() time.Time
	stdout       io.Writer
	stderr       io.Writer
}

// options are the values of the flags.
type options struct {
	quick, fresh, render, list bool

	names     *regexp.Regexp
	count     int
	benchtime string
	out       string
	resume    string
	readme    string
}

// main returns the exit code.
func (p program) main(ctx context.Context, args []string) int {
	o, err := p.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // flag has reported the error
	}
	if o.list {
		p.list(o)
		return exitOK
	}
	code := exitOK
	if !o.render {
		if code = p.measureAll(ctx, o, args); code == exitInterrupted {
			return code
		}
	}
	if err := p.draw(o); err != nil {
		return p.fail(err)
	}
	return code
}

// parse reads the flags. It has reported an error in them already.
func (p program) parse(args []string) (options, error) {
	var o options
	var names string
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	flags.BoolVar(&o.quick, "quick", false, "measure the quick set only, in as many rounds as fit into five minutes")
	flags.StringVar(&names, "run", "", "measure the workloads whose names match `regexp`")
	flags.IntVar(&o.count, "count", defaultRounds,
		fmt.Sprintf("measure that many `rounds` (heavy workloads: at most %d, with -quick %d)",
			heavyRounds, quickHeavyRounds))
	flags.StringVar(&o.benchtime, "benchtime", "",
		"measure for about that `duration` in a single run, or Nx for N operations (default "+defaultBenchtime+
			"; with -quick what fits)")
	flags.StringVar(&o.out, "out", "", "write BENCHMARKS.md, "+tablesFile+" and docs/charts/*.svg to `dir` (default ..; with -quick quick)")
	flags.StringVar(&o.resume, "resume", "",
		"keep the single results in `file` (default benchmarks/report.jsonl in the -out directory;"+
			" with -quick report-quick.jsonl)")
	flags.BoolVar(&o.fresh, "fresh", false, "throw away the earlier measurements")
	flags.BoolVar(&o.render, "render", false, "measure nothing, draw the earlier measurements")
	flags.BoolVar(&o.list, "list", false, "list the workloads, and do nothing else")
	flags.StringVar(&o.readme, "readme", "", "write the table between the markers in `file`, too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	err := p.check(&o, names, flags.Args())
	if err != nil {
		fmt.Fprintln(p.stderr, "report:", err)
	}
	return o, err
}

// check completes o and returns an error if it is wrong.
func (p program) check(o *options, names string, rest []string) (err error) {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("there are no arguments, so what is %q?", rest[0])
	case o.count < 1 || o.count > maxRounds:
		return fmt.Errorf("-count is %d (want 1 to %d)", o.count, maxRounds)
	case o.fresh && o.render:
		return errors.New("-fresh and -render: the measurements would be thrown away, and nothing left to draw")
	case o.benchtime != "" && !validBenchtime(o.benchtime):
		return fmt.Errorf("-benchtime %s is neither a duration of at most %v nor a number of at most %d followed by an x",
			o.benchtime, maxBenchtime, maxIterations)
	}
	if o.names, err = regexp.Compile(names); err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if len(p.chosen(*o)) == 0 {
		return errors.New("no workload matches; -list lists them")
	}
	if o.benchtime == "" {
		o.benchtime = defaultBenchtime
		if o.quick {
			o.benchtime = quickBenchtime(p.workloads).String()
		}
	}
	if o.out == "" {
		o.out = ".."
		if o.quick {
			o.out = "quick" // or it would replace the whole report
		}
	}
	if o.resume == "" {
		name := "report.jsonl"
		if o.quick {
			name = "report-quick.jsonl"
		}
		o.resume = filepath.Join(o.out, "benchmarks", name)
	}
	return nil
}

// validBenchtime reports whether package testing takes s for a -benchtime.
func validBenchtime(s string) bool {
	if n, ok := strings.CutSuffix(s, "x"); ok {
		v, err := strconv.ParseUint(n, 10, 64)
		return err == nil && v > 0 && v <= maxIterations
	}
	d, err := time.ParseDuration(s)
	return err == nil && d > 0 && d <= maxBenchtime
}

// chosen returns the workloads that o is about.
func (p program) chosen(o options) []benchmarks.Workload {
	var ws []benchmarks.Workload
	for _, w := range p.workloads {
		if (w.Quick || !o.quick) && o.names.MatchString(w.Name) {
			ws = append(ws, w)
		}
	}
	return ws
}

// list prints the chosen workloads, with a description of each.
func (p program) list(o options) {
	for _, w := range p.chosen(o) {
		fmt.Fprint(p.stdout, w.Name)
		if w.Quick {
			fmt.Fprint(p.stdout, " quick")
		}
		if w.Heavy {
			fmt.Fprint(p.stdout, " heavy")
		}
		if w.Procs > 0 {
			fmt.Fprintf(p.stdout, " GOMAXPROCS=%d", w.Procs)
		}
		fmt.Fprintf(p.stdout, "\n\t%s\n\t", strings.Join(w.Units, " "))
		for i, r := range w.Runs {
			if i > 0 {
				fmt.Fprint(p.stdout, " ")
			}
			fmt.Fprint(p.stdout, r.Impl)
		}
		fmt.Fprintln(p.stdout)
	}
}

// measureAll makes the measurements that are not yet in the file. It returns the exit
// code.
func (p program) measureAll(ctx context.Context, o options, args []string) int {
	cond, err := p.surroundings()
	if err != nil {
		return p.fail(err)
	}
	cond.Benchtime = o.benchtime
	j, err := openJournal(o.resume, cond, o.fresh)
	if err != nil {
		return p.fail(err)
	}
	defer func() { _ = j.close() }() // each result has been written before
	if n := len(j.results); n > 0 {
		fmt.Fprintf(p.stderr, "report: going on after %d results in %s\n", n, o.resume)
	} else {
		fmt.Fprintf(p.stderr, "report: the results go to %s\n", o.resume)
	}
	for _, line := range p.leftOut {
		fmt.Fprintln(p.stderr, "report: left out:", line)
	}
	err = j.begin(session{
		Conditions: cond, Command: command(args), Began: p.now().UTC().Truncate(time.Second), LeftOut: p.leftOut,
	})
	if err != nil {
		return p.fail(err)
	}

	c := campaign{
		workloads: p.chosen(o),
		rounds:    o.count,
		benchtime: o.benchtime,
		journal:   j,
		measure:   p.measure,
		progress:  newProgress(p.stderr, p.now),
		now:       p.now,
	}
	if o.quick {
		c.budget = quickBudget
	}
	err = c.run(ctx)
	c.progress.end()
	if err == nil {
		err = j.close()
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(p.stderr, "report: stopped; the measurements are in %s\n\tto go on:           %s\n"+
			"\tto draw what there is: %s\n",
			o.resume, command(without(args, "fresh")), command(append([]string{"-render"}, without(args, "fresh")...)))
		return exitInterrupted
	case err != nil:
		return p.fail(err)
	}
	if c.timeUp {
		fmt.Fprintf(p.stderr, "report: the time was up before all %d rounds were measured\n", o.count)
	}
	if len(c.failures) > 0 {
		for _, err := range c.failures {
			fmt.Fprintln(p.stderr, "report:", err)
		}
		fmt.Fprintln(p.stderr, "report: these are left out; the same command tries them again")
		return exitFailed
	}
	return exitOK
}

// draw writes the report and the charts, and the README's table if o says so.
func (p program) draw(o options) error {
	sessions, results, err := readJournal(o.resume)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("nothing has been measured: there is no %s", o.resume)
	case err != nil:
		return err
	case len(results) == 0:
		return fmt.Errorf("nothing has been measured: %s has no results", o.resume)
	}
	d := newData(p.workloads, sessions, results)
	for _, name := range d.unknown {
		fmt.Fprintf(p.stderr, "report: %s is not drawn: this version of the benchmarks does not have it,"+
			" or this machine not the memory\n", name)
	}
	if len(d.workloads) == 0 {
		return fmt.Errorf("%s has results of unknown workloads only", o.resume)
	}
	charts := d.charts()
	if err := writeCharts(filepath.Join(o.out, filepath.FromSlash(chartDir)), charts); err != nil {
		return err
	}
	name := filepath.Join(o.out, "BENCHMARKS.md")
	if err := os.WriteFile(name, []byte(d.markdown(charts)), 0o644); err != nil {
		return err
	}
	tables := filepath.Join(o.out, filepath.FromSlash(tablesFile))
	if err := os.MkdirAll(filepath.Dir(tables), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(tables, []byte(d.tables()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "report: wrote %s, %s and %d charts\n", name, tables, len(charts))
	if o.readme != "" {
		if err := rewriteReadme(o.readme, d.readmeTable()); err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "report: wrote the table in %s\n", o.readme)
	}
	return nil
}

// fail prints err and returns the exit code.
func (p program) fail(err error) int {
	fmt.Fprintln(p.stderr, "report:", err)
	return exitFailed
}

// command is the command line with the given arguments, for a shell.
func command(args []string) string {
	words := []string{"go run ./cmd/report"}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[](){}<>|&;#~!^") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// without returns args without the boolean flag of that name.
func without(args []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		a, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		return a == name
	})
}
