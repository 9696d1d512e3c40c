// Package benchmarks measures package coalesce beside other packages that
// coalesce calls, doing the same work in the same run.
//
// The workloads are defined once, in [Workloads], and used twice: by go test
// -bench, and by the command that writes the report.
package benchmarks

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// A Workload is one task that several implementations do.
type Workload struct {
	// Name is the middle of the benchmarks' names, "work=…/keys=…[/more=…]".
	Name string

	// Title names it for a reader of the table, in Markdown.
	Title string

	// Without says which implementations are left out, and why, if any are: a sentence.
	Without string

	// Units are the units of the comparison, the main one first: "ns/op", or metrics of
	// the workload's own. Less is better, of each of them.
	Units []string

	// Quick is set if the workload belongs to the quick set.
	Quick bool

	// Heavy is set if a run takes seconds and is its own average, so that a few of them
	// are enough.
	Heavy bool

	// Worst is set if a run reports its worst case, which differs too much from run to
	// run to be drawn. It is in the tables only.
	Worst bool

	// Procs is the GOMAXPROCS that the runs set for themselves. 0 means that
	// they leave it as it is.
	Procs int

	// Series is common to the points of a chart: workloads with the same Series differ in
	// X only. Workloads without one are not drawn.
	Series string
	X      float64
	XLabel string

	// Runs holds the implementations: coalesce first, then the peers, and the
	// floors last.
	Runs []Run
}

// A Run is one implementation doing one workload.
//
// A run looks for wrong results where there can be any, and reports them as
// "stale/op": the share of the calls that were answered by an execution which
// was over before the call began. Executions for each call are "fn/op".
type Run struct {
	Impl  string
	Floor bool   // not an implementation, but the least that any needs
	Note  string // the reason why the comparison is unfair, if it is
	Bench func(b *testing.B)
}

// The units of the metrics. Those with "ns/op" are testing's own.
const (
	nsPerOp          = "ns/op"
	nsPerCall        = "ns/call"
	stalePerOp       = "stale/op"
	fnPerOp          = "fn/op"
	leaderReturnUnit = "ns/leader-return"
	firstReturnUnit  = "ns/first-return"
	lastReturnUnit   = "ns/last-return"
	bytesPerWaiter   = "B/waiter"
	stackPerWaiter   = "B/waiter-stack"
	bytesPerKey      = "B/key"
	bytesPerGroup    = "B/group"
	bytesPerCall     = "B/call"
	stopUnit         = "ns/stop"
	p99Unit          = "ns/p99"
)

// Workloads returns all workloads that this machine has the memory for, smaller
// ones if short is set.
func Workloads(short bool) []Workload {
	all, _ := workloads(sizesFor(short), availableMemory())
	return all
}

// LeftOut returns the workloads that Workloads leaves out because the machine has too
// little memory: a line for each, with its name and the reason.
func LeftOut(short bool) []string {
	_, out := workloads(sizesFor(short), availableMemory())
	return out
}

// workloads returns the workloads of the given sizes, and those that need more than
// memory.
func workloads(s sizes, memory uint64) (all []Workload, out []string) {
	all = slices.Concat(
		serialWorkloads(),
		firstWorkloads(s),
		parallelWorkloads(s),
		hotWorkloads(s),
		zipfWorkloads(s),
		cancellableWorkloads(s),
		fanInWorkloads(s),
		stopWorkloads(s),
		bystandersWorkloads(s),
		inFlightWorkloads(s),
		leaveWorkloads(s),
		cancelStormWorkloads(s),
		multiWorkloads(),
		lingerWorkloads(),
	)
	return slices.DeleteFunc(all, func(w Workload) bool {
		need := needs(w)
		if memory >= need {
			return false
		}
		out = append(out, fmt.Sprintf("%s: needs %.1f GiB of memory, %.1f GiB are available",
			w.Name, gib(need), gib(memory)))
		return true
	}), out
}

// onProcs returns a copy of w for each of the given GOMAXPROCS, which its runs
// set for as long as they last.
func onProcs(w Workload, procs []int) []Workload {
	var all []Workload
	for _, n := range procs {
		v := w
		v.Name = fmt.Sprintf("%s/procs=%d", w.Name, n)
		v.Title = fmt.Sprintf("%s, GOMAXPROCS %d", w.Title, n)
		v.Quick = false
		v.Procs = n
		v.Series, v.X, v.XLabel = w.Name, float64(n), "GOMAXPROCS"
		v.Runs = slices.Clone(w.Runs)
		for i := range v.Runs {
			bench := w.Runs[i].Bench
			v.Runs[i].Bench = func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
				bench(b)
			}
		}
		all = append(all, v)
	}
	return all
}

// grouped writes n with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
