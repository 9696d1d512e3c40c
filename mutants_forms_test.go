package coalesce

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds tests of promises about receivers, batches and the context of
// fn that a mutant of the code broke and no other test saw (see internal/mutate).

// TestContext_ErrAfterDone: who sees that a flight's context has ended, by Err or
// by its cause, sees its Done closed, also before everybody else is woken.
func TestContext_ErrAfterDone(t *testing.T) {
	var c flightContext
	done := c.Done()
	c.mark(endedBy(ErrClosed))
	if err, cause := c.Err(), context.Cause(&c); err != context.Canceled || cause != ErrClosed {
		t.Errorf("it ended with %v and %v", err, cause)
	}
	if !sched.IsComplete(done) {
		t.Error("Done is not closed when Err says that the context has ended")
	}
}

// TestContext_AfterFuncOnceEnded: a function that is registered when the context
// has ended is called at once.
func TestContext_AfterFuncOnceEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c flightContext
		c.cancel(ErrClosed)
		called := 0
		stop := c.AfterFunc(func() { called++ })
		synctest.Wait()
		if called != 1 || stop() {
			t.Errorf("called %d times, or it could be stopped", called)
		}
	})
}

// TestContext_AfterFuncStopped: functions can be stopped in any order, and no
// other is: those that are left are called when the context ends. To stop one
// again, or one that has been called, does nothing.
func TestContext_AfterFuncStopped(t *testing.T) {
	for _, order := range [][]int{{}, {0}, {3}, {1, 2}, {2, 1}, {0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0}, {2, 0, 3}} {
		synctest.Test(t, func(t *testing.T) {
			var c flightContext
			var called, want [4]int
			var stops [4]func() bool
			for i := range stops {
				stops[i] = c.AfterFunc(func() { called[i]++ })
				want[i] = 1
			}
			for _, i := range order {
				if !stops[i]() || stops[i]() {
					t.Errorf("%v: %d was not stopped once", order, i)
				}
				want[i] = 0
				n, before := 0, (*afterFunc)(nil)
				for a := c.after; a != nil; a = a.next {
					if a.prev != before {
						t.Errorf("%v: the list is broken when %d has been stopped", order, i)
					}
					n, before = n+1, a
				}
				if left := want[0] + want[1] + want[2] + want[3]; n != left {
					t.Errorf("%v: %d functions are kept when %d has been stopped, want %d", order, n, i, left)
				}
			}
			c.cancel(ErrClosed)
			synctest.Wait()
			if called != want {
				t.Errorf("%v: called %v, want %v", order, called, want)
			}
			for i, stop := range stops {
				if stop() {
					t.Errorf("%v: %d was stopped when the context had ended", order, i)
				}
			}
		})
	}
}

// TestContext_EndedKeepsNoFunctions: a context that has ended, which what fn
// returned may keep, does not keep what was to be called then (G12).
func TestContext_EndedKeepsNoFunctions(t *testing.T) {
	var c flightContext
	c.AfterFunc(func() {})
	c.cancel(ErrClosed)
	if c.after != nil {
		t.Error("a function is kept")
	}
}

// TestDoChan_EndsBeforeItTakesPart: the context of a call ends after the call has
// begun and before it takes part in a flight. It is counted as one that had ended
// on entry, before its receiver is told, and takes part in nothing then.
func TestDoChan_EndsBeforeItTakesPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// What DoChan has made when it begins to watch ctx, but for the channel's room.
		r := &entry[int, int]{shard: g.use().shards[0], ch: make(chan Result[int]), ctx: ctx, fn: nothing}
		go r.leave()
		synctest.Wait()
		if n := g.Stats().Ended; n != 1 {
			t.Errorf("%d calls are counted as ended before the receiver is told, want 1", n)
		}
		select {
		case res := <-r.ch:
			if res != (Result[int]{Err: context.Canceled}) {
				t.Errorf("the receiver is told %+v", res)
			}
		default:
			t.Error("the receiver is told nothing")
		}
		if !r.gone {
			t.Error("the call would still take part")
		}
	})
}

// TestPromoted_RejectedBeforeItsReceiverLeads: a Shutdown that comes between the
// promotion of a flight and the goroutine that is to lead it ends the flight, for
// good, and fn is not called (F1).
func TestPromoted_RejectedBeforeItsReceiverLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		ch := g.DoChan(t.Context(), 1, func(context.Context) (int, error) { t.Error("fn ran"); return 0, nil })
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		q := s.lookup(h, 1, reflexive).queue()
		r := q.extra().first
		r.promoted = true
		s.mu.Unlock()
		_ = g.Shutdown(ctx)
		if res := <-ch; res.Err != ErrClosed {
			t.Errorf("the receiver is told %+v", res)
		}
		before := g.Stats()
		go r.lead()
		synctest.Wait()
		if q.outcome != rejected || q.err != ErrClosed || g.Stats() != before {
			t.Errorf("outcome %d, %v; counted %+v, before %+v", q.outcome, q.err, g.Stats(), before)
		}
		if q.more.fn != nil {
			t.Error("the flight keeps fn (G12)")
		}
		close(release)
	})
}

// TestHooks_ExitAtStartAndLeave: a flight whose receiver's call was ended by the
// hook for its start is run, though the hook for the call's leaving exits, too (H2).
func TestHooks_ExitAtStartAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exit := func(Event[int]) { runtime.Goexit() }
		g := Group[int, int]{Hooks: Hooks[int]{Start: exit, Leave: exit}}
		ran := false
		go g.DoChan(t.Context(), 1, func(context.Context) (int, error) { ran = true; return 1, nil })
		synctest.Wait()
		if n := g.Len(); !ran || n != 0 {
			t.Errorf("fn ran: %t, and %d keys are in flight", ran, n)
		}
	})
}

// TestHooks_BatchStartsBeforeFn: a batch's fn is called when the hook has been
// told of the start of all its flights.
func TestHooks_BatchStartsBeforeFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		g := Group[int, int]{Hooks: Hooks[int]{Start: func(Event[int]) { time.Sleep(time.Second); told++ }}}
		g.DoMulti(t.Context(), []int{1, 2}, func(context.Context, []int) (map[int]int, error) {
			if told != 2 {
				t.Errorf("fn is called when the hook has been told of %d flights, want 2", told)
			}
			return nil, nil
		})
	})
}

// A stoppableContext never ends, and calls a function when it need not tell of its
// end any more.
type stoppableContext struct {
	context.Context
	done    chan struct{}
	stopped func()
}

func (c stoppableContext) Done() <-chan struct{} { return c.done }

func (c stoppableContext) AfterFunc(func()) (stop func() bool) {
	return func() bool { c.stopped(); return true }
}

// TestG13_RefusedReceiverStopsOutsideTheLock: a DoChan that is refused stops
// watching its context when no lock is held.
func TestG13_RefusedReceiverStopsOutsideTheLock(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	_ = g.Shutdown(t.Context())
	stopped := 0
	ctx := stoppableContext{context.Background(), make(chan struct{}), func() {
		stopped++
		used := make(chan struct{})
		go func() { g.Len(); close(used) }()
		select {
		case <-used:
		case <-time.After(2 * time.Second): // whatever waits for the lock never returns
			t.Error("the context is told under the shard's lock")
		}
	}}
	if res := <-g.DoChan(ctx, 1, nothing); res.Err != ErrClosed || stopped != 1 {
		t.Errorf("told %+v, stopped %d times", res, stopped)
	}
}

// TestDeadlock_DoMultiWithHooks: a circle through a DoMulti is found where there
// are hooks, as it is where there are none.
func TestDeadlock_DoMultiWithHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Hooks: Hooks[int]{Join: func(Event[int]) {}}}
		var found error
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
			g.DoMulti(ctx, []int{2, 3}, func(ctx context.Context, _ []int) (map[int]int, error) {
				_, _, found = g.DoContext(ctx, 1, nothing)
				return nil, nil
			})
			return 0, nil
		})
		if _, ok := found.(*DeadlockError); !ok {
			t.Errorf("the call that closes the circle gets %v", found)
		}
	})
}

// TestDeadlock_DoMultiThatExitsHasNoEdge: a DoMulti whose goroutine is exited by a
// hook waits for nothing any more (D4).
func TestDeadlock_DoMultiThatExitsHasNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := Group[int, int]{Hooks: Hooks[int]{Join: func(Event[int]) { runtime.Goexit() }}}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		held := func(context.Context) (int, error) { <-release; return 1, nil }
		go inner.DoContext(ctx, 2, held)
		synctest.Wait()
		var outer Group[int, int]
		_, _, _ = outer.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
			go inner.DoMulti(ctx, []int{2, 3}, func(context.Context, []int) (map[int]int, error) { <-release; return nil, nil })
			synctest.Wait()
			if n := edgesOf(t, ctx.(*flightContext)); n != 0 {
				t.Errorf("the call that was exited has %d edges", n)
			}
			return 0, nil
		})
		close(release)
	})
}

// TestDeadlock_PlainCallsTakeNoGraphLock: only a call that an fn made takes the
// lock that all such calls of the process share (D1).
func TestDeadlock_PlainCallsTakeNoGraphLock(t *testing.T) {
	var g Group[int, int]
	graph.Lock()
	defer graph.Unlock()
	for name, call := range map[string]func(ctx context.Context){
		"Do":        func(context.Context) { _, _, _ = g.Do(1, func() (int, error) { return 0, nil }) },
		"DoContext": func(ctx context.Context) { _, _, _ = g.DoContext(ctx, 1, nothing) },
		"DoChan":    func(ctx context.Context) { <-g.DoChan(ctx, 1, nothing) },
		"DoFresh":   func(ctx context.Context) { _, _, _ = g.DoFresh(ctx, 1, nothing) },
		"DoMulti": func(ctx context.Context) {
			g.DoMulti(ctx, []int{1, 2}, func(context.Context, []int) (map[int]int, error) { return nil, nil })
		},
	} {
		returned := make(chan struct{})
		go func() {
			call(t.Context())
			close(returned)
		}()
		select {
		case <-returned:
		case <-time.After(2 * time.Second): // whatever waits for the lock never returns
			t.Errorf("%s waits for the graph's lock", name)
		}
	}
}

// TestWaiter_BatchLeaderHasNoSeat: a DoMulti that leaves a key which it leads gives
// back no seat, as it has none: it waits for the batch (W2).
func TestWaiter_BatchLeaderHasNoSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { <-release; return nil, nil })
		synctest.Wait()
		go g.DoContext(t.Context(), 1, nothing)
		synctest.Wait()
		cancel()
		synctest.Wait()
		s := g.use().shards[0]
		s.mu.Lock()
		for f := range s.all() {
			if f.seated != 1 || f.callers != 1 {
				t.Errorf("%d of %d calls have a seat, want the follower", f.seated, f.callers)
			}
		}
		s.mu.Unlock()
		close(release)
	})
}
