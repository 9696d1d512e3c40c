package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the end of a group.
//
//  1. With closing held, Shutdown puts a closed shard into the places of those that have
//     not been made, and then closes one shard after the other, under the lock of each.
//     In the same critical section it finishes the flights of that shard that have not
//     started. Calls that come to the shard later get ErrClosed.
//  2. Still with closing held, it drops the outcomes that linger. No more are kept, as
//     all shards are closed.
//  3. It releases closing, and then wakes the calls of the flights that it has
//     finished. A call that sees by itself that its shard is closed waits for closing
//     to be released.
//  4. It waits for each shard that had running flights. The goroutine that finishes the
//     last of them completes drained.
//  5. If its context ends before that, it cancels the contexts of the flights that
//     still run, and does not wait for them.
//
// closing and step 3 are there because a call that begins after another has returned
// ErrClosed must not lead a flight, not even in a shard that is closed last.
//
// The lock of a shard decides which calls Shutdown finds. A call that takes part before
// its shard is closed gets its flight's result or is rejected. No other call takes
// part.

// Shutdown closes the group for good and waits until no flight runs, forgotten flights
// included, or until ctx ends. It drops the outcomes that linger. Calls that begin
// after Shutdown has begun get [ErrClosed], including calls from inside fn. Calls that
// are queued for a flight that has not started get ErrClosed at once. Calls that have
// joined a running flight return as usual, when the flight has finished or their own
// context ends.
//
// If ctx ends first, Shutdown cancels the contexts of the flights that still run, with
// ErrClosed as the cause, and returns the error of ctx without waiting any longer. A
// flight that runs on its leader's goroutine, as that of Do does, has no such context.
//
// If ctx has ended on entry, the group is closed all the same, and Shutdown waits for
// nothing. It calls the Finish hooks of the flights that it refuses on its own goroutine,
// and waits for no other hook.
//
// If Shutdown returns nil, no flight runs and none will. Shutdown may be called again,
// and concurrently. If it is called from inside fn, it waits for that fn, and so until
// ctx ends. It panics if ctx is nil.
func (g *Group[K, V]) Shutdown(ctx context.Context) error {
	must(ctx != nil, "context")
	gs := g.use()
	running := gs.close()
	done := ctx.Done()
	for _, c := range running {
		// If nothing runs by now, the end of ctx came too late to matter.
		if !sched.WaitEither(c, done) && gs.busy() {
			gs.cancelAll()
			return reasonOf(ctx)
		}
	}
	return nil
}

// close closes all shards, drops the outcomes, and then answers the calls that it has
// rejected. It returns the completions to wait for: one for each shard with flights. It
// may be called again, and then rejects nothing. No lock may be held.
func (gs *groupState[K, V]) close() (running []sched.Completion) {
	var rejected []ending[K, V]
	gs.closing.Lock()
	gs.closeUnmade()
	for s := range gs.all() {
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
		e.wake(nil, true) // there is no value to clone
	}
	callAll(0, len(rejected), func(i int) { rejected[i].report(gs.hooks) })
	return running
}

// awaitClosed blocks until all shards are closed. A call that reads s.closed under the
// lock of its shard must call it before it returns ErrClosed. Until then an outcome that
// lingers may still answer calls, which take no lock. No lock may be held.
func (gs *groupState[K, V]) awaitClosed() {
	gs.closing.Lock()
	defer gs.closing.Unlock()
}

// close marks s closed and rejects the flights that have not started. It returns the
// completion to wait for, or nil if no flight is left in s, and the endings of the
// rejected flights, whose calls have yet to be woken. closing must be held, s.mu not.
func (s *shard[K, V]) close() (drained sched.Completion, rejected []ending[K, V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.plain = true, false // not plain, so that Do goes to doSlow
	if x := s.outcomes.Load(); x != nil {
		// Clear does nothing but wait if the map is being resized, as it may be when a
		// sweep or an eviction, which do not hold s.mu, has deleted from it.
		for x.Size() > 0 {
			x.Clear()
		}
	}
	rejected = s.rejectAll()
	if !s.busy() {
		// s.drained may be of an earlier Shutdown, in another synctest bubble.
		return nil, rejected
	}
	if s.drained == nil {
		s.drained = sched.NewCompletion() // idle completes it, once
	}
	return s.drained, rejected
}

// rejectAll finishes every flight of s that has not started, with ErrClosed, and
// returns their endings. s.mu must be held.
func (s *shard[K, V]) rejectAll() (endings []ending[K, V]) {
	var unstarted []*flight[K, V] // collected first: all must not see the table change
	for f := range s.all() {
		if q := f.queue(); q != nil {
			unstarted = append(unstarted, q)
		}
		if f.state == promoted {
			unstarted = append(unstarted, f)
		}
	}
	var zero V
	for _, f := range unstarted { // a successor comes first, so it is not promoted
		endings = append(endings, s.end(f, rejected, zero, ErrClosed))
	}
	return endings
}

// busy reports whether a flight of any shard is unfinished. It locks each shard once.
// No lock may be held.
func (gs *groupState[K, V]) busy() (busy bool) {
	gs.each(func(s *shard[K, V]) { busy = busy || s.busy() })
	return busy
}

// cancelAll cancels the contexts of all flights that have one and still run, with
// ErrClosed as the cause. No lock may be held.
//
// A context is marked as canceled under the lock of the flight's shard, if the flight,
// or its batch, has not finished. That of a flight that has finished is not canceled
// any more: a caller may have the result, and may need the context for it. The
// goroutines that wait for the end of the marked contexts are woken without a lock.
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
		c.propagate()
	}
}
