package main

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file holds the measurements in the form in which they are compared, and the
// statistics.

// stale is the metric of the calls that were answered by an execution that was
// over before the call began. An implementation with any is wrong.
const stale = "stale/op"

// executions is the metric of the executions for each call.
const executions = "fn/op"

// floorPrefix begins the names of the floors.
const floorPrefix = "floor-"

// A data is everything that there is to draw.
type data struct {
	conditions conditions
	sessions   []session
	workloads  []workload // those with results, in the order of the benchmarks
	results    []result
	unknown    []string // workloads with results that there are not any more, sorted
}

// A workload is one with results.
type workload struct {
	benchmarks.Workload
	impls []impl // those with results, in the order of Runs
}

// An impl is an implementation of a workload, with its results by the round.
type impl struct {
	name    string
	floor   bool
	note    string
	results map[int]result
}

// newData sorts the results under the workloads. Those of a workload or an
// implementation that there is no longer are left out.
func newData(ws []benchmarks.Workload, sessions []session, results []result) *data {
	d := &data{conditions: sessions[0].Conditions, sessions: sessions, results: results}
	byImpl := map[implKey]map[int]result{}
	for _, r := range results {
		k := implKey{r.Workload, r.Impl}
		if byImpl[k] == nil {
			byImpl[k] = map[int]result{}
		}
		byImpl[k][r.Round] = r
	}
	for _, bw := range ws {
		w := workload{Workload: bw}
		for _, r := range bw.Runs {
			if rs := byImpl[implKey{bw.Name, r.Impl}]; rs != nil {
				w.impls = append(w.impls, impl{r.Impl, r.Floor, r.Note, rs})
			}
		}
		if len(w.impls) > 0 {
			d.workloads = append(d.workloads, w)
		}
	}
	for k := range byImpl {
		if d.workload(k.workload) == nil && !slices.Contains(d.unknown, k.workload) {
			d.unknown = append(d.unknown, k.workload)
		}
	}
	slices.Sort(d.unknown)
	return d
}

// workload returns the one of that name, nil if it has no results.
func (d *data) workload(name string) *workload {
	for i := range d.workloads {
		if d.workloads[i].Name == name {
			return &d.workloads[i]
		}
	}
	return nil
}

// impl returns the one of that name, nil if it has no results.
func (w *workload) impl(name string) *impl {
	for i := range w.impls {
		if w.impls[i].name == name {
			return &w.impls[i]
		}
	}
	return nil
}

// base returns the implementation that the others are compared with in a table: x/sync,
// or else the first floor, or else the first of all.
func (w *workload) base() *impl {
	if x := w.impl(benchmarks.XSync); x != nil {
		return x
	}
	for i := range w.impls {
		if w.impls[i].floor {
			return &w.impls[i]
		}
	}
	return &w.impls[0]
}

// fastestCorrect returns the peer with the least median that gave no wrong
// results, nil if there is none.
func (w *workload) fastestCorrect(unit string) *impl {
	var best *impl
	least := math.Inf(1)
	for i := range w.impls {
		p := &w.impls[i]
		if p.name == benchmarks.Coalesce || p.floor || p.wrong() {
			continue
		}
		if m, ok := p.median(unit); ok && m < least {
			best, least = p, m
		}
	}
	return best
}

// rounds returns the number of rounds in which w has been measured, at most.
func (w *workload) rounds() int {
	n := 0
	for _, p := range w.impls {
		n = max(n, len(p.results))
	}
	return n
}

// values returns the measurements in that unit, by the round.
func (p *impl) values(unit string) map[int]float64 {
	vs := map[int]float64{}
	for round, r := range p.results {
		if v, ok := r.Metrics[unit]; ok {
			vs[round] = v
		}
	}
	return vs
}

// median returns false if nothing was measured in that unit.
func (p *impl) median(unit string) (float64, bool) {
	return quantile(sorted(p.values(unit)), 0.5)
}

// staleness returns the mean of the stale answers for each call, and in how
// many rounds there were some.
func (p *impl) staleness() (each float64, rounds int) {
	vs := sorted(p.values(stale)) // for the same sum each time
	for _, v := range vs {
		each += v / float64(len(vs))
		if v > 0 {
			rounds++
		}
	}
	return each, rounds
}

// wrong reports whether p gave stale answers.
func (p *impl) wrong() bool {
	_, rounds := p.staleness()
	return rounds > 0
}

// A comparison is the cost of one implementation in proportion to another.
type comparison struct {
	ours, theirs float64 // medians
	ratio        float64 // of the medians

	// low and high are the quartiles of the ratios within one round, and
	// rounds how many rounds there are with both.
	low, high float64
	rounds    int
}

// compare compares the measurements of a and of b, which may be those of different
// workloads. It returns false if either was not measured, or there is no ratio.
func compare(a, b *impl, unit string) (c comparison, ok bool) {
	if a == nil || b == nil {
		return c, false
	}
	ours, theirs := a.values(unit), b.values(unit)
	var okA, okB bool
	c.ours, okA = quantile(sorted(ours), 0.5)
	c.theirs, okB = quantile(sorted(theirs), 0.5)
	c.ratio = c.ours / c.theirs
	if !okA || !okB || !isRatio(c.ratio) {
		return c, false
	}
	ratios := map[int]float64{}
	for round, v := range ours {
		if r := v / theirs[round]; isRatio(r) { // not if the round has none of theirs
			ratios[round] = r
		}
	}
	c.rounds = len(ratios)
	rs := sorted(ratios)
	c.low, _ = quantile(rs, 0.25)
	c.high, _ = quantile(rs, 0.75)
	return c, true
}

// isRatio is false for the results of a division by zero.
func isRatio(r float64) bool {
	return !math.IsInf(r, 0) && !math.IsNaN(r)
}

// sorted returns the values of m in their order.
func sorted(m map[int]float64) []float64 {
	vs := make([]float64, 0, len(m))
	for _, v := range m {
		vs = append(vs, v)
	}
	slices.Sort(vs)
	return vs
}

// quantile returns the value below which the part q of the sorted vs lies, with
// linear interpolation. It returns false if there are none.
func quantile(vs []float64, q float64) (float64, bool) {
	if len(vs) == 0 {
		return 0, false
	}
	at := q * float64(len(vs)-1)
	i := int(at)
	if i+1 == len(vs) {
		return vs[i], true
	}
	return vs[i] + (at-float64(i))*(vs[i+1]-vs[i]), true
}

// implNames returns the names of all implementations with results, coalesce
// first, then the peers, then the floors.
func (d *data) implNames() []string {
	var names []string
	for _, w := range d.workloads {
		for _, p := range w.impls {
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}
	rank := func(name string) int {
		switch {
		case name == benchmarks.Coalesce:
			return 0
		case strings.HasPrefix(name, floorPrefix):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return names
}

// seconds returns the time that all measurements took.
func (d *data) seconds() float64 {
	sum := 0.0
	for _, r := range d.results {
		sum += r.Seconds
	}
	return sum
}
