package otelflight

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/seed342dcb2d/coalesce"
)

// The instruments of a Registry. All but the histograms are observed by callbacks, one for
// each group.
type instruments struct {
	meter metric.Meter
	err   error // of making them

	calls      metric.Int64ObservableCounter
	counters   []counter
	lingering  metric.Int64ObservableGauge
	activeKeys metric.Int64ObservableUpDownCounter
	oldest     metric.Float64ObservableGauge
	waiting    metric.Int64ObservableUpDownCounter
	observed   []metric.Observable // all of these

	wait, flight metric.Float64Histogram
}

// A counter is a number out of Stats that only grows.
type counter struct {
	instrument metric.Int64ObservableCounter
	value      func(coalesce.Stats) uint64
}

// boundaries are those that OpenTelemetry advises for durations of requests.
var boundaries = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// make makes the instruments.
func (in *instruments) make(m metric.Meter) {
	in.meter = m
	var errs []error
	made := func(i metric.Observable, err error) {
		errs = append(errs, err)
		in.observed = append(in.observed, i)
	}
	var err error
	in.calls, err = m.Int64ObservableCounter("coalesce.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls, by what became of them."))
	made(in.calls, err)
	add := func(name, unit, description string, value func(coalesce.Stats) uint64) {
		c, err := m.Int64ObservableCounter("coalesce."+name, metric.WithUnit(unit), metric.WithDescription(description))
		made(c, err)
		in.counters = append(in.counters, counter{c, value})
	}
	add("left_calls", "{call}", "Calls that left because their context ended.",
		func(s coalesce.Stats) uint64 { return s.Left })
	add("abandoned_flights", "{flight}", "Flights that all callers left.",
		func(s coalesce.Stats) uint64 { return s.Abandoned })
	add("taken_over_flights", "{flight}", "Flights that were taken over from because of MaxAge.",
		func(s coalesce.Stats) uint64 { return s.TakenOver })
	add("forgotten_keys", "{key}", "Keys for which a Forget had anything to forget.",
		func(s coalesce.Stats) uint64 { return s.Forgotten })
	add("panics", "{panic}", "Flights whose function panicked.",
		func(s coalesce.Stats) uint64 { return s.Panics })
	add("goexits", "{goexit}", "Flights whose function called runtime.Goexit.",
		func(s coalesce.Stats) uint64 { return s.Goexits })
	add("panics_logged", "{panic}", "Panics that were logged because no blocking call got them.",
		func(s coalesce.Stats) uint64 { return s.PanicsLogged })
	add("hook_panics", "{panic}", "Panics of hooks.",
		func(s coalesce.Stats) uint64 { return s.HookPanics })
	add("evicted_outcomes", "{outcome}", "Outcomes that were dropped because of LingerMax.",
		func(s coalesce.Stats) uint64 { return s.Evicted })
	in.lingering, err = m.Int64ObservableGauge("coalesce.lingering_outcomes", metric.WithUnit("{outcome}"),
		metric.WithDescription("Outcomes that linger now."))
	made(in.lingering, err)
	in.activeKeys, err = m.Int64ObservableUpDownCounter("coalesce.active_keys", metric.WithUnit("{key}"),
		metric.WithDescription("Keys that have a flight now."))
	made(in.activeKeys, err)
	in.oldest, err = m.Float64ObservableGauge("coalesce.oldest_flight.age", metric.WithUnit("s"),
		metric.WithDescription("For how long the oldest flight has been running."))
	made(in.oldest, err)
	in.waiting, err = m.Int64ObservableUpDownCounter("coalesce.waiting_calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that wait for a flight now, without the leaders."))
	made(in.waiting, err)
	histogram := func(name, description string) metric.Float64Histogram {
		h, err := m.Float64Histogram("coalesce."+name, metric.WithUnit("s"),
			metric.WithDescription(description), metric.WithExplicitBucketBoundaries(boundaries...))
		errs = append(errs, err)
		if h == nil {
			h = noop.Float64Histogram{} // for the hooks, which have no error to return
		}
		return h
	}
	in.wait = histogram("wait.duration", "How long calls that followed waited for their result.")
	in.flight = histogram("flight.duration", "How long the functions ran that calls shared.")
	in.err = errors.Join(errs...)
}

// observe returns the callback for a group.
func (in *instruments) observe(name string, g Source) metric.Callback {
	group := groupName(name)
	with := metric.WithAttributeSet(attribute.NewSet(group))
	calls := func(outcome string) metric.ObserveOption {
		return metric.WithAttributeSet(attribute.NewSet(group, attribute.String("coalesce.call.outcome", outcome)))
	}
	led, joined, lingered, rejected, ended := calls("led"), calls("joined"), calls("lingered"), calls("rejected"), calls("ended_on_entry")
	return func(_ context.Context, o metric.Observer) error {
		s := g.Stats()
		o.ObserveInt64(in.calls, int64(s.Led), led)
		o.ObserveInt64(in.calls, int64(s.Joined), joined)
		o.ObserveInt64(in.calls, int64(s.Lingered), lingered)
		o.ObserveInt64(in.calls, int64(s.Rejected), rejected)
		o.ObserveInt64(in.calls, int64(s.EndedOnEntry), ended)
		for _, c := range in.counters {
			o.ObserveInt64(c.instrument, int64(c.value(s)), with)
		}
		o.ObserveInt64(in.lingering, int64(s.Lingering), with)
		o.ObserveInt64(in.activeKeys, int64(g.Len()), with)
		if w, ok := g.(walker); ok {
			if oldest, waiting, ok := w.walk(); ok {
				o.ObserveFloat64(in.oldest, oldest.Seconds(), with)
				o.ObserveInt64(in.waiting, int64(waiting), with)
			}
		}
		return nil
	}
}
