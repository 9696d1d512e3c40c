package guide

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes with Hold: fn also works for others than the group's callers.

// TestFillAfterHangUp: a request loads a page into a cache of the program's
// own. The load goes on though the client has hung up, a client that comes meanwhile
// joins it, and the next ones find the page in the cache.
func TestFillAfterHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, string]
		var cache sync.Map
		var loads atomic.Int64
		handle := func(ctx context.Context) (string, error) {
			if page, ok := cache.Load("k"); ok {
				return page.(string), nil
			}
			page, _, err := g.DoContext(ctx, "k", func(ctx context.Context) (string, error) {
				coalesce.Hold(ctx)
				loads.Add(1)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return "", context.Cause(ctx)
				}
				cache.Store("k", "page")
				return "page", nil
			})
			return page, err
		}
		request := func(patience time.Duration) (string, error) {
			ctx, hangUp := context.WithTimeout(t.Context(), patience)
			defer hangUp()
			return handle(ctx)
		}
		for _, tt := range []struct {
			after, patience time.Duration
			want            string
		}{
			{0, 300 * time.Millisecond, ""},
			{100 * time.Millisecond, 300 * time.Millisecond, ""},
			{200 * time.Millisecond, time.Minute, "page"}, // it is there a second after the first
			{0, time.Millisecond, "page"},
		} {
			time.Sleep(tt.after)
			page, err := request(tt.patience)
			if page != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", page, err, tt.want)
			}
		}
		if loads.Load() != 1 {
			t.Errorf("got %d loads, want 1", loads.Load())
		}
	})
}

// TestFillOfFewKeys: only a load that is worth it is held: here, one that has come more
// than half way.
func TestFillOfFewKeys(t *testing.T) {
	for _, tt := range []struct {
		leaves time.Duration
		want   int // steps
	}{{2500 * time.Millisecond, 3}, {7500 * time.Millisecond, 10}} {
		synctest.Test(t, func(t *testing.T) {
			var g coalesce.Group[string, int]
			ctx, cancel := context.WithTimeout(t.Context(), tt.leaves)
			defer cancel()
			steps := 0
			_, _, err := g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
				for ; steps < 10; steps++ {
					if steps == 5 {
						coalesce.Hold(ctx)
					}
					time.Sleep(time.Second)
					if ctx.Err() != nil {
						steps++
						return 0, context.Cause(ctx)
					}
				}
				return steps, nil
			})
			time.Sleep(time.Minute)
			synctest.Wait()
			if err != context.DeadlineExceeded || steps != tt.want {
				t.Errorf("leaves after %v: got %d steps, %v, want %d", tt.leaves, steps, err, tt.want)
			}
		})
	}
}
