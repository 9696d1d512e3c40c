package benchmarks

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// This file holds the workload of a key that many wait for: the times of their returns,
// and the memory that the group holds for each of them meanwhile.

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
			each, err := waiterBytes(do, n)
			if err != nil {
				b.Fatal(err)
			}
			fanIn(b, do, n)
			b.ReportMetric(each.heap, bytesPerWaiter)
			b.ReportMetric(each.stack, stackPerWaiter)
		})
		all = append(all, Workload{
			Name:   fmt.Sprintf("work=fan-in/keys=1/waiters=%d", n),
			Title:  waiters(n) + " for one key",
			Units:  []string{lastReturnUnit, leaderReturnUnit, firstReturnUnit, bytesPerWaiter, stackPerWaiter},
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

// A footprint is bytes in use: of live objects, and of goroutines' stacks.
type footprint struct{ heap, stack float64 }

func (f footprint) less(other footprint) footprint {
	return footprint{f.heap - other.heap, f.stack - other.stack}
}

// per returns f for each of n. Values below zero are noise.
func (f footprint) per(n int) footprint {
	return footprint{max(0, f.heap/float64(n)), max(0, f.stack/float64(n))}
}

// waiterBytes returns the memory of each of n waiters of a flight, with a share of the
// flight's own: of the heap, beyond the memory of as many goroutines that wait in the
// same way on bare channels, and of stack, including the two KiB that every goroutine
// has. A million take for each of them as much as 100,000 do.
func waiterBytes(do call[string], n int) (footprint, error) {
	n = min(n, mostSample)
	keys := makeKeys(0, max(1, leastSample/n))
	bare := make(map[string]call[string], len(keys))
	for _, key := range keys {
		bare[key] = newFloorClose()
	}
	control, err := parkedFootprint(func(key string, t *task) (*page, error) { return bare[key](key, t) }, keys, n)
	if err != nil {
		return footprint{}, err
	}
	control.stack = 0
	f, err := parkedFootprint(do, keys, n)
	return f.less(control).per(n * len(keys)), err
}

// parkedFootprint returns the memory in use while a call for each of keys leads, and n
// wait for it, less the memory in use before.
func parkedFootprint(do call[string], keys []string, n int) (footprint, error) {
	var (
		leading, all sync.WaitGroup
		entered      atomic.Int64
		release      = make(chan struct{})
	)
	warm(len(keys) * (n + 1))
	before := footprint{liveHeap(), float64(stackInUse())}
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
	now := footprint{heap: float64(liveHeap()), stack: float64(stackInUse())}
	close(release)
	all.Wait()
	return now.less(before), err
}
