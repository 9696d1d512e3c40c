package coalesce

import (
	"iter"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// Stats counts what has happened to a Group since its first use. Each call is
// in exactly one of the classes that Calls adds up, DoChan's, DoFresh's and
// TryDo's included; Forget is not a call. A call that panicked because of
// misuse is not counted.
type Stats struct {
	Calls    uint64 // Led + Joined + Lingered + Rejected + Ended
	Led      uint64 // calls whose fn was run: the number of executions, those of DoMulti counted for each key
	Joined   uint64 // calls that joined a flight, or were queued for one
	Lingered uint64 // calls that a success answered which lingers
	Rejected uint64 // calls that got ErrInFlight, ErrSaturated, ErrClosed or a *DeadlockError
	Ended    uint64 // calls whose context had ended on entry

	Left      uint64 // calls, led or joined, that left because their context ended
	Abandoned uint64 // flights that all callers left while fn ran
	Forgotten uint64 // calls of Forget and ForgetUnshared that found a flight or a success
	Overdue   uint64 // flights that were taken over from because of MaxAge
	Panics    uint64 // flights whose fn panicked
	Goexits   uint64 // flights whose fn ended with runtime.Goexit
	Untold    uint64 // panics that were logged, as no caller was left to tell
	Evicted   uint64 // successes that were dropped because of LingerMax

	HookPanics uint64 // hooks that panicked
}

// Stats returns the group's counters. They are exact when the group is
// quiescent, and otherwise those of one shard after the other. Counting costs
// the calls nothing that could be measured; Stats locks each shard once.
func (g *Group[K, V]) Stats() Stats {
	gs := g.use()
	var n [steps]uint64
	gs.each(func(s *shard[K, V]) {
		for i := range n {
			n[i] += s.counts[i]
		}
	})
	st := Stats{
		Led:       n[callLed] + n[callStarted],
		Joined:    n[callJoined] - n[callStarted] - n[callClosed],
		Rejected:  n[callRefused] + n[callClosed],
		Ended:     uint64(gs.ended.Value()),
		Left:      n[callLeft],
		Abandoned: n[flightAbandoned],
		Forgotten: n[flightForgotten],
		Overdue:   n[flightTakenOver],
		Panics:    n[flightPanicked],
		Goexits:   n[flightExited],
		Untold:    n[panicLogged],
	}
	if l := gs.lingering; l != nil {
		st.Lingered = uint64(l.hits.Value())
		l.mu.Lock()
		st.Evicted = l.evicted
		l.mu.Unlock()
	}
	if h := gs.hooks; h != nil {
		st.HookPanics = uint64(h.panics.Value())
	}
	st.Calls = st.Led + st.Joined + st.Lingered + st.Rejected + st.Ended
	return st
}

// Len returns the number of keys that have a flight: those for which a Do
// would join or wait. Forgotten flights are not among them. It is exact when
// the group is quiescent, and locks each shard once.
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

// A FlightState says what a flight is doing.
type FlightState uint8

// The states of an unfinished flight.
const (
	// StateRunning means that fn runs and that calls join the flight, or take
	// over from it if it has reached MaxAge.
	StateRunning FlightState = iota

	// StateAbandoned means that all callers have left and fn, whose context
	// has been canceled, has not returned yet. New calls wait for that.
	StateAbandoned

	// StateQueued means that fn has not started: the flight waits for another
	// of its key to end, or for its leader to be scheduled.
	StateQueued
)

// String returns the state's name in lower case.
func (s FlightState) String() string { return nameOf(s, "running", "abandoned", "queued") }

// nameOf returns the name of x, one of so many constants that count from 0.
func nameOf[T ~uint8](x T, names ...string) string {
	if int(x) >= len(names) {
		return "unknown"
	}
	return names[x]
}

// A Flight describes an unfinished flight at the moment it was looked at.
type Flight[K comparable] struct {
	Key K

	// Age is the time since fn was started, or more: reading the clock costs as
	// much as a whole Do, so for a flight that runs on its leader's goroutine
	// Age counts from when it was first joined or looked at, and the flight is
	// at least as old. In state queued it counts from when the first call was
	// queued.
	Age time.Duration

	// Waiters is the number of calls that wait for the flight, its leader not
	// counted. In a flight that is queued, nobody leads yet.
	Waiters int

	State FlightState

	// Forgotten reports whether the flight was forgotten: it still runs, but
	// the key may have another.
	Forgotten bool
}

// Flights returns an iterator over all unfinished flights: running, abandoned,
// queued and forgotten ones, in no order. Each shard is looked at as a whole
// when the iterator comes to it, under its lock; what the loop does with a
// flight runs outside of it. The cost is in proportion to the number of
// flights.
func (g *Group[K, V]) Flights() iter.Seq[Flight[K]] {
	return func(yield func(Flight[K]) bool) {
		gs := g.use()
		var seen []Flight[K]
		for i := range gs.shards {
			seen = gs.shards[i].appendFlights(seen[:0])
			for _, f := range seen {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// appendFlights appends a description of each unfinished flight of s.
func (s *shard[K, V]) appendFlights(to []Flight[K]) []Flight[K] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.busy() {
		return to
	}
	now := sched.Now()
	for f := range s.all() {
		to = append(to, f.describe(now))
		if f.queue() != nil {
			to = append(to, f.cold.queue.describe(now))
		}
	}
	return to
}

// describe returns what Flights tells of f. The shard's lock must be held.
func (f *flight[K, V]) describe(now int64) Flight[K] {
	if f.born == 0 {
		f.born = now
	}
	d := Flight[K]{
		Key:       f.key,
		Age:       time.Duration(max(0, now-f.born)),
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

// all iterates over the flights that are registered or forgotten;
// those queued behind them are not among them. s.mu must be held throughout,
// and the table not be changed.
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
