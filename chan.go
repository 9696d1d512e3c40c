package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// DoChan is like [Group.DoContext] but does not block: it returns a channel
// that receives exactly one Result and is never closed. The channel has room
// for the Result, so nobody has to receive it.
//
// If the call leads, fn runs on a goroutine of the flight's own, even if ctx
// can never end. ctx governs the call as in DoContext: when it ends first, the
// Result holds its error, and the last call to leave cancels fn's context. A
// panic of fn is in Result.Err as a *[PanicError], a Goexit as [ErrGoexit];
// neither ends the process. With Clone set, each receiver's clone is made on a
// goroutine of its own.
//
// DoChan panics if ctx or fn is nil. Each call allocates its channel, with the
// room in it, an entry in the flight and, if ctx can end, what
// [context.AfterFunc] does; one that leads also the flight, fn's context and
// the goroutine.
func (g *Group[K, V]) DoChan(ctx context.Context, key K, fn func(context.Context) (V, error)) <-chan Result[V] {
	c := new(caller[K, V])
	*c = newCaller[K](ctx, fn)
	c.ch = make(chan Result[V], 1)
	// Watching begins before the call takes part: AfterFunc is code of the
	// context's and cannot be called under the lock, and finish must find
	// stop set. leave copes with a context that ends in between.
	watch := func() {
		if c.done != nil {
			c.stop = sched.AfterFunc(ctx, func() { c.withdraw(ctx) })
		}
	}
	switch c.arrive(g.use(), key, anything, watch) {
	case leads:
		c.list()
		c.shard.unlock(c.edge)
		c.flight.spawn()
	case joins, queues:
		c.list()
		c.shard.unlock(c.edge)
		c.announce()
	case answered, refused:
		c.sendImmediate()
		c.unwatch()
	}
	return c.ch
}

// sendImmediate sends the answer of a receiver that takes part in nothing. No lock may
// be held.
func (c *caller[K, V]) sendImmediate() {
	if c.success == nil {
		c.ch <- Result[V]{Err: c.err}
		return
	}
	c.send(c.shard.group.clone, Result[V]{Val: c.success.val, Shared: true})
}

// deliver answers c, which was listed in a flight that has finished, unless it is a
// blocked call: closing the completion of its seat wakes that. No lock may be held.
func (c *caller[K, V]) deliver(clone func(V) V) {
	if c.turn != nil {
		return
	}
	c.edge.drop()
	if c.answered != nil {
		sched.Complete(c.answered)
		return
	}
	f := c.flight
	if !f.clones(clone) {
		clone = nil
	}
	c.send(clone, Result[V]{f.val, f.err, f.joined})
}

// send sends r to c's channel, with a clone of the value if clone is not nil. Clone may
// panic, exit or take its time, so it runs on a goroutine of this receiver's own.
func (c *caller[K, V]) send(clone func(V) V, r Result[V]) {
	if clone == nil {
		c.ch <- r
		return
	}
	ch := c.ch
	sched.Go(func() {
		sent := Result[V]{Err: ErrGoexit, Shared: r.Shared}
		defer func() { ch <- sent }()
		sent, _ = cloned(clone, r)
	})
}

// unwatch stops watching the context of c, which has been answered. It may run code of
// the context's, which may block, so all other callers are answered before. No lock
// may be held.
func (c *caller[K, V]) unwatch() {
	if c.stop != nil {
		c.stop()
	}
}
