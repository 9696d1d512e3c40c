package main

// This file holds the demonstration of -cycle: two modules that need each other.
//
// Depmod refuses such a tree, but a module may ask for another one while it comes up, as
// the kernel's request_module lets it, and no list shows that. Here a load makes the
// loads of the modules that its own needs, and waits for them.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/seed342dcb2d/coalesce"
)

const (
	// cycleDep is the modules.dep of the demonstration.
	cycleDep = "a.ko: b.ko\nb.ko: a.ko\n"

	// cycleSize is the size of each of its files.
	cycleSize = 64 << 10

	// cycleFirst is the module that the worker asks for.
	cycleFirst = "b.ko"

	// cyclePatience is the time after which loads that wait for each other are freed. A
	// load that does not hang takes a hundredth of it.
	cyclePatience = 250 * time.Millisecond

	// cycleLimit bounds a load whose policy sees its context.
	cycleLimit = 10 * time.Second

	// cycleDepth is the number of loads that may run inside one another.
	cycleDepth = 64
)

// The ends of a load of a cycle.
const (
	cycleEndless  = "endless"  // each load makes another one
	cycleBusy     = "busy"     // a load was refused because of another
	cycleHung     = "hung"     // all wait for each other
	cycleReported = "reported" // a load was refused because of the cycle
	cycleFailed   = "failed"   // otherwise
)

var (
	// errEndless ends the policy none.
	errEndless = errors.New("loads inside one another without end")
	// errHung frees those that wait under the policy seed.
	errHung = errors.New("hung: each load waits for the other")
	// errCycleLimit ends a load that should not hang.
	errCycleLimit = fmt.Errorf("no answer in %v", cycleLimit)
)

// cycleOutcomes has the known outcome of a cycle under each policy.
var cycleOutcomes = map[string]string{
	"none": cycleEndless, "etxtbsy": cycleBusy, "seed": cycleHung, "coalesce": cycleReported,
}

// A cycleReport is the outcome of the demonstration.
type cycleReport struct {
	Storm    string        `json:"storm"`
	Needs    [][2]string   `json:"needs"` // the first needs the second
	Patience float64       `json:"patience_seconds"`
	Results  []cycleResult `json:"results"`
}

// A cycleResult is the result of the load under one policy.
type cycleResult struct {
	Policy      string   `json:"policy"`
	Outcome     string   `json:"outcome"`
	Cycle       []string `json:"cycle,omitempty"` // if reported: each needs the next
	Loads       int64    `json:"loads"`           // files read
	LiveModules int      `json:"live_modules"`
	WallSeconds float64  `json:"wall_seconds"`
	Error       string   `json:"error"` // the error of the worker
}

// executeCycle makes the files and loads one of them under each policy.
func executeCycle(ctx context.Context, opts options) (rep cycleReport, err error) {
	dir, err := os.MkdirTemp("", "bootstorm-")
	if err != nil {
		return rep, fmt.Errorf("cannot make a directory for the modules: %w", err)
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("cannot remove the modules: %w", rmErr))
		}
	}()
	set, err := writeCycle(ctx, dir)
	if err != nil {
		return rep, err
	}
	rep = cycleReport{Storm: "cycle", Patience: cyclePatience.Seconds()}
	for i := range set.modules {
		m := &set.modules[i]
		for _, p := range m.prereqs {
			rep.Needs = append(rep.Needs, [2]string{m.path, set.modules[p].path})
		}
	}
	for _, name := range opts.policies {
		res := set.loadCycle(ctx, name)
		if ctx.Err() != nil {
			return rep, context.Cause(ctx)
		}
		rep.Results = append(rep.Results, res)
	}
	return rep, nil
}

// writeCycle writes the tree of the demonstration to dir, and reads it. It is not linked
// as others are: link refuses such a cycle.
func writeCycle(ctx context.Context, dir string) (*moduleSet, error) {
	name := filepath.Join(dir, depFile)
	if err := os.WriteFile(name, []byte(cycleDep), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the modules: %w", err)
	}
	text, err := readRegular(ctx, name, maxDep)
	if err != nil {
		return nil, err
	}
	entries, err := parseDep(name, string(text))
	if err != nil {
		return nil, err
	}
	set := &moduleSet{root: dir, byPath: make(map[string]int)}
	var all []int
	for i, e := range entries {
		set.byPath[e.path] = i
		set.modules = append(set.modules, module{path: e.path, name: moduleName(e.path), size: cycleSize})
		all = append(all, i)
	}
	for i, e := range entries {
		for _, p := range e.prereqs {
			set.modules[i].prereqs = append(set.modules[i].prereqs, set.byPath[p])
		}
	}
	if err := set.writeFiles(ctx, all, nil); err != nil {
		return nil, err
	}
	return set, set.inspectFiles(ctx, all, nil)
}

// loadCycle loads cycleFirst under the policy of the given name.
func (s *moduleSet) loadCycle(ctx context.Context, name string) cycleResult {
	ctx, stop := context.WithTimeoutCause(ctx, cycleLimit, errCycleLimit)
	defer stop()
	l := &cycleLoader{set: s, policy: newNestedPolicy(name)}
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- l.load(ctx, &s.modules[s.byPath[cycleFirst]], 1) }()

	patience := time.NewTicker(cyclePatience)
	defer patience.Stop()
	var err error
	for waits := true; waits; {
		select {
		case err = <-done:
			waits = false
		case <-patience.C:
			l.policy.free(s)
		}
	}
	res := cycleResult{
		Policy: name, Outcome: cycleFailed, Loads: l.loads.Load(), LiveModules: l.live.len(),
		WallSeconds: time.Since(begin).Seconds(),
	}
	if err == nil {
		return res
	}
	res.Error = err.Error()
	var cycle *coalesce.DeadlockError
	switch {
	case errors.As(err, &cycle):
		res.Outcome, res.Cycle = cycleReported, s.pathsOf(cycle.Keys)
		// The keys are identities of files; people know them by their paths.
		res.Error = strings.Replace(res.Error, cycle.Error(),
			coalesce.ErrDeadlock.Error()+": "+arrows(res.Cycle), 1)
	case errors.Is(err, errEndless):
		res.Outcome = cycleEndless
	case errors.Is(err, errBusy):
		res.Outcome = cycleBusy
	case errors.Is(err, errHung):
		res.Outcome = cycleHung
	}
	return res
}

// pathsOf returns the paths of the files with the given identities.
func (s *moduleSet) pathsOf(ids []any) (paths []string) {
	for _, id := range ids {
		i := slices.IndexFunc(s.modules, func(m module) bool { return id == any(m.id) })
		if i < 0 {
			paths = append(paths, fmt.Sprint(id))
		} else {
			paths = append(paths, s.modules[i].path)
		}
	}
	return paths
}

// arrows returns the paths as a cycle is written.
func arrows(paths []string) string { return strings.Join(paths, " → ") }

// A cycleLoader loads modules, and the modules that they need while they come up.
type cycleLoader struct {
	set    *moduleSet
	policy nestedPolicy
	live   registry
	loads  atomic.Int64
}

// load makes m live. ctx is that of the load that needs it.
func (l *cycleLoader) load(ctx context.Context, m *module, depth int) error {
	if l.live.has(m.name) {
		return nil
	}
	f, size, id, err := openModule(l.set.file(m))
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := l.policy.load(ctx, id, func(ctx context.Context) (image, error) {
		l.loads.Add(1)
		buf := make([]byte, size)
		if _, err := readFull(ctx, f, buf); err != nil {
			return image{}, err
		}
		img := image{size: size, digest: xxhash.Sum64(buf)}
		if depth == cycleDepth {
			return img, errEndless
		}
		for _, p := range m.prereqs {
			// With the context of this load, not that of the first worker.
			if err := l.load(ctx, &l.set.modules[p], depth+1); err != nil {
				return img, err
			}
		}
		return img, l.live.publish(m.name)
	})
	if err != nil {
		if depth > 2 && errors.Is(err, errEndless) {
			return err // it is long enough
		}
		return fmt.Errorf("%s: %w", m.path, err)
	}
	return m.verify(img)
}

// A nestedPolicy is a policy for loads that make others.
type nestedPolicy interface {
	// load is as in policy. ctx is that of the load which makes this one, and
	// fn is given that of its own.
	load(ctx context.Context, id fileID, fn func(context.Context) (image, error)) (image, error)

	// free frees the loads that wait for each other, if that can happen.
	free(s *moduleSet)
}

// newNestedPolicy returns a fresh policy of that name.
func newNestedPolicy(name string) nestedPolicy {
	if name == "coalesce" {
		return new(seeing)
	}
	return blind{newPolicy(name)}
}

// blind is a policy that does not see who makes a load.
type blind struct{ policy }

func (p blind) load(ctx context.Context, id fileID, fn func(context.Context) (image, error)) (image, error) {
	return p.policy.load(id, func() (image, error) { return fn(ctx) })
}

func (p blind) free(s *moduleSet) {
	if t, ok := p.policy.(*seedTable); ok {
		for i := range s.modules {
			t.finish(&idempotent{cookie: s.modules[i].id}, image{}, errHung)
		}
	}
}

// seeing is the policy coalesce for loads that make others: each is given the
// context of its flight, and by that the group sees who waits for whom.
type seeing struct {
	group coalesce.Group[fileID, image]
}

func (p *seeing) load(ctx context.Context, id fileID, fn func(context.Context) (image, error)) (image, error) {
	img, _, err := p.group.DoContext(ctx, id, fn)
	return img, err
}

func (*seeing) free(*moduleSet) {}

// problems returns the results that differ from the known outcomes of their policies.
func (rep cycleReport) problems() (problems []string) {
	for _, r := range rep.Results {
		want := cycleOutcomes[r.Policy]
		if r.Outcome != want {
			problems = append(problems, fmt.Sprintf("%s: the cycle is %s instead of %s: %s",
				r.Policy, r.Outcome, want, r.Error))
		}
		if r.LiveModules != 0 {
			problems = append(problems, fmt.Sprintf("%s: %d modules are live, though none can be first",
				r.Policy, r.LiveModules))
		}
	}
	return problems
}

// write writes the report to w, at once.
func (rep cycleReport) write(w io.Writer, asJSON bool) error {
	return writeReport(w, rep, asJSON, rep.writeText)
}

// writeText writes the table and its explanation.
func (rep cycleReport) writeText(b *bytes.Buffer) {
	var needs []string
	for _, n := range rep.Needs {
		needs = append(needs, n[0]+" needs "+n[1])
	}
	fmt.Fprintf(b, "Two modules that need each other: %s. A worker loads %s.\n\n",
		strings.Join(needs, ", "), cycleFirst)
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "policy\toutcome\tfiles read\tlive\twall")
	for _, r := range rep.Results {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d/%d\t%s\n",
			r.Policy, r.Outcome, r.Loads, r.LiveModules, len(rep.Needs), wallText(r.WallSeconds))
	}
	_ = tw.Flush() // a bytes.Buffer takes everything
	b.WriteByte('\n')
	for _, r := range rep.Results {
		fmt.Fprintf(b, "%s: %s\n", r.Policy, rep.explain(r))
	}
}

// explain describes in a sentence or two the result of the load.
func (rep cycleReport) explain(r cycleResult) string {
	switch r.Outcome {
	case cycleEndless:
		return fmt.Sprintf("each load made another one; stopped when %d ran inside one another.", r.Loads)
	case cycleBusy:
		return "the worker was sent away (" + r.Error + "). That would never have helped."
	case cycleHung:
		return fmt.Sprintf("each load waited for the other, forever; the demonstration freed them after %v.",
			seconds(rep.Patience))
	case cycleReported:
		return "the cycle was reported instead of entered: " + arrows(r.Cycle) + ".\n" +
			"    The worker got: " + r.Error + "\n" +
			"    (Group.DoContext, given the context of the load that needs the file; Group.Do has\n" +
			"    no context to show it, and would hang like the seed.)"
	}
	return "the worker got: " + r.Error
}
