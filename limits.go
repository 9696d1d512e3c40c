package coalesce

import (
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the limits of a flight: MaxWaiters, how many may wait for it,
// and MaxAge, how long it keeps others from starting.
//
// Taking over is forgetting: the overdue flight is detached and runs on, and
// what lingers for its key is dropped. A queue behind it must not depend on the
// next call, so the first to queue arms a timer that does the same at that
// moment. While there is a queue, the timer alone takes over: a call that comes
// when it is due, but has not run, queues, too. Otherwise both could, one after
// the other, and the flight that had just been promoted would be taken for the
// old one.

// overdue reports whether f has reached MaxAge. s.mu must be held.
func (s *shard[K, V]) overdue(f *flight[K, V]) bool {
	return s.group.maxAge > 0 && f.state != promoted && s.remaining(f) <= 0
}

// remaining returns the time until f, which has started, reaches MaxAge.
func (s *shard[K, V]) remaining(f *flight[K, V]) time.Duration {
	return s.group.maxAge - time.Duration(sched.Now()-f.born)
}

// meet is lookup for a call that takes over from a flight that is overdue, if
// nobody queues behind it: it detaches that flight and returns nil. A call that
// wants it fresh queues. s.mu must be held.
func (s *shard[K, V]) meet(h uint64, key K, reflexive bool, wants wish) *flight[K, V] {
	f := s.lookup(h, key, reflexive)
	if f == nil || wants == fresh || !s.overdue(f) || f.queue() != nil {
		return f
	}
	s.note(flightTakenOver, f, nil)
	s.detach(f) // nothing is queued, so nobody is promoted
	return nil
}

// watchAge sees to it that q, which is queued behind f, is promoted when f
// reaches MaxAge. s.mu must be held.
func (s *shard[K, V]) watchAge(f, q *flight[K, V]) {
	if s.group.maxAge == 0 {
		return
	}
	wait := s.group.maxAge // f was promoted and is about to start
	if f.state != promoted {
		wait = max(0, s.remaining(f))
	}
	q.cold.timer = sched.After(wait, func() { s.expire(q) })
}

// expire is what the timer of q does: it takes over from the flight that q is
// queued behind.
func (s *shard[K, V]) expire(q *flight[K, V]) {
	s.mu.Lock()
	if q.state != queued {
		s.mu.Unlock()
		return
	}
	f := q.cold.before
	if f.state == promoted || s.remaining(f) > 0 {
		// f started later than had been assumed.
		s.watchAge(f, q)
		s.mu.Unlock()
		return
	}
	s.note(flightTakenOver, f, nil)
	if l := s.group.lingering; l != nil {
		l.drop(f.key) // f was led by a DoFresh, and may return before q does
	}
	next := s.detach(f)
	s.mu.Unlock()
	next.notify()
}

// full reports whether MaxWaiters wait for f already. In a flight that has not started,
// one of the calls is to lead it. s.mu must be held.
func (s *shard[K, V]) full(f *flight[K, V]) bool {
	limit := s.group.maxWaiters
	waiters := f.followers()
	if f.state != running {
		waiters--
	}
	return limit > 0 && waiters >= limit
}
