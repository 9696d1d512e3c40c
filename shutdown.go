package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// Shutdown closes the group for good and waits for the flights that run, the
// forgotten ones included. What lingers is dropped. Calls that begin after Shutdown has begun get
// [ErrClosed], calls from inside fn too, and so do at once those that are
// queued for a flight that has not started. Calls that have joined a running
// flight return as ever, by its result or by their own ctx.
//
// When ctx ends first, Shutdown cancels the contexts of the flights that still
// run, with cause ErrClosed, and returns ctx's error without waiting any
// longer. A flight that runs on its leader's goroutine, as Do's does, has no
// context that could be canceled.
//
// A nil return means that nothing runs and nothing will. Shutdown may be called
// again, and concurrently. Called from inside fn it waits for itself, until ctx
// ends. A nil ctx panics.
func (g *Group[K, V]) Shutdown(ctx context.Context) error {
	if ctx == nil {
		panicNil(true)
	}
	gs := g.use()
	running := gs.close()
	done := ctx.Done()
	for _, c := range running {
		if !sched.WaitEither(c, done) && gs.busy() {
			gs.cancelAll()
			return reasonOf(ctx)
		}
	}
	return nil
}

// close closes all shards and returns the completions to wait for. Nobody is
// told before all are closed: a call that has got ErrClosed must not be able to
// lead in the next shard.
func (gs *groupState[K, V]) close() (running []sched.Completion) {
	var rejected []waking[K, V]
	gs.closing.Lock()
	for _, s := range gs.shards {
		drained, queued := s.close()
		if drained != nil {
			running = append(running, drained)
		}
		rejected = append(rejected, queued...)
	}
	if gs.lingering != nil {
		gs.lingering.clear()
	}
	gs.closing.Unlock()
	for _, w := range rejected {
		w.wake(nil, true)
	}
	if gs.hooks != nil {
		each(0, len(rejected), func(i int) { gs.hooks.tell(gs.hooks.Finish, rejected[i].event) })
	}
	return running
}

// awaitClosed waits until close is over, for a call that finds by itself that it is to
// get ErrClosed. No lock may be held.
func (gs *groupState[K, V]) awaitClosed() {
	gs.closing.Lock()
	defer gs.closing.Unlock()
}

// close marks s closed, rejects the calls that are queued in it, and returns
// the completion to wait for, nil if nothing runs, and whom to wake.
func (s *shard[K, V]) close() (drained sched.Completion, rejected []waking[K, V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.plain = true, false
	rejected = s.rejectAll()
	if !s.busy() {
		return nil, rejected // whatever an earlier Shutdown, in a bubble perhaps, has waited on
	}
	if s.drained == nil {
		s.drained = sched.NewCompletion()
	}
	return s.drained, rejected
}

// rejectAll rejects every flight that has not started. s.mu must be held.
func (s *shard[K, V]) rejectAll() (rejected []waking[K, V]) {
	var unstarted []*flight[K, V]
	for f := range s.all() {
		if f.state == promoted {
			unstarted = append(unstarted, f) // unlinking now would upset all
		}
		if f.queue() != nil {
			q := f.cold.queue
			f.cold.queue = nil
			q.dequeue()
			rejected = append(rejected, s.reject(q))
		}
	}
	for _, f := range unstarted {
		s.remove(f) // its successor is gone already: this promotes nothing
		rejected = append(rejected, s.reject(f))
	}
	return rejected
}

// busy reports whether a flight of any shard is unfinished.
func (gs *groupState[K, V]) busy() bool {
	for i := range gs.shards {
		s := gs.shards[i]
		s.mu.Lock()
		busy := s.busy()
		s.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// cancelAll cancels the contexts of all flights that have one and still run. A
// flight that finishes is either marked before, or keeps its context: that of
// a result which a caller has must not end any more.
func (gs *groupState[K, V]) cancelAll() {
	end := endedBy(ErrClosed)
	for _, s := range gs.shards {
		var marked []*flightContext
		s.mu.Lock()
		for f := range s.all() {
			if c := f.context(); c != nil && c.markUnfinished(end) {
				marked = append(marked, c)
			}
		}
		s.mu.Unlock()
		for _, c := range marked {
			c.tell()
		}
	}
}
