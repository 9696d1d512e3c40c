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
//	  │ ▲                 │               │                  ▲
//	  │ (DoFresh, or      │               ▼ last caller left │
//	  │ behind abandoned) │           abandoned ─────────────┤
//	  └───────────────────┴──────────────────────────────────┘
//	   evaporate: its last caller left; reject: Shutdown
//
// A flight that a call leads at once begins as running.
//
// Invariants, true whenever the shard's lock is not held:
//  F1. A flight is finished exactly once, whatever fn did, and by the goroutine
//      that ran fn; one that never started is finished by evaporate or reject.
//  F2. outcome, val and err are written once, by settle, reject or evaporate,
//      under the lock, before any completion is closed: who has been told, or
//      has seen the state finished under the lock, reads them without it.
//  F3. callers counts the calls that took part and have not left. It is 0 in
//      state abandoned, and in no state before it. A flight whose fn runs on
//      its leader's goroutine counts that leader until it finishes, and is
//      therefore never abandoned. The flights of a batch are abandoned together
//      (see batch.go).
//  F4. known says that others than its leader's goroutine have to do with a
//      flight: it was joined, queued, forgotten, or another goroutine runs fn. No
//      other goroutine has ever kept the record of one of the rest, so that is
//      used again as soon as it finishes (see record.go).

// A state is where a flight is in its life.
type state uint8

const (
	running   state = iota // fn runs, or is about to; calls may join
	abandoned              // fn runs and its last caller has left; nobody joins
	queued                 // a successor, behind its predecessor
	promoted               // handed to its first entry, which has not started it
	finished               // the outcome is set
)

// An outcome is how a flight ended.
type outcome uint8

const (
	returned outcome = iota // fn returned val and err
	kept                    // it did, and val lingers
	absent                  // fn's map lacks the key; err is ErrAbsent
	panicked                // fn panicked; err is the *PanicError
	exited                  // fn called runtime.Goexit; err is ErrGoexit
	rejected                // never started; err is ErrClosed if there is anybody to tell
)

// A flight is one execution of fn with its result and its waiters.
//
// Its fields are guarded by the shard's lock until it is finished. After that
// nothing changes until the record is used again (see record.go); it is read
// without the lock. cold.fn and the lists in cold are cleared in the critical
// section that finishes the flight.
type flight[K comparable, V any] struct {
	next  *flight[K, V] // in its bucket, in the list of the forgotten, or free
	key   K
	hash  uint32 // the bits that pick the bucket
	state state
	known bool // see F4

	joined   bool // a second call has taken part
	leading  bool // the leader is among callers
	detached bool // forgotten: on the shard's list, not in its table
	outcome  outcome
	seated   uint8            // how many of the callers wait on done
	callers  int32            // see F3
	done     sched.Completion // of the first waiters; made by the first of them
	cold     *cold[K, V]      // nil until something asks for it, then for good
	born     int64            // sched.Now at the start or at the first look, or 0

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

// batch returns the batch that f belongs to, if any.
func (f *flight[K, V]) batch() *batch[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.batch
}

// context returns the context that f's fn gets, or would get if it ran on
// another goroutine than its leader's, or nil.
func (f *flight[K, V]) context() *flightContext {
	if f.cold == nil {
		return nil
	}
	return f.cold.ctx
}

// current returns f's state: a flight of a batch is abandoned with all of it.
// The shard's lock must be held, and not the batch's.
func (f *flight[K, V]) current() state {
	if b := f.batch(); b != nil && f.state == running && b.abandoned() {
		return abandoned
	}
	return f.state
}

// setOwn prepares f to run fn on a goroutine of its own, with a context that
// carries the values of ctx. f must not have started. The shard's lock must be
// held.
func (f *flight[K, V]) setOwn(ctx context.Context, fn func(context.Context) (V, error)) {
	f.cold.ctx.values = ctx
	f.cold.fn = fn
}

// bare reports whether the flight has nothing but those who wait on done. The shard's
// lock must be held.
func (f *flight[K, V]) bare() bool {
	c := f.cold
	return c == nil || !f.detached && c.queue == nil && c.blocks == nil && c.first == nil && c.story == nil
}

// queue returns the successor behind f, or nil.
func (f *flight[K, V]) queue() *flight[K, V] {
	if f.cold == nil {
		return nil
	}
	return f.cold.queue
}

// runInline runs fn on the caller's goroutine for f, which the caller leads,
// and finishes f. The shard's lock must not be held. fn does not escape.
func (s *shard[K, V]) runInline(f *flight[K, V], fn func() (V, error)) (v V, shared bool, err error) {
	ended := false
	defer func() {
		if !ended {
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
	ended = true
	s.mu.Lock()
	return s.finishInline(f, v, err)
}

// finishInline finishes f, whose fn has returned v and err on the goroutine of
// its leader, as finish does, and returns what the leader gets.
func (s *shard[K, V]) finishInline(f *flight[K, V], v V, err error) (V, bool, error) {
	shared, alias := s.finish(f, returned, v, err)
	if alias && s.group.clone != nil {
		v, err = cloned(s.group.clone, v, err)
	}
	return v, shared, err
}

// launch starts the goroutine of f, which is running, has its own, and is led by
// c. If the hook exits the caller's goroutine, c leaves. The shard's lock must
// not be held.
func (s *shard[K, V]) launch(c *call[K, V], f *flight[K, V]) {
	if s.group.hooks == nil {
		f.spawn()
		return
	}
	told := false
	defer func() {
		f.spawn()
		if !told {
			s.forsake(c, f)
		}
	}()
	s.tellStart(f)
	told = true
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
	ended := false
	defer func() {
		if !ended {
			s.unwindOwn(f, recover())
		}
	}()
	c := f.cold
	s.group.hooks.label(c.ctx, f.key)
	v, err := c.fn(c.ctx)
	ended = true
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

// unwindOwn is unwind for a flight's own goroutine, where nobody could recover
// the panic: it is the callers that are told. It returns what of.
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

// finish ends f: it sets the outcome, unregisters f, promotes its successor and wakes its waiters. It reports
// whether the flight was shared, and whether anybody else has v, be it the
// group. It is entered with the shard's lock held and releases it.
//
// Waiters are woken last and outside the lock. Waking before unregistering is
// the tempting order, as it lets them go earlier, but then a woken caller can
// call again and join the flight that it has just been answered by.
func (s *shard[K, V]) finish(f *flight[K, V], how outcome, v V, err error) (shared, alias bool) {
	s.countOutcome(how)
	if s.group.lingering != nil && s.lingers(f, how, v, err) {
		how = kept
	}
	own := f.cold != nil && f.cold.fn != nil
	if !f.known && !own {
		// Nobody else has to do with it, so nobody needs the result.
		s.retire(f)
		idle := s.idle()
		s.mu.Unlock()
		if idle != nil {
			sched.Complete(idle)
		}
		return false, how == kept
	}
	shared, alias = f.joined, f.joined || how == kept
	if f.bare() && s.drained == nil && f.callers > 0 && (own || f.callers <= wakeInline) {
		// All that is left to do is to wake those who wait on done.
		f.settle(how, v, err)
		s.unregister(f)
		done := f.done
		s.mu.Unlock()
		if done != nil {
			sched.Complete(done)
		}
		return shared, alias
	}
	e := s.end(f, how, v, err)
	s.mu.Unlock()
	e.tell(!own)
	e.tellHook()
	return shared, alias
}

// settle sets the outcome of f. The shard's lock must be held.
func (f *flight[K, V]) settle(how outcome, v V, err error) {
	f.outcome, f.val, f.err = how, v, err
	f.state = finished
	if c := f.context(); c != nil {
		f.cold.fn = nil
		c.finished.Store(true)
	}
}

// An ending is what is left to do when a flight has finished and the lock is
// released.
type ending[K comparable, V any] struct {
	shard  *shard[K, V]
	waking waking[K, V]
	next   *entry[K, V]     // of the successor, to be notified
	idle   sched.Completion // Shutdown's, if it is due
	untold bool             // nobody is left to be told of the panic
	event  *Event[K]
}

// end is what finish does under the lock with a flight that others have to do
// with.
func (s *shard[K, V]) end(f *flight[K, V], how outcome, v V, err error) ending[K, V] {
	f.settle(how, v, err)
	untold := how == panicked && f.callers == 0 && f.batch() == nil
	if untold {
		s.rare.untold++
	}
	next := s.remove(f)
	w := f.takeWaiters()
	return ending[K, V]{s, w, next, s.idle(), untold, s.finishing(f, w.n)}
}

// concerns reports whether there is anybody to tell.
func (e *ending[K, V]) concerns() bool {
	return e.waking.n > 0 || e.next != nil || e.idle != nil || e.untold || e.event != nil
}

// tell tells all callers of a flight's end. It returns soon if mayDefer is set.
// No lock may be held.
func (e ending[K, V]) tell(mayDefer bool) {
	e.next.notify()
	if e.idle != nil {
		sched.Complete(e.idle)
	}
	e.waking.wake(e.shard.group.clone, mayDefer)
}

// tellHook calls the hook for the flight's end, and logs the panic that nobody was
// told of. It comes last, as both may exit the goroutine.
func (e ending[K, V]) tellHook() {
	if f := e.waking.flight; e.untold {
		defer logUntold(f.key, f.err.(*PanicError))
	}
	if e.event != nil {
		e.shard.group.hooks.tell(e.shard.group.hooks.Finish, e.event)
	}
}

// remove takes f, whose state is no longer running, out of the table or off
// the list of the forgotten, promotes its successor into its place, and
// returns the entry to notify once the lock is released, nil if there is
// none. The shard's lock must be held.
func (s *shard[K, V]) remove(f *flight[K, V]) *entry[K, V] {
	if f.detached {
		s.detached.remove(f)
		return nil
	}
	s.unregister(f)
	return s.promote(f)
}

// result returns what a call that stayed to the end of f gets. It panics if fn
// did. f must be finished, and its shard's lock must not be held.
func (f *flight[K, V]) result(clone func(V) V) (v V, shared bool, err error) {
	if f.outcome == panicked {
		panic(f.err)
	}
	v, err = f.val, f.err
	if f.clones(clone) {
		v, err = cloned(clone, v, err)
	}
	return v, f.joined, err
}

// report is result for a call that is told of a panic by its Result.
func (f *flight[K, V]) report(clone func(V) V) (r Result[V]) {
	r = Result[V]{f.val, f.err, f.joined}
	if f.clones(clone) {
		r.Val, r.Err = safelyCloned(clone, f.val, f.err)
	}
	return r
}

// clones reports whether a call that stayed to the end of f gets a clone. f
// must be finished.
func (f *flight[K, V]) clones(clone func(V) V) bool {
	return clone != nil && (f.outcome == kept || f.outcome == returned && f.joined)
}

// safelyCloned is cloned, with a panic returned as an error.
func safelyCloned[V any](clone func(V) V, v V, fnErr error) (c V, err error) {
	defer func() {
		if e, ok := recover().(*PanicError); ok {
			err = e
		}
	}()
	return cloned(clone, v, fnErr)
}

// cloned returns clone(v) and fnErr. A panic of clone goes on as a *PanicError.
func cloned[V any](clone func(V) V, v V, fnErr error) (c V, err error) {
	ended := false
	defer func() {
		if !ended {
			if r := recover(); r != nil {
				panic(newPanicError(r))
			}
		}
	}()
	err = ErrGoexit // as in runInline
	c = clone(v)
	ended = true
	return c, fnErr
}
