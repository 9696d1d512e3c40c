package debugflight

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the registry and its sources.

// A Registry is an [http.Handler] that serves a page about the groups that were added to
// it. The zero Registry is ready to use. Its fields must not be changed once it serves; its
// methods may be called by many goroutines at once, and registries have nothing in common.
// It must not be copied.
type Registry struct {
	// AllowForget lets the page forget flights. Without it, the page has no buttons for
	// that, and a POST is answered 404.
	AllowForget bool

	// MaxRows bounds the flights that a page shows, and those in JSON; 0, or less, means
	// 1000. These are the first in the order that was asked for, and the page says how many
	// more there are.
	MaxRows int

	protection http.CrossOriginProtection

	mu      sync.Mutex
	sources []registered // guarded by mu, sorted by name; replaced, never changed in place
}

type registered struct {
	name   string
	source Source
}

var _ http.Handler = (*Registry)(nil)

// A Source has the flights that a Registry shows under one name: those of a group, by [Of],
// or of something else that calls wait for. Its methods must be safe for use by many goroutines
// at once. They are called for each request, on its goroutine and without a lock of the
// Registry; a panic ends that request alone, as in any handler.
type Source interface {
	// Flights yields the flights, in any order. A caller may stop early.
	Flights() iter.Seq[Flight]

	// Counters returns the numbers that the page shows for the source, in this order, the
	// same names each time.
	Counters() []Counter

	// ForgetFlight lets the next call for the key of the flight with an ID start another,
	// and reports whether it has: false means that the flight was over, or forgotten before.
	// It is called only with AllowForget.
	ForgetFlight(id uint64) bool
}

// A Flight is one row of the page.
type Flight struct {
	ID      uint64        // from 1; identifies the flight among those of its source
	Age     time.Duration // how long fn has been running, or the flight queued
	AtLeast bool          // Age is only a lower bound
	Waiters int           // calls that wait for the flight, without its leader

	State     string // running, abandoned or queued
	Forgotten bool   // the next call for the key does not join it

	// Key returns the text of the key. It is called, by a goroutine of its own for which
	// the request waits, only for flights that are shown, or if keys are searched. If it
	// panics or exits its goroutine, the page says so in place of the key.
	Key func() string

	Detail string // more about the flight, in a few words; may be empty; cut at 200 characters
}

// A Counter is a number with a name, without spaces.
type Counter struct {
	Name  string
	Value uint64
	Gauge bool // Value goes up and down, so it has no rate
}

// Of returns a Source that shows g, or nil if g is nil. Its counters are the fields of
// [coalesce.Stats].
//
// format returns the text of a key, of which the page shows 200 characters, and 16 KiB if the
// flight is looked at alone. Where keys hold secrets, format is what keeps them from the page.
// It may be called by many goroutines at once. If it panics or exits its goroutine, the page
// says so in place of the key; if it blocks, so does the request. If format is nil, the text is
// that of [fmt.Sprint], except that a pointer is an address unless its type has a method for
// its text, such as String: the program may be changing what it points to.
//
// The Source keeps g alive, so remove it from the registry before g is dropped. A request
// takes time in proportion to the flights of g, as [coalesce.Group.Flights] does, and memory
// for those of one shard and for the rows that it shows. Calls wait no longer for that than it
// takes to describe the flights of one shard. What a look at a flight costs its group is said
// in package coalesce.
func Of[K comparable, V any](g *coalesce.Group[K, V], format func(K) string) Source {
	if g == nil {
		return nil
	}
	if format == nil {
		format = func(key K) string { return textOf(key) }
	}
	return &group[K, V]{g, format}
}

type group[K comparable, V any] struct {
	*coalesce.Group[K, V]
	format func(K) string
}

func (g *group[K, V]) Flights() iter.Seq[Flight] {
	return func(yield func(Flight) bool) {
		for f := range g.Group.Flights() {
			if !yield(Flight{
				ID: f.ID, Age: f.Age, AtLeast: f.AtLeast, Waiters: f.Waiters,
				State: f.State.String(), Forgotten: f.Forgotten,
				Key: func() string { return g.format(f.Key) },
			}) {
				return
			}
		}
	}
}

func (g *group[K, V]) Counters() []Counter {
	stats := reflect.ValueOf(g.Stats())
	counters := make([]Counter, stats.NumField())
	for i := range counters {
		name := stats.Type().Field(i).Name
		counters[i] = Counter{Name: name, Value: stats.Field(i).Uint(), Gauge: name == "Lingering"}
	}
	return counters
}

// Add shows s under a name, which may be any text but the empty one. remove ends that; to call
// it again has no effect, even if the name was added again. It does not wait for requests that
// have begun: they may still look at s. Add returns an error, and a nil remove, if name is
// empty or taken, or if s is nil.
func (r *Registry) Add(name string, s Source) (remove func(), err error) {
	switch {
	case name == "":
		return nil, errors.New("debugflight: empty name")
	case s == nil:
		return nil, fmt.Errorf("debugflight: %q: nil source or group", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i, taken := slices.BinarySearchFunc(r.sources, name, registered.compare)
	if taken {
		return nil, fmt.Errorf("debugflight: the name %q is taken", name)
	}
	r.sources = slices.Insert(slices.Clone(r.sources), i, registered{name, s})
	return sync.OnceFunc(func() { r.remove(name) }), nil
}

func (r *Registry) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = slices.DeleteFunc(slices.Clone(r.sources), func(s registered) bool { return s.name == name })
}

func (s registered) compare(name string) int { return cmp.Compare(s.name, name) }

// all returns the sources, by name.
func (r *Registry) all() []registered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources
}

// find returns the source of a name, as it is shown or as it was added, or an error that lists
// some that there are.
func (r *Registry) find(name string) (registered, error) {
	all := r.all()
	i := slices.IndexFunc(all, func(s registered) bool { return printable(s.name) == name })
	if i < 0 {
		i = slices.IndexFunc(all, func(s registered) bool { return s.name == name })
	}
	if i >= 0 {
		return all[i], nil
	}
	const most = 20
	var names []string
	for _, s := range all[:min(len(all), most)] {
		names = append(names, fmt.Sprintf("%q", s.name))
	}
	if len(all) > most {
		names = append(names, fmt.Sprintf("and %d more", len(all)-most))
	}
	if names == nil {
		names = []string{"none"}
	}
	return registered{}, fmt.Errorf("group is %s (registered are: %s)", quote(name), strings.Join(names, ", "))
}
