package benchmarks

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds the workload that measures whether keys disturb each other: calls for
// other keys while a key finishes that many wait for.

const (
	bystanderKeys = 64

	// bystanderBurst is the number of calls that a bystander makes before it sleeps for a
	// little. Otherwise the scheduler would preempt it, most likely in the middle of a
	// call, and let it wait behind all the waiters that have been woken.
	bystanderBurst = 50
	bystanderSleep = 20 * time.Microsecond

	// bystanderWarmup is the number of calls that a bystander has made before the flight
	// of the hot key ends, and bystanderCalls the most whose times are kept.
	bystanderWarmup = 100
	bystanderCalls  = 1 << 20
)

func bystandersWorkloads(s sizes) []Workload {
	bare := func(_ string, t *task) (*page, error) { return t.do() }
	return []Workload{{
		Name:  fmt.Sprintf("work=bystanders/keys=%d/waiters=%d", bystanderKeys, s.bystanders),
		Title: fmt.Sprintf("calls for %d other keys while %s of a hot one are woken", bystanderKeys, waiters(s.bystanders)),
		Units: []string{p99Unit},
		Heavy: true,
		Runs: append(
			doRuns(func(b *testing.B, do call[string]) { bystanders(b, do, do, s.bystanders) }),
			floorRun(floorClose, func(b *testing.B) { bystanders(b, newFloorClose(), bare, s.bystanders) }),
		),
	}}
}

// A bystander makes calls for its own keys and keeps the time of each.
type bystander struct {
	keys  []string
	tasks []task
	calls atomic.Int64
	took  []time.Duration
}

// stand makes calls until all waiters of the hot key have returned.
func (s *bystander) stand(do call[string], left *atomic.Int64) {
	for i := 0; left.Load() > 0; {
		t := time.Now()
		for range bystanderBurst {
			do(s.keys[i], &s.tasks[i])
			i = (i + 1) % len(s.keys)
			now := time.Now()
			d := now.Sub(t)
			t = now
			if len(s.took) < cap(s.took) {
				s.took = append(s.took, d)
			}
		}
		s.calls.Add(bystanderBurst)
		time.Sleep(bystanderSleep)
	}
}

// bystanders raises storms. Meanwhile a goroutine on each P but one, and at
// least one, makes calls with other: from a little before fn returns, until all
// waiters have.
func bystanders(b *testing.B, do, other call[string], n int) {
	all := make([]bystander, max(1, runtime.GOMAXPROCS(0)-1))
	keys, tasks := makeKeys(1, bystanderKeys), makeTasks(bystanderKeys)
	for i := range all {
		from, to := i*bystanderKeys/len(all), (i+1)*bystanderKeys/len(all)
		if from == to { // more goroutines than keys
			from, to = 0, bystanderKeys
		}
		all[i].keys, all[i].tasks = keys[from:to], tasks[from:to]
		all[i].took = make([]time.Duration, 0, bystanderCalls/len(all))
	}
	took := series{}
	for b.Loop() {
		var wg sync.WaitGroup
		_, err := raise(do, n, func(left *atomic.Int64) {
			for i := range all {
				s := &all[i]
				s.took = s.took[:0]
				s.calls.Store(0)
				wg.Go(func() { s.stand(other, left) })
			}
			for i := range all {
				for all[i].calls.Load() < bystanderWarmup {
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
		wg.Wait()
		if err != nil {
			b.Fatal(err)
		}
		var calls []time.Duration
		for i := range all {
			calls = append(calls, all[i].took...)
		}
		slices.Sort(calls)
		took.add(p99Unit, calls[len(calls)*99/100])
	}
	took.report(b)
}
