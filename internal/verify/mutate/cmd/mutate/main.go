// Command mutate reports how many mutants of a package its tests find. It is run in the
// root of the module. See internal/verify/mutate/README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/verify/mutate"
)

// This file holds the command.

var (
	module     = flag.String("module", ".", "the `directory` of the package")
	file       = flag.String("file", "", "only mutants of these files, separated by `commas`")
	only       = flag.String("only", "", "only mutants whose line in -list this `pattern` matches")
	sample     = flag.Int("sample", 0, "only `n` mutants, drawn by -seed")
	seed       = flag.Uint64("seed", 1, "draws the sample")
	tests      = flag.String("tests", ".,./internal/verify/rules,./internal/verify/costs,./internal/verify/storm", "the `packages` whose tests are run, in this order")
	output     = flag.String("o", "", "write every mutant's result to this `file`")
	journal    = flag.String("journal", "", "keep results in this `file`, and go on where it ends")
	equivalent = flag.String("equivalent", "internal/verify/mutate/equivalent.txt", "the `file` that lists equivalent mutants")
	parallel   = flag.Int("p", 2, "how many mutants run at a time")
	skip       = flag.String("skip", "", "tests to leave out of all stages, a `pattern`")
	slow       = flag.String("slow", "", "tests that take long, a `pattern`: the first stage leaves them to the second")
	fast       = flag.Duration("fast", time.Minute, "the time limit of the first stage, and of the second")
	stall      = flag.Duration("stall", 20*time.Second, "the time limit of each test in the first stage; three times as much in the second")
	full       = flag.Duration("full", 5*time.Minute, "the time limit of the third stage, all tests at length; 0 leaves it out")
	race       = flag.Duration("race", 5*time.Minute, "the time limit of the fourth, the first two under the race detector; 0 leaves it out")
	explore    = flag.Duration("explore", 0, "the time limit of the fifth, the explorer of schedules; 0 leaves it out")
	work       = flag.String("work", "", "build in this `directory` and keep it: the next build is quick")
	list       = flag.Bool("list", false, "only list the mutants")
	survivors  = flag.Bool("survivors", false, "print survivors as soon as they are found")
)

func main() {
	flag.Parse()
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	ok, err := run(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// check returns an error for wrong flags.
func check() error {
	const (
		mostParallel = 256
		mostTime     = 1000 * time.Hour
	)
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *parallel < 1 || *parallel > mostParallel:
		return fmt.Errorf("-p is %d (want 1 to %d)", *parallel, mostParallel)
	case *sample < 0:
		return fmt.Errorf("-sample is %d (want 0, for all, or more)", *sample)
	case *fast == 0:
		return errors.New("-fast is 0s (want a time: this stage is not left out)")
	}
	for _, limit := range []struct {
		flag string
		time time.Duration
	}{{"fast", *fast}, {"stall", *stall}, {"full", *full}, {"race", *race}, {"explore", *explore}} {
		if limit.time < 0 || limit.time > mostTime {
			return fmt.Errorf("-%s is %v (want 0s to %v)", limit.flag, limit.time, mostTime)
		}
	}
	return nil
}

func run(w io.Writer) (ok bool, err error) {
	scratch := *work
	if scratch == "" {
		if scratch, err = os.MkdirTemp("", "mutate"); err != nil {
			return false, err
		}
		defer os.RemoveAll(scratch)
	}
	dir, err := filepath.Abs(*module)
	if err != nil {
		return false, err
	}
	equivalents, err := mutate.ReadList(*equivalent)
	if err != nil {
		return false, err
	}
	p, err := mutate.Load(dir)
	if err != nil {
		return false, err
	}
	chosen, err := choose(p.Mutants)
	if err != nil {
		return false, err
	}
	strangers := equivalents.Strangers(p.Mutants)
	for _, key := range strangers {
		fmt.Fprintln(w, "listed as equivalent, but no mutant:", key)
	}
	if *list {
		for _, m := range chosen {
			fmt.Fprintln(w, m)
		}
		return true, nil
	}
	quick, thorough := stages()
	b, err := p.Compile(scratch, chosen, slices.Concat(quick, thorough))
	if err != nil {
		return false, err
	}
	chosen = b.Mutants
	fmt.Fprintf(w, "%d of %d mutants; %d more do not compile; no mutants of:", len(chosen), len(p.Mutants), len(b.Dropped))
	for _, reason := range slices.Sorted(maps.Keys(p.Skipped)) {
		fmt.Fprintf(w, " %s %d;", reason, p.Skipped[reason])
	}
	fmt.Fprintln(w)
	if death := b.Run(0, slices.Concat(quick, thorough)); death != nil {
		return false, fmt.Errorf("the tests fail without a mutant: %s\n%s", death, death.Output)
	}
	results, err := runAll(w, b, p.Sum, func(m *mutate.Mutant) []mutate.Stage {
		if _, listed := equivalents[m.Key()]; listed {
			return quick
		}
		return slices.Concat(quick, thorough)
	})
	if err != nil {
		return false, err
	}
	r := mutate.NewReport(chosen, results, equivalents)
	if *output != "" {
		if err := os.WriteFile(*output, []byte(r.String()), 0o644); err != nil {
			return false, err
		}
	}
	fmt.Fprint(w, r.Summary())
	return r.OK() && len(strangers) == 0, nil
}

// stages returns the stages that the flags ask for: the quick ones, and those for
// survivors that are not listed.
func stages() (quick, thorough []mutate.Stage) {
	skipping := func(pattern string, args ...string) []string {
		if pattern != "" {
			args = append(args, "-test.skip="+pattern)
		}
		return args
	}
	// each returns the stage for the tests of each package.
	each := func(s mutate.Stage) (all []mutate.Stage) {
		for pkg := range strings.SplitSeq(*tests, ",") {
			s.Package = pkg
			all = append(all, s)
		}
		return all
	}
	quick = each(mutate.Stage{
		Name: "fast", Args: skipping(join(*skip, *slow), "-test.short"), Timeout: *fast, Stall: *stall,
	})
	if *slow != "" {
		quick = append(quick, each(mutate.Stage{
			Name: "slow", Args: skipping(*skip, "-test.short", "-test.run="+*slow), Timeout: *fast, Stall: 3 * *stall,
		})...)
	}
	if *full != 0 {
		thorough = append(thorough, each(mutate.Stage{Name: "full", Args: skipping(*skip), Timeout: *full})...)
	}
	if *race != 0 {
		thorough = append(thorough, each(mutate.Stage{
			Name: "race", Flag: "-race", Args: skipping(*skip, "-test.short"), Timeout: *race,
		})...)
	}
	if *explore != 0 {
		thorough = append(thorough, mutate.Stage{
			Name: "explore", Flag: "-tags=coalesceexplore", Package: "./internal/verify/explore", Timeout: *explore,
			Args: []string{"-test.run=^TestExplore_(Releases|Linger|MaxAge|Cycles|Looks|Hold|Forget|KeyErrors|Hooks)", "-test.cpu=1"},
		})
	}
	return quick, thorough
}

// join returns a pattern that matches everything that a or b matches.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "|" + b
}

// choose returns the mutants that the flags ask for.
func choose(all []*mutate.Mutant) ([]*mutate.Mutant, error) {
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(m *mutate.Mutant) bool { return !pattern.MatchString(m.String()) })
	if *file != "" {
		files := strings.Split(*file, ",")
		chosen = slices.DeleteFunc(chosen, func(m *mutate.Mutant) bool { return !slices.Contains(files, m.File) })
		slices.SortStableFunc(chosen, func(a, b *mutate.Mutant) int {
			return slices.Index(files, a.File) - slices.Index(files, b.File)
		})
	}
	if *sample > 0 && *sample < len(chosen) {
		r := rand.New(rand.NewPCG(*seed, 0))
		picked := r.Perm(len(chosen))[:*sample]
		slices.Sort(picked)
		some := make([]*mutate.Mutant, 0, *sample)
		for _, i := range picked {
			some = append(some, chosen[i])
		}
		chosen = some
	}
	return chosen, nil
}

// runAll runs each of the mutants through its stages, and returns the test that killed
// it, by key. sum is that of the sources.
func runAll(w io.Writer, b *mutate.Build, sum string, stages func(*mutate.Mutant) []mutate.Stage) (map[string]string, error) {
	path := *journal
	if path == "" {
		path = os.DevNull
	}
	j, err := mutate.OpenJournal(path, sum)
	if err != nil {
		return nil, err
	}
	defer func() { _ = j.Close() }()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		results = map[string]string{}
		alive   int
		failed  error
		began   = time.Now()
		queue   = make(chan *mutate.Mutant)
	)
	for range *parallel {
		wg.Go(func() {
			for m := range queue {
				by, known := j.Killed(m)
				if !known {
					by = b.Run(m.ID, stages(m)).String()
				}
				mu.Lock()
				results[m.Key()] = by
				if by == "" {
					alive++
					if *survivors {
						fmt.Fprintf(w, "survived: %s\n", m)
					}
				}
				if !known {
					if err := j.Record(m, by); err != nil {
						failed = err
					}
				}
				if n := len(results); n%50 == 0 {
					fmt.Fprintf(w, "%d of %d, %d survived, %v\n", n, len(b.Mutants), alive, time.Since(began).Round(time.Second))
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range b.Mutants {
		queue <- m
	}
	close(queue)
	wg.Wait()
	return results, failed
}
