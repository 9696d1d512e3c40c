// Package fleetdebug shows a fleet.Group on the page of package debugflight: what this
// process runs, which process it waits for, and for how long.
//
//	var page debugflight.Registry
//	_, err := page.Add("thumbnails", fleetdebug.Of(&thumbnails, nil))
package fleetdebug

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/fleet"
)

// Of returns a Source that shows g. format returns the text of a key, as in
// [debugflight.Of]; nil stands for fmt.Sprint. The Source keeps g alive.
//
// A flight is a run of this process. Its state is that of a [fleet.Flight], and its detail
// says which process leads. To forget a flight is to forget its key in the whole fleet; the
// engine has a second for that.
func Of[K comparable, V any](g *fleet.Group[K, V], format func(K) string) debugflight.Source {
	if g == nil {
		return nil
	}
	if format == nil {
		format = func(key K) string { return fmt.Sprint(key) }
	}
	return source[K, V]{g, format}
}

type source[K comparable, V any] struct {
	group  *fleet.Group[K, V]
	format func(K) string
}

// Flights is the method of a Source.
func (s source[K, V]) Flights() iter.Seq[debugflight.Flight] {
	return func(yield func(debugflight.Flight) bool) {
		for f := range s.group.Flights() {
			if !yield(debugflight.Flight{
				ID: f.ID, Age: f.Age, Waiters: f.Waiters, State: f.State.String(), Detail: detail(f),
				Key: func() string { return s.format(f.Key) },
			}) {
				return
			}
		}
	}
}

// detail says which process leads a flight.
func detail[K comparable](f fleet.Flight[K]) string {
	switch {
	case f.State == fleet.RunningLocally:
		return "without a lease"
	case f.Process == "":
		return ""
	case f.Takeovers > 0:
		return fmt.Sprintf("led by %s, token %d, after %d takeovers", f.Process, f.Token, f.Takeovers)
	default:
		return fmt.Sprintf("led by %s, token %d", f.Process, f.Token)
	}
}

// Counters is the method of a Source.
func (s source[K, V]) Counters() []debugflight.Counter {
	st := s.group.Stats()
	counter := func(name string, n uint64) debugflight.Counter { return debugflight.Counter{Name: name, Value: n} }
	return []debugflight.Counter{
		counter("Runs", st.Runs), counter("Led", st.Led), counter("Followed", st.Followed), counter("Adopted", st.Adopted),
		counter("Local", st.Local), counter("Left", st.Left), counter("Refused", st.Refused),
		counter("Takeovers", st.Takeovers), counter("Lost", st.Lost), counter("Stale", st.Stale),
		counter("Unpublished", st.Unpublished), counter("EngineErrors", st.EngineErrors), counter("PushMisses", st.PushMisses),
	}
}

// forgetFor is how long the engine has to forget a key.
const forgetFor = time.Second

// ForgetFlight is the method of a Source.
func (s source[K, V]) ForgetFlight(id uint64) bool {
	for f := range s.group.Flights() {
		if f.ID == id {
			ctx, cancel := context.WithTimeout(context.Background(), forgetFor)
			defer cancel()
			forgotten, _ := s.group.Forget(ctx, f.Key)
			return forgotten
		}
	}
	return false
}
