package fleet

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file tests calls of which nothing goes wrong.

// TestDoInfo_OneForAll: calls of all processes share one execution and its value.
func TestDoInfo_OneForAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		var w work
		var calls []*outcome
		for i := range 6 {
			calls = append(calls, call(t.Context(), g[i/2], "k", w.after(time.Second, "v")))
			later(10 * time.Millisecond)
		}
		for i, o := range calls {
			role := Followed
			if i < 2 {
				role = Led
			}
			o.is(t, "v", role)
			if want := time.Second - time.Duration(i)*10*time.Millisecond; o.took != want {
				t.Errorf("call %d took %v, want %v", i, o.took, want)
			}
			if o.info.Process != "a" || o.info.Token == 0 || o.info.Token != calls[0].info.Token {
				t.Errorf("got %+v, want the execution of %+v", o.info, calls[0].info)
			}
		}
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestDoContext_Shared: shared is reported for values of other processes, and for those
// that several calls of this process get.
func TestDoContext_Shared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		var w work
		shared := make(chan bool, 2)
		do := func(g *group) {
			_, s, _ := g.DoContext(t.Context(), "k", w.after(time.Second, "v"))
			shared <- s
		}
		go do(g[0])
		later(0)
		go do(g[1])
		if a, b := <-shared, <-shared; a == b {
			t.Errorf("got shared %t and %t, want one of them: the leader's is not", a, b)
		}
		go do(g[0])
		go do(g[0])
		if a, b := <-shared, <-shared; !a || !b {
			t.Errorf("got shared %t and %t, want both", a, b)
		}
	})
}

// TestDoContext_NotLater: a value does not answer calls that come after it.
func TestDoContext_NotLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "first")).is(t, "first", Led)
		later(time.Nanosecond)
		call(t.Context(), g[1], "k", w.after(time.Second, "second")).is(t, "second", Led)
		later(time.Nanosecond)
		call(t.Context(), g[0], "k", w.after(time.Second, "third")).is(t, "third", Led)
		w.ran(t, 3)
	})
}

// TestDoContext_TokensRise: each execution for a key has a greater token.
func TestDoContext_TokensRise(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(3, nil)
		last := uint64(0)
		for i := range 9 {
			_, _, err := g[i%3].DoContext(t.Context(), "k", func(ctx context.Context) (string, error) {
				token, ok := Token(ctx)
				if !ok || token <= last {
					t.Errorf("got token %d, %t, want more than %d", token, ok, last)
				}
				last = token
				return "v", nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDoContext_CallerLeaves: the end of a call's context is its bare error, at once, and
// the other calls do not notice.
func TestDoContext_CallerLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		leader := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		ctx, cancel := context.WithCancelCause(t.Context())
		leaving, staying := call(ctx, g[1], "k", w.after(time.Second, "v")), call(t.Context(), g[1], "k", w.after(time.Second, "v"))
		later(100 * time.Millisecond)
		cancel(errors.New("a cause"))
		if leaving.get(); leaving.err != context.Canceled || leaving.took != 100*time.Millisecond || leaving.info != (Info{}) {
			t.Errorf("got %v, %+v after %v, want %v at once", leaving.err, leaving.info, leaving.took, context.Canceled)
		}
		leader.is(t, "v", Led)
		staying.is(t, "v", Followed)
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestDoContext_AllFollowersLeave: a run whose callers have left does not wait.
func TestDoContext_AllFollowersLeave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		leader := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx, g[1], "k", w.after(time.Second, "v"))
		later(100 * time.Millisecond)
		cancel()
		later(0)
		left(t, &faulty{Memory: e[0].Memory}, g[1])
		if st := g[1].Stats(); st.Left != 1 {
			t.Errorf("got %+v, want one run that was left", st)
		}
		leader.is(t, "v", Led)
		w.ran(t, 1)
	})
}

// TestDoContext_CancellationStorm: calls that come and leave stick nothing.
func TestDoContext_CancellationStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, func(g *group) { g.CancelAbandoned = true })
		var w work
		var calls []*outcome
		for i := range 300 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Millisecond)
			defer cancel()
			calls = append(calls, call(ctx, g[i%3], "k", w.obeying(5*time.Millisecond, "v")))
			later(300 * time.Microsecond)
		}
		all(calls...)
		later(time.Second)
		left(t, e[0], g...)
		call(t.Context(), g[0], "k", w.after(time.Second, "last")).is(t, "last", Led)
	})
}

// TestDoContext_ContextAfterFn: fn's context does not end though fn has returned, so what
// fn has tied to it does not end when callers have the value.
func TestDoContext_ContextAfterFn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, nil)
		var fctx context.Context
		call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
			fctx = ctx
			return "v", nil
		}).is(t, "v", Led)
		if later(time.Second); fctx.Err() != nil {
			t.Errorf("fn's context has ended with %v", context.Cause(fctx))
		}
	})
}

// TestDoContext_Values: fn's context has the values of its caller's, and no deadline.
func TestDoContext_Values(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, nil)
		type ctxKey struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "value"), time.Hour)
		defer cancel()
		call(ctx, g[0], "k", func(ctx context.Context) (string, error) {
			if _, ok := ctx.Deadline(); ok || ctx.Value(ctxKey{}) != "value" {
				t.Errorf("got deadline %t, value %v, want none, value", ok, ctx.Value(ctxKey{}))
			}
			return "v", nil
		}).is(t, "v", Led)
	})
}

// TestDoContext_Deadlock: a cycle within a process is found through calls of a fleet.
func TestDoContext_Deadlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, nil)
		var deadlock *coalesce.DeadlockError
		_, _, err := g[0].DoContext(t.Context(), "k", func(ctx context.Context) (string, error) {
			_, _, err := g[0].DoContext(context.WithoutCancel(ctx), "k", func(context.Context) (string, error) { return "", nil })
			if !errors.As(err, &deadlock) {
				t.Errorf("got %v, want a DeadlockError", err)
			}
			return "v", nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestDoContext_Saturated: MaxWaiters bounds the calls of a process that wait.
func TestDoContext_Saturated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, func(g *group) { g.MaxWaiters = 1 })
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		if o := call(t.Context(), g[0], "k", w.after(time.Second, "v")).get(); !errors.Is(o.err, coalesce.ErrSaturated) {
			t.Errorf("got %v, want %v", o.err, coalesce.ErrSaturated)
		}
	})
}

// TestDoContext_Clone: each call of a process gets a clone of its own.
func TestDoContext_Clone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cloned atomic.Int32
		g, _ := processes(1, func(g *group) {
			g.Clone = func(v string) string {
				cloned.Add(1)
				return v + "'"
			}
		})
		var w work
		a, b := call(t.Context(), g[0], "k", w.after(time.Second, "v")), call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		a.is(t, "v'", Led)
		b.is(t, "v'", Led)
		if cloned.Load() != 2 {
			t.Errorf("got %d clones, want 2", cloned.Load())
		}
	})
}

// TestDoContext_NaN: calls with a key that is not equal to itself share no run in a
// process, and leave nothing behind.
func TestDoContext_NaN(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := &Group[float64, string]{
			Engine: new(Memory), Name: "test",
			Key: func(dst []byte, k float64) []byte { return binary.BigEndian.AppendUint64(dst, math.Float64bits(k)) },
		}
		var w work
		for range 2 {
			go g.DoContext(t.Context(), math.NaN(), w.after(time.Second, "v"))
			go g.DoFresh(t.Context(), math.NaN(), w.after(time.Second, "v"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s := g.use()
		last := 0
		s.runs.last.Range(func(any, any) bool { last++; return true })
		if len(s.runs.set) != 0 || last != 0 || len(s.fresh.n) != 0 {
			t.Errorf("got %d runs, %d keys, %d fresh keys left", len(s.runs.set), last, len(s.fresh.n))
		}
		if _, err := g.Forget(t.Context(), math.NaN()); err != nil {
			t.Error(err)
		}
		// The processes have one record for all of these keys: the calls of the same time
		// share an execution, and the fresh ones one that has begun after them.
		if n := w.n.Load(); n < 1 || n > 4 {
			t.Errorf("got %d executions, want 1 to 4", n)
		}
	})
}

// TestDoContext_Nil: a nil context or fn panics at the caller.
func TestDoContext_Nil(t *testing.T) {
	g, _ := processes(1, nil)
	fn := func(context.Context) (string, error) { return "", nil }
	for name, f := range map[string]func(){
		"DoContext": func() { g[0].DoContext(nil, "k", fn) },
		"DoFresh":   func() { g[0].DoFresh(nil, "k", fn) },
		"DoInfo":    func() { g[0].DoInfo(nil, "k", fn) },
		"fn":        func() { g[0].DoContext(t.Context(), "k", nil) },
		"Forget":    func() { g[0].Forget(nil, "k") },
		"Peek":      func() { g[0].Peek(nil, "k") },
		"Check":     func() { g[0].Check(nil) },
		"Shutdown":  func() { g[0].Shutdown(nil) },
		"Token":     func() { Token(nil) },
		"Detach":    func() { Detach(nil) },
	} {
		if panics(f) == nil {
			t.Errorf("%s does not panic", name)
		}
	}
}

// TestDetach: a call from within fn with a detached context is none of fn.
func TestDetach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, nil)
		call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(Detach(ctx), time.Second)
			defer cancel()
			if _, _, err := g[0].DoContext(ctx, "k", nil0); err != context.DeadlineExceeded {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
			return "v", nil
		}).is(t, "v", Led)
	})
}

func nil0(context.Context) (string, error) { return "", nil }

// TestDoInfo_ManyProcesses: 300 processes want one key at one moment. One executes, each has
// its value as soon as there is one, and none has tried more than once. So it is when the
// leader dies.
func TestDoInfo_ManyProcesses(t *testing.T) {
	for _, dies := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			g, e := processes(300, nil)
			var w work
			first := call(t.Context(), g[0], "k", w.after(time.Second-1, "v"))
			later(0)
			e[0].cut.Store(dies)
			var calls []*outcome
			for _, g := range g[1:] {
				calls = append(calls, call(t.Context(), g, "k", w.after(time.Second-1, "v")))
			}
			all(calls...)
			swaps := int32(0)
			for i, o := range calls {
				if o.v != "v" || o.err != nil || o.took > 4300*time.Millisecond || !dies && o.took != time.Second-1 {
					t.Fatalf("got %q, %v after %v", o.v, o.err, o.took)
				}
				swaps += e[i+1].swaps.Load()
			}
			if dies {
				w.ran(t, 2)
			} else {
				w.ran(t, 1)
				if swaps != 299 {
					t.Errorf("got %d swaps of the others, want 299", swaps)
				}
			}
			first.get()
			left(t, e[0], g...)
		})
	}
}
