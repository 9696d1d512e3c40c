package rules_test

import (
	"context"
	"fmt"
	"maps"
	"math"
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

// This file holds the rules that all forms of Forget share. Those of one form are in
// forgetfunc_test.go and forgetflight_test.go.

// TestForget_Forms: in every form of call, ForgetFlight and ForgetFunc detach a running
// flight as Forget does: it answers its own callers, the next call leads, and calls that
// were queued behind it start at once.
func TestForget_Forms(t *testing.T) {
	for name, forget := range kit.Forgets {
		for _, f := range kit.Forms {
			for _, queue := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s queue=%v", name, f.Name, queue), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var g kit.Group
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						first, second := kit.Hold(), kit.Hold()
						a, _ := kit.Go(ctx, f, &g, "k", first.CtxFn(1))
						<-first.Started
						b, _ := kit.Go(ctx, kit.Forms[0], &g, "k", kit.CtxValue(0))
						synctest.Wait()
						next := f
						if queue {
							next = kit.Forms[4]
							kit.Go(ctx, next, &g, "k", second.CtxFn(2))
							synctest.Wait()
						}
						if !forget(&g, "k") {
							t.Error("got false, want true")
						}
						if !queue {
							kit.Go(ctx, next, &g, "k", second.CtxFn(2))
						}
						synctest.Wait()
						if second.Runs.Load() != 1 || g.Len() != 1 || g.Stats().Forgotten != 1 {
							t.Errorf("got %d executions, Len %d, %+v, want 1 of each", second.Runs.Load(), g.Len(), g.Stats())
						}
						close(first.Release)
						synctest.Wait()
						if a.V != 1 || b.V != 1 || a.Err != nil || b.Err != nil || !b.Shared {
							t.Errorf("got %+v and %+v, want 1 for both", a, b)
						}
						c, _ := kit.Go(ctx, kit.Forms[0], &g, "k", kit.CtxValue(3))
						synctest.Wait()
						close(second.Release)
						synctest.Wait()
						if c.V != 2 || !c.Shared {
							t.Errorf("got %+v, want 2 from the replacement of the forgotten flight", c)
						}
					})
				})
			}
		}
	}
}

// TestForget_Abandoned: an abandoned flight can be forgotten by all forms, and the calls
// that wait behind it start at once.
func TestForget_Abandoned(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old, next := kit.Abandon(t, &g, "k"), kit.Hold()
				kit.Go(t.Context(), kit.Forms[0], &g, "k", next.CtxFn(2))
				synctest.Wait()
				if next.Runs.Load() != 0 {
					t.Fatal("got an execution beside the abandoned one, want the call to wait")
				}
				if !forget(&g, "k") {
					t.Error("got false, want true")
				}
				synctest.Wait()
				if next.Runs.Load() != 1 {
					t.Error("got no execution of the successor, want one")
				}
				close(next.Release)
				close(old.Release)
				synctest.Wait()
			})
		})
	}
}

// TestForget_NaN: the flights of a key that does not equal itself are forgotten one by
// one, by ID, and all by ForgetFunc; each counts as a key.
func TestForget_NaN(t *testing.T) {
	for name, g := range map[string]*coalesce.Group[float64, int]{
		"default":  {},
		"one hash": {Hash: func(float64) uint64 { return 7 }},
		"lingers":  {Linger: time.Hour, Shards: 1},
		"hooks":    {Hooks: coalesce.Hooks[float64]{Join: func(context.Context, coalesce.Event[float64]) {}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				release := make(chan struct{})
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() {
						var v int
						if i%2 == 0 {
							v, _, _ = g.Do(math.NaN(), func() (int, error) { <-release; return i, nil })
						} else {
							v, _, _ = g.DoContext(ctx, math.NaN(), func(context.Context) (int, error) { <-release; return i, nil })
						}
						if v != i {
							t.Errorf("got %d, want %d", v, i)
						}
					})
				}
				go g.Do(1, func() (int, error) { <-release; return 1, nil })
				synctest.Wait()
				n := 0
				for f := range g.Flights() {
					if f.Key != 1 && n < 3 {
						n++
						if !g.ForgetFlight(f.ID) || g.ForgetFlight(f.ID) || g.Len() != 11-n {
							t.Errorf("%+v: got Len %d, want true once and %d", f, g.Len(), 11-n)
						}
					}
				}
				if n := g.ForgetFunc(func(key float64) bool { return key != 1 }); n != 7 || g.Len() != 1 {
					t.Errorf("got %d keys, Len %d, want 7, 1", n, g.Len())
				}
				if n := g.ForgetFunc(math.IsNaN); n != 0 || g.Stats().Forgotten != 10 {
					t.Errorf("got %d keys, %d in Stats, want 0, 10", n, g.Stats().Forgotten)
				}
				close(release)
				wg.Wait()
				synctest.Wait()
				for f := range g.Flights() {
					t.Errorf("got %+v, want no flight", f)
				}
			})
		})
	}
}

// TestForget_Batch: one flight of a batch is forgotten, by ID or by its key; the batch
// goes on, and answers for all its keys.
func TestForget_Batch(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h := kit.Hold()
				var got map[string]coalesce.Result[int]
				go func() {
					got = g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(ctx context.Context, _ []string) (map[string]int, error) {
						v, err := h.CtxFn(1)(ctx)
						return map[string]int{"a": v, "b": v, "c": v}, err
					})
				}()
				<-h.Started
				if !forget(&g, "b") || g.Len() != 2 {
					t.Errorf("got false or Len %d, want true and 2", g.Len())
				}
				if v, _, _ := g.Do("b", kit.Value(2)); v != 2 {
					t.Errorf("got %d for b, want 2", v)
				}
				close(h.Release)
				synctest.Wait()
				one := coalesce.Result[int]{Val: 1}
				if want := map[string]coalesce.Result[int]{"a": one, "b": one, "c": one}; !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // All keys at once
		var g kit.Group
		h := kit.Hold()
		go g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(ctx context.Context, _ []string) (map[string]int, error) {
			_, err := h.CtxFn(1)(ctx)
			return nil, err
		})
		<-h.Started
		if n := g.ForgetFunc(kit.All); n != 3 || g.Len() != 0 {
			t.Errorf("got %d keys, Len %d, want 3, 0", n, g.Len())
		}
		close(h.Release)
	})
}

// TestForget_Shutdown: all forms work after Shutdown has begun, and Shutdown waits for
// the flights that they forget.
func TestForget_Shutdown(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Hour}
				h := kit.Hold()
				a, _ := kit.Go(t.Context(), kit.Forms[2], &g, "k", h.CtxFn(1))
				<-h.Started
				down := make(chan error, 1)
				go func() { down <- g.Shutdown(context.Background()) }()
				synctest.Wait()
				if !forget(&g, "k") || forget(&g, "k") || g.Len() != 0 {
					t.Error("got true twice or never, want true once")
				}
				synctest.Wait()
				if len(down) > 0 {
					t.Error("got a Shutdown that has returned, want it to wait for the forgotten flight")
				}
				close(h.Release)
				if err := <-down; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if a.V != 1 || forget(&g, "k") {
					t.Errorf("got %+v, want 1 and then nothing to forget", a)
				}
			})
		})
	}
}

// TestForget_MaxAge: a flight that is past MaxAge can be forgotten; calls that are queued
// behind it do not wait for the timer.
func TestForget_MaxAge(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{MaxAge: time.Minute}
				first, second := kit.Hold(), kit.Hold()
				kit.Go(t.Context(), kit.Forms[0], &g, "k", first.CtxFn(1))
				synctest.Wait()
				kit.Go(t.Context(), kit.Forms[4], &g, "k", second.CtxFn(2))
				time.Sleep(time.Second)
				if !forget(&g, "k") {
					t.Error("got false, want true")
				}
				synctest.Wait()
				if second.Runs.Load() != 1 {
					t.Error("got no execution of the successor, want one")
				}
				time.Sleep(2 * time.Minute) // past MaxAge, and no call has taken over
				if !forget(&g, "k") || g.Len() != 0 || g.Stats().TakenOver != 0 {
					t.Errorf("got Len %d, %+v, want 0 and no takeover", g.Len(), g.Stats())
				}
				close(first.Release)
				close(second.Release)
				synctest.Wait()
			})
		})
	}
}

// TestForget_FromInside: fn, hooks and Clone may forget, by all forms, including their
// own key.
func TestForget_FromInside(t *testing.T) {
	for name, forget := range kit.Forgets {
		var g kit.Group
		v, shared, err := g.Do("k", func() (int, error) {
			if !forget(&g, "k") || forget(&g, "k") {
				t.Errorf("%s in fn: got true twice or never, want true once", name)
			}
			v, _, err := g.Do("k", kit.Value(2)) // no recursion: the key is free
			return v + 1, err
		})
		if v != 3 || shared || err != nil || g.Len() != 0 {
			t.Errorf("%s in fn: got %v, %v, %v, Len %d, want 3, false, nil, 0", name, v, shared, err, g.Len())
		}

		var hooked kit.Group
		var forgotten atomic.Int64
		hook := func(context.Context, coalesce.Event[string]) {
			if forget(&hooked, "k") {
				forgotten.Add(1)
			}
		}
		hooked.Hooks = coalesce.Hooks[string]{Join: hook, Finish: hook}
		h := kit.Hold()
		_, first := kit.Go(t.Context(), kit.Forms[0], &hooked, "k", h.CtxFn(1))
		<-h.Started
		_, second := kit.Go(t.Context(), kit.Forms[0], &hooked, "k", h.CtxFn(1))
		for forgotten.Load() == 0 {
			runtime.Gosched()
		}
		close(h.Release)
		<-first
		<-second
		if n := forgotten.Load(); n != 1 { // by Join; Finish finds nothing
			t.Errorf("%s in hooks: got true %d times, want once", name, n)
		}
	}
}

// TestForget_AtOnce: when many calls forget the same flights at once, each flight is
// forgotten by exactly one of them, in every mix of forms.
func TestForget_AtOnce(t *testing.T) {
	g := coalesce.Group[int, int]{Shards: 2}
	for range 50 {
		const keys = 40
		release := make(chan struct{})
		var calls, wg sync.WaitGroup
		for key := range keys {
			calls.Go(func() { g.Do(key, func() (int, error) { <-release; return key, nil }) })
		}
		for g.Len() < keys {
			runtime.Gosched()
		}
		ids := slices.Collect(g.Flights())
		var forgotten atomic.Int64
		before := g.Stats().Forgotten
		for i := range 6 {
			wg.Go(func() {
				n := 0
				switch i % 3 {
				case 0:
					n = g.ForgetFunc(kit.All)
				case 1:
					for _, f := range ids {
						if g.ForgetFlight(f.ID) {
							n++
						}
					}
				default:
					for key := range keys {
						if g.Forget(key) {
							n++
						}
					}
				}
				forgotten.Add(int64(n))
			})
		}
		wg.Wait()
		if n := forgotten.Load(); n != keys || g.Len() != 0 || g.Stats().Forgotten != before+keys {
			t.Fatalf("got %d keys, Len %d, %d in Stats, want %d", n, g.Len(), g.Stats().Forgotten-before, keys)
		}
		close(release)
		calls.Wait()
	}
}

// TestG15_Forget: the next call runs beside the forgotten flight, which answers its own
// callers and leaves its replacement alone when it ends, even if all its callers leave
// first.
func TestG15_Forget(t *testing.T) {
	for _, f := range kit.Forms {
		for _, leave := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s leave=%v", f.Name, leave), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					rest, cancelRest := context.WithCancel(t.Context())
					defer cancelRest()
					h1, h2 := kit.Hold(), kit.Hold()
					a1, _ := kit.Go(ctx, f, &g, "k", h1.CtxFn(1))
					<-h1.Started
					b1, _ := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(0))
					synctest.Wait()
					if !g.Forget("k") || g.Forget("k") || g.Len() != 0 {
						t.Errorf("Forget: got Len %d, want true once and 0", g.Len())
					}
					a2, _ := kit.Go(rest, f, &g, "k", h2.CtxFn(2))
					<-h2.Started
					if leave {
						cancel()
						synctest.Wait()
					}
					close(h1.Release)
					synctest.Wait()
					inline := f.Name == "Do" || f.Name == "DoContext background"
					if leave && !inline && a1.Err != context.Canceled ||
						(!leave || inline) && (a1.V != 1 || a1.Err != nil || !a1.Shared) {
						t.Errorf("first: got %+v, want its result", a1)
					}
					if leave && b1.Err != context.Canceled || !leave && (b1.V != 1 || b1.Err != nil) {
						t.Errorf("follower of the first: got %+v, want its result", b1)
					}
					b2, _ := kit.Go(rest, kit.Forms[0], &g, "k", kit.CtxValue(3))
					synctest.Wait()
					close(h2.Release)
					synctest.Wait()
					if a2.V != 2 || b2.V != 2 || !b2.Shared {
						t.Errorf("got %+v for the second and %+v for its follower, want 2", a2, b2)
					}
					if g.Len() != 0 {
						t.Errorf("got Len %d, want 0", g.Len())
					}
				})
			})
		}
	}
}

// TestG15_ForgetInsideFn: fn forgets its own key, twice, and a key that is not in use.
func TestG15_ForgetInsideFn(t *testing.T) {
	var g kit.Group
	v, shared, err := g.Do("k", func() (int, error) {
		if !g.Forget("k") || g.Forget("k") || g.Forget("other") {
			t.Error("Forget: got a wrong answer, want true for fn's own key, once")
		}
		v, _, err := g.Do("k", kit.Value(2)) // no recursion: the key is free
		return v + 1, err
	})
	if v != 3 || shared || err != nil || g.Len() != 0 {
		t.Errorf("got %v, %v, %v, Len %d, want 3, false, nil, 0", v, shared, err, g.Len())
	}
}
