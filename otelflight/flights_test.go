package otelflight

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// TestWithFlights: the age is that of the flight that began first, forgotten or not, and
// all calls that wait are counted, queued ones too.
func TestWithFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		oldest, waiting := a("coalesce.oldest_flight.age"), a("coalesce.waiting_calls")
		var g coalesce.Group[string, int]
		k.add(t, "a", WithFlights(&g, 10))
		k.expect(t, map[string]float64{oldest: 0, waiting: 0})
		if m := k.collect(t); m["coalesce.oldest_flight.age"].Unit != "s" || m["coalesce.waiting_calls"].Unit != "{call}" {
			t.Errorf("got %v, want units s and {call}", m)
		}
		if kind, _ := numbers(t, k.collect(t)["coalesce.waiting_calls"]); kind != "up-down counter" {
			t.Errorf("coalesce.waiting_calls: got a %s, want an up-down counter", kind)
		}
		var wg sync.WaitGroup
		wg.Go(func() { g.DoContext(t.Context(), "a", sleep(10*time.Second)) })
		synctest.Wait()
		time.Sleep(2 * time.Second)
		wg.Go(func() { g.DoContext(t.Context(), "b", sleep(10*time.Second)) })
		synctest.Wait()
		wg.Go(func() { g.DoContext(t.Context(), "b", notCalled) })
		for range 2 {
			wg.Go(func() { g.DoFresh(t.Context(), "b", sleep(time.Second)) })
		}
		synctest.Wait()
		time.Sleep(time.Second)
		k.expect(t, map[string]float64{oldest: 3, waiting: 3})
		g.Forget("a")
		k.expect(t, map[string]float64{oldest: 3, waiting: 3, a("coalesce.active_keys"): 1})
		time.Sleep(7500 * time.Millisecond)
		k.expect(t, map[string]float64{oldest: 8.5, waiting: 3})
		wg.Wait()
		k.expect(t, map[string]float64{oldest: 0, waiting: 0})
	})
}

// listed is a FlightSource with these flights.
type listed []coalesce.Flight[string]

func (l listed) Len() int              { return len(l) }
func (l listed) Stats() coalesce.Stats { return coalesce.Stats{} }

func (l listed) Flights() iter.Seq[coalesce.Flight[string]] { return slices.Values(l) }

// crowd is a FlightSource whose flights must not be looked at.
type crowd struct {
	listed
	t *testing.T
}

func (c crowd) Flights() iter.Seq[coalesce.Flight[string]] {
	c.t.Error("the flights were looked at, want that Len is enough to know that there are too many")
	return c.listed.Flights()
}

// TestWithFlights_States: the age is that of the oldest flight that has started, and no
// flight is looked at if there are too many.
func TestWithFlights_States(t *testing.T) {
	l := listed{
		{Age: time.Second, Waiters: 1},
		{Age: 3 * time.Second, Waiters: 2, State: coalesce.StateAbandoned},
		{Age: 2 * time.Second, Waiters: 4, Forgotten: true},
		{Age: 9 * time.Second, Waiters: 8, State: coalesce.StateQueued},
	}
	k, other := newKit(), newKit()
	k.add(t, "a", WithFlights(l, 4))
	k.expect(t, map[string]float64{a("coalesce.oldest_flight.age"): 3, a("coalesce.waiting_calls"): 15})
	other.add(t, "a", WithFlights(crowd{l, t}, 3))
	other.values(t)
}

// TestWithFlights_Limit: above the limit, and with a limit of 0, both metrics are left out.
func TestWithFlights_Limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		var wg sync.WaitGroup
		at := func(limit int) bool {
			k := newKit()
			k.add(t, "a", WithFlights(&g, limit))
			v := k.values(t)
			_, hasOldest := v[a("coalesce.oldest_flight.age")]
			_, hasWaiting := v[a("coalesce.waiting_calls")]
			if hasOldest != hasWaiting {
				t.Errorf("limit %d: got %v, want both or none", limit, v)
			}
			return hasOldest
		}
		if at(0) || at(-1) {
			t.Error("no flight, no limit: got ages, want none")
		}
		for i := range 3 {
			wg.Go(func() { g.DoContext(t.Context(), fmt.Sprint(i), sleep(time.Second)) })
		}
		synctest.Wait()
		if at(2) || !at(3) {
			t.Error("got ages with 2, or none with 3, want them from 3 on")
		}
		g.ForgetFunc(func(string) bool { return true })
		if at(2) || !at(3) {
			t.Error("forgotten flights: got ages with 2, or none with 3, want them from 3 on")
		}
		wg.Wait()
	})
}
