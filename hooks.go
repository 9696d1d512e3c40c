package coalesce

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the Hooks of a group and the events that they are called with.
//
// An event is made under the shard's lock, in the critical section that it describes. Its
// hook is called after the lock has been released and the waiters that the event concerns
// have been woken, or a goroutine has been started that wakes them. The event of a Start
// is the exception: story keeps its content until the goroutine that runs fn makes it.
//
// Invariants:
//  H1. The hooks of one call are called in order: Join first, then Start or Leave; and if
//      the call leads, Leave after Start. Mostly one goroutine calls them one after the
//      other. Where another goroutine may call the second, it waits until the first has
//      returned: on caller.announced for a Join, on story.started for a Start.
//  H2. A hook that panics is recovered, logged and counted, and its goroutine goes on as
//      if the hook had returned. A hook must not call runtime.Goexit. If one does, its
//      goroutine goes on exiting. A Start that exits counts as fn's Goexit, and so does
//      Labels. A Join that exits makes its call leave, as if the call's context had ended
//      (caller.guard, multi.announce). A Leave or a Finish that exits does no more than
//      end its goroutine. No other caller is harmed, and the goroutine calls the rest of
//      its hooks while it exits (each). The methods of contexts must neither panic nor
//      exit. If one does while its call takes part, that call leaves likewise.

// Hooks are functions that a group calls when something happens to a flight.
// Any of them may be nil.
//
// Each hook is called outside all locks, on the goroutine on which the event
// happened. That goroutine goes on when the hook has returned: a slow hook
// delays its call and, if the call leads or is about to lead, all callers of
// the flight. Hooks may be called concurrently. A hook may use the group, but
// not for the event's key nor, in a [Group.DoMulti], for its other keys: such a
// call may wait for the hook itself, forever.
//
// The hooks of one call are called in order: a call's Leave waits until its own
// Join or Start has returned. Between calls no order is promised; Event.Seq
// gives the order in which things happened to a key. Calls that take part in no
// flight have no events, whether they are refused or answered by a success that
// lingers. [Stats] counts them.
//
// A hook that panics is recovered: the panic is logged to [log/slog.Default] at
// error level and counted in [Stats], and the call goes on as if the hook had
// returned. A hook must not call [runtime.Goexit]. If one does, its goroutine
// goes on exiting, and the event decides about the rest:
//   - Start, Labels: fn counts as having called Goexit, so the other callers get
//     [ErrGoexit].
//   - Join: the call leaves its flight, as if its context had ended.
//   - Leave, Finish: nothing else happens.
//
// Other callers are not affected otherwise. For the cost of hooks, see “Cost”
// in the package documentation.
type Hooks[K comparable] struct {
	// Start is called when a flight starts, before fn, on the goroutine that
	// runs fn. In [Group.Do], [Group.TryDo], and a [Group.DoContext] whose
	// context can never end, that is the caller's goroutine; otherwise it is
	// one of the flight's own. In a DoMulti, Start is called for each flight
	// that fn runs for.
	Start func(Event[K])

	// Join is called when a call has joined a flight or is queued in one, on
	// the caller's goroutine, before the call waits. DoChan calls it before it
	// returns the channel; DoMulti calls it after it has started the execution
	// of the keys that it leads. If a queued call comes to lead, Start follows.
	Join func(Event[K])

	// Leave is called when a call has left because its context has ended, after
	// its Join or Start has returned: a slow one of these delays it. DoContext and
	// DoFresh call it before they return. In DoChan, another goroutine calls it, after the Result has been
	// sent. In DoMulti, another goroutine calls it for a queued key that was
	// about to lead.
	Leave func(Event[K])

	// Finish is called when a flight has finished, on the goroutine that ran
	// fn, after that goroutine has woken the waiters or has started a goroutine
	// to do so. If a Shutdown refuses a flight that has not started, it calls
	// Finish itself. Otherwise Shutdown does not wait for hooks. A flight that
	// all its calls left before it started has no Finish; it has only the Joins
	// and Leaves of its calls.
	Finish func(Event[K])

	// Labels returns profiler labels for a goroutine of the flight's own that
	// is about to run fn for key, and for the context that fn gets. They are
	// added to those that the leader's context carries. In a DoMulti it is
	// called with the first key that fn gets. A caller's goroutine keeps its
	// labels, and Labels is not called.
	Labels func(key K) pprof.LabelSet
}

// An Event describes something that has happened to a flight.
type Event[K comparable] struct {
	Key K

	// Flight is the ID of the flight, as in the description that Flights gives of it.
	Flight uint64

	// Seq is greater than that of all earlier events of the same key. No two
	// events of a group have the same.
	Seq uint64

	// Waiters is the number of calls that wait for the flight, not counting its
	// leader. At Join and Leave, the call itself has been added or taken away;
	// at Finish, Waiters is the number of calls that were woken. A flight that
	// is queued has no leader yet, and all its calls count.
	Waiters int

	// Wait is, at Leave, how long the call took part; at Start and Finish, how
	// long the flight was queued before it started, and 0 if it was not queued.
	// If Outcome is OutcomeClosed, it is how long the flight was queued until
	// Shutdown refused it. At Join it is 0.
	Wait time.Duration

	// Run is, at Finish, how long fn ran, including the Start hook.
	Run time.Duration

	// Outcome and Err describe, at Finish, how fn ended. Err is the error that
	// callers get.
	Outcome Outcome
	Err     error

	at int64 // sched.Now when it happened
}

// An Outcome says how a flight ended.
type Outcome uint8

// The outcomes.
const (
	OutcomeReturned Outcome = iota // fn returned, with an error or without
	OutcomePanicked                // fn panicked; Err is the *PanicError
	OutcomeGoexit                  // fn called runtime.Goexit; Err is ErrGoexit
	OutcomeClosed                  // Shutdown came before fn was called; Err is ErrClosed
)

// String returns the outcome's name in lower case.
func (o Outcome) String() string { return nameOf(o, "returned", "panicked", "goexit", "closed") }

// hooks are the Hooks of a group that has any, and the counter of those that panicked.
type hooks[K comparable] struct {
	Hooks[K]
	panics counter // for Stats.HookPanics
}

// newHooks returns the hooks of a group, nil if all fields of h are nil.
func newHooks[K comparable](h Hooks[K]) *hooks[K] {
	if h.Start == nil && h.Join == nil && h.Leave == nil && h.Finish == nil && h.Labels == nil {
		return nil
	}
	return &hooks[K]{Hooks: h}
}

// A story is the data that a flight keeps for the hooks. It is written under the shard's
// lock, except that the goroutine that runs fn completes started.
type story struct {
	born    int64            // sched.Now when the flight was registered or queued
	start   uint64           // Event.Seq of the Start
	wait    time.Duration    // Event.Wait of the Start
	waiters int              // Event.Waiters of the Start
	started sched.Completion // complete when Start has returned or exited; nil if no Leave waits for it
}

// enroll gives f, which is new, an ID and a story, with the Seq of its Start if f starts
// at once; if it is queued, enrollStart sets another. There must be hooks, and s.mu must
// be held.
func (s *shard[K, V]) enroll(f *flight[K, V]) {
	f.born = sched.Now()
	s.idOf(f) // moves s.events on
	n := &story{born: f.born, start: s.events}
	if h := s.group.hooks; h.Start != nil && h.Leave != nil {
		n.started = sched.NewCompletion()
	}
	f.extend().story = n
}

// enrollStart prepares the event for the start of f, which was queued. There must be
// hooks, and s.mu must be held.
func (s *shard[K, V]) enrollStart(f *flight[K, V]) {
	s.events += uint64(len(s.group.shards))
	h := f.cold.story
	h.start, h.wait, h.waiters = s.events, time.Duration(f.born-h.born), f.followers()
}

// newEvent returns an event for f that happens now, or nil without hooks. s.mu must be
// held.
func (s *shard[K, V]) newEvent(f *flight[K, V]) *Event[K] {
	if s.group.hooks == nil {
		return nil
	}
	s.events += uint64(len(s.group.shards))
	return &Event[K]{
		Key: f.key, Flight: f.cold.id, Seq: s.events, Waiters: f.followers(), at: sched.Now(),
	}
}

// leaveEvent returns the event for a call that leaves f, or nil without hooks. The call has
// taken part since the event of its joining or, if that is nil, since f started. s.mu
// must be held.
func (s *shard[K, V]) leaveEvent(f *flight[K, V], joined *Event[K]) *Event[K] {
	e := s.newEvent(f)
	if e != nil {
		since := f.born
		if joined != nil {
			since = joined.at
		}
		e.Wait = time.Duration(e.at - since)
	}
	return e
}

// finishEvent returns the event for the end of f. The outcome of f must have been set,
// there must be hooks, and s.mu must be held.
func (s *shard[K, V]) finishEvent(f *flight[K, V]) *Event[K] {
	e := s.newEvent(f)
	e.Wait, e.Err = f.cold.story.wait, f.err
	switch f.outcome {
	case panicked:
		e.Outcome = OutcomePanicked
	case exited:
		e.Outcome = OutcomeGoexit
	case rejected:
		e.Outcome = OutcomeClosed
		// f never started, so f.born is when it was queued.
		e.Wait = time.Duration(e.at - f.born)
		return e
	}
	e.Run = time.Duration(e.at - f.born)
	return e
}

// call calls one of the hooks with an event, unless the hook is nil. It returns also if the
// hook panics, but not if the hook exits the goroutine. No lock may be held.
func (h *hooks[K]) call(hook func(Event[K]), e *Event[K]) {
	if hook == nil {
		return
	}
	defer h.recovered()
	hook(*e)
}

// each calls the function with all numbers from i up to but not including n. If a call
// exits the goroutine, the remaining calls are made while the goroutine exits.
func each(i, n int, do func(i int)) {
	defer func() {
		if i < n {
			each(i+1, n, do)
		}
	}()
	for ; i < n; i++ {
		do(i)
	}
}

// recovered is deferred around each hook. It recovers, counts and logs a panic.
func (h *hooks[K]) recovered() {
	r := recover()
	if r == nil {
		return
	}
	h.panics.add(1)
	stack := debug.Stack()
	defer func() { _ = recover() }() // of the user's log handler
	slog.Default().Error("coalesce: a hook panicked", "panic", r, "stack", string(stack))
}

// callStart calls the Start hook for f, on the goroutine that runs fn, and then lets the
// leader call its Leave hook (see caller.awaitAnnounced). The completion is deferred: a
// leader must not hang because the hook has exited. There must be hooks, and no lock may
// be held.
func (s *shard[K, V]) callStart(f *flight[K, V]) {
	h, n := s.group.hooks, f.cold.story
	if n.started != nil {
		defer sched.Complete(n.started)
	}
	h.call(h.Start, &Event[K]{Key: f.key, Flight: f.cold.id, Seq: n.start, Waiters: n.waiters, Wait: n.wait})
}

// report calls the Finish hook for a flight, and logs a panic that no caller received. It
// comes last in the ending of a flight, because the hook and the log handler may exit the
// goroutine.
func (e ending[K, V]) report(h *hooks[K]) {
	if e.untold {
		defer logUntold(e.flight.key, e.flight.err.(*PanicError))
	}
	if e.event != nil {
		h.call(h.Finish, e.event)
	}
}

// label adds the labels from the Labels hook to the context c, and gives them to the
// calling goroutine, which is about to run fn for key. fn does not have c yet, so its
// values may still change. No lock may be held.
func (h *hooks[K]) label(c *flightContext, key K) {
	if h.Labels == nil {
		return
	}
	defer h.recovered()
	c.values = pprof.WithLabels(c.values, h.Labels(key))
	pprof.SetGoroutineLabels(context.Context(c))
}
