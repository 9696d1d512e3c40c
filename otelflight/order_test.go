package otelflight

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// TestOrder: the hooks of different calls come in any order, as no order is promised
// between calls. In each, the followers of a flight are linked to its span, and no flight
// is left. The same holds for the second flight of a DoMulti, which has no Start.
func TestOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		order string
		links map[string]bool // whether a caller has a link
	}{
		// S, F: Start and Finish. j, r, l and J, R, L: what the calls b and c do. q: the
		// leader is queued. p: it is promoted. n: nothing is listed. 1, 2: Finish for the
		// flights of a DoMulti.
		{"Join before Start", "jSFrn", map[string]bool{"b": true}},
		{"Join after Finish", "SFjrn", map[string]bool{"b": true}},
		{"Join and Leave before Start", "jlnSFn", map[string]bool{"b": false}},
		{"Join of a call that left after Finish", "SFnjln", map[string]bool{"b": false}},
		{"Leave after Finish", "SjFnln", map[string]bool{"b": true}},
		{"Receive before Finish", "SjrFn", map[string]bool{"b": true}},
		{"Receive after Finish, one of two", "jSFrJRn", map[string]bool{"b": true, "c": true}},
		{"promoted", "qjpFrn", map[string]bool{"a": false, "b": true}},
		{"all left the queue", "jJlLn", map[string]bool{"b": false, "c": false}},
		{"refused by Shutdown", "jXrn", map[string]bool{"b": false}},
		{"refused by Shutdown, Receive first", "jrXn", map[string]bool{"b": false}},
		{"Join before Start, and Leave", "jSlFn", map[string]bool{"b": true}},
		{"Join between the ends of two flights", "S1j2rn", map[string]bool{"b": true}},
		{"Receive between the ends of two flights", "S1jr2n", map[string]bool{"b": true}},
		{"Join and Leave between the ends", "S1jl2n", map[string]bool{"b": false}},
		{"Join before Start, ends apart", "jJS1rR2n", map[string]bool{"b": true, "c": true}},
	} {
		const id = 1
		single := !strings.Contains(test.order, "1")
		batch := !strings.ContainsAny(test.order, "qpX")
		if single {
			t.Run(test.name, func(t *testing.T) { testOrder(t, test.order, id, id, test.links) })
		}
		if batch {
			t.Run(test.name+", DoMulti", func(t *testing.T) { testOrder(t, test.order, id+1, id, test.links) })
		}
	}
}

// testOrder calls the hooks in the given order. The calls b and c join the flight id.
func testOrder(t *testing.T, order string, id, start uint64, links map[string]bool) {
	k := newKit()
	_, s := makeHooks(&k.Registry, "a", coalesce.Hooks[string]{})
	followers := 0
	for _, c := range order {
		switch c {
		case 'r', 'R':
			followers++
		}
	}
	of := map[rune]context.Context{}
	end := func() {}
	for _, c := range "abc" {
		ctx, span := k.tracer.Start(t.Context(), string(c))
		of[c] = ctx
		before := end
		end = func() { span.End(); before() }
	}
	flight := of['a']
	for i, c := range order {
		seq := uint64(2 + i)
		switch c {
		case 'q':
			s.join(of['a'], id, start, seq)
		case 'S':
			flight = s.start(of['a'], of['a'], start, 1) // it began before all that joined
		case 'p':
			flight = s.start(of['a'], of['a'], start, seq)
		case 'F', '1', '2':
			if id != start && c != '2' {
				s.finish(flight, start, start, 0, coalesce.OutcomeReturned, nil)
			}
			if c != '1' {
				s.finish(flight, id, start, followers, coalesce.OutcomeReturned, nil)
			}
		case 'X':
			s.finish(t.Context(), id, start, followers, coalesce.OutcomeClosed, coalesce.ErrClosed)
		case 'j':
			s.join(of['b'], id, start, seq)
		case 'J':
			s.join(of['c'], id, start, seq)
		case 'r':
			s.receive(of['b'], id)
		case 'R':
			s.receive(of['c'], id)
		case 'l':
			s.leave(of['b'], start)
		case 'L':
			s.leave(of['c'], start)
		case 'n':
			if n := s.listed(); n != 0 {
				t.Errorf("got %d flights listed, want none", n)
			}
		}
	}
	end()
	spans := k.spans(t)
	for name, want := range links {
		if got := len(spans[name].Links); got > 1 || got > 0 != want || want && !linksTo(spans[name], spans[flightSpan]) {
			t.Errorf("%s has links %v, want one: %t", name, spans[name].Links, want)
		}
	}
}

// TestOrder_OneSpan: calls that have one span in common wait for a flight each for itself.
func TestOrder_OneSpan(t *testing.T) {
	k := newKit()
	_, s := makeHooks(&k.Registry, "a", coalesce.Hooks[string]{})
	k.span(t.Context(), "b", func(b context.Context) {
		for range 3 {
			s.join(b, 1, 1, 2)
		}
		s.leave(b, 1)
		s.finish(s.start(t.Context(), t.Context(), 1, 1), 1, 1, 2, coalesce.OutcomeReturned, nil)
		for range 2 {
			s.receive(b, 1)
		}
	})
	if n := len(k.spans(t)["b"].Links); n != 2 {
		t.Errorf("got %d links, want 2, one for each call that has not left", n)
	}
	if n := s.listed(); n != 0 {
		t.Errorf("got %d flights listed, want none", n)
	}
}

// TestOrder_LeaderFollows: a span whose call was queued and comes to lead has no link; one
// whose call leads at once has one if another of its calls has joined by then.
func TestOrder_LeaderFollows(t *testing.T) {
	for start, want := range map[uint64]int{1: 1, 3: 0} {
		k := newKit()
		h := Hooks(&k.Registry, "a", coalesce.Hooks[string]{})
		k.span(t.Context(), "caller", func(ctx context.Context) {
			h.Join(ctx, coalesce.Event[string]{FlightID: 1, StartID: 1, Seq: 2})
			own := h.Start(ctx, coalesce.Event[string]{FlightID: 1, StartID: 1, Seq: start})
			h.Finish(own, coalesce.Event[string]{FlightID: 1, StartID: 1})
		})
		if n := len(k.spans(t)["caller"].Links); n != want {
			t.Errorf("Start with Seq %d, Join with 2: got %d links, want %d", start, n, want)
		}
	}
}

// TestOrder_Many: when many flights have finished, no room is kept for them.
func TestOrder_Many(t *testing.T) {
	k := newKit()
	k.TracerProvider = silent{}
	_, s := makeHooks(&k.Registry, "a", coalesce.Hooks[string]{})
	before := heap()
	const n = 100_000
	for id := uint64(64); id <= 64*n; id += 64 { // as in a group with 64 shards
		s.start(t.Context(), t.Context(), id, 1)
	}
	if got := s.listed(); got != n {
		t.Errorf("got %d flights listed, want %d", got, n)
	}
	for i := range s.tables {
		if got := len(s.tables[i].flights); got > n/8 {
			t.Errorf("got %d of %d flights in one table of %d", got, n, len(s.tables))
		}
	}
	for id := uint64(64); id <= 64*n; id += 64 {
		s.finish(t.Context(), id, id, 0, coalesce.OutcomeReturned, nil)
	}
	if after := heap(); after > before+100_000 {
		t.Errorf("got a heap of %d B after %d flights, want %d as before", after, n, before)
	}
	if got := s.listed(); got != 0 {
		t.Errorf("got %d flights listed at the end, want none", got)
	}
}

// A linkedSpan is a span that records how often it is linked to a target.
type linkedSpan struct {
	noop.Span
	id    byte
	links map[trace.SpanID]int
}

func (s *linkedSpan) IsRecording() bool { return true }

func (s *linkedSpan) SpanContext() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{s.id}, TraceFlags: trace.FlagsSampled})
}

func (s *linkedSpan) AddLink(l trace.Link) { s.links[l.SpanContext.SpanID()]++ }

// A linkedTracer begins spans that are sampled and have the number 100.
type linkedTracer struct{ noop.Tracer }

func (linkedTracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	s := &linkedSpan{id: 100}
	return trace.ContextWithSpan(ctx, s), s
}

// TestOrder_Any: in whatever order the hooks of a flight, or of the two of a DoMulti, and those
// of their calls come, each call that receives the result has one link, each that leaves has one
// at most, the leader has none, and in the end nothing is listed. Some calls have one span.
func TestOrder_Any(t *testing.T) {
	const start, second = 1, 2
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := newSpans(linkedTracer{}, attribute.String("coalesce.group.name", "a"))
		batch, queued := seed%3 == 0, seed%3 == 1
		var script []string // what has been done
		leader := &linkedSpan{id: 99, links: map[trace.SpanID]int{}}
		leading := trace.ContextWithSpan(t.Context(), leader)
		var flight context.Context
		type thread []func()
		var threads []thread
		seq := uint64(10)
		step := func(name string, do func()) func() { return func() { script = append(script, name); do() } }
		startSeq := uint64(1)
		if queued {
			startSeq = 1000
		}
		begin := step("Start", func() { flight = s.start(leading, leading, start, startSeq) })
		receivers := map[uint64]int{}
		type caller struct {
			span     *linkedSpan
			receives bool
		}
		var callers []caller
		for i := range 1 + random.IntN(4) {
			c := caller{span: &linkedSpan{id: byte(1 + i), links: map[trace.SpanID]int{}}, receives: random.IntN(2) == 0}
			if i > 0 && random.IntN(3) == 0 {
				c.span = callers[0].span
			}
			callers = append(callers, c)
			ctx := trace.ContextWithSpan(t.Context(), c.span)
			id := uint64(start)
			if batch && random.IntN(2) == 0 {
				id = second
			}
			seq++
			joined := seq
			join := step(fmt.Sprint("Join ", i), func() { s.join(ctx, id, start, joined) })
			if c.receives {
				receivers[id]++
				threads = append(threads, thread{join, step(fmt.Sprint("Receive ", i), func() { s.receive(ctx, id) })})
			} else {
				threads = append(threads, thread{join, step(fmt.Sprint("Leave ", i), func() { s.leave(ctx, start) })})
			}
		}
		flights := thread{begin, step("Finish", func() { s.finish(flight, start, start, receivers[start], coalesce.OutcomeReturned, nil) })}
		if queued {
			flights = append(thread{step("Join of the leader", func() { s.join(leading, start, start, 10) })}, flights...)
		}
		if batch {
			flights = append(flights, step("Finish 2", func() { s.finish(flight, second, start, receivers[second], coalesce.OutcomeReturned, nil) }))
		}
		threads = append(threads, flights)
		for len(threads) > 0 {
			i := random.IntN(len(threads))
			threads[i][0]()
			if threads[i] = threads[i][1:]; len(threads[i]) == 0 {
				threads = slices.Delete(threads, i, i+1)
			}
		}
		if n := s.listed(); n != 0 {
			t.Errorf("seed %d, %q: got %d flights listed, want none", seed, script, n)
		}
		if len(leader.links) != 0 {
			t.Errorf("seed %d, %q: the leader has links %v, want none", seed, script, leader.links)
		}
		least, most := map[*linkedSpan]int{}, map[*linkedSpan]int{}
		for _, c := range callers {
			most[c.span]++
			if c.receives {
				least[c.span]++
			}
		}
		for span, most := range most {
			if n := span.links[trace.SpanID{100}]; n < least[span] || n > most {
				t.Errorf("seed %d, %q: span %d has %d links, want %d to %d", seed, script, span.id, n, least[span], most)
			}
		}
		if t.Failed() {
			return
		}
	}
}
