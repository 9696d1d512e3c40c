package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds a flight's life: the states it goes through, how fn is run,
// and finish, which ends it.
//
//	          promote          start            finish
//	queued ──────────▶ promoted ─────▶ running ─────────▶ finished
//	  │ ▲                 │                                  ▲
//	  │ (DoFresh, or      │  evaporate: its last caller left │
//	  │ behind abandoned) │  reject: Shutdown                │
//	  └───────────────────┴──────────────────────────────────┘
//
// A flight that a call leads at once begins as running. One that runs without
// callers is abandoned.
//
// Invariants, true whenever the shard's lock is not held:
//  F1. A flight is finished exactly once, whatever fn did, and by the goroutine
//      that ran fn; one that never started is finished by evaporate or rejectAll.
//  F2. outcome, val and err are written once, by setOutcome, under the lock, before
//      any completion is closed: a goroutine that has waited on one, or has seen the
//      state finished under the lock, reads them without it.
//  F3. callers counts the calls that took part and have not left. It is 0 only while
//      the flight is abandoned. A flight whose fn runs on its leader's goroutine
//      counts that leader until it finishes, and is therefore never abandoned. The
//      flights of a batch are abandoned together (see batch.go).

// A state is where a flight is in its life.
type state uint8

const (
	running  state = iota // fn runs, or is about to
	queued                // a successor, behind its predecessor
	promoted              // handed to the first caller in its list, which has not started it
	finished              // the outcome is set
)

// An outcome is how a flight ended.
type outcome uint8

const (
	returned outcome = iota // fn returned val and err
	kept                    // it did, and val lingers
	absent                  // fn's map lacks the key; err is ErrAbsent
	panicked                // fn panicked; err is the *PanicError
	exited                  // fn called runtime.Goexit; err is ErrGoexit
	rejected                // never started; err is ErrClosed if there are callers
)

// A flight is one execution of fn with its result and its waiters.
//
// Its fields are guarded by the shard's lock until it is finished. After that
// nothing changes until the record is used again (see record.go); it is read
// without the lock. cold.fn and the lists in cold are cleared in the critical
// section that finishes the flight.
type flight[K comparable, V any] struct {
	next  *flight[K, V] // in its bucket, or free
	born  int64         // sched.Now at the start or at the first look, or 0
	key   K
	hash  uint32 // the bits that pick the bucket
	state state
	known bool // see R1

	joined   bool // a second call has taken part
	leading  bool // the leader is among callers
	detached bool // forgotten: on the shard's list, not in its table
	outcome  outcome
	seated   uint8            // how many of the callers wait on done
	callers  int32            // see F3
	done     sched.Completion // of the first waiters; made by the first of them
	cold     *cold[K, V]      // nil until something asks for it, then for good

	val V
	err error
}

// followers returns the number of calls in f that do not lead it. The shard's
// lock must be held.
func (f *flight[K, V]) followers() int {
	if f.leading {
		return int(f.callers) - 1
	}
	return int(f.callers)
}

// abandoned reports whether fn runs though all callers have left: all those of the
// batch, if f belongs to one. The shard's lock must be held, and not the batch's.
func (f *flight[K, V]) abandoned() bool {
	if f.state != running {
		return false
	}
	if b := f.batch(); b != nil {
		return b.abandoned()
	}
	return f.callers == 0
}

// batch returns the batch that f belongs to, or nil.
func (f *flight[K, V]) batch() *batch[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.batch
}

// context returns the context that is passed to fn unless the leader runs it on its
// own goroutine, or nil if that is known from the beginning.
func (f *flight[K, V]) context() *flightContext {
	if f.cold == nil {
		return nil
	}
	return f.cold.ctx
}

// queue returns the successor behind f, or nil.
func (f *flight[K, V]) queue() *flight[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.queue
}

// setOwn prepares f to run fn on a goroutine of its own, with a context that
// carries the values of ctx. f must not have started. The shard's lock must be
// held.
func (f *flight[K, V]) setOwn(ctx context.Context, fn func(context.Context) (V, error)) {
	f.cold.ctx.values = ctx
	f.cold.fn = fn
}

// runInline runs fn on the caller's goroutine for f, which the caller leads, and
// finishes f. The shard's lock must not be held. fn does not escape.
func (s *shard[K, V]) runInline(f *flight[K, V], fn func() (V, error)) (v V, shared bool, err error) {
	normal := false
	defer func() {
		if !normal {
			s.unwind(f, recover())
		}
	}()
	// This error stays if fn does not return. The only caller to see it then
	// is one whose fn called panic(nil) under GODEBUG=panicnil=1, which cannot
	// be told from Goexit.
	err = ErrGoexit
	if s.group.hooks != nil {
		s.tellStart(f)
	}
	v, err = fn()
	normal = true
	s.mu.Lock()
	return s.finishInline(f, v, err)
}

// finishInline finishes f, whose fn has returned v and err on the goroutine of
// its leader, as finish does, and returns what the leader gets.
func (s *shard[K, V]) finishInline(f *flight[K, V], v V, err error) (V, bool, error) {
	shared := f.joined
	how := s.finish(f, returned, v, err)
	if clone := s.group.clone; clone != nil && (shared || how == kept) {
		return mustClone(clone, Result[V]{v, err, shared})
	}
	return v, shared, err
}

// spawn starts f's own goroutine. (A closure in the caller would move the caller's
// variables to the heap in every case.)
func (f *flight[K, V]) spawn() {
	c := f.cold
	if c.run == nil {
		c.run = func() { c.shard.runOwn(f) }
	}
	sched.Go(c.run)
}

// runOwn runs f's fn on the goroutine that was started for it.
func (s *shard[K, V]) runOwn(f *flight[K, V]) {
	normal := false
	defer func() {
		if !normal {
			s.unwindOwn(f, recover())
		}
	}()
	c := f.cold
	if h := s.group.hooks; h != nil {
		s.tellStart(f)
		h.label(c.ctx, f.key)
	}
	v, err := c.fn(c.ctx)
	normal = true
	how := returned
	if err == errLacking {
		how, err = absent, ErrAbsent
	}
	s.mu.Lock()
	s.finish(f, how, v, err)
}

// unwind finishes f, whose fn is being left by a panic with the recovered
// value or, if that is nil, by Goexit. A panic goes on as a *PanicError, in
// Goexit's deferred calls too; a Goexit goes on by itself.
func (s *shard[K, V]) unwind(f *flight[K, V], recovered any) {
	if e := s.unwindOwn(f, recovered); e != nil {
		panic(e)
	}
}

// unwindOwn is unwind for a flight's own goroutine, where no caller could recover
// the panic. It returns the *PanicError, or nil after a Goexit.
func (s *shard[K, V]) unwindOwn(f *flight[K, V], recovered any) *PanicError {
	var zero V
	if recovered == nil {
		s.mu.Lock()
		s.finish(f, exited, zero, ErrGoexit)
		return nil
	}
	e := newPanicError(recovered)
	s.mu.Lock()
	s.finish(f, panicked, zero, e)
	return e
}

// finish ends f: it sets the outcome, unregisters f, promotes its successor and
// wakes its waiters. It returns the outcome, which is kept in place of returned if
// v lingers. It is entered with the shard's lock held and releases it.
//
// Waiters are woken last and outside the lock. Waking before unregistering is
// the tempting order, as it lets them go earlier, but then a woken caller can
// call again and join the flight that it has just been answered by.
func (s *shard[K, V]) finish(f *flight[K, V], how outcome, v V, err error) outcome {
	how = s.keep(f, how, v, err)
	own := f.cold != nil && f.cold.fn != nil
	if !f.known && !own {
		// No other goroutine has a pointer to f, so none needs the result.
		s.noteEnd(f, how)
		s.retire(f)
		idle := s.idle()
		s.mu.Unlock()
		if idle != nil {
			sched.Complete(idle)
		}
		return how
	}
	e := s.end(f, how, v, err)
	s.mu.Unlock()
	e.wake(s.group.clone, !own)
	e.tell(s.group.hooks)
	return how
}

// setOutcome ends f's life. The shard's lock must be held.
func (f *flight[K, V]) setOutcome(how outcome, v V, err error) {
	f.outcome, f.val, f.err = how, v, err
	f.state = finished
	if c := f.context(); c != nil {
		f.cold.fn = nil
		c.finished.Store(true)
	}
}

// An ending is what is left to do, once the lock is released, for a flight that has
// finished.
type ending[K comparable, V any] struct {
	flight *flight[K, V]
	n      int              // how many callers wait, in the following three
	done   sched.Completion // nil if none waits on it
	blocks *block
	first  *caller[K, V]
	next   *caller[K, V]    // of the successor, to be notified
	idle   sched.Completion // Shutdown's, if it is due
	untold bool             // no caller is left to receive the panic
	event  *Event[K]
}

// concerns reports whether anything is left to do.
func (e *ending[K, V]) concerns() bool {
	return e.n > 0 || e.next != nil || e.idle != nil || e.untold || e.event != nil
}

// end is what finish does under the lock with a flight that other goroutines know of.
// f may be one that has not started, to be rejected.
func (s *shard[K, V]) end(f *flight[K, V], how outcome, v V, err error) ending[K, V] {
	next := s.remove(f)
	f.setOutcome(how, v, err)
	e := ending[K, V]{flight: f, n: f.followers(), done: f.done, next: next, idle: s.idle()}
	if c := f.cold; c != nil {
		e.blocks, e.first = c.blocks.first, c.callers.first
		c.blocks, c.callers = list[*block]{}, list[*caller[K, V]]{}
	}
	e.event = s.noteEnd(f, how)
	if how == panicked && f.callers == 0 && f.batch() == nil {
		e.untold = true
		s.note(panicLogged, f, nil)
	}
	return e
}

// remove takes f out of the table, off the list of the forgotten or from behind its
// predecessor, promotes its successor into its place, and returns the caller to notify
// once the lock is released, or nil. The shard's lock must be held.
func (s *shard[K, V]) remove(f *flight[K, V]) (next *caller[K, V]) {
	switch {
	case f.state == queued:
		f.cold.before.cold.queue = nil
		f.dequeue()
	case f.detached:
		s.detached.remove(f)
	default:
		s.unregister(f)
		next = s.promote(f)
	}
	return next
}

// report returns what a call that stayed to the end of f gets, as a Result. f must be
// finished, and its shard's lock must not be held.
func (f *flight[K, V]) report(clone func(V) V) Result[V] {
	r := Result[V]{f.val, f.err, f.joined}
	if f.clones(clone) {
		r, _ = cloned(clone, r)
	}
	return r
}

// result is report for a call that panics if fn or clone did.
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

// clones reports whether a call that stayed to the end of f gets a clone. f
// must be finished.
func (f *flight[K, V]) clones(clone func(V) V) bool {
	return clone != nil && (f.outcome == kept || f.outcome == returned && f.joined)
}

// cloned returns r with a clone of its value. If clone panics, the panic is in Err, and
// returned, too.
func cloned[V any](clone func(V) V, r Result[V]) (c Result[V], panicked *PanicError) {
	c = Result[V]{Err: ErrGoexit, Shared: r.Shared} // as in runInline
	normal := false
	defer func() {
		if v := recover(); !normal && v != nil {
			panicked = newPanicError(v)
			c.Err = panicked
		}
	}()
	c.Val = clone(r.Val)
	normal = true
	c.Err = r.Err
	return c, nil
}

// mustClone is cloned for a call that panics if clone does.
func mustClone[V any](clone func(V) V, r Result[V]) (v V, shared bool, err error) {
	r, panicked := cloned(clone, r)
	if panicked != nil {
		panic(panicked)
	}
	return r.Val, r.Shared, r.Err
}
