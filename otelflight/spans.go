package otelflight

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the spans of the flights of one group, and the links to them.
//
// A call that joins knows the IDs of its flight and of the Start that the flight has, and
// not the span, which begins on another goroutine. The two meet in a flight, which is
// listed under its ID. The hooks of different calls come in any order, so that a flight is
// listed by the first that comes:
//
//	Join       links the caller's span to that of the flight, or leaves it in waiting
//	Start      links all that are in waiting
//	Finish     the same, if Start has not been called, or has panicked
//	Receive    is counted
//	Leave      takes the caller's span out of waiting
//
// Of the flights of a DoMulti only the first has a Start, and the others are linked to its
// span: their callers are in waiting there. As it may be off the list before the others
// have finished, the Finish of each links those that have come since.
//
// Invariants, true whenever no lock is held:
//  L1. A flight is listed while a call is waiting for its Start; from its Start on until
//      it has finished; and from the first Receive or Finish on until as many calls have
//      received its result as Finish has counted. So a Join that is called after Finish
//      still finds the span. A queued flight that all callers leave has no Finish.
//  L2. A span is in waiting until the flight's is known, or until its own call leaves.

// spans are those of the flights of one group.
type spans struct {
	tracer  trace.Tracer
	name    string // of each span
	onStart []trace.SpanStartOption
	onEvent []trace.EventOption
	onLink  []attribute.KeyValue

	tables [16]table // flights are spread over them by their IDs
}

// newSpans returns the spans of a group, whose name is the value of the attribute.
func newSpans(t trace.Tracer, group attribute.KeyValue) *spans {
	return &spans{
		tracer: t, name: "coalesce " + group.Value.AsString(),
		onStart: []trace.SpanStartOption{trace.WithAttributes(group)},
		onEvent: []trace.EventOption{trace.WithAttributes(group)},
		onLink:  []attribute.KeyValue{group},
	}
}

// A table lists flights under their IDs; see L1. mu guards it, and the fields of its
// flights.
type table struct {
	mu      sync.Mutex
	flights map[uint64]*flight // nil until used, and again after it has held many
	grown   bool               // whether it has held many
	_       [40]byte           // so that different tables are in different cache lines
}

// A flight is one whose hooks have been called.
type flight struct {
	known   bool              // whether target is final: Start has been called, or Finish
	target  trace.SpanContext // of the flight's span; not valid if there is none, or none that is sampled
	waiting map[spanID]waiter // what joined before it was known; nil if nothing is waiting
	first   uint64            // the least Event.Seq of the Joins that came before that; 0 if none did

	finished bool
	due      int // calls that are to receive; how many have received, negative, until finished
}

// A waiter is a span of calls that wait for the flight's.
type waiter struct {
	span  trace.Span
	calls int
}

// A spanID is what tells a span from all others.
type spanID struct {
	trace trace.TraceID
	span  trace.SpanID
}

// spanOf returns the span of a call's context, and what tells it from others.
func spanOf(ctx context.Context) (trace.Span, spanID) {
	span := trace.SpanFromContext(ctx)
	c := span.SpanContext()
	return span, spanID{c.TraceID(), c.SpanID()}
}

// A running flight is in the context that Start returns, under the spans as the key. Those
// of a DoMulti have one in common.
type running struct {
	id   uint64 // of the flight that Start was called for
	span trace.Span
}

// lock locks the table of the flight with an ID, and returns both. If the flight is not
// listed, lock lists it.
func (s *spans) lock(id uint64) (*table, *flight) {
	t := &s.tables[id*0x9E3779B97F4A7C15>>60] // IDs of one shard of a group differ in their high bits
	t.mu.Lock()
	f := t.flights[id]
	if f == nil {
		if t.flights == nil {
			t.flights = map[uint64]*flight{}
		}
		f = new(flight)
		t.flights[id] = f
		t.grown = t.grown || len(t.flights) > 64
	}
	return t, f
}

// unlock takes f, which has the ID, off the list if L1 says so, and unlocks t.
func (t *table) unlock(id uint64, f *flight) {
	if f.due == 0 && (f.finished || !f.known && len(f.waiting) == 0) {
		delete(t.flights, id)
		if t.grown && len(t.flights) == 0 {
			t.flights, t.grown = nil, false // a map keeps its room
		}
	}
	t.mu.Unlock()
}

// know makes the target of f final and returns the spans that wait for it. Its table must
// be locked.
func (f *flight) know(target trace.SpanContext) map[spanID]waiter {
	waiting := f.waiting
	f.known, f.target, f.waiting = true, target, nil
	return waiting
}

// wait adds a span of a call to those that wait, and forgo takes it out and reports
// whether it was there. The flight's table must be locked.
func (f *flight) wait(id spanID, span trace.Span) {
	if f.waiting == nil {
		f.waiting = map[spanID]waiter{}
	}
	f.waiting[id] = waiter{span, f.waiting[id].calls + 1}
}

func (f *flight) forgo(id spanID) bool {
	switch w := f.waiting[id]; w.calls {
	case 0:
		return false
	case 1:
		delete(f.waiting, id)
	default:
		f.waiting[id] = waiter{w.span, w.calls - 1}
	}
	return true
}

// start begins the span of a flight. ctx is what fn's context comes from, call is the
// context of the leader, and seq is the Event.Seq of the Start. start returns what Finish
// and fn are to get.
func (s *spans) start(ctx, call context.Context, id, seq uint64) context.Context {
	ctx, span := s.tracer.Start(ctx, s.name, s.onStart...)
	target := sampled(span)
	_, leader := spanOf(call)
	t, f := s.lock(id)
	if f.first != 0 && f.first < seq { // the flight was queued, so the leader has been waiting, too
		f.forgo(leader)
	}
	waiting := f.know(target)
	t.unlock(id, f)
	s.linkAll(target, waiting)
	return context.WithValue(ctx, s, &running{id: id, span: span})
}

// join links the span of a call that has joined a flight to the span of the flight with
// the ID start, which is the same one unless a DoMulti leads it. seq is the Event.Seq of
// the Join.
func (s *spans) join(ctx context.Context, id, start, seq uint64) {
	span, own := spanOf(ctx)
	if !span.IsRecording() {
		return
	}
	t, f := s.lock(start)
	target, known := f.target, f.known
	if !known {
		f.wait(own, span)
		if id == start && (f.first == 0 || seq < f.first) { // Seq orders the events of one key
			f.first = seq
		}
	}
	t.unlock(start, f)
	if !known && id != start {
		target = s.recheck(own, id, start)
	}
	s.link(target, span)
}

// recheck returns the target of a span that waits for the flight with the ID start, if its
// own flight has finished before. Otherwise the Finish of that will find the span.
func (s *spans) recheck(own spanID, id, start uint64) (target trace.SpanContext) {
	t, f := s.lock(id)
	finished := f.finished
	target = f.target
	t.unlock(id, f)
	if !finished {
		return trace.SpanContext{}
	}
	t, f = s.lock(start)
	waited := f.forgo(own)
	t.unlock(start, f)
	if !waited {
		return trace.SpanContext{}
	}
	return target
}

// receive notes that a call has the result of the flight.
func (s *spans) receive(ctx context.Context, id uint64) {
	t, f := s.lock(id)
	f.due--
	t.unlock(id, f)
	s.event(ctx, "received")
}

// leave notes that a call has left a flight whose Start is that with the ID start.
func (s *spans) leave(ctx context.Context, start uint64) {
	_, own := spanOf(ctx)
	t, f := s.lock(start)
	f.forgo(own)
	t.unlock(start, f)
	s.event(ctx, "left")
}

// finish ends the span of a flight that has finished with so many followers. ctx is what
// start has returned for the flight with the ID start.
func (s *spans) finish(ctx context.Context, id, start uint64, followers int, how coalesce.Outcome, err error) {
	// r is that of the flight with the ID start or, if there is no span because Start has
	// panicked or was not called, of an outer flight, whose fn has made the call, or nil.
	r, _ := ctx.Value(s).(*running)
	var target trace.SpanContext
	if r != nil && r.id == start {
		target = sampled(r.span)
	}
	var waiting map[spanID]waiter
	t, f := s.lock(id)
	if !f.known {
		waiting = f.know(target)
	}
	f.finished = true
	f.due += followers
	t.unlock(id, f)
	s.linkAll(target, waiting)
	if id != start {
		t, f := s.lock(start)
		waiting := f.waiting // what has come since that flight was taken off the list
		f.waiting = nil
		t.unlock(start, f)
		s.linkAll(target, waiting)
	}
	if r != nil && r.id == id {
		end(r.span, followers, how, err)
	}
}

// end ends the span of a flight, even if a method of err panics.
func end(span trace.Span, followers int, how coalesce.Outcome, err error) {
	defer span.End()
	span.SetAttributes(attribute.Int("coalesce.flight.followers", followers))
	if err != nil {
		text := "" // that of err may hold keys
		if how != coalesce.OutcomeReturned {
			text = how.String()
		}
		span.SetStatus(codes.Error, text)
		span.SetAttributes(semconv.ErrorType(err))
	}
}

// sampled returns the context of a span, if it is sampled.
func sampled(s trace.Span) (c trace.SpanContext) {
	if s.SpanContext().IsSampled() {
		c = s.SpanContext()
	}
	return c
}

// link links a span to a target, unless that is not valid. No lock may be held.
func (s *spans) link(target trace.SpanContext, from trace.Span) {
	if target.IsValid() {
		from.AddLink(trace.Link{SpanContext: target, Attributes: s.onLink})
	}
}

// linkAll is link for each call that waits. The spans are those of other calls. If one
// panics, that harms neither the flight's span nor the rest.
func (s *spans) linkAll(target trace.SpanContext, waiting map[spanID]waiter) {
	for _, w := range waiting {
		for range w.calls {
			s.linkOther(target, w.span)
		}
	}
}

func (s *spans) linkOther(target trace.SpanContext, from trace.Span) {
	defer func() {
		if p := recover(); p != nil {
			otel.Handle(fmt.Errorf("otelflight: a span panicked: %v", p))
		}
	}()
	s.link(target, from)
}

// event adds an event to the span of a call.
func (s *spans) event(ctx context.Context, name string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(name, s.onEvent...)
	}
}
