package rules_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds hooks that panic, exit their goroutine, or block.

// TestHooks_Panic: a hook that panics is logged and counted, and harms no call.
func TestHooks_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := kit.CaptureLog(t)
		bad := func(context.Context, coalesce.Event[string]) { panic("a hook's") }
		g := kit.Group{Hooks: coalesce.Hooks[string]{
			Start: func(context.Context, coalesce.Event[string]) context.Context { panic("a hook's") },
			Join:  bad, Receive: bad, Leave: bad, Finish: bad,
		}}
		for _, leader := range kit.Forms {
			h := kit.Hold()
			name := ""
			a, done := kit.Go(named(t.Context(), "a"), leader, &g, "k", func(ctx context.Context) (int, error) {
				name = nameOf(ctx)
				return h.CtxFn(1)(ctx)
			})
			<-h.Started
			b, doneB := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
			ctx, cancel := context.WithCancel(t.Context())
			c, doneC := kit.Go(ctx, kit.Forms[3], &g, "k", kit.CtxValue(0))
			synctest.Wait()
			cancel()
			<-doneC
			close(h.Release)
			<-done
			<-doneB
			if a.V != 1 || a.Err != nil || b.V != 1 || b.Err != nil || c.Err != context.Canceled {
				t.Errorf("%s: got %+v, %+v, %+v, want 1, 1 and the end of a context", leader.Name, a, b, c)
			}
			if name != nameIn(leader, "a") {
				t.Errorf("%s: fn got the context of %q, want the leader's values", leader.Name, name)
			}
		}
		synctest.Wait()
		want := 6 * len(kit.Forms) // Start, two Joins, Receive, Leave and Finish of each
		if n := g.Stats().HookPanics; n != uint64(want) {
			t.Errorf("got %d panics counted, want %d", n, want)
		}
		if s := logs.String(); strings.Count(s, "a hook panicked") != want || !strings.Contains(s, "hooks_exit_test.go") {
			t.Errorf("got %d panics logged, want %d", strings.Count(s, "a hook panicked"), want)
		}
	})
}

// TestHooks_PanicInLog: a panic of the log handler harms no call either.
func TestHooks_PanicInLog(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(panickingHandler{slog.DiscardHandler}))
	g := kit.Group{Hooks: coalesce.Hooks[string]{Finish: func(context.Context, coalesce.Event[string]) { panic("a hook's") }}}
	if v, _, err := g.Do("k", kit.Value(1)); v != 1 || err != nil || g.Stats().HookPanics != 1 {
		t.Errorf("got %d, %v, %+v, want 1, nil and one hook panic", v, err, g.Stats())
	}
}

// TestHooks_Goexit: a hook that exits its goroutine ends that call only; the flight still
// answers all others, and no key is left dead.
func TestHooks_Goexit(t *testing.T) {
	exit := func(context.Context, coalesce.Event[string]) { runtime.Goexit() }
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"Start":   {Start: func(context.Context, coalesce.Event[string]) context.Context { runtime.Goexit(); return nil }},
		"Join":    {Join: exit},
		"Receive": {Receive: exit},
		"Leave":   {Leave: exit},
		"Finish":  {Finish: exit},
	} {
		for _, leader := range kit.Forms {
			t.Run(name+" "+leader.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{Hooks: hooks}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := kit.Hold()
					close(h.Release)
					kit.Go(ctx, leader, &g, "k", h.CtxFn(1))
					synctest.Wait()
					for _, f := range kit.Forms {
						h := kit.Hold()
						kit.Go(ctx, leader, &g, "k", h.CtxFn(1))
						synctest.Wait()
						kit.Go(ctx, f, &g, "k", kit.CtxValue(1))
						synctest.Wait()
						leaving, leave := context.WithCancel(t.Context())
						kit.Go(leaving, f, &g, "k", kit.CtxValue(1))
						synctest.Wait()
						leave()
						synctest.Wait()
						close(h.Release)
						synctest.Wait()
					}
					go g.DoMulti(ctx, []string{"k", "l"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
					synctest.Wait()
					if n := g.Len(); n != 0 {
						t.Errorf("got %d keys in flight, want none", n)
					}
				})
			})
		}
	}
}

// TestHooks_JoinGoexitLeaves: a call whose Join hook exits no longer counts, so that the
// flight can be abandoned.
func TestHooks_JoinGoexitLeaves(t *testing.T) {
	for _, f := range kit.Forms[:4] {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{Hooks: coalesce.Hooks[string]{Join: func(context.Context, coalesce.Event[string]) { runtime.Goexit() }}}
			ctx, cancel := context.WithCancel(t.Context())
			h := kit.Hold()
			kit.Go(ctx, kit.Forms[2], &g, "k", h.CtxFn(1))
			<-h.Started
			kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
			synctest.Wait()
			cancel()
			synctest.Wait()
			if st := g.Stats(); st.Abandoned != 1 || st.Left != 2 {
				t.Errorf("%s: got %+v, want 1 abandoned and 2 left", f.Name, st)
			}
			close(h.Release)
		})
	}
}

// TestHooks_StartGoexit: if a Start hook exits its goroutine, that counts as a Goexit of
// fn: fn is not called, the followers get ErrGoexit, as does the leader unless the
// goroutine was its own, and the key is usable at once.
func TestHooks_StartGoexit(t *testing.T) {
	for _, f := range kit.Forms {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s queued %t", f.Name, queued), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					on := false
					g := kit.Group{Hooks: coalesce.Hooks[string]{Start: func(context.Context, coalesce.Event[string]) context.Context {
						if on {
							on = false
							time.Sleep(time.Second) // other calls join
							runtime.Goexit()
						}
						return nil
					}}}
					h := kit.Hold()
					close(h.Release)
					if queued {
						h = kit.Abandon(t, &g, "k")
					}
					on = true
					a, done := kit.Go(t.Context(), f, &g, "k", func(context.Context) (int, error) {
						t.Error("got a call of fn, want none")
						return 1, nil
					})
					synctest.Wait()
					if queued {
						close(h.Release)
						synctest.Wait()
					}
					b, _ := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(2))
					time.Sleep(time.Minute)
					synctest.Wait()
					exited := a.Err != nil && a.Err.Error() == "the goroutine of the call exited"
					inline := f.Name == "Do" || f.Name == "DoContext background"
					if !kit.IsDone(done) || exited != inline || !inline && a.Err != coalesce.ErrGoexit {
						t.Errorf("the leader: got %+v, want ErrGoexit, or an exit of its own goroutine", a)
					}
					if b.Err != coalesce.ErrGoexit {
						t.Errorf("the follower: got %+v, want %v", b, coalesce.ErrGoexit)
					}
					if v, _, err := g.Do("k", kit.Value(3)); v != 3 || err != nil || g.Stats().Goexits != 1 {
						t.Errorf("got %d, %v and %d Goexits, want 3, nil and 1", v, err, g.Stats().Goexits)
					}
				})
			})
		}
	}
}

// TestHooks_GoexitInMulti: a hook that exits the goroutine of a DoMulti, or of its fn,
// leaves no key dead, no flight without its events, and no flight running without a
// caller.
func TestHooks_GoexitInMulti(t *testing.T) {
	for _, exits := range []string{"start", "join", "leave", "finish"} {
		t.Run(exits, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				on := false
				hook := func(name string) func(context.Context, coalesce.Event[string]) {
					record := r.hook(name)
					return func(ctx context.Context, e coalesce.Event[string]) {
						record(ctx, e)
						if on && name == exits {
							runtime.Goexit()
						}
					}
				}
				start := hook("start")
				g := kit.Group{Hooks: coalesce.Hooks[string]{
					Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { start(ctx, e); return nil },
					Join:  hook("join"), Receive: hook("receive"), Leave: hook("leave"), Finish: hook("finish"),
				}}
				first, running := kit.Abandon(t, &g, "q"), kit.Hold()
				ctx, cancel := context.WithCancel(t.Context())
				kit.Go(ctx, kit.Forms[2], &g, "r", running.CtxFn(1))
				<-running.Started
				on = true
				go g.DoMulti(ctx, []string{"a", "q", "r", "b"},
					func(ctx context.Context, _ []string) (map[string]int, error) {
						<-ctx.Done()
						return nil, nil
					})
				synctest.Wait()
				cancel()
				synctest.Wait()
				for f := range g.Flights() {
					if (f.Key == "q" || f.Key == "r") != (f.State == coalesce.StateAbandoned) {
						t.Errorf("got %+v, want only q and r abandoned", f)
					}
				}
				close(first.Release)
				close(running.Release)
				synctest.Wait()
				if n := g.Len(); n != 0 {
					t.Errorf("got %d keys in flight, want none", n)
				}
				got := r.count()
				leaves := 6
				if exits == "start" {
					leaves = 4 // the batch has finished before the call's context ends
				}
				if got["start"] != 3 || got["finish"] != 4 || got["join"] != 2 || got["receive"] != 0 || got["leave"] != leaves {
					t.Errorf("got events %v, want 3 starts, one of them of the batch, 4 ends, 2 joins, %d leaves", got, leaves)
				}
			})
		})
	}
}

// TestHooks_LeaveThatBlocks: fn's context ends when the last call leaves, though the Leave
// hooks of a DoMulti, which has left several flights, take their time.
func TestHooks_LeaveThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Hooks: coalesce.Hooks[string]{Leave: func(context.Context, coalesce.Event[string]) { time.Sleep(time.Hour) }}}
		ctx, cancel := context.WithCancel(t.Context())
		var canceled time.Time
		goMulti(ctx, &g, func(ctx context.Context, _ []string) (map[string]int, error) {
			<-ctx.Done()
			canceled = time.Now()
			return nil, nil
		}, "a", "b", "c")
		synctest.Wait()
		left := time.Now()
		cancel()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if canceled != left {
			t.Errorf("got an end of fn's context %v after the call had left, want 0s", canceled.Sub(left))
		}
	})
}

// TestHooks_NoPanic: a hook that returns, or exits its goroutine, has not panicked, and
// is neither logged nor counted.
func TestHooks_NoPanic(t *testing.T) {
	logs := kit.CaptureLog(t)
	g := kit.Group{Hooks: coalesce.Hooks[string]{
		Start:  func(context.Context, coalesce.Event[string]) context.Context { return nil },
		Finish: func(context.Context, coalesce.Event[string]) { runtime.Goexit() },
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Do("k", kit.Value(1))
	}()
	<-done
	if n, s := g.Stats().HookPanics, logs.String(); n != 0 || strings.Contains(s, "panicked") {
		t.Errorf("got %d panics counted, and the log %q, want none", n, s)
	}
}

// TestHooks_LeaveThoughErrExits: a call whose context exits the goroutine when it is asked
// for the error that the call is to get has left, and its Leave hook is called.
func TestHooks_LeaveThoughErrExits(t *testing.T) {
	for _, f := range kit.Leaving {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				g := kit.Group{Hooks: r.hooks()}
				h := kit.Lead(t, &g)
				parent, cancel := context.WithCancel(named(t.Context(), "a"))
				ctx := &errExits{Context: parent}
				kit.Go(ctx, f, &g, "k", kit.CtxValue(0))
				synctest.Wait()
				ctx.armed = true
				cancel()
				synctest.Wait()
				if got, want := heardOf(&r, "a"), []string{"join", "leave"}; !slices.Equal(got, want) {
					t.Errorf("got the hooks %q, want %q", got, want)
				}
				close(h.Release)
				synctest.Wait()
			})
		})
	}
}

// TestHooks_LeaveThoughValueExits: a call is the last to leave its flights, and its context
// exits the goroutine when it is asked for the cause with which fn's context is to end. That
// one ends all the same, and the Leave hook is called for each key.
func TestHooks_LeaveThoughValueExits(t *testing.T) {
	for _, f := range []kit.Form{kit.Forms[2], kit.Forms[3], kit.Forms[5]} {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var left []string
				g := kit.Group{Hooks: coalesce.Hooks[string]{Leave: func(_ context.Context, e coalesce.Event[string]) { left = append(left, e.Key) }}}
				parent, cancel := context.WithCancel(t.Context())
				ctx := &valueExits{Context: parent}
				ended := false
				wait := func(ctx context.Context) { <-ctx.Done(); ended = true }
				want := []string{"k"}
				if f.Name == "DoMulti" {
					want = []string{"j", "k"}
					goMulti(ctx, &g, func(ctx context.Context, _ []string) (map[string]int, error) { wait(ctx); return nil, nil }, want...)
				} else {
					kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) { wait(ctx); return 0, nil })
				}
				synctest.Wait()
				ctx.armed = true
				cancel()
				synctest.Wait()
				if !ended || !slices.Equal(left, want) {
					t.Errorf("got the end of fn's context %t, Leave for %q, want true, %q", ended, left, want)
				}
			})
		})
	}
}

// A valueExits exits its goroutine when it is asked for a value, once it is armed.
type valueExits struct {
	context.Context
	armed bool
}

func (c *valueExits) Value(key any) any {
	if c.armed {
		runtime.Goexit()
	}
	return c.Context.Value(key)
}
