package otelflight

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	metricsdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// TestAdd_Errors: a nil group, and a name that cannot be an attribute or is taken, are
// errors, which say so.
func TestAdd_Errors(t *testing.T) {
	k := newKit()
	var g coalesce.Group[string, int]
	var none *coalesce.Group[string, int]
	k.add(t, "taken", &g)
	for _, test := range []struct {
		name string
		g    Source
		want string
	}{
		{"", &g, "empty name"},
		{"a\xff", &g, "UTF-8"},
		{"taken", &g, `"taken" already`},
		{"a", nil, `"a" is nil`},
		{"a", none, `"a" is nil`},
		{"a", WithFlights(none, 1), `"a" is nil`},
		{"a", WithFlights[string](nil, 1), `"a" is nil`},
	} {
		r, err := k.Add(test.name, test.g)
		if r != nil || err == nil || !strings.HasPrefix(err.Error(), "otelflight: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Add(%q, %T): got %v and error %v, want an error with %q", test.name, test.g, r, err, test.want)
		}
	}
	k.add(t, "a", &g) // the errors have left the name free
}

// TestAdd_Close: Close takes the group out and frees its name; another Registry knows
// nothing of it.
func TestAdd_Close(t *testing.T) {
	k, other := newKit(), newKit()
	var g, h coalesce.Group[string, int]
	h.Do("k", func() (int, error) { return 0, nil })
	r := k.add(t, "a", &g)
	other.add(t, "a", &h)
	k.expect(t, map[string]float64{calls("led"): 0})
	other.expect(t, map[string]float64{calls("led"): 1})
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("Close: got %v, want no error", err)
		}
	}
	if v := k.values(t); len(v) != 0 {
		t.Errorf("after Close: got %v, want nothing", v)
	}
	k.add(t, "a", &h)
	if err := r.Close(); err != nil { // it must not close the other
		t.Error(err)
	}
	k.expect(t, map[string]float64{calls("led"): 1})
	if _, err := k.Add("a", &g); err == nil {
		t.Error("a second group a: got no error, want one")
	}
}

// TestAdd_LeavesNothing: ten thousand groups that were added, used and closed leave no
// memory and no goroutine.
func TestAdd_LeavesNothing(t *testing.T) {
	k := newKit()
	one := func(i int) {
		var g coalesce.Group[string, int]
		// The histograms of all have one name: an SDK keeps those of each name.
		s := hooked(k, &g)
		r := k.add(t, fmt.Sprint("group ", i), WithFlights(&g, 10))
		g.Do("k", func() (int, error) { return 0, nil })
		if i%1000 == 0 {
			k.values(t)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if n := s.listed(); n != 0 {
			t.Fatalf("got %d flights listed, want none", n)
		}
		k.exporter.Reset()
	}
	for i := range 100 {
		one(i)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	for i := range 10_000 {
		one(i)
	}
	if after := heap(); after > before+300_000 {
		t.Errorf("got a heap of %d B after 10,000 groups, want %d as before", after, before)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("got %d goroutines, want %d as before", n, goroutines)
	}
	for name := range k.values(t) {
		if !strings.Contains(name, "{coalesce.group.name=a}") {
			t.Errorf("got %s after all groups were closed, want none", name)
		}
	}
	runtime.KeepAlive(k)
}

// A brokenMeter returns errors, for each histogram or, if callbacks is set, for each
// callback.
type brokenMeter struct {
	metricnoop.Meter
	callbacks bool
}

// A brokenProvider has a brokenMeter.
type brokenProvider struct {
	metricnoop.MeterProvider
	meter brokenMeter
}

var errBroken = errors.New("broken")

func (p brokenProvider) Meter(string, ...metric.MeterOption) metric.Meter { return p.meter }

func (m brokenMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	if m.callbacks {
		return metricnoop.Float64Histogram{}, nil
	}
	return nil, errBroken
}

func (m brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	if m.callbacks {
		return nil, errBroken
	}
	return metricnoop.Registration{}, nil
}

// TestMeterErrors: Add returns what the meter does, and leaves the name free; Hooks reports
// it to otel.Handle.
func TestMeterErrors(t *testing.T) {
	var handled []error
	before := otel.GetErrorHandler()
	defer otel.SetErrorHandler(before)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { handled = append(handled, err) }))
	var g coalesce.Group[string, int]
	for _, callbacks := range []bool{false, true} {
		r := Registry{MeterProvider: brokenProvider{meter: brokenMeter{callbacks: callbacks}}, TracerProvider: noop.NewTracerProvider()}
		for range 2 {
			if _, err := r.Add("a", &g); !errors.Is(err, errBroken) {
				t.Errorf("got error %v, want that of the meter", err)
			}
		}
		handled = nil
		h := Hooks(&r, "a", coalesce.Hooks[string]{})
		if want := !callbacks; len(handled) > 0 != want {
			t.Errorf("Hooks reported %v, want a report: %t", handled, want)
		}
		h.Receive(t.Context(), coalesce.Event[string]{}) // they work
		h.Finish(t.Context(), coalesce.Event[string]{})
	}
}

// TestRegistry_Fields: a Registry reads its fields, and does not write them, so that a program
// may read them at any time.
func TestRegistry_Fields(t *testing.T) {
	var r Registry
	var g coalesce.Group[string, int]
	g.Hooks = Hooks(&r, "a", g.Hooks)
	registration, err := r.Add("a", &g)
	if err != nil {
		t.Fatal(err)
	}
	defer registration.Close()
	if r.MeterProvider != nil || r.TracerProvider != nil {
		t.Errorf("got %T and %T after use, want nil as before", r.MeterProvider, r.TracerProvider)
	}
}

// TestAdd_LeavesNothingInTheGlobalProvider: the same, where the groups are added before the
// program has set a MeterProvider, and closed afterwards.
func TestAdd_LeavesNothingInTheGlobalProvider(t *testing.T) {
	var r Registry // with the global one, which waits for another
	reader := metricsdk.NewManualReader()
	var open []*Registration
	one := func(i int) *Registration {
		registration, err := r.Add(fmt.Sprint("group ", i), new(coalesce.Group[string, int]))
		if err != nil {
			t.Fatal(err)
		}
		return registration
	}
	closeAll := func(n int, after func()) {
		for i := range n {
			open = append(open, one(i))
		}
		after()
		for _, registration := range open {
			if err := registration.Close(); err != nil {
				t.Error(err)
			}
		}
		open = nil
	}
	closeAll(100, func() {})
	before := heap()
	closeAll(5_000, func() {})
	closeAll(5_000, func() { otel.SetMeterProvider(metricsdk.NewMeterProvider(metricsdk.WithReader(reader))) })
	if after := heap(); after > before+300_000 {
		t.Errorf("got a heap of %d B after 10,000 groups, want %d as before", after, before)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all.ScopeMetrics {
		if s.Scope.Name == scope {
			t.Errorf("got %d metrics, want none", len(s.Metrics))
		}
	}
	runtime.KeepAlive(&r)
}

// TestAdd_GarbageAfterClose: a group that is closed is garbage when the program has no use for
// it, though the Registry, and the Registration, live on.
func TestAdd_GarbageAfterClose(t *testing.T) {
	k := newKit()
	g := new(coalesce.Group[string, int])
	hooked(k, g)
	r := k.add(t, "a", WithFlights(g, 10))
	g.Do("k", func() (int, error) { return 0, nil })
	k.values(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	seen := weak.Make(g)
	g = nil
	heap()
	if seen.Value() != nil {
		t.Error("got a group that is still referred to, want none")
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(k)
}
