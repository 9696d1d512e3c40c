package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file decides the order of the runs.

// heavyRounds bounds the rounds of heavy workloads, and quickHeavyRounds those
// in the quick set, in which they would take the time of the others.
const (
	heavyRounds      = 5
	quickHeavyRounds = 2
)

// quickBenchtime returns how long a single run of the quick set is to take. It
// depends on nothing but the set, for the results of one file have one. It
// leaves time for some five rounds, if a run takes two and a half times as long
// as asked for: package testing finds out how many operations to make.
func quickBenchtime(workloads []benchmarks.Workload) time.Duration {
	runs := 0
	for _, w := range workloads {
		if w.Quick && !w.Heavy {
			runs += len(w.Runs)
		}
	}
	each := quickBudget * 2 / 5 / 5 / time.Duration(max(runs, 1))
	return min(max(each.Truncate(10*time.Millisecond), 10*time.Millisecond), 100*time.Millisecond)
}

// A campaign is the set of all measurements, and their state.
type campaign struct {
	workloads []benchmarks.Workload
	rounds    int
	benchtime string
	budget    time.Duration // 0: no limit
	journal   *journal
	measure   measureFunc
	progress  *progress
	now       func() time.Time

	done     map[runKey]bool
	spent    spending
	failed   map[implKey]bool
	failures []error
	timeUp   bool // there were rounds that did not fit into the budget
}

// An implKey is an implementation of a workload.
type implKey struct{ workload, impl string }

// A runKey is one of its runs.
type runKey struct {
	implKey
	round int
}

// roundsOf returns the number of rounds in which w is measured.
func (c *campaign) roundsOf(w benchmarks.Workload) int {
	switch {
	case !w.Heavy:
		return c.rounds
	case c.budget > 0:
		return min(c.rounds, quickHeavyRounds)
	}
	return min(c.rounds, heavyRounds)
}

// run makes the measurements that the journal does not have. It returns an error only if
// it could not go on: if the journal could not be written, or ctx ended. Workloads that
// failed are in c.failures.
func (c *campaign) run(ctx context.Context) error {
	c.done, c.failed = map[runKey]bool{}, map[implKey]bool{}
	c.spent = newSpending()
	for _, r := range c.journal.results {
		c.done[runKey{implKey{r.Workload, r.Impl}, r.Round}] = true
		c.spent.add(r)
	}
	for round := 1; round <= c.rounds; round++ {
		for _, w := range c.workloads {
			if round > c.roundsOf(w) {
				continue
			}
			if err := c.runRound(ctx, w, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// runRound makes the missing measurements of one round of w. In each round another
// implementation begins.
func (c *campaign) runRound(ctx context.Context, w benchmarks.Workload, round int) error {
	var missing []benchmarks.Run
	var costs time.Duration
	for i := range w.Runs {
		r := w.Runs[(i+round-1)%len(w.Runs)]
		k := implKey{w.Name, r.Impl}
		if !c.done[runKey{k, round}] && !c.failed[k] {
			missing = append(missing, r)
			costs += c.spent.estimate(w, r.Impl)
		}
	}
	if c.budget > 0 && len(missing) > 0 && c.spent.total+costs > c.budget {
		c.timeUp = true
		return nil
	}
	for _, r := range missing {
		c.progress.show(fmt.Sprintf("round %d of %d, %s left: %s %s", round, c.roundsOf(w), formatLeft(c.left()),
			shortName(w.Name), r.Impl))
		if err := c.runOne(ctx, w, r, round); err != nil {
			return err
		}
	}
	return nil
}

// runOne makes a single run.
func (c *campaign) runOne(ctx context.Context, w benchmarks.Workload, r benchmarks.Run, round int) error {
	k := implKey{w.Name, r.Impl}
	began := c.now()
	m, err := c.measure(ctx, spec{Workload: w.Name, Impl: r.Impl, Benchtime: c.benchtime, Procs: w.Procs})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		c.failed[k] = true
		c.failures = append(c.failures, fmt.Errorf("%s, %s, round %d: %w", w.Name, r.Impl, round, err))
		return nil
	}
	res := result{
		Workload: w.Name, Impl: r.Impl, Round: round, N: m.N, Metrics: m.Metrics,
		Seconds: float64(c.now().Sub(began).Milliseconds()) / 1000,
		At:      c.now().UTC().Truncate(time.Second),
	}
	if err := c.journal.add(res); err != nil {
		return err
	}
	c.done[runKey{k, round}] = true
	c.spent.add(res)
	return nil
}

// left estimates the time that all remaining runs will take.
func (c *campaign) left() time.Duration {
	var sum time.Duration
	for _, w := range c.workloads {
		for _, r := range w.Runs {
			k := implKey{w.Name, r.Impl}
			if c.failed[k] {
				continue
			}
			n := 0
			for round := 1; round <= c.roundsOf(w); round++ {
				if !c.done[runKey{k, round}] {
					n++
				}
			}
			sum += time.Duration(n) * c.spent.estimate(w, r.Impl)
		}
	}
	if c.budget > 0 {
		sum = min(sum, max(c.budget-c.spent.total, 0))
	}
	return sum
}

// spending is the time that runs have taken, and so an estimate for more of them.
type spending struct {
	total      time.Duration
	byImpl     map[implKey]mean
	byWorkload map[string]mean
	any        mean
}

// A mean is that of n durations.
type mean struct {
	sum time.Duration
	n   int
}

func (m mean) plus(d time.Duration) mean { return mean{m.sum + d, m.n + 1} }
func (m mean) value() time.Duration      { return m.sum / time.Duration(m.n) }

func newSpending() spending {
	return spending{byImpl: map[implKey]mean{}, byWorkload: map[string]mean{}}
}

func (s *spending) add(r result) {
	d := time.Duration(r.Seconds * float64(time.Second))
	k := implKey{r.Workload, r.Impl}
	s.total += d
	s.byImpl[k] = s.byImpl[k].plus(d)
	s.byWorkload[r.Workload] = s.byWorkload[r.Workload].plus(d)
	s.any = s.any.plus(d)
}

// estimate returns the time that a run will probably take: that of those before it, or
// else that of other runs of the workload, or else that of any run.
func (s *spending) estimate(w benchmarks.Workload, impl string) time.Duration {
	for _, m := range []mean{s.byImpl[implKey{w.Name, impl}], s.byWorkload[w.Name], s.any} {
		if m.n > 0 {
			return m.value()
		}
	}
	return time.Second
}
