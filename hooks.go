package coalesce

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds what a group tells of its flights as they come and go.
//
// An event is made under the shard's lock, in the critical section that it is
// about, and told when the lock is released and everybody who waits for what
// has happened has been woken, or a goroutine been started to do it.
//
// Invariants:
//  H1. What a call has to do with its flight is told in order: of joining before
//      of leading or leaving. Where two goroutines tell, as for a receiver, the
//      second waits for the first (entry.announced).
//  H2. A hook that panics is logged and counted, and one that exits its
//      goroutine ends that goroutine's call, as if its context had ended. The
//      flight goes on, or ends by that, for everybody else, and what else that
//      goroutine has to tell is told.

// Hooks are functions that a group calls when something happens to a flight. Any
// of them may be nil.
//
// They are called outside all locks, on the goroutine that it happens on, which
// goes on when they return: a slow hook delays that call and, if the call leads
// or is to lead, all who wait for the same flight. They may use the group, but
// not for the event's key, nor for the others of a [Group.DoMulti], which they would wait
// for in vain, and are called concurrently. One that panics is
// logged to [log/slog.Default] at error level and counted in [Stats]; it does no
// other harm.
//
// The events of one call are told in order. Between calls no order is promised:
// Event.Seq tells in which order things happened to a key. Calls that take part
// in no flight are not told of, neither those that are refused nor those that
// are answered by what lingers; [Stats] counts them.
//
// With any of them set, a flight has a record with room for its number, reads
// the clock when it starts and when it ends, and allocates each event.
type Hooks[K comparable] struct {
	// Start is called when a call is about to lead a flight, before fn is.
	Start func(Event[K])

	// Join is called when a call has joined a flight, or is queued in one, before
	// it waits.
	Join func(Event[K])

	// Leave is called when a call has left, because its context has ended.
	Leave func(Event[K])

	// Finish is called when a flight has finished, by the goroutine that ran fn,
	// which does not wake the waiters later than that; or when Shutdown has
	// refused a flight that had not started. A flight that all its calls left
	// before it started is told of by Join and Leave only. Shutdown does not wait
	// for hooks.
	Finish func(Event[K])

	// Labels returns profiler labels for the goroutine that runs fn for key, if
	// that is one of the flight's own, and for the context that fn gets, beside
	// those that the leader's context carries. A DoMulti asks for its first key.
	// On a caller's goroutine labels are left alone.
	Labels func(key K) pprof.LabelSet
}

// An Event tells what has happened to a flight.
type Event[K comparable] struct {
	Key K

	// Flight is the number of the flight, which no other of the group has.
	Flight uint64

	// Seq is greater than that of all events that happened to the same key
	// before. No two events of a group have the same.
	Seq uint64

	// Waiters is the number of calls that wait for the flight, its leader not
	// counted: after they joined or left; at Finish, those who were woken.
	Waiters int

	// Wait is, at Leave, how long the call had taken part; at Start and Finish,
	// how long the flight had been queued before it started.
	Wait time.Duration

	// Run is, at Finish, how long fn ran, the hook for Start included.
	Run time.Duration

	// Outcome and Err tell, at Finish, how fn ended. Err is what callers get.
	Outcome Outcome
	Err     error

	at int64 // sched.Now when it happened
}

// An Outcome says how a flight ended.
type Outcome uint8

// The outcomes.
const (
	OutcomeReturned Outcome = iota // fn returned, be it an error
	OutcomePanicked                // fn panicked; Err is the *PanicError
	OutcomeGoexit                  // fn called runtime.Goexit; Err is ErrGoexit
	OutcomeClosed                  // fn was not called: Shutdown; Err is ErrClosed
)

// String returns the outcome's name in lower case.
func (o Outcome) String() string { return nameOf(o, "returned", "panicked", "goexit", "closed") }

// hooks are a group's Hooks at work.
type hooks[K comparable] struct {
	Hooks[K]
	panics *xsync.Counter // Stats.HookPanics
}

// newHooks returns nil if h is empty.
func newHooks[K comparable](h Hooks[K]) *hooks[K] {
	if h.Start == nil && h.Join == nil && h.Leave == nil && h.Finish == nil && h.Labels == nil {
		return nil
	}
	return &hooks[K]{h, xsync.NewCounter()}
}

// A story is what Hooks keep of a flight. It is written under the shard's lock.
type story struct {
	number  uint64           // Event.Flight
	born    int64            // sched.Now when the flight was registered or queued
	start   uint64           // Seq of the Start
	wait    time.Duration    // until the Start
	waiters int              // at the Start
	started sched.Completion // complete when the hook for the Start has returned
}

// enroll numbers f, which is new. There must be hooks, and s.mu be held.
func (s *shard[K, V]) enroll(f *flight[K, V]) {
	s.events += uint64(len(s.group.shards)) // each shard has a residue of its own
	if f.born == 0 {
		f.born = sched.Now()
	}
	f.extend().story = &story{number: s.events, born: f.born, start: s.events, started: sched.NewCompletion()}
}

// enrollStart notes that f, which was queued, starts. There must be hooks, and s.mu be
// held.
func (s *shard[K, V]) enrollStart(f *flight[K, V]) {
	s.events += uint64(len(s.group.shards))
	h := f.cold.story
	h.start, h.wait, h.waiters = s.events, time.Duration(f.born-h.born), f.followers()
}

// event returns an event of now for f, nil without hooks. s.mu must be held.
func (s *shard[K, V]) event(f *flight[K, V]) *Event[K] {
	if s.group.hooks == nil {
		return nil
	}
	s.events += uint64(len(s.group.shards))
	return &Event[K]{
		Key: f.key, Flight: f.cold.story.number, Seq: s.events, Waiters: f.followers(), at: sched.Now(),
	}
}

// leaving returns the event of a call's leaving f that took part since the
// given event or, if that is nil, since f started. s.mu must be held.
func (s *shard[K, V]) leaving(f *flight[K, V], joined *Event[K]) *Event[K] {
	e := s.event(f)
	if e != nil {
		since := f.born
		if joined != nil {
			since = joined.at
		}
		e.Wait = time.Duration(e.at - since)
	}
	return e
}

// finishing returns the event of the end of f. There must be hooks, and s.mu be held.
func (s *shard[K, V]) finishing(f *flight[K, V]) *Event[K] {
	e := s.event(f)
	e.Wait, e.Err = f.cold.story.wait, f.err
	switch f.outcome {
	case panicked:
		e.Outcome = OutcomePanicked
	case exited:
		e.Outcome = OutcomeGoexit
	case rejected:
		e.Outcome = OutcomeClosed
		e.Wait = time.Duration(e.at - f.born)
		return e
	}
	e.Run = time.Duration(e.at - f.born)
	return e
}

// tell calls one of the hooks with an event, unless either is nil. No lock may
// be held.
func (h *hooks[K]) tell(hook func(Event[K]), e *Event[K]) {
	if hook == nil || e == nil {
		return
	}
	defer h.recovered()
	hook(*e)
}

// each calls tell for i and all numbers up to n. If a hook exits the goroutine,
// the rest is told on its way out.
func each(i, n int, tell func(i int)) {
	defer func() {
		if i < n {
			each(i+1, n, tell)
		}
	}()
	for ; i < n; i++ {
		tell(i)
	}
}

// recovered is deferred around each hook.
func (h *hooks[K]) recovered() {
	r := recover()
	if r == nil {
		return
	}
	h.panics.Inc()
	stack := debug.Stack()
	defer func() { _ = recover() }() // the user's log handler
	slog.Default().Error("coalesce: a hook panicked", "panic", r, "stack", string(stack))
}

// tellStart calls the hook for the start of f, on the goroutine that runs fn. There
// must be hooks, and no lock be held.
func (s *shard[K, V]) tellStart(f *flight[K, V]) {
	h, n := s.group.hooks, f.cold.story
	defer sched.Complete(n.started)
	h.tell(h.Start, &Event[K]{Key: f.key, Flight: n.number, Seq: n.start, Waiters: n.waiters, Wait: n.wait})
}

// tell calls the hook for a flight's end, and logs the panic that no caller received.
// It comes last, as both may exit the goroutine.
func (e ending[K, V]) tell(h *hooks[K]) {
	if e.untold {
		defer logUntold(e.flight.key, e.flight.err.(*PanicError))
	}
	if e.event != nil {
		h.tell(h.Finish, e.event)
	}
}

// label gives the calling goroutine, which is about to run fn for key with the
// context c, the labels that the hooks want. No lock may be held.
func (h *hooks[K]) label(c *flightContext, key K) {
	if h == nil || h.Labels == nil {
		return
	}
	defer h.recovered()
	c.values = pprof.WithLabels(c.values, h.Labels(key))
	pprof.SetGoroutineLabels(context.Context(c))
}
