package kit

import (
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

// WaitersOf returns the number of calls that wait in the registered flight of key.
func WaitersOf(g *Group, key string) int {
	for f := range g.Flights() {
		if f.Key == key && !f.Forgotten {
			return f.Waiters
		}
	}
	return 0
}

// IDOf returns the ID of the flight of g that runs for key and is registered.
func IDOf[K comparable, V any](t *testing.T, g *coalesce.Group[K, V], key K) uint64 {
	t.Helper()
	for f := range g.Flights() {
		if f.Key == key && !f.Forgotten && f.State != coalesce.StateQueued {
			return f.ID
		}
	}
	t.Fatalf("got no flight that runs for %v, want one", key)
	return 0
}

// Waiting returns the number of calls that wait in flights of g, including queued ones.
func Waiting[K comparable, V any](g *coalesce.Group[K, V]) (n int) {
	for f := range g.Flights() {
		n += f.Waiters
	}
	return n
}

// CountState returns the number of flights of g in state s.
func CountState(g *Group, s coalesce.FlightState) (n int) {
	for f := range g.Flights() {
		if f.State == s {
			n++
		}
	}
	return n
}
