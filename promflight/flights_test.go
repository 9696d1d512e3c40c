package promflight_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

const (
	oldest  = "coalesce_oldest_flight_age_seconds{group=a}"
	waiting = "coalesce_waiting_calls{group=a}"
)

// TestWithFlights: the age is that of the flight that began first, forgotten or not, and
// all calls that wait are counted, queued ones too.
func TestWithFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		r := registered(t, newCollector(t, "a", promflight.WithFlights(&g, 10)))
		expect(t, r, map[string]float64{oldest: 0, waiting: 0})
		var wg sync.WaitGroup
		sleep := func(d time.Duration) func(context.Context) (int, error) {
			return func(context.Context) (int, error) { time.Sleep(d); return 0, nil }
		}
		wg.Go(func() { g.DoContext(t.Context(), "a", sleep(10*time.Second)) })
		synctest.Wait()
		time.Sleep(2 * time.Second)
		wg.Go(func() { g.DoContext(t.Context(), "b", sleep(10*time.Second)) })
		synctest.Wait()
		wg.Go(func() { g.DoContext(t.Context(), "b", notCalledWith) })
		for range 2 {
			wg.Go(func() { g.DoFresh(t.Context(), "b", sleep(time.Second)) })
		}
		synctest.Wait()
		time.Sleep(time.Second)
		expect(t, r, map[string]float64{oldest: 3, waiting: 3})
		g.Forget("a")
		expect(t, r, map[string]float64{oldest: 3, waiting: 3, "coalesce_keys_in_flight{group=a}": 1})
		time.Sleep(7500 * time.Millisecond)
		expect(t, r, map[string]float64{oldest: 8.5, waiting: 3})
		wg.Wait()
		expect(t, r, map[string]float64{oldest: 0, waiting: 0})
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
	expect(t, registered(t, newCollector(t, "a", promflight.WithFlights(l, 4))), map[string]float64{oldest: 3, waiting: 15})
	values(t, registered(t, newCollector(t, "a", promflight.WithFlights(crowd{l, t}, 3))))
}

// TestWithFlights_Limit: above the limit, and with a limit of 0, both metrics are left out.
func TestWithFlights_Limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		var wg sync.WaitGroup
		at := func(limit int) bool {
			v := values(t, registered(t, newCollector(t, "a", promflight.WithFlights(&g, limit))))
			_, hasOldest := v[oldest]
			_, hasWaiting := v[waiting]
			if hasOldest != hasWaiting {
				t.Errorf("limit %d: got %v, want both or none", limit, v)
			}
			return hasOldest
		}
		if at(0) || at(-1) {
			t.Error("no flight, no limit: got ages, want none")
		}
		for i := range 3 {
			wg.Go(func() { g.Do(fmt.Sprint(i), func() (int, error) { time.Sleep(time.Second); return 0, nil }) })
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
