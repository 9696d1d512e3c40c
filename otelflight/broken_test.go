package otelflight

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// These tests have providers, spans, errors and hooks that panic.

// quiet discards what is logged until the test ends.
func quiet(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(before) })
}

// A panickyProvider panics where it is to make a meter or, if callbacks is set, to register a
// callback, once.
type panickyProvider struct {
	metricnoop.MeterProvider
	callbacks bool
	panicked  *bool
}

type panickyMeter struct {
	metricnoop.Meter
	panickyProvider panickyProvider
}

func (p panickyProvider) panic() {
	if !*p.panicked {
		*p.panicked = true
		panic("provider")
	}
}

func (p panickyProvider) Meter(string, ...metric.MeterOption) metric.Meter {
	if !p.callbacks {
		p.panic()
	}
	return panickyMeter{panickyProvider: p}
}

func (m panickyMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	m.panickyProvider.panic()
	return metricnoop.Registration{}, nil
}

// TestAdd_ProviderPanics: the panic is the caller's. It leaves the name free, and a Registry
// whose instruments are lacking has an error for the next Add.
func TestAdd_ProviderPanics(t *testing.T) {
	for _, callbacks := range []bool{false, true} {
		r := Registry{MeterProvider: panickyProvider{callbacks: callbacks, panicked: new(bool)}, TracerProvider: noop.NewTracerProvider()}
		var g coalesce.Group[string, int]
		func() {
			defer func() {
				if p := recover(); p != "provider" {
					t.Errorf("got panic %v, want that of the provider", p)
				}
			}()
			_, _ = r.Add("a", &g)
		}()
		registration, err := r.Add("a", &g)
		if callbacks {
			if err != nil || registration.Close() != nil {
				t.Errorf("after the panic of a callback: got error %v, want none", err)
			}
		} else if err == nil || strings.Contains(err.Error(), "already") {
			t.Errorf("after the panic of a meter: got error %v, want that there is no meter", err)
		}
	}
}

// A panicky tracer begins spans that panic in one of their methods, or panics itself.
type panicky struct {
	noop.Tracer
	method string
	ended  *atomic.Int64
}

// A tracing provider has one tracer.
type tracing struct {
	noop.TracerProvider
	tracer trace.Tracer
}

func (p tracing) Tracer(string, ...trace.TracerOption) trace.Tracer { return p.tracer }

func (p panicky) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	p.panicIn("Start")
	s := panickySpan{panicky: p}
	return trace.ContextWithSpan(ctx, s), s
}

func (p panicky) panicIn(method string) {
	if p.method == method {
		panic(method)
	}
}

type panickySpan struct {
	noop.Span
	panicky panicky
}

func (s panickySpan) IsRecording() bool { return true }

func (s panickySpan) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
}

func (s panickySpan) AddLink(trace.Link)                    { s.panicky.panicIn("AddLink") }
func (s panickySpan) AddEvent(string, ...trace.EventOption) { s.panicky.panicIn("AddEvent") }
func (s panickySpan) End(...trace.SpanEndOption)            { s.panicky.ended.Add(1); s.panicky.panicIn("End") }

// TestSpans_TracerPanics: a tracer or a span that panics is a hook that does, and harms no
// call. It leaves nothing, and all spans that have begun end.
func TestSpans_TracerPanics(t *testing.T) {
	quiet(t)
	for method, panics := range map[string]uint64{"Start": 1, "AddLink": 2, "AddEvent": 3, "End": 1} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := panicky{method: method, ended: new(atomic.Int64)}
				k := newKit()
				k.TracerProvider = tracing{tracer: p}
				var g coalesce.Group[string, int]
				s := hooked(k, &g)
				caller := trace.ContextWithSpan(t.Context(), panickySpan{panicky: p})
				var wg sync.WaitGroup
				for _, d := range []time.Duration{time.Minute, time.Minute, time.Millisecond, time.Minute} {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(caller, d)
						defer cancel()
						_, _, err := g.DoContext(ctx, "k", sleep(time.Second))
						if want := d < time.Second; want != (err != nil) {
							t.Errorf("with %v: got error %v, want one: %t", d, err, want)
						}
					})
					synctest.Wait()
				}
				wg.Wait()
				synctest.Wait()
				if n := s.listed(); n != 0 {
					t.Errorf("got %d flights listed at the end, want none", n)
				}
				if got := g.Stats().HookPanics; got < panics {
					t.Errorf("got %d panics of hooks, want at least %d", got, panics)
				}
				if n := p.ended.Load(); method != "Start" && n != 1 {
					t.Errorf("got %d spans ended, want that of the flight", n)
				}
			})
		})
	}
}

// TestSpans_QueueTracerPanics: calls of a queue whose spans panic get the flight's span all
// the same as fn's, and it ends.
func TestSpans_QueueTracerPanics(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		p := panicky{method: "AddLink", ended: new(atomic.Int64)}
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		caller := trace.ContextWithSpan(t.Context(), panickySpan{panicky: p})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { g.DoFresh(caller, "k", sleep(time.Second)) })
			synctest.Wait()
		}
		wg.Wait()
		synctest.Wait()
		if n := len(k.exporter.GetSpans()); n != 2 {
			t.Errorf("got %d spans ended, want 2, one for each flight", n)
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}

// A badError panics where a span would have its type.
type badError struct{}

func (badError) Error() string     { return "bad" }
func (badError) ErrorType() string { panic("ErrorType") }

// TestSpans_ErrorPanics: the span of a flight ends though a method of its error panics.
func TestSpans_ErrorPanics(t *testing.T) {
	quiet(t)
	k := newKit()
	var g coalesce.Group[string, int]
	hooked(k, &g)
	if _, _, err := g.Do("k", func() (int, error) { return 0, badError{} }); !errors.Is(err, badError{}) {
		t.Errorf("got error %v, want fn's", err)
	}
	if _, ok := k.spans(t)[flightSpan]; !ok {
		t.Error("got no span of the flight, want one")
	}
}

// A counter of spans of flights that have begun and not ended.
type open struct {
	sdktrace.SpanProcessor
	n atomic.Int64
}

func (o *open) OnStart(context.Context, sdktrace.ReadWriteSpan) { o.n.Add(1) }
func (o *open) OnEnd(sdktrace.ReadOnlySpan)                     { o.n.Add(-1) }

// TestHooks_Exit: in a storm of calls whose hooks panic or exit their goroutine, each span of
// a flight ends, and no flight is left.
func TestHooks_Exit(t *testing.T) {
	quiet(t)
	flights := &open{}
	k := newKit()
	k.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(flights))
	hook := func(context.Context, coalesce.Event[string]) {
		switch rand.IntN(8) {
		case 0:
			panic("hook")
		case 1:
			runtime.Goexit()
		}
	}
	g := coalesce.Group[string, int]{MaxWaiters: 6, Hooks: coalesce.Hooks[string]{
		Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { hook(ctx, e); return nil },
		Join:  hook, Receive: hook, Leave: hook, Finish: hook,
	}}
	s := hooked(k, &g)
	calls := 300
	if testing.Short() {
		calls = 100
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range calls {
				exited := make(chan struct{})
				go func() {
					defer close(exited)
					k.span(context.Background(), "call", func(ctx context.Context) { storm(&g, ctx, i, j) })
				}()
				<-exited
			}
		})
	}
	wg.Wait()
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.Stats().HookPanics == 0 {
		t.Error("got no panics of hooks, want some")
	}
	waitFor(t, func() bool { return flights.n.Load() == 0 && s.listed() == 0 })
}
