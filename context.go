package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the context that fn gets when it runs on a goroutine of the flight's
// own. It ends in two steps:
//
//	mark       sets end. A shard's lock may be held. From here on Done, Err and
//	           Value report the end. Each of them first closes the Done channel, if there
//	           is one (settle), so that no goroutine can learn of the end and find it open.
//	propagate  closes the Done channel and calls the functions that AfterFunc registered,
//	           with no lock held.
//
// Rejected: context.WithCancelCause(context.WithoutCancel(ctx)), which makes three
// allocations before fn asks for anything. A flightContext is one allocation, and its
// Done channel is allocated when it is asked for.
//
// Rejected: a flightContext that is part of its flight's record. It would save an
// allocation. But work that fn has begun and does not wait for, such as a flight of its
// own, may hold the context for longer than any caller needs the result, which the
// record holds.

// A flightContext is the context of a flight, or of a batch. It has the values of the
// leader's context, but neither its deadline nor its end. It ends when the last caller of
// the flight, or of the whole batch, leaves, unless that is held (hold.go), or when a
// Shutdown runs out of time. It does not end because fn returns: the value that fn
// returns may still need it, unless no call gets that value.
type flightContext struct {
	// values is the leader's context. It is set before fn gets this one. callStartOwn
	// replaces it just before fn runs, on the goroutine that runs fn, by the context that
	// the Start hook returns.
	values context.Context

	settling sched.Mutex // held to close the Done channel; no other lock is taken under it

	mu    sched.Mutex      // guards the fields from done to gone, and edges
	done  sched.Completion // nil until Done is called
	end   context.Context  // has ended, with the cause of c's end; nil until mark
	after list[*afterFunc] // the functions that are registered and not yet called
	held  bool             // Hold was called (hold.go); never reset
	gone  sched.Bool       // the flight, or the batch, is abandoned; never reset; read without mu, too

	// finished is set under the shard's lock when the flight finishes. For a batch,
	// conclude sets it before the first of its flights finishes.
	finished sched.Bool

	// The fields below serve the detection of deadlocks (deadlock.go), as finished does.

	awaited sched.Bool // an edge has led to this flight, or to one queued behind it

	// ahead is the context of the flight that this one is queued behind; nil if that has
	// none, or if this one is not queued. It is written under the shard's lock.
	ahead sched.Pointer[flightContext]

	edges list[*edge] // from this flight: of calls that fn has made; guarded by mu
}

// An afterFunc is a function to be called when a flightContext ends. A context that is
// derived from the flightContext may keep it after it was stopped or called. By then it
// refers neither to the function nor to the rest of the list.
type afterFunc struct {
	fn func() // nil if it has been stopped or called
	links[*afterFunc]
}

// canceledKey is the private key with which package context asks a context for the
// standard cancelable context behind it. context.Cause is right only if flightContext
// answers this key itself. If it passed the key on to the leader's context, the answer
// would be the end of that context, and its cause.
var canceledKey = func() any {
	p := keyProbe{Context: context.Background()}
	_ = context.Cause(&p)
	return p.key
}()

// A keyProbe is a context that has ended and records the last key it was asked for.
type keyProbe struct {
	context.Context
	key any
}

func (p *keyProbe) Err() error { return context.Canceled }

func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}

// Deadline implements [context.Context]. There is no deadline: the flight goes on for as
// long as a call waits for it.
func (c *flightContext) Deadline() (deadline time.Time, ok bool) {
	return time.Time{}, false
}

// Done implements [context.Context]. The channel is made at the first call.
func (c *flightContext) Done() <-chan struct{} {
	c.mu.Lock()
	if c.done == nil {
		c.done = sched.NewCompletion()
	}
	done, end := c.done, c.end
	c.mu.Unlock()
	if end != nil {
		c.settle(done)
	}
	return done
}

// Err implements [context.Context]. It returns [context.Canceled] once c has ended, and
// [context.Cause] returns the cause.
func (c *flightContext) Err() error {
	if c.endedAs() == nil {
		return nil
	}
	return context.Canceled
}

// Value implements [context.Context]. It answers two private keys itself: that of this
// package, which asks for the flight, and that of package context.
func (c *flightContext) Value(key any) any {
	switch key {
	case any(flightKey{}):
		return c
	case canceledKey:
		if end := c.endedAs(); end != nil {
			return end.Value(key)
		}
		// The leader's context must not answer in place of c. After nil, package
		// context looks for AfterFunc next.
		return nil
	}
	return c.values.Value(key)
}

// String returns the name that a derived context prints for its parent.
func (c *flightContext) String() string { return "coalesce.Flight" }

// endedAs returns the standard context that has ended with c's cause, or nil if c has not
// ended. c.mu must not be held.
func (c *flightContext) endedAs() context.Context {
	c.mu.Lock()
	done, end := c.done, c.end
	c.mu.Unlock()
	if end != nil {
		c.settle(done)
	}
	return end
}

// settle closes done, the Done channel of c, which has been marked, unless done is nil or
// closed. The goroutine that has marked c may not have come to that. c.mu must not be
// held: it takes long to close a channel on which many goroutines wait, and calls that fn
// has made take c.mu under the lock of a shard.
func (c *flightContext) settle(done sched.Completion) {
	if done == nil || sched.IsComplete(done) {
		return
	}
	c.settling.Lock()
	defer c.settling.Unlock()
	if !sched.IsComplete(done) {
		sched.Complete(done)
	}
}

// AfterFunc registers fn to be called when c ends, on the goroutine that ends c. If c has
// ended already, AfterFunc starts fn on a new goroutine. stop reports whether it has kept
// fn from being called.
//
// Package context looks for this method, so that a context derived from c ends with c
// without a goroutine that waits for c. The function that it registers ends the derived
// context and those derived from that, and runs no other code. So all of these have ended
// when cancel returns, as they would with a parent of package context's own.
//
// Package context looks for the method in the direct parent only. If there is a
// context.WithValue in between, it starts the goroutine, as it does for every context
// that is not its own.
//
// Rejected: a standard context that is made at the first Done. It would save that
// goroutine, but cost two more allocations for every fn that asks for Done.
func (c *flightContext) AfterFunc(fn func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		sched.Go(fn)
		return func() bool { return false }
	}
	a := &afterFunc{fn: fn}
	c.after.push(a)
	return func() bool { return c.stop(a) }
}

// stop takes a off the list and reports whether it has kept a's function from being
// called.
func (c *flightContext) stop(a *afterFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || a.fn == nil {
		return false // after mark, a.fn belongs to the goroutine that has marked c
	}
	c.after.remove(a)
	a.fn = nil
	return true
}

// endedBy returns a context of package context that has ended with the given cause.
func endedBy(cause error) context.Context {
	end, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return end
}

// cancel ends c with the given cause, and calls the functions that AfterFunc registered.
// It does nothing if c has been marked before. No lock may be held.
func (c *flightContext) cancel(cause error) {
	if c.mark(endedBy(cause)) {
		c.propagate()
	}
}

// cancelAs cancels c with the cause of ctx. If a method of ctx panics or exits, it
// cancels c with context.Canceled, and the panic or exit goes on. No lock may be held.
func (c *flightContext) cancelAs(ctx context.Context) {
	cause := context.Canceled
	defer func() { c.cancel(cause) }()
	cause = context.Cause(ctx)
}

// mark makes c end with the cause of the given context, which has ended, and reports
// whether it did: it does nothing if c has been marked before. If it did, its caller must
// take the second step. mark wakes no goroutine, so that a shard's lock may be held.
func (c *flightContext) mark(end context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return false
	}
	c.end = end
	return true
}

// markUnfinished is mark, but does nothing once c's flight, or any flight of its batch,
// has finished. The context of a result that a caller has must not end because of a
// Shutdown.
//
// The lock of the flight's shard, which the caller holds, keeps that flight from
// finishing, but not the other flights of its batch. c.mu serves for these. A caller that
// has a result and calls Done or Err takes c.mu, too. If it takes c.mu first, finished is
// set by then, and markUnfinished does nothing. If it takes c.mu later, it finds that c
// has ended.
func (c *flightContext) markUnfinished(end context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil || c.finished.Load() {
		return false
	}
	c.end = end
	return true
}

// propagate closes the Done channel of c, which has been marked, and calls the functions that
// are registered. Only the goroutine whose mark has succeeded calls it. No lock may be
// held.
func (c *flightContext) propagate() {
	c.mu.Lock()
	done, a := c.done, c.after.first
	c.after = list[*afterFunc]{}
	c.mu.Unlock()
	c.settle(done)
	for a != nil {
		fn, next := a.fn, a.next
		*a = afterFunc{} // a derived context may keep a, and must keep nothing with it
		fn()
		a = next
	}
}
