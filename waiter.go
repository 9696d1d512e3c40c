package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds how calls wait for a flight and how they are woken.
//
// A call that only waits is counted, not listed. It keeps its seat on its own stack and
// allocates nothing, except that the first call on a completion makes the completion.
// Only a call that the flight has to find is listed: a queued call, which may have to
// lead, and a receiver. A bare receiver, which cannot leave, is no more than a channel in
// a list of its own (chan.go).
//
//	flight ── done, seated ≤ 128
//	   └─ cold ─┬─ blocks ──▶ block{done, n ≤ 128} ◀──▶ block ◀──▶ …
//	            ├─ callers ─▶ caller ◀──▶ caller
//	            └─ bare ────▶ bareReceivers{channels} ──▶ bareReceivers
//
// Invariants, true whenever the shard's lock is not held:
//  W1. At most perCompletion calls wait on one completion.
//  W2. Every call with a seat in an unfinished flight is counted, in seated or in the
//      block that it waits in. Only the last block may be empty. So memory is in
//      proportion to the calls that wait, not to all calls that have come and left.
//  W3. A listed caller is in the list of its flight until it leaves or the flight is
//      finished. After that the list belongs to the goroutine that wakes the waiters, and
//      so does the list of bare receivers.
//  W4. A receiver's channel is sent to once: by DoChan, if an outcome or an error answers
//      the call on arrival; by afterLeaving, if the call left before finish, or its ctx
//      ended before it took part; otherwise by wake, or by the goroutine that send starts
//      for a clone.
//
// The order of waking. finish has set the outcome and unregistered the flight, and has
// released the lock. The goroutine that ran fn first notifies the leader of the
// successor, as all calls that are queued there wait for it; then Shutdown, if this was
// the last flight of the shard; then the callers of the flight itself, by block. If
// these are many, or some are listed, and the goroutine is not one that was started for
// this flight, it leaves them to another goroutine and goes on.
//
// Rejected: a list of all waiters with a channel each (as x/sync's DoChan and the
// kernel's completions have it). It costs an allocation for each follower, and to wake
// them is to walk over them all.

const (
	// perCompletion bounds the waiters on one channel. Closing a channel makes all its
	// waiters runnable without a preemption point, and a stop-the-world of the garbage
	// collector, and with it every goroutine, has to wait until that is over: 17 ms for
	// a hundred thousand waiters. A P has room for 256 runnable goroutines; any beyond
	// go through a queue that all Ps share.
	perCompletion = 128

	// wakeInline is how many waiters a leader wakes itself before it returns. To wake
	// one takes 0.1 to 0.4 µs; starting a goroutine that wakes them all takes about 0.5
	// µs and an allocation.
	wakeInline = 16

	// longRest is the longest time, in nanoseconds, that a waker's yield may take.
	// After a longer one it no longer yields to the goroutines that it has woken.
	longRest = int64(time.Millisecond)
)

// A seat is the place at which one blocked call waits: a completion, and the block that
// counts the call, or nil if flight.seated does. done is nil if the call has no seat.
type seat struct {
	done  sched.Completion
	block *block
}

// A block counts up to perCompletion waiters of one flight, beyond the first ones. It
// is guarded by the shard's lock until the flight is finished, and belongs to the
// goroutine that wakes after that.
type block struct {
	done   sched.Completion
	n      int32 // waiters
	silent int32 // how many of them are keys of DoMultis, which do not panic
	links[*block]
}

// sit counts one more waiter of f and returns its seat. It allocates if no completion
// has room. The shard's lock must be held, and f must not be finished.
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
	return seat{done: b.done, block: b}
}

// countSilent adds n, which is 1 or -1, to the keys of DoMultis among the waiters on the
// completion of a seat. The shard's lock must be held, and f must not be finished.
func (f *flight[K, V]) countSilent(at seat, n int) {
	if at.block != nil {
		at.block.silent += int32(n)
	} else {
		f.silent += uint8(n)
	}
}

// rise gives back a seat. A block that is left empty goes, unless it is the last. The
// shard's lock must be held, and f must not be finished.
func (f *flight[K, V]) rise(from seat) {
	b := from.block
	if b == nil {
		f.seated--
		return
	}
	b.n--
	// sit looks for room in the last block only, so that one stays.
	if blocks := &f.cold.blocks; b.n == 0 && b != blocks.last {
		blocks.remove(b)
	}
}

// wake notifies the leader of the successor, completes Shutdown's wait if it is due,
// and wakes or answers all callers of the flight that has finished. If there are none, it
// ends fn's context if that is due. clone is the group's, or nil. If mayDefer is set, wake
// does not stay for many callers: the goroutine is that of a leader or of Shutdown, which
// is to return, or that of a batch, which has other flights to wake. No lock may be held.
func (e *ending[K, V]) wake(clone func(V) V, mayDefer bool) {
	e.next.notify()
	if e.idle != nil {
		sched.Complete(e.idle)
	}
	e.wakeCallers(clone, mayDefer)
	if e.lost != nil {
		e.lost.cancel(context.Canceled) // last, as it may run code that fn has registered
	}
}

// wakeCallers is wake for the callers of the flight. If mayDefer is set, it leaves them
// to a goroutine if they are more than wakeInline, or if some are listed: those may be
// receivers, and to stop watching their contexts is to run code of theirs.
//
// The frames from runOwn on down fit into the two KiB of stack that the goroutine of a
// flight starts with (TestMemory_StackOfAFlight): if it had to grow, a DoContext would
// take twice the time. So rare work is not in this function.
func (e *ending[K, V]) wakeCallers(clone func(V) V, mayDefer bool) {
	if mayDefer && (e.n > wakeInline || e.first != nil) {
		e.wakeLater(clone)
		return
	}
	if e.done != nil {
		sched.Complete(e.done)
	}
	if e.blocks != nil || e.bare != nil || e.first != nil {
		e.wakeMany(clone, mayDefer)
	}
}

// wakeLater is wakeCallers on a goroutine of its own.
func (e *ending[K, V]) wakeLater(clone func(V) V) {
	copied := *e // e itself is on the stack
	sched.Go(func() {
		later := copied // so that copied is a part of the closure
		later.wakeCallers(clone, false)
	})
}

// wakeMany is wakeCallers for the callers that do not wait on the flight's own completion.
func (e *ending[K, V]) wakeMany(clone func(V) V, mayDefer bool) {
	restless := mayDefer // no yield if the goroutine is to return or go on
	// The newest block comes first: its stacks are still in the caches.
	for b := e.blocks; b != nil; b = b.prev {
		restless = restless || !rest()
		sched.Complete(b.done)
	}
	for b := e.bare; b != nil; b = b.before {
		e.shard.sendBare(e.flight, b.channels)
		if len(b.channels) == perCompletion {
			restless = restless || !rest()
		}
	}
	n := 0
	var sent []*caller[K, V] // those whose Receive hook is due
	for c := e.first; c != nil; c = c.next {
		if n++; n%perCompletion == 0 {
			restless = restless || !rest()
		}
		if c.deliver(clone) && c.hears() {
			sent = append(sent, c)
		}
	}
	// All have their answers. unwatch may run code of a context's, which may block, or
	// exit the goroutine.
	defer callAll(0, len(sent), func(i int) { sent[i].receiveListed() })
	var watched []*caller[K, V]
	for c := e.first; c != nil; {
		next := c.next
		c.links = links[*caller[K, V]]{} // c must not keep its neighbors
		if c.stop != nil {
			watched = append(watched, c)
		}
		c = next
	}
	callAll(0, len(watched), func(i int) { watched[i].unwatch() })
}

// rest yields to the goroutines that have been woken, while the memory that they need
// is in the caches of the processor, and reports whether it took less than longRest.
//
// If it did, waking goes on in this way: the last of ten or a hundred thousand waiters
// has then returned after 0.7 to 0.8 of the time that the closing of one channel takes,
// and no other goroutine has had to wait for that. If the Ps are busy with other work,
// each rest takes a turn of all runnable goroutines: with four goroutines that never
// block, on two Ps, the last of ten thousand waiters returned after 3.2 s if the waker
// always rested, and after 0.1 s if it stopped resting once a rest had taken long:
//
//	go test -v -run TestG16_WakingGoesOn
func rest() (soon bool) {
	began := sched.Now()
	sched.Yield()
	return sched.Now()-began < longRest
}
