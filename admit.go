package coalesce

import "github.com/seed342dcb2d/coalesce/internal/sched"

// This file holds the decision about a call: the state table, as far as it is about
// calls (forget.go has the rest). Each form of call asks admit, under the lock of the
// key's shard. If the call is to take part in a flight, it registers the flight, takes
// a seat or is listed before it releases the lock.
//
// Three places decide the first row, that of a key without a flight, by themselves, to
// be fast: Do in an empty shard, doSlow in a plain one, and multi.lead. A change of that
// row, or of the refusals, has to reach them.
//
//	the key's flight        | Do, DoContext, DoChan, DoMulti | DoFresh   | TryDo
//	------------------------|--------------------------------|-----------|------------
//	none                    | lead                           | lead      | lead
//	running                 | join                           | queue     | ErrInFlight
//	held, without a caller  | join                           | queue     | ErrInFlight
//	abandoned               | queue                          | queue     | ErrInFlight
//	the three, past MaxAge: |                                |           |
//	  nothing behind it     | take over: detach it, and lead | queue     | as Do
//	  a queue behind it     | queue                          | queue     | ErrInFlight
//	promoted                | queue in it                    | queue     | ErrInFlight
//	forgotten, still running| as none                        | as none   | as none
//	any or none, while      |                                |           |
//	  an outcome lingers    | answered by it                 | as without| answered by it
//	any or none, after      |                                |           |
//	  Shutdown has begun    | ErrClosed                      | ErrClosed | ErrClosed
//
// To queue is to take part in the successor behind the flight. The first call to queue
// makes the successor. A flight of a batch is abandoned when the whole batch is. A key
// that does not equal itself never has a flight that a call could find.
//
// If MaxWaiters calls already wait for the flight that a call would join or queue in,
// the call gets ErrSaturated instead. A call that waits for itself is refused later (see
// deadlock.go).
//
// A call whose context has ended on arrival never comes here: arrive refuses it (G6).

// A verdict says whether a call takes part in a flight, and in which way.
type verdict uint8

const (
	leads     verdict = iota // the key has no flight; the call must register one
	joins                    // it is counted in its flight, which is running
	queues                   // it is counted in its flight, and must be listed there
	answered                 // an outcome that lingers is its answer
	refused                  // an error is its answer
	withdrawn                // a receiver's ctx has ended; afterLeaving answers it
	open                     // from prepare: admit has yet to decide
)

// A wish says which flights a call may take part in, apart from one that it leads.
type wish uint8

const (
	anything wish = iota // any flight
	fresh                // only a flight that starts after the call began
	now                  // none, as the call does not wait
)

// admit decides about c, which asks for key. If it returns joins or queues, it has
// counted c in a flight, which is c.flight. If it returns answered or refused,
// c.lingerer or c.err is set. s must be locked.
//
// admit must be called once for each call, because it reads the clock: a second reading
// could find a flight past MaxAge that the first did not, and a call must not be
// counted in one flight and take part in another.
func (s *shard[K, V]) admit(c *caller[K, V], h uint64, key K, reflexive bool, wants wish) verdict {
	if c.gone {
		return withdrawn // AfterFunc's goroutine came first
	}
	if s.closed {
		c.err = ErrClosed
		return refused
	}
	// Since arrive looked, a flight may have finished and its outcome begun to linger.
	if wants != fresh && s.group.lingering != nil && c.lingering(h, key) {
		return answered
	}
	f := s.lookupOrTakeOver(h, key, reflexive, wants)
	if f == nil {
		return leads
	}
	if wants == now {
		c.err = ErrInFlight
		return refused
	}
	return s.admitTo(c, f, wants)
}

// admitTo is admit for a call whose key has the flight f and that may wait. It returns
// joins, queues or refused.
func (s *shard[K, V]) admitTo(c *caller[K, V], f *flight[K, V], wants wish) verdict {
	b := f.batch()
	if b != nil {
		b.mu.Lock() // b must not be abandoned between this look and the joining
		defer b.mu.Unlock()
	}
	// The target is the flight that c is to take part in: f, its successor, or nil if
	// it has yet to get one. A DoFresh may not even take part in a promoted flight,
	// because that was promoted before the call began.
	joinable := wants != fresh && f.state == running && !f.abandoned() && !s.overdue(f)
	target := f
	if !joinable && (f.state != promoted || wants == fresh) {
		target = f.queue()
	}
	// Refusals come before anything is changed.
	if target != nil && s.full(target) {
		c.err = ErrSaturated
		return refused
	}
	if target == nil {
		target = s.succeed(f)
	}
	s.join(c, target)
	if !joinable {
		return queues
	}
	if b != nil {
		b.callers++
	}
	return joins
}

// join makes c take part in f, which it does not lead, or does not lead yet. s.mu must
// be held.
//
// Rejected: to join a hot flight without the lock, by an atomic add to a word that
// finish closes. With one hot key on two Ps, seven calls in ten lead and lock twice, so
// joiners make a sixth of all acquisitions of the lock, and these take a quarter of the
// time, as this shows in benchmarks/:
//
//	go test -bench '/^work=hot$/^keys=1$/impl=coalesce$' -cpuprofile cpu.out
//
// That leaves some 5 % to win, at the price of a second way into a flight, which every
// way to finish a flight would have to close. On many cores it may be worth more; that
// has not been measured.
func (s *shard[K, V]) join(c *caller[K, V], f *flight[K, V]) {
	// If fn runs, its leader has taken part before c. If fn has not started and another
	// call is here, that one has. A flight that has not started and has lost its only
	// call is gone (Q2), so with no call here c is the first.
	if f.state == running || f.callers > 0 {
		f.joined, f.known = true, true
	}
	f.callers++
	if f.born == 0 {
		f.born = sched.Now()
	}
	if c.edge != nil {
		f.extend().nested++
	}
	if f.state == running && c.edge == nil {
		s.note(callJoined, f, c)
	} else {
		s.note(callPending, f, c)
	}
}
