package benchmarks

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
)

// This file holds the workload in which all calls are for one key all the time.

// hotGoroutines is the number of goroutines for each P.
const hotGoroutines = 8

func hotWorkloads(s sizes) []Workload {
	workload := func(name, title string, bench func(b *testing.B, do call[string])) Workload {
		return Workload{
			Name:  "work=hot/keys=1" + name,
			Title: "`Do`, 8 goroutines for each P, one hot key, " + title,
			Units: []string{nsPerOp},
			Runs:  withFloorFn(bench),
		}
	}
	busy := workload("", "a short fn", func(b *testing.B, do call[string]) { hot(b, do, false) })
	yields := workload("/fn=yield", "a short fn that yields", func(b *testing.B, do call[string]) { hot(b, do, true) })
	yields.Quick = true
	return slices.Concat([]Workload{busy, yields}, onProcs(busy, s.procs), onProcs(yields, s.yieldProcs))
}

// hot makes calls for one key, and counts the stale results. An fn that yields lets the
// others come while it runs, even with few Ps.
func hot(b *testing.B, do call[string], yield bool) {
	const key = "key-00-000000000"
	var (
		now     clock
		tallies = make([]tally, hotGoroutines*runtime.GOMAXPROCS(0))
		taken   atomic.Int64
	)
	b.ReportAllocs()
	b.SetParallelism(hotGoroutines)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		n := &tallies[taken.Add(1)-1]
		t := &task{fn: func() (*page, error) {
			n.executions++
			p := work()
			if yield {
				runtime.Gosched()
			}
			return p, nil
		}}
		for pb.Next() {
			began := now.Load()
			p, err := do(key, t)
			if err != nil {
				b.Error(err)
				return
			}
			n.calls++
			if now.stale(p, began) {
				n.stale++
			}
		}
	})
	report(b, tallies)
}
