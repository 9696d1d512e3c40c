package main

import "github.com/seed342dcb2d/coalesce/benchmarks"

// This file holds the goals of package coalesce, and the comparisons of a README.
// Allocations are no goals here, because tests hold them.

// fastestCorrect stands for the peer that is fastest in a workload among those
// that gave no wrong results in it.
const fastestCorrect = "fastest correct peer"

// A goal says that coalesce takes at most so much in proportion to another.
type goal struct {
	workload string
	unit     string
	against  string  // an implementation, or fastestCorrect
	versus   string  // the workload that against does, if it is another one
	most     float64 // the ratio of the medians

	// limit names, for a goal that is missed, the causes of the time. This command does
	// not measure them.
	limit string
}

var goals = []goal{
	{workload: "work=serial/keys=string16", unit: "ns/op", against: benchmarks.XSync, most: 0.22},
	{workload: "work=serial/keys=string16", unit: "ns/op", against: "floor-locks", most: 1.4, limit: limitSerial},
	{workload: "work=parallel/keys=string16", unit: "ns/op", against: benchmarks.XSync, most: 0.13},
	{workload: "work=hot/keys=1/fn=yield", unit: "ns/op", against: fastestCorrect, most: 0.80, limit: limitYield},
	{workload: "work=hot/keys=1", unit: "ns/op", against: fastestCorrect, most: 0.80},
	{workload: "work=cancellable/keys=string16", unit: "ns/op", against: benchmarks.Resenje, most: 0.95},
	{workload: "work=cancellable/keys=string16", unit: "ns/op", against: benchmarks.XSync, most: 1.10},
	{workload: "work=cancellable/keys=string16", unit: "ns/op", against: "floor-cancellable", most: 1.7, limit: limitCancellable},
	{workload: "work=cancellable/keys=string16/fn=yield", unit: "ns/op", against: benchmarks.XSync, most: 1.05},
	{workload: "work=cancel-storm/keys=1/waiters=10000", unit: "ns/last-return", against: benchmarks.XSync, most: 1.15},
	{workload: "work=fan-in/keys=1/waiters=10000", unit: "ns/leader-return", against: benchmarks.XSync, most: 0.005},
	{
		workload: "work=fan-in/keys=1/waiters=10000", unit: "ns/leader-return",
		against: benchmarks.Coalesce, versus: "work=fan-in/keys=1/waiters=100", most: 3,
	},
	{workload: "work=fan-in/keys=1/waiters=10000", unit: "ns/last-return", against: "floor-close", most: 1.15, limit: limitLast},
	{workload: "work=fan-in/keys=1/waiters=10000", unit: "ns/last-return", against: benchmarks.Samber, most: 1.15},
	{workload: "work=fan-in/keys=1/waiters=100000", unit: "ns/last-return", against: "floor-close", most: 1.0, limit: limitLast},
	{workload: "work=fan-in/keys=1/waiters=100000", unit: "ns/last-return", against: fastestCorrect, most: 0.9},
	{workload: "work=stop-the-world/keys=1/waiters=100000", unit: "ns/stop", against: "floor-close", most: 0.05},
	{workload: "work=zipf/keys=1000000/goroutines=10000", unit: "ns/op", against: fastestCorrect, most: 0.60, limit: limitZipf},
	{workload: "work=hot/keys=1/fn=yield/procs=4", unit: "ns/op", against: benchmarks.XSync, most: 1.0, limit: limitYield},
	{workload: "work=hot/keys=1/fn=yield/procs=16", unit: "ns/op", against: benchmarks.XSync, most: 1.0, limit: limitYield},
	{workload: "work=first/keys=1/procs=2", unit: "ns/op", against: benchmarks.XSync, most: 2},
	{workload: "work=multi/keys=100", unit: "ns/op", against: benchmarks.Samber, most: 0.60, limit: limitMulti},
	{workload: "work=linger/keys=string16", unit: "ns/op", against: benchmarks.Otter, most: 0.85},
	{workload: "work=in-flight/keys=1000000", unit: "ns/call", against: benchmarks.XSync, most: 0.50},
	{workload: "work=in-flight/keys=1000000", unit: "B/key", against: benchmarks.XSync, most: 0.80},
}

// The limits.
const (
	limitSerial = "beside the hash and the locks, a call enters its key in the shard and clears it again (3 ns)," +
		" defers the function that finishes the flight if fn panics or exits (3 ns), and is generic, so that each step" +
		" goes through a dictionary (2 to 4 ns). A version for strings that has the first two and nothing else took" +
		" 22.5 ns beside a floor of 16.3."
	limitYield = "all goroutines of both Ps meet on one lock, for each call twice. x/sync wakes its waiters while it holds its" +
		" lock, and they then run in turns, most of them on one P; a map looks up without a lock. Here the waiters are woken" +
		" after the unlock (G16), and both Ps take part, at the price of the cache lines that travel between them."
	limitCancellable = "the floor is a channel, a goroutine and a select, and a flight that others can join while its leader" +
		" leaves adds a record, two locks and a clock. A leader that lets fn run before it parks needs neither channel nor" +
		" select where fn is quick, and took 1.06 of the floor; but where goroutines compute, it waited for its turn among" +
		" them (TestG4_LeaderInACrowd)."
	limitLast = "a follower comes back through three functions, whose frames are no longer in a cache where thousands wait;" +
		" that of a bare channel through one. With a million waiters the pauses between the blocks weigh more."
	limitMulti = "fn runs on a goroutine of its own, so that the callers can leave. In a process that does nothing else the heap" +
		" is small, the collector runs all the time, and the second goroutine is woken on another P. If the two take turns in" +
		" one process, DoMulti takes 0.48 to 0.54 (`go test -run Multi_Beside -v .` in `benchmarks/`)."
	limitZipf = "two thirds of the calls run fn, and with the keys, the pages and the checks that takes what floor-fn does;" +
		" a third follow, and to park one of ten thousand goroutines and to wake it costs the same with any package."
)

// readme holds the comparisons of a README. The bounds do not matter there.
var readme = []goal{
	{workload: "work=serial/keys=string16", unit: "ns/op", against: benchmarks.XSync},
	{workload: "work=hot/keys=1", unit: "ns/op", against: benchmarks.XSync},
	{workload: "work=cancellable/keys=string16", unit: "ns/op", against: benchmarks.Resenje},
	{workload: "work=fan-in/keys=1/waiters=10000", unit: "ns/leader-return", against: benchmarks.XSync},
	{workload: "work=multi/keys=100", unit: "ns/op", against: benchmarks.Samber},
}

// An outcome is the result of a goal.
type outcome struct {
	goal
	state   state
	peer    *impl // the peer that was fastestCorrect; nil if not measured
	measure comparison
}

// A state is how a goal stands.
type state int

const (
	notMeasured  state = iota
	wrongResults       // coalesce's own
	reached
	missed
)

// outcome returns the outcome of g.
func (d *data) outcome(g goal) outcome {
	o := outcome{goal: g}
	w := d.workload(g.workload)
	versus := w
	if g.versus != "" {
		versus = d.workload(g.versus)
	}
	if w == nil || versus == nil {
		return o
	}
	if g.against == fastestCorrect {
		o.peer = versus.fastestCorrect(g.unit)
	} else {
		o.peer = versus.impl(g.against)
	}
	ours := w.impl(benchmarks.Coalesce)
	c, ok := compare(ours, o.peer, g.unit)
	o.measure = c
	switch {
	case !ok:
		o.peer = nil
	case ours.wrong():
		o.state = wrongResults
	case c.ratio <= g.most:
		o.state = reached
	default:
		o.state = missed
	}
	return o
}
