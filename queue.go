package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds successors: flights that are queued behind one that new
// calls must not join, because all its callers have left or, for DoFresh,
// because it began too early. One mechanism serves both.
//
// Invariants, true whenever the shard's lock is not held:
//  Q1. A queued flight is the successor of one flight, which is registered; it
//      is not in the table itself, and nothing is queued behind it.
//  Q2. Every call in a flight that is queued or promoted has an entry there,
//      in order of arrival, and such a flight has at least one call.
//  Q3. A promoted flight is in the table (or forgotten), and one of its
//      entries is marked promoted: that call must start the flight or leave.
//
// A promoted flight is not started by whoever promotes it. A Do caller's fn has
// to run on that caller's goroutine, and whether a context has ended cannot be
// asked under the lock. Until the call that was picked has woken and looked,
// others that come must be able to take its place, hence Q2: plain followers,
// who have no entry, may join only once fn is sure to run.

// An entry is what a call keeps in a flight that it may have to lead, or that
// has to send to its channel.
type entry[K comparable, V any] struct {
	shard *shard[K, V] // set at birth

	// Guarded by the shard's lock, until the flight is finished (W3).
	flight     *flight[K, V] // nil until the call takes part
	prev, next *entry[K, V]
	promoted   bool // must start the flight, or leave
	gone       bool // a receiver that has been answered otherwise

	turn sched.Completion // a blocked call's: complete when it is promoted

	// Of a receiver (see chan.go) or a key of DoMulti, set at birth. If its turn
	// comes, it leads on a goroutine that is started for it.
	ctx context.Context
	fn  func(context.Context) (V, error)

	ch   chan Result[V]   // a receiver's
	stop func() bool      // a receiver's: stops watching ctx
	told sched.Completion // DoMulti's: complete when it is answered
	edge *edge            // of either, until it is answered or leaves

	// For hooks, set when the call takes part.
	event     *Event[K]        // of its joining; nil if it leads at once
	announced sched.Completion // complete when that has been told; nil if the caller tells everything
}

// enqueue makes a call that cannot join f at once, with entry r, take part in
// the flight where it belongs, which it returns: f itself if that has only not
// started yet, its successor otherwise or if the call wants it fresh. s.mu must
// be held.
func (s *shard[K, V]) enqueue(f *flight[K, V], wants wish, r *entry[K, V]) *flight[K, V] {
	q := f
	if f.state != promoted || wants == fresh {
		q = s.successor(f)
	}
	s.joined++
	// A flight that its only call has left is gone at once (Q2), so whoever
	// finds another call here is the second to take part.
	if q.callers > 0 {
		q.joined = true
	}
	q.callers++
	q.cold.addEntry(r)
	r.flight = q
	if r.event = s.event(q); r.event != nil && r.turn == nil {
		r.announced = sched.NewCompletion()
	}
	return q
}

// successor returns the flight queued behind f, a new one if there is none.
// s.mu must be held.
func (s *shard[K, V]) successor(f *flight[K, V]) *flight[K, V] {
	x := f.extend()
	if x.queue == nil {
		q := s.takeOwn(nil)
		q.key, q.hash = f.key, f.hash
		q.known = true
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

// promote registers the successor of f, which has just been removed, and
// returns the entry that it is handed to, to be notified once the lock is
// released; nil if nothing is queued. s.mu must be held.
func (s *shard[K, V]) promote(f *flight[K, V]) *entry[K, V] {
	if f.queue() == nil {
		return nil
	}
	q := f.cold.queue
	f.cold.queue = nil
	q.dequeue()
	q.state = promoted
	s.link(q)
	return q.hand()
}

// hand picks the call that must start f, which is promoted: the one that has
// waited longest. s.mu must be held.
func (f *flight[K, V]) hand() *entry[K, V] {
	r := f.cold.first
	r.promoted = true
	return r
}

// notify tells a call that it was picked: a blocked one wakes, for a receiver
// a goroutine is started. No lock may be held. r may be nil.
func (r *entry[K, V]) notify() {
	switch {
	case r == nil:
	case r.turn != nil:
		sched.Complete(r.turn)
	default:
		sched.Go(r.lead)
	}
}

// start makes f run, led by the call with entry r, if that call was picked
// and f was not rejected meanwhile; it reports whether it did. s.mu must be
// held.
func (s *shard[K, V]) start(f *flight[K, V], r *entry[K, V]) bool {
	if f.state != promoted || !r.promoted {
		return false
	}
	f.state = running
	f.leading = true
	since := f.born
	f.born = sched.Now()
	if s.group.hooks != nil {
		s.enrollStart(f, since)
	}
	s.joined--
	s.led++
	return true
}

// evaporate removes f, which has not started and which its last call has just
// left, and returns the entry to notify, as remove does. s.mu must be held.
func (s *shard[K, V]) evaporate(f *flight[K, V]) *entry[K, V] {
	was := f.state
	f.state, f.outcome = finished, rejected
	if was == queued {
		f.cold.before.cold.queue = nil
		f.dequeue()
		return nil
	}
	return s.remove(f)
}

// reject finishes f, which has not started and is in no table, because the
// group shuts down. s.mu must be held.
func (s *shard[K, V]) reject(f *flight[K, V]) waking[K, V] {
	f.state, f.outcome, f.err = finished, rejected, ErrClosed
	s.joined -= uint64(f.callers)
	s.rare.rejected += uint64(f.callers)
	w := f.takeWaiters()
	w.event = s.finishing(f, w.n)
	return w
}

// queueUp makes c take part in a flight that it has to wait for, as enqueue
// does, and returns that flight. s.mu must be held.
func (s *shard[K, V]) queueUp(c *call[K, V], f *flight[K, V], wants wish) *flight[K, V] {
	c.r = &entry[K, V]{shard: s, turn: sched.NewCompletion()}
	q := s.enqueue(f, wants, c.r)
	c.w, c.event = q.wait(), c.r.event
	return q
}

// awaitTurn blocks until f, in which c is queued, has finished, c has been
// picked to lead it, or c's context has ended, and reports whether c leads: if
// so f is running and c must run it. The lock must not be held.
func (s *shard[K, V]) awaitTurn(c *call[K, V], f *flight[K, V]) bool {
	sched.WaitAny(c.w.done, c.r.turn, c.done)
	if c.done != nil && s.hasEnded(c, f) {
		return false // it leads nothing any more; leave hands it on
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.start(f, c.r) {
		return false
	}
	// The call is not to be told, nor to take the lead, any more.
	f.cold.removeEntry(c.r)
	c.r, c.leads = nil, true
	if c.fn != nil {
		f.setOwn(c.ctx, c.fn)
	}
	return true
}

// hasEnded asks the context of c, which is queued in f, whether it has ended.
// If that panics, or exits, c leaves: the call may have been picked, and others
// would wait for it for ever.
func (s *shard[K, V]) hasEnded(c *call[K, V], f *flight[K, V]) bool {
	asked := false
	defer func() {
		if asked {
			return
		}
		s.forsake(c, f)
	}()
	c.ended = c.ctx.Err() != nil
	asked = true
	return c.ended
}

// forsake makes c leave f, unless that has finished, because the caller's
// goroutine is being left by a panic or by Goexit. The lock must not be held.
func (s *shard[K, V]) forsake(c *call[K, V], f *flight[K, V]) {
	c.edge.drop()
	var after departure[K, V]
	s.mu.Lock()
	if f.state != finished {
		f.unwait(c.w)
		after = s.depart(f, c.r, c.leads, c.event)
	}
	s.mu.Unlock()
	after.run(context.Background())
	s.tellLeave(after)
}

// addEntry puts r at the end of the list. The shard's lock must be held.
func (x *cold[K, V]) addEntry(r *entry[K, V]) {
	r.prev = x.last
	if x.last == nil {
		x.first = r
	} else {
		x.last.next = r
	}
	x.last = r
}

// removeEntry takes r, which is in it, off the list. The shard's lock must be
// held.
func (x *cold[K, V]) removeEntry(r *entry[K, V]) {
	if r.prev == nil {
		x.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		x.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}
