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

// An endlessContext says that it has ended but has no Done to tell of it.
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

// TestPromoted_ErrWithoutDone: a context without Done never ends, whatever its
// Err says later; the call that has it leads when it is its turn.
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
			t.Errorf("%+v, Len %d", a, g.Len())
		}
	})
}

// TestPromoted_StrangeErr: a call that was picked hands the flight on though
// its context's Err tells of the end before Done does, or panics, or exits.
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
					t.Errorf("first: %+v", first)
				}
				if !kit.IsDone(secondDone) || second.V != 2 || g.Len() != 0 {
					t.Errorf("second: %+v, Len %d", second, g.Len())
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

// TestPromoted_ExitingValue: a receiver, or a key of a DoMulti, that was picked hands the
// flight on though its context exits the goroutine that is to lead.
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
				t.Errorf("%s: got %+v for the next in the queue, Len %d", f.Name, second, g.Len())
			}
		})
	}
}

// TestDo_QueuedAloneWakesNobody: a queued Do that comes to lead alone starts no
// goroutine when it is done.
func TestDo_QueuedAloneWakesNobody(t *testing.T) {
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
				t.Errorf("%d goroutines started", n-before)
			}
		}()
		synctest.Wait()
		close(old.Release)
		synctest.Wait()
	})
}
