package rules_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// nested are the forms of a call whose context tells which fn made it. All of
// them run fn on a goroutine of the flight's own if that context can end.
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

// wantCycle checks that err tells of the cycle of the given keys.
func wantCycle(t *testing.T, err error, keys ...any) {
	t.Helper()
	var e *coalesce.DeadlockError
	switch {
	case !errors.As(err, &e) || !errors.Is(err, coalesce.ErrDeadlock):
		t.Errorf("told %v, want the cycle %v", err, keys)
	case !reflect.DeepEqual(e.Keys, keys):
		t.Errorf("told the cycle %v, want %v", e.Keys, keys)
	}
}

// deadlocked reports whether err tells of a cycle.
func deadlocked(err error) bool { return errors.Is(err, coalesce.ErrDeadlock) }

// eachPair runs test in a bubble for each pair of nested forms: that by which a
// flight is led, and that of the call which its fn makes.
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

// TestDeadlock_OwnKey: an fn that calls for its own key is refused after 10 ms. The
// call has taken part until then: it has joined the flight, unless it is a DoFresh. The
// flight goes on without it.
func TestDeadlock_OwnKey(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		var g kit.Group
		start := time.Now()
		joins := inner.Name != "DoFresh"
		a := outer.Call(t.Context(), &g, "k", func(ctx context.Context) (int, error) {
			a := inner.Call(ctx, &g, "k", func(context.Context) (int, error) {
				t.Error("it led")
				return 0, nil
			})
			wantCycle(t, a.Err, "k", "k")
			if a.V != 0 || a.Shared != joins || a.Panic != nil || time.Since(start) != lookAfter {
				t.Errorf("got %+v after %v", a, time.Since(start))
			}
			if n := kit.WaitersOf(&g, "k"); n != 0 || g.Len() != 1 {
				t.Errorf("%d waiters, Len %d", n, g.Len())
			}
			return 7, nil
		})
		if a.V != 7 || a.Shared != joins || a.Err != nil || time.Since(start) != lookAfter {
			t.Errorf("%+v after %v", a, time.Since(start))
		}
		want := coalesce.Stats{Calls: 2, Led: 1, Rejected: 1}
		if got := g.Stats(); got != want || g.Len() != 0 {
			t.Errorf("%+v, Len %d", got, g.Len())
		}
		if inner.Call(t.Context(), &g, "k", kit.CtxValue(8)).V != 8 {
			t.Error("the key is not usable")
		}
	})
}

// TestDeadlock_TwoKeys: a waits for b and b for a. The second to call is told,
// and what its fn makes of that answers the first.
func TestDeadlock_TwoKeys(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		var g, other kit.Group
		a := outer.Call(t.Context(), &g, "a", func(ctx context.Context) (int, error) {
			a := outer.Call(ctx, &other, "b", func(ctx context.Context) (int, error) {
				a := inner.Call(ctx, &g, "a", kit.CtxValue(1))
				wantCycle(t, a.Err, "b", "a", "b")
				return 2, a.Err
			})
			wantCycle(t, a.Err, "b", "a", "b") // the same: fn's errors are shared
			return 3, nil
		})
		if a.V != 3 || a.Shared != (inner.Name != "DoFresh") || a.Err != nil {
			t.Errorf("%+v", a)
		}
		want := coalesce.Stats{Calls: 2, Led: 1, Rejected: 1}
		if got := g.Stats(); got != want {
			t.Errorf("%+v", got)
		}
	})
}

// TestDeadlock_LongCycle: Keys has each flight of the cycle once, in order, and
// the one whose fn made the call at both ends. What only leads to the cycle is
// not in it.
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

// TestDeadlock_Joined: a cycle of flights that were led by callers of their
// own, and joined. Others wait for some of them: they are not part of it, and
// are answered.
func TestDeadlock_Joined(t *testing.T) {
	eachPair(t, func(t *testing.T, outer, inner kit.Form) {
		if inner.Name == "DoFresh" {
			t.Skip("it does not join")
		}
		var g kit.Group
		told := 0
		next := map[string]string{"a": "b", "b": "c", "c": "d", "d": "b", "x": "a", "y": "c"}
		var done []<-chan struct{}
		for i, key := range []string{"d", "c", "b", "a", "x", "y"} { // so that the calls are in the order b, a, …
			_, d := kit.Go(t.Context(), outer, &g, key, func(ctx context.Context) (int, error) {
				time.Sleep(time.Hour - time.Duration(i)*time.Second)
				a := inner.Call(ctx, &g, next[key], kit.CtxValue(-1))
				if deadlocked(a.Err) {
					told++
					wantCycle(t, a.Err, "d", "b", "c", "d")
					return 1, nil
				}
				if a.V != 1 || !a.Shared || a.Err != nil {
					t.Errorf("%s: %+v", key, a)
				}
				return a.V, a.Err
			})
			done = append(done, d)
		}
		for _, d := range done {
			<-d
		}
		if told != 1 {
			t.Errorf("%d were told, want 1", told)
		}
	})
}

// TestDeadlock_Multi: a DoMulti is told for the keys that the cycle goes
// through; the others are loaded.
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
					t.Errorf("%v", rs)
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

// TestDeadlock_Batch: the flights of a batch wait together, as one fn loads them.
// The cycle names the key by which it comes back.
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
					t.Errorf("%s: %+v", key, r)
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
			t.Errorf("%d calls", calls)
		}
	})
}

// TestDeadlock_Groups: a cycle may go through groups of different types, and
// Keys has each key with its own.
func TestDeadlock_Groups(t *testing.T) {
	type id struct{ dev, ino int }
	var (
		names coalesce.Group[string, int]
		files coalesce.Group[id, *int]
		anys  coalesce.Group[any, struct{}]
	)
	var told error
	_, _, err := names.DoContext(contextThatCanEnd(t), "n", func(ctx context.Context) (int, error) {
		_, _, err := files.DoContext(ctx, id{1, 2}, func(ctx context.Context) (*int, error) {
			r := <-anys.DoChan(ctx, 3.5, func(ctx context.Context) (struct{}, error) {
				told = names.DoMulti(ctx, []string{"n"}, nothingMulti)["n"].Err
				return struct{}{}, told
			})
			return nil, fmt.Errorf("file: %w", r.Err)
		})
		return 0, fmt.Errorf("name: %w", err)
	})
	wantCycle(t, told, 3.5, "n", id{1, 2}, 3.5)
	wantCycle(t, err, 3.5, "n", id{1, 2}, 3.5)
	if want := "name: file: coalesce: deadlock: 3.5 → n → {1 2} → 3.5"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func nothingMulti(context.Context, []string) (map[string]int, error) { return nil, nil }

func contextThatCanEnd(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx
}

// TestDeadlockError: its text, and what it is.
func TestDeadlockError(t *testing.T) {
	err := error(&coalesce.DeadlockError{Keys: []any{"a", 2, "a"}})
	if got, want := err.Error(), "coalesce: deadlock: a → 2 → a"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := new(coalesce.DeadlockError).Error(), coalesce.ErrDeadlock.Error(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, coalesce.ErrDeadlock) || errors.Is(err, coalesce.ErrClosed) || err == coalesce.ErrDeadlock {
		t.Error("it is not what it should be")
	}
}

// TestDeadlock_Fresh: a DoFresh waits for the flight that it is queued behind,
// and so do those that join the queue. A queue of others is no excuse.
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
				t.Errorf("%+v, Len %d", st, g.Len())
			}
		})
	}
}

// TestDeadlock_BehindAQueue: who waits for a successor waits for the flight in
// front of it, too, whichever of the calls closes the cycle.
func TestDeadlock_BehindAQueue(t *testing.T) {
	for _, f := range nested {
		for _, last := range []string{"the one in front", "the one in the queue", "in between"} {
			t.Run(f.Name+", "+last, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					told := 0
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
									t.Errorf("%s: %+v", key, a)
								}
								return 0, nil
							}
							told++
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
					if told != 1 || g.Len() != 0 {
						t.Errorf("%d were told, Len %d", told, g.Len())
					}
				})
			})
		}
	}
}

// TestDeadlock_OneOfAQueueLeaves: of two flights that wait behind a third one leaves,
// and the third still knows of the other.
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

// A wrappedContext hides what it wraps, but for the values.
type wrappedContext struct{ context.Context }

// TestDeadlock_DerivedContexts: whatever is derived from fn's context tells that
// fn made the call.
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

// TestDeadlock_OtherRefusalsFirst: a group that is shut down, and a flight that
// has no room, refuse the call with their own errors.
func TestDeadlock_OtherRefusalsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 1}
		_, _, _ = g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
			go g.Do("k", kit.Value(0))
			synctest.Wait()
			if _, _, err := g.DoContext(ctx, "k", kit.CtxValue(0)); err != coalesce.ErrSaturated {
				t.Errorf("saturated: %v", err)
			}
			end, stop := context.WithCancel(ctx)
			stop()
			if _, _, err := g.DoContext(end, "k", kit.CtxValue(0)); err != context.Canceled {
				t.Errorf("ended: %v", err)
			}
			_ = g.Shutdown(kit.EndedContext)
			if _, _, err := g.DoContext(context.WithoutCancel(ctx), "k", kit.CtxValue(0)); err != coalesce.ErrClosed {
				t.Errorf("shut down: %v", err)
			}
			return 0, nil
		})
	})
}

// TestDeadlock_CrossingWaits: two fns that call for each other's keys at the very
// same moment cannot both be missed, nor are both told. Likewise three.
func TestDeadlock_CrossingWaits(t *testing.T) {
	kit.SetProcs(t, 4)
	for _, n := range []int{2, 3} {
		for i := range nested {
			t.Run(fmt.Sprint(n, " flights, ", nested[i].Name), func(t *testing.T) {
				crossing(300, func() {
					groups := make([]kit.Group, n)
					var told atomic.Int32
					var ready, done sync.WaitGroup
					ready.Add(n)
					for j := range n {
						f := nested[i]
						if j > 0 {
							f = nested[rand.IntN(len(nested))]
						}
						done.Go(func() {
							a := nested[j].Call(t.Context(), &groups[j], "k", func(ctx context.Context) (int, error) {
								ready.Done()
								ready.Wait()
								a := f.Call(ctx, &groups[(j+1)%n], "k", kit.CtxValue(1))
								if deadlocked(a.Err) {
									told.Add(1)
								} else if a.Err != nil {
									t.Errorf("%+v", a)
								}
								return 1, nil
							})
							if a.V != 1 || a.Err != nil {
								t.Errorf("%+v", a)
							}
						})
					}
					done.Wait()
					if told.Load() != 1 {
						t.Errorf("%d were told, want 1", told.Load())
					}
				})
			})
		}
	}
}

// TestDeadlock_CrossingBatches: likewise for two DoMultis, each of which leads
// what the other asks for.
func TestDeadlock_CrossingBatches(t *testing.T) {
	kit.SetProcs(t, 4)
	crossing(500, func() {
		var g kit.Group
		var told atomic.Int32
		var ready, done sync.WaitGroup
		ready.Add(2)
		for _, keys := range [][]string{{"a", "b"}, {"c", "d"}} {
			done.Go(func() {
				g.DoMulti(t.Context(), keys, func(ctx context.Context, own []string) (map[string]int, error) {
					ready.Done()
					ready.Wait()
					for _, r := range g.DoMulti(ctx, []string{"c", "a", "d", "b"}, nothingMulti) {
						if deadlocked(r.Err) {
							told.Add(1)
						}
					}
					return nil, nil
				})
			})
		}
		done.Wait()
		// Each is refused its own two keys. One is refused the other's two; the other may
		// be refused one of them before it is.
		if n := told.Load(); n < 6 || n > 7 {
			t.Errorf("got %d refusals, want 6 or 7", n)
		}
	})
}

// crossing runs a test n times, fifty at once: each takes as long as a cycle goes unseen.
func crossing(n int, test func()) {
	for ; n > 0; n -= 50 {
		var all sync.WaitGroup
		for range 50 {
			all.Go(test)
		}
		all.Wait()
	}
}

// within runs fn in a bubble, with the context of a flight of key "a" in g.
func within(t *testing.T, fn func(t *testing.T, g *kit.Group, ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		a, done := kit.Go(contextThatCanEnd(t), kit.Forms[2], &g, "a", func(ctx context.Context) (int, error) {
			fn(t, &g, ctx)
			return 1, nil
		})
		<-done
		if a.V != 1 || a.Err != nil {
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Second) // flights that others led may take longer
		if g.Len() != 0 {
			t.Errorf("Len = %d", g.Len())
		}
	})
}

// wantAnswer checks that a is an answer with the given value.
func wantAnswer(t *testing.T, a kit.Answer, v int) {
	t.Helper()
	if a.V != v || a.Err != nil || a.Panic != nil {
		t.Errorf("%+v, want %d", a, v)
	}
}

// TestDeadlock_NotADiamond: two ways to one flight are no cycle.
func TestDeadlock_NotADiamond(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				var wg sync.WaitGroup
				for _, key := range []string{"b", "c", "b", "d"} {
					wg.Go(func() {
						a := f.Call(ctx, g, key, func(ctx context.Context) (int, error) {
							a := f.Call(ctx, g, "d", func(context.Context) (int, error) {
								time.Sleep(time.Second)
								return 4, nil
							})
							if key == "d" {
								wantCycle(t, a.Err, "d", "d")
								return 4, nil
							}
							return a.V, a.Err
						})
						wantAnswer(t, a, 4)
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestDeadlock_NotASlowCall: waiting for long is no cycle, nor is waiting for
// what others wait for.
func TestDeadlock_NotASlowCall(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				for _, by := range kit.Forms { // inline, too
					go by.Call(contextThatCanEnd(t), g, "slow", func(ctx context.Context) (int, error) {
						time.Sleep(time.Hour)
						return 5, nil
					})
					synctest.Wait()
					wantAnswer(t, f.Call(ctx, g, "slow", kit.CtxValue(5)), 5)
				}
			})
		})
	}
}

// TestDeadlock_NotAWaiterThatHasLeft: a waits for b no more when its call has
// left, nor when the context of the call has ended, though it has not woken up.
func TestDeadlock_NotAWaiterThatHasLeft(t *testing.T) {
	for _, f := range nested {
		for _, woken := range []bool{true, false} {
			t.Run(fmt.Sprint(f.Name, ", woken up: ", woken), func(t *testing.T) {
				if woken {
					testWaiterThatHasLeft(t, f, synctest.Wait)
					return
				}
				for range 20 {
					testWaiterThatHasLeft(t, f, func() {})
				}
			})
		}
	}
}

func testWaiterThatHasLeft(t *testing.T, f kit.Form, wake func()) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		leaving, leave := context.WithCancel(ctx)
		go func() { // led by a caller of its own, or it would be abandoned
			a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
				time.Sleep(time.Second)
				leave()
				wake()
				a := kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0))
				return a.V + 1, a.Err
			})
			wantAnswer(t, a, 2)
		}()
		synctest.Wait()
		if a := f.Call(leaving, g, "b", kit.CtxValue(0)); a.Err != context.Canceled {
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Second)
	})
}

// TestDeadlock_NotAnAbandonedFlight: the fn of an abandoned flight waits no more
// when its context has ended, so that a call may queue behind it.
func TestDeadlock_NotAnAbandonedFlight(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					ctx, cancel := context.WithCancel(t.Context())
					inA := make(chan context.Context, 1)
					b, done := kit.Go(contextThatCanEnd(t), kit.Forms[2], &g, "b", func(ctx context.Context) (int, error) {
						ended := <-inA
						cancel()
						<-ended.Done()
						a := kit.Forms[2].Call(ctx, &g, "a", kit.CtxValue(2))
						return a.V, a.Err
					})
					synctest.Wait()
					kit.Forms[2].Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
						go func() {
							synctest.Wait()
							inA <- ctx
						}()
						if a := f.Call(ctx, &g, "b", kit.CtxValue(0)); a.Err != context.Canceled {
							t.Errorf("%+v", a)
						}
						return 0, nil
					})
					<-done
					wantAnswer(t, *b, 2)
				})
			}
		})
	}
}

// TestDeadlock_NotAFinishedFlight: a flight that has finished waits for nobody,
// and nobody waits for it.
func TestDeadlock_NotAFinishedFlight(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				// What a waited for asks for a, when it runs again.
				wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(5)), 5)
				if f.Name != "DoFresh" {
					go func() {
						a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
							a := f.Call(ctx, g, "a", kit.CtxValue(0))
							return a.V, a.Err
						})
						wantAnswer(t, a, 1)
					}()
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// TestDeadlock_NotAGoroutineThatGoesOn: when fn has returned, what its goroutines
// wait for is not its wait, be it that they began before or after.
func TestDeadlock_NotAGoroutineThatGoesOn(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				var wg sync.WaitGroup
				second := func(ctx context.Context) (int, error) { return f.Call(ctx, &g, "c", kit.CtxValue(3)).V, nil }
				b := func(ctx context.Context) (int, error) {
					time.Sleep(time.Second)
					a := f.Call(ctx, &g, "a", second) // runs again
					return a.V, a.Err
				}
				wantAnswer(t, kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
					wg.Go(func() { wantAnswer(t, f.Call(ctx, &g, "b", b), 3) })
					wg.Go(func() {
						time.Sleep(time.Hour)
						wantAnswer(t, f.Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
							a := f.Call(ctx, &g, "b", b2(f, &g))
							return a.V, a.Err
						}), 4)
					})
					synctest.Wait()
					return 1, nil
				}), 1)
				wg.Wait()
			})
		})
	}
}

func b2(f kit.Form, g *kit.Group) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		a := f.Call(ctx, g, "c", kit.CtxValue(4))
		return a.V, a.Err
	}
}

// TestDeadlock_NotAForgottenFlight: a call for a key whose flight was forgotten,
// or has reached MaxAge, leads another and does not wait for the old one.
func TestDeadlock_NotAForgottenFlight(t *testing.T) {
	for _, f := range nested {
		for _, aged := range []bool{false, true} {
			if aged && f.Name == "DoFresh" {
				continue // it queues, see TestDeadlock_FreshInAnAgedFlight
			}
			t.Run(fmt.Sprint(f.Name, ", aged: ", aged), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{MaxAge: time.Minute}
					var old error
					a := kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
						time.Sleep(30 * time.Second)
						old = f.Call(ctx, &g, "a", kit.CtxValue(0)).Err
						if !aged {
							g.Forget("a")
						}
						time.Sleep(30 * time.Second)
						again := f.Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
							// b waits for this one now.
							a := f.Call(ctx, &g, "b", func(ctx context.Context) (int, error) {
								a := f.Call(ctx, &g, "a", kit.CtxValue(0))
								wantCycle(t, a.Err, "b", "a", "b")
								return 6, nil
							})
							return a.V, a.Err
						})
						wantAnswer(t, again, 6)
						return 1, nil
					})
					wantAnswer(t, a, 1)
					wantCycle(t, old, "a", "a")
				})
			})
		}
	}
}

// TestDeadlock_FreshInAnAgedFlight: a wait that MaxAge ends is a cycle if it would last
// longer than 10 ms, and none otherwise.
func TestDeadlock_FreshInAnAgedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		wantAnswer(t, kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
			wantCycle(t, kit.Forms[4].Call(ctx, &g, "a", kit.CtxValue(0)).Err, "a", "a")
			time.Sleep(time.Minute - lookAfter - lookAfter/2)
			start := time.Now()
			wantAnswer(t, kit.Forms[4].Call(ctx, &g, "a", kit.CtxValue(2)), 2)
			if took := time.Since(start); took != lookAfter/2 {
				t.Errorf("got an answer after %v, want %v", took, lookAfter/2)
			}
			return 1, nil
		}), 1)
	})
}

// TestDeadlock_PromotedWaitsForNobody: a successor that was promoted does not
// stand behind the forgotten flight any more.
func TestDeadlock_PromotedWaitsForNobody(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		release := make(chan struct{})
		go g.DoFresh(t.Context(), "a", func(context.Context) (int, error) { <-release; return 2, nil })
		synctest.Wait()
		go func() {
			a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
				a := kit.Forms[4].Call(ctx, g, "a", kit.CtxValue(0)) // joins the queue
				return a.V, a.Err
			})
			wantAnswer(t, a, 2)
		}()
		time.Sleep(2 * lookAfter) // the other has looked, and found no cycle
		wantCycle(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)).Err, "a", "b", "a")
		g.Forget("a")
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(release) })
		wantAnswer(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)), 2)
	})
}

// TestDeadlock_NotWhatLingers: an answer that is there is not waited for.
func TestDeadlock_NotWhatLingers(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	_, _, _ = g.Do("a", kit.Value(5))
	_, _, _ = g.DoFresh(contextThatCanEnd(t), "a", func(ctx context.Context) (int, error) {
		for _, f := range nested {
			a := f.Call(ctx, &g, "a", kit.CtxValue(0))
			if f.Name == "DoFresh" {
				wantCycle(t, a.Err, "a", "a")
			} else {
				wantAnswer(t, a, 5)
			}
		}
		return 0, nil
	})
}

// TestDeadlock_RefusedLeavesNothing: a call that was refused leaves no waiter behind and
// counts as Rejected alone, and the next, which closes no cycle, is not refused.
func TestDeadlock_RefusedLeavesNothing(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		for _, f := range nested {
			before := g.Stats()
			for range 100 {
				wantCycle(t, f.Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
			}
			after := g.Stats()
			if before.Rejected += 100; before.Calls+100 != after.Calls || before.Rejected != after.Rejected || after.Joined != 0 || after.Left != 0 {
				t.Errorf("%s: %+v", f.Name, after)
			}
			if !g.ForgetUnshared("b") || kit.WaitersOf(g, "a") != 0 {
				t.Errorf("%s: %d waiters", f.Name, kit.WaitersOf(g, "a"))
			}
			wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
		}
		if g.ForgetUnshared("a") {
			t.Error("the flight is not shared, but calls have joined it")
		}
	})
}

// The next three tests state what is not seen: a cycle goes on until a context
// ends it, and nobody is told.

// TestDeadlock_BlindToDo: an fn of Do has no context that would tell.
func TestDeadlock_BlindToDo(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, shared, err := g.Do("k", func() (int, error) {
					a := f.Call(ctx, &g, "k", kit.CtxValue(0))
					if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
						t.Errorf("%+v after %v", a, time.Since(start))
					}
					return 1, nil
				})
				if shared != (f.Name != "DoFresh") || err != nil {
					t.Error(shared, err)
				}
			})
		})
	}
}

// TestDeadlock_BlindThroughDo: a cycle of which one flight was led by a Do.
func TestDeadlock_BlindThroughDo(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		start := time.Now()
		limit, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go g.Do("b", func() (int, error) {
			time.Sleep(time.Second)
			a := kit.Forms[2].Call(limit, g, "a", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("%+v after %v", a, time.Since(start))
			}
			return 2, nil
		})
		synctest.Wait()
		wantAnswer(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)), 2)
		if time.Since(start) != time.Minute {
			t.Errorf("after %v", time.Since(start))
		}
	})
}

// TestDeadlock_BlindWithoutCancel: a DoContext that runs fn on its caller's
// goroutine gives it no context of its own: its calls count as those of the fn
// around it, and it cannot be waited for in a cycle.
func TestDeadlock_BlindWithoutCancel(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		v, _, err := g.DoContext(context.WithoutCancel(ctx), "b", func(ctx context.Context) (int, error) {
			wantCycle(t, kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
			limit, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			start := time.Now()
			a := kit.Forms[2].Call(limit, g, "b", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("%+v after %v", a, time.Since(start))
			}
			return 3, nil
		})
		if v != 3 || err != nil {
			t.Error(v, err)
		}
	})
}

// TestDetach_NotWaited: work that fn does not wait for may ask for fn's key, and
// for what waits for it, with a detached context; without, it is told.
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
						// The flight that was led with it counts like any other.
						wantCycle(t, f.Call(ctx, g, "b", kit.CtxValue(0)).Err, "b", "b")
						return 0, nil
					})
					time.Sleep(time.Second)
				})
			})
		}
	}
}

// TestDetach_Context: a detached context is like the other in all that package
// context knows of.
func TestDetach_Context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), kit.CtxKey{}, "mine"))
		limited, stop := context.WithTimeout(parent, time.Hour)
		defer stop()
		ctx := coalesce.Detach(limited)
		if d, ok := ctx.Deadline(); !ok || time.Until(d) != time.Hour {
			t.Errorf("deadline %v, %v", d, ok)
		}
		if ctx.Value(kit.CtxKey{}) != "mine" || ctx.Err() != nil || ctx.Done() != limited.Done() {
			t.Error("it differs")
		}
		child, stopChild := context.WithCancel(ctx)
		defer stopChild()
		var called, stopped atomic.Bool
		context.AfterFunc(ctx, func() { called.Store(true) })
		if !context.AfterFunc(ctx, func() { stopped.Store(true) })() {
			t.Error("stop came too late")
		}
		cancel(kit.ErrTest)
		synctest.Wait()
		for _, c := range []context.Context{ctx, child} {
			if c.Err() != context.Canceled || context.Cause(c) != kit.ErrTest {
				t.Errorf("%v, cause %v", c.Err(), context.Cause(c))
			}
		}
		if !called.Load() || stopped.Load() {
			t.Errorf("called %v, stopped %v", called.Load(), stopped.Load())
		}
		if never := coalesce.Detach(context.Background()); never.Done() != nil || never.Err() != nil {
			t.Error("it can end")
		}
	})
}

// TestDetach_FlightsContext: likewise for a context that fn was given, which ends
// when the flight is abandoned; and what is derived from it costs no goroutine.
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
				t.Error("it differs")
			}
			<-ctx.Done()
			return 0, nil
		})
		synctest.Wait()
		cancel(kit.ErrTest)
		synctest.Wait()
		for _, c := range derived {
			if c.Err() != context.Canceled || context.Cause(c) != kit.ErrTest {
				t.Fatalf("%v, cause %v", c.Err(), context.Cause(c))
			}
		}
	})
}

// TestDetach_Nil panics.
func TestDetach_Nil(t *testing.T) {
	//lint:ignore SA1012 that is the test
	if r := panicOf(func() { coalesce.Detach(nil) }); r != "coalesce: nil context" {
		t.Errorf("panic: %v", r)
	}
}

// A valueContext runs a function where its values are asked for.
type valueContext struct {
	context.Context
	asked func()
}

func (c *valueContext) Value(key any) any {
	c.asked()
	return c.Context.Value(key)
}

// TestDeadlock_SlowValue: a context that takes its time to find a value, or
// calls the group meanwhile, holds up nobody but its caller.
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
					t.Errorf("Len %d after %v", g.Len(), time.Since(start))
				}
				<-done
				wantAnswer(t, *a, 2)
			})
		})
	}
}

// TestDeadlock_PanickingValue: a context whose Value panics, or exits, is the
// caller's misfortune; the call has not begun.
func TestDeadlock_PanickingValue(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				before := g.Stats()
				a := f.Call(&valueContext{ctx, func() { panic(kit.ErrTest) }}, g, "b", kit.CtxValue(0))
				if a.Panic != kit.ErrTest {
					t.Errorf("%+v", a)
				}
				_, done := kit.Go(&valueContext{ctx, runtime.Goexit}, f, g, "b", kit.CtxValue(0))
				<-done
				if got := g.Stats(); got != before || g.Len() != 1 {
					t.Errorf("%+v, Len %d", got, g.Len())
				}
				wantCycle(t, f.Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
				wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
			})
		})
	}
}

// TestDeadlock_ForeignContext: who makes a call is told by its context, not by
// the goroutine that it is made on.
func TestDeadlock_ForeignContext(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctxA context.Context) {
		_, _, err := g.DoContext(ctxA, "b", func(ctxB context.Context) (int, error) {
			wantCycle(t, kit.Forms[2].Call(ctxA, g, "a", kit.CtxValue(0)).Err, "a", "a")
			wantCycle(t, kit.Forms[2].Call(ctxB, g, "a", kit.CtxValue(0)).Err, "b", "a", "b")
			// As a's, this is no cycle: it would be told as b's.
			limit, cancel := context.WithTimeout(ctxA, time.Minute)
			defer cancel()
			if a := kit.Forms[2].Call(limit, g, "b", kit.CtxValue(0)); a.Err != context.DeadlineExceeded {
				t.Errorf("%+v", a)
			}
			wantCycle(t, kit.Forms[2].Call(ctxB, g, "b", kit.CtxValue(0)).Err, "b", "b")
			return 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A web is a crowd of calls whose fns call for each other's keys at random. It
// keeps account of who waits for what, to judge what the calls are told by.
type web struct {
	t       *testing.T
	groups  [2]coalesce.Group[int, int]
	keys    int
	ordered bool // fns call for greater keys only: there is no cycle
	flows   bool // calls leave, flights are forgotten, work is detached

	mu   sync.Mutex
	runs map[*webRun]bool // executions, also those that have ended
	told int
}

// A webRun is an execution of fn.
type webRun struct {
	keys  []int
	asked map[int]int       // calls for each key that have not returned
	ended map[int]time.Time // when one for each key returned last
	depth int
}

// fn is what runs for the given keys.
func (w *web) fn(ctx context.Context, depth int, keys []int) {
	r := &webRun{keys: keys, asked: map[int]int{}, ended: map[int]time.Time{}, depth: depth}
	w.mu.Lock()
	w.runs[r] = true
	w.mu.Unlock()
	if depth < 4 {
		var calls sync.WaitGroup
		for range rand.IntN(4) {
			if rand.IntN(2) == 0 {
				calls.Go(func() { w.call(ctx, r) })
			} else {
				w.call(ctx, r)
			}
		}
		calls.Wait()
	}
}

// call makes a call with the context of r.
func (w *web) call(ctx context.Context, r *webRun) {
	least := 0
	if w.ordered {
		least = slices.Max(r.keys) + 1
	}
	if least >= w.keys {
		return
	}
	keys := rand.Perm(w.keys - least)
	for i := range keys {
		keys[i] += least
	}
	if w.flows {
		switch rand.IntN(8) {
		case 0:
			w.groups[keys[0]%2].Forget(keys[0])
		case 1:
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(50))*time.Microsecond)
			defer cancel()
		case 2:
			if w.ordered { // or it might hang
				ctx = coalesce.Detach(ctx)
			}
		}
	}
	form := rand.IntN(4)
	if form < 3 {
		keys = keys[:1]
	} else {
		keys = slices.DeleteFunc(keys[:min(len(keys), 1+rand.IntN(4))], func(k int) bool { return k%2 != keys[0]%2 })
	}
	w.mu.Lock()
	for _, k := range keys {
		r.asked[k]++
	}
	w.mu.Unlock()
	looked := time.Now().Add(lookAfter)
	results := w.do(ctx, form, keys, r.depth+1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, res := range results {
		var e *coalesce.DeadlockError
		if errors.As(res.Err, &e) {
			w.judge(r, k, e.Keys, looked)
		}
	}
	for _, k := range keys {
		r.asked[k]--
		r.ended[k] = time.Now()
	}
}

// do makes a call in the given form.
func (w *web) do(ctx context.Context, form int, keys []int, depth int) map[int]coalesce.Result[int] {
	g, key := &w.groups[keys[0]%2], keys[0]
	fn := func(ctx context.Context) (int, error) { w.fn(ctx, depth, []int{key}); return key, nil }
	var res coalesce.Result[int]
	switch form {
	case 0:
		res.Val, res.Shared, res.Err = g.DoContext(ctx, key, fn)
	case 1:
		res.Val, res.Shared, res.Err = g.DoFresh(ctx, key, fn)
	case 2:
		res = <-g.DoChan(ctx, key, fn)
	case 3:
		return g.DoMulti(ctx, keys, func(ctx context.Context, keys []int) (map[int]int, error) {
			w.fn(ctx, depth, keys)
			m := map[int]int{}
			for _, k := range keys {
				m[k] = k
			}
			return m, nil
		})
	}
	return map[int]coalesce.Result[int]{key: res}
}

// judge checks that each of the keys of a cycle has an execution that waits for
// the next one, or did when the call that was refused looked for it at the earliest:
// other calls of the cycle may have been refused since. w.mu must be held.
func (w *web) judge(r *webRun, key int, cycle []any, looked time.Time) {
	w.told++
	first, last := cycle[0], cycle[len(cycle)-1]
	if first != last || cycle[1] != any(key) || !slices.Contains(r.keys, first.(int)) {
		w.t.Errorf("fn of %v asked for %d and was told %v", r.keys, key, cycle)
	}
	if w.flows {
		return // the others may have left, or been promoted, since
	}
	for i := 1; i+1 < len(cycle); i++ {
		found := false
		for r := range w.runs {
			found = found || slices.Contains(r.keys, cycle[i].(int)) &&
				(r.asked[cycle[i+1].(int)] > 0 || !r.ended[cycle[i+1].(int)].Before(looked))
		}
		if !found {
			w.t.Errorf("told %v, but no fn of %v waits for %v", cycle, cycle[i], cycle[i+1])
		}
	}
}

// run makes calls from outside and waits until all have ended.
func (w *web) run(callers int) {
	w.runs = map[*webRun]bool{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(w.t.Context())
			defer cancel()
			if w.flows && rand.IntN(3) == 0 {
				ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
				defer cancel()
			}
			w.do(ctx, rand.IntN(4), []int{rand.IntN(w.keys)}, 0)
		})
	}
	wg.Wait()
	for i := range w.groups {
		if err := w.groups[i].Shutdown(w.t.Context()); err != nil {
			w.t.Error(err)
		}
		if n := w.groups[i].Len(); n != 0 {
			w.t.Errorf("Len = %d", n)
		}
	}
}

// TestDeadlock_RandomCycles: whatever waits for whatever, all calls end, and who
// is told of a cycle is told of one that is there. In a bubble, a cycle that
// was missed ends the test at once.
func TestDeadlock_RandomCycles(t *testing.T) {
	kit.SetProcs(t, 4)
	told := 0
	for round := range 150 {
		for _, keys := range []int{2, 5, 20} {
			w := &web{t: t, keys: keys}
			if round%2 == 0 {
				w.run(10)
			} else {
				synctest.Test(t, func(t *testing.T) { w.t = t; w.run(10) })
			}
			told += w.told
		}
	}
	if told < 100 {
		t.Errorf("only %d calls were told", told)
	}
	t.Logf("%d calls were told", told)
}

// TestDeadlock_RandomOrder: where there is no cycle, nobody is told of one,
// though calls leave, flights are abandoned, forgotten and taken over from.
func TestDeadlock_RandomOrder(t *testing.T) {
	kit.SetProcs(t, 4)
	for range 150 {
		w := &web{t: t, keys: 12, ordered: true, flows: true}
		w.groups[1].MaxAge = 100 * time.Microsecond
		w.groups[0].Linger = 50 * time.Microsecond
		w.run(30)
		if w.told != 0 {
			t.Fatalf("%d calls were told", w.told)
		}
	}
}

// TestDeadlock_RandomFlow: with all of that, and cycles, nothing hangs but what
// a context ends.
func TestDeadlock_RandomFlow(t *testing.T) {
	kit.SetProcs(t, 4)
	for range 150 {
		synctest.Test(t, func(t *testing.T) {
			w := &web{t: t, keys: 6, flows: true}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for range 20 {
						w.groups[rand.IntN(2)].Forget(rand.IntN(w.keys))
						for range w.groups[rand.IntN(2)].Flights() {
							runtime.Gosched()
						}
					}
				})
			}
			w.run(15)
			wg.Wait()
		})
	}
}

// TestDeadlock_QueuedKeyThatHasLeft: a key of DoMulti that gave up its turn, as
// its context said that it had ended, is waited for no more, though the call goes
// on for another key: the next one in the queue may wait for the caller.
func TestDeadlock_QueuedKeyThatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "q")
		h := holdLoader()
		var many *manyAnswer
		var manyDone <-chan struct{}
		strange := make(chan *kit.StrangeContext, 1)
		caller, _ := kit.Go(context.WithoutCancel(t.Context()), kit.Forms[3], &g, "x", func(ctx context.Context) (int, error) {
			s := &kit.StrangeContext{Context: ctx, StrangeErr: func() error { return kit.ErrTest }}
			many, manyDone = goMulti(s, &g, h.then(loads(0)), "q", "z")
			strange <- s
			<-manyDone
			return 5, nil
		})
		s := <-strange
		<-h.Started
		next, _ := kit.Go(t.Context(), kit.Forms[4], &g, "q", func(ctx context.Context) (int, error) {
			v, _, err := g.DoContext(ctx, "x", kit.CtxValue(0))
			return v + 1, err
		})
		synctest.Wait()
		s.Strange.Store(true)
		close(old.Release) // the key is picked, and hands on
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		if next.V != 6 || next.Err != nil {
			t.Errorf("next: %+v", next)
		}
		wantResults(t, "DoMulti", many.results, results{"q": {Err: kit.ErrTest, Shared: true}, "z": {Val: 25}})
		if caller.V != 5 || caller.Err != nil || g.Len() != 0 {
			t.Errorf("caller: %+v, Len %d", caller, g.Len())
		}
	})
}

// TestDeadlock_DoMultiThatHasLeft: an fn that has given up on a DoMulti waits for
// none of its keys any more, be they led, joined or queued: what they run may
// wait for that fn.
func TestDeadlock_DoMultiThatHasLeft(t *testing.T) {
	for _, key := range []string{"led", "joined", "queued"} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			old := kit.Abandon(t, &g, "queued")
			proceed := make(chan struct{})
			waits := func(ctx context.Context) (int, error) {
				<-proceed
				v, _, err := g.DoContext(ctx, "caller", kit.CtxValue(0))
				return v + 1, err
			}
			fn := func(ctx context.Context, keys []string) (map[string]int, error) {
				v, err := waits(ctx)
				return map[string]int{keys[0]: v}, err
			}
			if key == "joined" {
				kit.Go(context.Background(), kit.Forms[3], &g, key, waits)
				synctest.Wait()
			}
			h := kit.Hold()
			caller, _ := kit.Go(context.Background(), kit.Forms[3], &g, "caller", func(ctx context.Context) (int, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				r := g.DoMulti(ctx, []string{key}, fn)[key]
				if r.Err != context.DeadlineExceeded {
					t.Errorf("DoMulti: %+v", r)
				}
				return h.CtxFn(5)(ctx)
			})
			synctest.Wait()
			other, _ := kit.Go(context.Background(), kit.Forms[3], &g, key, waits)
			<-h.Started // it has left
			close(old.Release)
			synctest.Wait()
			close(proceed)
			synctest.Wait()
			close(h.Release)
			synctest.Wait()
			if other.V != 6 || other.Err != nil || caller.V != 5 {
				t.Errorf("%s: %+v, caller: %+v", key, other, caller)
			}
		})
	}
}
