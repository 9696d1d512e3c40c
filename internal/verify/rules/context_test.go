package rules_test

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// withForms runs test in a bubble for each form that gives fn a context of the
// flight's own.
func withForms(t *testing.T, test func(t *testing.T, f kit.Form)) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, f) })
		})
	}
}

// TestG7_ValuesButNoDeadline: fn's context has the values of the leader's, and no
// deadline.
func TestG7_ValuesButNoDeadline(t *testing.T) {
	withForms(t, func(t *testing.T, f kit.Form) {
		var g kit.Group
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), kit.CtxKey{}, "mine"), time.Hour)
		defer cancel()
		a := f.Call(ctx, &g, "k", func(ctx context.Context) (int, error) {
			if _, ok := ctx.Deadline(); ok {
				t.Error("got a context with a deadline, want none")
			}
			if v := ctx.Value(kit.CtxKey{}); v != "mine" {
				t.Errorf("got value %v, want mine", v)
			}
			if ctx.Err() != nil || context.Cause(ctx) != nil {
				t.Errorf("got a context that has ended with %v, %v, want a live one", ctx.Err(), context.Cause(ctx))
			}
			if s := fmt.Sprint(ctx); s != "coalesce.Flight" {
				t.Errorf("got the text %q, want coalesce.Flight", s)
			}
			return 1, nil
		})
		if a.V != 1 {
			t.Errorf("got %+v, want 1", a)
		}
	})
}

// TestG7_CanceledWhenLastCallerLeaves: fn's context is not canceled when the first caller
// leaves, though that one led, but when the last one leaves, with that caller's cause.
func TestG7_CanceledWhenLastCallerLeaves(t *testing.T) {
	withForms(t, func(t *testing.T, f kit.Form) {
		for _, asksEarly := range []bool{true, false} {
			var g kit.Group
			var fnCtx context.Context
			ended := make(chan struct{})
			first, cancelFirst := context.WithCancelCause(t.Context())
			kit.Go(first, f, &g, "k", func(ctx context.Context) (int, error) {
				fnCtx = ctx
				if asksEarly {
					<-ctx.Done()
				} else {
					for ctx.Err() == nil {
						time.Sleep(time.Millisecond)
					}
					<-ctx.Done()
				}
				close(ended)
				return 0, context.Cause(ctx)
			})
			synctest.Wait()
			last, cancelLast := context.WithCancelCause(t.Context())
			b, done := kit.Go(last, kit.Forms[3], &g, "k", kit.CtxValue(0))
			synctest.Wait()
			cancelFirst(fmt.Errorf("not this one"))
			time.Sleep(time.Second)
			if fnCtx.Err() != nil || context.Cause(fnCtx) != nil {
				t.Errorf("got a context that has ended with %v, %v when one caller left, want a live one", fnCtx.Err(), context.Cause(fnCtx))
			}
			child, stop := context.WithCancel(fnCtx)
			if child.Err() != nil {
				t.Errorf("got a child that has ended with %v, want a live one", context.Cause(child))
			}
			cancelLast(kit.ErrTest)
			<-done
			<-ended
			synctest.Wait()
			if b.Err != context.Canceled {
				t.Errorf("last: got %+v, want %v", b, context.Canceled)
			}
			late, stopLate := context.WithTimeout(context.WithValue(fnCtx, kit.CtxKey{}, 2), time.Hour)
			for name, c := range map[string]context.Context{"it": fnCtx, "a child": child, "a late child": late} {
				if c.Err() != context.Canceled || context.Cause(c) != kit.ErrTest {
					t.Errorf("%s: got %v with cause %v, want %v with cause %v", name, c.Err(), context.Cause(c), context.Canceled, kit.ErrTest)
				}
			}
			stop()
			stopLate()
		}
	})
}

// TestG7_NotCanceledByReturn: a value that fn returns may go on using fn's context.
func TestG7_NotCanceledByReturn(t *testing.T) {
	withForms(t, func(t *testing.T, f kit.Form) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		var fnCtx context.Context
		f.Call(ctx, &g, "k", func(ctx context.Context) (int, error) {
			fnCtx = ctx
			return 0, nil
		})
		cancel()
		synctest.Wait()
		if fnCtx.Err() != nil || context.Cause(fnCtx) != nil {
			t.Errorf("got a context that has ended with %v, %v, want a live one", fnCtx.Err(), context.Cause(fnCtx))
		}
		select {
		case <-fnCtx.Done():
			t.Error("got a closed Done, want an open one")
		default:
		}
	})
}

// TestG7_DerivedContextsCostNoGoroutine: neither a context that package context derives
// from fn's nor an AfterFunc of it starts a goroutine.
func TestG7_DerivedContextsCostNoGoroutine(t *testing.T) {
	var g kit.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
		for range 100 {
			_, stop := context.WithTimeout(ctx, time.Hour)
			defer stop()
			defer context.AfterFunc(ctx, func() { t.Error("got a call of the function, want none") })()
		}
		wantNoWatchers(t)
		return 0, nil
	})
}

// TestG7_AfterFunc: the function is called once, on its own goroutine, unless it is
// stopped in time; at once if the context has ended.
func TestG7_AfterFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		var called, stopped atomic.Int32
		var stops []func() bool
		ctx, cancel := context.WithCancel(t.Context())
		kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			for i := range 30 {
				stop := context.AfterFunc(ctx, func() {
					called.Add(1)
					ctx.Done() // no lock of the context is held
				})
				if i%3 == 0 {
					stops = append(stops, stop)
				} else if i%3 == 1 && !stop() {
					t.Error("stop: got false, want true")
				}
			}
			<-ctx.Done()
			time.Sleep(time.Second)
			context.AfterFunc(ctx, func() { called.Add(100) })
			return 0, nil
		})
		synctest.Wait()
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, stop := range stops {
			if stop() {
				stopped.Add(1)
			}
		}
		if called.Load() != 120 || stopped.Load() != 0 {
			t.Errorf("got %d called and %d stopped, want 120 and 0", called.Load(), stopped.Load())
		}
	})
}

// TestG7_CanceledByShutdown: fn's context is canceled with cause ErrClosed when Shutdown
// runs out of time, and not before.
func TestG7_CanceledByShutdown(t *testing.T) {
	withForms(t, func(t *testing.T, f kit.Form) {
		var g kit.Group
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a, _ := kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			if time.Since(start) != time.Minute {
				t.Errorf("got canceled after %v, want 1m", time.Since(start))
			}
			return 3, context.Cause(ctx)
		})
		synctest.Wait()
		limit, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := g.Shutdown(limit); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: got %v, want %v", err, context.DeadlineExceeded)
		}
		synctest.Wait()
		if a.V != 3 || a.Err != coalesce.ErrClosed {
			t.Errorf("got %+v, want 3, %v", a, coalesce.ErrClosed)
		}
		if err := g.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: got %v, want nil", err)
		}
	})
}

// TestG7_NestedFlights: where fn's context is used for a call of another group, the inner
// flight has the values of the outer leader, and a cancellation of its own.
func TestG7_NestedFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outer, inner kit.Group
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), kit.CtxKey{}, "outermost"))
		var innerCause error
		a, _ := kit.Go(ctx, kit.Forms[2], &outer, "k", func(ctx context.Context) (int, error) {
			v, _, err := inner.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
				if v := ctx.Value(kit.CtxKey{}); v != "outermost" {
					t.Errorf("got value %v, want outermost", v)
				}
				<-ctx.Done()
				innerCause = context.Cause(ctx)
				return 0, nil
			})
			return v, err
		})
		synctest.Wait()
		cancel(kit.ErrTest)
		synctest.Wait()
		if a.Err != context.Canceled || innerCause != kit.ErrTest {
			t.Errorf("got outer %+v and inner cause %v, want %v and %v", a, innerCause, context.Canceled, kit.ErrTest)
		}
	})
}

// A deniesContext has ended, but reports no error.
type deniesContext struct{ context.Context }

func (c deniesContext) Done() <-chan struct{} { return kit.EndedContext.Done() }

func (c deniesContext) Err() error { return nil }

// TestContext_DeniesItsEnd: a caller whose context has closed Done, but reports no error,
// gets an error all the same.
func TestContext_DeniesItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h := kit.Lead(t, &g)
		ctx := deniesContext{t.Context()}
		for _, f := range kit.Leaving {
			if f.Name == "DoChan" {
				continue // package context does not take it
			}
			if a := f.Call(ctx, &g, "k", kit.CtxValue(2)); a.V != 0 || a.Err != context.Canceled {
				t.Errorf("%s: got %+v, want 0, %v", f.Name, a, context.Canceled)
			}
		}
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: got %v, want %v", err, context.Canceled)
		}
		close(h.Release)
	})
}

// TestDoChan_PromotedLabels: a receiver that leads carries the labels of its own
// context, not those of the goroutine that promoted it.
func TestDoChan_PromotedLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		h := kit.Hold()
		kit.Go(pprof.WithLabels(ctx, pprof.Labels("who", "first")), kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			pprof.SetGoroutineLabels(ctx)
			return h.Fn(1)()
		})
		<-h.Started
		cancel()
		synctest.Wait()
		ctx = pprof.WithLabels(t.Context(), pprof.Labels("who", "second"))
		ch := g.DoChan(ctx, "k", func(context.Context) (int, error) {
			var b strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
			if !strings.Contains(b.String(), `{"who":"second"}`) {
				t.Errorf("got %s, want the labels of the second call's context", b.String())
			}
			return 2, nil
		})
		close(h.Release)
		<-ch
	})
}

// wantNoWatchers checks that no context has a goroutine that waits for its parent to end.
// (runtime.NumGoroutine is not exact after thousands have ended.)
func wantNoWatchers(t *testing.T) {
	t.Helper()
	if !kit.Eventually(func() bool { // another test's may be on its way out
		var goroutines strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&goroutines, 1)
		return !strings.Contains(goroutines.String(), "propagateCancel")
	}) {
		t.Error("got a derived context with a goroutine that waits for its parent, want none")
	}
}

// TestG7_CauseThatPanics: fn's context is canceled even if the context of the last caller
// panics when it is asked for its cause.
func TestG7_CauseThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		base, cancel := context.WithCancel(t.Context())
		ctx := &panickingValue{Context: base}
		a, done := kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		synctest.Wait()
		ctx.panics.Store(true)
		cancel()
		synctest.Wait()
		if !kit.IsDone(done) || a.Panic != kit.ErrTest || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want the panic %v, 0", a, g.Len(), kit.ErrTest)
		}
	})
}

type panickingValue struct {
	context.Context
	panics atomic.Bool
}

func (c *panickingValue) Value(key any) any {
	if c.panics.Load() {
		panic(kit.ErrTest)
	}
	return c.Context.Value(key)
}
