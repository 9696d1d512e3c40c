package benchmarks

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds the workload that measures how long the waking of many holds up the
// whole program. The runtime has to stop the world now and then, for the collector above
// all, and cannot while it is busy with one close of a channel, or one release of a
// semaphore, however many wait there.

func stopWorkloads(s sizes) []Workload {
	return []Workload{{
		Name:  fmt.Sprintf("work=stop-the-world/keys=1/waiters=%d", s.stop),
		Title: "the longest wait of a goroutine that stops the world while " + waiters(s.stop) + " are woken",
		Units: []string{stopUnit},
		Quick: true,
		Heavy: true,
		Worst: true,
		Runs: append(
			doRuns(func(b *testing.B, do call[string]) { stopTheWorld(b, do, s.stop) }),
			Run{
				Impl: floorClose, Floor: true, Note: "one close for all: no least here, but the cost of a single channel",
				Bench: func(b *testing.B) { stopTheWorld(b, newFloorClose(), s.stop) },
			},
		),
	}}
}

// stopPause is the time for which the goroutine that stops the world sleeps in between:
// long enough for others to run, and a goroutine that sleeps now and then is not
// preempted.
const stopPause = 50 * time.Microsecond

// stopTheWorld raises storms. While the waiters are woken, a goroutine stops the
// world again and again. The longest that a stop took to come about is the
// storm's: as the runtime measures it, from the request until nothing runs.
func stopTheWorld(b *testing.B, do call[string], n int) {
	took := series{}
	for b.Loop() {
		var (
			wg    sync.WaitGroup
			begin = make(chan *atomic.Int64)
			begun = make(chan struct{})
		)
		wg.Go(func() {
			var stats runtime.MemStats
			left := <-begin
			runtime.ReadMemStats(&stats) // this stops the world
			close(begun)
			for left.Load() > 0 {
				runtime.ReadMemStats(&stats)
				time.Sleep(stopPause)
			}
		})
		var before *metrics.Float64Histogram
		collect := debug.SetGCPercent(-1) // it would stop the world as well
		_, err := raise(do, n, func(left *atomic.Int64) {
			before = stops()
			begin <- left
			<-begun
		})
		debug.SetGCPercent(collect)
		if err != nil {
			b.Fatal(err)
		}
		wg.Wait()
		took.add(stopUnit, longest(before, stops()))
	}
	took.report(b)
}

// stops returns the times that the world took to stop whenever it was stopped for another
// reason than the collector's.
func stops() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/pauses/stopping/other:seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64Histogram()
}

// longest returns the longest time that is in after and not in before, rounded
// up to where the buckets part, which are a quarter apart at most.
func longest(before, after *metrics.Float64Histogram) time.Duration {
	for i := len(after.Counts) - 1; i >= 0; i-- {
		if after.Counts[i] > before.Counts[i] {
			bound := after.Buckets[i+1]
			if math.IsInf(bound, 1) {
				bound = after.Buckets[i]
			}
			return time.Duration(bound * float64(time.Second))
		}
	}
	return 0
}
