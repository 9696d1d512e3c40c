package otelflight

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed342dcb2d/coalesce"
)

// Hooks returns hooks that report the flights of a group to r as spans and in
// the two histograms, and that call the hooks of next:
//
//	thumbnails.Hooks = otelflight.Hooks(&telemetry, "thumbnails", thumbnails.Hooks)
//
// Set them before the group is used, which means before it is added to r, too.
// Use them for one group alone, and the name that it is added with: Add returns
// an error for a bad name, Hooks does not, and replaces what is no valid UTF-8. A
// meter that returns an error is reported to [otel.Handle]. Hooks panics if r is
// nil.
//
// # Spans
//
// The span of a flight is called "coalesce" and the name of the group. It begins
// before fn, as a child of the span in the leader's context, which it may
// outlive; the flight of a caller without a span, as that of a Do, begins a
// trace of its own. It is the current span of the context that fn gets. A
// DoMulti has one span for all the keys that it leads.
//
// It ends when the flight has finished, with the attribute
// coalesce.flight.followers, the number of calls that got the result beside the
// leader; for a DoMulti that of the first of the keys that fn got. If fn did not
// return a nil error, its status is Error, with the attribute error.type. The
// text of an error may hold keys, so it is not reported; a Finish hook in next
// can do so:
//
//	trace.SpanFromContext(ctx).RecordError(e.Err)
//
// The span of each caller that joins or queues, whether it gets the result or
// leaves, gets a link to the span of the flight, as soon as that span begins, if
// it is sampled. Later it gets the event "received" or "left", as does the span
// of a leader that leaves. A call that leaves a queue before the flight begins
// gets no link.
//
// # Histograms
//
// coalesce.wait.duration records, by the Receive hook, each call that followed
// and got a result, or the error of a Shutdown. A call that left got none, and a
// call that an outcome answered which lingers did not wait.
// coalesce.flight.duration records, by the Finish hook, each flight that ran; a
// DoMulti leads one for each of its keys.
//
// # Order
//
// The hooks of next, each of which may be nil, are called first. So what its
// Start puts into the context is there when the span begins, and its Finish gets
// a context whose span has not ended. Their panics and Goexits have the effects
// that they have without Hooks, and what is said above happens all the same,
// except that a flight whose Start panics or exits has no span. A tracer, a span
// or a meter that panics has the effects of a hook that panics, so no call is
// harmed. If the tracer panics at the start of a flight, that has no span, and
// its fn lacks what Start has put into the context.
//
// # Cost
//
// Apart from what the tracer and the meter allocate, the hooks allocate 5 times
// for each flight, and not for a call that joins one that has begun. With a
// TracerProvider of package noop they allocate nothing. A group that has any
// hooks allocates, too, and reads the clock: see “Cost” in the documentation of
// [coalesce].
func Hooks[K comparable](r *Registry, name string, next coalesce.Hooks[K]) coalesce.Hooks[K] {
	h, _ := makeHooks(r, name, next)
	return h
}

// makeHooks is Hooks. It also returns the spans of the group, or nil if they are off.
func makeHooks[K comparable](r *Registry, name string, next coalesce.Hooks[K]) (h coalesce.Hooks[K], s *spans) {
	in := r.use()
	if in.err != nil {
		otel.Handle(in.err)
	}
	group := groupName(strings.ToValidUTF8(name, "\uFFFD")) // an exporter may refuse all that is beside another
	h = next

	with := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(group))}
	h.Receive = after(next.Receive, func(ctx context.Context, e coalesce.Event[K]) {
		in.wait.Record(ctx, e.Wait.Seconds(), with...)
	})
	h.Finish = after(next.Finish, func(ctx context.Context, e coalesce.Event[K]) {
		if e.Outcome != coalesce.OutcomeClosed { // else fn has not run
			in.flight.Record(ctx, e.Run.Seconds(), with...)
		}
	})
	tracers := r.TracerProvider
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if _, off := tracers.(noop.TracerProvider); off {
		return h, nil
	}

	s = newSpans(tracers.Tracer(scope), group)
	h.Start = func(ctx context.Context, e coalesce.Event[K]) context.Context {
		own := ctx
		if next.Start != nil {
			if c := next.Start(ctx, e); c != nil {
				own = c
			}
		}
		return s.start(own, ctx, e.FlightID, e.Seq)
	}
	h.Join = after(next.Join, func(ctx context.Context, e coalesce.Event[K]) {
		s.join(ctx, e.FlightID, e.StartID, e.Seq)
	})
	h.Receive = after(h.Receive, func(ctx context.Context, e coalesce.Event[K]) { s.receive(ctx, e.FlightID) })
	h.Leave = after(next.Leave, func(ctx context.Context, e coalesce.Event[K]) { s.leave(ctx, e.StartID) })
	h.Finish = after(h.Finish, func(ctx context.Context, e coalesce.Event[K]) {
		s.finish(ctx, e.FlightID, e.StartID, e.Waiters, e.Outcome, e.Err)
	})
	return h, s
}

// after returns a hook that calls first, which may be nil, and then the other, even if
// first panics or exits the goroutine.
func after[K comparable](first, then func(context.Context, coalesce.Event[K])) func(context.Context, coalesce.Event[K]) {
	if first == nil {
		return then
	}
	return func(ctx context.Context, e coalesce.Event[K]) {
		defer then(ctx, e)
		first(ctx, e)
	}
}
