package benchmarks

import (
	"sync/atomic"
	"testing"
)

// This file finds stale results: those of an execution that was over before the call
// began. An execution is over, at the latest, when a call has returned its result. That
// is also the earliest moment that can be observed from outside: a call that begins when
// fn has just returned, before the group knows of it, may rightly join, as every
// implementation lets it.

// A clock orders the calls for one key: it advances when an execution is over.
// A call reads it when it begins, and an execution that was over by then must
// not answer it. Each execution has to return a page of its own.
type clock struct{ atomic.Int64 }

// stale notes that a call which began at the time began on the clock has returned p. It
// reports whether p was stale.
func (c *clock) stale(p *page, began int64) bool {
	over := p.over.Load()
	if over == 0 {
		p.over.CompareAndSwap(0, c.Add(1))
		return false
	}
	return over <= began
}

// A tally counts, on one goroutine.
type tally struct {
	calls, executions, stale int
	_                        [104]byte // a pair of cache lines
}

// report reports the sums of several tallies.
func report(b *testing.B, tallies []tally) {
	var sum tally
	for i := range tallies {
		sum.calls += tallies[i].calls
		sum.executions += tallies[i].executions
		sum.stale += tallies[i].stale
	}
	b.ReportMetric(float64(sum.stale)/float64(sum.calls), stalePerOp)
	b.ReportMetric(float64(sum.executions)/float64(sum.calls), fnPerOp)
}

// work is the work of fn where it has to do something: calculations that take some 100
// ns. It returns a new page.
func work() *page {
	x := uint64(1)
	for range 64 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return &page{body: x}
}
