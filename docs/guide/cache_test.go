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

// This file holds recipes for a group beside a cache of the program's own.

// TestLookAgain: between a miss of the cache and the call of the group, the flight of
// another caller may have filled the cache and finished. So fn looks again.
func TestLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, string]
		var cache sync.Map
		var loads atomic.Int64
		load := func(context.Context) (string, error) {
			loads.Add(1)
			time.Sleep(time.Second)
			return "page", nil
		}
		get := func(ctx context.Context, key string, pause time.Duration) (string, error) {
			if page, ok := cache.Load(key); ok {
				return page.(string), nil
			}
			time.Sleep(pause) // a goroutine may wait for its turn here
			page, _, err := g.DoContext(ctx, key, func(ctx context.Context) (string, error) {
				if page, ok := cache.Load(key); ok {
					return page.(string), nil
				}
				page, err := load(ctx)
				if err == nil {
					cache.Store(key, page)
				}
				return page, err
			})
			return page, err
		}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				if page, err := get(t.Context(), "k", time.Duration(i)*100*time.Millisecond); page != "page" || err != nil {
					t.Errorf("got %q, %v, want the page", page, err)
				}
			})
		}
		wg.Wait()
		if got := loads.Load(); got != 1 {
			t.Errorf("got %d loads, want 1", got)
		}
	})
}

// TestLingerBridgesTheGap: a cache that takes its entries a little later, or a
// replica that lags, is bridged by outcomes that linger for as long.
func TestLingerBridgesTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[string, string]{Linger: time.Second}
		var cache sync.Map
		var loads atomic.Int64
		get := func(ctx context.Context, key string) (string, error) {
			if page, ok := cache.Load(key); ok {
				return page.(string), nil
			}
			page, _, err := g.DoContext(ctx, key, func(context.Context) (string, error) {
				loads.Add(1)
				time.AfterFunc(900*time.Millisecond, func() { cache.Store(key, "page") }) // the cache writes behind
				return "page", nil
			})
			return page, err
		}
		for range 200 {
			if page, err := get(t.Context(), "k"); page != "page" || err != nil {
				t.Fatalf("got %q, %v, want the page", page, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := loads.Load(); got != 1 {
			t.Errorf("got %d loads, want 1", got)
		}
	})
}
