package guide

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for fns that make calls themselves.

// TestOnDeadlock: two pages include each other. The call that would wait for itself gets
// the error, and its fn, which knows best, goes on without the page that it called for.
func TestOnDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pages coalesce.Group[string, string]
		includes := map[string]string{"a": "b", "b": "a"}
		var render func(ctx context.Context, name string) (string, error)
		render = func(ctx context.Context, name string) (string, error) {
			text, _, err := pages.DoContext(ctx, name, func(ctx context.Context) (string, error) {
				inner, err := render(ctx, includes[name]) // with the context that fn got
				if errors.Is(err, coalesce.ErrDeadlock) {
					inner, err = "(see above)", nil
				}
				return name + " " + inner, err
			})
			return text, err
		}
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if text, err := render(ctx, name); err != nil || text == "" {
					t.Errorf("%s: got %q, %v, want a text", name, text, err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took > 20*time.Millisecond {
			t.Errorf("got an answer after %v, want at most 20ms", took)
		}
	})
}

// TestLimitAndNestedCalls: a limit over all keys can stop all work forever if an fn that
// has a slot waits for a flight whose fn needs one: no flight waits for itself, so no
// deadlock is reported. So fn makes its calls first, and takes a slot for its own work
// alone.
func TestLimitAndNestedCalls(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var g coalesce.Group[int, int]
			slots := make(chan struct{}, 2)
			var sum func(ctx context.Context, key int) (int, error) // of key and all below
			sum = func(ctx context.Context, key int) (int, error) {
				if key == 0 {
					return 0, nil
				}
				v, _, err := g.DoContext(ctx, key, func(ctx context.Context) (int, error) {
					below, err := sum(ctx, key-1) // before it has a slot
					if err != nil {
						return 0, err
					}
					select {
					case slots <- struct{}{}:
						defer func() { <-slots }()
					case <-ctx.Done():
						return 0, context.Cause(ctx)
					}
					time.Sleep(time.Millisecond)
					return key + below, nil
				})
				return v, err
			}
			var wg sync.WaitGroup
			for key := range 10 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if got, err := sum(ctx, key); got != key*(key+1)/2 || err != nil {
						t.Errorf("sum to %d: got %d, %v, want %d, nil", key, got, err, key*(key+1)/2)
					}
				})
			}
			wg.Wait()
		})
	}
}
