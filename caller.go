package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the life of a call, from its arrival until it has its answer or has
// left. All forms of call are callers. They differ in how they receive the answer:
//
//	a blocked call      waits on its seat's completion; on turn, while it is queued or
//	                    if it follows and fn of a flight made it
//	a receiver          does not wait: ch gets its Result, and AfterFunc watches its ctx
//	a key of a DoMulti  waits on its seat's completion, or on answered if it is queued
//
// A follower of Do is a caller only while it arrives. After that its flight keeps a
// count of it and nothing else. Of a receiver that joins and cannot leave, its flight
// keeps the count and the channel (see chan.go).
//
// The way of a blocked call (a receiver's verdict may also be ended: its ctx ended just
// before it could take part, and afterLeaving has answered it):
//
//	                  ┌─ leads ──▶ lead ──▶ run ───────┐
//	arrive ──▶ admit ─┼─ joins ──▶ sit ───▶ announce ──┼─▶ await ──▶ result
//	             │    └─ queues ─▶ queue ─▶ takeTurn ──┘     │ ctx ended first,
//	             │                                           │ or a look refused it
//	             │ answered, refused                         ▼
//	             ▼                                         leave ──▶ afterLeaving
//	         immediate
//
//  1. Before the lock, arrive hashes the key, asks ctx whether it has ended, looks for an
//     outcome that lingers, and asks ctx for its Done channel. A receiver begins to
//     watch its ctx.
//  2. Under the shard's lock, admit gives its verdict. A call that leads, joins or
//     queues takes part in a flight from this critical section on.
//  3. After the lock, a leader starts the goroutine that runs fn, a follower calls its
//     Join hook, and a queued call does so too and then waits for its turn (see
//     queue.go).
//  4. await blocks until the flight has finished or ctx has ended.
//  5. If the flight finished first, the call returns its result. If ctx ended first, or a
//     look refused the call, leave counts the call out, under the lock, and afterLeaving
//     does the rest without it.
//
// The other ways differ in a few places. A leader that runs fn on its own goroutine has
// no step 4 and cannot leave: runInline returns its answer. A receiver has no step 4
// either: DoChan returns after step 3, and then either deliver answers it, when the
// flight has finished, or withdraw does, when its ctx has ended. A DoMulti claims its
// keys one by one, and takes steps 3 to 5 for all of them together.
//
// Other goroutines that may run at the same time and use c:
//
//   - The goroutine that finishes the flight. It takes the flight's list under the lock
//     and delivers to the listed callers after it (W3). It does not know the others:
//     closing the completion of their seats wakes them.
//   - The goroutine that hands c the flight in which c is queued: it has promoted that
//     flight, or has left it when it was to start it. It sets c.promoted under the lock
//     and calls notify after it.
//   - AfterFunc's goroutine, for a receiver. It calls withdraw when ctx ends, perhaps
//     before the call takes part, and perhaps when it has its answer.
//   - leadQueued's goroutine, for a receiver or a DoMulti's key that has been promoted.
//     It runs the flight or, if ctx has ended, calls withdraw.
//   - The goroutine of the timer that a nested call has armed (deadlock.go). refuse makes
//     c leave with a *DeadlockError, and completes its turn or answers it.
//   - The goroutine of a DoMulti, for its listed keys: multi.leave makes them leave.
//
// So several goroutines may be about to answer c at once. The lock decides: leave does
// nothing if gone is set or the flight is finished, and finish does not find a caller
// that has left.
//
// When a caller leaves, code of contexts and hooks comes last: methods of ctx,
// functions that were registered with fn's context, and the Leave hook. It may block,
// call the group, or exit the goroutine. So leave first does all that other goroutines
// depend on: it gives up the seat, the place in the list and the edge, releases the
// lock, and hands a promoted flight on. Only then does afterLeaving run such code, and
// no other call waits.
//
// To add a form of call:
//  1. Begin with newCaller and arrive. A new wish belongs in admit, with its column in
//     the table there. Handle each verdict that arrive can return for that wish, like
//     DoContext, which has them all but ended: that one occurs only in DoChan. DoFresh
//     has no joins, as fresh never joins.
//  2. Have the call answered: by run, await, queue and immediate if it blocks, as in
//     DoContext; by a list and deliver if it does not, as in DoChan.
//  3. Locks, timers, goroutines and the clock come from internal/sched, so that the
//     explorer can take their place. User code runs outside of locks, and under guard
//     while the call takes part.
//  4. Add it to the lists of doc.go, and to the forms of the matrix, of the model and of
//     the explorer's programs.
//
// Invariants, true whenever the shard's lock is not held:
//  C1. A caller takes part in one flight at most: from arrive, or lead, until it has
//      left or the flight has finished. Until then flight.callers counts it.
//  C2. A caller is answered once at most: by an outcome that lingers, by an error on
//      arrival, by its flight's result, or, if it has left, by the error of its context or
//      a *DeadlockError. Only a call whose goroutine panics or exits in user code gets no
//      answer.
//  C3. While user code that may panic or exit runs on the goroutine of a caller that
//      takes part, guard is on the stack (or multi.announce, for a DoMulti): if the
//      goroutine exits, the caller leaves. An exit of the Start hook counts as an exit
//      of fn, so that hook needs no guard.
//  C4. A flight refers to a caller only if that is listed, and then it is on the heap.
//      The caller of a blocked call is on the stack of that call; queue lists a copy of
//      it.

// A caller is one call while it takes part in a flight. A key of a DoMulti has a caller
// only if the DoMulti does not lead its flight, or has left it.
type caller[K comparable, V any] struct {
	// Set before the call takes part, or in the critical section in which it begins to.
	shard   *shard[K, V]
	ctx     context.Context                  // nil for Do and TryDo
	done    <-chan struct{}                  // ctx.Done(); nil if ctx never ends
	fn      func(context.Context) (V, error) // nil for Do and TryDo
	edge    *edge                            // nil unless fn of a flight made the call
	ch      chan Result[V]                   // of a receiver
	stop    func() bool                      // of a receiver: stops AfterFunc; may be nil
	inline  bool                             // if it leads, fn runs on its goroutine
	ofMulti bool                             // it is a key of a DoMulti

	// Set by takeTurn: ctx.Err reported an end, even if done is not closed, or the call
	// has been refused. Read only on the goroutine that called takeTurn.
	mustLeave bool

	// Guarded by the shard's lock until the flight is finished (W3) or the caller has
	// left. Nothing changes them after that, but forgo sets gone, under the lock.
	flight   *flight[K, V]  // nil until the call takes part
	seat     seat           // where a blocked call waits
	listed   *caller[K, V]  // itself from list to unlist, else nil (see depart)
	leads    bool           // it leads; unset for a leader that runs fn itself and so cannot leave
	promoted bool           // pick chose it: must start the flight or leave
	gone     bool           // has left, or takes part in nothing, or exits (forgo)
	shared   bool           // set when it leaves: another call has taken part
	abandons *flightContext // that of its flight, if it has abandoned that

	links[*caller[K, V]] // in the flight's list; guarded by the lock, or by W3

	// Made in the critical section in which the caller is listed or, for a nested call,
	// takes its seat.
	turn      sched.Completion // of a blocked call: complete when pick has chosen it, or a look has refused it
	answered  sched.Completion // of a DoMulti's key: complete when it has its answer
	announced sched.Completion // of another listed call: complete when Join has returned

	// The answer of a call that takes part in nothing, set before arrive returns. err is
	// also that of a call which leaves because it waits for itself: leave sets it.
	lingerer *lingerer[K, V]
	err      error

	// Events for the hooks, made by note under the shard's lock; nil without hooks.
	joined *Event[K] // nil if the call leads at once
	left   *Event[K]
}

// newCaller returns a caller for a call of a form that has a context. It panics if ctx
// or fn is nil.
func newCaller[K comparable, V any](ctx context.Context, fn func(context.Context) (V, error)) caller[K, V] {
	must(ctx != nil, "context")
	must(fn != nil, "fn")
	return caller[K, V]{ctx: ctx, fn: fn}
}

// arrive decides whether c, which asks for key, takes part in a flight, and in which
// way. If the verdict is leads, joins or queues, c takes part, and arrive returns with
// c's shard locked. Otherwise c takes part in nothing; its answer is in lingerer or err,
// or, if the verdict is ended, has been sent by afterLeaving. No lock may be held before.
// arrive is the two steps below in one.
func (c *caller[K, V]) arrive(gs *groupState[K, V], key K, wants wish) verdict {
	h, reflexive, v := c.prepare(gs, key, wants)
	if v == open {
		v = c.enter(h, key, reflexive, wants)
	}
	return v
}

// prepare is the part of arrive that comes before the lock. If the verdict is open, enter
// must follow. A receiver begins to watch its ctx in between.
//
// Hash and the methods of ctx are user code. Everything that the decision needs of
// it runs here.
func (c *caller[K, V]) prepare(gs *groupState[K, V], key K, wants wish) (h uint64, reflexive bool, v verdict) {
	h, reflexive = gs.hash(key) // may panic, when nothing has been counted or begun
	if c.ctx != nil {
		if c.err = c.ctx.Err(); c.err != nil {
			gs.endedOnEntry.add(1)
			return h, reflexive, refused
		}
	}
	c.shard = gs.shard(h)
	if wants != fresh && gs.lingering != nil && c.lingering(h, key) {
		return h, reflexive, answered // no lock, no edge, and no Done channel that has to be made
	}
	if c.ctx != nil {
		c.done = c.ctx.Done()
		// A ctx that never ends lets the caller stay until fn has returned (G8).
		c.inline = c.done == nil && wants != fresh && c.ch == nil
		c.edge = nestedIn(c.ctx)
	}
	return h, reflexive, open
}

// enter is the part of arrive that comes after prepare. It locks c's shard.
func (c *caller[K, V]) enter(h uint64, key K, reflexive bool, wants wish) verdict {
	c.shard.mu.Lock()
	v := c.arriveLocked(h, key, reflexive, wants)
	if v == leads {
		c.lead(h, key)
	}
	return v
}

// arriveLocked is the part of arrive that needs the lock. c's shard must be locked. If
// the verdict is leads, joins or queues, it stays locked, and a call that leads has yet
// to register its flight, with lead or multi.register. Otherwise arriveLocked unlocks it.
func (c *caller[K, V]) arriveLocked(h uint64, key K, reflexive bool, wants wish) verdict {
	s := c.shard
	v := s.admit(c, h, key, reflexive, wants)
	switch v {
	case answered, withdrawn:
		c.gone = true // a receiver whose ctx ends later does not leave, nor answer again
		s.mu.Unlock()
	case refused:
		c.gone = true
		s.note(callRefused, nil, c)
		s.mu.Unlock()
		if c.err == ErrClosed {
			s.group.awaitClosed() // no shard may still accept a call
		}
	}
	return v
}

// lingering looks for an outcome that lingers for key, whose hash is h, makes it c's
// answer, and reports whether there is one. It takes no lock.
func (c *caller[K, V]) lingering(h uint64, key K) bool {
	c.lingerer = c.shard.hit(h, key)
	return c.lingerer != nil
}

// immediate returns the answer of a blocked call that takes part in nothing. It panics
// if Clone does. No lock may be held.
func (c *caller[K, V]) immediate() (v V, shared bool, err error) {
	if c.lingerer != nil {
		return c.shard.group.answer(c.lingerer)
	}
	return v, false, c.err
}

// lead registers a new flight for key, led by c, whose fn is to run on a goroutine of
// its own unless c.inline is set. It does not start fn. c's shard must be locked, and
// the key must have no flight.
func (c *caller[K, V]) lead(h uint64, key K) {
	s := c.shard
	if c.inline {
		c.flight = s.lead(h, key) // it cannot leave, so c.leads is not needed
		return
	}
	f := s.takeOwn()
	f.born = sched.Now()
	f.setOwn(c.ctx, c.fn)
	s.register(f, h, key)
	c.flight, c.leads = f, true
	s.note(callLed, f, c)
}

// run runs the flight that c, a blocked call, leads, and returns c's answer. It blocks
// until fn has returned or, if fn runs on a goroutine of its own, until c's context has
// ended. It is entered with c's shard locked and unlocks it.
func (c *caller[K, V]) run() (v V, shared bool, err error) {
	if c.inline {
		c.shard.mu.Unlock()
		return c.runInline(nil)
	}
	c.seat = c.flight.sit() // the leader waits like any follower, and can leave like one
	c.shard.mu.Unlock()
	c.flight.spawn()
	return c.await()
}

// runInline runs the flight that c leads on c's goroutine and returns c's answer. If fn
// is nil, c.fn is run, with c's own ctx, or with the values of the context that the Start
// hook has returned. No lock may be held.
func (c *caller[K, V]) runInline(fn func() (V, error)) (v V, shared bool, err error) {
	s, ctx := c.shard, c.ctx
	if fn == nil {
		fn = func() (V, error) { return c.fn(ctx) }
	}
	if s.group.hooks == nil {
		return s.runInline(c.flight, fn)
	}
	return s.runInline(c.flight, func() (V, error) {
		// The hook is called in here because its exit counts as one of fn.
		if returned := s.callStart(c.flight, ctx); returned != nil && ctx != nil {
			ctx = context.WithoutCancel(returned) // of which fn gets the values only
		}
		return fn()
	})
}

// announce calls the Join hook if c has joined a flight or is queued in one. The hook
// runs on the caller's goroutine before it waits. No lock may be held.
func (c *caller[K, V]) announce() {
	if c.joined != nil {
		c.guard(c.callJoin)
	}
}

// callJoin calls the Join hook for c. There must be hooks. It is called by announce,
// under guard, and by multi.announce.
func (c *caller[K, V]) callJoin() {
	if c.announced != nil {
		defer sched.Complete(c.announced) // before c is made to leave: afterLeaving waits for it
	}
	h := c.shard.group.hooks
	h.call(h.Join, c.ctx, c.joined)
}

// awaitAnnounced blocks until the hooks for the earlier steps of c have returned: Join,
// and Start if c leads. Another goroutine may be in one of them. No lock may be held.
func (c *caller[K, V]) awaitAnnounced() {
	if c.announced != nil {
		sched.Wait(c.announced)
	}
	if c.leads && c.flight.cold.story.started != nil {
		sched.Wait(c.flight.cold.story.started)
	}
}

// guard runs code, which calls user code while c takes part in a flight. If that panics
// or exits the goroutine, c leaves as if its context had ended, and the goroutine goes
// on panicking or exiting. If the flight has finished by then, a blocked call has its
// result all the same, but does not return it. No lock may be held.
func (c *caller[K, V]) guard(code func()) {
	normal := false
	defer func() {
		switch {
		case normal:
		// In place of c.ctx, which need not have ended and may be the code that failed.
		case c.withdraw(context.Background()):
			c.unwatch() // the flight does it only for callers in its list
		case c.turn != nil && c.err != nil: // a look has refused it
			c.afterLeaving(context.Background())
		case c.seat.done != nil:
			defer c.forgo() // last, as the log handler may exit the goroutine
			c.receive()     // deliver, or the DoMulti, does it for the others
		}
	}()
	code()
	normal = true
}

// await blocks until c's flight has finished or c's context has ended, and returns the
// answer. It panics if fn or Clone did. No lock may be held.
func (c *caller[K, V]) await() (v V, shared bool, err error) {
	if c.mustLeave || !sched.WaitEither(c.seat.done, c.done) {
		return c.awaitLeft()
	}
	c.edge.drop() // the fn that made the call waits no longer
	return c.result()
}

// awaitLeft is await for a call whose context has ended. If the flight had finished by
// then, it returns the result all the same (G5).
func (c *caller[K, V]) awaitLeft() (v V, shared bool, err error) {
	if !c.withdraw(c.ctx) {
		return c.result()
	}
	return v, c.shared, reasonOf(c.ctx)
}

// result returns the answer of a blocked call that stayed to the end of its flight, or
// that waited for itself and has been refused. It panics if fn or Clone did. No lock may
// be held.
func (c *caller[K, V]) result() (v V, shared bool, err error) {
	if c.err != nil { // refused by a look; see takeTurn
		c.afterLeaving(c.ctx)
		return v, c.shared, c.err
	}
	f, gs := c.flight, c.shard.group
	if f.outcome == rejected {
		gs.awaitClosed() // Shutdown may still be closing the other shards
	}
	c.receive()
	v, shared, err = f.result(gs.clone)
	f.giveBack() // c was the last to need the record, unless it is known (R1)
	return v, shared, err
}

// withdraw makes c leave its flight because ctx has ended, does everything that
// follows from that, and reports whether c has left. It does nothing if the flight has
// finished, as a result beats the end of a context. ctx is c.ctx, or Background if
// user code exited the goroutine. No lock may be held.
func (c *caller[K, V]) withdraw(ctx context.Context) bool {
	if !c.leave(nil) {
		return false
	}
	c.afterLeaving(ctx)
	return true
}

// depart counts c out of its flight, which must be unfinished. The last caller to leave a
// running flight abandons it, unless it is held. A caller that was picked to start a
// promoted flight hands it on. depart returns the caller to notify once the lock is
// released, or nil. s.mu must be held.
func (s *shard[K, V]) depart(c *caller[K, V]) *caller[K, V] {
	f := c.flight
	f.callers--
	if c.leads {
		f.leading = false
	}
	if c.listed != nil {
		// c.listed is c. With c itself here, the compiler would move every caller to
		// the heap: it cannot know that listed callers are there already.
		c.listed.unlist()
	}
	if c.seat.done != nil {
		if c.ofMulti {
			f.countSilent(c.seat, -1)
		}
		f.rise(c.seat)
	}
	c.shared = f.joined
	if c.err != nil {
		s.note(callRefused, f, c)
	} else {
		s.note(callLeft, f, c)
	}
	if !c.leads && c.edge != nil {
		f.cold.nested--
	}
	last, b := f.callers == 0, f.batch()
	if b != nil {
		last = b.depart() // true only if c abandons the whole batch
	}
	switch {
	case !last && f.state == promoted && c.promoted:
		return f.pick() // it was c's turn, and c has not started the flight
	case !last:
	case f.state != running:
		return s.evaporate(f) // no call is left that could start it
	case b != nil || f.context().abandon():
		s.note(flightAbandoned, f, nil)
		c.abandons = f.context() // afterLeaving cancels it, without the lock
	}
	return nil
}

// leave takes c out of its flight and reports whether it did. afterLeaving must follow
// if so. c leaves because its context has ended or, if refusal is not nil, because it
// waits for itself: the refusal is its answer then. No lock may be held.
//
// The lock decides which came first, the reason to leave or the end of the flight. The
// select in await cannot decide that: if both are ready, it picks either.
func (c *caller[K, V]) leave(refusal error) bool {
	s := c.shard
	s.mu.Lock()
	f := c.flight
	// f is nil if a receiver leaves before it takes part; admit then finds it gone.
	if c.gone || f != nil && f.state == finished {
		s.mu.Unlock()
		c.edge.drop()
		return false
	}
	var next *caller[K, V]
	c.gone, c.err = true, refusal
	if f != nil {
		next = s.depart(c)
	}
	s.mu.Unlock()
	next.notify()
	return true
}

// reason returns the error with which c, which has left, is answered. ctx is that of
// afterLeaving. Its methods may panic or exit.
func (c *caller[K, V]) reason(ctx context.Context) error {
	if c.err != nil {
		return c.err
	}
	return reasonOf(ctx)
}

// afterLeaving completes the leaving of c because ctx has ended. All of it may run user
// code, so it comes after leave (see above). No lock may be held.
func (c *caller[K, V]) afterLeaving(ctx context.Context) {
	defer c.answerLeft(ctx) // even if a method of ctx exits the goroutine
	c.cancelAbandoned(ctx)
}

// cancelAbandoned cancels the context of a flight that c has abandoned. It comes first:
// other calls may wait for that flight to end. No lock may be held.
func (c *caller[K, V]) cancelAbandoned(ctx context.Context) {
	switch {
	case c.abandons == nil:
	case c.err != nil:
		c.abandons.cancel(c.err)
	default:
		c.abandons.cancelAs(ctx)
	}
}

// answerLeft answers c if it is a receiver or a key of a DoMulti that has left, and calls
// the Leave hook. No lock may be held.
func (c *caller[K, V]) answerLeft(ctx context.Context) {
	defer c.callLeave()  // even if ctx.Err exits the goroutine
	if c.flight == nil { // a receiver that never took part: no step in a shard counts it
		c.shard.group.endedOnEntry.add(1)
	}
	switch {
	case c.answered != nil:
		sched.Complete(c.answered)
	case c.ch != nil:
		c.sendLeft(ctx)
	}
}

// callLeave calls the Leave hook for c, which has left. No lock may be held.
func (c *caller[K, V]) callLeave() {
	if h := c.shard.group.hooks; c.left != nil && h.Leave != nil {
		c.awaitAnnounced() // the hooks for one call are called in order
		h.call(h.Leave, c.ctx, c.left)
	}
}

// sendLeft sends the reason to c's channel, even if ctx.Err exits the goroutine.
func (c *caller[K, V]) sendLeft(ctx context.Context) {
	r := Result[V]{Err: context.Canceled, Shared: c.shared}
	defer func() { c.ch <- r }()
	r.Err = c.reason(ctx)
}
