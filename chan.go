package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds DoChan and the delivery of its results. A call of DoChan, a receiver,
// takes part until it is answered, although DoChan has returned and no goroutine of its
// own waits. So it is listed in its flight, and others act for it: the goroutine that
// ends the flight, or the one that the end of ctx starts. Which of the two answers is
// decided under the shard's lock:
//
//	DoChan             ctx ends                       the flight finishes
//	------             --------                       -------------------
//	watch ctx
//	lock               lock                           lock
//	  admit, list        finished? then do nothing      set the outcome
//	unlock               set gone, leave the flight     take the list, without c if gone
//	call Join          unlock                         unlock
//	return ch          send the error of ctx          send the result to all on the list
//	                   call Leave                     stop watching their contexts
//
// ctx may also end between the watch and the admission. Then the call is gone before it
// takes part, and the goroutine that saw ctx end sends the answer.
//
// If ctx cannot end, a call that joins a running flight cannot leave it either. Without
// hooks, and if no fn made the call, its channel is all that is needed to answer it. It is
// then a bare receiver: its flight has no caller in its list for it, but only the channel,
// in a list of its own. Of the 168 bytes that a bare receiver takes if there are many, the
// channel has 160; any other takes 352 (with a V of two words, see TestMemory_Receiver).

// DoChan is like [Group.DoContext] but does not wait: it returns a channel that
// receives exactly one Result and is never closed. The channel has room for the
// Result, so the caller need not receive it. If ctx has ended on entry, if the
// call is refused (ErrClosed, ErrSaturated), or if an outcome that lingers
// answers it and Clone is nil, the Result is in the channel when DoChan returns.
//
// If the call leads, fn runs on a goroutine of the flight's own, even if ctx
// can never end. ctx governs the call as in DoContext: if it ends before the
// flight does, the Result holds its error, and the last call to leave cancels
// fn's context. A caller that no longer wants the Result must end ctx; not
// receiving is not leaving.
//
// If fn panics, Result.Err is a *[PanicError]; if it calls [runtime.Goexit],
// Result.Err is [ErrGoexit]. Neither ends the process. As the Result may never be
// received, a panic is also logged to [log/slog.Default] at error level, unless a
// call that blocks has joined the flight and panics with it. All other errors are
// in Result.Err, too. With Clone set, each receiver's clone is made on a goroutine
// of its own. DoChan panics if ctx or fn is nil, or if key holds a dynamic type
// that is not comparable.
//
// For allocations, see “Cost” in the package documentation.
func (g *Group[K, V]) DoChan(ctx context.Context, key K, fn func(context.Context) (V, error)) <-chan Result[V] {
	c := newCaller[K](ctx, fn)
	c.ch = make(chan Result[V], 1)
	gs := g.use()
	h, reflexive, v := c.prepare(gs, key, anything)
	if v == open && c.done == nil && c.edge == nil && gs.hooks == nil {
		v = c.enter(h, key, reflexive, anything)
		if v == joins {
			c.flight.listBare(c.ch)
			c.shard.mu.Unlock()
			return c.ch
		}
	}
	kept := new(caller[K, V])
	*kept = c
	kept.listen(h, key, reflexive, v)
	return c.ch
}

// listen is DoChan for a call of which its flight may need more than the channel. v is
// the verdict so far. If it is leads, joins or queues, c's shard is locked, and listen
// unlocks it.
func (c *caller[K, V]) listen(h uint64, key K, reflexive bool, v verdict) {
	if v == open {
		// The watch begins before the call takes part, for two reasons: AfterFunc may run
		// code of the context's, which must not run under the lock; and the goroutine that
		// ends the flight must find c.stop set. If ctx ends in between, leave finds a call
		// that has no flight yet, and admit then finds that call gone.
		if c.done != nil {
			c.stop = sched.AfterFunc(c.ctx, func() { c.withdraw(c.ctx) })
		}
		v = c.enter(h, key, reflexive, anything)
	}
	switch v {
	case leads:
		c.list()
		c.shard.mu.Unlock()
		c.flight.spawn()
	case joins, queues:
		c.list()
		c.armLook()
		c.shard.mu.Unlock()
		c.announce()
	case answered, refused:
		c.sendImmediate()
		c.unwatch()
	}
}

// bareReceivers are up to perCompletion bare receivers of a flight. Each list has room for
// twice as many as the one before, up to that number, and is not copied to grow.
type bareReceivers[V any] struct {
	channels []chan Result[V]
	before   *bareReceivers[V]
}

// listBare adds a bare receiver with channel ch to f. The shard's lock must be held.
func (f *flight[K, V]) listBare(ch chan Result[V]) {
	c := f.extend()
	if b := c.bare; b == nil || len(b.channels) == cap(b.channels) {
		room := 4
		if b != nil {
			room = min(2*cap(b.channels), perCompletion)
		}
		c.bare = &bareReceivers[V]{make([]chan Result[V], 0, room), b}
	}
	c.bare.channels = append(c.bare.channels, ch)
}

// sendBare sends the result of f, which has finished, to some of its bare receivers. s is
// its shard. No lock may be held.
func (s *shard[K, V]) sendBare(f *flight[K, V], channels []chan Result[V]) {
	r, clone := Result[V]{f.val, f.err, f.joined}, s.group.clone
	if !f.clones(clone) {
		clone = nil
	}
	for _, ch := range channels {
		if clone == nil {
			ch <- r
			continue
		}
		c := &caller[K, V]{shard: s, ch: ch}
		c.send(f.key, clone, r)
	}
}

// sendImmediate sends the answer of a receiver that takes part in no flight. No lock may
// be held.
func (c *caller[K, V]) sendImmediate() {
	if c.lingerer == nil {
		c.ch <- Result[V]{Err: c.err}
		return
	}
	clone := c.shard.group.clone
	if !c.lingerer.clones(clone) {
		clone = nil
	}
	c.send(c.lingerer.key, clone, c.lingerer.result())
}

// deliver answers c, which was listed in a flight that has finished. It does nothing for
// a blocked call that was queued, which is woken by the completion of its seat. A key of
// a DoMulti is woken, and the DoMulti reads the result. A receiver is sent the result,
// and deliver reports whether it has been sent by now. The caller's edge is removed
// first: a call that has its answer must not be found waiting. No lock may be held.
func (c *caller[K, V]) deliver(clone func(V) V) (sent bool) {
	if c.turn != nil {
		return false
	}
	c.edge.drop()
	if c.answered != nil {
		sched.Complete(c.answered)
		return false
	}
	f := c.flight
	if !f.clones(clone) {
		clone = nil
	}
	c.send(f.key, clone, Result[V]{f.val, f.err, f.joined})
	return clone == nil
}

// send sends r to c's channel, with a clone of the value if clone is not nil. Clone may
// panic, exit its goroutine or take its time, and other callers wait behind c in the
// list: so it runs on a goroutine of this receiver's own, and so does then the Receive
// hook. If Clone exits, the receiver gets ErrGoexit. key is the one that c asked for.
func (c *caller[K, V]) send(key K, clone func(V) V, r Result[V]) {
	if clone == nil {
		c.ch <- r
		return
	}
	sched.Go(func() {
		var e *PanicError
		defer func() {
			if e != nil { // last, as the log handler may exit the goroutine
				c.shard.logClone(e, key)
			}
		}()
		defer c.receiveAnnounced()
		sent := Result[V]{Err: ErrGoexit, Shared: r.Shared}
		defer func() { c.ch <- sent }()
		sent, e = cloned(clone, r)
	})
}

// unwatch stops watching the context of c, which has been answered. It may run code of
// the context's, which may block. Therefore all other callers of the flight are answered
// before it is called. No lock may be held.
func (c *caller[K, V]) unwatch() {
	if c.stop != nil {
		c.stop()
	}
}
