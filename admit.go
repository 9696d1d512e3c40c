package coalesce

import "github.com/seed342dcb2d/coalesce/internal/sched"

// This file holds what becomes of a call: the state table, as far as it is
// about calls. Every form of call asks here, under the lock of the key's shard,
// and then does what the verdict says in its own way.

// A verdict is what becomes of a call.
type verdict uint8

const (
	leads    verdict = iota // the key has no flight: the caller registers one
	joins                   // it is counted in the flight, which is running
	queues                  // it has to wait for a turn: enqueue takes it
	answered                // by a success that lingers
	refused                 // with an error
)

// An admission is a verdict and what belongs to it.
type admission[K comparable, V any] struct {
	verdict verdict
	flight  *flight[K, V]  // joins, queues: what it found
	success *success[K, V] // answered
	err     error          // refused
	event   *Event[K]      // joins: for the hook
}

// A wish is what a call asks for.
type wish uint8

const (
	anything wish = iota // an answer
	fresh                // of an execution that starts after the call began
	now                  // or not at all: the call does not wait
)

// admit decides about a call for key, with edge e if the call was made by an fn.
// s must be locked. It is asked once for each call, as it reads the clock: a call
// must not be counted in one flight and take part in another.
func (s *shard[K, V]) admit(h uint64, key K, reflexive bool, wants wish, e *edge) (a admission[K, V]) {
	if s.closed {
		return admission[K, V]{verdict: refused, err: ErrClosed}
	}
	if l := s.group.lingering; l != nil && wants != fresh {
		if p := l.get(key); p != nil {
			return admission[K, V]{verdict: answered, success: p}
		}
	}
	f := s.meet(h, key, reflexive, wants)
	if f == nil {
		return a // leads
	}
	return s.admitTo(f, wants, e)
}

// admitTo is admit for a call whose key has the flight f.
func (s *shard[K, V]) admitTo(f *flight[K, V], wants wish, e *edge) (a admission[K, V]) {
	if wants == now {
		return admission[K, V]{verdict: refused, err: ErrInFlight}
	}
	b := f.batch()
	if b != nil {
		b.mu.Lock() // it must not be abandoned between the question and the joining
		defer b.mu.Unlock()
	}
	a.verdict, a.flight = queues, f
	if wants != fresh && f.state == running && !s.overdue(f) && (b == nil || b.callers > 0) {
		a.verdict = joins
	}
	if s.full(f, a.verdict == joins, wants) {
		return admission[K, V]{verdict: refused, err: ErrSaturated}
	}
	if err := circle(e, f); err != nil {
		return admission[K, V]{verdict: refused, err: err}
	}
	if a.verdict == joins {
		s.join(f)
		if b != nil {
			b.callers++
		}
		if s.group.hooks != nil {
			a.event = s.event(f)
		}
	}
	return a
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

// join makes the caller a follower of f, which is running. s.mu must be held.
//
// Rejected: to join a hot flight without the lock, by an atomic add to a word that
// finish closes. Of the calls for one hot key, on two Ps, seven in ten lead and lock
// twice, so joiners make a sixth of the acquisitions, on all of which a quarter of the
// time is spent: there are some 5 % to win (go test -bench '/^work=hot$/^keys=1$/impl=coalesce$'
// -cpuprofile in benchmarks/), for a second way into a flight that every end of one
// would have to close. On many cores it may be worth more; that has not been measured.
func (s *shard[K, V]) join(f *flight[K, V]) {
	s.joined++
	f.callers++
	if !f.joined {
		f.joined, f.known = true, true
		if f.born == 0 {
			f.born = sched.Now()
		}
	}
}

// refuse counts a call that is refused with the given error, which it returns.
// If that is ErrClosed, it waits until all shards are closed. It is entered with
// s locked and unlocks it.
func (s *shard[K, V]) refuse(err error, e *edge) error {
	s.rare.rejected++
	s.unlock(e)
	if err == ErrClosed {
		s.group.awaitClosed()
	}
	return err
}
