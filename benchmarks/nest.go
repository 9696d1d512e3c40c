package benchmarks

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the workload in which very many distinct keys are in flight
// at once: a thousand goroutines, each of which makes calls in calls in calls.

const (
	inFlightTimeUnit = "ns/call"
	inFlightHeapUnit = "B/key"

	// nests is how many goroutines share the keys.
	nests = 1000
)

// A nest calls with the first of keys; in that call, with the second; and so
// on. When all are in flight it calls bottom. It is a function of each
// implementation's own, so that no closure has to go to the heap.
type nest func(keys []string, bottom func())

// newNestControl returns the nest that everything else is compared with: all
// that the others do, except a call.
func newNestControl() nest {
	return func(keys []string, bottom func()) { nestControl(keys, bottom) }
}

func nestControl(keys []string, bottom func()) (*page, error) {
	if len(keys) == 0 {
		bottom()
		return nil, nil
	}
	fn := func() (*page, error) { return nestControl(keys[1:], bottom) }
	return fn()
}

func newNestCoalesce() nest {
	g := new(coalesce.Group[string, *page])
	return func(keys []string, bottom func()) { nestCoalesce(g, keys, bottom) }
}

func nestCoalesce(g *coalesce.Group[string, *page], keys []string, bottom func()) (*page, error) {
	if len(keys) == 0 {
		bottom()
		return nil, nil
	}
	p, _, err := g.Do(keys[0], func() (*page, error) { return nestCoalesce(g, keys[1:], bottom) })
	return p, err
}

func newNestXSync() nest {
	g := new(singleflight.Group)
	return func(keys []string, bottom func()) { nestXSync(g, keys, bottom) }
}

func nestXSync(g *singleflight.Group, keys []string, bottom func()) (any, error) {
	if len(keys) == 0 {
		bottom()
		return nil, nil
	}
	v, err, _ := g.Do(keys[0], func() (any, error) { return nestXSync(g, keys[1:], bottom) })
	return v, err
}

// inFlight measures a nest over n keys: the time for each call, and the heap
// that each key in flight takes. What the control takes is subtracted.
func inFlight(b *testing.B, n int, newNest func() nest) {
	keys := makeKeys(0, n)
	var took time.Duration
	var heap float64
	loops := 0
	for b.Loop() {
		c, err := descend(keys, newNestControl)
		if err != nil {
			b.Fatal(err)
		}
		m, err := descend(keys, newNest)
		if err != nil {
			b.Fatal(err)
		}
		took += m.took - c.took
		heap += m.heap - c.heap
		loops++
	}
	calls := float64(n * loops)
	b.ReportMetric(float64(took)/calls, inFlightTimeUnit)
	b.ReportMetric(heap/calls, inFlightHeapUnit)
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(keys)
}

// A descent is what was measured of a nest.
type descent struct {
	took time.Duration // down to where all keys are in flight, and up again
	heap float64       // bytes of live objects there, more than before
}

// descend makes all the calls and measures them.
//
// The stacks of the goroutines are grown beforehand, and the collector, which
// would shrink them, is off: they become about as large as what they are to
// hold, and to copy them takes longer than all the calls.
func descend(keys []string, newNest func() nest) (descent, error) {
	var (
		ready, down, up sync.WaitGroup
		start           = make(chan struct{})
		turn            = make(chan struct{})
	)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	_, heapBefore := liveHeap()
	run := newNest()
	for i := range nests {
		mine := keys[i*len(keys)/nests : (i+1)*len(keys)/nests]
		ready.Add(1)
		down.Add(1)
		up.Go(func() {
			grow(len(mine))
			ready.Done()
			<-start
			run(mine, func() {
				down.Done()
				<-turn
			})
		})
	}
	ready.Wait()
	stackBefore := stackInUse()

	t := time.Now()
	close(start)
	down.Wait()
	took := time.Since(t)

	stack, heap := liveHeap()
	if stack > stackBefore+stackBefore/8 {
		return descent{}, fmt.Errorf("the stacks grew from %d to %d bytes during the measurement", stackBefore, stack)
	}

	t = time.Now()
	close(turn)
	up.Wait()
	took += time.Since(t)
	return descent{took: took, heap: float64(heap) - float64(heapBefore)}, nil
}

// liveHeap collects the garbage and returns the bytes of stacks, before that,
// and of the objects that are left.
func liveHeap() (stack, heap uint64) {
	stack = stackInUse()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return stack, m.HeapAlloc
}

func stackInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// grow makes the goroutine's stack large enough for a nest of the given depth.
//
//go:noinline
func grow(depth int) byte {
	var frame [900]byte
	if depth > 0 {
		frame[depth%len(frame)] = grow(depth - 1)
	}
	return frame[(depth+1)%len(frame)]
}
