package promflight_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

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
