// Package otelflight reports coalesce groups to OpenTelemetry: their counters
// and times as metrics, and each flight as a span.
//
//	var (
//		telemetry  otelflight.Registry
//		thumbnails coalesce.Group[string, []byte]
//	)
//
//	thumbnails.Hooks = otelflight.Hooks(&telemetry, "thumbnails", thumbnails.Hooks)
//	registration, err := telemetry.Add("thumbnails", &thumbnails)
//	if err != nil {
//		return err
//	}
//	defer registration.Close()
//
// The order matters: a group reads its hooks at first use, and the first
// collection after Add is a use. Either part works without the other: Add makes
// the metrics that are read from the group, and Hooks the spans and the
// histograms.
//
// # Metrics
//
// All metrics have the attribute coalesce.group.name. None has the key of a
// call: the number of attribute sets does not depend on the keys.
//
//	coalesce.calls               {call}     counter, with the attribute
//	                                        coalesce.call.outcome: led, joined,
//	                                        lingered, rejected, ended_on_entry
//	coalesce.left_calls          {call}     counter: calls that led or joined and
//	                                        left because their context ended
//	coalesce.abandoned_flights   {flight}   counter: flights that all callers left
//	coalesce.taken_over_flights  {flight}   counter: flights taken over from at MaxAge
//	coalesce.forgotten_keys      {key}      counter: keys that a Forget dropped
//	coalesce.panics              {panic}    counter: flights whose fn panicked
//	coalesce.goexits             {goexit}   counter: flights whose fn called Goexit
//	coalesce.panics_logged       {panic}    counter: panics no blocking call got
//	coalesce.hook_panics         {panic}    counter: panics of hooks
//	coalesce.evicted_outcomes    {outcome}  counter: outcomes dropped by LingerMax
//	coalesce.lingering_outcomes  {outcome}  gauge: outcomes that linger now
//	coalesce.active_keys         {key}      up-down counter: keys with a flight now
//	coalesce.oldest_flight.age   s          gauge: see WithFlights
//	coalesce.waiting_calls       {call}     up-down counter: see WithFlights
//	coalesce.wait.duration       s          histogram: how long calls that
//	                                        followed waited for their result
//	coalesce.flight.duration     s          histogram: how long fn ran
//
// [coalesce.Stats] says exactly what is counted. All but the histograms are
// read when metrics are collected; the histograms have boundaries from 5 ms to
// 10 s, unless a view gives them others.
//
// # Spans
//
// A flight has a span, from when its fn starts until it has finished. Its parent
// is the span of the caller that leads, and it is the parent of what fn does. See
// [Hooks] for what else traces show.
//
// # Cost
//
// A collection calls Stats and Len of each group, each of which locks each shard
// once. Between collections, only the hooks cost anything; see [Hooks].
package otelflight

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed342dcb2d/coalesce"
)

// scope is the name of the meter and of the tracer.
const scope = "github.com/seed342dcb2d/coalesce/otelflight"

// groupName returns the one attribute that everything has.
func groupName(name string) attribute.KeyValue {
	return attribute.String("coalesce.group.name", name)
}

// A Source is what metrics are made of: a *[coalesce.Group] of any type, or
// another type with these methods. They must be safe for concurrent use.
type Source interface {
	Stats() coalesce.Stats
	Len() int
}

// A Registry reports groups, each under a name of its own. Registries do not
// know of each other: of two groups with one name in two of them, a
// MeterProvider that both have cannot tell the metrics apart. The zero Registry
// is ready to use and reports to the global providers. It must not be copied
// after first use. Its methods may be called concurrently.
type Registry struct {
	// MeterProvider and TracerProvider are those that groups are reported to.
	// Nil stands for [otel.GetMeterProvider] and [otel.GetTracerProvider]. They
	// must not change after first use. A provider of package noop turns its part
	// off; without a tracer, hooks cost less.
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider

	made        sync.Once
	instruments instruments

	mu    sync.Mutex
	names map[string]bool // of the groups that have been added
}

// Add begins to report the metrics of the group g under a name, until the
// Registration is closed; g is not collected as garbage before. It returns an
// error if the name is empty, no valid UTF-8 or taken, if g is nil, and if the
// meter returns one. The types of the keys and values of g do not matter.
//
// Add does not use g. Each collection does, on the goroutine that collects. With
// the SDK, Add and Close wait for a collection that is under way, so the methods
// of a Source must not call them.
func (r *Registry) Add(name string, g Source) (*Registration, error) {
	switch {
	case name == "":
		return nil, errors.New("otelflight: empty name of a group")
	case !utf8.ValidString(name):
		return nil, fmt.Errorf("otelflight: the name %q of a group is not valid UTF-8", name)
	case isNil(g):
		return nil, fmt.Errorf("otelflight: group %q is nil", name)
	case !r.take(name):
		return nil, fmt.Errorf("otelflight: there is a group %q already", name)
	}
	added := false
	defer func() {
		if !added { // because of an error, or a panic of the meter
			r.drop(name)
		}
	}()
	in := r.use()
	err := in.err
	if err == nil {
		var callback metric.Registration
		callback, err = in.meter.RegisterCallback(in.observe(name, g), in.observed...)
		if err == nil {
			added = true
			return &Registration{registry: r, name: name, callback: callback}, nil
		}
	}
	return nil, fmt.Errorf("otelflight: group %q: %w", name, err)
}

// take makes a name taken. It reports whether it was free.
func (r *Registry) take(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] {
		return false
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[name] = true
	return true
}

// drop makes a name free.
func (r *Registry) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, name)
}

// use returns the instruments of r, which it makes at first use: there is one of each,
// for all groups.
func (r *Registry) use() *instruments {
	r.made.Do(func() {
		r.instruments.err = errors.New("the MeterProvider has panicked") // if it does
		meters := r.MeterProvider
		if meters == nil {
			meters = otel.GetMeterProvider()
		}
		r.instruments.make(meters.Meter(scope))
	})
	return &r.instruments
}

// A Registration is a group that has been added to a [Registry].
type Registration struct {
	registry *Registry
	name     string
	callback metric.Registration
	closed   sync.Once
	err      error
}

// Close takes the group out: collections that begin later do not report its
// counters, and its name is free again. One that is under way may report it for
// a last time. The group itself, its calls, and what its [Hooks] report, go on.
// Histograms are not taken out, as OpenTelemetry has no means for that: a group
// that had Hooks leaves those of its name, and a group of the same name goes on
// with them. Close returns the error of the meter, if any. A second Close does
// nothing and returns the same.
func (r *Registration) Close() error {
	r.closed.Do(func() {
		r.err = r.callback.Unregister()
		r.callback = nil // which refers to the group
		r.registry.drop(r.name)
	})
	return r.err
}

// isNil reports whether there is no group behind g.
func isNil(g Source) bool {
	if w, ok := g.(walker); ok {
		return w.isNil()
	}
	return isNilValue(g)
}

// isNilValue reports whether g is nil, or a nil pointer, which an interface hides.
func isNilValue(g any) bool {
	v := reflect.ValueOf(g)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
