// Ratios runs the workloads of module benchmarks on package coalesce and on
// its peers, in turn, and prints what coalesce takes in proportion to each
// peer, as a table in Markdown.
//
//	go run ./cmd/ratios
//
// The medians of many short runs are compared, and the runs of different
// implementations alternate, so that a machine that changes its speed changes
// it for all of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// heavyRounds bounds the rounds of heavy workloads.
const heavyRounds = 3

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ratios", flag.ContinueOnError)
	flags.SetOutput(stderr)
	count := flags.Int("count", 11, "how many rounds to take the medians of (heavy workloads: 3 at most)")
	short := flags.Bool("short", false, "take shorter runs of smaller workloads, for a rough idea")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *count < 1 || flags.NArg() > 0:
		fmt.Fprintln(stderr, "ratios: -count must be at least 1, and there are no arguments")
		return 2
	}

	benchtime := 80 * time.Millisecond
	if *short {
		benchtime = 15 * time.Millisecond
	}
	testing.Init() // the flags that testing.Benchmark goes by
	if err := flag.Set("test.benchtime", benchtime.String()); err != nil {
		fmt.Fprintln(stderr, "ratios:", err)
		return 1
	}

	progress := progressTo(stderr)
	var rows []row
	for _, w := range benchmarks.Workloads(*short) {
		rounds := *count
		if w.Heavy {
			rounds = min(rounds, heavyRounds)
		}
		results, err := measure(w, rounds, progress)
		if err != nil {
			progress("")
			fmt.Fprintln(stderr, "ratios:", err)
			return 1
		}
		rows = append(rows, compare(w, results)...)
	}
	progress("")
	fmt.Fprint(stdout, heading(*count), "\n", table(rows))
	return 0
}

// measure runs w's implementations in turn, that many times, and returns their
// results in the order of w.Runs. Who begins changes from round to round.
func measure(w benchmarks.Workload, rounds int, progress func(string)) ([][]testing.BenchmarkResult, error) {
	results := make([][]testing.BenchmarkResult, len(w.Runs))
	for round := range rounds {
		for i := range w.Runs {
			i = (i + round) % len(w.Runs)
			r := w.Runs[i]
			progress(fmt.Sprintf("%s, round %d of %d, %s", w.Name, round+1, rounds, r.Impl))
			res := testing.Benchmark(r.Bench)
			if res.N == 0 { // and testing.Benchmark keeps the reason to itself
				name := w.Name + "/impl=" + r.Impl
				return nil, fmt.Errorf("%s failed; go test -run '^$' -bench '/%s' . says why", name, name)
			}
			results[i] = append(results[i], res)
		}
	}
	return results, nil
}

// progressTo returns a function that shows a line in place of the one before,
// if w is a terminal.
func progressTo(w io.Writer) func(string) {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return func(line string) { fmt.Fprint(w, "\r\x1b[K", line) }
		}
	}
	return func(string) {}
}

// heading says what was measured on what.
func heading(count int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s, GOMAXPROCS=%d, %s", runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), runtime.Version())
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "golang.org/x/sync", "resenje.org/singleflight":
				fmt.Fprintf(&b, ", %s %s", d.Path, d.Version)
			}
		}
	}
	fmt.Fprintf(&b, ".\nMedians of %d interleaved rounds", count)
	if count > heavyRounds {
		fmt.Fprintf(&b, " (keys in flight at once: %d)", heavyRounds)
	}
	b.WriteString(";\nin brackets the smallest and the largest ratio within one round.\n")
	return b.String()
}
