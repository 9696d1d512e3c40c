package promflight_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

// TestNew_Errors: a nil group and a name that cannot be a label are errors, which say so.
func TestNew_Errors(t *testing.T) {
	var g coalesce.Group[string, int]
	var none *coalesce.Group[string, int]
	for _, test := range []struct {
		name string
		g    promflight.Source
		want string
	}{
		{"", &g, "empty name"},
		{"a\xff", &g, "UTF-8"},
		{"a", nil, `"a" is nil`},
		{"a", none, `"a" is nil`},
		{"a", promflight.WithFlights(none, 1), `"a" is nil`},
		{"a", promflight.WithFlights[string](nil, 1), `"a" is nil`},
	} {
		c, err := promflight.New(test.name, test.g)
		if c != nil || err == nil || !strings.HasPrefix(err.Error(), "promflight: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%q, %T): got %v and error %v, want an error with %q", test.name, test.g, c, err, test.want)
		}
	}
}

// TestRegister_Names: a registry refuses a second collector of a name with an error, has
// room for collectors of other names, and knows nothing of other registries.
func TestRegister_Names(t *testing.T) {
	var g, h coalesce.Group[string, int]
	h.Do("k", func() (int, error) { return 0, nil })
	a, again, b := newCollector(t, "a", &g), newCollector(t, "a", &h), newCollector(t, "b", &h)
	r := registered(t, a, b)
	var taken prometheus.AlreadyRegisteredError
	if err := r.Register(again); !errors.As(err, &taken) || taken.ExistingCollector != a {
		t.Errorf("a second one: got error %v, want that the name is taken", err)
	}
	expect(t, r, map[string]float64{
		"coalesce_calls_total{group=a,outcome=led}": 0,
		"coalesce_calls_total{group=b,outcome=led}": 1,
	})
	registered(t, again) // in a registry of its own
	if !r.Unregister(a) {
		t.Error("Unregister: got false, want true")
	}
	if err := r.Register(again); err != nil {
		t.Errorf("after Unregister: got error %v, want none", err)
	}
	expect(t, r, map[string]float64{"coalesce_calls_total{group=a,outcome=led}": 1})
}

// TestUnregister_LeavesNothing: ten thousand groups that were registered, used and
// unregistered leave no memory and no goroutine.
func TestUnregister_LeavesNothing(t *testing.T) {
	r := prometheus.NewRegistry()
	one := func(i int) {
		var g coalesce.Group[string, int]
		c := newCollector(t, fmt.Sprint("group ", i), promflight.WithFlights(&g, 10))
		g.Hooks = promflight.Hooks(c, g.Hooks)
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
		g.Do("k", func() (int, error) { return 0, nil })
		if i%1000 == 0 {
			if _, err := r.Gather(); err != nil {
				t.Fatal(err)
			}
		}
		if !r.Unregister(c) {
			t.Fatal("Unregister: got false, want true")
		}
	}
	for i := range 100 {
		one(i)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	for i := range 10_000 {
		one(i)
	}
	if after := heap(); after > before+200_000 {
		t.Errorf("got a heap of %d B after 10,000 groups, want %d as before", after, before)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("got %d goroutines, want %d as before", n, goroutines)
	}
	if s := values(t, r); len(s) != 0 {
		t.Errorf("got %d series, want none", len(s))
	}
	runtime.KeepAlive(r)
}

// TestUnregister_LeavesNothingOfManyTimes: the same, for histograms that have had times of all
// sizes, more than they have native buckets for. Their counts never start again from 0.
func TestUnregister_LeavesNothingOfManyTimes(t *testing.T) {
	const times = 400
	one := func(i int) {
		c := newCollector(t, fmt.Sprint("group ", i), new(coalesce.Group[string, int]))
		h := promflight.Hooks(c, coalesce.Hooks[string]{})
		for d, n := time.Duration(1), 0; n < times; n++ {
			h.Receive(t.Context(), coalesce.Event[string]{Wait: d})
			d += d/10 + 1
		}
		if got := values(t, registered(t, c))[fmt.Sprintf("coalesce_wait_seconds_count{group=group %d}", i)]; got != times {
			t.Fatalf("got %v observations, want %d", got, times)
		}
	}
	one(0)
	before := heap()
	for i := range 200 {
		one(i)
	}
	if after := heap(); after > before+200_000 {
		t.Errorf("got a heap of %d B after 200 groups, want %d as before", after, before)
	}
}

// TestRegister_Rejected: a registry where the program has a metric of the same name with other
// labels refuses the Collector with an error. The group works, and is reported elsewhere.
func TestRegister_Rejected(t *testing.T) {
	var g coalesce.Group[string, int]
	c := newCollector(t, "a", &g)
	g.Hooks = promflight.Hooks(c, g.Hooks)
	r := registered(t, prometheus.NewCounter(prometheus.CounterOpts{Name: "coalesce_panics_total", Help: "Of the program."}))
	if err := r.Register(c); err == nil {
		t.Error("got no error, want one")
	}
	if v, _, err := g.Do("k", func() (int, error) { return 1, nil }); v != 1 || err != nil {
		t.Errorf("got %d and error %v, want 1", v, err)
	}
	expect(t, r, map[string]float64{"coalesce_panics_total{}": 0})
	expect(t, registered(t, c), map[string]float64{"coalesce_flight_seconds_count{group=a}": 1})
}

// TestScrape_GroupNames: each name that is valid UTF-8 arrives as it is.
func TestScrape_GroupNames(t *testing.T) {
	for _, name := range []string{
		`<script>alert(1)</script>`, `"quoted" \back\ {a="b"} '`, "line\nfeed\r\ttab", "NUL\x00", "\u202Eleft to right", " ",
		"\uFFFD", "# HELP coalesce_panics_total", strings.Repeat("long ", 20_000),
	} {
		var g coalesce.Group[string, int]
		c := newCollector(t, name, &g)
		g.Hooks = promflight.Hooks(c, g.Hooks)
		families := scrape(t, registered(t, c))
		if len(families) != 14 {
			t.Errorf("%.30q: got %d metrics, want 14", name, len(families))
		}
		for metric, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "group" && l.GetValue() != name {
						t.Errorf("%s: got group %.30q, want %.30q", metric, l.GetValue(), name)
					}
				}
			}
		}
	}
}

// TestRegister_Concurrently: groups come and go while they are scraped and called. Of those
// that want one name at the same time, one gets it.
func TestRegister_Concurrently(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	var g coalesce.Group[string, int]
	first := newCollector(t, "0", promflight.WithFlights(&g, 10))
	g.Hooks = promflight.Hooks(first, g.Hooks)
	stop := make(chan struct{})
	var others, adders sync.WaitGroup
	for _, work := range []func(){func() { values(t, r) }, func() { g.Do("k", func() (int, error) { return 0, nil }) }} {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					work()
				}
			}
		})
	}
	var registrations atomic.Int64
	for i := range 8 {
		adders.Go(func() {
			for j := range 100 {
				c := first
				if name := (i + j) % 3; name > 0 {
					c = newCollector(t, fmt.Sprint(name), promflight.WithFlights(&g, 10))
				}
				if r.Register(c) == nil {
					registrations.Add(1)
					r.Unregister(c)
				}
			}
		})
	}
	adders.Wait()
	close(stop)
	others.Wait()
	if n := registrations.Load(); n == 0 {
		t.Error("got no registration, want some")
	}
	if s := values(t, r); len(s) != 0 {
		t.Errorf("got %v after all were unregistered, want none", s)
	}
}

// TestUnregister_Garbage: a group that is unregistered is garbage when the program has no use
// for it and its Collector.
func TestUnregister_Garbage(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	g := new(coalesce.Group[string, int])
	c := newCollector(t, "a", promflight.WithFlights(g, 10))
	g.Hooks = promflight.Hooks(c, g.Hooks)
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	g.Do("k", func() (int, error) { return 0, nil })
	values(t, r)
	if !r.Unregister(c) {
		t.Fatal("Unregister: got false, want true")
	}
	seen := weak.Make(g)
	g = nil
	heap()
	if seen.Value() != nil {
		t.Error("got a group that is still referred to, want none")
	}
	runtime.KeepAlive(r)
}
