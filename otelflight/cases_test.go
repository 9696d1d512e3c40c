package otelflight

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed342dcb2d/coalesce"
)

// TestSpans_DoMultiLeadsAndFollows: a DoMulti that leads one key and follows for another has
// the span of the one as a child, and a link to that of the other.
func TestSpans_DoMultiLeadsAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		g.Hooks.Start = renamed(g.Hooks.Start)
		var wg sync.WaitGroup
		wg.Go(func() {
			k.span(t.Context(), "first", func(ctx context.Context) { g.DoContext(ctx, "a", sleep(time.Second)) })
		})
		synctest.Wait()
		wg.Go(func() {
			k.span(t.Context(), "multi", func(ctx context.Context) {
				g.DoMulti(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
					time.Sleep(2 * time.Second)
					return map[string]int{"b": 1}, nil
				})
			})
		})
		wg.Wait()
		synctest.Wait()
		spans := k.spans(t)
		if !childOf(spans["flight 1"], spans["first"]) || !childOf(spans["flight 2"], spans["multi"]) {
			t.Errorf("got %v and %v, want each a child of its leader", spans["flight 1"].Parent, spans["flight 2"].Parent)
		}
		if !linksTo(spans["multi"], spans["flight 1"]) || len(spans["first"].Links) != 0 {
			t.Errorf("got links %v and %v, want one, of the DoMulti to the flight that it follows", spans["multi"].Links, spans["first"].Links)
		}
		if got := events(t, spans["multi"]); !slices.Equal(got, []string{"received"}) {
			t.Errorf("got events %q, want received, once", got)
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}

// TestSpans_Replaced: of a flight that a Forget, or MaxAge, has taken the key from, the span
// goes on as it was, beside that of the next; each caller links to its own.
func TestSpans_Replaced(t *testing.T) {
	for _, how := range []string{"Forget", "MaxAge"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit()
				var g coalesce.Group[string, int]
				if how == "MaxAge" {
					g.MaxAge = time.Second
				}
				s := hooked(k, &g)
				g.Hooks.Start = renamed(g.Hooks.Start)
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() {
						k.span(t.Context(), fmt.Sprint("caller ", i), func(ctx context.Context) { g.DoContext(ctx, "k", sleep(3*time.Second)) })
					})
					synctest.Wait()
					if i == 1 {
						time.Sleep(time.Second)
						if how == "Forget" {
							g.Forget("k")
						}
					}
				}
				wg.Wait()
				synctest.Wait()
				spans := k.spans(t)
				for i, flight := range []string{"flight 1", "flight 2"} {
					leader, follower := spans[fmt.Sprint("caller ", 2*i)], spans[fmt.Sprint("caller ", 2*i+1)]
					f := spans[flight]
					if d := f.EndTime.Sub(f.StartTime); !childOf(f, leader) || !linksTo(follower, f) || d != 3*time.Second {
						t.Errorf("%s: got %v of %v and links %v, want a child of its leader, 3 s, linked to", flight, f.Parent, d, follower.Links)
					}
				}
				if n := s.listed(); n != 0 {
					t.Errorf("got %d flights listed at the end, want none", n)
				}
			})
		})
	}
}

// TestSpans_LeaderNotSampled: a flight whose leader's trace is not sampled is not either, so
// its followers, whose traces are, have no link; that they received shows all the same.
func TestSpans_LeaderNotSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(sdktrace.ParentBased(sdktrace.AlwaysSample()))
		var g coalesce.Group[string, int]
		hooked(k, &g)
		out := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Remote: true,
		}))
		var wg sync.WaitGroup
		for name, ctx := range map[string]context.Context{"follower": t.Context(), "without": out} {
			wg.Go(func() {
				time.Sleep(time.Millisecond)
				k.span(ctx, name, func(ctx context.Context) { g.DoContext(ctx, "k", notCalled) })
			})
		}
		k.span(out, "leader", func(ctx context.Context) {
			g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
				if got := trace.SpanContextFromContext(ctx); got.TraceID() != (trace.TraceID{1}) || got.IsSampled() {
					t.Errorf("fn has span %v, want one of the leader's trace, not sampled", got)
				}
				return sleep(time.Second)(ctx)
			})
		})
		wg.Wait()
		synctest.Wait()
		spans := k.spans(t)
		if f := spans["follower"]; len(spans) != 1 || len(f.Links) != 0 || !slices.Equal(events(t, f), []string{"received"}) {
			t.Errorf("got spans %v, want that of the follower alone, without a link, which received", spans)
		}
	})
}

// TestMetrics_Exemplars: a time in a histogram comes with a trace: a wait with that of the
// call, a flight with the flight's own span.
func TestMetrics_Exemplars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		hooked(k, &g)
		var wg sync.WaitGroup
		for _, name := range []string{"leader", "follower"} {
			wg.Go(func() {
				k.span(t.Context(), name, func(ctx context.Context) { g.DoContext(ctx, "k", sleep(time.Second)) })
			})
			synctest.Wait()
		}
		wg.Wait()
		synctest.Wait()
		spans, metrics := k.spans(t), k.collect(t)
		for metric, span := range map[string]string{"coalesce.wait.duration": "follower", "coalesce.flight.duration": flightSpan} {
			want := spans[span].SpanContext
			var got []metricdata.Exemplar[float64]
			if h, ok := metrics[metric].Data.(metricdata.Histogram[float64]); ok && len(h.DataPoints) == 1 {
				got = h.DataPoints[0].Exemplars
			}
			spanID, traceID := want.SpanID(), want.TraceID()
			if len(got) != 1 || !slices.Equal(got[0].SpanID, spanID[:]) || !slices.Equal(got[0].TraceID, traceID[:]) {
				t.Errorf("%s: got exemplars %v, want one with the span %q", metric, got, span)
			}
		}
	})
}

// hostile are names of groups that are text, and nothing else.
var hostile = []string{
	`<script>alert(1)</script>`, `"quoted" \back\ {a="b"} '`, "line\nfeed\r\ttab", "NUL\x00", "\u202Eleft to right", " ",
	"\uFFFD", strings.Repeat("long ", 20_000),
}

// TestNames: each name that is valid UTF-8 arrives as it is, in metrics and in spans.
func TestNames(t *testing.T) {
	k := newKit()
	for _, name := range hostile {
		var g coalesce.Group[string, int]
		g.Hooks = Hooks(&k.Registry, name, g.Hooks)
		registration := k.add(t, name, &g)
		g.Do("k", func() (int, error) { return 0, nil })
		want := attribute.NewSet(attribute.String("coalesce.group.name", name))
		if _, points := numbers(t, k.collect(t)["coalesce.active_keys"]); len(points) != 1 || !points[0].Attributes.Equals(&want) {
			t.Errorf("%.30q: got %.100v, want one data point with it", name, points)
		}
		if s, ok := k.spans(t)["coalesce "+name]; !ok || !slices.Contains(s.Attributes, want.ToSlice()[0]) {
			t.Errorf("%.30q: got no span with it, want one", name)
		}
		if err := registration.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAdd_Concurrently: groups come and go while metrics are collected and calls are made. Of
// those that want one name at the same time, one gets it.
func TestAdd_Concurrently(t *testing.T) {
	k := newKit()
	g := coalesce.Group[string, int]{}
	hooked(k, &g)
	stop := make(chan struct{})
	var others, adders sync.WaitGroup
	for _, work := range []func(){func() { k.collect(t) }, func() { g.Do("k", func() (int, error) { return 0, nil }); k.exporter.Reset() }} {
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
	var mu sync.Mutex
	holders := map[string]int{}
	hold := func(name string, n int) {
		mu.Lock()
		defer mu.Unlock()
		if holders[name] += n; holders[name] > 1 {
			t.Errorf("got %d groups of the name %q at once, want 1", holders[name], name)
		}
	}
	for i := range 8 {
		adders.Go(func() {
			for j := range 200 {
				name := fmt.Sprint((i + j) % 3)
				registration, err := k.Add(name, WithFlights(&g, 10))
				if err != nil {
					continue
				}
				hold(name, 1)
				runtime.Gosched()
				hold(name, -1)
				var closers sync.WaitGroup
				for range 2 {
					closers.Go(func() {
						if err := registration.Close(); err != nil {
							t.Error(err)
						}
					})
				}
				closers.Wait()
			}
		})
	}
	adders.Wait()
	close(stop)
	others.Wait()
	for name := range k.values(t) {
		if !strings.Contains(name, "duration") {
			t.Errorf("got %s after all were closed, want none", name)
		}
	}
}

// TestSpans_WorkThatOutlivesItsFlight: work that fn has started calls the group when its flight
// has finished. A flight of that work whose Start hook panics has no span, and its followers
// have no link: not to that of the first flight either.
func TestSpans_WorkThatOutlivesItsFlight(t *testing.T) {
	quiet(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
			Start: func(_ context.Context, e coalesce.Event[string]) context.Context {
				if e.Key == "inner" {
					panic("Start")
				}
				return nil
			},
		}}
		s := hooked(k, &g)
		var wg sync.WaitGroup
		_, _, _ = g.DoContext(t.Context(), "outer", func(ctx context.Context) (int, error) {
			wg.Go(func() {
				time.Sleep(time.Second)
				g.DoContext(coalesce.Detach(ctx), "inner", sleep(time.Second))
			})
			return 0, nil
		})
		time.Sleep(time.Second)
		synctest.Wait()
		k.span(t.Context(), "follower", func(ctx context.Context) { g.DoContext(ctx, "inner", notCalled) })
		wg.Wait()
		synctest.Wait()
		if f := k.spans(t)["follower"]; len(f.Links) != 0 || !slices.Equal(events(t, f), []string{"received"}) {
			t.Errorf("the follower has links %v and events %v, want no links and that it received", f.Links, f.Events)
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}
