//go:build coalesceexplore

// Package sched is here for systematic exploration. Under an [Explorer], goroutines
// that are started with Go run one at a time. At each point where the order could make a
// difference, a strategy decides which one goes on. So a run is a sequence of decisions,
// and can be repeated. Without an Explorer, the names work as those in sched.go do.
//
// There is a point before each acquisition of a lock, each access to an atomic, each
// completion, each look at one and each wait, before a timer or an AfterFunc is stopped,
// and after a goroutine has been started. The release of a lock is a point only if
// [Explorer.Releases] is set: a goroutine that accesses the data of a lock only under
// that lock does nothing visible to others between a release and its next point.
//
// Two things are not controlled: channels that values are sent on, which the core does
// not wait on; and the concurrent map and the counters of package xsync, with [Counter]. An
// operation on one of these is as if atomic, because no other goroutine runs meanwhile.
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
	held bool       // used under an explorer
	mu   sync.Mutex // used otherwise
}

// Lock locks m. It blocks until m is not locked.
func (m *Mutex) Lock() {
	if r := current; r != nil {
		r.point("lock", m.free)
		m.held = true
		return
	}
	m.mu.Lock()
}

func (m *Mutex) free() bool { return !m.held }

// Unlock unlocks m. It panics under an explorer if m is not locked.
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

// Load returns the pointer that was stored last, or nil.
func (p *Pointer[T]) Load() *T {
	point("load")
	return p.p.Load()
}

// Store stores v.
func (p *Pointer[T]) Store(v *T) {
	point("store")
	p.p.Store(v)
}

// CompareAndSwap stores after if p holds before, and reports whether it did.
func (p *Pointer[T]) CompareAndSwap(before, after *T) bool {
	point("compare and swap")
	return p.p.CompareAndSwap(before, after)
}

// A SetOnce is an atomic pointer that is set once, by CompareAndSwap. A Load is a point
// only as long as the pointer is not set: later the order of Loads makes no difference.
type SetOnce[T any] struct{ p atomic.Pointer[T] }

// Load returns the pointer that was stored, or nil.
func (p *SetOnce[T]) Load() *T {
	if v := p.p.Load(); v != nil {
		return v
	}
	point("load")
	return p.p.Load()
}

// CompareAndSwap stores after if p holds before, and reports whether it did.
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

// CompareAndSwap sets the value to after if it is before, and reports whether it did.
func (i *Int64) CompareAndSwap(before, after int64) bool {
	point("compare and swap")
	return i.v.CompareAndSwap(before, after)
}

// A Completion is a channel that wakes its waiters when it is closed.
type Completion = chan struct{}

// NewCompletion returns a Completion that is not complete.
func NewCompletion() Completion { return make(chan struct{}) }

// Complete completes c: it wakes all goroutines that wait on c, and no later wait on c
// blocks. c must not be complete.
func Complete(c Completion) {
	point("complete")
	close(c)
}

// IsComplete reports whether c is closed.
func IsComplete(c <-chan struct{}) bool {
	point("look")
	return closed(c)
}

// closed is IsComplete without a point. A nil channel is never closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Wait blocks until c is complete.
func Wait(c Completion) {
	Await("wait", func() bool { return closed(c) })
	<-c
}

// WaitEither blocks until c is complete or done is closed, and reports whether it has
// found c complete. If both are, the strategy chooses, as a select statement may choose
// either.
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

// WaitAny blocks until one of a, b and done is closed.
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

// Go starts a goroutine that runs fn.
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
		r.spawn(fn, nil, false) // not a daemon: Join waits for it
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
	real   *time.Timer // nil under an explorer
	fn     func()      // nil under an explorer, and once Stop has stopped real
	thread *thread     // fires the timer; done once that has happened or it is stopped
}

// Stop keeps the timer from firing, and reports whether it has: false means that the
// timer has fired or was stopped before.
func (t *timer) Stop() bool {
	if t.real != nil {
		stopped := t.real.Stop()
		if stopped {
			t.fn = nil // as in sched.go
		}
		return stopped
	}
	point("stop")
	in := !t.thread.done
	t.thread.done = true
	return in
}

// After arranges for fn to run in its own goroutine once d has passed. Under an explorer
// the timer is a thread that can always go on: the strategy chooses when it fires, and
// the clock is then advanced to the time that was set.
func After(d time.Duration, fn func()) Timer {
	r := current
	if r == nil {
		t := &timer{fn: fn}
		t.real = time.AfterFunc(d, func() { t.fn() })
		return t
	}
	due := r.clock + int64(d)
	return &timer{thread: r.spawn(func() {
		r.clock = max(r.clock, due)
		r.spawn(fn, nil, false)
	}, nil, true)}
}

// epoch is the time at which Now is 1, without an explorer.
var epoch = time.Now()

// Now returns a reading of the monotonic clock, in nanoseconds. It is never zero. Under
// an explorer, only Advance and timers that fire move the clock.
func Now() int64 {
	if r := current; r != nil {
		return r.clock
	}
	return int64(time.Since(epoch)) + 1
}

// Random returns the same number every time, so that a run can be repeated.
func Random() uint64 { return 0x5bd1e995 }
