package otelflight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// flightSpan is the name of the spans of group a.
const flightSpan = "coalesce a"

// linksTo reports whether a span has one link, to the other, with the group's name.
func linksTo(from, to tracetest.SpanStub) bool {
	return len(from.Links) == 1 && from.Links[0].SpanContext.Equal(to.SpanContext) &&
		slices.Equal(from.Links[0].Attributes, []attribute.KeyValue{attribute.String("coalesce.group.name", "a")})
}

// events returns the names of a span's events, which must have the group's name.
func events(t *testing.T, s tracetest.SpanStub) (names []string) {
	for _, e := range s.Events {
		names = append(names, e.Name)
		if !slices.Equal(e.Attributes, []attribute.KeyValue{attribute.String("coalesce.group.name", "a")}) {
			t.Errorf("span %q: got event %+v, want the group's name as its attribute", s.Name, e)
		}
	}
	return names
}

// childOf reports whether a span is a child of the other.
func childOf(child, parent tracetest.SpanStub) bool {
	return child.Parent.Equal(parent.SpanContext) && child.SpanContext.TraceID() == parent.SpanContext.TraceID()
}

// TestSpans: the flight's span is a child of the leader's and the parent of what fn does.
// Two followers, and one that leaves, link to it: three links, from traces of their own and
// from the leader's.
func TestSpans(t *testing.T) {
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprint("same trace: ", same), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit()
				var g coalesce.Group[string, int]
				s := hooked(k, &g)
				var wg sync.WaitGroup
				k.span(t.Context(), "program", func(program context.Context) {
					call := func(name string, d time.Duration) {
						wg.Go(func() {
							ctx := program
							if !same {
								ctx = t.Context()
							}
							k.span(ctx, name, func(ctx context.Context) {
								ctx, cancel := context.WithTimeout(ctx, d)
								defer cancel()
								g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
									k.span(ctx, "in fn", func(context.Context) { time.Sleep(time.Second) })
									return 0, nil
								})
							})
						})
						synctest.Wait()
					}
					call("leader", time.Minute)
					call("follower 1", time.Minute)
					call("follower 2", time.Minute)
					call("leaver", time.Millisecond)
					wg.Wait()
				})
				synctest.Wait()

				spans := k.spans(t)
				flight := spans[flightSpan]
				if !childOf(flight, spans["leader"]) {
					t.Errorf("the flight's parent is %v, want %v, the leader", flight.Parent, spans["leader"].SpanContext)
				}
				if !childOf(spans["in fn"], flight) {
					t.Errorf("the parent of what fn does is %v, want %v, the flight", spans["in fn"].Parent, flight.SpanContext)
				}
				want := []attribute.KeyValue{attribute.String("coalesce.group.name", "a"), attribute.Int("coalesce.flight.followers", 2)}
				if !slices.Equal(flight.Attributes, want) {
					t.Errorf("the flight has attributes %v, want %v", flight.Attributes, want)
				}
				if flight.SpanKind != trace.SpanKindInternal || flight.Status.Code != codes.Unset || len(flight.Links)+len(flight.Events) > 0 {
					t.Errorf("got flight %+v, want one of kind internal, without a status, links and events", flight)
				}
				if d := flight.EndTime.Sub(flight.StartTime); d != time.Second {
					t.Errorf("the flight took %v, want 1 s", d)
				}
				for name, want := range map[string]string{"follower 1": "received", "follower 2": "received", "leaver": "left"} {
					if !linksTo(spans[name], flight) {
						t.Errorf("%s has links %v, want one to the flight", name, spans[name].Links)
					}
					if got := events(t, spans[name]); !slices.Equal(got, []string{want}) {
						t.Errorf("%s has events %q, want %q", name, got, want)
					}
				}
				if l := spans["leader"]; len(l.Links)+len(l.Events) > 0 {
					t.Errorf("the leader has links %v and events %v, want none", l.Links, l.Events)
				}
				if n := s.listed(); n != 0 {
					t.Errorf("got %d flights listed at the end, want none", n)
				}
			})
		})
	}
}

// TestSpans_Ends: the span has a status for each way in which fn may end, and never the
// text of an error, which may hold a key.
func TestSpans_Ends(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for name, test := range map[string]struct {
		fn     func() (int, error)
		status sdktrace.Status
		typ    string
	}{
		"value":  {func() (int, error) { return 1, nil }, sdktrace.Status{}, ""},
		"error":  {func() (int, error) { return 0, errors.New("secret") }, sdktrace.Status{Code: codes.Error}, "*errors.errorString"},
		"panic":  {func() (int, error) { panic("secret") }, sdktrace.Status{Code: codes.Error, Description: "panicked"}, "*coalesce.PanicError"},
		"Goexit": {func() (int, error) { runtime.Goexit(); return 0, nil }, sdktrace.Status{Code: codes.Error, Description: "goexit"}, "*errors.errorString"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit()
				var g coalesce.Group[string, int]
				hooked(k, &g)
				k.span(t.Context(), "caller", func(ctx context.Context) {
					<-g.DoChan(ctx, "k", func(context.Context) (int, error) { return test.fn() })
				})
				synctest.Wait()
				flight := k.spans(t)[flightSpan]
				set := attribute.NewSet(flight.Attributes...)
				typ, _ := set.Value("error.type")
				if flight.Status != test.status || typ.AsString() != test.typ {
					t.Errorf("got status %v and error.type %q, want %v and %q", flight.Status, typ.AsString(), test.status, test.typ)
				}
				if len(flight.Events) > 0 {
					t.Errorf("got events %v, want none", flight.Events)
				}
			})
		})
	}
}

// TestSpans_NotSampled: a flight that is not sampled gets no links.
func TestSpans_NotSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(notFlights{})
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
		spans := k.spans(t)
		if _, ok := spans[flightSpan]; ok {
			t.Error("got a span of the flight, want none, as it is not sampled")
		}
		if f := spans["follower"]; len(f.Links) != 0 || !slices.Equal(events(t, f), []string{"received"}) {
			t.Errorf("the follower has links %v and events %v, want no links and that it received", f.Links, f.Events)
		}
	})
}

// notFlights samples all but the spans of flights.
type notFlights struct{}

func (notFlights) Description() string { return "all but flights" }

func (notFlights) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.Name == flightSpan {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

// TestSpans_Held: a held flight that its caller leaves goes on, and its span ends when fn
// has, long after the caller's. A call that joins meanwhile links to it.
func TestSpans_Held(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		hooked(k, &g)
		k.span(t.Context(), "leader", func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
				coalesce.Hold(ctx)
				return sleep(time.Second)(ctx)
			})
		})
		k.span(t.Context(), "late", func(ctx context.Context) { g.DoContext(ctx, "k", notCalled) })
		synctest.Wait()
		spans := k.spans(t)
		flight, leader := spans[flightSpan], spans["leader"]
		if !childOf(flight, leader) || flight.EndTime.Sub(leader.EndTime) != 999*time.Millisecond {
			t.Errorf("got flight %v, want a child of the leader that ends 999 ms later", flight)
		}
		if got := events(t, leader); !slices.Equal(got, []string{"left"}) {
			t.Errorf("the leader has events %q, want that it left", got)
		}
		if !linksTo(spans["late"], flight) {
			t.Errorf("got links %v, want one to the flight", spans["late"].Links)
		}
	})
}

// TestSpans_Queue: of calls that queue, one comes to lead, and its span is the parent of the
// flight's, without a link; the others link to that when it begins. One that leaves the
// queue has no link.
func TestSpans_Queue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		var wg sync.WaitGroup
		call := func(name string, d time.Duration) {
			wg.Go(func() {
				k.span(t.Context(), name, func(ctx context.Context) {
					ctx, cancel := context.WithTimeout(ctx, d)
					defer cancel()
					g.DoFresh(ctx, "k", func(ctx context.Context) (int, error) {
						k.span(ctx, "fn of "+name, func(context.Context) { time.Sleep(time.Second) })
						return 0, nil
					})
				})
			})
			synctest.Wait()
		}
		g.Hooks.Start = renamed(g.Hooks.Start)
		call("running", time.Minute)
		call("leaver", time.Millisecond)
		call("first", time.Minute)
		call("second", time.Minute)
		wg.Wait()
		synctest.Wait()
		spans := k.spans(t)
		fn := spans["fn of first"]
		flight := spans["flight 2"]
		if !childOf(flight, spans["first"]) || !childOf(fn, flight) {
			t.Errorf("got parents %v and %v, want the first in the queue over its flight over its fn", flight.Parent, fn.Parent)
		}
		if !linksTo(spans["second"], flight) || len(spans["first"].Links) != 0 || len(spans["leaver"].Links) != 0 {
			t.Errorf("got links %v, %v and %v, want one of the second to the flight", spans["first"].Links, spans["second"].Links, spans["leaver"].Links)
		}
		for name, want := range map[string][]string{"first": nil, "second": {"received"}, "leaver": {"left"}} {
			if got := events(t, spans[name]); !slices.Equal(got, want) {
				t.Errorf("%s has events %q, want %q", name, got, want)
			}
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}

// renamed gives the spans that start begins numbers, in their order.
func renamed(start func(context.Context, coalesce.Event[string]) context.Context) func(context.Context, coalesce.Event[string]) context.Context {
	n := 0
	return func(ctx context.Context, e coalesce.Event[string]) context.Context {
		ctx = start(ctx, e)
		n++
		trace.SpanFromContext(ctx).SetName(fmt.Sprint("flight ", n))
		return ctx
	}
}

// TestSpans_AllLeaveTheQueue: a queued flight that all callers leave never starts, and
// leaves nothing.
func TestSpans_AllLeaveTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		var wg sync.WaitGroup
		wg.Go(func() { g.DoContext(t.Context(), "k", sleep(time.Second)) })
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				k.span(t.Context(), "leaver", func(ctx context.Context) {
					ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
					defer cancel()
					g.DoFresh(ctx, "k", notCalled)
				})
			})
		}
		synctest.Wait()
		if n := s.listed(); n != 2 {
			t.Errorf("got %d flights listed, want the running one and the queued one", n)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if n := s.listed(); n != 1 {
			t.Errorf("got %d flights listed, want the running one", n)
		}
		wg.Wait()
	})
}

// TestSpans_DoMulti: a batch has one span, and the followers of all its keys link to it,
// also one that leaves.
func TestSpans_DoMulti(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		var wg sync.WaitGroup
		wg.Go(func() {
			k.span(t.Context(), "leader", func(ctx context.Context) {
				g.DoMulti(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
					time.Sleep(time.Second)
					return map[string]int{"a": 1, "b": 2}, nil
				})
			})
		})
		synctest.Wait()
		for _, key := range []string{"a", "b"} {
			wg.Go(func() {
				k.span(t.Context(), "follower of "+key, func(ctx context.Context) { g.DoContext(ctx, key, notCalled) })
			})
		}
		wg.Go(func() {
			k.span(t.Context(), "leaves b", func(ctx context.Context) {
				ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				g.DoContext(ctx, "b", notCalled)
			})
		})
		wg.Wait()
		synctest.Wait()
		spans := k.spans(t)
		flight := spans[flightSpan]
		if !childOf(flight, spans["leader"]) || !slices.Contains(flight.Attributes, attribute.Int("coalesce.flight.followers", 1)) {
			t.Errorf("got %+v, want a child of the leader with the follower of a", flight)
		}
		for name, event := range map[string]string{"follower of a": "received", "follower of b": "received", "leaves b": "left"} {
			if !linksTo(spans[name], flight) {
				t.Errorf("%s has links %v, want one to the flight", name, spans[name].Links)
			}
			if got := events(t, spans[name]); !slices.Equal(got, []string{event}) {
				t.Errorf("%s has events %q, want %s", name, got, event)
			}
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}

// TestSpans_Do: the flight of a Do, which has no context, begins a trace.
func TestSpans_Do(t *testing.T) {
	k := newKit()
	var g coalesce.Group[string, int]
	hooked(k, &g)
	g.Do("k", func() (int, error) { return 0, nil })
	if flight, ok := k.spans(t)[flightSpan]; !ok || flight.Parent.IsValid() {
		t.Errorf("got flight %+v, want one without a parent", flight)
	}
}

// TestSpans_Nested: an fn that calls the group for another key gets a span for each, one in
// the other, and each ends once, even if the Start hook of the inner one panics.
func TestSpans_Nested(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, panics := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit()
			g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
				Start: func(_ context.Context, e coalesce.Event[string]) context.Context {
					if panics && e.Key == "inner" {
						panic("Start")
					}
					return nil
				},
			}}
			s := hooked(k, &g)
			if !panics {
				g.Hooks.Start = renamed(g.Hooks.Start)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				g.DoContext(t.Context(), "outer", func(ctx context.Context) (int, error) {
					g.DoContext(ctx, "inner", sleep(time.Second))
					if _, ended := k.spans(t)[flightSpan]; ended {
						t.Error("the span of the outer flight has ended while its fn runs")
					}
					return 0, nil
				})
			})
			synctest.Wait()
			k.span(t.Context(), "follower", func(ctx context.Context) { g.DoContext(ctx, "inner", notCalled) })
			wg.Wait()
			synctest.Wait()
			spans := k.spans(t)
			if panics {
				if f := spans["follower"]; len(spans) != 2 || len(f.Links) != 0 {
					t.Errorf("got %d spans, and links %v, want two, and none: the inner flight has no span", len(spans), f.Links)
				}
			} else {
				inner := spans["flight 2"]
				if !childOf(inner, spans["flight 1"]) || !linksTo(spans["follower"], inner) {
					t.Errorf("got parent %v and links %v, want the outer flight, and the inner one", inner.Parent, spans["follower"].Links)
				}
			}
			if n := s.listed(); n != 0 {
				t.Errorf("got %d flights listed at the end, want none", n)
			}
		})
	}
}

// TestSpans_Compose: the user's hooks are called as without otelflight's: what Start puts
// into the context arrives, and Finish can still add to the flight's span. Those that panic
// are counted, and change nothing else.
func TestSpans_Compose(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler))
	type ctxKey struct{}
	for _, panics := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := newKit()
			var mu sync.Mutex
			got := map[string]int{}
			note := func(name string) {
				mu.Lock()
				defer mu.Unlock()
				got[name]++
				if panics && name != "start" {
					panic(name)
				}
			}
			hook := func(name string) func(context.Context, coalesce.Event[string]) {
				return func(context.Context, coalesce.Event[string]) { note(name) }
			}
			g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
				Start: func(ctx context.Context, _ coalesce.Event[string]) context.Context {
					note("start")
					return context.WithValue(ctx, ctxKey{}, "value")
				},
				Join: hook("join"), Receive: hook("receive"), Leave: hook("leave"),
				Finish: func(ctx context.Context, _ coalesce.Event[string]) {
					trace.SpanFromContext(ctx).AddEvent(fmt.Sprint(ctx.Value(ctxKey{})))
					note("finish")
				},
			}}
			hooked(k, &g)
			var wg sync.WaitGroup
			wg.Go(func() {
				k.span(t.Context(), "leader", func(ctx context.Context) {
					g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
						if ctx.Value(ctxKey{}) != "value" {
							t.Error("fn's context lacks the value that Start has given")
						}
						return sleep(time.Second)(ctx)
					})
				})
			})
			synctest.Wait()
			for name, d := range map[string]time.Duration{"follower": time.Minute, "leaver": time.Millisecond} {
				wg.Go(func() {
					k.span(t.Context(), name, func(ctx context.Context) {
						ctx, cancel := context.WithTimeout(ctx, d)
						defer cancel()
						g.DoContext(ctx, "k", notCalled)
					})
				})
			}
			wg.Wait()
			synctest.Wait()
			for name, want := range map[string]int{"start": 1, "join": 2, "receive": 1, "leave": 1, "finish": 1} {
				if got[name] != want {
					t.Errorf("got %d calls of %s, want %d", got[name], name, want)
				}
			}
			if want := uint64(5); panics && g.Stats().HookPanics != want {
				t.Errorf("got %d panics of hooks, want %d", g.Stats().HookPanics, want)
			}
			spans := k.spans(t)
			flight := spans[flightSpan]
			if len(flight.Events) != 1 || flight.Events[0].Name != "value" {
				t.Errorf("got events %v of the flight, want that of Finish", flight.Events)
			}
			if !childOf(flight, spans["leader"]) || !linksTo(spans["follower"], flight) || !linksTo(spans["leaver"], flight) {
				t.Errorf("got flight %v and links %v and %v, want a child of the leader with two links", flight, spans["follower"].Links, spans["leaver"].Links)
			}
			if f, l := events(t, spans["follower"]), events(t, spans["leaver"]); !slices.Equal(f, []string{"received"}) || !slices.Equal(l, []string{"left"}) {
				t.Errorf("got events %q and %q, want received and left", f, l)
			}
		})
	}
}

// TestSpans_StartReplacesTheContext: a Start of the user's that returns another context
// decides about the parent, and Finish still ends the span.
func TestSpans_StartReplacesTheContext(t *testing.T) {
	k := newKit()
	g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
		Start: func(context.Context, coalesce.Event[string]) context.Context { return context.Background() },
	}}
	hooked(k, &g)
	k.span(t.Context(), "leader", func(ctx context.Context) { g.DoContext(ctx, "k", sleep(0)) })
	waitFor(t, func() bool { return len(k.exporter.GetSpans()) == 2 })
	if flight, ok := k.spans(t)[flightSpan]; !ok || flight.Parent.IsValid() {
		t.Errorf("got flight %+v, want one without a parent", flight)
	}
}

// TestSpans_Off: with a provider of package noop the hooks that only spans need are not
// there.
func TestSpans_Off(t *testing.T) {
	k := newKit()
	k.TracerProvider = noop.NewTracerProvider()
	h := Hooks(&k.Registry, "a", coalesce.Hooks[string]{})
	if h.Start != nil || h.Join != nil || h.Leave != nil || h.Receive == nil || h.Finish == nil {
		t.Errorf("got %+v, want Receive and Finish alone", h)
	}
}

// TestSpans_Name: a name that is not valid UTF-8, which Add refuses, does not reach a span.
func TestSpans_Name(t *testing.T) {
	k := newKit()
	h := Hooks(&k.Registry, "a\xff", coalesce.Hooks[string]{})
	ctx := h.Start(t.Context(), coalesce.Event[string]{FlightID: 1, StartID: 1})
	h.Finish(ctx, coalesce.Event[string]{FlightID: 1, StartID: 1})
	s, ok := k.spans(t)["coalesce a\uFFFD"]
	if want := attribute.String("coalesce.group.name", "a\uFFFD"); !ok || !slices.Contains(s.Attributes, want) {
		t.Errorf("got spans %v, want one with the attribute %v", k.spans(t), want)
	}
}

// TestSpans_QueueWithoutTime: a call that is queued and comes to lead has no link, even where
// the clock has not moved meanwhile.
func TestSpans_QueueWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		running := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { g.Do("k", func() (int, error) { <-running; return 0, nil }) })
		synctest.Wait()
		for _, name := range []string{"first", "second"} {
			wg.Go(func() { k.span(t.Context(), name, func(ctx context.Context) { g.DoFresh(ctx, "k", sleep(0)) }) })
			synctest.Wait()
		}
		close(running)
		wg.Wait()
		synctest.Wait()
		links := map[string]int{}
		for _, s := range k.exporter.GetSpans() {
			links[s.Name] += len(s.Links)
		}
		if links["first"] != 0 || links["second"] != 1 {
			t.Errorf("got links %v, want one, of the second", links)
		}
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}
