package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds the workloads in which callers leave a flight that is stuck.

func leaveWorkloads(s sizes) []Workload {
	bench := func(b *testing.B, newCall func() contextCall) { leave(b, newCall, s.leave, s.batch) }
	return []Workload{{
		Name:  fmt.Sprintf("work=leave/keys=1/calls=%d", s.leave),
		Title: grouped(s.leave) + " calls join a flight that is stuck, and leave",
		Units: []string{nsPerCall, bytesPerCall},
		Heavy: true,
		Runs:  append(contextRuns(bench), floorRun(floorPark, func(b *testing.B) { bench(b, newFloorPark) })),
	}}
}

func cancelStormWorkloads(s sizes) []Workload {
	bench := func(b *testing.B, newCall func() contextCall) { cancelStorm(b, newCall, s.cancelStorm) }
	return []Workload{{
		Name:  fmt.Sprintf("work=cancel-storm/keys=1/waiters=%d", s.cancelStorm),
		Title: "the context of " + waiters(s.cancelStorm) + " ends",
		Units: []string{lastReturnUnit},
		Runs:  append(contextRuns(bench), floorRun(floorPark, func(b *testing.B) { bench(b, newFloorPark) })),
	}}
}

// stuckKey is the key of a flight that does not end by itself.
const stuckKey = "key"

// getStuck makes a call lead whose fn waits for release, and returns a function
// that releases it and waits for the call.
func getStuck(do contextCall) (release func()) {
	var (
		wg      sync.WaitGroup
		leading = make(chan struct{})
		free    = make(chan struct{})
	)
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		do(ctx, stuckKey, &task{fn: func() (*page, error) {
			close(leading)
			<-free
			return aPage, nil
		}})
	})
	<-leading
	return func() {
		close(free)
		wg.Wait()
		cancel()
	}
}

// A departure is the measurement of calls that join and leave.
type departure struct {
	all  time.Duration // from the first goroutine's start to the last one's return
	last time.Duration // from the end of the context to that
}

// depart makes n calls join the flight that is stuck, and ends their context.
func depart(do contextCall, n int) (departure, error) {
	var (
		d       departure
		wg      sync.WaitGroup
		entered atomic.Int64
		left    atomic.Int64
		strays  atomic.Int64 // calls that got a result, or led
		end     time.Time
	)
	warm(n)
	left.Store(int64(n))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stray := &task{fn: func() (*page, error) { return nil, errors.New("a waiter led") }}
	begin := time.Now()
	for range n {
		wg.Go(func() {
			entered.Add(1)
			_, err := do(ctx, stuckKey, stray)
			if left.Add(-1) == 0 {
				d.last = time.Since(end)
			}
			if !errors.Is(err, context.Canceled) {
				strays.Add(1)
			}
		})
	}
	err := awaitParked(&entered, n)
	end = time.Now()
	cancel()
	wg.Wait()
	d.all = time.Since(begin)
	if err == nil && strays.Load() > 0 {
		err = fmt.Errorf("%d of %d calls did not leave", strays.Load(), n)
	}
	return d, err
}

// leave makes calls join and leave, a batch at a time, and measures the time for
// each and the heap that stays behind. The time includes the start of a goroutine
// and the search for rest (see awaitParked), as the floor's does.
func leave(b *testing.B, newCall func() contextCall, calls, batch int) {
	var took time.Duration
	var heap float64
	loops := 0
	for b.Loop() {
		do := newCall()
		release := getStuck(do)
		if _, err := depart(do, batch); err != nil { // memory that grows once grows now
			b.Fatal(err)
		}
		before := liveHeap()
		for range calls / batch {
			d, err := depart(do, batch)
			if err != nil {
				b.Fatal(err)
			}
			took += d.all
		}
		heap += liveHeap() - before
		release()
		loops++
	}
	n := float64(calls * loops)
	b.ReportMetric(float64(took)/n, nsPerCall)
	b.ReportMetric(max(0, heap)/n, bytesPerCall) // values below are noise
	b.ReportMetric(0, nsPerOp)
}

// cancelStorm makes all n waiters of a flight leave at once, and measures how
// long it takes until they have.
func cancelStorm(b *testing.B, newCall func() contextCall, n int) {
	took := series{}
	for b.Loop() {
		do := newCall()
		release := getStuck(do)
		d, err := depart(do, n)
		if err != nil {
			b.Fatal(err)
		}
		release()
		took.add(lastReturnUnit, d.last)
	}
	took.report(b)
}
