package fleet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// This file tests an engine that does not answer: Grace, the policies, the breaker.

// cutAll makes the engine answer no process.
func cutAll(e []*faulty, cut bool) {
	for _, e := range e {
		e.cut.Store(cut)
	}
}

// TestOutage_RunLocally: new calls run fn in their process after Grace, once for each
// process, and those that come later at once.
func TestOutage_RunLocally(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		cutAll(e, true)
		var w work
		for _, g := range g {
			a, b := call(t.Context(), g, "k", w.after(time.Second, "v")), call(t.Context(), g, "k", w.after(time.Second, "v"))
			for _, o := range []*outcome{a, b} {
				o.is(t, "v", Local)
				o.between(t, 2*time.Second, 2*time.Second)
				if o.info.Token != 0 || o.info.Process != g.Process {
					t.Errorf("got %+v, want no token", o.info)
				}
			}
			o := call(t.Context(), g, "k", w.after(time.Second, "v"))
			o.is(t, "v", Local)
			o.between(t, time.Second, time.Second+5*time.Millisecond)
			if st := g.Stats(); st.LocalOutage != 2 || st.GraceSpent != time.Second || !st.Breaker {
				t.Errorf("got %+v, want one Grace spent and an open breaker", st)
			}
		}
		w.ran(t, 4)
		left(t, e[0], g...)
	})
}

// TestOutage_NoToken: a local fn has no token, not even one of another key.
func TestOutage_NoToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		outer, _ := processes(1, nil)
		inner, e := processes(1, nil)
		cutAll(e, true)
		call(t.Context(), outer[0], "k", func(ctx context.Context) (string, error) {
			v, _, err := inner[0].DoContext(ctx, "k", func(ctx context.Context) (string, error) {
				if token, ok := Token(ctx); ok {
					t.Errorf("got token %d, want none", token)
				}
				return "v", nil
			})
			return v, err
		}).is(t, "v", Led)
	})
}

// TestOutage_Fail: calls get ErrEngine, with what went wrong, and run nothing.
func TestOutage_Fail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, func(g *group) { g.OnOutage = Fail })
		cutAll(e, true)
		var w work
		for i, took := range []time.Duration{time.Second, 0} {
			o := call(t.Context(), g[0], "k", w.after(time.Second, "v")).get()
			if !errors.Is(o.err, ErrEngine) || i == 0 && !errors.Is(o.err, errCut) || o.took != took || o.info != (Info{}) {
				t.Errorf("got %v, %+v after %v, want %v after %v", o.err, o.info, o.took, ErrEngine, took)
			}
		}
		w.ran(t, 0)
		if st := g[0].Stats(); st.Refused != 2 {
			t.Errorf("got %+v, want two that were refused", st)
		}
		left(t, e[0], g...)
	})
}

// TestOutage_Leader: a leader in flight has its value after fn and Grace at the latest, and
// its result reaches the engine as soon as that answers, as long as others wait.
func TestOutage_Leader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(500 * time.Millisecond)
		e[0].cut.Store(true)
		a.is(t, "v", Led)
		a.between(t, 2*time.Second, 2150*time.Millisecond)
		if !a.info.Unpublished {
			t.Errorf("got %+v, want unpublished", a.info)
		}
		later(500*time.Millisecond + 2*time.Second - a.took)
		e[0].cut.Store(false)
		b.is(t, "v", Followed)
		b.between(t, 2500*time.Millisecond, 3*time.Second)
		w.ran(t, 1)
		if st := g[0].Stats(); st.Unpublished != 1 {
			t.Errorf("got %+v, want one unpublished", st)
		}
		left(t, e[0], g...)
	})
}

// TestOutage_GraceOfARun: all operations of a run together have one Grace.
func TestOutage_GraceOfARun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(20*time.Second, "v"))
		later(0)
		// Every operation fails twice, after 200 ms each: the budget lasts for two and a half.
		n := 0
		fail := func() error {
			if n++; n%3 != 0 {
				time.Sleep(200 * time.Millisecond)
				return errCut
			}
			return nil
		}
		e[1].swap = func(_ context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			if err := fail(); err != nil {
				return Record{}, err
			}
			return do()
		}
		e[1].load = func(_ context.Context, do func() (Record, error)) (Record, error) {
			if err := fail(); err != nil {
				return Record{}, err
			}
			return do()
		}
		o := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		o.is(t, "own", Local)
		if st := g[1].Stats(); st.GraceSpent > time.Second {
			t.Errorf("got %v of Grace spent by one run, want at most 1s", st.GraceSpent)
		}
		o.between(t, 1800*time.Millisecond, 3*time.Second)
	})
}

// TestOutage_RidesOut: an outage that is shorter than Grace costs no execution.
func TestOutage_RidesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, func(g *group) { g.Grace = 10 * time.Second })
		var w work
		running := call(t.Context(), g[0], "k", w.after(4*time.Second, "v"))
		later(0)
		follower := call(t.Context(), g[1], "k", w.after(4*time.Second, "v"))
		later(3 * time.Second)
		cutAll(e, true)
		newcomer := call(t.Context(), g[2], "new", w.after(time.Second, "w"))
		// The engine itself is gone: no lease expires meanwhile, as the records are not seen.
		later(5 * time.Second)
		cutAll(e, false)
		running.is(t, "v", Led)
		follower.get()
		if follower.v != "v" || follower.info.Role == Local {
			t.Errorf("got %q, %v, %+v, want no local run", follower.v, follower.err, follower.info)
		}
		newcomer.is(t, "w", Led)
		newcomer.between(t, 6*time.Second, 7*time.Second)
	})
}

// TestOutage_NegativeGrace: then no operation is tried twice; while the engine answers,
// nothing is different.
func TestOutage_NegativeGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Grace = -1 })
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(time.Second, "other")).is(t, "v", Followed)
		cutAll(e, true)
		o := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		o.is(t, "own", Local)
		o.between(t, 1250*time.Millisecond, 1250*time.Millisecond)
	})
}

// TestOutage_Context: the end of a call's context wins.
func TestOutage_Context(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, nil)
		cutAll(e, true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var w work
		o := call(ctx, g[0], "k", w.after(time.Second, "v")).get()
		if o.err != context.DeadlineExceeded || o.took != 100*time.Millisecond {
			t.Errorf("got %v after %v, want %v", o.err, o.took, context.DeadlineExceeded)
		}
		later(2 * time.Second)
		w.ran(t, 0)
		left(t, e[0], g...)
	})
}

// TestBreaker: once open, calls do not try the engine, but for a probe a second, which
// closes it. A run that has begun before still has its Grace.
func TestBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, nil)
		cutAll(e, true)
		var w work
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Local)
		later(4 * time.Second) // it looks for a lease that may have been made
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Local)
		later(10 * time.Millisecond)
		e[0].ops()
		for range 50 {
			o := call(t.Context(), g[0], "k", w.after(0, "v"))
			o.is(t, "v", Local)
			o.between(t, 0, 0)
			later(100 * time.Millisecond)
		}
		if got, want := e[0].ops(), [3]int32{0, 0, 4}; got != want {
			t.Errorf("got %v swaps, arms and reads in five seconds, want %v", got, want)
		}
		cutAll(e, false)
		call(t.Context(), g[0], "k", w.after(0, "v"))
		later(time.Second)
		call(t.Context(), g[0], "k", w.after(0, "v"))
		later(0)
		if st := g[0].Stats(); st.Breaker {
			t.Error("the breaker is open though the probe was answered")
		}
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Led)
	})
}

// TestBreaker_RunsOfBefore: a run that has begun before the breaker opens has its own
// budget.
func TestBreaker_RunsOfBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(20*time.Second, "v"))
		later(0)
		o := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		later(200 * time.Millisecond)
		e[1].cut.Store(true)
		call(t.Context(), g[1], "other", w.after(0, "w")).is(t, "w", Local)
		if !g[1].Stats().Breaker {
			t.Fatal("the breaker is closed")
		}
		later(300 * time.Millisecond)
		e[1].cut.Store(false)
		o.is(t, "v", Followed)
	})
}

// TestNotify_DoesNotAnswer: a subscription that is not confirmed costs a try, and the run
// reads instead.
func TestNotify_DoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		e[1].arm = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		var w work
		call(t.Context(), g[0], "k", w.after(800*time.Millisecond, "v"))
		later(0)
		o := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		o.is(t, "v", Followed)
		o.between(t, 800*time.Millisecond, 850*time.Millisecond)
		left(t, e[0], g...)
	})
}

// TestStaleReads: a leader whose conflict cannot be resolved, as reads return what was
// there before, does not keep its callers for longer than Grace.
func TestStaleReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(5*time.Second, "old"))
		later(0)
		name := g[0].RecordName("k")
		old, _ := e[0].Memory.Load(t.Context(), name)
		e[0].load = func(context.Context, func() (Record, error)) (Record, error) { return old, nil }
		e[0].cut.Store(true)
		call(t.Context(), g[1], "k", w.after(time.Second, "new")).is(t, "new", Led)
		later(time.Second/2 + 5*time.Second - 4800*time.Millisecond)
		e[0].cut.Store(false)
		if a.get(); a.v != "old" || a.took > 7*time.Second {
			t.Errorf("got %q, %v, %+v after %v, want old", a.v, a.err, a.info, a.took)
		}
		left(t, e[0], g...)
	})
}

// TestHotKey: a run that has seen three flights come and go without a result, as no push
// arrives and reads are late, runs fn itself.
func TestHotKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		e[1].mute.Store(true)
		var w, own work
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { // one flight after the other, which the reads meet
			for ctx.Err() == nil {
				g[0].DoContext(t.Context(), "k", w.after(1200*time.Millisecond, "v"))
			}
		}()
		later(0)
		e[1].load = func(_ context.Context, do func() (Record, error)) (Record, error) {
			rec, err := do()
			if err == nil {
				if r, _ := (box{}).decode(rec.Val, rec.Rev); r.kind != lease {
					return Record{}, ErrAbsent
				}
			}
			return rec, err
		}
		o := call(t.Context(), g[1], "k", own.after(0, "own"))
		o.is(t, "own", Local)
		own.ran(t, 1)
		if st := g[1].Stats(); st.LocalMissed != 1 {
			t.Errorf("got %+v, want one that has missed", st)
		}
	})
}

// TestOutage_ManyCalls: many calls at one moment, for different keys, do not wait for each
// other's tries: all have their Grace, and not one after the other. So it is with leaders
// that are in flight.
func TestOutage_ManyCalls(t *testing.T) {
	for _, leading := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			g, e := processes(1, nil)
			e[0].cut.Store(!leading)
			var w work
			var calls []*outcome
			for i := range 1000 {
				calls = append(calls, call(t.Context(), g[0], fmt.Sprint(i), w.after(500*time.Millisecond, "v")))
			}
			later(400 * time.Millisecond)
			e[0].cut.Store(true)
			for _, o := range calls {
				if o.get(); o.v != "v" || o.took > 2100*time.Millisecond {
					t.Fatalf("leading %t: got %q, %v after %v, want v after fn, Grace and two tries", leading, o.v, o.err, o.took)
				}
			}
			w.ran(t, 1000)
			later(10 * time.Second)
			left(t, e[0], g...)
		})
	}
}
