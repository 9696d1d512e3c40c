package rules_test

import (
	"context"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the tests of the Receive hook.

// TestReceive_BeforeClone: a blocked call and a DoMulti call the hook before Clone, with
// the result of the flight even if Clone panics. A receiver calls it after it has been
// sent its clone, even if Clone has panicked or exited its goroutine.
func TestReceive_BeforeClone(t *testing.T) {
	clones := map[string]func(int) int{
		"returns": func(v int) int { return v },
		"panics":  func(int) int { panic("clone") },
		"exits":   func(int) int { runtime.Goexit(); return 0 },
	}
	for name, clone := range clones {
		for _, f := range kit.Joining {
			t.Run(name+" "+f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var order []string
					g := kit.Group{Clone: func(v int) int {
						order = append(order, "clone")
						return clone(v)
					}}
					g.Hooks.Receive = func(_ context.Context, e coalesce.Event[string]) {
						order = append(order, "receive")
						if e.Err != nil || e.Outcome != coalesce.OutcomeReturned {
							t.Errorf("got %+v, want the result of fn", e)
						}
					}
					ctx, leave := context.WithCancel(t.Context())
					h := kit.Hold()
					kit.Go(ctx, kit.Forms[2], &g, "k", h.CtxFn(1))
					<-h.Started
					a, done := kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					leave() // or the leader would get a clone as well
					synctest.Wait()
					close(h.Release)
					<-done
					synctest.Wait()
					want := []string{"receive", "clone"}
					if f.Name == "DoChan" {
						slices.Reverse(want)
					}
					if !slices.Equal(order, want) {
						t.Errorf("got %q, want %q", order, want)
					}
					if good := name == "returns"; good != (a.Err == nil && a.Panic == nil) {
						t.Errorf("got %+v, want an error if Clone fails", a)
					}
				})
			})
		}
	}
}

// TestReceive_Sent: a receiver has its Result, and all other callers have been woken,
// before the hook is called for it; so a hook that takes its time, or never returns,
// delays no answer.
func TestReceive_Sent(t *testing.T) {
	for _, leader := range kit.Forms {
		t.Run(leader.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{}
				var calls atomic.Int32
				answered := 0
				var answers []<-chan struct{}
				g.Hooks.Receive = func(context.Context, coalesce.Event[string]) {
					if calls.Add(1) == 1 {
						time.Sleep(time.Hour)
					}
				}
				h := kit.Hold()
				_, led := kit.Go(t.Context(), leader, &g, "k", h.CtxFn(1))
				<-h.Started
				for range 3 {
					_, done := kit.Go(t.Context(), kit.Forms[3], &g, "k", kit.CtxValue(0))
					answers = append(answers, done)
				}
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				for _, done := range append(answers, led) {
					if kit.IsDone(done) {
						answered++
					}
				}
				if answered != 4 || calls.Load() != 1 {
					t.Errorf("got %d answers while the first of %d hooks runs, want 4 and 1", answered, calls.Load())
				}
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if calls.Load() != 3 {
					t.Errorf("got %d calls of the hook, want 3", calls.Load())
				}
			})
		})
	}
}

// TestReceive_SlowJoin: a receiver whose Join hook takes its time does not hold up the
// hooks of other receivers, nor the Finish hook.
func TestReceive_SlowJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		g.Hooks.Join = func(ctx context.Context, e coalesce.Event[string]) {
			if nameOf(ctx) == "slow" {
				time.Sleep(time.Hour)
			}
			r.hook("join")(ctx, e)
		}
		h := kit.Lead(t, &g)
		kit.Go(named(t.Context(), "slow"), kit.Forms[3], &g, "k", kit.CtxValue(0))
		synctest.Wait()
		kit.Go(named(t.Context(), "quick"), kit.Forms[3], &g, "k", kit.CtxValue(0))
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		if got, want := heardOf(&r, "quick"), []string{"join", "receive"}; !slices.Equal(got, want) {
			t.Errorf("got hooks %q for the quick receiver, want %q", got, want)
		}
		if n := r.count(); n["finish"] != 1 || len(heardOf(&r, "slow")) != 0 {
			t.Errorf("got %v, want 1 finish and no hook of the slow receiver", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got, want := heardOf(&r, "slow"), []string{"join", "receive"}; !slices.Equal(got, want) {
			t.Errorf("got hooks %q for the slow receiver, want %q", got, want)
		}
	})
}

// heardOf returns the hooks that were called with the context of the given name, in order.
func heardOf(r *recorder, name string) (hooks []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.who == name {
			hooks = append(hooks, e.hook)
		}
	}
	return hooks
}

// TestReceive_Goexit: a hook that exits does so on the goroutine of a call that blocks,
// which goes on exiting. The other callers get their results, each with its hook, and a
// receiver's hook does not lose its Result. A DoMulti calls the hooks for its other keys.
func TestReceive_Goexit(t *testing.T) {
	for _, f := range kit.Joining {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				g := kit.Group{Hooks: r.hooks()}
				g.Hooks.Receive = func(ctx context.Context, e coalesce.Event[string]) {
					r.hook("receive")(ctx, e)
					runtime.Goexit()
				}
				h := kit.Hold()
				leads, _ := kit.Go(t.Context(), kit.Forms[2], &g, "k", h.CtxFn(1))
				<-h.Started
				a, _ := kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
				b, _ := kit.Go(t.Context(), kit.Forms[3], &g, "k", kit.CtxValue(0))
				c, _ := kit.Go(t.Context(), kit.Forms[3], &g, "k", kit.CtxValue(0))
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				for name, got := range map[string]*kit.Answer{"the leader": leads, "a receiver": b, "another": c} {
					if got.V != 1 || got.Err != nil {
						t.Errorf("%s: got %+v, want 1", name, got)
					}
				}
				if exited := a.Err != nil && a.Err.Error() == "the goroutine of the call exited"; exited != (f.Name != "DoChan") {
					t.Errorf("the call: got %+v, exited %t, want %t", a, exited, f.Name != "DoChan")
				}
				if n := r.count(); n["receive"] != 3 || n["finish"] != 1 || g.Len() != 0 {
					t.Errorf("got %v and %d keys in flight, want 3 receives, 1 finish and no key", n, g.Len())
				}
			})
		})
	}
	t.Run("DoMulti of two keys", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			g := kit.Group{Hooks: r.hooks()}
			g.Hooks.Receive = func(ctx context.Context, e coalesce.Event[string]) {
				r.hook("receive")(ctx, e)
				runtime.Goexit()
			}
			h := kit.Hold()
			for _, key := range []string{"a", "b"} {
				kit.Go(t.Context(), kit.Forms[0], &g, key, h.CtxFn(1))
				<-h.Started
			}
			returned := false
			go func() {
				g.DoMulti(named(t.Context(), "m"), []string{"a", "b", "c"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
				returned = true
			}()
			synctest.Wait()
			close(h.Release)
			synctest.Wait()
			got := heardOf(&r, "m")
			slices.Sort(got)
			if want := []string{"join", "join", "receive", "receive", "start"}; !slices.Equal(got, want) || returned {
				t.Errorf("got hooks %q, returned %t, want %q and no return", got, returned, want)
			}
		})
	})
}

// TestReceive_JoinExits: if the flight has finished by the time that a Join hook exits
// the goroutine of its call, the call has its result, which is reported once.
func TestReceive_JoinExits(t *testing.T) {
	for _, f := range kit.Forms {
		for _, refused := range []bool{false, true} {
			t.Run(f.Name, func(t *testing.T) {
				if f.Name == "DoFresh" && !refused {
					t.Skip("it is queued, not joined")
				}
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := kit.Group{Hooks: r.hooks()}
					g.Hooks.Join = func(ctx context.Context, e coalesce.Event[string]) {
						r.hook("join")(ctx, e)
						time.Sleep(time.Second)
						runtime.Goexit()
					}
					want := "returned"
					var h *kit.Held
					if refused {
						want = "closed"
						h = kit.Abandon(t, &g, "k")
					} else {
						h = kit.Lead(t, &g)
					}
					r.lines(t)
					kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					if refused {
						go func() { _ = g.Shutdown(t.Context()) }()
					} else {
						close(h.Release)
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					var of []string
					for _, e := range r.all {
						if e.hook != "finish" {
							of = append(of, e.hook)
						}
						if e.hook == "receive" && e.Outcome.String() != want {
							t.Errorf("got the outcome %v, want %s", e.Outcome, want)
						}
					}
					if !slices.Equal(of, []string{"join", "receive"}) {
						t.Errorf("got the hooks %q, want a join and a receive", of)
					}
					if st := g.Stats(); st.Left != uint64(btoi(refused)) {
						t.Errorf("got %d calls that left, want only the one that abandoned the flight", st.Left)
					}
					if refused {
						close(h.Release)
					}
				})
			})
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestReceive_LeaveExits: a DoMulti whose Leave hook exits its goroutine has received the
// results of the keys whose flights had finished.
func TestReceive_LeaveExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		g.Hooks.Leave = func(ctx context.Context, e coalesce.Event[string]) {
			r.hook("leave")(ctx, e)
			runtime.Goexit()
		}
		finished, running := kit.Hold(), kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "a", finished.CtxFn(1))
		<-finished.Started
		kit.Go(t.Context(), kit.Forms[0], &g, "b", running.CtxFn(1))
		<-running.Started
		ctx, cancel := context.WithCancel(named(t.Context(), "m"))
		go g.DoMulti(ctx, []string{"b", "a"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
		synctest.Wait()
		close(finished.Release)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got, want := heardOf(&r, "m"), []string{"join", "join", "leave", "receive"}; !slices.Equal(got, want) {
			t.Errorf("got the hooks %q, want %q", got, want)
		}
		close(running.Release)
	})
}

// An errExits is a context whose Err exits the goroutine once it is armed.
type errExits struct {
	context.Context
	armed bool
}

func (c *errExits) Err() error {
	if c.armed {
		runtime.Goexit()
	}
	return c.Context.Err()
}

// TestReceive_ErrExits: a queued call that Shutdown has refused, and whose context exits
// the goroutine when the call wakes up, still has a Receive.
func TestReceive_ErrExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		h := kit.Abandon(t, &g, "k")
		ctx := &errExits{Context: named(t.Context(), "a")}
		kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(0))
		synctest.Wait()
		ctx.armed = true
		go func() { _ = g.Shutdown(t.Context()) }()
		synctest.Wait()
		if got, want := heardOf(&r, "a"), []string{"join", "receive"}; !slices.Equal(got, want) {
			t.Errorf("got the hooks %q, want %q", got, want)
		}
		close(h.Release)
		synctest.Wait()
	})
}

// TestReceive_Forgotten: a flight that is forgotten, or taken over, answers its own
// callers, and their events have its ID, not that of its replacement.
func TestReceive_Forgotten(t *testing.T) {
	for _, how := range []string{"Forget", "MaxAge"} {
		for _, f := range kit.Joining {
			t.Run(how+" "+f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := kit.Group{Hooks: r.hooks(), MaxAge: time.Minute}
					h := kit.Lead(t, &g)
					kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					if how == "Forget" {
						time.Sleep(time.Second)
						g.Forget("k")
					} else {
						time.Sleep(time.Minute)
					}
					kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(2))
					synctest.Wait()
					waited := map[string]string{"Forget": "1s", "MaxAge": "1m0s"}[how]
					close(h.Release)
					synctest.Wait()
					r.want(t, "start() k 1: 0", "join() k 1: 1", "start() k 2: 0", "finish(+) k 2: 0 returned false",
						"finish(+) k 1: 1 run "+waited+" returned false", "receive() k 1: 0 wait "+waited+" returned false")
				})
			})
		}
	}
}

// TestReceive_Fresh: calls of DoFresh that were queued behind a flight have a Receive of
// their own flight, and a follower of the flight in front has one of that.
func TestReceive_Fresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		h := kit.Lead(t, &g)
		kit.Go(named(t.Context(), "a"), kit.Forms[4], &g, "k", kit.CtxValue(2))
		synctest.Wait()
		kit.Go(named(t.Context(), "b"), kit.Forms[4], &g, "k", kit.CtxValue(3))
		synctest.Wait()
		kit.Go(named(t.Context(), "c"), kit.Forms[2], &g, "k", kit.CtxValue(4))
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		r.want(t, "start() k 1: 0", "join(a) k 2: 1", "join(b) k 2: 2", "join(c) k 1: 1",
			"finish(+) k 1: 1 returned false", "receive(c) k 1: 0 returned false",
			"start(a) k 2: 1", "finish(a+) k 2: 1 returned false", "receive(b) k 2: 0 returned false")
	})
}

// TestReceive_NotForNaN: calls for a key that does not equal itself have flights of their
// own, and no call joins or receives.
func TestReceive_NotForNaN(t *testing.T) {
	var mu sync.Mutex
	ids := map[uint64]int{}
	hook := func(_ context.Context, e coalesce.Event[float64]) {
		mu.Lock()
		defer mu.Unlock()
		ids[e.FlightID]++
	}
	bad := func(_ context.Context, e coalesce.Event[float64]) { t.Errorf("got %+v, want no event of a join", e) }
	g := coalesce.Group[float64, int]{Hooks: coalesce.Hooks[float64]{
		Start: func(ctx context.Context, e coalesce.Event[float64]) context.Context { hook(ctx, e); return nil },
		Join:  bad, Receive: bad, Leave: bad, Finish: hook,
	}}
	nan := math.NaN()
	g.Do(nan, func() (int, error) {
		g.Do(nan, kit.Value(1))
		return 1, nil
	})
	g.DoMulti(context.Background(), []float64{nan, nan}, func(context.Context, []float64) (map[float64]int, error) { return nil, nil })
	if !kit.Eventually(func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) == 4 }) {
		t.Errorf("got events of flights %v, want four", ids)
	}
}

// TestReceive_NotForLingering: a call that a lingering outcome answers has no events.
func TestReceive_NotForLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks(), Linger: time.Hour}
		g.Do("k", kit.Value(1))
		r.want(t, "start() k 1: 0", "finish(+) k 1: 0 returned false")
		for _, f := range kit.Joining {
			if a := f.Call(t.Context(), &g, "k", kit.CtxValue(0)); a.V != 1 {
				t.Errorf("%s: got %+v, want 1", f.Name, a)
			}
		}
		g.TryDo("k", kit.Value(0))
		synctest.Wait()
		r.want(t)
	})
}

// TestReceive_Panic: the hook is called before a blocked call panics.
func TestReceive_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panicking := true
		g := kit.Group{Hooks: coalesce.Hooks[string]{Receive: func(context.Context, coalesce.Event[string]) {
			var b [1 << 12]byte
			// While a panic unwinds the stack, the trace has a call of panic.
			panicking = strings.Contains(string(b[:runtime.Stack(b[:], false)]), "panic(")
		}}}
		release := make(chan struct{})
		kit.Go(t.Context(), kit.Forms[0], &g, "k", func(context.Context) (int, error) { <-release; panic("p") })
		synctest.Wait()
		a, done := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
		synctest.Wait()
		close(release)
		<-done
		if a.Panic == nil || panicking {
			t.Errorf("got %+v, hook during a panic %t, want a panic after the hook", a, panicking)
		}
	})
}
