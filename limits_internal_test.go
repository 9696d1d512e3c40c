package coalesce

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestMaxAge_OfOneNanosecond: the least MaxAge is one nanosecond.
func TestMaxAge_OfOneNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{MaxAge: 1}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		time.Sleep(1 * time.Nanosecond)
		if v, shared, err := g.Do(1, func() (int, error) { return 2, nil }); v != 2 || shared || err != nil {
			t.Errorf("got %d, %v, %v, want 2, false, nil", v, shared, err)
		}
		close(release)
	})
}

// TestMaxAge_TimerOfOneThatEvaporated: the timer of a successor that all its calls have
// left is stopped, and does no harm if it has fired already.
func TestMaxAge_TimerOfOneThatEvaporated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{MaxAge: time.Hour}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoFresh(ctx, 1, nothing)
		synctest.Wait()
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		q := s.lookup(h, 1, reflexive).queue()
		s.mu.Unlock()
		cancel()
		synctest.Wait()
		if x := q.cold; x.timer != nil {
			t.Error("got a timer kept, want none")
		}
		s.expire(q)
		if n := g.Stats().TakenOver; n != 0 {
			t.Errorf("got %d flights taken over, want none", n)
		}
		close(release)
	})
}

// TestMaxWaiters_OfTheCounter: without MaxWaiters, a flight takes as many calls as it can
// count, and not one more.
func TestMaxWaiters_OfTheCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		f := s.lookup(h, 1, reflexive)
		f.callers = math.MaxInt32 - 1 // as if they had joined
		s.mu.Unlock()
		last := g.DoChan(context.Background(), 1, nothing)
		refused := <-g.DoChan(context.Background(), 1, nothing)
		s.mu.Lock()
		callers := f.callers
		f.callers = 2
		s.mu.Unlock()
		if callers != math.MaxInt32 || refused.Err != ErrSaturated {
			t.Errorf("got %d callers, %+v, want %d and ErrSaturated", callers, refused, math.MaxInt32)
		}
		close(release)
		if r := <-last; r.Val != 1 || r.Err != nil {
			t.Errorf("got %+v, want 1", r)
		}
	})
}
