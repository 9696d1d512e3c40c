package rules_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the promises that still hold while Shutdown is under way.

// TestShutdown_ClosesAllBeforeItReturns: a caller that has got ErrClosed leads no flight
// any more, for any key.
func TestShutdown_ClosesAllBeforeItReturns(t *testing.T) {
	for range 50 {
		g := coalesce.Group[int, int]{Shards: 1024}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-start
				closed := false
				for k := range 4096 {
					if _, err := g.TryDo(k, kit.Value(1)); err == coalesce.ErrClosed {
						closed = true
					} else if closed {
						t.Errorf("after ErrClosed: got %v, want %v", err, coalesce.ErrClosed)
						return
					}
				}
			})
		}
		close(start)
		g.Shutdown(t.Context())
		wg.Wait()
	}
}

// TestShutdown_FinishedFlightsKeepTheirContext: a value that a caller has received stays
// usable even if Shutdown runs out of time in the same moment (G7).
func TestShutdown_FinishedFlightsKeepTheirContext(t *testing.T) {
	const n = 3000
	g := coalesce.Group[int, context.Context]{Shards: 1}
	release := make(chan struct{})
	var once sync.Once
	var started, calls sync.WaitGroup
	started.Add(n)
	got, live := make([]context.Context, n), make([]bool, n)
	callers, cancel := context.WithCancel(t.Context())
	defer cancel()
	for k := range n {
		calls.Go(func() {
			c, _, err := g.DoContext(callers, k, func(ctx context.Context) (context.Context, error) {
				started.Done()
				select {
				case <-ctx.Done(): // the first that is canceled lets the others finish
					once.Do(func() { close(release) })
					return nil, ctx.Err()
				case <-release:
				}
				return ctx, nil
			})
			if err == nil {
				got[k], live[k] = c, c.Err() == nil
			}
		})
	}
	started.Wait()
	g.Shutdown(kit.EndedContext)
	calls.Wait()
	dead := 0
	for k := range n {
		if live[k] && got[k].Err() != nil {
			dead++
		}
	}
	if dead > 0 {
		t.Errorf("got %d contexts that were live when their call returned, and ended after, want none", dead)
	}
}

// TestShutdown_StuckStop: a context that blocks when its AfterFunc is stopped holds up
// neither Shutdown nor the rejected callers of other keys (G4, G16).
func TestShutdown_StuckStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stuck := stuckContext{ctx, make(chan struct{})}
		var old []*kit.Held
		var calls []*kit.Answer
		for _, key := range []string{"a", "b", "c", "d"} {
			old = append(old, kit.Abandon(t, &g, key))
			kit.Go(stuck, kit.Forms[3], &g, key, kit.CtxValue(0))
			a, _ := kit.Go(ctx, kit.Forms[0], &g, key, kit.CtxValue(0))
			calls = append(calls, a)
		}
		synctest.Wait()
		limit, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		start := time.Now()
		if err := g.Shutdown(limit); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Shutdown: got %v after %v, want %v after 1s", err, time.Since(start), context.DeadlineExceeded)
		}
		synctest.Wait()
		for _, a := range calls {
			if a.Err != coalesce.ErrClosed || a.At != start {
				t.Errorf("rejected: got %+v, want %v at once", a, coalesce.ErrClosed)
			}
		}
		for _, h := range old {
			close(h.Release)
		}
		close(stuck.stuck)
	})
}
