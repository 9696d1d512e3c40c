package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// This file tests leaders that die, stop or cannot reach the engine, and their successors.

// TestTakeover_Dead: a leader that has given its last sign of life has one successor, after
// 1.05 to 1.1 leases, and all that wait get its value.
func TestTakeover_Dead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(4, nil)
		var w work
		dead := call(t.Context(), g[0], "k", w.after(20*time.Second, "dead"))
		later(0)
		e[0].cut.Store(true)
		var calls []*outcome
		for _, g := range g[1:] {
			calls = append(calls, call(t.Context(), g, "k", w.after(time.Second, "v")))
		}
		led := 0
		for _, o := range calls {
			if o.get(); o.v != "v" || o.info.Takeovers != 1 {
				t.Errorf("got %q, %v, %+v, want v by a takeover", o.v, o.err, o.info)
			}
			o.between(t, 4150*time.Millisecond, 4300*time.Millisecond)
			if o.info.Role == Led {
				led++
			}
		}
		if led != 1 {
			t.Errorf("got %d successors, want 1", led)
		}
		if dead.is(t, "dead", Led); !dead.info.Unpublished || dead.took > 21*time.Second {
			t.Errorf("got %+v after %v, want unpublished after fn and Grace", dead.info, dead.took)
		}
		w.ran(t, 2)
	})
}

// TestTakeover_Renewed: a leader that renews is not taken over, however long fn runs.
func TestTakeover_Renewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(time.Minute-time.Millisecond, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(time.Second, "other")).is(t, "v", Followed)
		a.is(t, "v", Led)
		if st := g[0].Stats(); st.Renewals != 59 {
			t.Errorf("got %d renewals in a minute, want 59", st.Renewals)
		}
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestTakeover_OneRenewalFails: a renewal that fails, that hangs, or is made and answered by
// an error, does not lose the lease, nor end the renewals.
func TestTakeover_OneRenewalFails(t *testing.T) {
	for _, how := range []string{"fails", "hangs", "made", "made and hangs"} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, nil)
			n := 0
			e[0].swap = func(ctx context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
				if rec.kind == lease && rec.token != 0 {
					if n++; n%3 == 1 {
						if strings.HasPrefix(how, "made") {
							do()
						}
						if strings.HasSuffix(how, "hangs") {
							<-ctx.Done()
						}
						return Record{}, errCut
					}
				}
				return do()
			}
			var w work
			a := call(t.Context(), g[0], "k", w.after(30*time.Second, "v"))
			later(0)
			call(t.Context(), g[1], "k", w.after(time.Second, "other")).is(t, "v", Followed)
			a.is(t, "v", Led)
			w.ran(t, 1)
			left(t, e[0], g...)
		})
	}
}

// TestTakeover_HalfALease: a leader that is cut off for half a lease stays leader.
func TestTakeover_HalfALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(3 * time.Second)
		e[0].cut.Store(true)
		later(1500 * time.Millisecond)
		e[0].cut.Store(false)
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		w.ran(t, 1)
	})
}

// replaced cuts the first of two processes off until the other has taken over and has a
// value, while their fns run. It returns their outcomes.
func replaced(t *testing.T, set func(*group), fn, successor func(context.Context) (string, error)) (a, b *outcome, g []*group, e []*faulty) {
	g, e = processes(2, set)
	a = call(t.Context(), g[0], "k", fn)
	later(0)
	b = call(t.Context(), g[1], "k", successor)
	e[0].cut.Store(true)
	later(4 * time.Second)
	e[0].cut.Store(false)
	return a, b, g, e
}

// TestTakeover_Adopted: a leader that was replaced cannot publish, and its callers get the
// value of the successor.
func TestTakeover_Adopted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		var fctx context.Context
		a, b, g, e := replaced(t, nil, func(ctx context.Context) (string, error) {
			fctx = ctx
			return w.after(6*time.Second, "old")(ctx)
		}, w.after(4*time.Second, "new"))
		a.is(t, "new", Adopted)
		b.is(t, "new", Led)
		if a.info.Takeovers != 1 || a.info.Token != b.info.Token || a.info.Stale {
			t.Errorf("got %+v, want what %+v says", a.info, b.info)
		}
		if context.Cause(fctx) != ErrLeaseLost {
			t.Errorf("fn's context has ended with %v, want %v", context.Cause(fctx), ErrLeaseLost)
		}
		if st := g[0].Stats(); st.Lost != 1 || st.Adopted != 1 {
			t.Errorf("got %+v, want one lost lease", st)
		}
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestTakeover_FnObeys: nor do its callers get the end of fn's context.
func TestTakeover_FnObeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		a, b, g, e := replaced(t, nil, w.obeying(time.Hour, "old"), w.after(3*time.Second, "new"))
		a.is(t, "new", Adopted)
		b.is(t, "new", Led)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestTakeover_FnObeysAndSuccessorIsSlow: so it is if the successor takes longer than a
// lease: then the process follows it like any other.
func TestTakeover_FnObeysAndSuccessorIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		a, b, g, e := replaced(t, nil, w.obeying(time.Hour, "old"), w.after(20*time.Second, "new"))
		a.is(t, "new", Followed)
		b.is(t, "new", Led)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestTakeover_SuccessorIsSlow: a value that the callers could have is not kept from them
// for longer than a lease.
func TestTakeover_SuccessorIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		a, b, g, e := replaced(t, nil, w.after(5*time.Second, "old"), w.after(20*time.Second, "new"))
		a.is(t, "old", Led)
		a.between(t, 8*time.Second, 8*time.Second)
		if !a.info.Stale {
			t.Errorf("got %+v, want stale", a.info)
		}
		b.is(t, "new", Led)
		left(t, e[0], g...)
	})
}

// TestTakeover_LateCaller: a call that has joined the replaced leader after the successor's
// result does not get that.
func TestTakeover_LateCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(10*time.Second, "old"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "new"))
		e[0].cut.Store(true)
		b.is(t, "new", Led)
		later(time.Second)
		late := call(t.Context(), g[0], "k", w.after(time.Second, "later"))
		later(0)
		e[0].cut.Store(false)
		a.is(t, "old", Led)
		late.is(t, "old", Led)
		if !late.info.Stale {
			t.Errorf("got %+v, want stale", late.info)
		}
		left(t, e[0], g...)
	})
}

// TestTakeover_FailedLate: a replaced leader whose fn fails has the successor's value, too.
func TestTakeover_FailedLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		a, b, _, _ := replaced(t, nil, func(context.Context) (string, error) {
			time.Sleep(6 * time.Second)
			return "", errors.New("failed")
		}, w.after(time.Second, "new"))
		a.is(t, "new", Adopted)
		b.is(t, "new", Led)
	})
}

// TestTakeover_PanicsLate: a panic of a replaced leader is that of its callers alone.
func TestTakeover_PanicsLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var w work
		a, b, g, e := replaced(t, nil, func(context.Context) (string, error) {
			time.Sleep(4500 * time.Millisecond)
			panic("boom")
		}, w.after(3*time.Second, "new"))
		if a.get().panicked == nil {
			t.Errorf("got %q, %v, want a panic", a.v, a.err)
		}
		b.is(t, "new", Led)
		left(t, e[0], g...)
	})
}

// TestStrict: with Strict fn's context ends when the lease could not be renewed for its
// length; without it fn goes on, and what it returns is stored if no process has come.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			g, e := processes(1, func(g *group) { g.Strict = strict })
			var cause error
			var at time.Duration
			begin := time.Now()
			o := call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
				if wait(ctx, 5*time.Second) != nil {
					cause, at = context.Cause(ctx), time.Since(begin)
					return "", cause
				}
				return "v", nil
			})
			later(0)
			e[0].cut.Store(true)
			later(4500 * time.Millisecond)
			e[0].cut.Store(false)
			o.get()
			if strict && (o.err != ErrLeaseLost || at < 3*time.Second || at > 3300*time.Millisecond) {
				t.Errorf("got %v at %v, want %v after a lease", o.err, at, ErrLeaseLost)
			}
			if !strict && (o.v != "v" || cause != nil || o.info.Unpublished || o.info.Stale) {
				t.Errorf("got %q, %v, %+v, cause %v, want v", o.v, o.err, o.info, cause)
			}
			left(t, e[0], g...)
		})
	}
}

// TestMaxTakeovers: a key with which one process after the other dies is given up, with an
// error for those that wait and, for 30 seconds, for newcomers.
func TestMaxTakeovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(5, nil)
		var w work
		poison := func(e *faulty) func(context.Context) (string, error) {
			return func(context.Context) (string, error) {
				w.n.Add(1)
				e.cut.Store(true) // it dies
				time.Sleep(time.Minute)
				return "dead", nil
			}
		}
		var calls []*outcome
		for i := range g {
			calls = append(calls, call(t.Context(), g[i], "k", poison(e[i])))
			later(0)
		}
		later(4 * 3300 * time.Millisecond)
		last := -1
		for i := range g {
			if !e[i].cut.Load() {
				last = i
			}
		}
		if w.n.Load() != 4 || last < 0 {
			t.Fatalf("got %d executions, want 4", w.n.Load())
		}
		o := calls[last].get()
		if !errors.Is(o.err, ErrTakeovers) || o.info != (Info{}) || o.took < 4*3150*time.Millisecond || o.took > 4*3300*time.Millisecond {
			t.Errorf("got %v, %+v after %v, want %v after four leases", o.err, o.info, o.took, ErrTakeovers)
		}
		later(o.took + 29*time.Second - 4*3300*time.Millisecond)
		o = call(t.Context(), g[last], "k", w.after(time.Second, "v")).get()
		if !errors.Is(o.err, ErrTakeovers) || o.took != 0 {
			t.Errorf("got %v after %v, want %v at once", o.err, o.took, ErrTakeovers)
		}
		later(time.Second)
		call(t.Context(), g[last], "k", w.after(time.Second, "v")).is(t, "v", Led)
		if st := g[last].Stats(); st.Refused != 2 {
			t.Errorf("got %+v, want two that were refused", st)
		}
	})
}

// TestMaxTakeovers_Forget: Forget ends that at once.
func TestMaxTakeovers_Forget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, func(g *group) { g.MaxTakeovers = 1 })
		var w work
		for i := range g[:2] {
			call(t.Context(), g[i], "k", w.after(time.Minute, "dead"))
			later(0)
			if i == 0 {
				e[0].cut.Store(true)
			}
		}
		later(3400 * time.Millisecond)
		e[1].cut.Store(true)
		if o := call(t.Context(), g[2], "k", w.after(0, "v")).get(); !errors.Is(o.err, ErrTakeovers) {
			t.Errorf("got %q, %v, want %v", o.v, o.err, ErrTakeovers)
		}
		if ok, err := g[2].Forget(t.Context(), "k"); !ok || err != nil {
			t.Errorf("got %t, %v, want true", ok, err)
		}
		call(t.Context(), g[2], "k", w.after(0, "v")).is(t, "v", Led)
	})
}

// TestAcquire_TooLate: an acquiring swap that is answered later than a lease after it was
// sent does not lead: the lease may be another's by now.
func TestAcquire_TooLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, func(g *group) { g.Grace = time.Minute })
		n := 0
		e[0].swap = func(_ context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
			got, err := do()
			if n++; n == 1 {
				time.Sleep(3 * time.Second) // the process was stopped
			}
			return got, err
		}
		var w work
		o := call(t.Context(), g[0], "k", w.after(time.Second/2, "v"))
		o.is(t, "v", Led)
		o.between(t, 3500*time.Millisecond, 3500*time.Millisecond)
		if n != 4 { // lease, Released, lease, result
			t.Errorf("got %d swaps, want 4", n)
		}
	})
}

// TestAcquire_Ambiguous: an acquiring swap that was made and not answered does not block
// its own second try, and the lease counts from the first.
func TestAcquire_Ambiguous(t *testing.T) {
	for _, joined := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, nil)
			n := 0
			e[0].swap = func(ctx context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
				if n++; n == 1 {
					do()
					<-ctx.Done()
					return Record{}, errCut
				}
				return do()
			}
			var w work
			o := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
			if joined {
				later(0)
				call(t.Context(), g[1], "k", w.after(time.Second, "other")).is(t, "v", Followed)
			}
			o.is(t, "v", Led)
			o.between(t, 1270*time.Millisecond, 1300*time.Millisecond)
			if o.info.Takeovers != 0 {
				t.Errorf("got %+v, want no takeover", o.info)
			}
			w.ran(t, 1)
			left(t, e[0], g...)
		})
	}
}

// TestPublish_Ambiguous: so with the swap of a result, and with a renewal that is under way
// when fn ends: publishing cuts it off and goes on from its revision.
func TestPublish_Ambiguous(t *testing.T) {
	tests := map[string]func(rec record) bool{
		"result":  func(rec record) bool { return rec.kind == result },
		"renewal": func(rec record) bool { return rec.kind == lease && rec.token != 0 },
	}
	for name, is := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, e := processes(2, nil)
				n := 0
				e[0].swap = func(ctx context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
					if is(rec) {
						if n++; n == 1 {
							do()
							<-ctx.Done()
							return Record{}, errCut
						}
					}
					return do()
				}
				var w work
				// The first renewal is under way when fn ends.
				a := call(t.Context(), g[0], "k", w.after(1100*time.Millisecond, "v"))
				later(0)
				b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
				b.is(t, "v", Followed)
				b.between(t, 1100*time.Millisecond, 1400*time.Millisecond)
				a.is(t, "v", Led)
				a.between(t, 1100*time.Millisecond, 1400*time.Millisecond)
				if a.info.Unpublished || a.info.Stale {
					t.Errorf("got %+v, want a result that is stored", a.info)
				}
				w.ran(t, 1)
				left(t, e[0], g...)
			})
		})
	}
}

// TestLostData: the engine loses its data. The leader writes its lease again, who waits
// goes on waiting, and gets the value.
func TestLostData(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(1200 * time.Millisecond)
		e[0].mu.Lock()
		clear(e[0].records)
		e[0].mu.Unlock()
		later(time.Second)
		if h, err := g[1].Peek(t.Context(), "k"); err != nil || !h.Leads || h.Process != "a" || h.Token == 0 {
			t.Errorf("got %+v, %v, want the lease of a", h, err)
		}
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		if a.info.Token != b.info.Token {
			t.Errorf("got tokens %d and %d, want one", a.info.Token, b.info.Token)
		}
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestLostData_AtTheEnd: so it is if they are lost just before fn returns.
func TestLostData_AtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(500*time.Millisecond, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(400 * time.Millisecond)
		e[0].mu.Lock()
		clear(e[0].records)
		e[0].mu.Unlock()
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestPushesLost: a push that is lost costs 50 ms if it was the first, or 1.25 heartbeats.
func TestPushesLost(t *testing.T) {
	for _, test := range []struct{ fn, took time.Duration }{
		{20 * time.Millisecond, 50 * time.Millisecond},
		{1100 * time.Millisecond, 1300 * time.Millisecond},
		{time.Second, 1300 * time.Millisecond},
	} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, nil)
			e[1].mute.Store(true)
			var w work
			call(t.Context(), g[0], "k", w.after(test.fn, "v"))
			later(0)
			o := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
			o.is(t, "v", Followed)
			o.between(t, test.took, test.took)
			if st := g[1].Stats(); st.PushMisses == 0 {
				t.Errorf("got %+v, want a push that was missed", st)
			}
			w.ran(t, 1)
		})
	}
}

// TestAcquire_TooLateAndReplaced: nor does it replace the lease of the process that has
// taken over meanwhile.
func TestAcquire_TooLateAndReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Grace = time.Minute })
		n := 0
		e[0].swap = func(_ context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			got, err := do()
			if n++; n == 1 {
				time.Sleep(4 * time.Second) // the process was stopped
			}
			return got, err
		}
		var w work
		a := call(t.Context(), g[0], "k", w.after(time.Second/2, "own"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(2*time.Second, "v"))
		b.is(t, "v", Led)
		a.is(t, "v", Followed)
		w.ran(t, 1)
		if st := g[1].Stats(); st.Lost != 0 {
			t.Errorf("got %+v, want no lease that was lost", st)
		}
	})
}

// TestLostData_PushesLost: so it does if a follower reads before the leader has written the
// record again: there is nothing, and the leader may live.
func TestLostData_PushesLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		e[1].mute.Store(true)
		var w work
		a := call(t.Context(), g[0], "k", w.after(4500*time.Millisecond, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(1200 * time.Millisecond) // it reads at 1.3 s
		e[0].mu.Lock()
		clear(e[0].records)
		e[0].mu.Unlock()
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		w.ran(t, 1)
	})
}

// A sleeper is the clock of a machine that has slept for some time: that clock stood still.
type sleeper struct {
	monotonic
	slept time.Duration
}

func (c *sleeper) now() time.Duration { return c.monotonic.now() - c.slept }

// TestAcquire_AfterSleep: a machine that sleeps while it acquires does not know by its clock
// that its lease has expired, but by the time of day.
func TestAcquire_AfterSleep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		c := &sleeper{monotonic: monotonic{time.Now()}}
		g[0].clock = c
		n := 0
		e[0].swap = func(_ context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			got, err := do()
			if n++; n == 1 {
				time.Sleep(4 * time.Second)
				c.slept = 4 * time.Second
			}
			return got, err
		}
		var w work
		a := call(t.Context(), g[0], "k", w.after(time.Second/2, "own"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(2*time.Second, "v"))
		b.is(t, "v", Led)
		a.is(t, "v", Followed)
		w.ran(t, 1)
	})
}
