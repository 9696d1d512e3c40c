package promflight_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

// counted is a Source whose numbers all differ.
type counted struct{}

func (counted) Len() int { return 17 }

func (counted) Stats() coalesce.Stats {
	return coalesce.Stats{
		Calls: 15, Led: 1, Joined: 2, Lingered: 3, Rejected: 4, EndedOnEntry: 5,
		Left: 6, Abandoned: 7, Forgotten: 8, TakenOver: 9, Panics: 10, Goexits: 11, PanicsLogged: 12, Evicted: 13,
		Lingering: 14, HookPanics: 16,
	}
}

// TestScrape_Names: a scrape has each metric under its name, with its type, its labels and
// its value, and no other.
func TestScrape_Names(t *testing.T) {
	families := scrape(t, registered(t, newCollector(t, "a group, by name", counted{})))
	got := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, m := range f.GetMetric() {
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			got[fmt.Sprint(name, " ", f.GetType(), " ", labels(m))] = v
		}
	}
	const group = "group=a group, by name"
	want := map[string]float64{}
	for outcome, v := range map[string]float64{"led": 1, "joined": 2, "lingered": 3, "rejected": 4, "ended_on_entry": 5} {
		want["coalesce_calls_total COUNTER {"+group+",outcome="+outcome+"}"] = v
	}
	for name, v := range map[string]float64{
		"left_calls": 6, "abandoned_flights": 7, "forgotten_keys": 8, "taken_over_flights": 9, "panics": 10,
		"goexits": 11, "panics_logged": 12, "evicted_outcomes": 13, "hook_panics": 16,
	} {
		want["coalesce_"+name+"_total COUNTER {"+group+"}"] = v
	}
	want["coalesce_lingering_outcomes GAUGE {"+group+"}"] = 14
	want["coalesce_keys_in_flight GAUGE {"+group+"}"] = 17
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s: got %v (exported: %t), want %v", name, g, ok, v)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("got %s, want no such metric", name)
		}
	}
}

// every is a Source whose Stats have a number of its own in each field.
type every struct{}

func (every) Len() int { return 0 }

func (every) Stats() (s coalesce.Stats) {
	for i := range reflect.TypeFor[coalesce.Stats]().NumField() {
		reflect.ValueOf(&s).Elem().Field(i).SetUint(uint64(1000 + i))
	}
	return s
}

// TestScrape_AllOfStats: each field of Stats is exported, but Calls, which is the sum of
// others.
func TestScrape_AllOfStats(t *testing.T) {
	exported := map[float64]bool{}
	for _, v := range values(t, registered(t, newCollector(t, "a", every{}))) {
		exported[v] = true
	}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[coalesce.Stats]()) {
		if want := f.Name != "Calls"; exported[float64(1000+i)] != want {
			t.Errorf("Stats.%s: got exported %t, want %t", f.Name, !want, want)
		}
	}
}

// TestScrape_Histograms: the histograms of a scrape have their names, one label, and
// buckets from 5 ms to 10 s, which are those in which the times fall.
func TestScrape_Histograms(t *testing.T) {
	var g coalesce.Group[string, int]
	r := hooked(t, "a", &g)
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		wg.Go(func() { g.Do("k", func() (int, error) { time.Sleep(2 * time.Second); return 0, nil }) })
		synctest.Wait()
		time.Sleep(1200 * time.Millisecond)
		g.Do("k", notCalled) // joins
		wg.Wait()
	})
	families := scrape(t, r)
	for name, want := range map[string]struct{ sum, above, in float64 }{
		"coalesce_wait_seconds":   {0.8, 0.5, 1},
		"coalesce_flight_seconds": {2, 1, 2.5},
	} {
		f := families[name]
		if f.GetType() != dto.MetricType_HISTOGRAM || len(f.GetMetric()) != 1 || labels(f.GetMetric()[0]) != "{group=a}" {
			t.Errorf("%s: got %v, want one histogram with the label group=a", name, f)
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 1 || h.GetSampleSum() != want.sum {
			t.Errorf("%s: got count %d and sum %v, want 1 and %v", name, h.GetSampleCount(), h.GetSampleSum(), want.sum)
		}
		counts := map[float64]uint64{}
		for _, b := range h.GetBucket() {
			counts[b.GetUpperBound()] = b.GetCumulativeCount()
		}
		for _, bound := range []float64{0.005, 10} {
			if _, ok := counts[bound]; !ok {
				t.Errorf("%s: no bucket up to %v s: %v", name, bound, counts)
			}
		}
		if counts[want.above] != 0 || counts[want.in] != 1 {
			t.Errorf("%s: got buckets %v, want one observation above %v and up to %v", name, counts, want.above, want.in)
		}
	}
}

// notCalled is an fn that is not called.
func notCalled() (int, error) { panic("called") }

// TestLint: Prometheus' linter finds nothing in any of the metrics.
func TestLint(t *testing.T) {
	var g coalesce.Group[string, int]
	c := newCollector(t, "a", promflight.WithFlights(&g, 10))
	g.Hooks = promflight.Hooks(c, g.Hooks)
	r := registered(t, c)
	g.Do("k", func() (int, error) { return 0, nil })
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("got problems %v and error %v, want none", problems, err)
	}
	if n, err := testutil.GatherAndCount(r); n != 20 || err != nil {
		t.Errorf("got %d metrics (%v), want 20: else the linter has not seen all", n, err)
	}
}

// TestNoHooks: without Hooks, the histograms are not exported.
func TestNoHooks(t *testing.T) {
	var g coalesce.Group[string, int]
	for name := range values(t, registered(t, newCollector(t, "a", &g))) {
		if strings.Contains(name, "seconds") {
			t.Errorf("got %s, want no times without hooks", name)
		}
	}
}

// TestSeries_KeysDoNotMatter: the number of series does not move with the number of keys.
func TestSeries_KeysDoNotMatter(t *testing.T) {
	g := coalesce.Group[string, int]{LingerMax: 1000, Linger: coalesce.Forever}
	c := newCollector(t, "a", promflight.WithFlights(&g, 10))
	g.Hooks = promflight.Hooks(c, g.Hooks)
	r := registered(t, c)
	before := len(values(t, r))
	for i := range 100_000 {
		g.Do(fmt.Sprint("key ", i), func() (int, error) { return 0, nil })
	}
	if after := len(values(t, r)); after != before {
		t.Errorf("got %d series after 100,000 keys, want %d as before", after, before)
	}
	expect(t, r, map[string]float64{"coalesce_calls_total{group=a,outcome=led}": 100_000, "coalesce_evicted_outcomes_total{group=a}": 99_000})
}

// TestForms: each form of call, and each way in which fn may end, is counted and timed.
func TestForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		r := hooked(t, "a", &g)
		ctx := t.Context()
		second := func(context.Context) (int, error) { time.Sleep(time.Second); return 0, nil }

		// DoMulti: a flight for each key.
		g.DoMulti(ctx, []string{"a", "b", "c"}, func(context.Context, []string) (map[string]int, error) {
			time.Sleep(time.Second)
			return nil, nil
		})
		expect(t, r, map[string]float64{
			"coalesce_calls_total{group=a,outcome=led}": 3,
			"coalesce_flight_seconds_count{group=a}":    3, "coalesce_flight_seconds_sum{group=a}": 3,
			"coalesce_wait_seconds_count{group=a}": 0,
		})

		// DoFresh: two queue behind a flight; one of them leads, the other waits for both.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { g.DoFresh(ctx, "k", second) })
			synctest.Wait()
		}
		expect(t, r, map[string]float64{"coalesce_keys_in_flight{group=a}": 1})
		wg.Wait()
		expect(t, r, map[string]float64{
			"coalesce_calls_total{group=a,outcome=led}": 5, "coalesce_calls_total{group=a,outcome=joined}": 1,
			"coalesce_flight_seconds_count{group=a}": 5, "coalesce_flight_seconds_sum{group=a}": 5,
			"coalesce_wait_seconds_count{group=a}": 1, "coalesce_wait_seconds_sum{group=a}": 2,
			"coalesce_keys_in_flight{group=a}": 0,
		})

		// A panic and a Goexit, each with a follower by DoChan.
		for _, exit := range []func(){func() { panic("p") }, runtime.Goexit} {
			wg.Go(func() {
				defer func() { _ = recover() }()
				g.Do("k", func() (int, error) { time.Sleep(time.Second); exit(); return 0, nil })
			})
			synctest.Wait()
			if res := <-g.DoChan(ctx, "k", second); res.Err == nil {
				t.Error("got no error, want that of fn's exit")
			}
			wg.Wait()
		}
		synctest.Wait()
		expect(t, r, map[string]float64{
			"coalesce_panics_total{group=a}": 1, "coalesce_goexits_total{group=a}": 1, "coalesce_panics_logged_total{group=a}": 0,
			"coalesce_flight_seconds_count{group=a}": 7, "coalesce_wait_seconds_count{group=a}": 3,
		})

		// A held flight whose only caller leaves; an abandoned one.
		for _, hold := range []bool{true, false} {
			one, cancel := context.WithCancel(ctx)
			wg.Go(func() {
				g.DoContext(one, "k", func(ctx context.Context) (int, error) {
					if hold && !coalesce.Hold(ctx) {
						t.Error("Hold: got false, want true")
					}
					return second(ctx)
				})
			})
			synctest.Wait()
			cancel()
			wg.Wait()
			expect(t, r, map[string]float64{"coalesce_keys_in_flight{group=a}": 1})
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		expect(t, r, map[string]float64{
			"coalesce_left_calls_total{group=a}": 2, "coalesce_abandoned_flights_total{group=a}": 1,
			"coalesce_flight_seconds_count{group=a}": 9, "coalesce_wait_seconds_count{group=a}": 3,
			"coalesce_keys_in_flight{group=a}": 0,
		})

		// Shutdown refuses a queued call: it has waited, and no fn has run for it.
		wg.Go(func() { g.DoFresh(ctx, "k", second) })
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := g.DoFresh(ctx, "k", second); err != coalesce.ErrClosed {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		wg.Wait()
		expect(t, r, map[string]float64{
			"coalesce_calls_total{group=a,outcome=rejected}": 1,
			"coalesce_flight_seconds_count{group=a}":         10, "coalesce_wait_seconds_count{group=a}": 4,
		})
	})
}

// TestAgree: after a storm, the metrics of a quiescent group agree with its Stats, and the
// times with the counters. It is scraped all along.
func TestAgree(t *testing.T) {
	var received atomic.Int64
	g := coalesce.Group[string, int]{MaxWaiters: 3, Linger: time.Microsecond, LingerMax: 2, Hooks: coalesce.Hooks[string]{
		Receive: func(context.Context, coalesce.Event[string]) { received.Add(1) },
	}}
	r := hooked(t, "a", &g)
	done := make(chan struct{})
	var scrapes sync.WaitGroup
	scrapes.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond): // with one P, all calls would wait for it
				values(t, r)
			}
		}
	})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 500 {
				key := fmt.Sprint("key ", j%3)
				fn := func() (int, error) { runtime.Gosched(); return 0, errors.New("no value, so nothing lingers") }
				if j%2 == 0 {
					fn = func() (int, error) { runtime.Gosched(); return 0, nil }
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Microsecond)
				switch (i + j) % 5 {
				case 0:
					g.Do(key, fn)
				case 1:
					g.DoContext(ctx, key, func(context.Context) (int, error) { return fn() })
				case 2:
					g.DoFresh(t.Context(), key, func(context.Context) (int, error) { return fn() })
				case 3:
					<-g.DoChan(t.Context(), key, func(context.Context) (int, error) { return fn() })
				case 4:
					g.Forget(key)
					g.TryDo(key, fn)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(done)
	scrapes.Wait()
	s := g.Stats()
	waitFor(t, func() bool { return values(t, r)["coalesce_flight_seconds_count{group=a}"] == float64(s.Led) })
	if s.Led == 0 || s.Joined == 0 || s.Rejected == 0 || s.EndedOnEntry == 0 || s.Forgotten == 0 {
		t.Errorf("got %+v, want a storm that does more", s)
	}
	expect(t, r, map[string]float64{
		"coalesce_calls_total{group=a,outcome=led}":            float64(s.Led),
		"coalesce_calls_total{group=a,outcome=joined}":         float64(s.Joined),
		"coalesce_calls_total{group=a,outcome=lingered}":       float64(s.Lingered),
		"coalesce_calls_total{group=a,outcome=rejected}":       float64(s.Rejected),
		"coalesce_calls_total{group=a,outcome=ended_on_entry}": float64(s.EndedOnEntry),
		"coalesce_left_calls_total{group=a}":                   float64(s.Left),
		"coalesce_abandoned_flights_total{group=a}":            float64(s.Abandoned),
		"coalesce_forgotten_keys_total{group=a}":               float64(s.Forgotten),
		"coalesce_evicted_outcomes_total{group=a}":             float64(s.Evicted),
		"coalesce_lingering_outcomes{group=a}":                 float64(s.Lingering),
		"coalesce_keys_in_flight{group=a}":                     0,
		"coalesce_wait_seconds_count{group=a}":                 float64(received.Load()),
	})
}

// waitFor waits until something holds that goroutines of a group do after its calls have
// returned.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not hold after 10 s")
		}
	}
}
