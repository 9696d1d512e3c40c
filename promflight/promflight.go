// Package promflight exports metrics of coalesce groups to Prometheus.
//
//	var thumbnails coalesce.Group[string, []byte]
//
//	c, err := promflight.New("thumbnails", &thumbnails)
//	if err != nil {
//		return err
//	}
//	thumbnails.Hooks = promflight.Hooks(c, thumbnails.Hooks) // for the histograms
//	if err := prometheus.Register(c); err != nil {
//		return err
//	}
//
// The order matters: a group reads its hooks at first use, and the first scrape
// is a use. So Hooks comes before the first call and before Register. Without
// the line of the hooks there are no histograms, and the calls of the group cost
// what they cost without this package.
//
// # Metrics
//
// All metrics have the label group, the name that New was given. None has the
// key of a call: the number of series does not depend on the keys.
//
//	coalesce_calls_total{outcome}          calls, each with one outcome: led,
//	                                       joined, lingered, rejected or
//	                                       ended_on_entry
//	coalesce_left_calls_total              calls that led or joined and left
//	                                       because their context ended
//	coalesce_abandoned_flights_total       flights that all callers left
//	coalesce_taken_over_flights_total      flights taken over from at MaxAge
//	coalesce_forgotten_keys_total          keys that a Forget of any form dropped
//	coalesce_panics_total                  flights whose fn panicked
//	coalesce_goexits_total                 flights whose fn called Goexit
//	coalesce_panics_logged_total           panics that no blocking call got
//	coalesce_hook_panics_total             panics of hooks
//	coalesce_evicted_outcomes_total        outcomes dropped because of LingerMax
//	coalesce_lingering_outcomes            outcomes that linger now
//	coalesce_keys_in_flight                keys that have a flight now
//	coalesce_oldest_flight_age_seconds     see WithFlights
//	coalesce_waiting_calls                 see WithFlights
//	coalesce_wait_seconds                  histogram: how long calls that
//	                                       followed waited for their result
//	coalesce_flight_seconds                histogram: how long fn ran
//
// [coalesce.Stats] says exactly what is counted. The two histograms have buckets
// from 5 ms to 10 s, and native buckets where the server asks for them. Nothing
// starts again from 0 as long as the Collector lives.
//
// # Cost
//
// A scrape calls Stats and Len, each of which locks each shard of the group
// once, and makes at most 20 metrics for a group. Between scrapes, only the
// hooks cost anything; see [Hooks].
package promflight

import (
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed342dcb2d/coalesce"
)

// A Source is what metrics are made of: a *[coalesce.Group] of any type, or
// another type with these methods. They must be safe for concurrent use.
type Source interface {
	Stats() coalesce.Stats
	Len() int
}

// A Collector is a [prometheus.Collector] for one group. [New] makes one; the
// zero Collector is of no use. It may be registered with several registries.
// Each of them has names of its own, and refuses a second Collector of the same
// name with an error. A Collector that is refused reports nothing, and its hooks
// do no harm. [prometheus.Registerer] Unregister takes a group out, and leaves
// nothing behind: the Collector, its hooks and its registries are all that
// refers to it. After that, the same Collector, which goes on with its
// histograms, or another of the name may be registered.
//
// Its methods may be called concurrently.
type Collector struct {
	source   Source
	counters []counter

	calls, keys, oldest, waiting *prometheus.Desc

	// The histograms are exported only if hooks fill them.
	wait, flight prometheus.Histogram
	hooked       atomic.Bool
}

// A counter is a number out of Stats.
type counter struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(coalesce.Stats) uint64
}

// New returns a Collector for the group g, which exports its metrics with the
// label group="name". It does not use the group yet; each scrape does, on a
// goroutine of the registry's. New returns an error if the name is empty or no
// valid UTF-8, and if g is nil. That a name is taken is an error of the registry,
// when the Collector is registered. The types of the keys and values of g do not
// matter.
func New(name string, g Source) (*Collector, error) {
	switch {
	case name == "":
		return nil, errors.New("promflight: empty name of a group")
	case !utf8.ValidString(name):
		return nil, fmt.Errorf("promflight: the name %q of a group is not valid UTF-8", name)
	case isNil(g):
		return nil, fmt.Errorf("promflight: group %q is nil", name)
	}
	labels := prometheus.Labels{"group": name}
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("coalesce_"+name, help, variable, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "coalesce_" + name, Help: help, ConstLabels: labels,
			Buckets: prometheus.DefBuckets, // 5 ms to 10 s
			// Past 160 native buckets, every two are merged. Rejected: to empty the histogram
			// after an hour. That starts all its counts anew, and until then its timer keeps
			// a histogram that has been unregistered.
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		})
	}
	c := &Collector{
		source:  g,
		calls:   desc("calls_total", "Calls, by what became of them.", "outcome"),
		keys:    desc("keys_in_flight", "Keys that have a flight now."),
		oldest:  desc("oldest_flight_age_seconds", "For how long the oldest flight has been running."),
		waiting: desc("waiting_calls", "Calls that wait for a flight now, without the leaders."),
		wait:    histogram("wait_seconds", "How long calls that followed waited for their result."),
		flight:  histogram("flight_seconds", "How long the functions ran that calls shared."),
	}
	add := func(typ prometheus.ValueType, name, help string, value func(coalesce.Stats) uint64) {
		c.counters = append(c.counters, counter{desc(name, help), typ, value})
	}
	const counts = prometheus.CounterValue
	add(counts, "left_calls_total", "Calls that left because their context ended.",
		func(s coalesce.Stats) uint64 { return s.Left })
	add(counts, "abandoned_flights_total", "Flights that all callers left.",
		func(s coalesce.Stats) uint64 { return s.Abandoned })
	add(counts, "taken_over_flights_total", "Flights that were taken over from because of MaxAge.",
		func(s coalesce.Stats) uint64 { return s.TakenOver })
	add(counts, "forgotten_keys_total", "Keys for which a Forget had anything to forget.",
		func(s coalesce.Stats) uint64 { return s.Forgotten })
	add(counts, "panics_total", "Flights whose function panicked.",
		func(s coalesce.Stats) uint64 { return s.Panics })
	add(counts, "goexits_total", "Flights whose function called runtime.Goexit.",
		func(s coalesce.Stats) uint64 { return s.Goexits })
	add(counts, "panics_logged_total", "Panics that were logged because no blocking call got them.",
		func(s coalesce.Stats) uint64 { return s.PanicsLogged })
	add(counts, "hook_panics_total", "Panics of hooks.",
		func(s coalesce.Stats) uint64 { return s.HookPanics })
	add(counts, "evicted_outcomes_total", "Outcomes that were dropped because of LingerMax.",
		func(s coalesce.Stats) uint64 { return s.Evicted })
	add(prometheus.GaugeValue, "lingering_outcomes", "Outcomes that linger now.",
		func(s coalesce.Stats) uint64 { return s.Lingering })
	return c, nil
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, n := range c.counters {
		to <- n.desc
	}
	for _, d := range []*prometheus.Desc{c.calls, c.keys, c.oldest, c.waiting, c.wait.Desc(), c.flight.Desc()} {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. It waits for no call of the group.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	s := c.source.Stats()
	for _, o := range []struct {
		outcome string
		calls   uint64
	}{
		{"led", s.Led},
		{"joined", s.Joined},
		{"lingered", s.Lingered},
		{"rejected", s.Rejected},
		{"ended_on_entry", s.EndedOnEntry},
	} {
		send(c.calls, prometheus.CounterValue, float64(o.calls), o.outcome)
	}
	for _, n := range c.counters {
		send(n.desc, n.typ, float64(n.value(s)))
	}
	send(c.keys, prometheus.GaugeValue, float64(c.source.Len()))
	if w, ok := c.source.(walker); ok {
		if oldest, waiting, ok := w.walk(); ok {
			send(c.oldest, prometheus.GaugeValue, oldest.Seconds())
			send(c.waiting, prometheus.GaugeValue, float64(waiting))
		}
	}
	if c.hooked.Load() {
		to <- c.wait
		to <- c.flight
	}
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
