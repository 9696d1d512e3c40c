package promflight

import (
	"iter"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file is in otelflight, too, but for the names of the metrics. Rejected: to have it once, in
// an internal package of the root module. A program may build this module with any later
// version of the root, which then could not change that package.

// A walker is a Source that looks at its flights, too.
type walker interface {
	// walk returns for how long the oldest flight has been running, 0 if there is none,
	// and how many calls wait. ok is false if there are too many flights to look at.
	walk() (oldest time.Duration, waiting int, ok bool)
	isNil() bool
}

// WithFlights returns a Source for [New] that has two metrics more than g:
//
//   - coalesce_oldest_flight_age_seconds, for how long the flight that began
//     first has been running, and 0 if none runs; abandoned and forgotten
//     flights count as long as fn runs, queued ones do not. It is meant for an
//     alert on a flight that is stuck.
//   - coalesce_waiting_calls, how many calls wait for flights, not counting
//     their leaders.
//
// Both are made by [coalesce.Group.Flights], at a cost proportional to the
// number of flights. So a scrape that finds more than limit keys in flight, or
// more than limit flights, goes without these two metrics. A limit of 0 or less
// turns them off. 1000 is a good value. If g is nil, New returns an error.
//
// The age of a flight of a Do, or of a DoContext whose context can never end,
// counts from the first scrape or join that finds it, unless the group has
// Hooks or MaxAge: see [coalesce.Flight]. So it is less than the true one by a
// scrape interval at most.
func WithFlights[K comparable](g FlightSource[K], limit int) Source {
	return flights[K]{g, limit}
}

// A FlightSource is a [Source] whose flights can be looked at: a
// *[coalesce.Group] with keys of type K, or another type with these methods.
type FlightSource[K comparable] interface {
	Source
	Flights() iter.Seq[coalesce.Flight[K]]
}

// flights is the Source that WithFlights returns.
type flights[K comparable] struct {
	FlightSource[K]
	limit int
}

func (f flights[K]) isNil() bool { return isNilValue(f.FlightSource) }

func (f flights[K]) walk() (oldest time.Duration, waiting int, ok bool) {
	if f.Len() > f.limit {
		return 0, 0, false // Flights would describe all flights of a shard before it yields one
	}
	n := 0
	for a := range f.Flights() {
		if n++; n > f.limit {
			return 0, 0, false
		}
		waiting += a.Waiters
		if a.State != coalesce.StateQueued {
			oldest = max(oldest, a.Age)
		}
	}
	return oldest, waiting, f.limit > 0
}
