package rules_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds Detach, and contexts that the package did not make.

// TestDetach_NotWaited: work that fn does not wait for may call for fn's key, and for
// keys whose flights wait for it, with a detached context; without one, the call is
// refused.
func TestDetach_NotWaited(t *testing.T) {
	for _, f := range nested {
		for _, detach := range []bool{true, false} {
			t.Run(fmt.Sprint(f.Name, ", detached: ", detach), func(t *testing.T) {
				within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
					if detach {
						ctx = coalesce.Detach(ctx)
					}
					check := func(a kit.Answer, v int, cycle ...any) {
						t.Helper()
						if detach {
							wantAnswer(t, a, v)
						} else {
							wantCycle(t, a.Err, cycle...)
						}
					}
					for _, ctx := range []context.Context{ctx, context.WithValue(ctx, kit.CtxKey{}, 1)} {
						if f.Name != "DoFresh" || !detach {
							go func() { check(f.Call(ctx, g, "a", kit.CtxValue(0)), 1, "a", "a") }()
						}
					}
					go f.Call(ctx, g, "b", func(ctx context.Context) (int, error) {
						a := kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0))
						check(a, 1, "b", "a", "b")
						// The flight that the detached context led counts like any other.
						wantCycle(t, f.Call(ctx, g, "b", kit.CtxValue(0)).Err, "b", "b")
						return 0, nil
					})
					time.Sleep(time.Second)
				})
			})
		}
	}
}

// TestDetach_Context: a detached context is like the original in everything that package
// context defines.
func TestDetach_Context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), kit.CtxKey{}, "mine"))
		limited, stop := context.WithTimeout(parent, time.Hour)
		defer stop()
		ctx := coalesce.Detach(limited)
		if d, ok := ctx.Deadline(); !ok || time.Until(d) != time.Hour {
			t.Errorf("got deadline %v, %v, want one in 1h", d, ok)
		}
		if ctx.Value(kit.CtxKey{}) != "mine" || ctx.Err() != nil || ctx.Done() != limited.Done() {
			t.Error("got a context that differs, want the value, the error and the Done of the original")
		}
		child, stopChild := context.WithCancel(ctx)
		defer stopChild()
		var called, stopped atomic.Bool
		context.AfterFunc(ctx, func() { called.Store(true) })
		if !context.AfterFunc(ctx, func() { stopped.Store(true) })() {
			t.Error("stop: got false, want true")
		}
		cancel(kit.ErrTest)
		synctest.Wait()
		for _, c := range []context.Context{ctx, child} {
			if c.Err() != context.Canceled || context.Cause(c) != kit.ErrTest {
				t.Errorf("got %v with cause %v, want %v with cause %v", c.Err(), context.Cause(c), context.Canceled, kit.ErrTest)
			}
		}
		if !called.Load() || stopped.Load() {
			t.Errorf("got called %v, stopped %v, want true, false", called.Load(), stopped.Load())
		}
		if never := coalesce.Detach(context.Background()); never.Done() != nil || never.Err() != nil {
			t.Error("got a context that can end, want one that cannot")
		}
	})
}

// TestDetach_FlightsContext: the same for the context of an fn, which ends when the
// flight is abandoned; a context that is derived from it costs no goroutine.
func TestDetach_FlightsContext(t *testing.T) {
	withForms(t, func(t *testing.T, f kit.Form) {
		var g kit.Group
		var derived []context.Context
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), kit.CtxKey{}, "mine"))
		kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
			ctx = coalesce.Detach(coalesce.Detach(ctx))
			derived = append(derived, ctx)
			for range 100 {
				c, cancel := context.WithCancel(ctx)
				t.Cleanup(cancel)
				derived = append(derived, c)
			}
			wantNoWatchers(t)
			if _, ok := ctx.Deadline(); ok || ctx.Value(kit.CtxKey{}) != "mine" || ctx.Err() != nil {
				t.Error("got a context that differs, want no deadline, the value of the original and no error")
			}
			<-ctx.Done()
			return 0, nil
		})
		synctest.Wait()
		cancel(kit.ErrTest)
		synctest.Wait()
		for _, c := range derived {
			if c.Err() != context.Canceled || context.Cause(c) != kit.ErrTest {
				t.Fatalf("got %v with cause %v, want %v with cause %v", c.Err(), context.Cause(c), context.Canceled, kit.ErrTest)
			}
		}
	})
}

// TestDetach_Nil panics.
func TestDetach_Nil(t *testing.T) {
	//lint:ignore SA1012 that is the test
	if r := panicOf(func() { coalesce.Detach(nil) }); r != "coalesce: nil context" {
		t.Errorf("got the panic %v, want coalesce: nil context", r)
	}
}

// A valueContext runs a function when it is asked for a value.
type valueContext struct {
	context.Context
	asked func()
}

func (c *valueContext) Value(key any) any {
	c.asked()
	return c.Context.Value(key)
}

// TestDeadlock_SlowValue: a context that takes its time to find a value, or calls the
// group meanwhile, holds up its own caller only.
func TestDeadlock_SlowValue(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				start := time.Now()
				var inValue atomic.Int32
				slow := &valueContext{ctx, func() {
					if inValue.Add(1) == 1 {
						wantCycle(t, f.Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
						wantAnswer(t, f.Call(ctx, g, "d", kit.CtxValue(4)), 4)
						time.Sleep(time.Hour)
					}
				}}
				a, done := kit.Go(slow, f, g, "b", kit.CtxValue(2))
				synctest.Wait()
				wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
				wantAnswer(t, kit.Forms[0].Call(ctx, g, "c", kit.CtxValue(3)), 3)
				if g.Len() != 1 || time.Since(start) != 0 {
					t.Errorf("got Len %d after %v, want 1 after 0s", g.Len(), time.Since(start))
				}
				<-done
				wantAnswer(t, *a, 2)
			})
		})
	}
}

// TestDeadlock_PanickingValue: if the Value method of a context panics, or exits, so does
// the caller; the call has not begun.
func TestDeadlock_PanickingValue(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				before := g.Stats()
				a := f.Call(&valueContext{ctx, func() { panic(kit.ErrTest) }}, g, "b", kit.CtxValue(0))
				if a.Panic != kit.ErrTest {
					t.Errorf("got %+v, want the panic %v", a, kit.ErrTest)
				}
				_, done := kit.Go(&valueContext{ctx, runtime.Goexit}, f, g, "b", kit.CtxValue(0))
				<-done
				if got := g.Stats(); got != before || g.Len() != 1 {
					t.Errorf("got %+v, Len %d, want %+v, 1", got, g.Len(), before)
				}
				wantCycle(t, f.Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
				wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
			})
		})
	}
}

// TestDeadlock_ForeignContext: the context of a call says which fn makes it, not the
// goroutine that makes it.
func TestDeadlock_ForeignContext(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctxA context.Context) {
		_, _, err := g.DoContext(ctxA, "b", func(ctxB context.Context) (int, error) {
			wantCycle(t, kit.Forms[2].Call(ctxA, g, "a", kit.CtxValue(0)).Err, "a", "a")
			wantCycle(t, kit.Forms[2].Call(ctxB, g, "a", kit.CtxValue(0)).Err, "b", "a", "b")
			// As a call of a, this is no cycle. As one of b, it would be refused.
			limit, cancel := context.WithTimeout(ctxA, time.Minute)
			defer cancel()
			if a := kit.Forms[2].Call(limit, g, "b", kit.CtxValue(0)); a.Err != context.DeadlineExceeded {
				t.Errorf("got %+v, want %v", a, context.DeadlineExceeded)
			}
			wantCycle(t, kit.Forms[2].Call(ctxB, g, "b", kit.CtxValue(0)).Err, "b", "b")
			return 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
