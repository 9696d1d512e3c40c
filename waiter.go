package coalesce

import (
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds how calls wait for a flight and how they are woken.
//
// A call that only waits is counted, not listed: it holds a seat on its own
// stack, and nothing is allocated for it but, by the first, the completion.
// Only a call that the flight has to find is listed there: a queued one, which may
// have to lead, and a receiver of DoChan.
//
//	flight ── done, seated ≤ 128
//	   └─ cold ── blocks ──▶ block{done, n ≤ 128} ◀──▶ block ◀──▶ …
//	        └──── first ◀──▶ caller ◀──▶ caller ◀── last
//
// Invariants, true whenever the shard's lock is not held:
//  W1. At most perCompletion calls wait on one completion.
//  W2. Every call with a seat in an unfinished flight is counted, in seated or in
//      the block that it waits in, and only the last block may be one that all have
//      left: memory is in proportion to the calls that wait, not to all that came.
//  W3. A listed caller is in the list of its flight until it leaves or the flight is
//      finished; after that the list belongs to the goroutine that wakes.
//  W4. A receiver's channel is sent to once: by DoChan, if the call takes no part; by
//      afterLeaving, if it left before finish; else by wake.
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

// A seat is where one blocked call waits: a completion, and the block in which it is
// counted, nil for the flight's first.
type seat struct {
	done  sched.Completion
	block *block
}

// A block is up to perCompletion waiters of one flight, beyond the first ones.
type block struct {
	done sched.Completion
	n    int
	links[*block]
}

// sit counts the caller among those who wait on f and returns its seat. s.mu must be
// held.
func (f *flight[K, V]) sit() seat {
	if f.seated < perCompletion {
		f.seated++
		if f.done == nil {
			f.done = sched.NewCompletion()
		}
		return seat{done: f.done}
	}
	blocks := &f.extend().blocks
	if blocks.last == nil || blocks.last.n == perCompletion {
		blocks.push(&block{done: sched.NewCompletion()})
	}
	b := blocks.last
	b.n++
	return seat{b.done, b}
}

// rise gives back a seat. s.mu must be held and f not be finished.
func (f *flight[K, V]) rise(from seat) {
	b := from.block
	if b == nil {
		f.seated--
		return
	}
	b.n--
	if blocks := &f.cold.blocks; b.n == 0 && b != blocks.last { // that one has room for the next to come
		blocks.remove(b)
	}
}

// wake wakes all who wait for the end of a flight. It returns soon if mayDefer is set,
// as it is where a leader is about to return. No lock may be held.
func (e ending[K, V]) wake(clone func(V) V, mayDefer bool) {
	e.next.notify()
	if e.idle != nil {
		sched.Complete(e.idle)
	}
	e.wakeCallers(clone, mayDefer)
}

// wakeCallers is wake for the flight's callers. To wake many, and what receivers'
// contexts do when they are no longer watched, is left to a goroutine if mayDefer is
// set.
func (e ending[K, V]) wakeCallers(clone func(V) V, mayDefer bool) {
	if mayDefer && (e.n > wakeInline || e.first != nil) {
		sched.Go(func() { e.wakeCallers(clone, false) })
		return
	}
	if e.done != nil {
		sched.Complete(e.done)
	}
	restless := mayDefer // a leader does not wait for the others
	for b := e.blocks; b != nil; b = b.next {
		restless = restless || !rest()
		sched.Complete(b.done)
	}
	n := 0
	for c := e.first; c != nil; c = c.next {
		if n++; n%perCompletion == 0 {
			restless = restless || !rest()
		}
		c.deliver(clone)
	}
	for c := e.first; c != nil; {
		next := c.next
		c.links = links[*caller[K, V]]{}
		c.unwatch()
		c = next
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
