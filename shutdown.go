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

// close closes all shards and returns the completions to wait for. No call is
// answered before all are closed: one that has got ErrClosed must not be able to lead
// in the next shard.
func (gs *groupState[K, V]) close() (running []sched.Completion) {
	var rejected []ending[K, V]
	gs.closing.Lock()
	for _, s := range gs.shards {
		drained, unstarted := s.close()
		if drained != nil {
			running = append(running, drained)
		}
		rejected = append(rejected, unstarted...)
	}
	if gs.lingering != nil {
		gs.lingering.clear()
	}
	gs.closing.Unlock()
	for _, e := range rejected {
		e.wake(nil, true)
	}
	each(0, len(rejected), func(i int) { rejected[i].tell(gs.hooks) })
	return running
}

// awaitClosed waits until close is over, for a call that finds by itself that it is to
// get ErrClosed. No lock may be held.
func (gs *groupState[K, V]) awaitClosed() {
	gs.closing.Lock()
	defer gs.closing.Unlock()
}

// close marks s closed, rejects the calls that are queued in it, and returns the
// completion to wait for, nil if nothing runs, and what is left to do for the rejected.
func (s *shard[K, V]) close() (drained sched.Completion, rejected []ending[K, V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.plain = true, false
	rejected = s.rejectAll()
	if !s.busy() {
		return nil, rejected // s.drained may be of an earlier Shutdown's synctest bubble
	}
	if s.drained == nil {
		s.drained = sched.NewCompletion()
	}
	return s.drained, rejected
}

// rejectAll rejects every flight that has not started. s.mu must be held.
func (s *shard[K, V]) rejectAll() (endings []ending[K, V]) {
	var unstarted []*flight[K, V] // to remove one now would upset all
	for f := range s.all() {
		if q := f.queue(); q != nil {
			unstarted = append(unstarted, q)
		}
		if f.state == promoted {
			unstarted = append(unstarted, f)
		}
	}
	var zero V
	for _, f := range unstarted { // a successor comes first, and is not promoted
		endings = append(endings, s.end(f, rejected, zero, ErrClosed))
	}
	return endings
}

// busy reports whether a flight of any shard is unfinished.
func (gs *groupState[K, V]) busy() (busy bool) {
	gs.each(func(s *shard[K, V]) { busy = busy || s.busy() })
	return busy
}

// cancelAll cancels the contexts of all flights that have one and still run. A
// flight that finishes is either marked before, or keeps its context: that of
// a result which a caller has must not end any more.
func (gs *groupState[K, V]) cancelAll() {
	end := endedBy(ErrClosed)
	var marked []*flightContext
	gs.each(func(s *shard[K, V]) {
		for f := range s.all() {
			if c := f.context(); c != nil && c.markUnfinished(end) {
				marked = append(marked, c)
			}
		}
	})
	for _, c := range marked {
		c.tell()
	}
}
