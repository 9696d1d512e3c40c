package coalesce

import (
	"runtime/pprof"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds successors: flights that are queued behind one that new
// calls must not join, because all its callers have left or, for DoFresh,
// because it began too early. One mechanism serves both.
//
// Invariants, true whenever the shard's lock is not held:
//  Q1. A queued flight is the successor of one flight, which is registered; it
//      is not in the table itself, and nothing is queued behind it.
//  Q2. Every call in a flight that is queued or promoted is listed there, in order
//      of arrival, and such a flight has at least one call.
//  Q3. A promoted flight is in the table (or forgotten), and one of its callers is
//      marked promoted: that call must start the flight or leave.
//
// A promoted flight is not started by the goroutine that promotes it. A Do's fn has
// to run on its caller's goroutine, and whether a context has ended cannot be
// asked under the lock. Until the call that was picked has woken and looked,
// others that come must be able to take its place, hence Q2: plain followers,
// which are not listed, may join only once fn is sure to run.

// successor returns the flight queued behind f, a new one if there is none.
// s.mu must be held.
func (s *shard[K, V]) successor(f *flight[K, V]) *flight[K, V] {
	x := f.extend()
	if x.queue == nil {
		q := s.takeOwn(nil)
		q.key, q.hash = f.key, f.hash
		q.state = queued
		q.born = sched.Now()
		q.cold.before = f
		q.cold.ctx.ahead.Store(f.context())
		if s.group.hooks != nil {
			s.enroll(q)
		}
		x.queue = q
		s.watchAge(f, q)
	}
	return x.queue
}

// dequeue takes f, which is queued, out of that state. Its predecessor no
// longer refers to it. The shard's lock must be held.
func (f *flight[K, V]) dequeue() {
	f.cold.before = nil
	f.cold.ctx.ahead.Store(nil)
	if f.cold.timer != nil {
		f.cold.timer.Stop()
		f.cold.timer = nil
	}
}

// promote registers the successor of f, which has just been removed, and returns the
// caller that it is handed to, to be notified once the lock is released; nil if
// nothing is queued. s.mu must be held.
func (s *shard[K, V]) promote(f *flight[K, V]) *caller[K, V] {
	q := f.queue()
	if q == nil {
		return nil
	}
	f.cold.queue = nil
	q.dequeue()
	q.state = promoted
	s.link(q)
	return q.hand()
}

// hand picks the call that must start f, which is promoted: the one that has
// waited longest. s.mu must be held.
func (f *flight[K, V]) hand() *caller[K, V] {
	c := f.cold.callers.first
	c.promoted = true
	return c
}

// notify wakes a blocked call that was picked, or starts a goroutine for another.
// No lock may be held. c may be nil.
func (c *caller[K, V]) notify() {
	switch {
	case c == nil:
	case c.turn != nil:
		sched.Complete(c.turn)
	default:
		sched.Go(c.leadQueued)
	}
}

// evaporate removes f, which has not started and which its last call has just
// left, and returns the caller to notify, as remove does. s.mu must be held.
func (s *shard[K, V]) evaporate(f *flight[K, V]) *caller[K, V] {
	next := s.remove(f)
	var zero V
	f.setOutcome(rejected, zero, nil)
	return next
}

// queue blocks until the flight that c is queued in has finished, c leads it, or c's
// context has ended, and returns c's answer. fn is that of a Do. It is entered with c's shard locked and unlocks it.
//
// c itself stays where it is, on its call's stack: a copy is listed. This is outlined,
// as its frame would keep a plain follower from fitting into the two KiB of stack that
// its goroutine was born with.
//
//go:noinline
func (c *caller[K, V]) queue(fn func() (V, error)) (v V, shared bool, err error) {
	q := new(caller[K, V])
	*q = *c
	q.turn = sched.NewCompletion()
	q.list()
	q.seat = q.flight.sit()
	q.shard.unlock(q.edge)
	q.announce()
	sched.WaitAny(q.seat.done, q.turn, q.done)
	if !q.takeTurn() {
		return q.await()
	}
	if q.inline {
		defer q.edge.drop()
		return q.runInline(fn)
	}
	q.flight.spawn()
	return q.await()
}

// leadQueued is the goroutine of a receiver, or a DoMulti's key, that was promoted.
func (c *caller[K, V]) leadQueued() {
	pprof.SetGoroutineLabels(c.ctx) // not those of the goroutine that promoted c
	switch {
	case c.takeTurn():
		if c.announced != nil {
			sched.Wait(c.announced)
		}
		c.shard.runOwn(c.flight)
	case c.ended:
		c.withdraw(c.ctx)
	}
}

// takeTurn makes c lead its flight, if it was picked and its context has not ended,
// and reports whether it does. The flight must then be run. No lock may be held.
func (c *caller[K, V]) takeTurn() bool {
	if c.done != nil {
		c.guard(func() { c.ended = c.ctx.Err() != nil })
		if c.ended {
			return false
		}
	}
	s := c.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	f := c.flight
	if c.gone || f.state != promoted || !c.promoted {
		return false // rejected, or not c's turn: it was woken for another reason
	}
	f.state = running
	f.leading, c.leads = true, true
	f.born = sched.Now()
	s.note(callStarted, f, c)
	if !c.inline {
		f.setOwn(c.ctx, c.fn)
	}
	if c.turn != nil {
		c.unlist() // a blocked call needs no delivery, nor the lead once more
	}
	return true
}

// list puts c, which must be on the heap, at the end of its flight's list. c's shard
// must be locked.
func (c *caller[K, V]) list() {
	c.flight.extend().callers.push(c)
	c.listed = c
	if c.joined != nil && c.turn == nil {
		c.announced = sched.NewCompletion() // another goroutine may call the next hook
	}
}

// unlist takes c off the list. c's shard must be locked.
func (c *caller[K, V]) unlist() {
	c.flight.cold.callers.remove(c)
	c.listed = nil
}
