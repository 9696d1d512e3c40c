package rules_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the tests of the contexts that hooks get, and of the one that Start
// returns.

// TestHooks_VeryContext: Join, Receive and Leave get the very context of their call, and
// Start gets that of the leader.
func TestHooks_VeryContext(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				got := map[string]context.Context{}
				hook := func(name string) func(context.Context, coalesce.Event[string]) {
					return func(ctx context.Context, _ coalesce.Event[string]) {
						mu.Lock()
						defer mu.Unlock()
						got[name+" "+nameOf(ctx)] = ctx
					}
				}
				start := hook("start")
				g := kit.Group{Hooks: coalesce.Hooks[string]{
					Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { start(ctx, e); return nil },
					Join:  hook("join"), Receive: hook("receive"), Leave: hook("leave"), Finish: hook("finish"),
				}}
				contexts := map[string]context.Context{}
				cancels := map[string]context.CancelFunc{}
				for _, name := range []string{"leads", "stays", "leaves"} {
					ctx, cancel := context.WithCancel(named(t.Context(), name))
					contexts[name], cancels[name] = ctx, cancel
					defer cancel()
				}
				h := kit.Hold()
				kit.Go(contexts["leads"], f, &g, "k", h.CtxFn(1))
				<-h.Started
				follows := f
				if f.Name == "DoFresh" {
					follows = kit.Forms[2] // a DoFresh does not join
				}
				kit.Go(contexts["stays"], follows, &g, "k", kit.CtxValue(0))
				synctest.Wait()
				kit.Go(contexts["leaves"], follows, &g, "k", kit.CtxValue(0))
				synctest.Wait()
				cancels["leads"]()
				synctest.Wait()
				cancels["leaves"]()
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				for event, of := range map[string]string{
					"start leads": "leads", "leave leads": "leads", "finish leads": "leads",
					"join stays": "stays", "receive stays": "stays", "join leaves": "leaves", "leave leaves": "leaves",
				} {
					if got[event] != contexts[of] {
						t.Errorf("%s: got the context %v, want %v", event, got[event], contexts[of])
					}
					delete(got, event)
				}
				if len(got) != 0 {
					t.Errorf("got %v as well, want no other event", got)
				}
			})
		})
	}
}

// TestHooks_StartGivesValues: in every form, queued or not, fn's context has the values
// of the context that Start returns, but neither its deadline nor its end nor the cause
// of its end.
func TestHooks_StartGivesValues(t *testing.T) {
	for _, f := range kit.Forms[1:] {
		for _, queued := range []bool{false, true} {
			t.Run(f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					returned := map[uint64]context.Context{} // by flight
					finished := 0
					g := kit.Group{}
					g.Hooks.Start = func(ctx context.Context, e coalesce.Event[string]) context.Context {
						ctx, cancel := context.WithCancelCause(named(ctx, "span in "+nameOf(ctx)))
						cancel(kit.ErrTest)
						ctx, stop := context.WithTimeout(ctx, time.Second)
						stop()
						mu.Lock()
						defer mu.Unlock()
						returned[e.FlightID] = ctx
						return ctx
					}
					g.Hooks.Finish = func(ctx context.Context, e coalesce.Event[string]) {
						mu.Lock()
						defer mu.Unlock()
						if finished++; ctx != returned[e.FlightID] {
							t.Errorf("Finish got %v, want the context that Start returned", ctx)
						}
					}
					var h *kit.Held
					flights := 1
					if queued {
						h, flights = kit.Abandon(t, &g, "k"), 2
					}
					a, done := kit.Go(named(t.Context(), "a"), f, &g, "k", func(ctx context.Context) (int, error) {
						if got, want := nameOf(ctx), "span in "+nameIn(f, "a"); got != want {
							t.Errorf("fn got the values of %q, want %q", got, want)
						}
						if _, has := ctx.Deadline(); has || ctx.Err() != nil || context.Cause(ctx) != nil {
							t.Errorf("got a context that has ended with %v or has a deadline, want a live one without", context.Cause(ctx))
						}
						child, cancel := context.WithCancel(ctx)
						defer cancel()
						select {
						case <-child.Done():
							t.Errorf("got a child of fn's context that has ended with %v, want a live one", context.Cause(child))
						case <-time.After(time.Minute):
						}
						if never := f.Name == "DoContext background"; never && ctx.Done() != nil {
							t.Error("got a context that can end, want one that never ends")
						}
						return 1, nil
					})
					synctest.Wait()
					if queued {
						close(h.Release)
					}
					<-done
					synctest.Wait()
					if a.V != 1 || a.Err != nil || finished != flights {
						t.Errorf("got %+v and %d flights that have finished, want 1 and %d", a, finished, flights)
					}
				})
			})
		}
	}
}

// TestHooks_StartReturnsNil: if Start returns nil, fn's context has the values of the
// leader's, and a context that can never end is passed to fn as it is. The same holds for
// hooks without a Start.
func TestHooks_StartReturnsNil(t *testing.T) {
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"nil":      {Start: func(context.Context, coalesce.Event[string]) context.Context { return nil }},
		"panics":   {Start: func(context.Context, coalesce.Event[string]) context.Context { panic("a hook's") }},
		"no Start": {Finish: func(context.Context, coalesce.Event[string]) {}},
	} {
		t.Run(name, func(t *testing.T) {
			kit.CaptureLog(t)
			g := kit.Group{Hooks: hooks}
			for _, f := range kit.Forms[2:] {
				var got string
				a := f.Call(named(t.Context(), "a"), &g, "k", func(ctx context.Context) (int, error) {
					got = nameOf(ctx)
					return 1, nil
				})
				if got != "a" || a.V != 1 {
					t.Errorf("%s: fn got the values of %q and returned %d, want those of a and 1", f.Name, got, a.V)
				}
			}
			never := named(context.Background(), "never")
			if _, _, err := g.DoContext(never, "k", func(ctx context.Context) (int, error) {
				if ctx != never {
					t.Errorf("fn got %v, want the very context of the call", ctx)
				}
				return 1, nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHooks_StartOfADo: a Do and a TryDo, which have no context, pass the background
// context to Start, and Finish gets the context that Start returned.
func TestHooks_StartOfADo(t *testing.T) {
	for name, call := range map[string]func(g *kit.Group){
		"Do":    func(g *kit.Group) { g.Do("k", kit.Value(1)) },
		"TryDo": func(g *kit.Group) { g.TryDo("k", kit.Value(1)) },
		"Do that panics": func(g *kit.Group) {
			defer func() { _ = recover() }()
			g.Do("k", func() (int, error) { panic("p") })
		},
	} {
		var got []string
		g := kit.Group{Hooks: coalesce.Hooks[string]{
			Start: func(ctx context.Context, _ coalesce.Event[string]) context.Context {
				if ctx != context.Background() {
					t.Errorf("%s: Start got %v, want the background", name, ctx)
				}
				return named(ctx, "span")
			},
			Finish: func(ctx context.Context, _ coalesce.Event[string]) { got = append(got, nameOf(ctx)) },
		}}
		call(&g)
		if len(got) != 1 || got[0] != "span" {
			t.Errorf("%s: Finish got %q, want the context that Start returned", name, got)
		}
	}
}

// TestHooks_StartCallsTheGroup: a call that Start makes with its context does not wait
// for the flight that starts, and is no cycle.
func TestHooks_StartCallsTheGroup(t *testing.T) {
	var g kit.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.Hooks.Start = func(ctx context.Context, e coalesce.Event[string]) context.Context {
		if e.Key == "k" {
			v, _, err := g.DoContext(ctx, "user", kit.CtxValue(7))
			if v != 7 || err != nil {
				t.Errorf("got %d, %v, want 7", v, err)
			}
		}
		return ctx
	}
	if v, _, err := g.DoContext(ctx, "k", kit.CtxValue(1)); v != 1 || err != nil {
		t.Errorf("got %d, %v, want 1", v, err)
	}
}

// TestHooks_StartOfABatchExits: all flights of the batch get ErrGoexit, and the Finish
// hook of each gets the context of the DoMulti.
func TestHooks_StartOfABatchExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		g.Hooks.Start = func(context.Context, coalesce.Event[string]) context.Context { runtime.Goexit(); return nil }
		res := g.DoMulti(named(t.Context(), "m"), []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
			t.Error("got a call of fn, want none")
			return nil, nil
		})
		for key, got := range res {
			if got.Err != coalesce.ErrGoexit {
				t.Errorf("%s: got %+v, want ErrGoexit", key, got)
			}
		}
		synctest.Wait()
		for _, e := range r.all {
			if e.hook != "finish" || e.who != "m" || e.Outcome != coalesce.OutcomeGoexit {
				t.Errorf("got %+v, want a finish with the context of m", e)
			}
		}
		if len(r.all) != 2 {
			t.Errorf("got %d events, want 2", len(r.all))
		}
	})
}

// TestHooks_LeaveOfABatch: a DoMulti that leaves while Start runs calls the Leave hooks
// of all its keys after Start has returned, with its own context.
func TestHooks_LeaveOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var started time.Time
		left := map[string]string{}
		g := kit.Group{Hooks: coalesce.Hooks[string]{
			Start: func(ctx context.Context, _ coalesce.Event[string]) context.Context {
				time.Sleep(time.Hour)
				started = time.Now()
				return named(ctx, "span")
			},
			Leave: func(ctx context.Context, e coalesce.Event[string]) {
				mu.Lock()
				defer mu.Unlock()
				if left[e.Key] = nameOf(ctx); started.IsZero() {
					t.Errorf("%s: got a Leave before Start has returned, want it after", e.Key)
				}
			},
		}}
		ctx, cancel := context.WithTimeout(named(t.Context(), "m"), time.Minute)
		defer cancel()
		g.DoMulti(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
		if left["a"] != "m" || left["b"] != "m" {
			t.Errorf("got Leave with the contexts %v, want that of m for a and b", left)
		}
		synctest.Wait()
	})
}

// TestG12_HooksContexts: the context of a leader, and the one that Start returned for it,
// are not kept once the flight has finished and its callers have returned, even in a
// group that has had followers, receivers and a successor.
func TestG12_HooksContexts(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			type payloadKey struct{}
			var mu sync.Mutex
			var kept []weak.Pointer[kit.Payload]
			with := func(ctx context.Context) context.Context {
				p := new(kit.Payload)
				mu.Lock()
				defer mu.Unlock()
				kept = append(kept, weak.Make(p))
				return context.WithValue(ctx, payloadKey{}, p)
			}
			var joins atomic.Int32
			join := func(context.Context, coalesce.Event[string]) { joins.Add(1) }
			nothing := func(context.Context, coalesce.Event[string]) {}
			g := kit.Group{Hooks: coalesce.Hooks[string]{
				Start: func(ctx context.Context, _ coalesce.Event[string]) context.Context { return with(ctx) },
				Join:  join, Receive: nothing, Leave: nothing, Finish: nothing,
			}}
			long, cancel := context.WithCancel(context.Background())
			defer cancel()
			h := kit.Hold()
			_, a := kit.Go(with(long), f, &g, "k", h.CtxFn(1))
			<-h.Started
			_, b := kit.Go(with(long), kit.Forms[3], &g, "k", kit.CtxValue(2))
			_, c := kit.Go(with(long), kit.Forms[4], &g, "k", kit.CtxValue(3))
			if !kit.Eventually(func() bool { return joins.Load() == 2 }) {
				t.Fatalf("got %d calls that have joined, want 2", joins.Load())
			}
			close(h.Release)
			<-a
			<-b
			<-c
			if err := g.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(kept) != 5 {
				t.Errorf("got %d contexts, want those of 3 calls and of 2 starts", len(kept))
			}
			for i, p := range kept {
				if !kit.Collected(p) {
					t.Errorf("context %d: got it kept, want it collected", i)
				}
			}
			runtime.KeepAlive(&g)
		})
	}
}

// TestHooks_ErrorOfStart: the cause of fn's context comes from the call that has left,
// not from the context that Start returned.
func TestHooks_ErrorOfStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		g := kit.Group{Hooks: coalesce.Hooks[string]{Start: func(ctx context.Context, _ coalesce.Event[string]) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(kit.ErrTest)
			return ctx
		}}}
		ctx, cancel := context.WithCancelCause(t.Context())
		var cause error
		kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return 0, nil
		})
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		if cause != gone {
			t.Errorf("got the cause %v, want that of the call that has left", cause)
		}
	})
}
