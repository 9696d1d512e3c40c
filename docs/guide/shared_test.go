package guide

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for questions that callers of one flight have about it.

// TestWhoLed: a variable in the caller's own closure shows whether that closure ran.
// shared does not: it is true for the leader as well.
func TestWhoLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, string]
		load := func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return "page", nil
		}
		get := func(ctx context.Context, key string) (page string, led bool, err error) {
			var mine atomic.Bool // fn may still run when this call has left
			page, _, err = g.DoContext(ctx, key, func(ctx context.Context) (string, error) {
				mine.Store(true)
				return load(ctx)
			})
			return page, mine.Load(), err
		}
		var leaders atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, led, err := get(t.Context(), "/"); err != nil {
					t.Errorf("got %v, want nil", err)
				} else if led {
					leaders.Add(1)
				}
			})
		}
		wg.Wait()
		if got := leaders.Load(); got != 1 {
			t.Errorf("got %d leaders, want 1", got)
		}
	})
}

// TestWhoseError: an error of a context may be that of fn's. It is the caller's if and
// only if the caller's own context has ended. An fn that returns the cause of its context
// reports more than one that returns ctx.Err().
func TestWhoseError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, string]
		load := func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("the store is slow"))
			defer cancel()
			<-ctx.Done()
			return "", fmt.Errorf("load: %w (%w)", ctx.Err(), context.Cause(ctx))
		}
		get := func(ctx context.Context, key string) (status int) {
			_, _, err := g.DoContext(ctx, key, load)
			switch {
			case err == nil:
				return 200
			case ctx.Err() != nil: // not errors.Is(err, context.DeadlineExceeded)
				return 499 // the client has gone
			}
			return 504
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := get(short, "/"); got != 499 {
				t.Errorf("the caller that left: got %d, want 499", got)
			}
		})
		wg.Go(func() {
			if got := get(t.Context(), "/"); got != 504 {
				t.Errorf("the caller that stayed: got %d, want 504", got)
			}
		})
		wg.Wait()
	})
}
