package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds batches: one execution of fn for the flights of several keys.
//
// Invariants, true whenever no lock is held:
//  M1. All flights of a batch finish before any waiter is woken. Only a goroutine that
//      takes a shard's lock meanwhile can see some finished and others not.
//  M2. callers of a batch is the sum of those of its flights until they finish.
//      It is 0 while fn runs if and only if the batch is abandoned, for good, and all
//      its flights with it.
//  M3. A batch's lock is taken under a shard's lock, and nothing under it.

// A batch is one execution of fn for several flights. Its context outlives it
// with what fn returned; nothing else may.
type batch[K comparable, V any] struct {
	ctx   flightContext
	fn    func(context.Context, []K) (map[K]V, error) // until it is called
	parts []*flight[K, V]                             // until they finish; with room for those to come
	done  sched.Completion                            // complete when all have finished
	born  int64                                       // sched.Now at the first claim

	mu      sched.Mutex // guards what follows
	callers int         // see M2
	n       uint64      // flights
}

// newBatch returns a batch with room for n flights.
func newBatch[K comparable, V any](ctx context.Context, fn func(context.Context, []K) (map[K]V, error), n int) *batch[K, V] {
	b := &batch[K, V]{fn: fn, parts: make([]*flight[K, V], 0, n), done: sched.NewCompletion(), born: sched.Now()}
	b.ctx.values = ctx
	return b
}

// leadIn makes c lead a flight of b for key. c's shard must be locked, and the key have
// no flight.
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

// run runs fn on the goroutine that was started for b.
func (b *batch[K, V]) run() {
	fn := b.fn
	b.fn = nil
	normal := false
	defer func() {
		if normal {
			return
		}
		if r := recover(); r != nil {
			b.finish(panicked, nil, newPanicError(r))
		} else {
			b.finish(exited, nil, ErrGoexit)
		}
	}()
	if h := b.parts[0].cold.shard.group.hooks; h != nil {
		each(0, len(b.parts), func(i int) { b.parts[i].cold.shard.tellStart(b.parts[i]) })
		h.label(&b.ctx, b.parts[0].key)
	}
	m, err := fn(&b.ctx, keysOf(b.parts))
	normal = true
	b.finish(returned, m, err)
}

// finish ends all flights of b, and then wakes all callers.
func (b *batch[K, V]) finish(how outcome, m map[K]V, err error) {
	parts := b.parts
	b.parts = nil
	gs := parts[0].cold.shard.group // once b.done is complete, a record may be used again
	var endings []ending[K, V]
	b.conclude()
	for _, f := range parts {
		v, ok := m[f.key]
		how, err := how, err
		if how == returned && err == nil && !ok {
			how, err = absent, ErrAbsent
		}
		s := f.cold.shard
		s.mu.Lock()
		e := s.end(f, s.keep(f, how, v, err), v, err)
		s.mu.Unlock()
		if e.concerns() {
			endings = append(endings, e)
		}
	}
	untold := how == panicked && b.abandoned()
	if untold {
		s := parts[0].cold.shard
		s.mu.Lock()
		s.note(panicLogged, parts[0], nil)
		s.mu.Unlock()
	}
	sched.Complete(b.done)
	for _, e := range endings {
		e.wake(gs.clone, true)
	}
	if untold {
		defer logUntold(keysOf(parts), err.(*PanicError))
	}
	each(0, len(endings), func(i int) { endings[i].tell(gs.hooks) })
}

// keysOf returns the keys of some flights of a batch.
func keysOf[K comparable, V any](parts []*flight[K, V]) []K {
	keys := make([]K, len(parts))
	for i := range parts {
		keys[i] = parts[i].key
	}
	return keys
}

// abandoned reports whether all callers have left.
func (b *batch[K, V]) abandoned() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.callers == 0
}

// conclude sees to it that b is not abandoned any more, unless it has been: what
// becomes of the first of its flights to finish depends on that. No lock may be held.
func (b *batch[K, V]) conclude() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx.finished.Store(true)
}

// leave counts a call that leaves a flight of b, and reports whether that
// abandons b: not if fn has returned, and the flights are about to finish. The
// lock of the flight's shard must be held.
func (b *batch[K, V]) leave() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callers--
	return b.callers == 0 && !b.ctx.finished.Load()
}

// size returns the number of b's flights.
func (b *batch[K, V]) size() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}
