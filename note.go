package coalesce

// This file holds what is noted when a call or a flight takes a step: its counter,
// its event for the hooks, and its edge in the graph of waits. Whoever makes the
// step notes it, in the same critical section.

// A step is one in the life of a call or a flight.
type step uint8

const (
	callLed         step = iota // the call leads a flight from its beginning
	callJoined                  // it joined a flight, or is queued in one
	callStarted                 // it leads a flight in which it was queued
	callLeft                    // its context has ended
	callRefused                 // it got an error on arrival
	flightAbandoned             // its last caller has left
	flightForgotten             // or what lingers for its key
	flightTakenOver             // because of MaxAge
	panicLogged                 // as no caller is left to receive it
)

// counts are the counters of a shard. led comes first: it is in the cache line of the
// lock.
type counts struct {
	led, joined, rejected, left, abandoned, forgotten, overdue, panics, goexits, untold uint64
}

// note notes a step of c in f, or of f. Either is nil where the step has none. s.mu
// must be held, and the graph's lock if c has an edge.
func (s *shard[K, V]) note(what step, f *flight[K, V], c *caller[K, V]) {
	switch what {
	case callLed:
		s.counts.led++
		if s.group.hooks != nil {
			s.enroll(f)
		}
		if c != nil {
			point(c.edge, f)
		}
	case callJoined:
		s.counts.joined++
		c.flight = f
		c.joined = s.event(f)
		point(c.edge, f)
	case callStarted:
		s.counts.joined--
		s.counts.led++
		if s.group.hooks != nil {
			s.enrollStart(f)
		}
	case callLeft:
		s.counts.left++
		c.left = s.leaving(f, c.joined)
		c.edge.remove()
	case callRefused:
		s.counts.rejected++
	case flightAbandoned:
		if b := f.batch(); b != nil {
			s.counts.abandoned += b.size()
		} else {
			s.counts.abandoned++
		}
	case flightForgotten:
		s.counts.forgotten++
	case flightTakenOver:
		s.counts.overdue++
	case panicLogged:
		s.counts.untold++
	}
}

// noteEnd notes that f has ended, and returns the event of that, nil without hooks.
// s.mu must be held.
func (s *shard[K, V]) noteEnd(f *flight[K, V], how outcome) *Event[K] {
	switch how {
	case panicked:
		s.counts.panics++
	case exited:
		s.counts.goexits++
	case rejected:
		s.counts.joined -= uint64(f.callers)
		s.counts.rejected += uint64(f.callers)
	}
	if s.group.hooks == nil {
		return nil
	}
	return s.finishing(f)
}
