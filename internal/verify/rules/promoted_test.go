package rules_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds calls that were queued and come to lead, with contexts of every kind.

// An endlessContext reports an error, but has no Done channel that is closed.
type endlessContext struct {
	context.Context
	mu  sync.Mutex
	err error
}

func (c *endlessContext) Done() <-chan struct{} { return nil }

func (c *endlessContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// TestPromoted_ErrWithoutDone: a context without Done never ends, even if its Err says so
// later; the call that has it leads when its turn comes.
func TestPromoted_ErrWithoutDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		ctx := &endlessContext{Context: context.Background()}
		a, done := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(2))
		synctest.Wait()
		ctx.mu.Lock()
		ctx.err = context.Canceled
		ctx.mu.Unlock()
		close(old.Release)
		synctest.Wait()
		if !kit.IsDone(done) || a.V != 2 || a.Err != nil || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want 2, 0", a, g.Len())
		}
	})
}

// TestPromoted_StrangeErr: a promoted call passes the flight on even if its context's Err
// reports the end before Done does, or panics, or exits.
func TestPromoted_StrangeErr(t *testing.T) {
	for name, err := range map[string]func() error{
		"early":  func() error { return kit.ErrTest },
		"panics": func() error { panic(kit.ErrTest) },
		"exits":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := kit.Abandon(t, &g, "k")
				base, cancel := context.WithCancel(t.Context())
				defer cancel()
				ctx := &kit.StrangeContext{Context: base, StrangeErr: err}
				first, firstDone := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(1))
				synctest.Wait()
				second, secondDone := kit.Go(base, kit.Forms[0], &g, "k", kit.CtxValue(2))
				synctest.Wait()
				ctx.Strange.Store(true)
				close(old.Release)
				synctest.Wait()
				if !kit.IsDone(firstDone) || name == "early" && first.Err != kit.ErrTest || name == "panics" && first.Panic != kit.ErrTest {
					t.Errorf("first: got %+v, want the error or the panic of its context", first)
				}
				if !kit.IsDone(secondDone) || second.V != 2 || g.Len() != 0 {
					t.Errorf("second: got %+v, Len %d, want 2, 0", second, g.Len())
				}
			})
		})
	}
}

// An exitingValue exits the goroutine that asks it for a value, once exits is set.
type exitingValue struct {
	context.Context
	exits atomic.Bool
}

func (c *exitingValue) Value(key any) any {
	if c.exits.Load() {
		runtime.Goexit()
	}
	return c.Context.Value(key)
}

// TestPromoted_ExitingValue: a promoted receiver, or a promoted key of a DoMulti, passes
// the flight on even if its context exits the goroutine that is to lead.
func TestPromoted_ExitingValue(t *testing.T) {
	for _, f := range []kit.Form{kit.Forms[3], kit.Forms[5]} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			old := kit.Abandon(t, &g, "k")
			base, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctx := &exitingValue{Context: base}
			kit.Go(ctx, f, &g, "k", kit.CtxValue(1))
			synctest.Wait()
			second, done := kit.Go(base, kit.Forms[0], &g, "k", kit.CtxValue(2))
			synctest.Wait()
			ctx.exits.Store(true)
			close(old.Release)
			synctest.Wait()
			if !kit.IsDone(done) || second.V != 2 || g.Len() != 0 {
				t.Errorf("%s: got %+v for the next in the queue, Len %d, want 2, 0", f.Name, second, g.Len())
			}
		})
	}
}

// TestDo_QueuedAloneStartsNoGoroutine: a queued Do that comes to lead alone starts no
// goroutine when it is done.
func TestDo_QueuedAloneStartsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		var before int
		go func() {
			g.Do("k", func() (int, error) {
				before = runtime.NumGoroutine()
				return 0, nil
			})
			if n := runtime.NumGoroutine(); n > before {
				t.Errorf("got %d goroutines started, want none", n-before)
			}
		}()
		synctest.Wait()
		close(old.Release)
		synctest.Wait()
	})
}
