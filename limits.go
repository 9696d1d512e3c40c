package coalesce

import (
	"math"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the limits of a flight: MaxWaiters bounds the calls that wait for it,
// and MaxAge bounds the time for which it keeps other flights of its key from starting.
//
// To take over is to forget: the overdue flight is detached and runs on, and the
// outcome that lingers for its key is dropped. There are two ways:
//
//   - lookupOrTakeOver, if nothing is queued behind the flight: the call that finds it
//     overdue detaches it and leads the next flight.
//   - expire, if there is a successor. That must not depend on a further call, so the
//     first call to queue arms a timer, which detaches the overdue flight and so
//     promotes the successor.
//
// While there is a successor, the timer alone takes over: a call that arrives after the
// timer is due, but before it has run, is queued. Otherwise both could take over, one
// after the other, and the second would take over from the flight that had just been
// promoted.

// overdue reports whether f has reached MaxAge. A promoted flight has not started, so
// it has no age. s.mu must be held.
func (s *shard[K, V]) overdue(f *flight[K, V]) bool {
	return s.group.maxAge > 0 && f.state != promoted && s.remaining(f) <= 0
}

// remaining returns the time until f, which has started, reaches MaxAge. It is not
// positive if f has. s.mu must be held.
func (s *shard[K, V]) remaining(f *flight[K, V]) time.Duration {
	return s.group.maxAge - time.Duration(sched.Now()-f.born)
}

// lookupOrTakeOver returns the flight that is registered for key, as lookup does, unless
// it is overdue and the call that wants it may take over from it at once: then
// lookupOrTakeOver detaches it and returns nil. A DoFresh does not take over, but queues.
// For the other calls admit has found no outcome for key, so there is none to drop. s.mu
// must be held.
func (s *shard[K, V]) lookupOrTakeOver(h uint64, key K, reflexive bool, wants wish) *flight[K, V] {
	f := s.lookup(h, key, reflexive)
	if f == nil || wants == fresh || !s.overdue(f) || f.queue() != nil {
		return f
	}
	s.note(flightTakenOver, f, nil)
	s.detach(f) // nothing is queued, so no call is promoted
	return nil
}

// watchAge arms a timer that promotes q, which is queued behind f, when f reaches
// MaxAge. It does nothing without a MaxAge. s.mu must be held.
func (s *shard[K, V]) watchAge(f, q *flight[K, V]) {
	if s.group.maxAge == 0 {
		return
	}
	wait := s.group.maxAge // f is promoted, and is to start soon
	if f.state != promoted {
		wait = max(0, s.remaining(f))
	}
	q.cold.timer = sched.After(wait, func() { s.expire(q) })
}

// expire runs on the goroutine of the timer of q. It takes over from the flight that q
// is queued behind, if that is overdue, and arms another timer if it is not yet. It
// does nothing if q is not queued any more. No lock may be held.
func (s *shard[K, V]) expire(q *flight[K, V]) {
	s.mu.Lock()
	if q.state != queued {
		s.mu.Unlock()
		return
	}
	f := s.front(q)
	if f.state == promoted || s.remaining(f) > 0 {
		// f was still promoted when the timer was armed, and starts later than assumed.
		s.watchAge(f, q)
		s.mu.Unlock()
		return
	}
	s.note(flightTakenOver, f, nil)
	if s.group.lingering != nil {
		s.drop(f.hash, f.key) // or it would answer calls after f, led by a DoFresh, has returned
	}
	next := s.detach(f)
	s.mu.Unlock()
	next.notify()
}

// maxFollowers is the number of calls beside the leader that a flight can count, in 32
// bits. It bounds MaxWaiters, and the calls of a flight without MaxWaiters.
const maxFollowers = math.MaxInt32 - 1

// full reports whether MaxWaiters calls wait for f already. In a flight that has not
// started one of the calls is going to lead, so it does not count. s.mu must be held.
func (s *shard[K, V]) full(f *flight[K, V]) bool {
	waiters := f.followers()
	if f.state != running {
		waiters--
	}
	return waiters >= s.group.maxWaiters
}
