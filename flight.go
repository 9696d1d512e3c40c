package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the life of a flight: the states that it goes through, how fn is
// run, and finish, which ends it.
//
//	                                         a call leads
//	                                              │
//	                 promote          takeTurn    ▼     finish
//	a call ──▶ queued ───────▶ promoted ───────▶ running ───────▶ finished
//	queues        │               │                                  ▲
//	              └───────────────┴──────────────────────────────────┘
//	               evaporate: its last caller has left
//	               rejectAll: the group is being shut down
//
// A call that finds no flight for its key leads one that runs from the beginning. A
// call that finds one which it must not join is queued in the successor (queue.go). A
// running flight whose callers have all left is abandoned, unless it is held (hold.go).
// That is not a state of its own: abandoned finds out from the number of callers and from
// fn's context.
//
// fn runs in one of three places:
//
//	runInline   on the leader's goroutine: Do, TryDo, a DoContext that cannot leave.
//	            Do has a copy of this code in line, for the common case.
//	runOwn      on a goroutine of the flight's own, so that its leader can leave.
//	            Either spawn starts that goroutine, or it is the one that notify has
//	            started for a receiver or for a key of a DoMulti (leadQueued).
//	load.run    on a goroutine of a DoMulti's own, for several flights (batch.go).
//
// Invariants, true whenever the shard's lock is not held:
//  F1. A flight is finished exactly once, whatever fn does, by the goroutine that ran
//      fn. A flight that never starts is finished by evaporate or by rejectAll.
//  F2. setOutcome writes outcome, val and err once, under the lock, before any
//      completion that reports the end of the flight is closed. A goroutine that has
//      waited on one of these, or has seen the state finished under the lock, reads the
//      three without the lock. If only its leader knows a flight, and runs fn itself or
//      leads it in a batch, they are not written at all: the leader has the results of fn
//      on its own stack or in the load of the batch. (The exception is a flight of a batch
//      whose value lingers and is cloned: see endKnown.)
//  F3. callers is the number of calls that have taken part and have not left. In an
//      unfinished flight it is 0 only if all of them have left while fn runs. That
//      abandons the flight, unless it is held (hold.go) or belongs to a batch, whose
//      flights are abandoned together (M2). A leader that runs fn on its own goroutine
//      cannot leave, so such a flight always has a caller.

// A state is where a flight is in its life.
type state uint8

const (
	running  state = iota // fn runs, or is about to
	queued                // a successor, behind the registered flight of its key
	promoted              // handed to one of its callers, which has not started it
	finished              // the outcome is set
)

// An outcome is how a flight ended.
type outcome uint8

const (
	returned   outcome = iota // fn returned val and err
	kept                      // fn returned val and err, and they linger
	absent                    // the map that fn returned lacks the key; err is ErrAbsent
	keptAbsent                // absent, and that lingers
	panicked                  // fn panicked; err is the *PanicError
	exited                    // fn called runtime.Goexit; err is ErrGoexit
	rejected                  // fn never started; err is ErrClosed, nil if all callers left
)

// lingers reports whether the outcome goes on answering calls.
func (how outcome) lingers() bool { return how == kept || how == keptAbsent }

// A flight is one execution of fn with its result and its waiters.
//
// The shard's lock guards its fields until it is finished. After that they do not
// change until the record is used again (R1), and are read without the lock. The
// critical section that finishes a flight also clears cold.fn and the lists in cold.
type flight[K comparable, V any] struct {
	next *flight[K, V] `rest:"next"` // the next flight in the bucket, or the next free record

	// born is sched.Now when a call led f or, until then, when the first call was queued
	// in f. The flights of a batch share the time of the first. A flight that its leader
	// runs from the beginning has 0 here until a call joins it or Flights looks at it,
	// unless MaxAge or Hooks is set.
	born  int64
	key   K      // a lone flight has it, and hash, only once it is revealed (S4)
	hash  uint32 `rest:"used"` // the low bits of the key's hash, which pick the bucket
	state state
	known bool // goroutines other than the leader's and fn's know the record (R1)

	joined   bool // a second call has taken part; never reset
	leading  bool `rest:"used"` // the leader is among callers; false until fn is to start
	detached bool // forgotten: in the shard's list, not in its table
	outcome  outcome
	seated   uint8            // how many calls wait on done, at most perCompletion
	silent   uint8            // how many of these are keys of DoMultis, which do not panic
	callers  int32            `rest:"used"` // see F3
	done     sched.Completion // where the first calls wait; made by the first of them
	cold     *cold[K, V]      `rest:"own"` // nil until it is needed; then it stays with the record

	val V     // see F2
	err error // see F2
}

// followers returns the number of calls in f that do not lead it. While f has not
// started, that is all of them. The shard's lock must be held.
func (f *flight[K, V]) followers() int {
	if f.leading {
		return int(f.callers) - 1
	}
	return int(f.callers)
}

// abandoned reports whether fn runs for f and all callers have left, those of the whole
// batch if f belongs to one. f must be unfinished; one that has not started has a caller
// (Q2). The shard's lock must be held. If f belongs to a batch, other flights of that may
// lose their last caller meanwhile, unless the batch's lock is held, too.
func (f *flight[K, V]) abandoned() bool {
	return f.callers == 0 && f.context().abandoned()
}

// batch returns the batch that f belongs to, or nil. The shard's lock must be held.
func (f *flight[K, V]) batch() *batch[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.batch
}

// context returns the context that fn gets if it runs on a goroutine other than its
// leader's. It returns nil if f has run on its leader's goroutine from the beginning.
// (If a Do leads a flight in which it was queued, f has a context that fn does not
// get.) The shard's lock must be held, unless f is sure to have a context.
func (f *flight[K, V]) context() *flightContext {
	if f.cold == nil {
		return nil
	}
	return f.cold.ctx
}

// queue returns the successor behind f, or nil. The shard's lock must be held.
func (f *flight[K, V]) queue() *flight[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.queue
}

// nested returns how many calls follow in f, or are queued in it, that the fn of a flight
// has made. The shard's lock must be held.
func (f *flight[K, V]) nested() int {
	if f.cold == nil {
		return 0
	}
	return f.cold.nested
}

// setOwn prepares f to run fn on a goroutine of its own, with a context that carries
// the values of ctx. f must have been made by takeOwn, and fn must not have started.
// The shard's lock must be held.
func (f *flight[K, V]) setOwn(ctx context.Context, fn func(context.Context) (V, error)) {
	f.cold.ctx.values = ctx
	f.cold.fn = fn
}

// runInline runs fn on the goroutine of the caller, which leads f, finishes f, and
// returns the leader's result. If fn panics, runInline panics with a *PanicError. No
// lock may be held. fn does not escape, so that Do allocates nothing for its fn.
func (s *shard[K, V]) runInline(f *flight[K, V], fn func() (V, error)) (v V, shared bool, err error) {
	normal := false
	defer func() {
		if !normal {
			s.unwind(f, recover())
		}
	}()
	// This is the result if fn does not return and the caller goes on nevertheless: fn
	// has called panic(nil) under GODEBUG=panicnil=1. recover ends that panic and returns
	// nil, which unwind takes for a Goexit.
	err = ErrGoexit
	val, e := fn() // not v and err: LingerFor may end as fn may
	var p *lingerer[K, V]
	if s.group.lingering != nil {
		p = s.ask(f, returned, val, e)
	}
	normal = true
	s.mu.Lock()
	return s.finishInline(f, val, e, p)
}

// finishInline finishes f, whose fn has returned v and err on the goroutine of its
// leader, and returns the leader's result, with a clone of v if one is due. p is what ask
// has returned. As finish does, finishInline is entered with s.mu held and releases it.
//
// It does not read the result from f. If no other goroutine knew f, finish has not
// written it there, and the record may be in use again already.
func (s *shard[K, V]) finishInline(f *flight[K, V], v V, err error, p *lingerer[K, V]) (V, bool, error) {
	shared := f.joined // before finish, for the same reason
	how := s.finish(f, returned, v, err, p)
	if clone := s.group.clone; clone != nil && (shared || how == kept) {
		return mustClone(clone, Result[V]{v, err, shared})
	}
	return v, shared, err
}

// spawn starts the goroutine that runs fn for f. No lock may be held.
//
// The closure is kept in the record, so that a record that is used again does not
// allocate another. It is made here because a closure in the caller would move the
// caller's variables to the heap, in calls that start no goroutine too.
func (f *flight[K, V]) spawn() {
	c := f.cold
	if c.run == nil {
		c.run = func() { c.shard.runOwn(f) }
	}
	sched.Go(c.run)
}

// runOwn runs f's fn on the goroutine that was started for it, and finishes f. Callers
// may wait for f, join it and leave it meanwhile. No lock may be held.
func (s *shard[K, V]) runOwn(f *flight[K, V]) {
	normal := false
	defer func() {
		if !normal {
			_ = s.unwindOwn(f, recover()) // its callers panic, on their goroutines
		}
	}()
	c := f.cold
	if s.group.hooks != nil {
		s.callStartOwn(f, c.ctx)
	}
	v, err := c.fn(c.ctx)
	how := returned
	if err == errLacking { // fn is that of a DoMulti, for a key that was queued
		how, err = absent, ErrAbsent
	}
	var p *lingerer[K, V]
	if s.group.lingering != nil {
		p = s.ask(f, how, v, err)
	}
	normal = true
	s.mu.Lock()
	s.finish(f, how, v, err, p)
}

// unwind finishes f, whose fn runs on its leader's goroutine and has not returned: it
// has panicked with the recovered value or, if that is nil, has called Goexit. After a
// panic, unwind panics with the *PanicError, even if fn panicked during a Goexit. After
// a Goexit it returns, and the goroutine goes on exiting. It must be called by a
// deferred function, with no lock held.
func (s *shard[K, V]) unwind(f *flight[K, V], recovered any) {
	normal := false
	defer func() {
		if !normal {
			s.forgoLeader(f)
		}
	}()
	e := s.unwindOwn(f, recovered)
	normal = true
	if e != nil {
		panic(e)
	}
}

// unwindOwn is unwind for a flight's own goroutine. It does not panic, because no
// caller could recover that and the process would end. It returns the *PanicError, or
// nil after a Goexit.
func (s *shard[K, V]) unwindOwn(f *flight[K, V], recovered any) *PanicError {
	var zero V
	if recovered == nil {
		s.mu.Lock()
		s.finish(f, exited, zero, ErrGoexit, nil)
		return nil
	}
	e := newPanicError(recovered)
	s.mu.Lock()
	s.finish(f, panicked, zero, e, nil)
	return e
}

// finish ends f, which has run fn: it sets the outcome, unregisters f, promotes its
// successor and wakes its waiters. p is what ask has returned. finish returns the outcome,
// which is kept in place of returned if it lingers. It is entered with s.mu held and
// releases it.
//
//	              only its leader knows f       other goroutines know f,
//	              and runs fn itself            or fn has its own goroutine
//	              --------------------------    ------------------------------------
//	under s.mu    keep     lets p linger        keep   lets p linger
//	              noteEnd  counts               end:   takeOut     unregisters f,
//	              retire   unregisters f,                          promotes the successor
//	                       keeps its record            setOutcome  writes the result
//	              idle     may end a Shutdown          idle        may end a Shutdown
//	                                                   (the lists of waiters leave f)
//	                                                   noteEnd     counts, makes the event
//	after s.mu    idle is completed             wake   notifies the successor's caller,
//	is released                                        completes idle, wakes the waiters,
//	                                                   ends fn's context if no call is left
//	                                            report calls Hooks.Finish, logs a panic
//
// Why in this order:
//   - keep asks whether f is abandoned and whether it has a successor. takeOut and
//     setOutcome change the answers. lost, with which end begins, asks the first of these
//     too, and whether v lingers.
//   - takeOut looks at the state that setOutcome overwrites.
//   - keep, takeOut and setOutcome share one critical section. A call that gets the lock
//     before joins f; one that gets it later finds f gone, and p in its place if that
//     lingers.
//   - idle asks whether f was the last, so it follows takeOut or retire.
//   - noteEnd puts the outcome into its event, so it follows setOutcome. On the left it
//     only counts: with hooks, known is set in every flight.
//   - Waiters are woken when f is unregistered and the lock released. A caller that is
//     woken earlier returns earlier, but it could call again and join the flight whose
//     result it has just got. A caller that is woken under the lock may wait for it.
//   - wake begins with the successor's caller, for which the calls of the next flight
//     wait, and with Shutdown. The waiters come after them, as they may be many.
//   - report comes last. A hook or a log handler may block, or exit the goroutine.
func (s *shard[K, V]) finish(f *flight[K, V], how outcome, v V, err error, p *lingerer[K, V]) outcome {
	var gone *lingerer[K, V] // because of LingerMax
	if s.group.lingering != nil {
		how, gone = s.keep(f, how, p)
	}
	own := f.cold != nil && f.cold.fn != nil
	if !f.known && !own {
		// No other goroutine has a pointer to f, so f needs no result: the caller of
		// finish has it.
		if how != returned {
			s.noteEnd(f, how)
		}
		s.retire(f)
		idle := s.idle()
		s.mu.Unlock()
		gone.unindex()
		if idle != nil {
			sched.Complete(idle)
		}
		return how
	}
	e := s.end(f, how, v, err)
	s.mu.Unlock()
	gone.unindex()
	if e.event != nil || e.logs {
		defer e.report(s.group.hooks) // even if a context's code exits in wake
	}
	e.wake(s.group.clone, !own) // a leader that ran fn itself is to return soon
	return how
}

// setOutcome writes f's result and makes it finished: from here on, the result beats
// the end of a caller's context. The shard's lock must be held.
func (f *flight[K, V]) setOutcome(how outcome, v V, err error) {
	f.outcome, f.val, f.err = how, v, err
	f.state = finished
	if c := f.context(); c != nil && f.batch() == nil { // conclude has done it for a batch
		f.cold.fn = nil
		c.finished.Store(true) // atomic: a look may hold another lock only
	}
}

// An ending is the work that is left for a flight which has finished, once the lock is
// released. It belongs to the goroutine that has finished the flight.
type ending[K comparable, V any] struct {
	flight *flight[K, V]     // followed only to log its panic, with bare receivers, or with hooks: see R1
	shard  *shard[K, V]      // the flight's
	n      int               // the followers: they wait on done, in blocks, or are listed
	done   sched.Completion  // the flight's; nil if no call has waited on it
	blocks *block            // the newest block of those beyond done
	first  *caller[K, V]     // the first of the listed callers
	bare   *bareReceivers[V] // the newest of the bare receivers
	next   *caller[K, V]     // the successor's, which must start it; or nil
	idle   sched.Completion  // a Shutdown waits on it, for this flight as the last; or nil
	lost   *flightContext    // fn's context, to be ended as no call got the outcome; or nil
	logs   bool              // no call panics with the panic of fn, so it is logged
	event  *Event[K]         // for Hooks.Finish; nil without hooks
}

// concerns reports whether any work is left. Only load.endKnown asks. There the leader
// waits on the completion of the load, so that done matters to followers alone.
func (e *ending[K, V]) concerns() bool {
	return e.n > 0 || e.next != nil || e.idle != nil || e.logs || e.event != nil
}

// end ends f, which other goroutines know, and returns the work that is left for when
// the lock is released. finish and load.endKnown call it after keep, in the same
// critical section. rejectAll calls it for flights that have not started. s.mu must be
// held.
func (s *shard[K, V]) end(f *flight[K, V], how outcome, v V, err error) ending[K, V] {
	panics := 0
	if how == panicked {
		panics = f.panickers()
	}
	lost := f.lost(how)
	next := s.takeOut(f)
	f.setOutcome(how, v, err)
	e := ending[K, V]{flight: f, shard: s, n: f.followers(), done: f.done, next: next, idle: s.idle(), lost: lost}
	if c := f.cold; c != nil && !c.common {
		// The lists belong to e from here on (W3). A caller may keep f for longer, which
		// must not keep the other callers with it.
		e.blocks, e.first = c.blocks.last, c.callers.first
		c.blocks, c.callers = list[*block]{}, list[*caller[K, V]]{}
		e.bare, c.bare = c.bare, nil
	}
	e.event = s.noteEnd(f, how)
	if how == panicked {
		e.logs = s.expect(f, panics)
	}
	return e
}

// takeOut takes f, which is unfinished, out of the table, off the list of forgotten
// flights or from behind its predecessor. If f was registered, its successor takes its
// place and is promoted: takeOut returns the caller to notify once the lock is released.
// Otherwise it returns nil, as only a registered flight has a successor (Q1). s.mu must
// be held.
func (s *shard[K, V]) takeOut(f *flight[K, V]) (next *caller[K, V]) {
	switch {
	case f.state == queued:
		s.front(f).cold.queue = nil
		f.dequeue()
	case f.detached:
		s.detached.remove(f)
	default:
		s.unregister(f)
		next = s.promote(f)
	}
	return next
}

// result returns the result of f, cloned if a clone is due, for a call that blocks and
// stayed to the end of f. It panics if fn or clone has panicked. f must be finished. No
// lock may be held, because clone is user code.
func (f *flight[K, V]) result(clone func(V) V) (v V, shared bool, err error) {
	r := Result[V]{f.val, f.err, f.joined}
	if f.clones(clone) {
		return mustClone(clone, r)
	}
	if f.outcome == panicked {
		panic(f.err)
	}
	return r.Val, r.Shared, r.Err
}
