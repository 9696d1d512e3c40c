package benchmarks

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// This file holds the workload in which very many distinct keys are in flight
// at once: many goroutines, each of which makes calls in calls in calls.

func inFlightWorkloads(s sizes) []Workload {
	return []Workload{{
		Name:  fmt.Sprintf("work=in-flight/keys=%d", s.inFlight),
		Title: grouped(s.inFlight) + " distinct keys in flight at once",
		Units: []string{nsPerCall, bytesPerKey},
		Quick: true,
		Heavy: true,
		Without: "Without resenje, which needs a stack for each key, and the seed, with whose 256 lists" +
			" each call looks at thousands of entries.",
		Runs: doRuns(func(b *testing.B, do call[string]) { inFlight(b, do, s) }, Resenje, Seed),
	}}
}

// inFlight measures calls for distinct keys that are in flight together: the time for
// each, and the heap that each key takes. The cost of the same goroutines without the
// calls is subtracted.
func inFlight(b *testing.B, do call[string], s sizes) {
	var took time.Duration
	var heap float64
	loops := 0
	for b.Loop() {
		c, err := descend(func(_ string, t *task) (*page, error) { return t.do() }, s)
		if err != nil {
			b.Fatal(err)
		}
		m, err := descend(do, s)
		if err != nil {
			b.Fatal(err)
		}
		took += m.took - c.took
		heap += m.heap - c.heap
		loops++
	}
	calls := float64(s.inFlight * loops)
	b.ReportMetric(float64(took)/calls, nsPerCall)
	b.ReportMetric(heap/calls, bytesPerKey)
	b.ReportMetric(0, nsPerOp)
}

// A descent is the measurement of one descent.
type descent struct {
	took time.Duration // down to where all keys are in flight, and up again
	heap float64       // bytes of live objects there, more than before
}

// descend makes all the calls and measures them.
//
// The stacks of the goroutines are grown beforehand, and the collector, which would
// shrink them, is off: they become about as large as their calls need, and to copy them
// takes longer than all the calls.
func descend(do call[string], s sizes) (descent, error) {
	var (
		ready, down, up sync.WaitGroup
		start           = make(chan struct{})
		turn            = make(chan struct{})
		keys            = makeKeys(0, s.inFlight)
		tasks           = make([]task, s.inFlight)
	)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range s.nests {
		from, to := i*s.inFlight/s.nests, (i+1)*s.inFlight/s.nests
		for k := from; k < to-1; k++ {
			tasks[k].fn = func() (*page, error) { return do(keys[k+1], &tasks[k+1]) }
		}
		tasks[to-1].fn = func() (*page, error) {
			down.Done()
			<-turn
			return nil, nil
		}
	}
	heapBefore := liveHeap()
	for i := range s.nests {
		from, to := i*s.inFlight/s.nests, (i+1)*s.inFlight/s.nests
		ready.Add(1)
		down.Add(1)
		up.Go(func() {
			grow(to - from)
			ready.Done()
			<-start
			do(keys[from], &tasks[from])
		})
	}
	ready.Wait()
	stackBefore := stackInUse()

	t := time.Now()
	close(start)
	down.Wait()
	took := time.Since(t)

	if stack := stackInUse(); stack > stackBefore+stackBefore/8 {
		close(turn)
		up.Wait()
		return descent{}, fmt.Errorf("the stacks grew from %d to %d bytes during the measurement", stackBefore, stack)
	}
	heap := liveHeap()

	t = time.Now()
	close(turn)
	up.Wait()
	took += time.Since(t)
	runtime.KeepAlive(keys)
	runtime.KeepAlive(tasks)
	return descent{took: took, heap: heap - heapBefore}, nil
}

func stackInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// grow makes the goroutine's stack large enough for so many calls in calls.
//
//go:noinline
func grow(depth int) byte {
	var frame [900]byte
	if depth > 0 {
		frame[depth%len(frame)] = grow(depth - 1)
	}
	return frame[(depth+1)%len(frame)]
}
