package rules_test

import (
	"context"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds G18 together with the options of a group and the other forms of call.

// TestG18_Lingers: the outcome of a flight that was held lingers, and answers calls,
// though the flight finished without a caller; then fn's context does not end. If the
// outcome may not linger, the context ends.
func TestG18_Lingers(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Minute}
				h, ctx := kit.HoldAlone(t, &g, f)
				close(h.Release)
				synctest.Wait()
				wantEnd(t, ctx, nil)
				if v, shared, err := g.Do("k", kit.Value(2)); v != 1 || !shared || err != nil {
					t.Errorf("got %d, %v, %v, want the value that lingers", v, shared, err)
				}
				g.Forget("k")

				h, ctx = kit.HoldAloneTo(t, &g, f, func() (int, error) { return 0, kit.ErrTest })
				close(h.Release)
				synctest.Wait()
				wantEnd(t, ctx, context.Canceled)

				h, ctx = kit.HoldAlone(t, &g, f)
				g.Forget("k")
				close(h.Release)
				synctest.Wait()
				wantEnd(t, ctx, context.Canceled)
				if v, shared, err := g.Do("k", kit.Value(2)); v != 2 || shared || err != nil {
					t.Errorf("got %d, %v, %v, want a new execution", v, shared, err)
				}
			})
		})
	}
}

// TestG18_Queued: a flight that was queued can be held when it runs, and a DoFresh queues
// behind a flight that is held and has no caller.
func TestG18_Queued(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := kit.Abandon(t, &g, "k")
				h, next := kit.Hold(), kit.Hold()
				var given context.Context
				caller, leave := context.WithCancel(t.Context())
				kit.Go(caller, f, &g, "k", func(ctx context.Context) (int, error) {
					given = ctx
					if !coalesce.Hold(ctx) {
						t.Error("got false for a flight that was queued, want true")
					}
					return h.Fn(1)()
				})
				synctest.Wait()
				close(old.Release)
				<-h.Started
				leave()
				synctest.Wait()
				wantEnd(t, given, nil)
				a, done := kit.Go(t.Context(), kit.Forms[4], &g, "k", next.CtxFn(2))
				synctest.Wait()
				if kit.IsDone(done) || next.Runs.Load() != 0 || kit.CountState(&g, coalesce.StateQueued) != 1 {
					t.Errorf("got answered %v, %d executions, %d queued, want a DoFresh that is queued", kit.IsDone(done), next.Runs.Load(), kit.CountState(&g, coalesce.StateQueued))
				}
				close(h.Release)
				<-next.Started
				wantEnd(t, given, context.Canceled)
				close(next.Release)
				synctest.Wait()
				if a.V != 2 || a.Shared || a.Err != nil {
					t.Errorf("got %+v, want the result of its own execution", a)
				}
			})
		})
	}
}

// TestG18_MaxAge: a call takes over from a flight that is held, as from any other, and so
// does one that is queued.
func TestG18_MaxAge(t *testing.T) {
	for _, f := range ownForms {
		for _, queued := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{MaxAge: time.Minute}
				h, ctx := kit.HoldAlone(t, &g, f)
				a, done := new(kit.Answer), make(<-chan struct{})
				if queued {
					a, done = kit.Go(t.Context(), kit.Forms[4], &g, "k", kit.CtxValue(2))
				}
				time.Sleep(time.Minute)
				if !queued {
					a, done = kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(2))
				}
				synctest.Wait()
				if !kit.IsDone(done) || a.V != 2 || a.Shared || g.Stats().TakenOver != 1 {
					t.Errorf("%s, queued %v: got %+v, %+v, want the result of the next flight", f.Name, queued, a, g.Stats())
				}
				wantEnd(t, ctx, nil)
				if n := kit.CountState(&g, coalesce.StateRunning); n != 1 {
					t.Errorf("%s: got %d flights that run, want the one that is held", f.Name, n)
				}
				close(h.Release)
				synctest.Wait()
				wantEnd(t, ctx, context.Canceled)
			})
		}
	}
}

// TestG18_Forgotten: a flight that is forgotten can be held, and one that is held can be
// forgotten.
func TestG18_Forgotten(t *testing.T) {
	for _, f := range ownForms {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			h := kit.Hold()
			var given context.Context
			caller, leave := context.WithCancel(t.Context())
			kit.Go(caller, f, &g, "k", func(ctx context.Context) (int, error) {
				given = ctx
				g.Forget("k")
				if !coalesce.Hold(ctx) {
					t.Errorf("%s: got false for a forgotten flight, want true", f.Name)
				}
				return h.Fn(1)()
			})
			<-h.Started
			leave()
			synctest.Wait()
			wantEnd(t, given, nil)
			forgets := map[string]func() bool{
				"Forget":         func() bool { return g.Forget("k") },
				"ForgetUnshared": func() bool { return g.ForgetUnshared("k") },
				"ForgetFunc":     func() bool { return g.ForgetFunc(func(string) bool { return true }) == 1 },
				"ForgetFlight": func() bool {
					for flight := range g.Flights() {
						if !flight.Forgotten {
							return g.ForgetFlight(flight.ID)
						}
					}
					return false
				},
			}
			helds, contexts := []*kit.Held{h}, []context.Context{given}
			for form, forget := range forgets {
				next, ctx := kit.HoldAlone(t, &g, f)
				helds, contexts = append(helds, next), append(contexts, ctx)
				if !forget() || g.Len() != 0 {
					t.Errorf("%s, %s: got a held flight that is not forgotten, want true and Len 0", f.Name, form)
				}
			}
			if n := kit.CountState(&g, coalesce.StateRunning); n != len(helds) {
				t.Errorf("%s: got %d flights that run, want all %d", f.Name, n, len(helds))
			}
			for i, h := range helds {
				wantEnd(t, contexts[i], nil)
				close(h.Release)
				synctest.Wait()
				wantEnd(t, contexts[i], context.Canceled)
			}
			wantAtRest(t, &g)
		})
	}
}

// TestG18_Shutdown: a Shutdown waits for a flight that is held. If it runs out of time it
// cancels the flight, also one that is held after that.
func TestG18_Shutdown(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h, ctx := kit.HoldAlone(t, &g, f)
				timeout, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := g.Shutdown(timeout); err != context.DeadlineExceeded {
					t.Errorf("got error %v, want that of Shutdown's context", err)
				}
				wantEnd(t, ctx, coalesce.ErrClosed)
				if !coalesce.Hold(ctx) {
					t.Error("got false from Hold while fn runs, want true")
				}
				again := make(chan error, 1)
				go func() { again <- g.Shutdown(t.Context()) }()
				synctest.Wait()
				if len(again) != 0 {
					t.Error("got a Shutdown that has returned, want it to wait")
				}
				close(h.Release)
				if err := <-again; err != nil {
					t.Errorf("got error %v, want none", err)
				}
				synctest.Wait()
				wantEnd(t, ctx, coalesce.ErrClosed)
			})
		})
	}
}

// TestG18_Hooks: a hold has no event, and the events of a flight that is held are as ever.
func TestG18_Hooks(t *testing.T) {
	for _, f := range ownForms {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			note := func(what string) func(context.Context, coalesce.Event[string]) {
				return func(context.Context, coalesce.Event[string]) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, what)
				}
			}
			start := note("start")
			g := kit.Group{Hooks: coalesce.Hooks[string]{
				Start: func(ctx context.Context, e coalesce.Event[string]) context.Context { start(ctx, e); return nil },
				Join:  note("join"), Leave: note("leave"), Finish: note("finish"), Receive: note("receive"),
			}}
			h, ctx := kit.HoldAlone(t, &g, f)
			kit.JoinAndLeave(t, &g, kit.Forms[2])
			close(h.Release)
			synctest.Wait()
			wantEnd(t, ctx, context.Canceled)
			if s := strings.Join(got, " "); s != "start leave join leave finish" {
				t.Errorf("%s: got events %q, want a start, a leave, a join, a leave and a finish", f.Name, s)
			}
		})
	}
}

// TestG18_Batch: a batch is held as a whole. When it finishes, its context ends only if
// none of its keys has a caller and none of its outcomes lingers.
func TestG18_Batch(t *testing.T) {
	keys := []string{"a", "b", "c"}
	all := map[string]int{"a": 1, "b": 2, "c": 3}
	for name, tt := range map[string]struct {
		linger time.Duration
		joins  bool
		end    func() (map[string]int, error)
		want   error
	}{
		"returns":       {0, false, func() (map[string]int, error) { return all, nil }, context.Canceled},
		"joined":        {0, true, func() (map[string]int, error) { return all, nil }, nil},
		"joined, fails": {0, true, func() (map[string]int, error) { return nil, kit.ErrTest }, nil},
		"lingers":       {time.Hour, false, func() (map[string]int, error) { return all, nil }, nil},
		"one lingers": {time.Hour, false, func() (map[string]int, error) {
			return map[string]int{"c": 3}, nil // the other keys are absent
		}, nil},
		"one lingers, errors": {time.Hour, false, func() (map[string]int, error) {
			return all, coalesce.KeyErrors[string]{"a": kit.ErrTest, "b": kit.ErrTest}
		}, nil},
		"none lingers": {time.Hour, false, func() (map[string]int, error) { return all, kit.ErrTest }, context.Canceled},
		"panics":       {time.Hour, false, func() (map[string]int, error) { panic("in a batch") }, context.Canceled},
		"exits":        {time.Hour, false, func() (map[string]int, error) { runtime.Goexit(); return nil, nil }, context.Canceled},
	} {
		for _, hooked := range []bool{false, true} { // with hooks, each flight has work to do when it finishes
			logs := kit.CaptureLog(t)
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: tt.linger}
				if hooked {
					g.Hooks.Finish = func(context.Context, coalesce.Event[string]) {}
				}
				var given context.Context
				release := make(chan struct{})
				caller, leave := context.WithCancel(t.Context())
				go g.DoMulti(caller, keys, func(ctx context.Context, _ []string) (map[string]int, error) {
					given = ctx
					coalesce.Hold(ctx)
					<-release
					return tt.end()
				})
				synctest.Wait()
				leave()
				synctest.Wait()
				if n := kit.CountState(&g, coalesce.StateRunning); n != 3 || g.Stats().Abandoned != 0 {
					t.Errorf("got %d flights that run and %+v, want all three", n, g.Stats())
				}
				wantEnd(t, given, nil)
				if tt.joins {
					kit.Go(t.Context(), kit.Forms[0], &g, "b", kit.CtxValue(0))
					synctest.Wait()
				}
				close(release)
				synctest.Wait()
				wantEnd(t, given, tt.want)
				if n := strings.Count(logs.String(), "in a batch"); g.Len() != 0 || n > 1 || (n == 1) != (name == "panics") {
					t.Errorf("%s: got %d flights and %d log entries, want none and one for a panic", name, g.Len(), n)
				}
				if t.Failed() {
					t.Logf("%s, hooked %v", name, hooked)
				}
			})
		}
	}
}

// TestG18_NaN: a flight that no other call can find can be held like any other.
func TestG18_NaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[float64, int]{Linger: time.Hour}
		ctx, leave := context.WithCancel(t.Context())
		var given context.Context
		release := make(chan struct{})
		go g.DoContext(ctx, math.NaN(), func(ctx context.Context) (int, error) {
			given = ctx
			coalesce.Hold(ctx)
			<-release
			return 1, nil
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		wantEnd(t, given, nil)
		close(release)
		synctest.Wait()
		wantEnd(t, given, context.Canceled)
		if g.Len() != 0 {
			t.Errorf("got %d flights, want none", g.Len())
		}
	})
}
