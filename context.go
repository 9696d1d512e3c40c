package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the context that fn gets when it runs on a goroutine of the
// flight's own.
//
// Rejected: context.WithCancelCause(context.WithoutCancel(ctx)), which is three
// allocations before fn has asked for anything. A flightContext is one, and its
// Done channel is allocated when it is asked for.
//
// Rejected: a flightContext that is part of its flight's record, which is an
// allocation less. What fn has begun and does not wait for, a flight of its own
// among others, may hold the context for longer than anybody wants the result
// that the record holds.

// A flightContext carries the values of the leader's context and nothing else
// of it. It has no deadline, and it ends when the flight's last caller leaves or
// a Shutdown runs out of time, not because fn returned: what fn returns may
// still need it.
type flightContext struct {
	values context.Context // the leader's; set before the context is handed out

	mu       sched.Mutex      // guards what follows; may be taken under a shard's lock
	done     sched.Completion // nil until asked for
	canceled context.Context  // ended with our cause; nil before mark
	after    list[*afterFunc] // registered, not yet called

	// For the detection of deadlocks (see deadlock.go).
	finished sched.Bool                   // the flight has, or the batch is about to; set under its lock
	ahead    sched.Pointer[flightContext] // that of the flight in front of a queued one
	edges    list[*edge]                  // of the calls that fn waits for; guarded by graph

	waited int  // how many edges lead to this flight; guarded by graph
	behind bool // an edge has led to what was queued behind it; guarded by graph
}

// An afterFunc is a function to be called when a flightContext ends. A context that
// is derived from that one keeps it, though it has been stopped or called, and must
// not keep with it what else is in the list.
type afterFunc struct {
	fn func() // nil if it has been stopped or called
	links[*afterFunc]
}

// canceledKey is the private key under which package context asks a context
// for the standard cancelable context behind it. Answering it is the only way
// to make context.Cause right: passed on to the leader's context, the question
// would be answered with the leader's own end and cause.
var canceledKey = func() any {
	p := keyProbe{Context: context.Background()}
	_ = context.Cause(&p)
	return p.key
}()

// A keyProbe records the key that context.Cause asks an ended context for.
type keyProbe struct {
	context.Context
	key any
}

func (p *keyProbe) Err() error { return context.Canceled }

func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}

// Deadline implements [context.Context]. There is none: the flight goes on for
// as long as somebody wants it.
func (c *flightContext) Deadline() (deadline time.Time, ok bool) {
	return time.Time{}, false
}

// Done implements [context.Context].
func (c *flightContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = sched.NewCompletion()
	}
	c.settle()
	return c.done
}

// Err implements [context.Context].
func (c *flightContext) Err() error {
	if c.end() == nil {
		return nil
	}
	return context.Canceled
}

// Value implements [context.Context].
func (c *flightContext) Value(key any) any {
	switch key {
	case any(flightKey{}):
		return c
	case canceledKey:
		if end := c.end(); end != nil {
			return end.Value(key)
		}
		// Package context must not take the leader's for ours. With nil it
		// goes on to look for AfterFunc.
		return nil
	}
	return c.values.Value(key)
}

// String names the context where it is printed as the parent of another.
func (c *flightContext) String() string { return "coalesce.Flight" }

// end returns the standard context that ended with c's cause, or nil.
func (c *flightContext) end() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	return c.canceled
}

// settle closes Done if c has been marked: nobody may see that c has ended
// before that. c.mu must be held.
func (c *flightContext) settle() {
	if c.canceled != nil && c.done != nil && !sched.IsComplete(c.done) {
		sched.Complete(c.done)
	}
}

// AfterFunc arranges for fn to be called when c ends, by whom ends it, or on a
// goroutine of its own if c has ended.
// Package context looks for this method, so that a context derived from c is
// told of the end without a goroutine that waits for it. What it registers ends that
// context and those derived from it, and runs no other code; so these have ended
// when who canceled c goes on, as they would have with package context's own. It looks at the direct
// parent only: a context.WithValue in between costs the goroutine, as it does
// with every context that is not package context's own.
//
// Rejected: a standard context made at the first Done, which would spare that
// goroutine but make two more allocations for every fn that asks for Done.
func (c *flightContext) AfterFunc(fn func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled != nil {
		sched.Go(fn)
		return func() bool { return false }
	}
	a := &afterFunc{fn: fn}
	c.after.push(a)
	return func() bool { return c.stop(a) }
}

// stop takes a off the list and reports whether that kept it from being called.
func (c *flightContext) stop(a *afterFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled != nil || a.fn == nil {
		return false // c.canceled comes first: after that, a belongs to tell
	}
	c.after.remove(a)
	a.fn = nil
	return true
}

// ending reports whether c has been marked.
func (c *flightContext) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canceled != nil
}

// endedBy returns a standard context that has ended with the given cause.
func endedBy(cause error) context.Context {
	end, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return end
}

// cancel ends c with the given cause. Only the first cancel or mark has an
// effect. No lock may be held.
func (c *flightContext) cancel(cause error) {
	if c.mark(endedBy(cause)) {
		c.tell()
	}
}

// cancelAs cancels c with the cause of ctx, or, if a method of ctx panics or exits, with
// context.Canceled. No lock may be held.
func (c *flightContext) cancelAs(ctx context.Context) {
	cause := context.Canceled
	defer func() { c.cancel(cause) }()
	cause = context.Cause(ctx)
}

// mark makes c end as the given context has, and reports whether it did: then
// tell must be called. It wakes nobody, so that a shard's lock may be held: what
// ends a flight's context has to be decided while the flight is unfinished.
func (c *flightContext) mark(end context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled != nil {
		return false
	}
	c.canceled = end
	return true
}

// markUnfinished is mark, but does nothing once c's flight, or any flight of its batch,
// has finished: a caller that has its result may have seen that c had not ended. (The
// lock of another flight's shard is no help against that, c.mu is: a caller that looks
// at c after this has looked at finished sees that c has ended.)
func (c *flightContext) markUnfinished(end context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled != nil || c.finished.Load() {
		return false
	}
	c.canceled = end
	return true
}

// tell wakes those who wait for the end of c, which has been marked. No lock
// may be held.
func (c *flightContext) tell() {
	c.mu.Lock()
	c.settle()
	a := c.after.first
	c.after = list[*afterFunc]{}
	c.mu.Unlock()
	for a != nil {
		fn, next := a.fn, a.next
		*a = afterFunc{}
		fn()
		a = next
	}
}
