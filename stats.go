package coalesce

import (
	"iter"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the views of a group from outside: its counters (see note.go, which
// counts), the number of its flights, and a description of each flight. All of them look
// at one shard after another, each under its lock, and so never see the whole group at
// one moment.

// Stats counts the calls and the flights of a Group since its first use. Each
// call is in exactly one of the classes that Calls adds up: calls of DoChan,
// DoFresh and TryDo, too, and in DoMulti one call for each key. Forget is not a
// call. A call that panicked because of misuse is not counted.
type Stats struct {
	Calls uint64 // Led + Joined + Lingered + Rejected + EndedOnEntry

	// Led counts the calls that led a flight. It is the number of executions of
	// fn, but counts that of a DoMulti once for each key.
	Led uint64

	// Joined counts the calls that followed in a flight. Two kinds of calls are in no
	// class at first, and Calls does not count them: a queued call, until its flight
	// starts, it leaves, or Shutdown refuses it; and a call that joined with the context
	// of an fn, until it is answered, leaves, or gets a *DeadlockError.
	Joined uint64

	Lingered     uint64 // calls that were answered by an outcome that lingers
	Rejected     uint64 // calls that got ErrInFlight, ErrSaturated, ErrClosed or *DeadlockError
	EndedOnEntry uint64 // calls whose context had ended on entry

	Left         uint64 // calls in Led or Joined that left because their context ended
	Abandoned    uint64 // flights that all callers left while fn ran, and that were not held
	Forgotten    uint64 // keys for which a Forget of any form had anything to forget
	TakenOver    uint64 // flights that were taken over from because of MaxAge
	Panics       uint64 // flights whose fn panicked
	Goexits      uint64 // flights whose fn called runtime.Goexit
	PanicsLogged uint64 // panics of fn or Clone that were logged, because no blocking call got them
	Evicted      uint64 // outcomes that were dropped because of LingerMax

	// Lingering is the number of outcomes that the group keeps now, with some that
	// have expired and are about to be freed. It is the only number here that
	// goes up and down.
	Lingering uint64

	HookPanics uint64 // panics of hooks
}

// Stats returns the group's counters. They are exact if neither a call nor an
// fn is under way. Otherwise the counters of each shard are consistent, but
// those of different shards are read one after another. Counting costs the
// calls nothing that could be measured; Stats locks each shard once.
func (g *Group[K, V]) Stats() Stats {
	gs := g.use()
	var n [steps]uint64
	gs.each(func(s *shard[K, V]) {
		for i := range n {
			n[i] += s.counts[i]
		}
	})
	st := Stats{
		Led:          n[callLed] + n[callStarted],
		Joined:       n[callJoined],
		Rejected:     n[callRefused] + n[callClosed],
		EndedOnEntry: uint64(gs.endedOnEntry.value()),
		Left:         n[callLeft],
		Abandoned:    n[flightAbandoned],
		Forgotten:    n[flightForgotten],
		TakenOver:    n[flightTakenOver],
		Panics:       n[flightPanicked],
		Goexits:      n[flightExited],
		PanicsLogged: n[panicLogged],
	}
	if l := gs.lingering; l != nil {
		st.Lingered = l.hits.Value()
		l.mu.Lock()
		st.Evicted, st.Lingering = l.evicted, uint64(l.order.n)
		l.mu.Unlock()
	}
	if h := gs.hooks; h != nil {
		st.HookPanics = uint64(h.panics.value())
	}
	st.Calls = st.Led + st.Joined + st.Lingered + st.Rejected + st.EndedOnEntry
	return st
}

// Len returns the number of flights that are registered under their keys. These
// are the flights that run, abandoned ones included, and those that are about
// to start after they were queued. Flights that were forgotten, or that are
// still queued behind another, are not counted. As a key has at most one
// registered flight, Len is the number of keys that have a flight, except that
// every call with a key that does not equal itself, such as NaN, has a flight
// of its own.
//
// Len locks each shard once, one after another, and other calls may change the
// number meanwhile.
func (g *Group[K, V]) Len() int {
	n := 0
	g.use().each(func(s *shard[K, V]) {
		n += int(s.count)
		if s.alone {
			n++
		}
	})
	return n
}

// A FlightState is the state of an unfinished flight.
type FlightState uint8

// The states of an unfinished flight.
const (
	// StateRunning means that fn runs and that calls join the flight, even if it
	// has no caller but is held (see Hold). If the flight has reached MaxAge,
	// they take over from it instead, or queue if there is a successor.
	StateRunning FlightState = iota

	// StateAbandoned means that all callers have left and that fn, whose
	// context has been canceled, has not returned yet. New calls wait until it
	// has, or until the flight is forgotten or reaches MaxAge.
	StateAbandoned

	// StateQueued means that fn has not started. The flight waits until the one
	// in front of it ends, is forgotten or reaches MaxAge, and then until the
	// call that is to lead has woken up.
	StateQueued
)

// String returns the state's name in lower case.
func (s FlightState) String() string { return nameOf(s, "running", "abandoned", "queued") }

// nameOf returns the name of x, a constant of a type whose constants count from 0 and
// have these names.
func nameOf[T ~uint8](x T, names ...string) string {
	if int(x) >= len(names) {
		return "unknown"
	}
	return names[x]
}

// A Flight describes an unfinished flight at the moment when Flights looked at it.
type Flight[K comparable] struct {
	Key K

	// ID is the number of the flight, for [Group.ForgetFlight]. It is never 0,
	// no other flight of the group has it, and a flight that is queued keeps it
	// when it starts. It has no order.
	ID uint64

	// Age is how long the flight has been running. In state queued, it is how
	// long ago the first call was queued.
	Age time.Duration

	// AtLeast reports that Age is only a lower bound: it counts from the moment
	// when another call first joined the flight or Flights first looked at it.
	// That is so if fn runs on the goroutine of a caller that led at once, and
	// the group has neither MaxAge nor Hooks, because reading the clock at the
	// start would cost as much as a whole Do.
	AtLeast bool

	// Waiters is the number of calls that wait for the flight, not counting its
	// leader. A flight that is queued has no leader yet, and all its calls
	// count.
	Waiters int

	State FlightState

	// Forgotten reports whether the flight was forgotten: it still runs, but
	// the key may have another flight.
	Forgotten bool
}

// Flights returns an iterator over all unfinished flights: running, abandoned,
// queued and forgotten ones, in no particular order. When the iterator comes to
// a shard, it describes all flights of that shard at one moment, under the
// shard's lock, and then yields them outside the lock. So the body of the loop
// may use the group, and may find that a flight has finished in the meantime.
// The cost is proportional to the number of flights, and each shard is locked
// once.
func (g *Group[K, V]) Flights() iter.Seq[Flight[K]] {
	return func(yield func(Flight[K]) bool) {
		gs := g.use()
		var seen []Flight[K]
		for s := range gs.all() {
			seen = s.appendFlights(seen[:0])
			for _, f := range seen {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// appendFlights appends a description of each unfinished flight of s to a slice, and
// returns the slice. No lock may be held.
func (s *shard[K, V]) appendFlights(to []Flight[K]) []Flight[K] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy() {
		return to
	}
	now := sched.Now()
	for f := range s.all() {
		to = append(to, s.describe(f, now))
		if f.queue() != nil {
			to = append(to, s.describe(f.cold.queue, now))
		}
	}
	return to
}

// describe returns the description of f for Flights. now is the time. If the clock has
// not been read for f before, its age counts from now on. s.mu must be held.
func (s *shard[K, V]) describe(f *flight[K, V], now int64) Flight[K] {
	if f.born == 0 {
		f.born = now
	}
	d := Flight[K]{
		Key:       f.key,
		ID:        s.idOf(f),
		Age:       time.Duration(max(0, now-f.born)),
		AtLeast:   f.context() == nil && s.group.maxAge == 0 && s.group.hooks == nil,
		Waiters:   f.followers(),
		Forgotten: f.detached,
	}
	switch {
	case f.abandoned():
		d.State = StateAbandoned
	case f.state != running:
		d.State = StateQueued
	}
	return d
}

// all iterates over the flights of s that are registered or forgotten, but not over those
// queued behind them. s.mu must be held throughout, and the loop must not change the
// table or the list of forgotten flights.
func (s *shard[K, V]) all() iter.Seq[*flight[K, V]] {
	return func(yield func(*flight[K, V]) bool) {
		if s.alone && !yield(s.reveal()) {
			return
		}
		for _, f := range s.chains {
			for ; f != nil; f = f.next {
				if !yield(f) {
					return
				}
			}
		}
		for f := s.detached.first; f != nil; f = f.cold.forgotten.next {
			if !yield(f) {
				return
			}
		}
	}
}
