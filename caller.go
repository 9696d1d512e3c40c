package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds a call from when it arrives until it is answered, or leaves. All
// forms of call are callers, and differ in how they are answered:
//
//	a blocked call   waits on its seat's completion, and on turn if it is queued
//	a receiver       gets a Result through ch; its context is watched
//	a DoMulti's key  waits on its seat's completion, or on answered if it is queued
//
// A plain follower of Do is a caller only while it arrives: what the flight keeps of
// it is a count.
//
// Invariants, true whenever the shard's lock is not held:
//  C1. A caller takes part in one flight at most: from arrive, or lead, until it
//      has left or the flight has finished. It is then counted in flight.callers.
//  C2. A caller is answered once: with a success that lingers, with an error on
//      arrival, with its flight's result, or, if gone is set, with its context's
//      error.
//  C3. While user code that may panic or exit runs on the goroutine of a caller that
//      takes part, guard is on the stack: if the goroutine exits, the caller leaves.
//      An exit of the Start hook counts as fn's, so that one needs no guard.
//  C4. A caller that is listed in a flight is on the heap. Others, on a blocked
//      call's stack, are never stored.

// A caller is one call while it takes part in a flight. The key of a DoMulti has one
// unless the DoMulti leads its flight.
type caller[K comparable, V any] struct {
	// Set before the call takes part.
	shard  *shard[K, V]
	ctx    context.Context                  // nil for Do and TryDo
	done   <-chan struct{}                  // ctx.Done(), asked for once; nil if it never ends
	fn     func(context.Context) (V, error) // nil for Do and TryDo
	edge   *edge                            // nil unless fn of another flight made the call
	ch     chan Result[V]                   // a receiver's
	stop   func() bool                      // a receiver's: stops watching ctx; nil if ctx never ends
	inline bool                             // fn runs on the caller's goroutine

	ended bool // a queued call's ctx says that it has ended, whatever done does

	// Guarded by the shard's lock until the flight is finished (W3).
	flight   *flight[K, V]
	seat     seat          // where a blocked call waits
	listed   *caller[K, V] // itself if it is listed: so the compiler keeps others on the stack
	leads    bool
	promoted bool // handed the flight: must start it, or leave
	gone     bool // has left, or takes part in nothing
	abandons bool // was the last to leave while fn ran
	shared   bool // set as it leaves: another call took part

	links[*caller[K, V]] // in the flight's list; guarded likewise

	turn      sched.Completion // a queued blocked call's: complete when it is promoted
	answered  sched.Completion // a queued key's of a DoMulti: complete when it is answered
	announced sched.Completion // of two of these with hooks: complete when Join has returned

	// The answer of a call that took part in nothing.
	success *success[K, V]
	err     error

	// For hooks.
	joined *Event[K] // nil if it leads at once
	left   *Event[K]
}

// newCaller returns a caller for a call of a form that has a context.
func newCaller[K comparable, V any](ctx context.Context, fn func(context.Context) (V, error)) caller[K, V] {
	if ctx == nil || fn == nil {
		panicNil(ctx == nil)
	}
	return caller[K, V]{ctx: ctx, fn: fn}
}

// arrive decides what becomes of c, which asks for key. If the verdict is that it
// leads, joins or queues, c takes part in its flight, and arrive returns with c's shard
// locked. Otherwise c has its answer. Before c can take part, arrive calls watch, if
// that is not nil. No lock may be held.
func (c *caller[K, V]) arrive(gs *groupState[K, V], key K, wants wish, watch func()) verdict {
	h, reflexive := gs.hash(key)
	c.shard = gs.shard(h)
	if c.ctx != nil {
		if c.err = c.ctx.Err(); c.err != nil {
			gs.ended.Inc()
			return refused
		}
		c.done = c.ctx.Done()
		c.inline = c.done == nil && wants != fresh && c.ch == nil
	}
	if wants != fresh && c.lingering(key) {
		return answered
	}
	if c.ctx != nil {
		c.edge = nestedIn(c.ctx)
	}
	if watch != nil {
		watch()
	}
	c.shard.lock(c.edge)
	v := c.arriveLocked(h, key, reflexive, wants)
	if v == leads {
		c.lead(h, key)
	}
	return v
}

// arriveLocked is arrive for a call that has passed that far, with its shard locked. If
// the verdict is that it leads, it has yet to.
func (c *caller[K, V]) arriveLocked(h uint64, key K, reflexive bool, wants wish) verdict {
	s := c.shard
	v := s.admit(c, h, key, reflexive, wants)
	switch v {
	case answered, ended:
		c.gone = true
		s.unlock(c.edge)
	case refused:
		c.gone = true
		s.note(callRefused, nil, c)
		s.unlock(c.edge)
		if c.err == ErrClosed {
			s.group.awaitClosed() // no shard may still accept a call
		}
	}
	return v
}

// lingering makes a success that lingers for key c's answer, and reports whether there
// is one. It takes no lock.
func (c *caller[K, V]) lingering(key K) bool {
	if l := c.shard.group.lingering; l != nil {
		c.success = l.hit(key)
	}
	return c.success != nil
}

// immediate returns the answer of a blocked call that takes part in nothing.
func (c *caller[K, V]) immediate() (v V, shared bool, err error) {
	if c.success != nil {
		return c.shard.group.answer(c.success)
	}
	return v, false, c.err
}

// lead makes c lead a new flight for key, whose fn runs on a goroutine of its own
// unless c.inline is set. c's shard must be locked, and the key have no flight.
func (c *caller[K, V]) lead(h uint64, key K) {
	s := c.shard
	if c.inline {
		c.flight = s.lead(h, key)
		return
	}
	f := s.takeOwn(nil)
	f.born = sched.Now()
	f.setOwn(c.ctx, c.fn)
	s.register(f, h, key)
	c.flight, c.leads = f, true
	s.note(callLed, f, c)
}

// run runs the flight that c, a blocked call, leads, and returns c's answer. It is
// entered with c's shard locked and unlocks it.
func (c *caller[K, V]) run() (v V, shared bool, err error) {
	if c.inline {
		c.shard.unlock(c.edge)
		return c.runInline(nil)
	}
	c.seat = c.flight.sit()
	c.shard.unlock(c.edge)
	c.flight.spawn()
	return c.await()
}

// runInline runs the flight that c leads on c's goroutine. fn is c.fn if it is nil. No
// lock may be held.
func (c *caller[K, V]) runInline(fn func() (V, error)) (v V, shared bool, err error) {
	if fn == nil {
		fn = func() (V, error) { return c.fn(c.ctx) }
	}
	return c.shard.runInline(c.flight, fn)
}

// announce calls the hook for c's joining or being queued. No lock may be held.
func (c *caller[K, V]) announce() {
	if c.joined == nil {
		return
	}
	c.guard(func() {
		if c.announced != nil {
			defer sched.Complete(c.announced)
		}
		h := c.shard.group.hooks
		h.tell(h.Join, c.joined)
	})
}

// awaitAnnounced waits until the hooks for what c did before have returned. No lock
// may be held.
func (c *caller[K, V]) awaitAnnounced() {
	if c.announced != nil {
		sched.Wait(c.announced)
	}
	if c.leads && c.shard.group.hooks != nil {
		sched.Wait(c.flight.cold.story.started)
	}
}

// guard calls user code while c takes part in a flight. If that panics or exits the
// goroutine, c leaves, as if its context had ended. No lock may be held.
func (c *caller[K, V]) guard(code func()) {
	normal := false
	defer func() {
		if !normal && c.withdraw(context.Background()) {
			c.unwatch()
		}
	}()
	code()
	normal = true
}

// await blocks until c's flight has finished or its context has ended, and returns
// the answer. No lock may be held.
func (c *caller[K, V]) await() (v V, shared bool, err error) {
	if c.ended || !sched.WaitEither(c.seat.done, c.done) {
		return c.withdrawn()
	}
	c.edge.drop()
	return c.result()
}

// withdrawn is await for a call whose context has ended.
func (c *caller[K, V]) withdrawn() (v V, shared bool, err error) {
	if !c.withdraw(c.ctx) {
		return c.result()
	}
	return v, c.shared, reasonOf(c.ctx)
}

// result returns the answer of a blocked call that stayed to the end of its flight.
// It panics if fn did. No lock may be held.
func (c *caller[K, V]) result() (v V, shared bool, err error) {
	f, gs := c.flight, c.shard.group
	if f.outcome == rejected {
		gs.awaitClosed()
	}
	v, shared, err = f.result(gs.clone)
	gs.giveBack(f)
	return v, shared, err
}

// withdraw makes c leave its flight, because the given context has ended, and does
// all that follows. It reports whether c has left: a flight that has finished has a
// result, which beats the end of a context. No lock may be held.
func (c *caller[K, V]) withdraw(ctx context.Context) bool {
	if !c.leave() {
		return false
	}
	c.afterLeaving(ctx)
	return true
}

// depart counts c out of its flight, which is unfinished: the last to leave a running
// flight abandons it, one that was to start a promoted flight hands it on. It returns
// the caller to notify once the lock is released, or nil. s.mu must be held.
func (s *shard[K, V]) depart(c *caller[K, V]) *caller[K, V] {
	f := c.flight
	f.callers--
	if c.leads {
		f.leading = false
	}
	if c.listed != nil {
		c.listed.unlist()
	}
	if c.seat.done != nil {
		f.rise(c.seat)
	}
	c.shared = f.joined
	s.note(callLeft, f, c)
	last, b := f.callers == 0, f.batch()
	if b != nil {
		last = b.leave()
	}
	switch {
	case !last && f.state == promoted && c.promoted:
		return f.hand()
	case !last:
	case f.state != running:
		return s.evaporate(f)
	default:
		s.note(flightAbandoned, f, nil)
		c.abandons = true
	}
	return nil
}

// leave takes c out of its flight, and reports whether it did. Which came first, the
// end of c's context or that of the flight, is decided under the lock; the select in
// await cannot tell when it sees both. afterLeaving has to follow. No lock may be held.
func (c *caller[K, V]) leave() bool {
	s := c.shard
	s.lock(c.edge)
	f := c.flight
	if c.gone || f != nil && f.state == finished {
		c.edge.remove()
		s.unlock(c.edge)
		return false
	}
	var next *caller[K, V]
	if c.gone = true; f != nil {
		next = s.depart(c)
	}
	s.unlock(c.edge)
	next.notify()
	return true
}

// afterLeaving does what is due when c has left: it cancels the context of a flight
// that is now abandoned, answers a receiver, and calls the hook. It runs code of the
// context's, which may take its time and therefore comes after the leaving.
func (c *caller[K, V]) afterLeaving(ctx context.Context) {
	if c.abandons {
		c.flight.context().cancelAs(ctx)
	}
	if c.flight == nil {
		c.shard.group.ended.Inc()
	}
	switch {
	case c.answered != nil:
		sched.Complete(c.answered)
	case c.ch != nil:
		c.ch <- Result[V]{Err: reasonOf(ctx), Shared: c.shared}
	}
	if c.left != nil {
		c.awaitAnnounced()
		h := c.shard.group.hooks
		h.tell(h.Leave, c.left)
	}
}
