package benchmarks

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file holds the workload that asks how long the waking of many holds up
// the whole program. The runtime has to stop the world now and then, for the
// collector above all, and cannot while it is busy with one close of a channel,
// or one release of a semaphore, however many wait there.

func stopWorkloads(s sizes) []Workload {
	return []Workload{{
		Name:  fmt.Sprintf("work=stop-the-world/keys=1/waiters=%d", s.stop),
		Title: "the longest wait of those who stop the world while " + waiters(s.stop) + " are woken",
		Units: []string{stopUnit},
		Quick: true,
		Heavy: true,
		Runs: append(
			doRuns(func(b *testing.B, do call[string]) { stopTheWorld(b, do, s.stop) }),
			floorRun(floorClose, func(b *testing.B) { stopTheWorld(b, newFloorClose(), s.stop) }),
		),
	}}
}

// stopTheWorld raises storms. While the waiters are woken, a goroutine stops the
// world again and again, and the longest that this takes is the storm's.
func stopTheWorld(b *testing.B, do call[string], n int) {
	took := series{}
	for b.Loop() {
		var (
			wg    sync.WaitGroup
			begin = make(chan *atomic.Int64)
			begun = make(chan struct{})
			worst time.Duration
		)
		wg.Go(func() {
			var stats runtime.MemStats
			left := <-begin
			runtime.ReadMemStats(&stats)
			close(begun)
			for left.Load() > 0 {
				t := time.Now()
				runtime.ReadMemStats(&stats) // which stops the world
				worst = max(worst, time.Since(t))
			}
		})
		collect := debug.SetGCPercent(-1) // it would stop the world, too
		_, err := raise(do, n, func(left *atomic.Int64) {
			begin <- left
			<-begun
		})
		debug.SetGCPercent(collect)
		if err != nil {
			b.Fatal(err)
		}
		wg.Wait()
		took.add(stopUnit, worst)
	}
	took.report(b)
}
