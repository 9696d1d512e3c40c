package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds how calls wait for a flight and how they are woken.
//
// A call that only waits is counted, not listed: it holds a waiter on its own
// stack, and nothing is allocated for it but, by the first, the completion.
// Only who keeps something in the flight has an entry there: a queued call,
// which may have to lead, and a receiver of DoChan.
//
//	flight ── done, seated ≤ 128
//	   └─ more ── extra ── blocks ──▶ block{done, n ≤ 128} ◀──▶ block ◀──▶ …
//	                  └─── first ◀──▶ entry ◀──▶ entry ◀── last
//
// Invariants, true whenever the shard's lock is not held:
//  W1. At most perCompletion waiters wait on one completion.
//  W2. Every waiter of an unfinished flight is counted, in seated or in the block
//      that it waits in, and only the first block may be one that all have left: memory
//      is in proportion to those who wait, not to all who ever came.
//  W3. An entry is in the list of its flight until it leaves or the flight is
//      finished; after that the list belongs to the goroutine that wakes.
//  W4. A receiver's channel is sent to once: by DoChan, if the call takes no
//      part; by leave, if that came before finish; else by wake.
//
// Rejected: a list of all waiters with a channel each (x/sync's DoChan, the
// kernel's completions). It costs an allocation a follower and a walk over
// all of them to wake them.

const (
	// perCompletion bounds the waiters on one channel. Closing a channel makes
	// all who wait on it runnable without a preemption point, and the garbage
	// collector's stop-the-world, with it every goroutine, has to wait for
	// that: 17 ms for a hundred thousand. A P has room for 256 runnable
	// goroutines; what is more goes through a queue that all Ps share.
	perCompletion = 128

	// wakeInline is how many waiters a leader wakes before it returns. Waking
	// one costs it 0.1 to 0.4 µs; starting a goroutine to do it, about 0.5 µs
	// and an allocation.
	wakeInline = 16

	// longRest is how long, in nanoseconds, a waker may be kept from going on
	// before it stops giving way to those it has woken.
	longRest = int64(time.Millisecond)
)

// A waiter is where one blocked call waits: a completion, and the block in
// which it is counted, nil for the flight's first.
type waiter struct {
	done  sched.Completion
	block *block
}

// A block is up to perCompletion waiters of one flight, beyond the first ones.
type block struct {
	done       sched.Completion
	n          int
	prev, next *block
}

// wait counts the caller among those who wait on f and returns where. s.mu
// must be held.
func (f *flight[K, V]) wait() waiter {
	if f.seated < perCompletion {
		f.seated++
		if f.done == nil {
			f.done = sched.NewCompletion()
		}
		return waiter{done: f.done}
	}
	x := f.extend()
	if x.blocks == nil || x.blocks.n == perCompletion {
		b := &block{done: sched.NewCompletion(), next: x.blocks}
		if b.next != nil {
			b.next.prev = b
		}
		x.blocks = b
	}
	x.blocks.n++
	return waiter{x.blocks.done, x.blocks}
}

// unwait takes back wait. s.mu must be held and f not be finished.
func (f *flight[K, V]) unwait(w waiter) {
	b := w.block
	if b == nil {
		f.seated--
		return
	}
	b.n--
	if b.n > 0 || b.prev == nil {
		return // the first block has room for the next to come
	}
	b.prev.next = b.next
	if b.next != nil {
		b.next.prev = b.prev
	}
}

// A waking is what finish found waiting, to be woken when the lock is
// released.
type waking[K comparable, V any] struct {
	flight  *flight[K, V]
	done    sched.Completion // nil if nobody waits on it
	blocks  *block
	entries *entry[K, V]
	n       int       // how many there are
	event   *Event[K] // of a flight that was rejected, for the hook
}

// takeWaiters takes all waiters from f, which has just finished. s.mu must be
// held.
func (f *flight[K, V]) takeWaiters() waking[K, V] {
	w := waking[K, V]{flight: f, done: f.done, n: f.followers()}
	if x := f.cold; x != nil {
		w.blocks, w.entries = x.blocks, x.first
		x.blocks, x.first, x.last = nil, nil, nil
	}
	return w
}

// wake wakes everyone in w. It returns soon if mayDefer is set, as it is where
// a leader is about to return: waking many, and what receivers' contexts do
// when they are told to stop, is then left to a goroutine. No lock may be held.
func (w waking[K, V]) wake(clone func(V) V, mayDefer bool) {
	if mayDefer && (w.n > wakeInline || w.entries != nil) {
		sched.Go(func() { w.wake(clone, false) })
		return
	}
	if w.done != nil {
		sched.Complete(w.done)
	}
	restless := mayDefer // a leader does not wait for the others
	for b := w.blocks; b != nil; b = b.next {
		restless = restless || !rest()
		sched.Complete(b.done)
	}
	n := 0
	for r := w.entries; r != nil; r = r.next {
		if n++; n%perCompletion == 0 {
			restless = restless || !rest()
		}
		r.deliver(w.flight, clone)
	}
	for r := w.entries; r != nil; {
		next := r.next
		r.prev, r.next = nil, nil
		r.unwatch()
		r = next
	}
}

// rest lets those run who have been woken, while what they need is in the
// processor's caches, and reports whether that was soon over. Where it is, the
// last of ten or a hundred thousand has returned after 0.7 to 0.8 of the time
// that the closing of one channel takes, and nobody else has had to wait for
// that. Where the Ps are busy with other work, each rest costs a turn of all
// that is runnable: with four goroutines that never block, on two Ps, the last
// of ten thousand returned after 3.2 s if the waker always rested, after 0.1 s if
// it rested until it took long (go test -v -run TestG16_WakingGoesOn).
func rest() (soon bool) {
	began := sched.Now()
	sched.Yield()
	return sched.Now()-began < longRest
}

// A call is one caller's invocation while it waits.
type call[K comparable, V any] struct {
	ctx   context.Context
	done  <-chan struct{}                  // ctx.Done(), asked for once; nil if it never ends
	fn    func(context.Context) (V, error) // nil if it runs on the caller's goroutine
	leads bool
	ended bool // ctx says that it has ended, whatever done does

	w waiter
	r *entry[K, V] // nil unless it was queued

	edge  *edge     // nil unless fn of another flight made the call
	event *Event[K] // of its joining, for hooks; nil if it leads at once
}

// await blocks until f has finished or the caller's context has ended. The
// shard's lock must not be held.
func (s *shard[K, V]) await(c *call[K, V], f *flight[K, V]) (v V, shared bool, err error) {
	if !c.ended && sched.WaitEither(c.w.done, c.done) {
		return s.collect(c, f)
	}
	return s.leave(c, f)
}

// collect returns what c gets, which stayed to the end of f. f must be finished,
// and its shard's lock must not be held.
func (s *shard[K, V]) collect(c *call[K, V], f *flight[K, V]) (v V, shared bool, err error) {
	v, shared, err = f.result(s.group.clone)
	s.group.giveBack(f)
	return v, shared, err
}

// leave ends the wait of a call whose context has ended. A result beats it: if
// f has finished, the caller gets what f returned. Which of the two came first
// is decided under the lock; the select in await cannot tell when both have.
func (s *shard[K, V]) leave(c *call[K, V], f *flight[K, V]) (v V, shared bool, err error) {
	c.edge.drop()
	s.mu.Lock()
	if f.state == finished {
		s.mu.Unlock()
		if f.outcome == rejected {
			s.group.awaitClosed()
		}
		return s.collect(c, f)
	}
	f.unwait(c.w)
	shared = f.joined
	after := s.depart(f, c.r, c.leads, c.event)
	s.mu.Unlock()
	after.run(c.ctx)
	s.tellLeave(after)
	return v, shared, reasonOf(c.ctx)
}

// A departure is what a call that left has to do once the lock is released.
type departure[K comparable, V any] struct {
	cancel *flightContext // of the flight that is now abandoned
	next   *entry[K, V]   // to be notified
	event  *Event[K]      // for the hook
}

// depart removes a call with entry r, or nil, and the event of its joining, if
// any, from f, which is unfinished:
// the last to leave a running flight abandons it, one that was to start a
// promoted flight hands it on. s.mu must be held.
func (s *shard[K, V]) depart(f *flight[K, V], r *entry[K, V], leads bool, joined *Event[K]) (after departure[K, V]) {
	s.rare.left++
	f.callers--
	if leads {
		f.leading = false
	}
	if r != nil {
		f.cold.removeEntry(r)
	}
	after.event = s.leaving(f, joined)
	last := f.callers == 0
	b := f.batch()
	if b != nil {
		last = b.leave()
	}
	switch {
	case f.state == promoted && !last:
		if r.promoted { // every call in a flight that has not started has one
			after.next = f.hand()
		}
	case !last:
	case b != nil:
		s.rare.abandoned += b.size()
		after.cancel = f.context()
	case f.state == running:
		f.state = abandoned
		s.rare.abandoned++
		after.cancel = f.context()
	default:
		after.next = s.evaporate(f)
	}
	return after
}

// run does what is due after a call with the given context has left. No lock
// may be held: it runs code of the context's, which may take its time and
// therefore comes last.
func (after departure[K, V]) run(ctx context.Context) {
	after.next.notify()
	if after.cancel != nil {
		cause := context.Canceled
		defer func() { after.cancel.cancel(cause) }() // though ctx panics
		cause = context.Cause(ctx)
	}
}
