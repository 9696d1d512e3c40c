package coalesce

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the Hooks of a group and the events that they are called with.
//
// An event is made under the shard's lock, in the critical section that it describes. Its
// hook is called after the lock has been released and the waiters that the event concerns
// have been woken, or a goroutine has been started that wakes them. There are two
// exceptions. The event of a Start is made by the goroutine that runs fn, from what story
// has kept. The event of a Receive is no step in a shard: the call that has its result
// makes it, without a lock, from the finished flight.
//
// Invariants:
//  H1. The hooks of one call are called in order: Join first, then exactly one of Start,
//      Receive and Leave; and if the call leads, Leave after Start. Mostly one goroutine
//      calls them one after the other. Where another goroutine may call the second, it
//      waits until the first has returned: on caller.announced for a Join, on
//      story.started for a Start.
//  H2. A hook that panics is recovered, logged and counted, and its goroutine goes on as
//      if the hook had returned. A hook must not call runtime.Goexit. If one does, its
//      goroutine goes on exiting. A Start that exits counts as fn's Goexit. A Join that
//      exits makes its call leave, as if the call's context had ended (caller.guard,
//      multi.announce); if the flight has finished meanwhile, the call has its result,
//      and Receive is called. A Receive, a Leave or a Finish that exits does no more than
//      end its goroutine. No other caller is harmed, and the goroutine calls the rest of
//      its hooks while it exits (each). The methods of contexts must neither panic nor
//      exit. If one does while its call takes part, that call leaves likewise.
//  H3. A hook gets the context of its call. Start and Finish are the flight's: they get
//      that of the call that leads, and Finish what Start has returned in place of it. The
//      story, or fn's context, keeps that one (R2), and no longer than the flight's record
//      or fn's context lives.

// Hooks are functions that a group calls when something happens to a flight or
// to a call. Any of them may be nil.
//
// Each hook is called outside all locks, on the goroutine on which the event
// happened. That goroutine goes on when the hook has returned: a slow hook
// delays its call and, if the call leads or is about to lead, all callers of
// the flight. Hooks may be called concurrently. A hook may use the group, but
// not for the event's key nor, in a [Group.DoMulti], for its other keys: such a
// call may wait for the hook itself, forever.
//
// Join, Receive and Leave are about one call, and get the context of that call.
// Start and Finish are about the flight, and get the context of the call that
// leads it. That is the context itself, which may have ended. [Group.Do] and
// [Group.TryDo] have none: in its place hooks get [context.Background].
//
// The hooks of one call are called in order. Each Join is followed by exactly
// one of Receive, Leave and, if the call comes to lead, Start; a call's Leave
// waits until its own Join or Start has returned. Between calls no order is
// promised; Event.Seq gives the order in which things happened to a key. Calls
// that take part in no flight have no events, whether they are refused or
// answered by an outcome that lingers. [Stats] counts them.
//
// A hook that panics is recovered: the panic is logged to [log/slog.Default] at
// error level and counted in [Stats], and the call goes on as if the hook had
// returned; a Start that panics has returned nil. A hook must not call
// [runtime.Goexit]. If one does, its goroutine goes on exiting, and the event
// decides about the rest:
//   - Start: fn counts as having called Goexit, so the other callers get
//     [ErrGoexit].
//   - Join: the call leaves its flight, as if its context had ended.
//   - Receive, Leave, Finish: nothing else happens.
//
// Other callers are not affected otherwise.
//
// Profiler labels need no hook. fn sets them, with the context that it got:
//
//	pprof.Do(ctx, pprof.Labels("key", key), func(ctx context.Context) {
//		v, err = load(ctx, key)
//	})
//
// For the cost of hooks, see “Cost” in the package documentation.
type Hooks[K comparable] struct {
	// Start is called when a flight starts, before fn, on the goroutine that
	// runs fn. In [Group.Do], [Group.TryDo], and a [Group.DoContext] whose
	// context can never end, that is the caller's goroutine; otherwise it is
	// one of the flight's own.
	//
	// fn's context has the values of the context that Start returns, and
	// nothing else of it: its deadline and its end have no effect. Nil stands
	// for the context that Start got. Finish gets the returned context too, so
	// that a span that begins in Start can be the parent of the spans of fn,
	// and end in Finish. The fn of a Do or a TryDo gets no context; there, only
	// Finish gets it. A DoContext whose context can never end gives fn that
	// very context if Start returns nil, and otherwise one with the returned
	// values that never ends either.
	//
	// In a DoMulti, Start is called once for all flights that fn runs for, with
	// the event of the first key that fn gets. Finish is called for each of
	// them, with the same context. StartID tells which flights have which Start.
	Start func(context.Context, Event[K]) context.Context

	// Join is called when a call has joined a flight or is queued in one, on
	// the caller's goroutine, before the call waits. DoChan calls it before it
	// returns the channel; DoMulti calls it after it has started the execution
	// of the keys that it leads. If a queued call comes to lead, Start follows.
	Join func(context.Context, Event[K])

	// Receive is called when a call that has joined a flight, or was queued in
	// one, has the result of that flight. That may be a panic, or the error of
	// a Shutdown that refused the flight. The call that leads the flight has no
	// Receive.
	//
	// It is called on the caller's goroutine before the call returns, or
	// panics, and before Clone is called; DoMulti calls it for one key after
	// the other, when it has the results of all. In DoChan, another goroutine
	// calls it after the Result has been sent and all other callers have been
	// woken or, with Clone set, once the clone has been sent.
	Receive func(context.Context, Event[K])

	// Leave is called when a call has left because its context has ended, after
	// its Join or Start has returned: a slow one of these delays it. DoContext
	// and DoFresh call it before they return. In DoChan, another goroutine
	// calls it, after the Result has been sent. In DoMulti, another goroutine
	// calls it for a queued key that was about to lead. A call that waits for
	// itself leaves, too, and gets a *[DeadlockError]; in DoChan and DoMulti,
	// another goroutine calls Leave then.
	Leave func(context.Context, Event[K])

	// Finish is called when a flight has finished, on the goroutine that ran
	// fn, after that goroutine has woken the waiters or has started a goroutine
	// to do so. It gets the context that Start returned. If a Shutdown refuses
	// a flight that has not started, it calls Finish itself, with
	// [context.Background]. Otherwise Shutdown does not wait for hooks. A
	// flight that all its calls left before it started has no Finish; it has
	// only the Joins and Leaves of its calls.
	Finish func(context.Context, Event[K])
}

// An Event describes something that has happened to a flight, or to a call that
// takes part in it.
type Event[K comparable] struct {
	Key K

	// FlightID is the ID of the flight, as in [Flight]. A flight that is queued
	// keeps it when it starts.
	FlightID uint64

	// StartID is the FlightID of the Start of the flight. It differs from the
	// flight's own only if a DoMulti leads the flight and its fn gets another
	// key first.
	StartID uint64

	// Seq is greater than that of all earlier events of the same key. No two
	// events of a group have the same, except that a Receive has the Seq of the
	// Finish of its flight.
	Seq uint64

	// Waiters is the number of calls that wait for the flight, not counting its
	// leader. At Join and Leave, the call itself has been added or taken away;
	// at Finish, Waiters is the number of calls that were woken. A flight that
	// is queued has no leader yet, and all its calls count. At Receive it is 0.
	Waiters int

	// Wait is, at Receive and Leave, how long the call took part; at Start and
	// Finish, how long the flight was queued before it started, and 0 if it was
	// not queued. If Outcome is OutcomeClosed, it is at Finish how long the
	// flight was queued until Shutdown refused it. At Join it is 0.
	Wait time.Duration

	// Run is, at Finish, how long fn ran, including the Start hook.
	Run time.Duration

	// Outcome and Err describe, at Finish and Receive, how fn ended. Err is the
	// error that callers get. At Leave, Err is the *DeadlockError of a call that
	// left because it waited for itself, and nil if its context ended. In other
	// events both are zero and mean nothing; the zero Outcome is OutcomeReturned.
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

// reported returns the Outcome that hooks get for how a flight ended.
func (how outcome) reported() Outcome {
	switch how {
	case panicked:
		return OutcomePanicked
	case exited:
		return OutcomeGoexit
	case rejected:
		return OutcomeClosed
	}
	return OutcomeReturned
}

// hooks are the Hooks of a group that has any, and the counter of those that panicked.
type hooks[K comparable] struct {
	Hooks[K]
	panics counter // for Stats.HookPanics
}

// newHooks returns the hooks of a group, nil if all fields of h are nil.
func newHooks[K comparable](h Hooks[K]) *hooks[K] {
	if h.Start == nil && h.Join == nil && h.Receive == nil && h.Leave == nil && h.Finish == nil {
		return nil
	}
	return &hooks[K]{Hooks: h}
}

// A story is the data that a flight keeps for the hooks. It is written under the shard's
// lock, except that the goroutine that runs fn writes ctx and completes started, before it
// runs fn. Only that goroutine reads ctx, to call Finish, or Shutdown if fn never runs.
type story struct {
	born    int64            // sched.Now when the flight was registered or queued
	seq     uint64           // Event.Seq of the Start; once the flight has finished, of the Finish
	wait    time.Duration    // Event.Wait of the Start
	waiters int              // Event.Waiters of the Start
	ctx     context.Context  // for Finish; nil until Start is called, and in a batch but for the first flight
	started sched.Completion // complete when Start has returned or exited; nil if no Leave waits for it
}

// enroll gives f, which is new, an ID and a story, with the Seq of its Start if f starts
// at once; if it is queued, enrollStart sets another. There must be hooks, and s.mu must
// be held.
func (s *shard[K, V]) enroll(f *flight[K, V]) {
	f.born = sched.Now()
	id := s.idOf(f) // moves s.events on
	b := f.batch()
	if b != nil && b.first == 0 {
		b.first = id
	}
	n := &story{born: f.born, seq: s.events}
	if h := s.group.hooks; h.Start != nil && h.Leave != nil {
		started := &n.started
		if b != nil {
			started = &b.started // there is one Start for all its flights
		}
		if *started == nil {
			*started = sched.NewCompletion()
		}
		n.started = *started
	}
	f.extend().story = n
}

// enrollStart prepares the event for the start of f, which was queued. There must be
// hooks, and s.mu must be held.
func (s *shard[K, V]) enrollStart(f *flight[K, V]) {
	s.events += uint64(len(s.group.shards))
	h := f.cold.story
	h.seq, h.wait, h.waiters = s.events, time.Duration(f.born-h.born), f.followers()
}

// newEvent returns an event for f that happens now, or nil without hooks. s.mu must be
// held.
func (s *shard[K, V]) newEvent(f *flight[K, V]) *Event[K] {
	if s.group.hooks == nil {
		return nil
	}
	s.events += uint64(len(s.group.shards))
	return &Event[K]{
		Key: f.key, FlightID: f.cold.id, StartID: f.startID(), Seq: s.events, Waiters: f.followers(), at: sched.Now(),
	}
}

// startID returns the ID of the flight that the Start hook is called for, if it is for f.
// f must have been enrolled.
func (f *flight[K, V]) startID() uint64 {
	if b := f.cold.batch; b != nil {
		return b.first
	}
	return f.cold.id
}

// leaveEvent returns the event for a call that leaves f, or nil without hooks. The call has
// taken part since the event of its joining or, if that is nil, since f started. refusal
// is its answer if it leaves because it waits for itself, else nil. s.mu must be held.
func (s *shard[K, V]) leaveEvent(f *flight[K, V], joined *Event[K], refusal error) *Event[K] {
	e := s.newEvent(f)
	if e != nil {
		since := f.born
		if joined != nil {
			since = joined.at
		}
		e.Wait, e.Err = time.Duration(e.at-since), refusal
	}
	return e
}

// finishEvent returns the event for the end of f. The outcome of f must have been set,
// there must be hooks, and s.mu must be held.
func (s *shard[K, V]) finishEvent(f *flight[K, V]) *Event[K] {
	e := s.newEvent(f)
	f.cold.story.seq = e.Seq
	e.Wait, e.Err, e.Outcome = f.cold.story.wait, f.err, f.outcome.reported()
	if f.outcome == rejected {
		// f never started, so f.born is when it was queued.
		e.Wait = time.Duration(e.at - f.born)
		return e
	}
	e.Run = time.Duration(e.at - f.born)
	return e
}

// call calls one of the hooks with a context and an event, unless the hook is nil. A nil
// ctx is that of a call which has none. It returns even if the hook panics, but not if the
// hook exits the goroutine. No lock may be held.
func (h *hooks[K]) call(hook func(context.Context, Event[K]), ctx context.Context, e *Event[K]) {
	if hook == nil {
		return
	}
	defer h.recovered()
	hook(orBackground(ctx), *e)
}

// orBackground returns ctx or, if that is nil, context.Background.
func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// callAll calls the function with all numbers from i up to but not including n. If a call
// exits the goroutine, the remaining calls are made while the goroutine exits.
func callAll(i, n int, do func(i int)) {
	defer func() {
		if i < n {
			callAll(i+1, n, do)
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
// leader must not hang because the hook has exited. ctx is the context of the leader, nil
// if it has none. callStart returns the context that the hook has returned, nil if there
// is none. There must be hooks, and no lock may be held.
func (s *shard[K, V]) callStart(f *flight[K, V], ctx context.Context) (returned context.Context) {
	h, n := s.group.hooks, f.cold.story
	n.ctx = ctx
	if n.started != nil {
		defer sched.Complete(n.started)
	}
	if h.Start == nil {
		return nil
	}
	defer h.recovered()
	returned = h.Start(orBackground(ctx), Event[K]{
		Key: f.key, FlightID: f.cold.id, StartID: f.startID(), Seq: n.seq, Waiters: n.waiters, Wait: n.wait,
	})
	if returned != nil {
		n.ctx = returned
	}
	return returned
}

// callStartOwn is callStart for f, or for the first flight of a batch, whose fn gets the
// context c. fn does not have c yet, so its values may still change.
func (s *shard[K, V]) callStartOwn(f *flight[K, V], c *flightContext) {
	if returned := s.callStart(f, c.values); returned != nil {
		c.values = returned
	}
}

// finishContext returns the context for the Finish hook of f, which has finished. It is
// called on the goroutine that ran fn, or by Shutdown if fn never ran.
func (f *flight[K, V]) finishContext() context.Context {
	if b := f.cold.batch; b != nil {
		return b.ctx.values // Start was called for one of the flights
	}
	return f.cold.story.ctx
}

// report calls the Finish hook for a flight, and logs its panic if that is due. It
// comes last in the ending of a flight, because the hook and the log handler may exit the
// goroutine.
func (e *ending[K, V]) report(h *hooks[K]) {
	if e.logs {
		defer logPanic(e.flight.err.(*PanicError), e.flight.key)
	}
	if e.event != nil {
		h.call(h.Finish, e.flight.finishContext(), e.event)
	}
}

// receive calls the Receive hook for c if c has joined a flight, or was queued in it, and
// now has the result of that flight, which it does not lead. For a receiver that follows
// in its flight's list, the hook comes later (receiveListed). No lock may be held.
func (c *caller[K, V]) receive() {
	if c.joined != nil {
		c.callReceive()
	}
}

// callReceive is receive for a call with hooks. It is outlined, as it would make the
// frames of all followers larger.
//
//go:noinline
func (c *caller[K, V]) callReceive() {
	if !c.hears() {
		return
	}
	h, f := c.shard.group.hooks, c.flight
	if f.outcome == rejected {
		c.shard.group.awaitClosed() // the hook may call the group, as the caller may next
	}
	returned := false
	defer func() {
		if !returned {
			c.forgo() // the hook has exited the goroutine
		}
	}()
	h.call(h.Receive, c.ctx, &Event[K]{
		Key: f.key, FlightID: f.cold.id, StartID: f.startID(), Seq: f.cold.story.seq,
		Wait:    time.Duration(sched.Now() - c.joined.at),
		Outcome: f.outcome.reported(), Err: f.err,
	})
	returned = true
}

// hears reports whether a Receive hook is to be called for c, whose flight has finished.
// It is not for a call that has led the flight, whether from the beginning or after it was
// queued.
func (c *caller[K, V]) hears() bool {
	return c.joined != nil && !c.leads && c.shard.group.hooks.Receive != nil
}

// receiveListed is receive for a receiver, which has been sent its Result. The goroutine
// of its call may be in the Join hook yet, and other receivers must not wait for that.
func (c *caller[K, V]) receiveListed() {
	if c.announced == nil || sched.IsComplete(c.announced) {
		c.receive()
		return
	}
	sched.Go(c.receiveAnnounced)
}

// receiveAnnounced is receive, once the Join hook of c has returned.
func (c *caller[K, V]) receiveAnnounced() {
	if c.hears() {
		c.awaitAnnounced()
		c.receive()
	}
}
