package coalesce

// This file holds what is noted when a call or a flight takes a step: its counter,
// its event for the hooks, and its edge in the graph of waits. Whoever makes the
// step notes it, in the same critical section.

// A step is one in the life of a call or a flight. Each shard counts them.
type step uint8

const (
	callLed         step = iota // it leads a flight from the flight's beginning
	callJoined                  // it joined a flight, or is queued in one
	callStarted                 // it leads a flight in which it was queued
	callClosed                  // it was queued, and Shutdown refused it
	callLeft                    // it left its flight
	callRefused                 // it got an error on arrival
	flightAbandoned             // its last caller has left while fn ran
	flightForgotten             // or what lingers for its key was dropped
	flightTakenOver             // because of MaxAge
	flightPanicked
	flightExited // by Goexit
	panicLogged  // as no caller is left to receive it

	steps // how many there are
)

// note notes a step of c in f, or of f. Either is nil where the step has none. s.mu
// must be held, and the graph's lock if c has an edge.
func (s *shard[K, V]) note(what step, f *flight[K, V], c *caller[K, V]) {
	s.counts[what]++
	hooked := s.group.hooks != nil
	switch what {
	case callLed:
		if hooked {
			s.enroll(f)
		}
		if c != nil {
			point(c.edge, f)
		}
	case callJoined:
		c.flight = f
		c.joined = s.event(f)
		point(c.edge, f)
	case callStarted:
		if hooked {
			s.enrollStart(f)
		}
	case callLeft:
		c.left = s.leaving(f, c.joined)
		c.edge.remove()
	case flightAbandoned:
		if b := f.batch(); b != nil {
			s.counts[what] += b.size() - 1
		}
	}
}

// noteEnd notes that f has ended, and returns the event of that, nil without hooks.
// s.mu must be held.
func (s *shard[K, V]) noteEnd(f *flight[K, V], how outcome) *Event[K] {
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
	return s.finishing(f)
}
