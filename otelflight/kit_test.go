package otelflight

import (
	"context"
	"runtime"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed342dcb2d/coalesce"
)

// A kit is a Registry with the SDK beneath it.
type kit struct {
	Registry
	reader   *metric.ManualReader
	exporter *tracetest.InMemoryExporter
	tracer   trace.Tracer // of the program
}

// newKit returns a kit that samples what the sampler does, all if there is none.
func newKit(samplers ...sdktrace.Sampler) *kit {
	k := &kit{reader: metric.NewManualReader(), exporter: tracetest.NewInMemoryExporter()}
	options := []sdktrace.TracerProviderOption{sdktrace.WithSyncer(k.exporter)}
	for _, s := range samplers {
		options = append(options, sdktrace.WithSampler(s))
	}
	tp := sdktrace.NewTracerProvider(options...)
	k.MeterProvider = metric.NewMeterProvider(metric.WithReader(k.reader))
	k.TracerProvider = tp
	k.tracer = tp.Tracer("program")
	return k
}

// add is Add for what cannot fail.
func (k *kit) add(t testing.TB, name string, g Source) *Registration {
	t.Helper()
	r, err := k.Add(name, g)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// collect returns all metrics by their names.
func (k *kit) collect(t testing.TB) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := k.reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	metrics := map[string]metricdata.Metrics{}
	for _, s := range all.ScopeMetrics {
		if s.Scope.Name != scope {
			t.Errorf("got scope %q, want %q", s.Scope.Name, scope)
		}
		for _, m := range s.Metrics {
			metrics[m.Name] = m
		}
	}
	return metrics
}

// values returns all data points with their attributes. A histogram has two, of its count
// and its sum.
func (k *kit) values(t testing.TB) map[string]float64 {
	t.Helper()
	points := map[string]float64{}
	key := func(name string, a attribute.Set) string {
		return name + "{" + a.Encoded(attribute.DefaultEncoder()) + "}"
	}
	for name, m := range k.collect(t) {
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range d.DataPoints {
				points[key(name, p.Attributes)] = float64(p.Value)
			}
		case metricdata.Gauge[int64]:
			for _, p := range d.DataPoints {
				points[key(name, p.Attributes)] = float64(p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range d.DataPoints {
				points[key(name, p.Attributes)] = p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range d.DataPoints {
				points[key(name+".count", p.Attributes)] = float64(p.Count)
				points[key(name+".sum", p.Attributes)] = p.Sum
			}
		default:
			t.Errorf("%s: got data of type %T, want none of those", name, d)
		}
	}
	return points
}

// expect fails the test unless these metrics of group a have these values. A name may have
// an outcome, after a blank.
func (k *kit) expect(t testing.TB, want map[string]float64) {
	t.Helper()
	got := k.values(t)
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Errorf("%s: got %v (exported: %t), want %v", name, g, ok, w)
		}
	}
}

// a returns the data point of a metric of group a.
func a(name string) string { return name + "{coalesce.group.name=a}" }

// calls returns the data point of the calls of group a with an outcome.
func calls(outcome string) string {
	return "coalesce.calls{coalesce.call.outcome=" + outcome + ",coalesce.group.name=a}"
}

// span calls a function with a span of the program, which ends when the function returns.
func (k *kit) span(ctx context.Context, name string, do func(context.Context)) {
	ctx, s := k.tracer.Start(ctx, name)
	defer s.End()
	do(ctx)
}

// spans returns the spans that have ended, by their names. There must be one of each.
func (k *kit) spans(t testing.TB) map[string]tracetest.SpanStub {
	t.Helper()
	spans := map[string]tracetest.SpanStub{}
	for _, s := range k.exporter.GetSpans() {
		if _, ok := spans[s.Name]; ok {
			t.Errorf("got two spans %q, want one", s.Name)
		}
		spans[s.Name] = s
	}
	return spans
}

// listed returns how many flights the spans of a group know.
func (s *spans) listed() (n int) {
	for i := range s.tables {
		t := &s.tables[i]
		t.mu.Lock()
		n += len(t.flights)
		t.mu.Unlock()
	}
	return n
}

// hooked gives g hooks that report to k as group a, and returns its spans.
func hooked[V any](k *kit, g *coalesce.Group[string, V]) *spans {
	h, s := makeHooks(&k.Registry, "a", g.Hooks)
	g.Hooks = h
	return s
}

// heap returns how many bytes are in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
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

// notCalled is an fn that is not called.
func notCalled(context.Context) (int, error) { panic("called") }

// sleep returns an fn that takes some time.
func sleep(d time.Duration) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { time.Sleep(d); return 0, nil }
}
