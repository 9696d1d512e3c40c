package coalesce

import "github.com/seed342dcb2d/coalesce/internal/sched"

// This file holds what becomes of a call: the state table, as far as it is about
// calls. Every form of call asks admit, under the lock of the key's shard, and then
// does what the verdict says in its own way.
//
//	the key's flight     | Do, DoContext, DoChan, DoMulti  | DoFresh | TryDo
//	---------------------|---------------------------------|---------|------------
//	none                 | lead                            | lead    | lead
//	running              | join                            | queue   | ErrInFlight
//	running past MaxAge: |                                 |         |
//	  nothing behind it  | take over: detach it, then lead | queue   | as Do
//	  a queue behind it  | queue                           | queue   | ErrInFlight
//	abandoned            | queue                           | queue   | ErrInFlight
//	promoted             | queue in it                     | queue   | ErrInFlight
//	an outcome lingers   | answered                        | ignored | answered
//	group shut down      | ErrClosed                       | the same| the same
//
// To queue is to take part in the successor behind the flight, a new one if there is
// none. MaxWaiters is asked about the flight that the call would take part in, and
// then the graph of waits whether the call would wait for itself.

// A verdict is what becomes of a call.
type verdict uint8

const (
	leads    verdict = iota // the key has no flight: the caller registers one
	joins                   // it is counted in its flight, which is running
	queues                  // it is counted in its flight, and has to be listed there
	answered                // by a success that lingers
	refused                 // with an error
	ended                   // its context did, just before it could take part
)

// A wish says which flights a call accepts.
type wish uint8

const (
	anything wish = iota // any flight
	fresh                // one that starts after the call began
	now                  // none: it does not wait
)

// admit decides about c, which asks for key. s must be locked. It is asked once for
// each call, as it reads the clock: a call must not be counted in one flight and take
// part in another.
func (s *shard[K, V]) admit(c *caller[K, V], h uint64, key K, reflexive bool, wants wish) verdict {
	if c.gone {
		return ended
	}
	if s.closed {
		c.err = ErrClosed
		return refused
	}
	if wants != fresh && c.lingering(key) {
		return answered
	}
	f := s.meet(h, key, reflexive, wants)
	if f == nil {
		return leads
	}
	if wants == now {
		c.err = ErrInFlight
		return refused
	}
	return s.admitTo(c, f, wants)
}

// admitTo is admit for a call whose key has the flight f.
func (s *shard[K, V]) admitTo(c *caller[K, V], f *flight[K, V], wants wish) verdict {
	callers := int(f.callers)
	b := f.batch()
	if b != nil {
		b.mu.Lock() // it must not be abandoned between the question and the joining
		defer b.mu.Unlock()
		callers = b.callers
	}
	joinable := wants != fresh && f.state == running && callers > 0 && !s.overdue(f)
	target := f
	if !joinable && (f.state != promoted || wants == fresh) {
		target = f.queue()
	}
	if target != nil && s.full(target) {
		c.err = ErrSaturated
		return refused
	}
	if c.err = cycle(c.edge, f); c.err != nil {
		return refused
	}
	if target == nil {
		target = s.successor(f)
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

// join makes c take part in f, which it does not lead. s.mu must be held.
//
// Rejected: to join a hot flight without the lock, by an atomic add to a word that
// finish closes. Of the calls for one hot key, on two Ps, seven in ten lead and lock
// twice, so joiners make a sixth of the acquisitions, on all of which a quarter of the
// time is spent: there are some 5 % to win (go test -bench '/^work=hot$/^keys=1$/impl=coalesce$'
// -cpuprofile in benchmarks/), for a second way into a flight that every end of one
// would have to close. On many cores it may be worth more; that has not been measured.
func (s *shard[K, V]) join(c *caller[K, V], f *flight[K, V]) {
	// A flight that has not started and that its only call has left is gone at once
	// (Q2), so a call that finds another here is the second to take part.
	if f.state == running || f.callers > 0 {
		f.joined, f.known = true, true
	}
	f.callers++
	if f.born == 0 {
		f.born = sched.Now()
	}
	s.note(callJoined, f, c)
}

// lock locks s for a call with edge e, which may be nil.
func (s *shard[K, V]) lock(e *edge) {
	if e != nil {
		graph.Lock()
	}
	s.mu.Lock()
}

// unlock is the opposite of lock.
func (s *shard[K, V]) unlock(e *edge) {
	s.mu.Unlock()
	if e != nil {
		graph.Unlock()
	}
}
