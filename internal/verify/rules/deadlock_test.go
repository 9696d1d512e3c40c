package rules_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds which waits are cycles, and the error that a call in a cycle gets.
// Waits that are no cycle are in deadlock_none_test.go, the moment at which a call looks
// in deadlock_look_test.go.

// nested are the forms of a call whose context says which fn made it. All of them run fn
// on a goroutine of the flight's own if that context can end.
var nested = append(slices.Clone(kit.Forms[2:]), kit.Form{
	Name: "DoMulti",
	Call: func(ctx context.Context, g *kit.Group, key string, fn func(context.Context) (int, error)) (a kit.Answer) {
		defer a.Recover()
		r := g.DoMulti(ctx, []string{key}, func(ctx context.Context, keys []string) (map[string]int, error) {
			v, err := fn(ctx)
			return map[string]int{key: v}, err
		})[key]
		a.V, a.Shared, a.Err = r.Val, r.Shared, r.Err
		return a
	},
})

// wantCycle checks that err reports the cycle of the given keys.
func wantCycle(t *testing.T, err error, keys ...any) {
	t.Helper()
	var e *coalesce.DeadlockError
	switch {
	case !errors.As(err, &e) || !errors.Is(err, coalesce.ErrDeadlock):
		t.Errorf("got %v, want the cycle %v", err, keys)
	case !reflect.DeepEqual(e.Keys, keys):
		t.Errorf("got the cycle %v, want %v", e.Keys, keys)
	}
}

// deadlocked reports whether err reports a cycle.
func deadlocked(err error) bool { return errors.Is(err, coalesce.ErrDeadlock) }

// eachPair runs test in a bubble for each pair of nested forms: the form of the call that
// leads a flight, and that of the call which its fn makes.
func eachPair(t *testing.T, test func(t *testing.T, outer, inner kit.Form)) {
	for _, outer := range nested {
		for _, inner := range nested {
			t.Run(outer.Name+" in "+inner.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test(t, outer, inner) })
			})
		}
	}
}

// lookAfter is the time after which a nested call without an answer is checked for a
// cycle.
const lookAfter = 10 * time.Millisecond

// TestDeadlock_OwnKey: an fn that calls for its own key is refused after 10 ms. Until
// then the call takes part: it has joined the flight, unless it is a DoFresh. The flight
// goes on without it.
func TestDeadlock_OwnKey(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		var g kit.Group
		start := time.Now()
		joins := inner.Name != "DoFresh"
		a := outer.Call(t.Context(), &g, "k", func(ctx context.Context) (int, error) {
			a := inner.Call(ctx, &g, "k", func(context.Context) (int, error) {
				t.Error("got a nested call that leads, want a refusal")
				return 0, nil
			})
			wantCycle(t, a.Err, "k", "k")
			if a.V != 0 || a.Shared != joins || a.Panic != nil || time.Since(start) != lookAfter {
				t.Errorf("got %+v after %v, want 0, shared %v, after %v", a, time.Since(start), joins, lookAfter)
			}
			if n := kit.WaitersOf(&g, "k"); n != 0 || g.Len() != 1 {
				t.Errorf("got %d waiters, Len %d, want 0, 1", n, g.Len())
			}
			return 7, nil
		})
		if a.V != 7 || a.Shared != joins || a.Err != nil || time.Since(start) != lookAfter {
			t.Errorf("got %+v after %v, want 7, shared %v, after %v", a, time.Since(start), joins, lookAfter)
		}
		want := coalesce.Stats{Calls: 2, Led: 1, Rejected: 1}
		if got := g.Stats(); got != want || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want %+v, 0", got, g.Len(), want)
		}
		if inner.Call(t.Context(), &g, "k", kit.CtxValue(8)).V != 8 {
			t.Error("got a key that is not usable, want 8")
		}
	})
}

// TestDeadlock_TwoKeys: a waits for b and b for a. The second call is refused, and the
// result that its fn makes of the error answers the first.
func TestDeadlock_TwoKeys(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		var g, other kit.Group
		a := outer.Call(t.Context(), &g, "a", func(ctx context.Context) (int, error) {
			a := outer.Call(ctx, &other, "b", func(ctx context.Context) (int, error) {
				a := inner.Call(ctx, &g, "a", kit.CtxValue(1))
				wantCycle(t, a.Err, "b", "a", "b")
				return 2, a.Err
			})
			wantCycle(t, a.Err, "b", "a", "b") // the same, as fn's errors are shared
			return 3, nil
		})
		if a.V != 3 || a.Shared != (inner.Name != "DoFresh") || a.Err != nil {
			t.Errorf("got %+v, want 3, shared unless it is a DoFresh", a)
		}
		want := coalesce.Stats{Calls: 2, Led: 1, Rejected: 1}
		if got := g.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestDeadlock_LongCycle: Keys has each flight of the cycle once, in order, and at both
// ends the one whose fn made the call. A flight that only leads to the cycle is not in
// it.
func TestDeadlock_LongCycle(t *testing.T) {
	const n = 100
	for _, back := range []int{0, 1, n / 2, n - 2, n - 1} {
		g := new(coalesce.Group[int, int])
		var err error
		var chain func(i int) func(context.Context) (int, error)
		chain = func(i int) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				if i < n-1 {
					_, _, err := g.DoContext(ctx, i+1, chain(i+1))
					return i, err
				}
				_, _, err = g.DoContext(ctx, back, chain(back))
				return i, nil
			}
		}
		if _, _, err := g.DoFresh(t.Context(), 0, chain(0)); err != nil {
			t.Error(err)
		}
		want := []any{n - 1}
		for i := back; i < n; i++ {
			want = append(want, i)
		}
		wantCycle(t, err, want...)
	}
}

// TestDeadlock_Joined: a cycle of flights that callers of their own led, and that the
// nested calls joined. Other flights wait for some of them: they are not part of the
// cycle, and are answered.
func TestDeadlock_Joined(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		if inner.Name == "DoFresh" {
			t.Skip("it does not join")
		}
		var g kit.Group
		refused := 0
		next := map[string]string{"a": "b", "b": "c", "c": "d", "d": "b", "x": "a", "y": "c"}
		var done []<-chan struct{}
		for i, key := range []string{"d", "c", "b", "a", "x", "y"} { // so that the calls are in the order b, a, …
			_, d := kit.Go(t.Context(), outer, &g, key, func(ctx context.Context) (int, error) {
				time.Sleep(time.Hour - time.Duration(i)*time.Second)
				a := inner.Call(ctx, &g, next[key], kit.CtxValue(-1))
				if deadlocked(a.Err) {
					refused++
					wantCycle(t, a.Err, "d", "b", "c", "d")
					return 1, nil
				}
				if a.V != 1 || !a.Shared || a.Err != nil {
					t.Errorf("%s: got %+v, want 1, shared", key, a)
				}
				return a.V, a.Err
			})
			done = append(done, d)
		}
		for _, d := range done {
			<-d
		}
		if refused != 1 {
			t.Errorf("got %d refusals, want 1", refused)
		}
	})
}

// TestDeadlock_Multi: a DoMulti gets the error for the keys that the cycle goes through;
// the others are loaded.
func TestDeadlock_Multi(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		load := func(_ context.Context, keys []string) (map[string]int, error) {
			m := map[string]int{}
			for _, key := range keys {
				m[key] = len(keys)
			}
			return m, nil
		}
		_, _, err := g.DoContext(t.Context(), "a", func(ctx context.Context) (int, error) {
			r := <-g.DoChan(ctx, "b", func(ctx context.Context) (int, error) {
				rs := g.DoMulti(ctx, []string{"x", "a", "y", "b", "x"}, load)
				wantCycle(t, rs["a"].Err, "b", "a", "b")
				wantCycle(t, rs["b"].Err, "b", "b")
				if len(rs) != 4 || rs["x"] != (coalesce.Result[int]{Val: 2}) || rs["y"] != rs["x"] {
					t.Errorf("got %v, want 2 for x and y", rs)
				}
				return 1, nil
			})
			return r.Val, r.Err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestDeadlock_Batch: the flights of a batch wait together, as one fn loads them. The
// cycle names the key by which it returns to the batch.
func TestDeadlock_Batch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		calls := 0
		call := func(ctx context.Context, key string, want ...any) {
			calls++
			_, _, err := g.DoContext(ctx, key, kit.CtxValue(0))
			wantCycle(t, err, want...)
		}
		batch := func(ctx context.Context, fn func(context.Context), keys ...string) {
			for key, r := range g.DoMulti(ctx, keys, func(ctx context.Context, keys []string) (map[string]int, error) {
				fn(ctx)
				return map[string]int{keys[0]: 1, keys[1]: 1}, nil
			}) {
				if r.Val != 1 || r.Err != nil {
					t.Errorf("%s: got %+v, want 1", key, r)
				}
			}
		}
		batch(t.Context(), func(ctx context.Context) {
			call(ctx, "a", "a", "a")
			call(ctx, "b", "b", "b")
			_, _, _ = g.DoContext(ctx, "c", func(ctx context.Context) (int, error) {
				call(ctx, "a", "c", "a", "c")
				call(ctx, "b", "c", "b", "c")
				return 0, nil
			})
			batch(ctx, func(ctx context.Context) { // another
				call(ctx, "b", "e", "b", "e") // the first of the edges that were added
				_, _, _ = g.DoContext(ctx, "f", func(ctx context.Context) (int, error) {
					call(ctx, "a", "f", "a", "e", "f")
					call(ctx, "d", "f", "d", "f")
					call(ctx, "e", "f", "e", "f")
					return 0, nil
				})
			}, "e", "d")
		}, "a", "b")
		if calls != 8 {
			t.Errorf("got %d calls, want 8", calls)
		}
	})
}

// TestDeadlock_Groups: a cycle may go through groups of different types; Keys has each
// key with its own type.
func TestDeadlock_Groups(t *testing.T) {
	type id struct{ dev, ino int }
	var (
		names coalesce.Group[string, int]
		files coalesce.Group[id, *int]
		anys  coalesce.Group[any, struct{}]
	)
	var cycle error
	_, _, err := names.DoContext(contextThatCanEnd(t), "n", func(ctx context.Context) (int, error) {
		_, _, err := files.DoContext(ctx, id{1, 2}, func(ctx context.Context) (*int, error) {
			r := <-anys.DoChan(ctx, 3.5, func(ctx context.Context) (struct{}, error) {
				cycle = names.DoMulti(ctx, []string{"n"}, nothingMulti)["n"].Err
				return struct{}{}, cycle
			})
			return nil, fmt.Errorf("file: %w", r.Err)
		})
		return 0, fmt.Errorf("name: %w", err)
	})
	wantCycle(t, cycle, 3.5, "n", id{1, 2}, 3.5)
	wantCycle(t, err, 3.5, "n", id{1, 2}, 3.5)
	if want := "name: file: coalesce: deadlock: 3.5 → n → {1 2} → 3.5"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func nothingMulti(context.Context, []string) (map[string]int, error) { return nil, nil }

func contextThatCanEnd(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx
}

// TestDeadlockError: its text, and which errors it is.
func TestDeadlockError(t *testing.T) {
	err := error(&coalesce.DeadlockError{Keys: []any{"a", 2, "a"}})
	if got, want := err.Error(), "coalesce: deadlock: a → 2 → a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := new(coalesce.DeadlockError).Error(), coalesce.ErrDeadlock.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, coalesce.ErrDeadlock) || errors.Is(err, coalesce.ErrClosed) || err == coalesce.ErrDeadlock {
		t.Errorf("got %v, want an error that only errors.Is ErrDeadlock", err)
	}
}

// TestDeadlock_Fresh: a DoFresh waits for the flight that it is queued behind, and so do
// calls that join the queue, even if other calls wait in that queue.
func TestDeadlock_Fresh(t *testing.T) {
	for _, queue := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			_, _, err := g.DoContext(t.Context(), "k", func(ctx context.Context) (int, error) {
				if queue {
					go g.DoFresh(t.Context(), "k", kit.CtxValue(2))
					synctest.Wait()
				}
				_, _, err := g.DoFresh(ctx, "k", kit.CtxValue(0))
				wantCycle(t, err, "k", "k")
				_, _, err = g.DoContext(ctx, "x", func(ctx context.Context) (int, error) {
					_, _, err := g.DoFresh(ctx, "k", kit.CtxValue(0))
					wantCycle(t, err, "x", "k", "x")
					return 0, nil
				})
				return 1, err
			})
			if err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if st := g.Stats(); st.Rejected != 2 || g.Len() != 0 {
				t.Errorf("got %+v, Len %d, want 2 rejected, 0", st, g.Len())
			}
		})
	}
}

// TestDeadlock_BehindAQueue: a call that waits for a successor also waits for the flight
// in front of it, whichever of the calls closes the cycle.
func TestDeadlock_BehindAQueue(t *testing.T) {
	for _, f := range nested {
		for _, last := range []string{"the one in front", "the one in the queue", "in between"} {
			t.Run(f.Name+", "+last, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					refused := 0
					at := map[string]time.Duration{"a": 1, "x": 2, "y": 3}
					switch last {
					case "the one in front":
						at["a"] = 9
					case "in between":
						at["x"] = 9
					}
					// a's flight is abandoned and waits for x, which waits for y,
					// which is queued behind it.
					next := map[string]string{"a": "x", "x": "y", "y": "a"}
					begin := func(ctx context.Context, key string) {
						go g.DoContext(ctx, key, func(ctx context.Context) (int, error) {
							time.Sleep(at[key] * time.Second)
							// The end of a's context does not end the wait.
							a := f.Call(context.WithoutCancel(ctx), &g, next[key], kit.CtxValue(5))
							if !deadlocked(a.Err) {
								if a.Err != nil {
									t.Errorf("%s: got %+v, want no error", key, a)
								}
								return 0, nil
							}
							refused++
							switch last {
							case "the one in front":
								wantCycle(t, a.Err, "a", "x", "y", "a")
							case "the one in the queue":
								wantCycle(t, a.Err, "y", "a", "x", "y")
							case "in between":
								wantCycle(t, a.Err, "x", "y", "a", "x")
							}
							return 0, nil
						})
					}
					ctx, cancel := context.WithCancel(t.Context())
					begin(ctx, "a")
					begin(contextThatCanEnd(t), "x")
					begin(contextThatCanEnd(t), "y")
					synctest.Wait()
					cancel()
					time.Sleep(time.Minute)
					synctest.Wait()
					if refused != 1 || g.Len() != 0 {
						t.Errorf("got %d refusals, Len %d, want 1, 0", refused, g.Len())
					}
				})
			})
		}
	}
}

// TestDeadlock_OneOfAQueueLeaves: of two flights that wait behind a third, one leaves,
// and the search still finds the other.
func TestDeadlock_OneOfAQueueLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		var asked error
		var leave context.CancelFunc
		go g.DoContext(contextThatCanEnd(t), "a", func(ctx context.Context) (int, error) {
			time.Sleep(3 * time.Second)
			_, _, asked = g.DoContext(ctx, "x", kit.CtxValue(0))
			return 0, nil
		})
		synctest.Wait()
		for _, key := range []string{"x", "y"} {
			go g.DoContext(contextThatCanEnd(t), key, func(ctx context.Context) (int, error) {
				ctx, leave = context.WithCancel(ctx)
				_, _, err := g.DoFresh(ctx, "a", kit.CtxValue(0))
				return 0, err
			})
			synctest.Wait()
		}
		leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		wantCycle(t, asked, "a", "x", "a")
	})
}

// A wrappedContext hides the context that it wraps, except for its values.
type wrappedContext struct{ context.Context }

// TestDeadlock_DerivedContexts: every context that is derived from fn's shows that fn
// made the call.
func TestDeadlock_DerivedContexts(t *testing.T) {
	for name, derive := range map[string]func(context.Context) (context.Context, func()){
		"WithValue": func(ctx context.Context) (context.Context, func()) {
			return context.WithValue(ctx, kit.CtxKey{}, 1), func() {}
		},
		"WithCancel": func(ctx context.Context) (context.Context, func()) {
			c, stop := context.WithCancel(ctx)
			return c, stop
		},
		"WithTimeout": func(ctx context.Context) (context.Context, func()) {
			c, stop := context.WithTimeout(ctx, time.Hour)
			return c, stop
		},
		"WithoutCancel": func(ctx context.Context) (context.Context, func()) { return context.WithoutCancel(ctx), func() {} },
		"wrapped":       func(ctx context.Context) (context.Context, func()) { return wrappedContext{ctx}, func() {} },
		"all": func(ctx context.Context) (context.Context, func()) {
			c, stop := context.WithTimeout(context.WithoutCancel(context.WithValue(wrappedContext{ctx}, kit.CtxKey{}, 1)), time.Hour)
			return context.WithValue(c, kit.CtxKey{}, 2), stop
		},
	} {
		for _, f := range nested {
			t.Run(name+", "+f.Name, func(t *testing.T) {
				var g kit.Group
				_, _, err := g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
					ctx, stop := derive(ctx)
					defer stop()
					wantCycle(t, f.Call(ctx, &g, "k", kit.CtxValue(0)).Err, "k", "k")
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestDeadlock_OtherRefusalsFirst: a group that is shut down, and a flight that has no
// room, refuse the call with their own errors.
func TestDeadlock_OtherRefusalsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 1}
		_, _, _ = g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
			go g.Do("k", kit.Value(0))
			synctest.Wait()
			if _, _, err := g.DoContext(ctx, "k", kit.CtxValue(0)); err != coalesce.ErrSaturated {
				t.Errorf("saturated: got %v, want %v", err, coalesce.ErrSaturated)
			}
			end, stop := context.WithCancel(ctx)
			stop()
			if _, _, err := g.DoContext(end, "k", kit.CtxValue(0)); err != context.Canceled {
				t.Errorf("ended: got %v, want %v", err, context.Canceled)
			}
			_ = g.Shutdown(kit.EndedContext)
			if _, _, err := g.DoContext(context.WithoutCancel(ctx), "k", kit.CtxValue(0)); err != coalesce.ErrClosed {
				t.Errorf("shut down: got %v, want %v", err, coalesce.ErrClosed)
			}
			return 0, nil
		})
	})
}
