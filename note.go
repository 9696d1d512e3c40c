package coalesce

import (
	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the notes that are taken when a call or a flight takes a step: its
// counter, its event for the hooks, and its edge in the graph of waits. The code that
// makes the step notes it in the same critical section, so the three agree with each
// other and with the state of the flight. (The panic of a batch that is logged is noted
// afterwards, when all flights have finished.)
//
// A counter counts steps, each when it happens, and no step is taken back. So a call is
// counted in one of the classes of Stats only when it is certain which one that is. Most
// calls are certain on arrival. Two kinds are pending, and counted later:
//
//   - a call that waits for a flight which has not started: when that starts, when the
//     call leaves, or when Shutdown refuses it;
//   - a nested call that follows: when the flight finishes, when the call leaves, or when
//     a look refuses it because it waits for itself.
//
// To add a counter:
//  1. Add a step to the constants below, before steps. Each shard then counts it in a
//     word of its counts, and Stats sums that over the shards. shardPadding gives that
//     word back, so that a shard keeps its size. Steps may overlap.
//  2. Call note with it where the step is made, under the lock of the shard. If it is
//     one of the ways in which a flight ends, add it to noteEnd instead. If it has an
//     event or an edge, or counts for more than one, add a case to note.
//  3. Add a field to Stats, and a line to the Stats method that sets it from the step.
//     If it is a new class of calls, add it to the sum of Calls.
//
// Not noted here: shard.lead, leadAlone and multi.lead, which are to be fast, count
// callLed themselves; no edge leads to their flights. Steps that are made without a
// shard's lock have counters of their own (groupState.endedOnEntry, lingerers.hits and
// hooks.panics), and lingerers.evicted is under a lock of its own.

// A step is one in the life of a call or a flight. Each shard counts them.
type step uint8

const (
	callLed         step = iota // leads a flight from the beginning of the flight
	callJoined                  // follows in a flight, for certain
	callPending                 // waits for a flight, and may come to lead or be refused
	callStarted                 // leads a flight in which it was queued
	callClosed                  // was queued, and Shutdown refused it
	callLeft                    // has left its flight
	callRefused                 // received an error on arrival, or from a look
	flightAbandoned             // its last caller has left while fn ran
	flightForgotten             // a Forget of any form detached it, or dropped an outcome, or both
	flightTakenOver             // was detached because of MaxAge
	flightPanicked              // its fn panicked
	flightExited                // its fn called Goexit
	panicLogged                 // a panic of its fn or of Clone that no blocking call received

	steps // how many there are
)

// note counts a step of c in f, or of f, makes its event if there are hooks, and adds
// or removes its edge. f is nil for callRefused on arrival, for flightForgotten if the key
// had no flight, and for panicLogged if the panic is a batch's or Clone's; c is nil if the
// step is one of a flight. s.mu must be held.
func (s *shard[K, V]) note(what step, f *flight[K, V], c *caller[K, V]) {
	s.counts[what]++
	hooked := s.group.hooks != nil
	switch what {
	case callLed:
		if hooked {
			s.enroll(f) // Start is called later, by the goroutine that runs fn
		}
		point(c.edge, f)
	case callJoined, callPending:
		c.flight = f // c takes part from here on
		c.joined = s.newEvent(f)
		point(c.edge, f)
	case callStarted:
		s.counts[callJoined] += uint64(f.followers() - f.nested()) // those that were queued with c
		if hooked {
			s.enrollStart(f) // its edge has been there since it was queued
		}
	case callLeft, callRefused:
		if f == nil {
			break // it has taken part in nothing
		}
		if what == callLeft && c.pending() {
			s.counts[callJoined]++ // it leaves as a follower
		}
		c.left = s.leaveEvent(f, c.joined, c.err)
		c.edge.drop()
	case flightAbandoned:
		if b := f.batch(); b != nil { // all its flights are abandoned at once
			s.counts[what] += b.size() - 1
		}
	}
}

// pending reports whether c, which takes part, has not been counted in a class yet. c's
// shard must be locked.
func (c *caller[K, V]) pending() bool {
	return !c.leads && (c.flight.state != running || c.edge != nil)
}

// noteEnd counts the end of f and returns the event for the Finish hook, or nil without
// hooks. Only Shutdown ends a flight as rejected here: one that evaporates has no call
// left to count, and no event. s.mu must be held.
func (s *shard[K, V]) noteEnd(f *flight[K, V], how outcome) *Event[K] {
	if how != rejected {
		s.counts[callJoined] += uint64(f.nested()) // they have their answer now
	}
	switch how {
	case panicked:
		s.counts[flightPanicked]++
	case exited:
		s.counts[flightExited]++
	case rejected:
		s.counts[callClosed] += uint64(f.callers)
	}
	if s.group.hooks == nil {
		return nil
	}
	return s.finishEvent(f)
}

// A counter counts steps that are made without a shard's lock. The zero counter is ready
// to use. An xsync.Counter takes 64 bytes for each P, so it is made at the first step.
type counter struct {
	striped sched.SetOnce[xsync.Counter]
}

// add adds n to c. No lock need be held.
func (c *counter) add(n int64) {
	s := c.striped.Load()
	if s == nil {
		s = xsync.NewCounter()
		if !c.striped.CompareAndSwap(nil, s) {
			s = c.striped.Load()
		}
	}
	s.Add(n)
}

// value returns the sum of all additions.
func (c *counter) value() int64 {
	if s := c.striped.Load(); s != nil {
		return s.Value()
	}
	return 0
}
