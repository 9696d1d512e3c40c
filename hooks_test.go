package coalesce_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// A told is an event and which hook was told of it.
type told struct {
	hook string
	coalesce.Event[string]
}

// A recorder records what hooks are told.
type recorder struct {
	mu  sync.Mutex
	all []told
}

func (r *recorder) hook(name string) func(coalesce.Event[string]) {
	return func(e coalesce.Event[string]) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, told{name, e})
	}
}

func (r *recorder) hooks() coalesce.Hooks[string] {
	return coalesce.Hooks[string]{
		Start: r.hook("start"), Join: r.hook("join"), Leave: r.hook("leave"), Finish: r.hook("finish"),
	}
}

// lines returns what was told, in the order of Seq, with flights numbered from
// 1 in the order in which they appear, and forgets it. It reports numbers that
// are not unique.
func (r *recorder) lines(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.all, func(a, b told) int { return cmp.Compare(a.Seq, b.Seq) })
	names := map[uint64]int{}
	var lines []string
	for i, e := range r.all {
		if i > 0 && r.all[i-1].Seq == e.Seq {
			t.Errorf("two events have number %d", e.Seq)
		}
		if names[e.Flight] == 0 {
			names[e.Flight] = len(names) + 1
		}
		line := fmt.Sprintf("%s %s %d: %d", e.hook, e.Key, names[e.Flight], e.Waiters)
		if e.Wait != 0 {
			line += fmt.Sprintf(" wait %v", e.Wait)
		}
		if e.hook == "finish" {
			line += fmt.Sprintf(" run %v %v %v", e.Run, e.Outcome, e.Err != nil)
		}
		lines = append(lines, line)
	}
	r.all = nil
	return lines
}

func (r *recorder) want(t *testing.T, lines ...string) {
	t.Helper()
	if got := r.lines(t); !slices.Equal(got, lines) {
		t.Errorf("told:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// TestHooks_Events: each form, as leader and as follower that stays, and one
// that leaves.
func TestHooks_Events(t *testing.T) {
	for _, leader := range forms {
		for _, follower := range forms[:4] {
			t.Run(leader.name+" then "+follower.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := group{Hooks: r.hooks()}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := hold()
					goCall(ctx, leader, &g, "k", h.ctxFn(1))
					<-h.started
					goCall(ctx, follower, &g, "k", ctxValue(0))
					synctest.Wait()
					time.Sleep(time.Second)
					leaving, leave := context.WithCancel(t.Context())
					goCall(leaving, forms[2], &g, "k", ctxValue(0))
					synctest.Wait()
					time.Sleep(time.Minute)
					leave()
					synctest.Wait()
					time.Sleep(time.Second)
					close(h.release)
					synctest.Wait()
					r.want(t, "start k 1: 0", "join k 1: 1", "join k 1: 2", "leave k 1: 1 wait 1m0s",
						"finish k 1: 1 run 1m2s returned false")
				})
			})
		}
	}
}

// TestHooks_LeaderLeaves: a leader's Leave counts from its Start, and an
// abandoned flight's end is told; what was queued behind it starts then.
func TestHooks_LeaderLeaves(t *testing.T) {
	for _, queued := range forms {
		for _, leader := range forms[2:] {
			t.Run(leader.name+" then "+queued.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := group{Hooks: r.hooks()}
					ctx, cancel := context.WithCancel(t.Context())
					h := hold()
					goCall(ctx, leader, &g, "k", h.ctxFn(1))
					<-h.started
					time.Sleep(time.Second)
					cancel()
					synctest.Wait()
					h2 := hold()
					goCall(t.Context(), queued, &g, "k", h2.ctxFn(2))
					synctest.Wait()
					time.Sleep(time.Second)
					close(h.release)
					<-h2.started
					time.Sleep(time.Second)
					close(h2.release)
					synctest.Wait()
					r.want(t, "start k 1: 0", "leave k 1: 0 wait 1s", "join k 2: 1", "finish k 1: 0 run 2s returned false",
						"start k 2: 0 wait 1s", "finish k 2: 0 wait 1s run 1s returned false")
				})
			})
		}
	}
}

// TestHooks_Outcomes: how fn ended is told, and what callers get.
func TestHooks_Outcomes(t *testing.T) {
	fns := []struct {
		name, want string
		fn         func() (int, error)
	}{
		{"value", "returned false", value(1)},
		{"error", "returned true", func() (int, error) { return 0, errTest }},
		{"panic", "panicked true", func() (int, error) { panic("p") }},
		{"Goexit", "goexit true", func() (int, error) { runtime.Goexit(); return 0, nil }},
	}
	for _, test := range fns {
		for _, f := range forms {
			t.Run(test.name+" "+f.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := group{Hooks: r.hooks()}
					goCall(t.Context(), f, &g, "k", func(context.Context) (int, error) { return test.fn() })
					synctest.Wait()
					r.want(t, "start k 1: 0", "finish k 1: 0 run 0s "+test.want)
				})
			})
		}
	}
}

// TestHooks_Shutdown: a flight that never started is told of as closed.
func TestHooks_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := group{Hooks: r.hooks()}
		h := abandon(t, &g, "k")
		r.lines(t)
		goCall(t.Context(), forms[0], &g, "k", ctxValue(0))
		goCall(t.Context(), forms[3], &g, "k", ctxValue(0))
		synctest.Wait()
		time.Sleep(time.Second)
		go func() { _ = g.Shutdown(t.Context()) }()
		synctest.Wait()
		r.want(t, "join k 1: 1", "join k 1: 2", "finish k 1: 2 wait 1s run 0s closed true")
		close(h.release)
	})
}

// TestHooks_DoMulti: a flight of a batch is told of like any other.
func TestHooks_DoMulti(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := group{Hooks: r.hooks(), Shards: 1}
		h := abandon(t, &g, "q")
		running := hold()
		goCall(t.Context(), forms[0], &g, "r", running.ctxFn(1))
		<-running.started
		r.lines(t)
		done := make(chan map[string]coalesce.Result[int])
		go func() {
			done <- g.DoMulti(t.Context(), []string{"a", "q", "r", "b"},
				func(_ context.Context, keys []string) (map[string]int, error) {
					time.Sleep(time.Second)
					return map[string]int{"a": 1, "q": 2}, nil
				})
		}()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		close(h.release)
		close(running.release)
		<-done
		synctest.Wait()
		var lines []string
		for _, l := range r.lines(t) {
			if strings.Contains(l, " a ") || strings.Contains(l, " b ") || strings.Contains(l, "join") || strings.Contains(l, "start") {
				lines = append(lines, l)
			}
		}
		want := []string{
			"start a 1: 0", "join q 2: 1", "join r 3: 1", "start b 4: 0",
			"finish a 1: 0 run 1s returned false", "finish b 4: 0 run 1s returned true",
			"start q 2: 0 wait 2s",
		}
		// The numbers of flights depend on which events come first.
		strip := func(l string) string {
			i := strings.LastIndex(l[:strings.Index(l, ":")], " ")
			return l[:i] + l[strings.Index(l, ":"):]
		}
		for i := range lines {
			lines[i] = strip(lines[i])
		}
		for i := range want {
			want[i] = strip(want[i])
		}
		if !slices.Equal(lines, want) {
			t.Errorf("told:\n\t%s\nwant:\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
		}
	})
}

// TestHooks_InOrder: a call's own events are told in order, though two
// goroutines tell them and the hooks are slow.
func TestHooks_InOrder(t *testing.T) {
	for _, f := range forms[2:] {
		for _, role := range []string{"leads", "follows", "is queued", "is promoted"} {
			t.Run(f.name+" "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					on := false
					slow := func(name string) func(coalesce.Event[string]) {
						record := r.hook(name)
						return func(e coalesce.Event[string]) {
							if !on {
								return
							}
							if name == "join" || role == "leads" && name == "start" {
								time.Sleep(time.Minute) // and what comes next must not overtake it
							}
							record(e)
						}
					}
					g := group{Hooks: coalesce.Hooks[string]{Start: slow("start"), Join: slow("join"), Leave: slow("leave")}}
					var h *held
					switch role {
					case "follows":
						h = lead(t, &g)
					case "is queued", "is promoted":
						h = abandon(t, &g, "k")
					}
					on = true
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if role == "is promoted" {
						ctx = t.Context()
					}
					defer cancel()
					h2 := hold()
					goCall(ctx, f, &g, "k", h2.ctxFn(2))
					if role == "is promoted" {
						time.Sleep(time.Second)
						close(h.release) // while the hook for Join runs
						h = nil
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					var got []string
					for _, e := range r.all {
						got = append(got, e.hook)
					}
					want := []string{"join", "leave"}
					switch role {
					case "leads":
						want[0] = "start"
					case "is promoted":
						want[1] = "start"
					}
					if !slices.Equal(got, want) {
						t.Errorf("%q, want %q", got, want)
					}
					if h != nil {
						close(h.release)
					}
					close(h2.release)
				})
			})
		}
	}
}

// TestHooks_Panic: a hook that panics is logged and counted, and harms nobody.
func TestHooks_Panic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := captureLog(t)
		bad := func(coalesce.Event[string]) { panic("a hook's") }
		g := group{Hooks: coalesce.Hooks[string]{
			Start: bad, Join: bad, Leave: bad, Finish: bad,
			Labels: func(string) pprof.LabelSet { panic("labels'") },
		}}
		for _, leader := range forms {
			h := hold()
			a, done := goCall(t.Context(), leader, &g, "k", h.ctxFn(1))
			<-h.started
			b, doneB := goCall(t.Context(), forms[0], &g, "k", ctxValue(0))
			ctx, cancel := context.WithCancel(t.Context())
			c, doneC := goCall(ctx, forms[3], &g, "k", ctxValue(0))
			synctest.Wait()
			cancel()
			<-doneC
			close(h.release)
			<-done
			<-doneB
			if a.v != 1 || a.err != nil || b.v != 1 || b.err != nil || c.err != context.Canceled {
				t.Errorf("%s: %+v, %+v, %+v", leader.name, a, b, c)
			}
		}
		synctest.Wait()
		// Start, two Joins, Leave and Finish of each; and Labels, where fn has a
		// goroutine of its own.
		want := 5*len(forms) + len(forms) - 2
		if n := g.Stats().HookPanics; n != uint64(want) {
			t.Errorf("%d panics counted, want %d", n, want)
		}
		if s := logs.String(); strings.Count(s, "a hook panicked") != want || !strings.Contains(s, "hooks_test.go") {
			t.Errorf("%d panics logged, want %d", strings.Count(s, "a hook panicked"), want)
		}
	})
}

// TestHooks_PanicInLog: the log handler's own panic harms nobody either.
func TestHooks_PanicInLog(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(panickingHandler{slog.DiscardHandler}))
	g := group{Hooks: coalesce.Hooks[string]{Finish: func(coalesce.Event[string]) { panic("a hook's") }}}
	if v, _, err := g.Do("k", value(1)); v != 1 || err != nil || g.Stats().HookPanics != 1 {
		t.Errorf("%d, %v, %+v", v, err, g.Stats())
	}
}

// TestHooks_Goexit: a hook that exits the goroutine ends that call, and the
// flight is there for everybody else; no key is left dead.
func TestHooks_Goexit(t *testing.T) {
	exit := func(coalesce.Event[string]) { runtime.Goexit() }
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"Start":  {Start: exit},
		"Join":   {Join: exit},
		"Leave":  {Leave: exit},
		"Finish": {Finish: exit},
		"Labels": {Labels: func(string) pprof.LabelSet { runtime.Goexit(); return pprof.Labels() }},
	} {
		for _, leader := range forms {
			t.Run(name+" "+leader.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := group{Hooks: hooks}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := hold()
					close(h.release)
					goCall(ctx, leader, &g, "k", h.ctxFn(1))
					synctest.Wait()
					for _, f := range forms {
						h := hold()
						goCall(ctx, leader, &g, "k", h.ctxFn(1))
						synctest.Wait()
						goCall(ctx, f, &g, "k", ctxValue(1))
						synctest.Wait()
						leaving, leave := context.WithCancel(t.Context())
						goCall(leaving, f, &g, "k", ctxValue(1))
						synctest.Wait()
						leave()
						synctest.Wait()
						close(h.release)
						synctest.Wait()
					}
					go g.DoMulti(ctx, []string{"k", "l"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
					synctest.Wait()
					if n := g.Len(); n != 0 {
						t.Errorf("%d keys are in flight", n)
					}
				})
			})
		}
	}
}

// TestHooks_JoinGoexitLeaves: the call does not count any more, so that the
// flight can be abandoned.
func TestHooks_JoinGoexitLeaves(t *testing.T) {
	for _, f := range forms[:4] {
		synctest.Test(t, func(t *testing.T) {
			g := group{Hooks: coalesce.Hooks[string]{Join: func(coalesce.Event[string]) { runtime.Goexit() }}}
			ctx, cancel := context.WithCancel(t.Context())
			h := hold()
			goCall(ctx, forms[2], &g, "k", h.ctxFn(1))
			<-h.started
			goCall(t.Context(), f, &g, "k", ctxValue(0))
			synctest.Wait()
			cancel()
			synctest.Wait()
			if st := g.Stats(); st.Abandoned != 1 || st.Left != 2 {
				t.Errorf("%s: %+v", f.name, st)
			}
			close(h.release)
		})
	}
}

// TestHooks_StartGoexit: a Start hook that exits its goroutine is fn's Goexit: fn is not
// called, the followers get ErrGoexit, as does the leader unless it was its own
// goroutine, and the key is usable at once.
func TestHooks_StartGoexit(t *testing.T) {
	for _, f := range forms {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s queued %t", f.name, queued), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					on := false
					g := group{Hooks: coalesce.Hooks[string]{Start: func(coalesce.Event[string]) {
						if on {
							on = false
							time.Sleep(time.Second) // and others join
							runtime.Goexit()
						}
					}}}
					h := hold()
					close(h.release)
					if queued {
						h = abandon(t, &g, "k")
					}
					on = true
					a, done := goCall(t.Context(), f, &g, "k", func(context.Context) (int, error) {
						t.Error("fn is called")
						return 1, nil
					})
					synctest.Wait()
					if queued {
						close(h.release)
						synctest.Wait()
					}
					b, _ := goCall(t.Context(), forms[0], &g, "k", ctxValue(2))
					time.Sleep(time.Minute)
					synctest.Wait()
					exited := a.err != nil && a.err.Error() == "the goroutine of the call exited"
					inline := f.name == "Do" || f.name == "DoContext background"
					if !isDone(done) || exited != inline || !inline && a.err != coalesce.ErrGoexit {
						t.Errorf("the leader got %+v", a)
					}
					if b.err != coalesce.ErrGoexit {
						t.Errorf("the follower got %+v", b)
					}
					if v, _, err := g.Do("k", value(3)); v != 3 || err != nil || g.Stats().Goexits != 1 {
						t.Errorf("got %d, %v and %d Goexits, want 3, nil and 1", v, err, g.Stats().Goexits)
					}
				})
			})
		}
	}
}

// TestHooks_GoexitInMulti: a hook that exits the goroutine of a DoMulti, or of
// its fn, leaves no key dead, none of its flights without its events, and none
// without a caller running.
func TestHooks_GoexitInMulti(t *testing.T) {
	for _, exits := range []string{"start", "join", "leave", "finish"} {
		t.Run(exits, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				on := false
				hook := func(name string) func(coalesce.Event[string]) {
					record := r.hook(name)
					return func(e coalesce.Event[string]) {
						record(e)
						if on && name == exits {
							runtime.Goexit()
						}
					}
				}
				g := group{Hooks: coalesce.Hooks[string]{
					Start: hook("start"), Join: hook("join"), Leave: hook("leave"), Finish: hook("finish"),
				}}
				first, running := abandon(t, &g, "q"), hold()
				ctx, cancel := context.WithCancel(t.Context())
				goCall(ctx, forms[2], &g, "r", running.ctxFn(1))
				<-running.started
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
						t.Errorf("%+v", f)
					}
				}
				close(first.release)
				close(running.release)
				synctest.Wait()
				if n := g.Len(); n != 0 {
					t.Errorf("%d keys are in flight", n)
				}
				told := map[string]int{}
				for _, e := range r.all {
					told[e.hook]++
				}
				leaves := 6
				if exits == "start" {
					leaves = 4 // the batch is over before the call's context ends
				}
				if told["start"] != 4 || told["finish"] != 4 || told["join"] != 2 || told["leave"] != leaves {
					t.Errorf("got events %v, want 4 starts and ends, 2 joins, %d leaves", told, leaves)
				}
			})
		})
	}
}

// TestHooks_LeaveThatBlocks: fn's context ends when the last call leaves, though the Leave
// hooks of a DoMulti, which has left several flights, take their time.
func TestHooks_LeaveThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{Hooks: coalesce.Hooks[string]{Leave: func(coalesce.Event[string]) { time.Sleep(time.Hour) }}}
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
			t.Errorf("fn's context ended %v after the call had left", canceled.Sub(left))
		}
	})
}

// TestHooks_SlowStartAlone: a leader whose context ends does not wait for a slow Start
// hook if no Leave hook has to come after it.
func TestHooks_SlowStartAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{Hooks: coalesce.Hooks[string]{Start: func(coalesce.Event[string]) { time.Sleep(time.Hour) }}}
		for _, f := range forms[2:] {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			a, done := goCall(ctx, f, &g, f.name, ctxValue(1))
			<-done
			if took := time.Since(began); took != time.Second || a.err != context.DeadlineExceeded {
				t.Errorf("%s: got %v after %v, want the deadline's error after a second", f.name, a.err, took)
			}
			cancel()
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestHooks_UseTheGroup: they may, as no lock is held.
func TestHooks_UseTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{Shards: 1}
		use := func(e coalesce.Event[string]) {
			g.Len()
			g.Stats()
			for range g.Flights() {
			}
			if e.Key == "k" {
				g.Do("other", value(1))
				g.Forget("other")
			}
		}
		g.Hooks = coalesce.Hooks[string]{Start: use, Join: use, Leave: use, Finish: use}
		for _, f := range forms {
			h := hold()
			_, done := goCall(t.Context(), f, &g, "k", h.ctxFn(1))
			<-h.started
			ctx, cancel := context.WithCancel(t.Context())
			goCall(ctx, forms[2], &g, "k", ctxValue(0))
			synctest.Wait()
			cancel()
			close(h.release)
			<-done
		}
		synctest.Wait()
		if n := g.Len(); n != 0 {
			t.Error(n)
		}
	})
}

// TestHooks_Labels: the goroutine of a flight's own, and fn's context, carry
// the hooks' labels and those of the leader's context; a caller's goroutine is
// left alone.
func TestHooks_Labels(t *testing.T) {
	g := group{Hooks: coalesce.Hooks[string]{
		Labels: func(key string) pprof.LabelSet { return pprof.Labels("coalesce_key", key) },
	}}
	profile := func() string {
		var b strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		return b.String()
	}
	g.Do("k", func() (int, error) {
		if p := profile(); strings.Contains(p, "coalesce_key") {
			t.Errorf("Do: %s", p)
		}
		return 1, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx = pprof.WithLabels(ctx, pprof.Labels("request", "17"))
	const want = `{"coalesce_key":"k", "request":"17"}`
	check := func(ctx context.Context) (int, error) {
		if p := profile(); !strings.Contains(p, want) {
			t.Errorf("no %s in\n%s", want, p)
		}
		if v, _ := pprof.Label(ctx, "coalesce_key"); v != "k" {
			t.Errorf("fn's context has %q", v)
		}
		return 1, nil
	}
	_, _, _ = g.DoContext(ctx, "k", check)
	<-g.DoChan(ctx, "k", check)
	_, _, _ = g.DoFresh(ctx, "k", check)
	g.DoMulti(ctx, []string{"k", "l"}, func(ctx context.Context, _ []string) (map[string]int, error) {
		_, _ = check(ctx)
		return nil, nil
	})
}

// TestHooks_PromotedLabels: a receiver that leads carries the labels of its own
// context, not those of the goroutine that promoted it.
func TestHooks_PromotedLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		ctx, cancel := context.WithCancel(t.Context())
		h := hold()
		goCall(pprof.WithLabels(ctx, pprof.Labels("who", "first")), forms[2], &g, "k", func(ctx context.Context) (int, error) {
			pprof.SetGoroutineLabels(ctx)
			return h.fn(1)()
		})
		<-h.started
		cancel()
		synctest.Wait()
		ctx = pprof.WithLabels(t.Context(), pprof.Labels("who", "second"))
		ch := g.DoChan(ctx, "k", func(context.Context) (int, error) {
			var b strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
			if !strings.Contains(b.String(), `{"who":"second"}`) {
				t.Error(b.String())
			}
			return 2, nil
		})
		close(h.release)
		<-ch
	})
}

// TestHooks_EachAlone: each hook is called though no other is set.
func TestHooks_EachAlone(t *testing.T) {
	told := map[string]int{}
	hook := func(name string) func(coalesce.Event[string]) {
		return func(coalesce.Event[string]) { told[name]++ }
	}
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"Start":  {Start: hook("Start")},
		"Join":   {Join: hook("Join")},
		"Leave":  {Leave: hook("Leave")},
		"Finish": {Finish: hook("Finish")},
		"Labels": {Labels: func(string) pprof.LabelSet { told["Labels"]++; return pprof.Labels() }},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := group{Hooks: hooks}
			h := hold()
			_, done := goCall(t.Context(), forms[2], &g, "k", h.ctxFn(1))
			<-h.started
			ctx, cancel := context.WithCancel(t.Context())
			_, left := goCall(ctx, forms[2], &g, "k", ctxValue(0))
			synctest.Wait()
			cancel()
			<-left
			close(h.release)
			<-done
			synctest.Wait()
			if told[name] != 1 {
				t.Errorf("%s was called %d times, want once", name, told[name])
			}
		})
	}
}

// TestHooks_NoPanic: a hook that returns, or exits its goroutine, has not panicked: it
// is neither logged nor counted.
func TestHooks_NoPanic(t *testing.T) {
	logs := captureLog(t)
	g := group{Hooks: coalesce.Hooks[string]{
		Start:  func(coalesce.Event[string]) {},
		Finish: func(coalesce.Event[string]) { runtime.Goexit() },
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Do("k", value(1))
	}()
	<-done
	if n, s := g.Stats().HookPanics, logs.String(); n != 0 || strings.Contains(s, "panicked") {
		t.Errorf("%d panics are counted, and the log says %q", n, s)
	}
}
