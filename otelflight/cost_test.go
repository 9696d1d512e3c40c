package otelflight

import (
	"context"
	"testing"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// TestAllocs: what the documentation of Hooks says about allocations, with a tracer and a
// meter that do nothing, and with the meter of the SDK.
func TestAllocs(t *testing.T) {
	e := coalesce.Event[string]{FlightID: 1000, StartID: 1000, Waiters: 1}
	quiet := Registry{MeterProvider: metricnoop.NewMeterProvider(), TracerProvider: silent{}}
	h := Hooks(&quiet, "a", coalesce.Hooks[string]{})
	ctx := trace.ContextWithSpan(t.Context(), recording{})
	joined := testing.AllocsPerRun(1000, func() {
		own := h.Start(ctx, e)
		h.Join(ctx, e)
		h.Receive(ctx, e)
		h.Finish(own, e)
	})
	e.Waiters = 0
	alone := testing.AllocsPerRun(1000, func() { h.Finish(h.Start(ctx, e), e) })
	if alone > 5 || joined > alone {
		t.Errorf("got %v allocations for a flight and %v more for a call that joins, want at most 5 and 0", alone, joined-alone)
	}
	t.Logf("%v allocations for a flight, %v more for a call that joins", alone, joined-alone)

	sdk := Registry{MeterProvider: metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())), TracerProvider: noop.NewTracerProvider()}
	h = Hooks(&sdk, "a", coalesce.Hooks[string]{})
	if n := testing.AllocsPerRun(1000, func() { h.Receive(ctx, e); h.Finish(ctx, e) }); n != 0 {
		t.Errorf("without spans: got %v allocations for a Receive and a Finish, want 0", n)
	}
}

// silent is a tracer that costs nothing, and is not known to be off.
type silent struct{ noop.TracerProvider }

// recording is a span that costs nothing, and records.
type recording struct{ noop.Span }

func (recording) IsRecording() bool { return true }

// BenchmarkHooks measures what the hooks add to a call that leads.
func BenchmarkHooks(b *testing.B) {
	meter := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	nothing := func(context.Context, coalesce.Event[string]) {}
	for _, bench := range []struct {
		name  string
		hooks func() coalesce.Hooks[string]
	}{
		{"none", func() (h coalesce.Hooks[string]) { return h }},
		{"empty", func() coalesce.Hooks[string] { return coalesce.Hooks[string]{Receive: nothing, Finish: nothing} }},
		{"histograms", func() coalesce.Hooks[string] {
			return Hooks(&Registry{MeterProvider: meter, TracerProvider: noop.NewTracerProvider()}, "a", coalesce.Hooks[string]{})
		}},
		{"silent", func() coalesce.Hooks[string] {
			return Hooks(&Registry{MeterProvider: meter, TracerProvider: silent{}}, "a", coalesce.Hooks[string]{})
		}},
		{"unsampled", func() coalesce.Hooks[string] {
			tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
			return Hooks(&Registry{MeterProvider: meter, TracerProvider: tp}, "a", coalesce.Hooks[string]{})
		}},
		{"sampled", func() coalesce.Hooks[string] {
			return Hooks(&Registry{MeterProvider: meter, TracerProvider: sdktrace.NewTracerProvider()}, "a", coalesce.Hooks[string]{})
		}},
	} {
		b.Run("hooks="+bench.name, func(b *testing.B) {
			g := coalesce.Group[string, int]{Hooks: bench.hooks()}
			b.ReportAllocs()
			for b.Loop() {
				g.Do("k", func() (int, error) { return 0, nil })
			}
		})
	}
}
