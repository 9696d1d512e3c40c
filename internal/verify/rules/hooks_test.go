package rules_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds which hooks are called, for which event, in which order.

// A heard is an event, the hook that got it, and the name of the context that the hook
// got.
type heard struct {
	hook, who string
	coalesce.Event[string]
}

// A recorder records the events that hooks get.
type recorder struct {
	mu  sync.Mutex
	all []heard
}

// nameKey is the key under which a context has a name in these tests.
type nameKey struct{}

func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, name)
}

func nameOf(ctx context.Context) string {
	name, _ := ctx.Value(nameKey{}).(string)
	return name
}

func (r *recorder) hook(name string) func(context.Context, coalesce.Event[string]) {
	return func(ctx context.Context, e coalesce.Event[string]) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, heard{name, nameOf(ctx), e})
	}
}

// start records a Start, and returns a context whose name ends in one more plus sign.
func (r *recorder) start(ctx context.Context, e coalesce.Event[string]) context.Context {
	r.hook("start")(ctx, e)
	return named(ctx, nameOf(ctx)+"+")
}

func (r *recorder) hooks() coalesce.Hooks[string] {
	return coalesce.Hooks[string]{
		Start: r.start, Join: r.hook("join"), Receive: r.hook("receive"), Leave: r.hook("leave"), Finish: r.hook("finish"),
	}
}

// lines returns the recorded events, in the order of Seq, with flights numbered from 1 in
// the order in which they appear, and forgets them. A flight that has the Start of another
// is followed by @ and the number of that. lines reports flights without a number,
// and numbers of events that are not unique, except that a Receive must have the number
// of the end of its flight.
func (r *recorder) lines(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.all, func(a, b heard) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.hook, b.hook), cmp.Compare(a.who, b.who), cmp.Compare(a.Wait, b.Wait))
	})
	names := map[uint64]int{}
	var lines []string
	for i, e := range r.all {
		if i > 0 && r.all[i-1].Seq == e.Seq && (e.hook != "receive" || r.all[i-1].FlightID != e.FlightID) {
			t.Errorf("got number %d for %s and for %s, want two numbers", e.Seq, r.all[i-1].hook, e.hook)
		}
		if e.hook == "receive" && (i == 0 || r.all[i-1].Seq != e.Seq) {
			t.Errorf("got a receive with number %d, want that of a finish", e.Seq)
		}
		if e.FlightID == 0 {
			t.Errorf("got flight 0 for a %s, want an ID", e.hook)
		}
		if names[e.FlightID] == 0 {
			names[e.FlightID] = len(names) + 1
		}
		flight := fmt.Sprint(names[e.FlightID])
		if e.StartID != e.FlightID {
			flight += fmt.Sprintf("@%d", names[e.StartID])
		}
		line := fmt.Sprintf("%s(%s) %s %s: %d", e.hook, e.who, e.Key, flight, e.Waiters)
		if e.Wait != 0 {
			line += fmt.Sprintf(" wait %v", e.Wait)
		}
		if e.Run != 0 {
			line += fmt.Sprintf(" run %v", e.Run)
		}
		if e.hook == "finish" || e.hook == "receive" {
			line += fmt.Sprintf(" %v %v", e.Outcome, e.Err != nil)
		}
		lines = append(lines, line)
	}
	r.all = nil
	return lines
}

func (r *recorder) want(t *testing.T, lines ...string) {
	t.Helper()
	if got := r.lines(t); !slices.Equal(got, lines) {
		t.Errorf("got events\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// count returns how often each hook was called.
func (r *recorder) count() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, e := range r.all {
		n[e.hook]++
	}
	return n
}

// nameIn returns the name that a hook finds in the context of a call of a form that is
// made with a context of the given name.
func nameIn(f kit.Form, name string) string {
	if f.Name == "Do" || f.Name == "DoContext background" {
		return ""
	}
	return name
}

// TestHooks_Events: each form, as a leader and as a follower that stays, and one that
// leaves; each hook gets the context of its call.
func TestHooks_Events(t *testing.T) {
	for _, leader := range kit.Forms {
		for _, follower := range kit.Joining {
			t.Run(leader.Name+" then "+follower.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := kit.Group{Hooks: r.hooks()}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := kit.Hold()
					kit.Go(named(ctx, "a"), leader, &g, "k", h.CtxFn(1))
					<-h.Started
					kit.Go(named(ctx, "b"), follower, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					time.Sleep(time.Second)
					leaving, leave := context.WithCancel(t.Context())
					kit.Go(named(leaving, "c"), kit.Forms[2], &g, "k", kit.CtxValue(0))
					synctest.Wait()
					time.Sleep(time.Minute)
					leave()
					synctest.Wait()
					time.Sleep(time.Second)
					close(h.Release)
					synctest.Wait()
					a, b := nameIn(leader, "a"), nameIn(follower, "b")
					r.want(t, "start("+a+") k 1: 0", "join("+b+") k 1: 1", "join(c) k 1: 2", "leave(c) k 1: 1 wait 1m0s",
						"finish("+a+"+) k 1: 1 run 1m2s returned false", "receive("+b+") k 1: 0 wait 1m2s returned false")
				})
			})
		}
	}
}

// TestHooks_LeaderLeaves: the Leave of a leader counts from its Start and gets the
// leader's own context. The end of an abandoned flight is reported, and the flight that
// is queued behind it starts then. Of the calls that were queued, the one that leads has
// a Start, the other a Receive.
func TestHooks_LeaderLeaves(t *testing.T) {
	for _, queued := range kit.Forms {
		for _, leader := range kit.Forms[2:] {
			t.Run(leader.Name+" then "+queued.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := kit.Group{Hooks: r.hooks()}
					ctx, cancel := context.WithCancel(t.Context())
					h := kit.Hold()
					kit.Go(named(ctx, "a"), leader, &g, "k", h.CtxFn(1))
					<-h.Started
					time.Sleep(time.Second)
					cancel()
					synctest.Wait()
					h2 := kit.Hold()
					kit.Go(named(t.Context(), "b"), queued, &g, "k", h2.CtxFn(2))
					synctest.Wait()
					time.Sleep(time.Second)
					kit.Go(named(t.Context(), "c"), queued, &g, "k", kit.CtxValue(3))
					synctest.Wait()
					time.Sleep(time.Second)
					close(h.Release)
					<-h2.Started
					time.Sleep(time.Second)
					close(h2.Release)
					synctest.Wait()
					b, c := nameIn(queued, "b"), nameIn(queued, "c")
					r.want(t, "start(a) k 1: 0", "leave(a) k 1: 0 wait 1s", "join("+b+") k 2: 1", "join("+c+") k 2: 2",
						"finish(a+) k 1: 0 run 3s returned false",
						"start("+b+") k 2: 1 wait 2s", "finish("+b+"+) k 2: 1 wait 2s run 1s returned false",
						"receive("+c+") k 2: 0 wait 2s returned false")
				})
			})
		}
	}
}

// TestHooks_Outcomes: the way in which fn ended, and the error that callers get, are
// reported at the end of the flight, and to each call that receives it.
func TestHooks_Outcomes(t *testing.T) {
	kit.CaptureLog(t)
	fns := []struct {
		name, want string
		fn         func() (int, error)
	}{
		{"value", "returned false", kit.Value(1)},
		{"error", "returned true", func() (int, error) { return 0, kit.ErrTest }},
		{"panic", "panicked true", func() (int, error) { panic("p") }},
		{"Goexit", "goexit true", func() (int, error) { runtime.Goexit(); return 0, nil }},
	}
	for _, test := range fns {
		for _, f := range kit.Joining {
			t.Run(test.name+" "+f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					g := kit.Group{Hooks: r.hooks()}
					var ends []coalesce.Event[string]
					g.Hooks.Receive = func(ctx context.Context, e coalesce.Event[string]) {
						r.hook("receive")(ctx, e)
						ends = append(ends, e)
					}
					release := make(chan struct{})
					kit.Go(t.Context(), kit.Forms[0], &g, "k", func(context.Context) (int, error) { <-release; return test.fn() })
					synctest.Wait()
					b, _ := kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					close(release)
					synctest.Wait()
					r.want(t, "start() k 1: 0", "join() k 1: 1", "finish(+) k 1: 1 "+test.want, "receive() k 1: 0 "+test.want)
					err := b.Err
					if b.Panic != nil {
						err = b.Panic.(error)
					}
					if len(ends) != 1 || ends[0].Err != err {
						t.Errorf("got ends %+v, want one with the error of the call, %v", ends, err)
					}
				})
			})
		}
	}
}

// TestHooks_Shutdown: a flight that never started ends as closed, and each call that was
// queued in it has a Receive of that.
func TestHooks_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks()}
		h := kit.Abandon(t, &g, "k")
		r.lines(t)
		var answers []*kit.Answer
		want := []string{}
		for i, f := range kit.Forms {
			a, _ := kit.Go(named(t.Context(), f.Name), f, &g, "k", kit.CtxValue(0))
			answers = append(answers, a)
			synctest.Wait()
			want = append(want, fmt.Sprintf("join(%s) k 1: %d", nameIn(f, f.Name), i+1))
			time.Sleep(time.Second)
		}
		go func() { _ = g.Shutdown(t.Context()) }()
		synctest.Wait()
		want = append(want, "finish() k 1: 6 wait 6s closed true", "receive() k 1: 0 wait 5s closed true",
			"receive() k 1: 0 wait 6s closed true", "receive(DoChan) k 1: 0 wait 3s closed true",
			"receive(DoContext) k 1: 0 wait 4s closed true", "receive(DoFresh) k 1: 0 wait 2s closed true",
			"receive(DoMulti) k 1: 0 wait 1s closed true")
		r.want(t, want...)
		for i, a := range answers {
			if a.Err != coalesce.ErrClosed {
				t.Errorf("%s: got %v, want ErrClosed", kit.Forms[i].Name, a.Err)
			}
		}
		close(h.Release)
	})
}

// TestHooks_DoMulti: a batch has one Start, that of its first key; otherwise its flights
// are like any other, and each key that the call joins or queues for has its own events.
func TestHooks_DoMulti(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		g := kit.Group{Hooks: r.hooks(), Shards: 1}
		h := kit.Abandon(t, &g, "q")
		h2 := kit.Abandon(t, &g, "p")
		kit.Go(t.Context(), kit.Forms[0], &g, "p", kit.CtxValue(0)) // it leads when p is promoted
		running := kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "r", running.CtxFn(1))
		<-running.Started
		synctest.Wait()
		r.lines(t)
		done := make(chan map[string]coalesce.Result[int])
		go func() {
			done <- g.DoMulti(named(t.Context(), "m"), []string{"r", "a", "q", "p", "b"},
				func(ctx context.Context, keys []string) (map[string]int, error) {
					if name := nameOf(ctx); name != "m+" {
						t.Errorf("fn for %q: got the context of %q, want the one that Start returned", keys, name)
					}
					time.Sleep(time.Second)
					return map[string]int{"a": 1, "q": 2}, nil
				})
		}()
		synctest.Wait()
		kit.Go(named(t.Context(), "j"), kit.Forms[2], &g, "b", kit.CtxValue(0))
		time.Sleep(2 * time.Second)
		close(running.Release)
		synctest.Wait()
		close(h2.Release)
		synctest.Wait()
		close(h.Release)
		<-done
		synctest.Wait()
		r.want(t,
			"join(m) r 1: 1", "start(m) a 2: 0", "join(m) q 3: 1", "join(m) p 4: 2", "join(j) b 5@2: 1",
			"finish(m+) a 2: 0 run 1s returned false",
			"finish(m+) b 5@2: 1 run 1s returned true", "receive(j) b 5@2: 0 wait 1s returned true",
			"finish(+) r 1: 1 run 2s returned false", "receive(m) r 1: 0 wait 3s returned false",
			"finish(+) p 6: 0 run 2s returned false",
			"start() p 4: 1 wait 2s", "finish(+) p 4: 1 wait 2s returned false", "receive(m) p 4: 0 wait 3s returned false",
			"finish(+) q 7: 0 run 2s returned false",
			"start(m) q 3: 0 wait 2s", "finish(m+) q 3: 0 wait 2s run 1s returned false")
	})
}

// TestHooks_InOrder: the hooks of one call are called in order, though two goroutines call
// them and the hooks are slow.
func TestHooks_InOrder(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		for _, role := range []string{"leads", "follows", "is queued", "is promoted", "receives", "receives a clone"} {
			t.Run(f.Name+" "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var r recorder
					on := false
					slow := func(name string) func(context.Context, coalesce.Event[string]) {
						record := r.hook(name)
						return func(ctx context.Context, e coalesce.Event[string]) {
							if !on {
								return
							}
							if name == "join" || role == "leads" && name == "start" {
								time.Sleep(time.Minute) // the next event must not overtake it
							}
							record(ctx, e)
						}
					}
					start := slow("start")
					g := kit.Group{Hooks: coalesce.Hooks[string]{
						Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { start(ctx, e); return nil },
						Join:  slow("join"), Receive: slow("receive"), Leave: slow("leave"),
					}}
					var h *kit.Held
					switch role {
					case "receives a clone":
						g.Clone = func(v int) int { return v }
						fallthrough
					case "follows", "receives":
						if f.Name == "DoFresh" && role != "follows" {
							return // it is queued, and cannot receive before its Join has returned
						}
						h = kit.Lead(t, &g)
					case "is queued", "is promoted":
						h = kit.Abandon(t, &g, "k")
					}
					on = true
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					ends := role == "is promoted" || strings.HasPrefix(role, "receives")
					if ends {
						ctx = t.Context()
					}
					defer cancel()
					h2 := kit.Hold()
					kit.Go(ctx, f, &g, "k", h2.CtxFn(2))
					if ends {
						time.Sleep(time.Second)
						close(h.Release) // while the hook for Join runs
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
					case "receives", "receives a clone":
						want[1] = "receive"
					}
					if !slices.Equal(got, want) {
						t.Errorf("got %q, want %q", got, want)
					}
					if h != nil {
						close(h.Release)
					}
					close(h2.Release)
				})
			})
		}
	}
}

// TestHooks_SlowStartAlone: a leader whose context ends does not wait for a slow Start
// hook if no Leave hook has to follow it.
func TestHooks_SlowStartAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Hooks: coalesce.Hooks[string]{Start: func(context.Context, coalesce.Event[string]) context.Context {
			time.Sleep(time.Hour)
			return nil
		}}}
		for _, f := range kit.Forms[2:] {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			a, done := kit.Go(ctx, f, &g, f.Name, kit.CtxValue(1))
			<-done
			if took := time.Since(began); took != time.Second || a.Err != context.DeadlineExceeded {
				t.Errorf("%s: got %v after %v, want the deadline's error after a second", f.Name, a.Err, took)
			}
			cancel()
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestHooks_UseTheGroup: hooks may use the group, as no lock is held.
func TestHooks_UseTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1}
		use := func(_ context.Context, e coalesce.Event[string]) {
			g.Len()
			g.Stats()
			for range g.Flights() {
			}
			if e.Key == "k" {
				g.Do("other", kit.Value(1))
				g.Forget("other")
			}
		}
		g.Hooks = coalesce.Hooks[string]{
			Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { use(ctx, e); return nil },
			Join:  use, Receive: use, Leave: use, Finish: use,
		}
		for _, f := range kit.Forms {
			h := kit.Hold()
			_, done := kit.Go(t.Context(), f, &g, "k", h.CtxFn(1))
			<-h.Started
			ctx, cancel := context.WithCancel(t.Context())
			kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(0))
			for _, f := range kit.Joining {
				kit.Go(t.Context(), f, &g, "k", kit.CtxValue(0))
			}
			synctest.Wait()
			cancel()
			close(h.Release)
			<-done
			synctest.Wait()
		}
		synctest.Wait()
		if n := g.Len(); n != 0 {
			t.Errorf("got Len %d, want 0", n)
		}
	})
}

// TestHooks_EachAlone: each hook is called even if no other is set.
func TestHooks_EachAlone(t *testing.T) {
	for name, set := range map[string]func(h *coalesce.Hooks[string], r *recorder){
		"start":   func(h *coalesce.Hooks[string], r *recorder) { h.Start = r.start },
		"join":    func(h *coalesce.Hooks[string], r *recorder) { h.Join = r.hook("join") },
		"receive": func(h *coalesce.Hooks[string], r *recorder) { h.Receive = r.hook("receive") },
		"leave":   func(h *coalesce.Hooks[string], r *recorder) { h.Leave = r.hook("leave") },
		"finish":  func(h *coalesce.Hooks[string], r *recorder) { h.Finish = r.hook("finish") },
	} {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			var g kit.Group
			set(&g.Hooks, &r)
			want := map[string]int{name: 1}
			h := kit.Hold()
			_, done := kit.Go(t.Context(), kit.Forms[2], &g, "k", h.CtxFn(1))
			<-h.Started
			if name != "join" {
				kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
			}
			if name != "receive" {
				ctx, cancel := context.WithCancel(t.Context())
				_, left := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(0))
				synctest.Wait()
				cancel()
				<-left
			}
			synctest.Wait()
			close(h.Release)
			<-done
			synctest.Wait()
			if got := r.count(); !maps.Equal(got, want) {
				t.Errorf("got calls of hooks %v, want %v", got, want)
			}
		})
	}
}
