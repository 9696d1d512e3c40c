package rules_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds which panics are logged: those that no blocking call panics with.

// wantLogged checks how many panics were logged and counted. It returns the log.
func wantLogged(t *testing.T, g *kit.Group, log fmt.Stringer, want int) string {
	t.Helper()
	s := log.String()
	if got := strings.Count(s, "level=ERROR"); got != want {
		t.Errorf("got %d panics in the log, want %d: %s", got, want, s)
	}
	if st := g.Stats(); st.PanicsLogged != uint64(want) {
		t.Errorf("got %d panics counted as logged, want %d: %+v", st.PanicsLogged, want, st)
	}
	return s
}

// TestG10_PanicOfAReceiverIsLogged: a panic that only a channel receives may never be
// looked at, so it is logged with its key and its stack.
func TestG10_PanicOfAReceiverIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var g kit.Group
		g.DoChan(t.Context(), "ape", func(context.Context) (int, error) { panic("x") })
		synctest.Wait()
		s := wantLogged(t, &g, log, 1)
		for _, want := range []string{"key=ape", "panic=x", "panics_test.go"} {
			if !strings.Contains(s, want) {
				t.Errorf("got the log %s, want %q in it", s, want)
			}
		}
	})
}

// TestG10_LoggedUnlessACallPanics: a panic of fn is logged once if no blocking call is
// there when the flight finishes, and otherwise not at all, whichever calls lead, join
// and leave.
func TestG10_LoggedUnlessACallPanics(t *testing.T) {
	type joiner struct {
		form   kit.Form
		n      int
		leaves bool
	}
	do, doContext, doChan, doMulti := kit.Forms[0], kit.Forms[2], kit.Forms[3], kit.Forms[5]
	joiners := []struct {
		name  string
		calls []joiner
		panic bool // at least one of them panics
	}{
		{"nothing", nil, false},
		{"Do", []joiner{{do, 1, false}}, true},
		{"DoContext", []joiner{{doContext, 1, false}}, true},
		{"DoContext that leaves", []joiner{{doContext, 1, true}}, false},
		{"DoChan", []joiner{{doChan, 3, false}}, false},
		{"DoChan that leaves", []joiner{{doChan, 3, true}}, false},
		{"DoMulti", []joiner{{doMulti, 1, false}}, false},
		{"DoMulti that leaves", []joiner{{doMulti, 2, true}}, false},
		{"DoMulti and Do", []joiner{{doMulti, 1, false}, {do, 1, false}}, true},
		{"DoMulti and DoContext that leaves", []joiner{{doMulti, 1, false}, {doContext, 1, true}}, false},
		{"many DoMultis", []joiner{{doMulti, 300, false}}, false},
		{"many DoMultis, then Do", []joiner{{doMulti, 300, false}, {do, 1, false}}, true},
		{"many DoMultis, then DoContext that leaves", []joiner{{doMulti, 300, false}, {doContext, 10, true}}, false},
		{"many DoMultis that leave, then Do", []joiner{{doMulti, 300, true}, {do, 1, false}}, true},
		{"many that leave, then DoMultis", []joiner{{doContext, 300, true}, {doMulti, 300, false}}, false},
		{"Do, then many DoMultis that leave", []joiner{{do, 1, false}, {doMulti, 300, true}}, true},
		{"many of each that leave", []joiner{{doMulti, 200, true}, {doContext, 200, true}}, false},
	}
	for _, lead := range kit.Forms {
		for _, leaves := range []bool{false, true} {
			inline := lead.Name == "Do" || lead.Name == "DoContext background"
			if leaves && inline {
				continue
			}
			for _, j := range joiners {
				t.Run(fmt.Sprintf("%s leaves %t/%s", lead.Name, leaves, j.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						log := kit.CaptureLog(t)
						var g kit.Group
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						leader, leave := context.WithCancel(ctx)
						defer leave()
						h := kit.Hold()
						kit.Go(leader, lead, &g, "k", func(context.Context) (int, error) {
							<-h.Release
							panic(kit.ErrTest)
						})
						synctest.Wait()
						ending, end := context.WithCancel(ctx)
						defer end()
						for _, c := range j.calls {
							of := ctx
							if c.leaves {
								of = ending
							}
							for range c.n {
								kit.Go(of, c.form, &g, "k", kit.CtxValue(0))
							}
							synctest.Wait()
						}
						end()
						if leaves {
							leave()
						}
						synctest.Wait()
						close(h.Release)
						synctest.Wait()
						want := 1
						if j.panic || inline || !leaves && (lead.Name == "DoContext" || lead.Name == "DoFresh") {
							want = 0
						}
						wantLogged(t, &g, log, want)
						if st := g.Stats(); st.Panics != 1 {
							t.Errorf("got %+v, want 1 panic", st)
						}
						log.Reset()
						wantUsable(t, &g)
					})
				})
			}
		}
	}
}

// TestG10_QueuedPanicIsLogged: the panic of a successor is logged by the same rule,
// whichever form led it.
func TestG10_QueuedPanicIsLogged(t *testing.T) {
	for _, f := range kit.Forms {
		for _, second := range kit.Forms {
			synctest.Test(t, func(t *testing.T) {
				log := kit.CaptureLog(t)
				var g kit.Group
				h := kit.Abandon(t, &g, "k")
				fail := func(context.Context) (int, error) { panic(kit.ErrTest) }
				kit.Go(t.Context(), f, &g, "k", fail)
				synctest.Wait()
				kit.Go(t.Context(), second, &g, "k", fail)
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				want := 1
				for _, of := range []kit.Form{f, second} {
					if of.Name != "DoChan" && of.Name != "DoMulti" {
						want = 0
					}
				}
				wantLogged(t, &g, log, want)
			})
		}
	}
}

// TestG10_BatchPanicIsLogged: the panic of a batch is logged once, with sixteen of its
// keys, and not at all if a blocking call waits for one of them.
func TestG10_BatchPanicIsLogged(t *testing.T) {
	for _, joined := range []string{"", "DoChan", "DoMulti", "Do", "DoContext"} {
		synctest.Test(t, func(t *testing.T) {
			log := kit.CaptureLog(t)
			var g kit.Group
			keys := make([]string, 100)
			for i := range keys {
				keys[i] = fmt.Sprintf("key%d.", i)
			}
			h := holdLoader()
			goMulti(t.Context(), &g, h.then(func(context.Context, []string) (map[string]int, error) { panic("x") }), keys...)
			<-h.Started
			for _, f := range kit.Forms {
				if f.Name == joined {
					kit.Go(t.Context(), f, &g, keys[70], kit.CtxValue(0))
				}
			}
			synctest.Wait()
			close(h.Release)
			synctest.Wait()
			want := 1
			if joined == "Do" || joined == "DoContext" {
				want = 0
			}
			s := wantLogged(t, &g, log, want)
			for i, key := range keys {
				if logged := strings.Contains(s, key); logged != (want == 1 && i < 16) {
					t.Errorf("%s: got %s in the log %t, want %t", joined, key, logged, want == 1 && i < 16)
				}
			}
			if want == 1 && !strings.Contains(s, "flights=100") {
				t.Errorf("got the log %s, want the number of flights in it", s)
			}
			if st := g.Stats(); st.Panics != 100 {
				t.Errorf("got %+v, want 100 panics", st)
			}
		})
	}
}

// TestG10_NestedPanicIsLogged: a *PanicError that is passed from flight to flight is
// logged once for each flight for which no call panics with it.
func TestG10_NestedPanicIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var outer, middle, inner kit.Group
		fail := func(context.Context) (int, error) { panic("x") }
		// inner is led by a Do, which panics into the fn of middle. There only a channel
		// gets the panic, whose receiver panics with it into the fn of outer.
		r := <-outer.DoChan(t.Context(), "k", func(ctx context.Context) (int, error) {
			r := <-middle.DoChan(coalesce.Detach(ctx), "k", func(ctx context.Context) (int, error) {
				v, _, err := inner.DoContext(ctx, "k", fail)
				return v, err
			})
			panic(r.Err)
		})
		synctest.Wait()
		var pe *coalesce.PanicError
		if !errors.As(r.Err, &pe) || pe.Value != "x" {
			t.Errorf("got %v, want the first panic", r.Err)
		}
		s := log.String()
		if n := strings.Count(s, "level=ERROR"); n != 2 {
			t.Errorf("got %d panics in the log, want 2: %s", n, s)
		}
		got := [3]uint64{outer.Stats().PanicsLogged, middle.Stats().PanicsLogged, inner.Stats().PanicsLogged}
		if want := [3]uint64{1, 1, 0}; got != want {
			t.Errorf("got %v panics counted as logged, want %v", got, want)
		}
	})
}

// TestG10_ReturnedPanicErrorIsNotLogged: a *PanicError that fn returns is an error like
// any other.
func TestG10_ReturnedPanicErrorIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var g kit.Group
		g.DoChan(t.Context(), "k", func(context.Context) (int, error) { return 0, &coalesce.PanicError{Value: "x"} })
		synctest.Wait()
		wantLogged(t, &g, log, 0)
	})
}

// TestG10_ClonePanicIsLogged: a panic of Clone that a channel or a DoMulti gets is
// logged, once for each of them, whether the call led, joined or was answered by a
// lingering success. A panic that a blocking call gets is not.
func TestG10_ClonePanicIsLogged(t *testing.T) {
	for _, lingers := range []bool{false, true} {
		for _, f := range kit.Forms {
			synctest.Test(t, func(t *testing.T) {
				log := kit.CaptureLog(t)
				g := kit.Group{Clone: func(int) int { panic("no clone") }}
				if lingers {
					g.Linger = coalesce.Forever
					kit.Go(t.Context(), kit.Forms[0], &g, "ape", kit.CtxValue(1))
				} else {
					h := kit.Lead(t, &g)
					defer close(h.Release)
					h2 := kit.Hold()
					kit.Go(t.Context(), kit.Forms[0], &g, "ape", h2.CtxFn(1))
					synctest.Wait()
					defer func() {
						close(h2.Release)
						synctest.Wait()
						checkClonePanic(t, &g, log, f)
					}()
				}
				synctest.Wait()
				for range 2 {
					kit.Go(t.Context(), f, &g, "ape", kit.CtxValue(2))
				}
				synctest.Wait()
				if lingers && f.Name != "DoFresh" {
					checkClonePanic(t, &g, log, f)
				}
			})
		}
	}
}

func checkClonePanic(t *testing.T, g *kit.Group, log fmt.Stringer, f kit.Form) {
	t.Helper()
	want := 0
	if f.Name == "DoChan" || f.Name == "DoMulti" {
		want = 2
	}
	s := wantLogged(t, g, log, want)
	if want > 0 && strings.Count(s, "key=ape") != want || !strings.Contains(s, "no clone") && want > 0 {
		t.Errorf("got the log %s, want the key and the panic in it", s)
	}
	if st := g.Stats(); st.Panics != 0 {
		t.Errorf("got %+v, want no panic of fn", st)
	}
}

// TestG10_ExitBeforeThePanic: a blocking call takes part when fn panics, but its Join
// hook, or its Receive hook, exits its goroutine before it can panic in turn. If that
// holds for all blocking calls, the panic is logged once; if another call panics with it,
// it is not logged.
func TestG10_ExitBeforeThePanic(t *testing.T) {
	for _, c := range []struct {
		name            string
		exits, receives int
		stays           bool
		batch           bool
		want            int
	}{
		{"one that exits", 1, 0, false, false, 1},
		{"three that exit", 3, 0, false, false, 1},
		{"one that exits, and a receiver", 1, 1, false, false, 1},
		{"two that exit, and one that panics", 2, 0, true, false, 0},
		{"one of a batch", 1, 0, false, true, 1},
		{"three of a batch", 3, 0, false, true, 1},
		{"two of a batch, and one that panics", 2, 1, true, true, 0},
	} {
		for _, f := range []kit.Form{kit.Forms[0], kit.Forms[2]} {
			for _, hook := range []string{"Join", "Receive", "both"} {
				t.Run(c.name+"/"+f.Name+"/"+hook, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						log := kit.CaptureLog(t)
						exiting, finished := make(chan struct{}), make(chan struct{})
						exit := func(ctx context.Context, _ coalesce.Event[string]) {
							if ctx.Value(kit.CtxKey{}) == nil {
								<-exiting
								runtime.Goexit()
							}
						}
						g := kit.Group{Hooks: coalesce.Hooks[string]{Finish: func(context.Context, coalesce.Event[string]) { finished <- struct{}{} }}}
						if hook != "Receive" {
							g.Hooks.Join = exit
						}
						if hook != "Join" {
							g.Hooks.Receive = exit
						}
						stays := context.WithValue(t.Context(), kit.CtxKey{}, true)
						leader, leave := context.WithCancel(stays)
						defer leave()
						h := kit.Hold()
						fail := func(context.Context) (int, error) { <-h.Release; panic(kit.ErrTest) }
						n := 1
						if c.batch {
							n = 3
							goMulti(leader, &g, func(ctx context.Context, _ []string) (map[string]int, error) {
								_, err := fail(ctx)
								return nil, err
							}, "j", "k", "l")
						} else {
							kit.Go(leader, kit.Forms[2], &g, "k", fail)
						}
						synctest.Wait()
						for i := range c.exits {
							key := "k"
							if c.batch {
								key = string(rune('j' + i))
							}
							kit.Go(t.Context(), f, &g, key, kit.CtxValue(0))
						}
						for range c.receives {
							g.DoChan(stays, "k", kit.CtxValue(0))
						}
						if c.stays {
							kit.Go(stays, kit.Forms[2], &g, "k", kit.CtxValue(0))
						}
						synctest.Wait()
						leave()
						synctest.Wait()
						close(h.Release)
						for range n {
							<-finished
						}
						synctest.Wait()
						wantLogged(t, &g, log, 0)
						close(exiting)
						synctest.Wait()
						if s := wantLogged(t, &g, log, c.want); c.want > 0 && !strings.Contains(s, kit.ErrTest.Error()) {
							t.Errorf("got the log %s, want the panic in it", s)
						}
					})
				})
			}
		}
	}
}

// TestG10_PanicInsteadOfThePanic: if the context of a queued call panics in its Err
// method, the call panics with that value and not with fn's panic, which is logged.
func TestG10_PanicInsteadOfThePanic(t *testing.T) {
	for _, exits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log := kit.CaptureLog(t)
			var g kit.Group
			h := kit.Abandon(t, &g, "k")
			fails := make(chan struct{})
			g.DoChan(t.Context(), "k", func(context.Context) (int, error) { <-fails; panic(kit.ErrTest) })
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			bad := &brokenContext{Context: ctx, exits: exits}
			a, _ := kit.Go(bad, kit.Forms[2], &g, "k", kit.CtxValue(0))
			synctest.Wait()
			bad.broken = true
			close(h.Release)
			synctest.Wait()
			close(fails)
			synctest.Wait()
			if !exits && a.Panic != "broken" {
				t.Errorf("got %+v, want the panic of the context", a)
			}
			wantLogged(t, &g, log, 1)
		})
	}
}

// A brokenContext panics, or exits its goroutine, in its Err method.
type brokenContext struct {
	context.Context
	exits, broken bool
}

func (c *brokenContext) Err() error {
	if c.broken && c.exits {
		runtime.Goexit()
	} else if c.broken {
		panic("broken")
	}
	return c.Context.Err()
}

// TestG10_ExitOfACallThatDoesNotPanic: a receiver and a key of a DoMulti have a panic as
// their Result. If the Receive hook of one exits its goroutine, that makes no difference to
// whether a blocking call panics: the panic is not logged.
func TestG10_ExitOfACallThatDoesNotPanic(t *testing.T) {
	for _, leader := range []kit.Form{kit.Forms[0], kit.Forms[2]} {
		for _, f := range []kit.Form{kit.Forms[3], kit.Forms[5]} {
			t.Run(f.Name+" in "+leader.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := kit.CaptureLog(t)
					exited := 0
					g := kit.Group{Hooks: coalesce.Hooks[string]{Receive: func(context.Context, coalesce.Event[string]) { exited++; runtime.Goexit() }}}
					h := kit.Hold()
					a, _ := kit.Go(contextThatCanEnd(t), leader, &g, "k", func(context.Context) (int, error) { <-h.Release; panic(kit.ErrTest) })
					synctest.Wait()
					kit.Go(contextThatCanEnd(t), f, &g, "k", kit.CtxValue(0))
					synctest.Wait()
					close(h.Release)
					synctest.Wait()
					if e, ok := a.Panic.(*coalesce.PanicError); !ok || e.Value != kit.ErrTest || exited != 1 {
						t.Errorf("got %+v and %d calls of Receive, want the panic of fn and 1", a, exited)
					}
					wantLogged(t, &g, log, 0)
				})
			})
		}
	}
}

// TestG10_FinishExitsBeforeThePanic: the leader of a Do is about to panic as fn did, and
// its Finish hook exits its goroutine. If no other call panics, the panic is logged, also
// if the leader was queued before.
func TestG10_FinishExitsBeforeThePanic(t *testing.T) {
	for _, f := range []kit.Form{kit.Forms[0], kit.Forms[1]} {
		for _, queued := range []bool{false, true} {
			for _, c := range []struct {
				followers int
				exit      bool // in their Receive hooks
				want      int
			}{{0, false, 1}, {1, false, 0}, {2, true, 1}} {
				t.Run(fmt.Sprintf("%s, queued %t, %+v", f.Name, queued, c), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						log := kit.CaptureLog(t)
						exit := func(_ context.Context, e coalesce.Event[string]) {
							if e.Outcome == coalesce.OutcomePanicked {
								runtime.Goexit()
							}
						}
						g := kit.Group{Hooks: coalesce.Hooks[string]{Finish: exit}}
						if c.exit {
							g.Hooks.Receive = exit
						}
						before := kit.Hold()
						if queued {
							before = kit.Abandon(t, &g, "k")
						}
						h := kit.Hold()
						leader, _ := kit.Go(context.Background(), f, &g, "k", func(context.Context) (int, error) { <-h.Release; panic(kit.ErrTest) })
						synctest.Wait()
						if queued {
							close(before.Release)
							synctest.Wait()
						}
						for range c.followers {
							kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
						}
						synctest.Wait()
						close(h.Release)
						synctest.Wait()
						if leader.Panic != nil {
							t.Errorf("got the panic %v, want a leader that exits", leader.Panic)
						}
						if s := wantLogged(t, &g, log, c.want); c.want > 0 && !strings.Contains(s, kit.ErrTest.Error()) {
							t.Errorf("got the log %s, want the panic in it", s)
						}
					})
				})
			}
		}
	}
}

// TestG10_UnreceivedPanicIsLogged: all callers have left when fn panics; the process goes
// on, and the panic is logged with its stack, and counted.
func TestG10_UnreceivedPanicIsLogged(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := kit.CaptureLog(t)
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				a, _ := kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					panic("no caller listens")
				})
				synctest.Wait()
				cancel()
				synctest.Wait()
				if a.Err != context.Canceled {
					t.Errorf("got %+v, want %v", a, context.Canceled)
				}
				for _, want := range []string{"level=ERROR", "no caller listens", "panics_test.go"} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("got the log %s, want %q in it", log, want)
					}
				}
				if st := g.Stats(); st.Panics != 1 || st.PanicsLogged != 1 {
					t.Errorf("got %+v, want 1 panic, 1 logged", st)
				}
				wantUsable(t, &g)
			})
		})
	}
}

// TestG10_LogHandlerPanics: a log handler that panics does not end the process.
func TestG10_LogHandlerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := slog.Default()
		slog.SetDefault(slog.New(panickingHandler{slog.DiscardHandler}))
		defer slog.SetDefault(old)
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			panic("no caller listens")
		})
		synctest.Wait()
		cancel()
		wantUsable(t, &g)
	})
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool { panic("no log") }

// An exitingHandler is a log handler that exits the goroutine.
type exitingHandler struct{ slog.Handler }

func (exitingHandler) Handle(context.Context, slog.Record) error {
	runtime.Goexit()
	return nil
}

// TestG10_LogHandlerExits: if a panic that no caller got is logged, and the log handler
// exits the goroutine, the Finish hook is still called.
func TestG10_LogHandlerExits(t *testing.T) {
	kit.CaptureLog(t)
	slog.SetDefault(slog.New(exitingHandler{slog.Default().Handler()}))
	for _, f := range kit.Forms[2:] {
		synctest.Test(t, func(t *testing.T) {
			var ends []coalesce.Event[string]
			g := kit.Group{Hooks: coalesce.Hooks[string]{Finish: func(_ context.Context, e coalesce.Event[string]) { ends = append(ends, e) }}}
			ctx, cancel := context.WithCancel(t.Context())
			kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				panic("no caller listens")
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			if len(ends) != 1 || ends[0].Outcome != coalesce.OutcomePanicked {
				t.Errorf("%s: got the ends %+v, want one with a panic", f.Name, ends)
			}
		})
	}
}

// TestG2_ClonePanics: a Clone that panics, or exits, harms only the caller that the clone
// was for.
func TestG2_ClonePanics(t *testing.T) {
	kit.CaptureLog(t)
	for _, exits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			g := coalesce.Group[string, int]{Clone: func(v int) int {
				if n.Add(1)%2 == 0 {
					if exits {
						runtime.Goexit()
					}
					panic("no clone")
				}
				return v
			}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var answers [40]*kit.Answer
			var panics, gone, good int
			for i := range answers {
				answers[i], _ = kit.Go(ctx, kit.Joining[i%len(kit.Joining)], &g, "k", func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return 5, nil
				})
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for i, a := range answers {
				var pe *coalesce.PanicError
				e, _ := a.Panic.(error)
				switch {
				case errors.As(e, &pe), errors.As(a.Err, &pe):
					panics++
					if pe.Value != "no clone" || len(pe.Stack) == 0 {
						t.Errorf("%s: got %v, want the panic of Clone with its stack", kit.Joining[i%len(kit.Joining)].Name, pe)
					}
				case a.Err != nil:
					gone++ // ErrGoexit in a channel, or an exited goroutine
				case a.V == 5:
					good++
				default:
					t.Errorf("%s: got %+v, want a clone or the end of Clone", kit.Joining[i%len(kit.Joining)].Name, a)
				}
			}
			if good != 20 || exits && gone != 20 || !exits && panics != 20 {
				t.Errorf("exits %v: got %d good, %d panics, %d gone, want 20 good and 20 of the others", exits, good, panics, gone)
			}
			if g.Len() != 0 {
				t.Errorf("got Len %d, want 0", g.Len())
			}
		})
	}
}
