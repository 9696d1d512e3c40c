package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds batches. A batch is one execution of fn for the flights of several
// keys, which all belong to one call of DoMulti. Each flight is registered in the shard
// of its key, can be joined, forgotten and taken over from like any other, and has
// callers of its own. The flights share fn's context, and they are abandoned and finish
// together:
//
//	DoMulti    newBatch, leadIn for each key, then a goroutine for run
//	run        the Start hook, fn, then finish
//	finish     conclude         from here on, a departure does not cancel fn's context
//	           end              each flight, under the lock of its own shard
//	           complete done    the DoMulti goes on
//	           wake             the calls that joined single flights
//	           hooks            Finish for each flight
//
// Invariants, true whenever no lock is held:
//  M1. All flights of a batch finish before any waiter is woken. Only a goroutine that
//      takes a shard's lock meanwhile, or finds an outcome that lingers, can see some
//      finished and others not.
//  M2. callers of a batch is the sum of those of its flights until they finish. If it is
//      0 while fn runs, the batch is held (hold.go), or it is abandoned, for good, and
//      all its flights with it.
//  M3. A batch's lock is taken under a shard's lock or under none. Under it, only the
//      lock of a flightContext is taken.

// A batch is one execution of fn for several flights.
//
// fn's context is a part of the batch, and values that fn returned may refer to it for
// longer than the flights last. So the batch must not refer to anything else by then: run
// clears fn, and finish clears parts.
type batch[K comparable, V any] struct {
	// The goroutine of the DoMulti writes these until it has started that of run, which
	// alone writes them from then on. ctx has a lock of its own.
	ctx   flightContext
	fn    func(context.Context, []K) (map[K]V, error) // nil once it is called
	parts []*flight[K, V]                             // nil once they finish
	done  sched.Completion                            // complete when all have finished
	born  int64                                       // sched.Now at the first claim

	mu      sched.Mutex // guards the rest
	callers int         // see M2
	n       uint64      // how many flights there are

	// panickers is, after fn has panicked, how many calls are about to panic with that, and
	// one more until finish has ended all flights.
	panickers int
}

// newBatch returns a batch with room for n flights and the values of ctx for fn's
// context.
func newBatch[K comparable, V any](ctx context.Context, fn func(context.Context, []K) (map[K]V, error), n int) *batch[K, V] {
	b := &batch[K, V]{fn: fn, parts: make([]*flight[K, V], 0, n), done: sched.NewCompletion(), born: sched.Now()}
	b.ctx.values = ctx
	return b
}

// leadIn makes c lead a new flight of b for key, and returns the flight. c's shard must
// be locked, and the key must have no flight. Other calls can join the flight as soon as
// the lock is released, although fn starts only after the last key has been claimed.
func (c *caller[K, V]) leadIn(b *batch[K, V], h uint64, key K) *flight[K, V] {
	s := c.shard
	f := s.takeOwn(&b.ctx)
	f.cold.batch = b
	f.born = b.born
	b.parts = append(b.parts, f)
	s.register(f, h, key)
	s.note(callLed, f, c)
	b.mu.Lock()
	b.callers++
	b.n++
	b.mu.Unlock()
	return f
}

// run runs fn and finishes the flights of b. It is the goroutine that DoMulti starts for
// b, after it has claimed its last key. A panic of fn ends there, in the results of the
// callers; a Goexit, also of a Start hook, goes on when the flights have finished.
func (b *batch[K, V]) run() {
	fn := b.fn
	b.fn = nil
	normal := false
	defer func() {
		if normal {
			return
		}
		if r := recover(); r != nil {
			b.finish(answers[K, V]{how: panicked, err: newPanicError(r)}, nil)
		} else {
			b.finish(answers[K, V]{how: exited, err: ErrGoexit}, nil)
		}
	}()
	if s := b.parts[0].cold.shard; s.group.hooks != nil {
		s.callStartOwn(b.parts[0], &b.ctx) // once for all of them
	}
	a := returnedBy(fn(&b.ctx, keysOf(b.parts)))
	asked := b.ask(a)
	normal = true
	b.finish(a, asked)
}

// ask is shard.ask for all flights of b, in their order, or returns nil if nothing lingers
// in the group. fn has returned a. All are asked before the first flight finishes, as
// LingerFor is part of fn. No lock may be held.
func (b *batch[K, V]) ask(a answers[K, V]) []*lingerer[K, V] {
	if b.parts[0].cold.shard.group.lingering == nil {
		return nil
	}
	asked := make([]*lingerer[K, V], len(b.parts))
	for i, f := range b.parts {
		how, v, err := a.of(f.key)
		asked[i] = f.cold.shard.ask(f, how, v, err)
	}
	return asked
}

// finish ends all flights of b with the given outcomes, and then wakes all callers. asked
// is what ask has returned, or nil if fn has not returned. No lock may be held.
//
// Every flight is ended in a critical section of its own: two shards are never locked at
// once (S3). Between two of these sections other calls go on as usual. A call may join a
// flight that has not ended yet, or leave it; or find the key of an ended one free, and
// lead the next flight for it.
func (b *batch[K, V]) finish(a answers[K, V], asked []*lingerer[K, V]) {
	parts := b.parts
	b.parts = nil
	// Once b.done is complete, the DoMulti takes its results, and gives back the records
	// of flights that no other goroutine knows of. After that, only the other flights may
	// be looked at; or all of them, if the DoMulti has left with all other callers.
	gs := parts[0].cold.shard.group
	var endings []ending[K, V]
	lingers := false // for any key
	b.conclude()
	for i, f := range parts {
		how, v, err := a.of(f.key)
		var p, gone *lingerer[K, V]
		if asked != nil {
			p = asked[i]
		}
		s := f.cold.shard
		s.mu.Lock()
		if gs.lingering != nil {
			how, gone = s.keep(f, how, p)
		}
		lingers = lingers || how == kept
		e := s.end(f, how, v, err)
		s.mu.Unlock()
		gone.unindex()
		if e.concerns() { // most flights have no callers but the DoMulti
			endings = append(endings, e)
		}
	}
	alone := b.alone()
	// A panic that no blocking call receives is logged once for the whole batch. In
	// Stats.Panics each of its flights counts.
	var logged []K
	if a.how == panicked && b.forgone() {
		logged = keysOf(parts)
		s := parts[0].cold.shard
		s.mu.Lock()
		s.note(panicLogged, parts[0], nil)
		s.mu.Unlock()
	}
	sched.Complete(b.done)
	// All callers are woken before a hook runs. The last argument lets wake leave many
	// waiters to a goroutine, so that those of the next flight do not wait for them.
	for _, e := range endings {
		e.wake(gs.clone, true)
	}
	if logged != nil {
		defer logPanic(a.err.(*PanicError), logged...)
	}
	defer each(0, len(endings), func(i int) { endings[i].report(gs.hooks) })
	if alone && !lingers && !b.ctx.abandoned() {
		b.ctx.cancel(context.Canceled) // no call got any of the values
	}
}

// keysOf returns the keys of flights of a batch, in the same order.
func keysOf[K comparable, V any](parts []*flight[K, V]) []K {
	keys := make([]K, len(parts))
	for i := range parts {
		keys[i] = parts[i].key
	}
	return keys
}

// conclude freezes whether b is abandoned, and begins to count its panickers. It is called
// before the first flight finishes. The value of that flight may linger even if all
// callers of the flight have left, and answer calls at once. fn's context, which the value
// may use, must not be canceled after that, when the callers of the other flights leave.
// No lock may be held.
func (b *batch[K, V]) conclude() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx.finished.Store(true)
	b.panickers = 1
}

// depart counts a call that leaves a flight of b, and reports whether its departure
// abandons b: the call was the last of all flights, b is not held, and fn has not
// returned (see conclude). The lock of the flight's shard must be held.
func (b *batch[K, V]) depart() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callers--
	return b.callers == 0 && b.ctx.abandon()
}

// expect counts n calls in that are about to panic with the panic of fn.
func (b *batch[K, V]) expect(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.panickers += n
}

// forgone counts one of the panickers out, and reports whether that was the last, so that
// the panic is to be logged.
func (b *batch[K, V]) forgone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.panickers--
	return b.panickers == 0
}

// alone reports whether no caller is left.
func (b *batch[K, V]) alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.callers == 0
}

// size returns the number of flights of b.
func (b *batch[K, V]) size() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}
