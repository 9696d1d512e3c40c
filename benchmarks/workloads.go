package benchmarks

import (
	"fmt"
	"testing"
)

// A Workload is one thing that several implementations are made to do.
type Workload struct {
	// Name is the middle of the benchmarks' names, "work=…/keys=…".
	Name string

	// Title says the same to a reader of the table.
	Title string

	// Units are what is compared: "ns/op", or metrics of the workload's own.
	Units []string

	// Heavy says that a run takes seconds and is its own average, so that
	// a few of them are enough.
	Heavy bool

	// Runs holds the implementations, coalesce first.
	Runs []Run
}

// A Run is one implementation doing one workload.
type Run struct {
	Impl  string
	Bench func(b *testing.B)
}

// Workloads returns all workloads, smaller ones if short is set.
func Workloads(short bool) []Workload {
	ns := []string{"ns/op"}
	all := []Workload{
		{
			Name:  "work=serial/keys=distinct",
			Title: "`Do`, one goroutine, distinct keys",
			Units: ns,
			Runs:  []Run{{Coalesce, serialCoalesce}, {XSync, serialXSync}, {Resenje, serialResenje}},
		},
		{
			Name:  "work=parallel/keys=distinct",
			Title: "`Do`, a goroutine on each P, distinct keys",
			Units: ns,
			Runs:  []Run{{Coalesce, parallelCoalesce}, {XSync, parallelXSync}, {Resenje, parallelResenje}},
		},
		{
			Name:  "work=cancellable/keys=distinct",
			Title: "`DoContext`, a context that can end, distinct keys",
			Units: ns,
			Runs:  []Run{{Coalesce, cancellableCoalesce}, {Resenje, cancellableResenje}},
		},
	}
	for _, n := range []int{10, 100, 10_000} {
		all = append(all, Workload{
			Name:  fmt.Sprintf("work=leader-return/keys=1/waiters=%d", n),
			Title: fmt.Sprintf("the leader's own return, %s waiters", grouped(n)),
			Units: []string{leaderReturnUnit},
			Runs: []Run{
				{Coalesce, func(b *testing.B) { leaderReturn(b, new(coalescePeer), n) }},
				{XSync, func(b *testing.B) { leaderReturn(b, new(xsyncPeer), n) }},
			},
		})
	}
	for _, n := range []int{100, 10_000} {
		all = append(all, Workload{
			Name:  fmt.Sprintf("work=fan-in/keys=1/waiters=%d", n),
			Title: fmt.Sprintf("the last waiter's return, %s waiters", grouped(n)),
			Units: []string{lastReturnUnit},
			Runs: []Run{
				{Coalesce, func(b *testing.B) { lastReturn(b, new(coalescePeer), n) }},
				{XSync, func(b *testing.B) { lastReturn(b, new(xsyncPeer), n) }},
				{Resenje, func(b *testing.B) { lastReturn(b, new(resenjePeer), n) }},
			},
		})
	}
	n := 1_000_000
	if short {
		n = 100_000
	}
	return append(all, Workload{
		Name:  fmt.Sprintf("work=in-flight/keys=%d", n),
		Title: fmt.Sprintf("%s distinct keys in flight at once", grouped(n)),
		Units: []string{inFlightTimeUnit, inFlightHeapUnit},
		Heavy: true,
		Runs: []Run{
			{Coalesce, func(b *testing.B) { inFlight(b, n, newNestCoalesce) }},
			{XSync, func(b *testing.B) { inFlight(b, n, newNestXSync) }},
		},
	})
}

// grouped writes n with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
