package benchmarks

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// This file holds the workload of a key that many wait for: how soon they
// return, and what the group holds for each of them meanwhile.

// The memory of at least so many waiters is measured, of several flights if one
// has fewer, and of at most so many.
const (
	leastSample = 10_000
	mostSample  = 100_000
)

func fanInWorkloads(s sizes) []Workload {
	var all []Workload
	for _, n := range s.fanIn {
		runs := doRuns(func(b *testing.B, do call[string]) {
			perWaiter, err := waiterBytes(do, n)
			if err != nil {
				b.Fatal(err)
			}
			fanIn(b, do, n)
			b.ReportMetric(perWaiter, bytesPerWaiter)
		})
		all = append(all, Workload{
			Name:   fmt.Sprintf("work=fan-in/keys=1/waiters=%d", n),
			Title:  waiters(n) + " for one key",
			Units:  []string{lastReturnUnit, leaderReturnUnit, firstReturnUnit, bytesPerWaiter},
			Quick:  n == 100 || n == 10_000 || n == 100_000,
			Heavy:  n >= 100_000,
			Series: "work=fan-in/keys=1",
			X:      float64(n),
			XLabel: "waiters",
			Runs: append(runs, floorRun(floorClose, func(b *testing.B) {
				fanIn(b, newFloorClose(), n)
			})),
		})
	}
	return all
}

// fanIn raises storms.
func fanIn(b *testing.B, do call[string], n int) {
	took := series{}
	for b.Loop() {
		s, err := raise(do, n, nil)
		if err != nil {
			b.Fatal(err)
		}
		took.add(leaderReturnUnit, s.leader)
		took.add(firstReturnUnit, s.first)
		took.add(lastReturnUnit, s.last)
	}
	took.report(b)
}

// waiterBytes returns the bytes that a group holds for each of n waiters of a
// flight, the flight's own included: the heap while they wait, less that while
// as many goroutines wait in the same way on bare channels. A million holds for
// each of them what 100,000 do.
func waiterBytes(do call[string], n int) (float64, error) {
	n = min(n, mostSample)
	keys := makeKeys(0, max(1, leastSample/n))
	bare := make(map[string]call[string], len(keys))
	for _, key := range keys {
		bare[key] = newFloorClose()
	}
	control, err := parkedHeap(func(key string, t *task) (*page, error) { return bare[key](key, t) }, keys, n)
	if err != nil {
		return 0, err
	}
	heap, err := parkedHeap(do, keys, n)
	return max(0, heap-control) / float64(n*len(keys)), err // what is below is noise
}

// parkedHeap returns the live heap while a call for each of keys leads, and n
// wait for it; less what there was before.
func parkedHeap(do call[string], keys []string, n int) (float64, error) {
	var (
		leading, all sync.WaitGroup
		entered      atomic.Int64
		release      = make(chan struct{})
	)
	warm(len(keys) * (n + 1))
	before := liveHeap()
	t := &task{fn: func() (*page, error) {
		leading.Done()
		<-release
		return aPage, nil
	}}
	leading.Add(len(keys))
	for _, key := range keys {
		all.Go(func() { do(key, t) })
	}
	leading.Wait()
	for _, key := range keys {
		for range n {
			all.Go(func() {
				entered.Add(1)
				do(key, t)
			})
		}
	}
	err := awaitParked(&entered, n*len(keys))
	heap := liveHeap()
	close(release)
	all.Wait()
	return heap - before, err
}
