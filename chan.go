package coalesce

import (
	"context"
	"runtime/pprof"

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
	if ctx == nil || fn == nil {
		panicNil(ctx == nil)
	}
	gs := g.use()
	h, reflexive := gs.hash(key)
	ch := make(chan Result[V], 1)
	if err := ctx.Err(); err != nil {
		gs.ended.Inc()
		ch <- Result[V]{Err: err}
		return ch
	}
	if gs.lingering != nil {
		if p := gs.lingering.get(key); p != nil {
			gs.send(ch, p)
			return ch
		}
	}
	s := gs.shard(h)
	e := nestedIn(ctx)
	r := &entry[K, V]{shard: s, ch: ch, ctx: ctx, fn: fn, edge: e}
	if ctx.Done() != nil {
		// Watching begins before the call takes part: AfterFunc is code of the
		// context's and cannot be called under the lock, and finish must find
		// stop set. leave copes with a context that ends in between.
		r.stop = sched.AfterFunc(ctx, r.leave)
	}
	s.lock(e)
	if r.gone { // ctx ended just now; leave has sent its error
		s.unlock(e)
		return ch
	}
	a := s.admit(h, key, reflexive, anything, e)
	switch a.verdict {
	case leads:
		f := s.takeOwn(nil)
		f.known = true
		s.leadOwn(f, h, key)
		f.setOwn(ctx, fn)
		f.cold.addEntry(r)
		r.flight, r.promoted = f, true
		if s.group.hooks != nil {
			r.announced = sched.NewCompletion()
		}
		point(e, f)
		s.unlock(e)
		r.launch(f)
	case joins:
		a.flight.extend().addEntry(r)
		r.flight = a.flight
		if r.event = a.event; r.event != nil {
			r.announced = sched.NewCompletion()
		}
		point(e, r.flight)
		s.unlock(e)
		r.tellJoin()
	case queues:
		s.enqueue(a.flight, anything, r)
		point(e, r.flight)
		s.unlock(e)
		r.tellJoin()
	case answered:
		r.gone = true
		s.unlock(e)
		gs.send(ch, a.success)
		r.unwatch()
	case refused:
		r.gone = true
		ch <- Result[V]{Err: s.refuse(a.err, e)}
		r.unwatch()
	}
	return ch
}

// lead is the goroutine of a flight that was promoted and handed to r.
func (r *entry[K, V]) lead() {
	pprof.SetGoroutineLabels(r.ctx) // not those of who promoted r
	if r.ctx.Err() != nil {
		r.leave()
		return
	}
	s := r.shard
	s.mu.Lock()
	f := r.flight
	started := !r.gone && s.start(f, r)
	if started {
		f.setOwn(r.ctx, r.fn)
	}
	s.mu.Unlock()
	if started {
		r.awaitAnnounced()
		defer s.runOwn(f) // though a hook exits
		s.tellStart(f)
	}
}

// launch is the shard's launch for a receiver that leads at once.
func (r *entry[K, V]) launch(f *flight[K, V]) {
	s := r.shard
	if r.announced == nil {
		f.spawn()
		return
	}
	told := false
	defer func() {
		f.spawn()
		r.announce(told)
	}()
	s.tellStart(f)
	told = true
}

// tellJoin is the shard's tellJoin for a receiver. No lock may be held.
func (r *entry[K, V]) tellJoin() {
	if r.announced == nil {
		return
	}
	told := false
	defer func() { r.announce(told) }()
	r.shard.group.hooks.tell(r.shard.group.hooks.Join, r.event)
	told = true
}

// announce lets the other goroutine of r's go on, as a hook has been told that r
// takes part. If that has exited the caller's goroutine, r leaves.
func (r *entry[K, V]) announce(told bool) {
	sched.Complete(r.announced)
	if !told {
		r.leave()
		r.unwatch()
	}
}

// awaitAnnounced waits until the hook for what r did before has returned.
func (r *entry[K, V]) awaitAnnounced() {
	if r.announced != nil {
		sched.Wait(r.announced)
	}
}

// leave runs when r's context has ended: a receiver's on a goroutine of its own.
func (r *entry[K, V]) leave() {
	s := r.shard
	s.lock(r.edge) // the call may be about to take part
	r.edge.remove()
	f := r.flight
	if r.gone || f != nil && f.state == finished {
		// A result beats the end of a context: it was sent, or is about to be.
		s.unlock(r.edge)
		return
	}
	r.gone = true
	if f == nil {
		s.unlock(r.edge)
		s.group.ended.Inc()
		r.ch <- Result[V]{Err: reasonOf(r.ctx)}
		return
	}
	after, shared := r.depart()
	s.unlock(r.edge)
	after.run(r.ctx)
	if r.told != nil {
		sched.Complete(r.told)
	} else {
		r.ch <- Result[V]{Err: reasonOf(r.ctx), Shared: shared}
	}
	r.awaitAnnounced()
	s.tellLeave(after)
}

// depart removes r, whose context has ended, from its flight, which is
// unfinished, and reports whether that is shared. The shard's lock must be held.
func (r *entry[K, V]) depart() (after departure[K, V], shared bool) {
	r.gone = true
	f := r.flight
	leads := r.promoted && f.state != promoted
	return r.shard.depart(f, r, leads, r.event), f.joined
}

// deliver tells r, unless it is a blocked call's, of the end of f. No lock may
// be held.
func (r *entry[K, V]) deliver(f *flight[K, V], clone func(V) V) {
	r.edge.drop()
	switch {
	case r.told != nil:
		sched.Complete(r.told)
	case r.ch != nil:
		r.send(f, clone)
	}
}

// send sends the result of f to r's channel.
func (r *entry[K, V]) send(f *flight[K, V], clone func(V) V) {
	if f.clones(clone) {
		// The user's Clone may panic, exit or take its time; that is then this
		// receiver's misfortune and nobody else's.
		sched.Go(func() { sendClone(r.ch, clone, f.val, f.err, f.joined) })
		return
	}
	r.ch <- Result[V]{Val: f.val, Err: f.err, Shared: f.joined}
}

// sendClone sends a clone of v, err and shared to ch.
func sendClone[V any](ch chan<- Result[V], clone func(V) V, v V, err error, shared bool) {
	res := Result[V]{Err: ErrGoexit, Shared: shared}
	defer func() {
		if e := recover(); e != nil {
			res.Err = newPanicError(e)
		}
		ch <- res
	}()
	v = clone(v)
	res.Val, res.Err = v, err
}

// send sends the value of p to ch. No lock may be held.
func (gs *groupState[K, V]) send(ch chan<- Result[V], p *success[K, V]) {
	gs.lingering.hits.Inc()
	if gs.clone != nil {
		sched.Go(func() { sendClone(ch, gs.clone, p.val, nil, true) })
		return
	}
	ch <- Result[V]{Val: p.val, Shared: true}
}

// unwatch stops watching the context of r, which has been answered. It may run
// code of the context's, which may block: everybody else has to be told before.
// No lock may be held.
func (r *entry[K, V]) unwatch() {
	if r.stop != nil {
		r.stop()
	}
}
