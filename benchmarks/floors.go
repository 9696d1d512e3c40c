package benchmarks

import (
	"context"
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// This file holds the floors: not implementations, as none of them coalesces anything,
// but the least work that any implementation has to do for a workload.

const (
	floorLocks       = "floor-locks"       // two Lock/Unlock pairs and the hash
	floorPark        = "floor-park"        // park and wake of one goroutine on a channel
	floorCancellable = "floor-cancellable" // a channel, a goroutine and a select
	floorClose       = "floor-close"       // closing one bare channel with all waiters
	floorFn          = "floor-fn"          // fn for each call: the workload itself
)

// shards returns the default number of locks of a coalesce.Group.
func shards() int {
	return 1 << bits.Len(uint(16*runtime.GOMAXPROCS(0)-1))
}

// floorRun returns the run of a floor.
func floorRun(name string, bench func(b *testing.B)) Run {
	return Run{Impl: name, Floor: true, Bench: bench}
}

// newFloorFn returns a call that does its own work. Its time is not the price of any
// implementation; those that share can save some of it.
func newFloorFn() call[string] {
	return func(_ string, t *task) (*page, error) { return t.do() }
}

// newFloorLocks returns the least that an undisturbed call needs: to place the key, and
// to take and release the lock of its place, before and after. There are as many locks as
// package coalesce has.
func newFloorLocks[K comparable]() call[K] {
	type shard struct {
		mu sync.Mutex
		n  int
		_  [112]byte // no two in one pair of cache lines
	}
	seed, shards := maphash.MakeSeed(), make([]shard, shards())
	return func(key K, t *task) (*page, error) {
		s := &shards[maphash.Comparable(seed, key)%uint64(len(shards))]
		s.mu.Lock()
		s.n++
		s.mu.Unlock()
		p, err := t.do()
		s.mu.Lock()
		s.n--
		s.mu.Unlock()
		return p, err
	}
}

// newFloorCancellable returns the least that a call needs whose caller can leave while
// the work goes on.
func newFloorCancellable() contextCall {
	return func(ctx context.Context, _ string, t *task) (*page, error) {
		r := &result{done: make(chan struct{})}
		go r.of(t)
		select {
		case <-r.done:
			return r.page, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// A result is the value that a goroutine passes on.
type result struct {
	done chan struct{} // closed when page and err are there
	page *page
	err  error
}

func (r *result) of(t *task) {
	r.page, r.err = t.do()
	close(r.done)
}

// newFloorClose returns a storm's least: the first call leads, the others wait on a bare
// channel, which it closes. They must all have come when the leader's fn returns, and
// there is one key.
func newFloorClose() call[string] {
	type flight struct {
		done chan struct{}
		page *page
	}
	var (
		led     atomic.Bool
		current atomic.Pointer[flight]
	)
	current.Store(&flight{done: make(chan struct{})})
	return func(_ string, t *task) (*page, error) {
		f := current.Load()
		if !led.CompareAndSwap(false, true) {
			<-f.done
			return f.page, nil
		}
		p, err := t.do()
		f.page = p
		current.Store(&flight{done: make(chan struct{})})
		led.Store(false)
		close(f.done)
		return p, err
	}
}

// newFloorPark returns the least for calls that join and leave: to park, and to
// be woken by the end of the context. The first call leads.
func newFloorPark() contextCall {
	var led atomic.Bool
	return func(ctx context.Context, _ string, t *task) (*page, error) {
		if led.CompareAndSwap(false, true) {
			return t.do()
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
}
