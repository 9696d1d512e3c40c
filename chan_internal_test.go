package coalesce

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDoChan_EndsBeforeItTakesPart: the context of a call ends after the call has begun
// and before it takes part in a flight. The call is counted as ended on entry before its
// receiver gets the error, and takes part in no flight after that.
func TestDoChan_EndsBeforeItTakesPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// The receiver of DoChan when it begins to watch ctx, except for the channel's room.
		r := &caller[int, int]{shard: g.use().at(0), ch: make(chan Result[int]), ctx: ctx, fn: nothing}
		go r.withdraw(ctx)
		synctest.Wait()
		if n := g.Stats().EndedOnEntry; n != 1 {
			t.Errorf("got %d calls ended on entry before the Result, want 1", n)
		}
		select {
		case res := <-r.ch:
			if res != (Result[int]{Err: context.Canceled}) {
				t.Errorf("got %+v, want %v", res, context.Canceled)
			}
		default:
			t.Error("got no Result, want one")
		}
		if !r.gone {
			t.Error("got a call that would still take part, want it gone")
		}
	})
}

// A stoppableContext never ends, and calls a function when it is no longer watched.
type stoppableContext struct {
	context.Context
	done    chan struct{}
	stopped func()
}

func (c stoppableContext) Done() <-chan struct{} { return c.done }

func (c stoppableContext) AfterFunc(func()) (stop func() bool) {
	return func() bool { c.stopped(); return true }
}

// TestG13_RefusedReceiverStopsOutsideTheLock: a DoChan that is refused stops watching its
// context when no lock is held.
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
		case <-time.After(2 * time.Second): // a goroutine that waits for the lock never returns
			t.Error("got a stop under the shard's lock, want it outside")
		}
	}}
	if res := <-g.DoChan(ctx, 1, nothing); res.Err != ErrClosed || stopped != 1 {
		t.Errorf("got %+v and %d stops, want %v and 1", res, stopped, ErrClosed)
	}
}

// TestDoChan_LeavesAsItTakesPart: a receiver whose context ends at the moment when the
// call takes part leaves no edge behind. Many do so at once, so that a call and the
// goroutine that makes it leave meet at one lock or the other.
func TestDoChan_LeavesAsItTakesPart(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var outer Group[int, int]
	g := Group[int, int]{Shards: 1}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, _, _ = outer.DoContext(ctx, i, func(ctx context.Context) (int, error) {
				for range 3000 {
					<-g.DoChan(&endingContext{Context: ctx}, i, nothing)
				}
				if n := edgesOf(t, ctx.(*flightContext)); n != 0 {
					t.Errorf("got %d edges, want none", n)
				}
				return 0, nil
			})
		})
	}
	wg.Wait()
}

// TestDoChan_LeavesBeforeItStops: a receiver that leaves because a hook exits has left
// before the watch of its context, whose code may block, is stopped.
func TestDoChan_LeavesBeforeItStops(t *testing.T) {
	g := Group[int, int]{Hooks: Hooks[int]{Join: func(context.Context, Event[int]) { runtime.Goexit() }}}
	stopped := 0
	ctx := stoppableContext{context.Background(), make(chan struct{}), func() {
		if stopped++; g.Stats().Left != 1 {
			t.Error("got a stop while the call still takes part, want it after the call has left")
		}
	}}
	_, _, _ = g.Do(1, func() (int, error) {
		var wg sync.WaitGroup
		wg.Go(func() { g.DoChan(ctx, 1, nothing) })
		wg.Wait()
		return 1, nil
	})
	if stopped != 1 {
		t.Errorf("got %d stops, want 1", stopped)
	}
}

// TestDoChan_AnsweredDoesNotLeave: a receiver that is refused, or answered by a lingering
// outcome, does not leave if its context ends before the watch is stopped: it would
// answer once more.
func TestDoChan_AnsweredDoesNotLeave(t *testing.T) {
	g := Group[int, int]{Linger: Forever}
	g.Do(1, func() (int, error) { return 7, nil })
	for _, want := range []verdict{answered, refused} {
		if want == refused {
			_ = g.Shutdown(t.Context())
		}
		h, reflexive := g.use().hash(1)
		c := &caller[int, int]{shard: g.use().shard(h), ctx: t.Context(), ch: make(chan Result[int], 1)}
		c.shard.mu.Lock()
		if v := c.arriveLocked(h, 1, reflexive, anything); v != want {
			t.Fatalf("got verdict %d, want %d", v, want)
		}
		if c.withdraw(endedBy(context.Canceled)) || len(c.ch) != 0 {
			t.Errorf("verdict %d: got a call that leaves, want one that does not", want)
		}
	}
}
