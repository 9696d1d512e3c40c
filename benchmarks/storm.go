package benchmarks

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds storms, in which many callers wait for one. Other files measure them.

// A storm is the measurement of one storm. All times are from the return of fn.
type storm struct {
	leader time.Duration // to the return of the leader's call
	first  time.Duration // to that of the first waiter's
	last   time.Duration // to that of the last waiter's
}

// raise makes a storm: one call leads, n more wait for it, and when they all
// do, fn calls ready, if there is one, and returns. raise returns when all have
// been answered. left is the number of waiters that have not been.
func raise(do call[string], n int, ready func(left *atomic.Int64)) (storm, error) {
	const key = "key"
	var (
		s       storm
		wg      sync.WaitGroup
		left    atomic.Int64
		entered atomic.Int64 // waiters that are about to call
		strays  atomic.Int64 // waiters that got another result, or led
		first   atomic.Bool  // a waiter has been answered
		end     time.Time    // set by fn before it returns
		parkErr error
	)
	warm(n)
	left.Store(int64(n))
	want := new(page)

	stray := &task{fn: func() (*page, error) { return nil, errors.New("a waiter led") }}
	waiter := func() {
		entered.Add(1)
		got, err := do(key, stray)
		if !first.Load() && first.CompareAndSwap(false, true) {
			s.first = time.Since(end)
		}
		if got != want || err != nil {
			strays.Add(1)
		}
		if left.Add(-1) == 0 {
			s.last = time.Since(end)
		}
	}
	got, err := do(key, &task{fn: func() (*page, error) {
		for range n {
			wg.Go(waiter)
		}
		parkErr = awaitParked(&entered, n)
		if ready != nil {
			ready(&left)
		}
		end = time.Now()
		return want, nil
	}})
	s.leader = time.Since(end)
	wg.Wait()

	switch {
	case parkErr != nil:
		return s, parkErr
	case got != want || err != nil:
		return s, fmt.Errorf("the leader got %v, %v", got, err)
	case strays.Load() > 0:
		return s, fmt.Errorf("%d of %d waiters did not get the leader's result", strays.Load(), n)
	}
	return s, nil
}

// awaitParked returns when n goroutines have entered and no goroutine except the caller's
// is running or could. Each of the n is then waiting, and only for a result or the end of
// a context: no goroutine holds the group's lock, since its holder would be running, or
// woken, hence runnable.
//
// The scheduler's counts are read without stopping it, hence three times.
func awaitParked(entered *atomic.Int64, n int) error {
	counts := []metrics.Sample{
		{Name: "/sched/goroutines/running:goroutines"},
		{Name: "/sched/goroutines/runnable:goroutines"},
	}
	deadline := time.Now().Add(60 * time.Second)
	for seen := 0; seen < 3; {
		time.Sleep(20 * time.Microsecond)
		metrics.Read(counts)
		running, runnable := counts[0].Value.Uint64(), counts[1].Value.Uint64()
		if entered.Load() == int64(n) && running <= 1 && runnable == 0 {
			seen++
			continue
		}
		seen = 0
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d waiters entered, %d goroutines running, %d runnable: they do not come to rest",
				entered.Load(), n, running, runnable)
		}
	}
	return nil
}

// warmed is the largest number of goroutines that warm has started. Benchmarks
// run one after the other.
var warmed int

// warm starts n goroutines, all at once, unless that has been done before. The runtime
// keeps their records for later ones: without this, the first measurement would pay for
// them.
func warm(n int) {
	if n <= warmed {
		return
	}
	warmed = n
	var wg sync.WaitGroup
	end := make(chan struct{})
	for range n {
		wg.Go(func() { <-end })
	}
	close(end)
	wg.Wait()
}

// liveHeap collects the garbage and returns the bytes of the objects that are left.
// Objects in pools are garbage the second time.
func liveHeap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// A series holds repeated measurements, by their unit. The medians are reported: the time
// of a whole run, most of which is spent on starting goroutines, means nothing.
type series map[string][]time.Duration

func (s series) add(unit string, d time.Duration) { s[unit] = append(s[unit], d) }

func (s series) report(b *testing.B) {
	for unit, took := range s {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2]), unit)
	}
	b.ReportMetric(0, nsPerOp)
}
