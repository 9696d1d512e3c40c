package benchmarks

import (
	"errors"
	"fmt"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds the workloads in which many wait for one: a storm.

const (
	leaderReturnUnit = "ns/leader-return"
	lastReturnUnit   = "ns/last-return"
)

// leaderReturn measures how long a leader with n waiters takes from the moment
// its fn returns to the return of its call.
func leaderReturn(b *testing.B, p peer, n int) {
	reportStorms(b, p, n, leaderReturnUnit, func(s storm) time.Duration { return s.leader })
}

// lastReturn measures how long it takes from the moment fn returns until the
// last of n waiters has returned from its call.
func lastReturn(b *testing.B, p peer, n int) {
	reportStorms(b, p, n, lastReturnUnit, func(s storm) time.Duration { return s.last })
}

// reportStorms makes storms and reports the median of what pick takes from
// each. The time of the whole, most of which is spent on starting goroutines,
// says nothing and is not reported.
func reportStorms(b *testing.B, p peer, n int, unit string, pick func(storm) time.Duration) {
	var took []time.Duration
	for b.Loop() {
		s, err := raise(p, n)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, pick(s))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), unit)
	b.ReportMetric(0, "ns/op")
}

// A storm is what was measured of one.
type storm struct {
	leader time.Duration // from the return of fn to that of the leader's call
	last   time.Duration // from the return of fn to that of the last waiter's
}

// raise makes a storm: one call leads, n more wait for it, and when they all
// do, fn returns. It returns when all have been answered.
func raise(p peer, n int) (storm, error) {
	const key = "key"
	var (
		s       storm
		wg      sync.WaitGroup
		left    atomic.Int64 // waiters that have not been answered
		entered atomic.Int64 // waiters that are about to call
		strays  atomic.Int64 // waiters that got another result, or led
		end     time.Time    // set by fn before it returns
		parkErr error
	)
	left.Store(int64(n))
	want := new(page)

	waiter := func() {
		entered.Add(1)
		got, shared, err := p.do(key, func() (*page, error) {
			return nil, errors.New("a waiter led")
		})
		if left.Add(-1) == 0 {
			s.last = time.Since(end)
		}
		if got != want || !shared || err != nil {
			strays.Add(1)
		}
	}
	got, _, err := p.do(key, func() (*page, error) {
		for range n {
			wg.Go(waiter)
		}
		parkErr = awaitParked(&entered, n)
		end = time.Now()
		return want, nil
	})
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

// awaitParked returns when n goroutines have entered and no goroutine but the
// caller's, the leader's, is running or could. Each of the n is then waiting,
// and for nothing but the leader's result: the group's lock is held by nobody,
// since its holder would be running, or woken, hence runnable.
//
// The scheduler's counts are read without stopping it, hence three times.
func awaitParked(entered *atomic.Int64, n int) error {
	counts := []metrics.Sample{
		{Name: "/sched/goroutines/running:goroutines"},
		{Name: "/sched/goroutines/runnable:goroutines"},
	}
	deadline := time.Now().Add(30 * time.Second)
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
