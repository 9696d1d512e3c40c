package coalesce

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestShutdown_RejectedIsNotKept: a successor that Shutdown has rejected is no longer
// behind another, nor does a timer keep it (G12).
func TestShutdown_RejectedIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, MaxAge: time.Hour}
		release := make(chan struct{})
		go g.DoContext(t.Context(), 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		go g.DoFresh(t.Context(), 1, nothing)
		synctest.Wait()
		s := g.use().at(0)
		var q *flight[int, int]
		s.mu.Lock()
		for f := range s.all() {
			q = f.queue()
		}
		s.mu.Unlock()
		x := q.cold
		if x.timer == nil || q.cold.ctx.ahead.Load() == nil {
			t.Fatal("got no flight queued behind the first, want one")
		}
		go g.Shutdown(t.Context())
		synctest.Wait()
		if q.state != finished {
			t.Error("got a successor that is not finished, want it rejected")
		}
		if x.timer != nil || q.cold.ctx.ahead.Load() != nil {
			t.Error("got a timer or the flight ahead kept, want neither")
		}
		close(release)
	})
}

// TestShutdown_BusyAtAnyMoment: a shard that always has a flight, in the slot or in the
// table, is always busy. The race detector judges as well.
func TestShutdown_BusyAtAnyMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	tab := g.use()
	s := tab.at(0)
	s.count = 1
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			s.alone, s.count = !s.alone, 1-s.count
			s.mu.Unlock()
		}
	})
	for range 20_000 {
		if !tab.busy() {
			t.Error("got busy false, want true")
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestShutdown_ReturnsWhenAllIsClosed: a call that is refused, or leaves as it is
// rejected, while Shutdown has closed only some shards, does not return before all are
// closed: its caller could still lead in one of the others.
func TestShutdown_ReturnsWhenAllIsClosed(t *testing.T) {
	type form func(ctx context.Context, g *Group[int, int], key int) error
	for name, call := range map[string]struct {
		form   form
		queued bool
	}{
		"Do": {func(_ context.Context, g *Group[int, int], key int) error {
			_, _, err := g.Do(key, func() (int, error) { return 2, nil })
			return err
		}, false},
		"DoFresh": {func(ctx context.Context, g *Group[int, int], key int) error {
			_, _, err := g.DoFresh(ctx, key, nothing)
			return err
		}, true},
		"DoMulti": {func(ctx context.Context, g *Group[int, int], key int) error {
			return g.DoMulti(ctx, []int{key}, func(context.Context, []int) (map[int]int, error) { return nil, nil })[key].Err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Group[int, int]{Shards: 2}
			tab := g.use()
			key := 0
			for h, _ := tab.hash(key); tab.shard(h) != tab.at(0); h, _ = tab.hash(key) {
				key++
			}
			release, begun := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			leave, end := context.WithCancel(t.Context())
			wg.Go(func() {
				g.DoContext(leave, key, func(context.Context) (int, error) { close(begun); <-release; return 1, nil })
			})
			<-begun
			end() // no call joins the flight any more
			for g.Stats().Abandoned == 0 {
				runtime.Gosched()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answers := make(chan error, 1)
			ask := func() { answers <- call.form(ctx, g, key) }
			if call.queued {
				wg.Go(ask)
				for queued := false; !queued; runtime.Gosched() {
					for f := range g.Flights() {
						queued = queued || f.State == StateQueued
					}
				}
			}
			tab.at(1).mu.Lock()
			wg.Go(func() {
				if err := g.Shutdown(context.Background()); err != nil {
					t.Errorf("Shutdown: got %v, want nil", err)
				}
			})
			for closed := false; !closed; runtime.Gosched() {
				tab.at(0).mu.Lock()
				closed = tab.at(0).closed
				tab.at(0).mu.Unlock()
			}
			if call.queued {
				cancel()
			} else {
				wg.Go(ask)
			}
			early := false
			for waits := false; !waits && !early; runtime.Gosched() {
				early, waits = len(answers) > 0, locked(").awaitClosed(")
			}
			if early {
				t.Error("got an answer while a shard is open, want it later")
			}
			tab.at(1).mu.Unlock()
			if err := <-answers; err != ErrClosed {
				t.Errorf("got %v, want %v", err, ErrClosed)
			}
			close(release)
			wg.Wait()
		})
	}
}

// TestShutdown_FinishingBatchKeepsItsContext: a Shutdown that runs out of time does not
// end the context of a batch if one of its flights finishes, in another shard, at that
// moment: a caller may have the result of that flight.
func TestShutdown_FinishingBatchKeepsItsContext(t *testing.T) {
	var g Group[int, int]
	begun, release := make(chan *flightContext), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		g.DoMulti(context.Background(), []int{1, 2}, func(ctx context.Context, _ []int) (map[int]int, error) {
			begun <- ctx.(*flightContext)
			<-release
			return nil, nil
		})
	})
	c := <-begun
	c.mu.Lock()
	wg.Go(g.use().cancelAll)
	untilLocked(t, ").cancelAll(")
	c.finished.Store(true) // as the end of a flight does
	c.mu.Unlock()
	close(release)
	wg.Wait()
	if err := c.Err(); err != nil {
		t.Errorf("got a context that has ended with %v, want a live one", context.Cause(c))
	}
}

// TestG14_ShutdownAgain: a Shutdown that finds no flight running uses nothing that an
// earlier one has made, which was in a bubble.
func TestG14_ShutdownAgain(t *testing.T) {
	var g Group[int, int]
	synctest.Test(t, func(t *testing.T) {
		go g.Do(1, func() (int, error) { time.Sleep(time.Second); return 0, nil })
		synctest.Wait()
		if err := g.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: got %v, want nil", err)
		}
	})
	for s := range g.use().all() {
		if drained, _ := s.close(); drained != nil {
			t.Fatal("got a channel of the bubble's to wait on, want none")
		}
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: got %v, want nil", err)
	}
}

// TestShutdown_DropsWhileTheIndexShrinks: lingering outcomes are dropped even if a sweep,
// which deletes without the lock of the shard, makes the index shrink at that moment.
func TestShutdown_DropsWhileTheIndexShrinks(t *testing.T) {
	const expire, stay = 20_000, 10
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			g := &Group[int, int]{Shards: 1, LingerFor: func(v int, _ error) time.Duration {
				if v < stay {
					return Forever
				}
				return time.Hour
			}}
			for i := range expire {
				g.Do(i, func() (int, error) { return i, nil })
			}
			index := g.state.Load().at(0).outcomes.Load()
			time.Sleep(time.Hour - time.Second)
			for range 2000 { // the sweep runs in one of these
				time.Sleep(time.Millisecond)
				if index.Size() < expire {
					break
				}
			}
			for index.Size() > stay+expire/200 {
				runtime.Gosched()
			}
			if err := g.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := index.Size(); n != 0 {
				t.Errorf("got %d outcomes still indexed, want none", n)
			}
		})
		if t.Failed() {
			return
		}
	}
}
