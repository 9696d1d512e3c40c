package coalesce

import (
	"runtime/pprof"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds successors: flights that are queued behind one that new calls must
// not join, because all its callers have left or, for DoFresh, because it began too
// early. One mechanism serves both.
//
// A successor is handed to the call that has waited longest in it:
//
//  1. admit makes the successor, and the calls that queue in it are listed there. A
//     blocked call waits, in queue, for its turn, its seat's completion or its ctx.
//  2. The flight in front goes: it finishes, or is detached by Forget or because of
//     MaxAge. In that critical section promote registers the successor, and pick marks
//     the first caller in its list as promoted.
//  3. Once the lock is released, the same goroutine calls notify: it completes turn or,
//     for a receiver or a key of a DoMulti, starts a goroutine with leadQueued.
//  4. That call wakes, and takeTurn asks ctx whether it has ended, without a lock. If
//     not, takeTurn makes the flight running and the call its leader, under the lock.
//  5. The leader runs fn, on its own goroutine if inline is set, else on one of the
//     flight's own. The calls that were queued with it get its result, and new calls
//     join.
//  6. If ctx had ended, the call leaves. depart sees that it was promoted, and hands
//     the flight to the next caller in the list: back to 3. If there is none, the
//     flight evaporates, and a successor behind it is promoted: back to 2.
//
// Between 2 and 4 the flight is in the table, but no call is certain to start it. It is
// not started by the goroutine that promotes it: the fn of a Do must run on the
// goroutine of its caller, and whether a context has ended cannot be asked under the
// lock. So a call that arrives meanwhile is queued in the flight, too, and may be
// picked in its turn (Q2). Plain followers, which are not listed, can join only once fn
// is sure to run.
//
//	                promoter             call A (first in the list)    call B (second)
//	under the lock  promote, pick: A
//	                notify A
//	                                     takeTurn: ctx has ended
//	under the lock                       leave: depart, pick: B
//	                                     notify B
//	under the lock                                                     takeTurn: running
//	                                                                   fn
//
// Invariants, true whenever the shard's lock is not held:
//  Q1. A queued flight is the successor of one flight, which is registered; it is not
//      in the table itself, and nothing is queued behind it. As its key has no other
//      registered flight, front finds that one.
//  Q2. Every call in a flight that is queued or promoted is listed there, in order of
//      arrival, and such a flight has at least one call.
//  Q3. A promoted flight is in the table (or forgotten), and one of its callers is
//      marked promoted: that call must start the flight or leave.

// succeed queues a new flight, which it returns, behind f, which has none behind it. The
// caller must let a call join it in the same critical section (Q2). s.mu must be held.
func (s *shard[K, V]) succeed(f *flight[K, V]) *flight[K, V] {
	q := s.takeOwn()
	q.key, q.hash = f.key, f.hash
	q.state = queued
	q.cold.ctx.ahead.Store(f.context()) // in the graph of waits, q waits for f
	if s.group.hooks != nil {
		s.enroll(q)
	}
	f.extend().queue = q
	s.watchAge(f, q)
	return q
}

// front returns the flight that q, which is queued, is queued behind. s.mu must be held.
func (s *shard[K, V]) front(q *flight[K, V]) *flight[K, V] {
	return s.lookup(uint64(q.hash), q.key, true)
}

// dequeue clears the fields of f that only a queued flight has, and stops its timer.
// f's predecessor must no longer refer to it, and f must get another state before the
// shard's lock, which must be held, is released: a timer that has already fired then
// does nothing.
func (f *flight[K, V]) dequeue() {
	f.cold.ctx.ahead.Store(nil)
	if f.cold.timer != nil {
		f.cold.timer.Stop()
		f.cold.timer = nil
	}
}

// promote registers the successor of f, which has just been unregistered, and hands it
// to one of its callers. It returns that caller, to be notified once the lock is
// released, or nil if nothing is queued. s.mu must be held.
func (s *shard[K, V]) promote(f *flight[K, V]) *caller[K, V] {
	q := f.queue()
	if q == nil {
		return nil
	}
	f.cold.queue = nil
	q.dequeue()
	q.state = promoted
	s.link(q)
	return q.pick()
}

// pick chooses the call that must start f, which is promoted and has a call: the one that
// has waited longest. It returns the caller to notify. s.mu must be held.
func (f *flight[K, V]) pick() *caller[K, V] {
	c := f.cold.callers.first
	c.promoted = true
	return c
}

// notify wakes c, which pick chose, if it is a blocked call, and starts a goroutine
// for any other. It does not wait for c. If c has left meanwhile, this has no effect:
// depart has handed the flight on. c may be nil. No lock may be held.
func (c *caller[K, V]) notify() {
	switch {
	case c == nil:
	case c.turn != nil:
		sched.Complete(c.turn)
	default:
		sched.Go(c.leadQueued)
	}
}

// evaporate finishes f, which has not started and whose last call has just left, and
// returns the caller to notify, as takeOut does. There is no call to wake, no event, and
// no Shutdown that waits for f, as Shutdown rejects such flights. s.mu must be held.
func (s *shard[K, V]) evaporate(f *flight[K, V]) *caller[K, V] {
	next := s.takeOut(f)
	var zero V
	f.setOutcome(rejected, zero, nil)
	return next
}

// queue blocks until the flight that c is queued in, or has joined if c is nested, has
// finished, c leads it, or c has to leave. It runs the flight if c leads, and returns c's
// answer. fn is that of a Do, or nil for other forms. It is entered with c's shard locked
// and unlocks it.
//
// c itself stays where it is, on its call's stack, and must not be used again: a copy
// is listed, or watched. queue is outlined, as its frame would keep a plain follower from
// fitting into the two KiB of stack that its goroutine was born with.
//
//go:noinline
func (c *caller[K, V]) queue(fn func() (V, error)) (v V, shared bool, err error) {
	q := new(caller[K, V])
	*q = *c
	q.turn = sched.NewCompletion()
	if q.flight.state != running {
		q.list()
	}
	q.seat = q.flight.sit()
	q.armLook()
	q.shard.mu.Unlock()
	q.announce()
	// More than one may be complete by now. takeTurn and await look at the state of the
	// flight, so it does not matter which of them has woken q. A look that refuses q
	// completes turn, too.
	sched.WaitAny(q.seat.done, q.turn, q.done)
	if !q.takeTurn() {
		return q.await() // the answer is there, or ctx has ended
	}
	if q.inline {
		defer q.edge.drop() // also if fn panics
		return q.runInline(fn)
	}
	q.flight.spawn()
	return q.await()
}

// leadQueued runs on a goroutine that notify started for c, a receiver or a key of a
// DoMulti that was picked. It runs the flight if c takes its turn, and makes c leave if
// c's context has ended. Meanwhile AfterFunc's goroutine, or that of the DoMulti, may
// make c leave, too.
func (c *caller[K, V]) leadQueued() {
	c.guard(func() { pprof.SetGoroutineLabels(c.ctx) }) // not those of the goroutine that promoted c
	if !c.takeTurn() {
		c.withdraw(c.ctx) // without effect if Shutdown has refused c
		return
	}
	if c.announced != nil { // the goroutine of the call may still be in Join
		sched.Wait(c.announced)
	}
	c.shard.runOwn(c.flight)
}

// takeTurn makes c lead its flight if c was picked and its context has not ended, and
// reports whether c leads. The flight must then be run. If it reports false, either
// c.ended is set and c must leave, or c has nothing to start. No lock may be held.
func (c *caller[K, V]) takeTurn() bool {
	// ctx is asked before the lock, so it may end between the two. That is as if it had
	// ended when fn was running.
	if c.done != nil {
		c.guard(func() { c.mustLeave = c.ctx.Err() != nil })
		if c.mustLeave {
			return false
		}
	}
	s := c.shard
	s.mu.Lock()
	f := c.flight
	if c.gone || f.state != promoted || !c.promoted {
		// The flight has finished, or it is not c's turn, or c has left. A blocked call
		// has left by now only if a look has refused it, and must not wait for its seat.
		c.mustLeave = c.gone
		s.mu.Unlock()
		return false
	}
	if refusal := c.edge.exempt(); refusal != nil {
		s.mu.Unlock()
		c.refuse(refusal) // the look may be about to do the same
		c.mustLeave = true
		return false
	}
	defer s.mu.Unlock()
	f.state = running
	f.leading, c.leads = true, true
	if c.edge != nil {
		f.cold.nested--
	}
	f.born = sched.Now()
	s.note(callStarted, f, c)
	if !c.inline {
		f.setOwn(c.ctx, c.fn)
	}
	if c.turn != nil {
		c.unlist() // it was listed only to be picked; other forms need delivery
	}
	return true
}

// list puts c, which must be on the heap, at the end of its flight's list. turn must be
// set by now if c is a blocked call. c's shard must be locked.
func (c *caller[K, V]) list() {
	c.flight.extend().callers.push(c)
	c.listed = c
	if c.joined != nil && c.turn == nil && c.shard.group.hooks.Join != nil {
		// Another goroutine may call the next hook for c, and must wait for Join.
		c.announced = sched.NewCompletion()
	}
}

// unlist takes c off its flight's list. c's shard must be locked.
func (c *caller[K, V]) unlist() {
	c.flight.cold.callers.remove(c)
	c.listed = nil
}
