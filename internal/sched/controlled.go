//go:build coalesceexplore

// This file is package sched for systematic exploration: under an [Explorer],
// goroutines that were started with Go run one at a time, and at each point where
// another could make a difference a strategy decides which goes on. A run is
// therefore a sequence of decisions, and can be repeated.
//
// A point is before each acquisition of a lock, each access to an atomic, each
// start of a goroutine, each completion, and each wait. Releasing a lock is none,
// unless [Explorer.Releases] is set: until its next point the goroutine does nothing
// that others could see, if what a lock guards is done under it.
//
// What is not controlled: channels that are sent to, which the core does not wait
// on, and the concurrent map and the counters of package xsync. Operations on these
// are as if atomic, since nobody else runs meanwhile.
package sched

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a lock of the core.
type Mutex struct {
	held bool       // under an explorer
	mu   sync.Mutex // otherwise
}

// Lock locks m.
func (m *Mutex) Lock() {
	if r := current; r != nil {
		r.point("lock", m.free)
		m.held = true
		return
	}
	m.mu.Lock()
}

func (m *Mutex) free() bool { return !m.held }

// Unlock unlocks m.
func (m *Mutex) Unlock() {
	if r := current; r != nil {
		if !m.held {
			panic("sched: unlock of an unlocked Mutex")
		}
		m.held = false
		if r.releases {
			r.point("released", nil)
		}
		return
	}
	m.mu.Unlock()
}

// A Pointer is an atomic pointer of the core.
type Pointer[T any] struct{ p atomic.Pointer[T] }

// Load returns what was stored last.
func (p *Pointer[T]) Load() *T {
	point("load")
	return p.p.Load()
}

// Store stores v.
func (p *Pointer[T]) Store(v *T) {
	point("store")
	p.p.Store(v)
}

// CompareAndSwap stores after if before is there, and reports whether it was.
func (p *Pointer[T]) CompareAndSwap(before, after *T) bool {
	point("compare and swap")
	return p.p.CompareAndSwap(before, after)
}

// A SetOnce is an atomic pointer that is set once. To load it is a point only as long as it
// is not set: what cannot change any more orders nothing.
type SetOnce[T any] struct{ p atomic.Pointer[T] }

// Load returns what was stored, or nil.
func (p *SetOnce[T]) Load() *T {
	if v := p.p.Load(); v != nil {
		return v
	}
	point("load")
	return p.p.Load()
}

// CompareAndSwap stores after if before is there, and reports whether it was.
func (p *SetOnce[T]) CompareAndSwap(before, after *T) bool {
	point("compare and swap")
	return p.p.CompareAndSwap(before, after)
}

// A Bool is an atomic flag of the core.
type Bool struct{ v atomic.Bool }

// Load returns the flag.
func (b *Bool) Load() bool {
	point("load")
	return b.v.Load()
}

// Store sets the flag.
func (b *Bool) Store(v bool) {
	point("store")
	b.v.Store(v)
}

// An Int64 is an atomic integer of the core.
type Int64 struct{ v atomic.Int64 }

// Load returns the value.
func (i *Int64) Load() int64 {
	point("load")
	return i.v.Load()
}

// Store sets the value.
func (i *Int64) Store(v int64) {
	point("store")
	i.v.Store(v)
}

// Add adds d and returns the new value.
func (i *Int64) Add(d int64) int64 {
	point("add")
	return i.v.Add(d)
}

// CompareAndSwap sets the value to after if it is before, and reports whether it
// was.
func (i *Int64) CompareAndSwap(before, after int64) bool {
	point("compare and swap")
	return i.v.CompareAndSwap(before, after)
}

// A Completion is the channel through which waiters are told.
type Completion = chan struct{}

// NewCompletion returns a completion that nobody has been told through.
func NewCompletion() Completion { return make(chan struct{}) }

// Complete wakes everyone who waits on c, now or later. c must not be complete.
func Complete(c Completion) {
	point("complete")
	close(c)
}

// IsComplete reports whether c is complete.
func IsComplete(c <-chan struct{}) bool {
	point("look")
	return closed(c)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Wait parks until c is complete.
func Wait(c Completion) {
	Await("wait", func() bool { return closed(c) })
	<-c
}

// WaitEither parks until c is complete or done is closed, and reports whether it
// saw c. If both have happened, the strategy decides, as select may.
func WaitEither(c Completion, done <-chan struct{}) bool {
	Await("wait", func() bool { return closed(c) || closed(done) })
	if current == nil {
		select {
		case <-c:
			return true
		case <-done:
			return false
		}
	}
	switch {
	case !closed(done):
		return true
	case !closed(c):
		return false
	}
	return current.by.choose(current, 2) == 0
}

// WaitAny parks until one of a, b and done is closed.
func WaitAny(a, b Completion, done <-chan struct{}) {
	Await("wait", func() bool { return closed(a) || closed(b) || closed(done) })
	select {
	case <-a:
	case <-b:
	case <-done:
	}
}

// Yield lets other goroutines run.
func Yield() {
	if r := current; r != nil {
		r.pause("yield", nil, true)
		return
	}
	runtime.Gosched()
}

// Go starts a goroutine.
func Go(fn func()) {
	if r := current; r != nil {
		r.spawn(fn, nil, false)
		r.point("go", nil)
		return
	}
	go fn()
}

// AfterFunc arranges for fn to run in its own goroutine once ctx has ended.
func AfterFunc(ctx context.Context, fn func()) (stop func() bool) {
	r := current
	if r == nil {
		return context.AfterFunc(ctx, fn)
	}
	const (
		watching = iota
		fired
		stopped
	)
	done, state := ctx.Done(), watching
	t := r.spawn(func() {
		state = fired
		r.spawn(fn, nil, false) // a goroutine that counts, unlike the one that watches
	}, func() bool { return closed(done) }, true)
	t.watches = true
	return func() bool {
		point("stop")
		if state != watching {
			return false
		}
		state, t.done = stopped, true
		return true
	}
}

// A Timer is a one-shot timer of the core.
type Timer = *timer

type timer struct {
	real   *time.Timer // not under an explorer
	thread *thread
}

// Stop keeps the timer from firing and reports whether it was in time.
func (t *timer) Stop() bool {
	if t.real != nil {
		return t.real.Stop()
	}
	point("stop")
	in := !t.thread.done
	t.thread.done = true
	return in
}

// After starts a goroutine that runs fn once d has passed. Under an explorer time
// passes when the strategy wants it to.
func After(d time.Duration, fn func()) Timer {
	r := current
	if r == nil {
		return &timer{real: time.AfterFunc(d, fn)}
	}
	due := r.clock + int64(d)
	return &timer{thread: r.spawn(func() {
		r.clock = max(r.clock, due)
		r.spawn(fn, nil, false)
	}, nil, true)}
}

var epoch = time.Now()

// Now returns a reading of the monotonic clock that is never zero. Under an
// explorer the clock stands still but for Advance and timers.
func Now() int64 {
	if r := current; r != nil {
		return r.clock
	}
	return int64(time.Since(epoch)) + 1
}

// Random returns a number, always the same: a run can be repeated.
func Random() uint64 { return 0x5bd1e995 }
