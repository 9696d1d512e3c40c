package coalesce

import "context"

// This file holds Hold, and the fate of a running flight when its last caller has left:
// it is abandoned, unless it is held.
//
//	                    the last caller leaves
//	running ──────────────────────────────────────▶ abandoned, for good
//	   │                                               fn's context ends; new calls queue
//	   │ Hold
//	   ▼                the last caller leaves
//	held ─────────────────────────────────────────▶ held, without a caller
//	   ▲                                               │  │
//	   └───────────────────────────────────────────────┘  │ fn returns, panics or exits
//	                      a call joins                    ▼
//	                                                the outcome lingers, or fn's context ends
//
// Both facts are in fn's context, which Hold finds by itself: it needs neither the
// flight, whose record may be in use again (R2), nor the lock of its shard. A batch has
// one context, so it is held and abandoned as a whole.
//
// Invariants, true whenever the lock of the context is not held:
//  A1. Of held and gone, one at most is set, and neither is reset: the lock decides
//      whether a Hold or the leaving of the last caller came first.
//  A2. gone is set in the critical section of the shard's lock (for a batch, of the
//      batch's lock as well) in which the last caller leaves. So under that lock a running
//      flight has a caller, is held, or is abandoned.
//
// Rejected: a Hold that can be released. The last release would abandon a flight without
// callers, so that Hold would have to find the flight by its context, under the lock of
// its shard; and a release that is forgotten is a flight that cannot be canceled.

// Hold keeps the flight whose fn was given ctx from being abandoned. Use it in an fn
// whose result has a use besides the callers of the group, for example because fn fills a
// cache, or answers another process. fn calls it, or code that fn gave its context to.
// ctx is the context that fn was given, or one derived from it, including one from
// [context.WithoutCancel]; a context from [Detach] does not count. Hold does not block.
//
// If the flight is held, fn's context is not canceled when the last caller leaves. fn
// goes on, calls that arrive join the flight, and its outcome lingers if it would have
// with a caller. The hold lasts until fn returns and cannot be taken back. It is not a
// call: [Stats], [Group.Flights], MaxWaiters, ForgetUnshared and the shared result do not
// count it. Nothing else changes: a DoFresh queues behind the flight, MaxAge lets another
// start, the flight can be forgotten before or after it is held, and a Shutdown waits for
// it and cancels it when it runs out of time. If fn panics and no caller is left, the
// panic is logged.
//
// If a flight that is held has no caller when it finishes, no call has got its result. If
// the result does not linger either, fn's context is canceled then, with
// [context.Canceled] as its cause. So
//
//	context.AfterFunc(ctx, func() { v.Close() })
//
// in fn closes a value that no call got. The flights of a batch are held together, and
// the context of a batch is canceled in this way only if none of its keys has a caller
// and none lingers.
//
// Hold reports whether the flight is held. If it returns false, it has no effect: ctx does
// not come from an fn, all callers have left before, or fn has returned. An fn that runs
// on its caller's goroutine (G8) is not given a context of its flight, and needs no Hold,
// as that caller stays. If the context of its caller comes from the fn of another flight,
// Hold holds that one. Hold panics if ctx is nil.
func Hold(ctx context.Context) bool {
	must(ctx != nil, "context")
	c, _ := ctx.Value(flightKey{}).(*flightContext)
	return c != nil && c.hold()
}

// hold keeps the flight of c from being abandoned when its last caller leaves, and reports
// whether it did: not if that flight is abandoned, or has finished. c.mu must not be
// held.
func (c *flightContext) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() || c.finished.Load() {
		return false
	}
	c.held = true
	return true
}

// abandon is called when the last caller has left the flight of c, or the batch, while
// fn ran. It makes the flight abandoned, for good, and reports whether it did: not if
// the flight is held, or if the batch has been concluded. The lock of the flight's shard
// or of the batch must be held, and c.mu must not.
func (c *flightContext) abandon() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held || c.finished.Load() {
		return false
	}
	c.gone.Store(true)
	return true
}

// abandoned reports whether the flight of c, or the batch, is abandoned. It takes no lock,
// as newcomers ask this under the lock of their shard.
func (c *flightContext) abandoned() bool { return c.gone.Load() }

// lost returns fn's context if no call gets the outcome of f, which is finishing, though
// f was held: then that context is to end once the lock is released. Otherwise it returns
// nil, as for a flight of a batch, whose context load.wake ends. The shard's lock must
// be held.
func (f *flight[K, V]) lost(how outcome) *flightContext {
	if f.callers > 0 || how.lingers() || f.batch() != nil || f.abandoned() {
		return nil
	}
	return f.context()
}
