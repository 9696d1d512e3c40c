package rules_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the time for which LingerFor lets an outcome linger.

// livesFor returns a LingerFor that returns value seconds for a value, and failure
// seconds for an error.
func livesFor(value, failure int) func(int, error) time.Duration {
	return func(_ int, err error) time.Duration {
		if err != nil {
			return time.Duration(failure) * time.Second
		}
		return time.Duration(value) * time.Second
	}
}

// returning returns an fn with these results.
func returning(v int, err error) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return v, err }
}

// TestLingerFor_Answers: an outcome answers each form but DoFresh with its value and its
// error, for the time that LingerFor returned, and not a nanosecond longer.
func TestLingerFor_Answers(t *testing.T) {
	for _, form := range kit.Forms {
		for _, end := range []error{nil, errLinger} {
			t.Run(fmt.Sprint(form.Name, ", ", end), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{LingerFor: livesFor(3, 2)}
					life := 3 * time.Second
					if end != nil {
						life = 2 * time.Second
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if a := form.Call(ctx, &g, "k", returning(1, end)); a.V != 1 || a.Shared || a.Err != end {
						t.Fatalf("leader: got %+v, want 1, not shared, %v", a, end)
					}
					time.Sleep(life - 1)
					want := kit.Answer{V: 1, Shared: true, Err: end}
					if form.Name == "DoFresh" {
						want = kit.Answer{V: 2}
					}
					if a := form.Call(ctx, &g, "k", returning(2, nil)); a.V != want.V || a.Shared != want.Shared || a.Err != want.Err {
						t.Errorf("while it lingers: got %+v, want %+v", a, want)
					}
					if form.Name == "DoFresh" {
						return
					}
					time.Sleep(time.Nanosecond)
					if a := form.Call(ctx, &g, "k", returning(3, nil)); a.V != 3 || a.Shared || a.Err != nil {
						t.Errorf("at its end: got %+v, want 3, not shared", a)
					}
				})
			})
		}
	}
}

// TestLingerFor_TryDo: it returns the lingering error.
func TestLingerFor_TryDo(t *testing.T) {
	g := kit.Group{LingerFor: livesFor(0, 1)}
	for range 2 {
		if v, err := g.TryDo("k", func() (int, error) { return 1, errLinger }); v != 1 || err != errLinger {
			t.Errorf("got %d, %v, want 1, %v", v, err, errLinger)
		}
	}
	if st := g.Stats(); st.Led != 1 || st.Lingered != 1 {
		t.Errorf("got %d led and %d lingered, want 1 and 1", st.Led, st.Lingered)
	}
}

// TestLingerFor_FailureHoldsOffOthers: of a hundred calls in one second one runs its fn
// and the others get its error; in the next second, one more runs.
func TestLingerFor_FailureHoldsOffOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{LingerFor: livesFor(60, 1)}
		runs := 0
		for second := 1; second <= 3; second++ {
			for range 100 {
				_, _, err := g.Do("feed", func() (int, error) { runs++; return 0, errLinger })
				if err != errLinger {
					t.Errorf("got %v, want %v", err, errLinger)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if runs != second {
				t.Errorf("got %d executions in %d seconds, want one in each", runs, second)
			}
		}
	})
}

// TestLingerFor_ExpiryIsInTheValue: a hundred callers that come when a token has expired
// share one execution.
func TestLingerFor_ExpiryIsInTheValue(t *testing.T) {
	type token struct{ expires time.Time }
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[string, token]{LingerFor: func(tok token, err error) time.Duration {
			return time.Until(tok.expires) - 10*time.Second
		}}
		var runs atomic.Int32
		load := func(context.Context) (token, error) {
			runs.Add(1)
			time.Sleep(time.Second)
			return token{time.Now().Add(time.Minute)}, nil
		}
		for want := int32(1); want <= 3; want++ {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					tok, _, err := g.DoContext(t.Context(), "k", load)
					if left := time.Until(tok.expires); left < 10*time.Second || err != nil {
						t.Errorf("got a token with %v left, %v, want 10s at least, nil", left, err)
					}
				})
			}
			wg.Wait()
			if got := runs.Load(); got != want {
				t.Errorf("got %d executions, want %d", got, want)
			}
			time.Sleep(50 * time.Second)
		}
	})
}

// TestLingerFor_AskedOnce: it is called once for each flight whose fn has returned, even
// if its outcome cannot linger, and never after a panic or a Goexit.
func TestLingerFor_AskedOnce(t *testing.T) {
	tests := map[string]struct {
		do    func(t *testing.T, g *kit.Group)
		asked int
		keeps bool // an outcome lingers afterwards
	}{
		"value": {func(t *testing.T, g *kit.Group) { g.Do("k", kit.Value(1)) }, 1, true},
		"error": {func(t *testing.T, g *kit.Group) { g.Do("k", func() (int, error) { return 0, errLinger }) }, 1, true},
		"panic": {func(t *testing.T, g *kit.Group) {
			kit.Forms[2].Call(t.Context(), g, "k", func(context.Context) (int, error) { panic("p") })
		}, 0, false},
		"Goexit": {func(t *testing.T, g *kit.Group) {
			kit.Forms[3].Call(contextThatCanEnd(t), g, "k", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		}, 0, false},
		"abandoned": {func(t *testing.T, g *kit.Group) { close(kit.Abandon(t, g, "k").Release) }, 1, false},
		"forgotten": {func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			g.Forget("k")
			close(h.Release)
		}, 1, false},
		"taken over": {func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			time.Sleep(time.Minute)
			kit.Forms[2].Call(contextThatCanEnd(t), g, "k", func(context.Context) (int, error) { panic("p") })
			close(h.Release)
		}, 1, false},
		"queued behind": {func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			kit.Go(t.Context(), kit.Forms[4], g, "k", func(context.Context) (int, error) { panic("p") })
			synctest.Wait()
			close(h.Release)
		}, 1, false},
		"after Shutdown": {func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			go g.Shutdown(context.Background())
			synctest.Wait()
			close(h.Release)
		}, 1, false},
		"joined": {func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			kit.Go(t.Context(), kit.Forms[2], g, "k", kit.CtxValue(0))
			synctest.Wait()
			close(h.Release)
		}, 1, true},
		"answered": {func(t *testing.T, g *kit.Group) { g.Do("k", kit.Value(1)); g.Do("k", kit.Value(1)) }, 1, true},
		"promoted": {func(t *testing.T, g *kit.Group) {
			h := kit.Abandon(t, g, "k")
			kit.Go(t.Context(), kit.Forms[0], g, "k", kit.CtxValue(1))
			synctest.Wait()
			close(h.Release)
		}, 2, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			logToNowhere(t)
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				g := kit.Group{MaxAge: time.Minute, LingerFor: func(int, error) time.Duration { asked++; return coalesce.Forever }}
				test.do(t, &g)
				synctest.Wait()
				if kept := g.Stats().Lingering > 0; asked != test.asked || kept != test.keeps {
					t.Errorf("got %d calls of LingerFor, lingering %t, want %d, %t", asked, kept, test.asked, test.keeps)
				}
			})
		})
	}
}

// TestLingerFor_NaN: it is called for a key that does not equal itself, whose outcome
// does not linger.
func TestLingerFor_NaN(t *testing.T) {
	asked := 0
	g := coalesce.Group[float64, int]{LingerFor: func(int, error) time.Duration { asked++; return coalesce.Forever }}
	g.Do(math.NaN(), kit.Value(1))
	g.DoMulti(t.Context(), []float64{math.NaN()}, nothingByFloat)
	if n := g.Stats().Lingering; asked != 2 || n != 0 {
		t.Errorf("got %d calls of LingerFor and %d lingering, want 2 and none", asked, n)
	}
}

// TestLingerFor_HowLong: a time of zero or less means not at all; the longest time means
// forever, and so does one that is too long for a sum with the clock.
func TestLingerFor_HowLong(t *testing.T) {
	for life, want := range map[time.Duration]bool{
		math.MinInt64: false, -1: false, 0: false, 1000 * time.Hour: true, coalesce.Forever - 1: true, coalesce.Forever: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{Linger: time.Hour, LingerFor: func(int, error) time.Duration { return life }}
			g.Do("k", kit.Value(1))
			time.Sleep(1000*time.Hour - 1)
			if _, shared, _ := g.Do("k", kit.Value(1)); shared != want {
				t.Errorf("%v: got lingering %t, want %t", life, shared, want)
			}
		})
	}
}

// TestLingerFor_CountsFromTheCall: the time counts from the call of LingerFor, which is a
// part of fn: other calls join meanwhile.
func TestLingerFor_CountsFromTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran time.Duration
		g := kit.Group{LingerFor: func(int, error) time.Duration { time.Sleep(time.Second); return 3 * time.Second }}
		g.Hooks.Finish = func(_ context.Context, e coalesce.Event[string]) { ran = e.Run }
		for i, form := range []kit.Form{kit.Forms[0], kit.Forms[2]} {
			key := fmt.Sprint(i)
			_, done := kit.Go(contextThatCanEnd(t), form, &g, key, kit.CtxValue(1))
			time.Sleep(time.Second / 2)
			a, doneA := kit.Go(t.Context(), kit.Forms[0], &g, key, kit.CtxValue(2))
			<-done
			<-doneA
			synctest.Wait() // for the hook
			if a.V != 1 || !a.Shared {
				t.Errorf("%s: a call during LingerFor: got %+v, want 1, shared", form.Name, *a)
			}
			if ran != time.Second {
				t.Errorf("%s: got an fn that ran %v, want 1s", form.Name, ran)
			}
			time.Sleep(2*time.Second - 1)
			if v, _, _ := g.Do(key, kit.Value(3)); v != 1 {
				t.Errorf("%s: just before its end: got %d, want 1", form.Name, v)
			}
			time.Sleep(time.Nanosecond)
			if v, _, _ := g.Do(key, kit.Value(3)); v != 3 {
				t.Errorf("%s: at its end: got %d, want 3", form.Name, v)
			}
		}
	})
}

// TestLingerFor_NotIfForgottenMeanwhile: an outcome does not linger if its flight is
// forgotten or abandoned while LingerFor runs.
func TestLingerFor_NotIfForgottenMeanwhile(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{LingerFor: func(int, error) time.Duration { time.Sleep(time.Second); return time.Hour }}
			ctx, cancel := context.WithCancel(t.Context())
			a, done := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(1))
			synctest.Wait()
			if forgotten {
				g.Forget("k")
			} else {
				cancel()
			}
			<-done
			time.Sleep(time.Second)
			synctest.Wait()
			if n := g.Stats().Lingering; n != 0 {
				t.Errorf("forgotten %t: got %d lingering, want none; the call got %+v", forgotten, n, *a)
			}
			cancel()
		})
	}
}

// TestLingerFor_MayUseTheGroup: it runs outside all locks.
func TestLingerFor_MayUseTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1}
		g.LingerFor = func(v int, _ error) time.Duration {
			if v == 1 {
				g.Do("other", kit.Value(2))
				g.Forget("other")
				g.Stats()
				for range g.Flights() {
				}
			}
			return time.Hour
		}
		for _, form := range kit.Forms {
			form.Call(contextThatCanEnd(t), &g, form.Name, kit.CtxValue(1))
		}
		if n := g.Stats().Lingering; n != uint64(len(kit.Forms)) {
			t.Errorf("got %d lingering, want %d", n, len(kit.Forms))
		}
	})
}

// TestLingerFor_Panics: a panic or a Goexit of LingerFor counts as one of fn, for all
// callers of the flight, and in a DoMulti for all keys that fn was called with.
func TestLingerFor_Panics(t *testing.T) {
	logToNowhere(t)
	for _, goexit := range []bool{false, true} {
		for _, form := range kit.Forms {
			t.Run(fmt.Sprintf("%s, Goexit %t", form.Name, goexit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ends := true
					g := kit.Group{LingerFor: func(int, error) time.Duration {
						switch {
						case ends && goexit:
							runtime.Goexit()
						case ends:
							panic("LingerFor")
						}
						return time.Hour
					}}
					h := kit.Hold()
					a, done := kit.Go(contextThatCanEnd(t), form, &g, "k", h.CtxFn(1))
					<-h.Started
					b, doneB := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(2))
					synctest.Wait()
					close(h.Release)
					<-done
					<-doneB
					st := g.Stats()
					if goexit {
						inline := form.Name == "Do" || form.Name == "DoContext background"
						if a.V != 0 || a.Err == nil || !inline && a.Err != coalesce.ErrGoexit || b.Err != coalesce.ErrGoexit || st.Goexits != 1 {
							t.Errorf("got %+v and %+v, %d Goexits, want ErrGoexit for both, 1", *a, *b, st.Goexits)
						}
					} else {
						for _, a := range []*kit.Answer{a, b} {
							e, _ := a.Panic.(*coalesce.PanicError)
							if e == nil && !errors.As(a.Err, &e) || e.Value != "LingerFor" || a.V != 0 {
								t.Errorf("got %+v, want the panic of LingerFor", *a)
							}
						}
						if st.Panics != 1 {
							t.Errorf("got %d panics counted, want 1", st.Panics)
						}
					}
					if st.Lingering != 0 || g.Len() != 0 {
						t.Errorf("got %d lingering, Len %d, want none, 0", st.Lingering, g.Len())
					}
					ends = false
					if v, _, err := g.Do("k", kit.Value(3)); v != 3 || err != nil {
						t.Errorf("then: got %d, %v, want 3", v, err)
					}
				})
			})
		}
	}
}

// TestLingerFor_PanicNil: under GODEBUG=panicnil=1, a panic(nil) of LingerFor counts as a
// Goexit, and the leader does not get the results of fn.
func TestLingerFor_PanicNil(t *testing.T) {
	t.Setenv("GODEBUG", "panicnil=1")
	g := kit.Group{LingerFor: func(int, error) time.Duration { panic(nil) }}
	if v, _, err := g.Do("k", kit.Value(1)); v != 0 || err != coalesce.ErrGoexit {
		t.Errorf("Do: got %d, %v, want 0, %v", v, err, coalesce.ErrGoexit)
	}
	if v, _, err := g.DoContext(contextThatCanEnd(t), "k", kit.CtxValue(1)); v != 0 || err != coalesce.ErrGoexit {
		t.Errorf("DoContext: got %d, %v, want 0, %v", v, err, coalesce.ErrGoexit)
	}
}

// TestLingerFor_Held: the context of a held flight that finishes without callers does not
// end if its outcome lingers, even if that is an error or absence, in a batch or for a
// queued key.
func TestLingerFor_Held(t *testing.T) {
	for _, queued := range []bool{false, true} {
		for _, end := range []error{coalesce.ErrAbsent, errLinger} {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{LingerFor: livesFor(60, 60)}
				if queued {
					h := kit.Abandon(t, &g, "k")
					time.AfterFunc(time.Second, func() { close(h.Release) })
				}
				ctx, leave := context.WithCancel(t.Context())
				var fnCtx context.Context
				_, done := goMulti(ctx, &g, func(ctx context.Context, _ []string) (map[string]int, error) {
					fnCtx = ctx
					coalesce.Hold(ctx)
					time.Sleep(time.Second)
					if end == coalesce.ErrAbsent {
						return nil, nil
					}
					return nil, end
				}, "k")
				time.Sleep(time.Second + time.Millisecond)
				leave()
				<-done
				time.Sleep(time.Second)
				synctest.Wait()
				if _, shared, err := g.Do("k", kit.Value(1)); err != end || !shared || fnCtx.Err() != nil {
					t.Errorf("queued %t: got %t, %v and fn's context with error %v, want true, %v and a live one", queued, shared, err, fnCtx.Err(), end)
				}
			})
		}
	}
}

// TestLingerFor_Clone: the value of an outcome is cloned even if it comes with an error,
// for the callers of its flight and for calls that it answers later; the zero value of an
// absent key is not cloned.
func TestLingerFor_Clone(t *testing.T) {
	for _, form := range kit.Forms {
		clones := 0
		g := kit.Group{LingerFor: livesFor(60, 60), Clone: func(v int) int { clones++; return v }}
		for i := range 3 {
			a := form.Call(contextThatCanEnd(t), &g, "k", returning(1, errLinger))
			if a.V != 1 || a.Err != errLinger || clones != i+1 {
				t.Errorf("%s: call %d: got %+v with %d clones, want 1, %v with %d", form.Name, i, a, clones, errLinger, i+1)
			}
		}
	}
	g := kit.Group{LingerFor: livesFor(60, 60), Clone: func(int) int { panic("a clone of nothing") }}
	absent := func(context.Context, []string) (map[string]int, error) { return nil, nil }
	g.DoMulti(t.Context(), []string{"k"}, absent)
	wantResults(t, "DoMulti", g.DoMulti(t.Context(), []string{"k"}, absent), results{"k": {Err: coalesce.ErrAbsent, Shared: true}})
	for _, form := range kit.Forms {
		if form.Name != "DoFresh" {
			if a := form.Call(t.Context(), &g, "k", kit.CtxValue(1)); a.V != 0 || a.Err != coalesce.ErrAbsent || a.Panic != nil {
				t.Errorf("%s: got %+v, want 0, %v", form.Name, a, coalesce.ErrAbsent)
			}
		}
	}
}

// TestLingerFor_Fresh: the end of a DoFresh drops an earlier lingering outcome, even if
// its own outcome does not linger.
func TestLingerFor_Fresh(t *testing.T) {
	for _, test := range []struct {
		v     int
		err   error
		want  int // the result of the next call
		keeps error
	}{{2, nil, 2, nil}, {3, errLinger, 3, errLinger}, {-1, nil, 9, nil}} {
		g := kit.Group{LingerFor: func(v int, _ error) time.Duration { return time.Duration(v) * time.Hour }}
		g.Do("k", kit.Value(1))
		g.DoFresh(t.Context(), "k", returning(test.v, test.err))
		if v, _, err := g.Do("k", kit.Value(9)); v != test.want || err != test.keeps {
			t.Errorf("after %d, %v: got %d, %v, want %d, %v", test.v, test.err, v, err, test.want, test.keeps)
		}
	}
}

// TestLingerFor_NoEvents: a call that a lingering outcome answers has no events.
func TestLingerFor_NoEvents(t *testing.T) {
	var events atomic.Int32
	count := func(context.Context, coalesce.Event[string]) { events.Add(1) }
	g := kit.Group{LingerFor: livesFor(60, 60), Hooks: coalesce.Hooks[string]{Join: count, Leave: count, Receive: count, Finish: count}}
	g.Do("k", func() (int, error) { return 1, errLinger })
	for _, form := range kit.Forms {
		if form.Name != "DoFresh" {
			form.Call(t.Context(), &g, "k", kit.CtxValue(2))
		}
	}
	if n := events.Load(); n != 1 {
		t.Errorf("got %d events, want 1, of the end", n)
	}
}

// TestLingerMax_LeastTimeLeft: a new outcome evicts the one with the least time left and,
// of equals, the oldest, even if the new one is the next to expire.
func TestLingerMax_LeastTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[int, int]{LingerMax: 3, LingerFor: func(v int, _ error) time.Duration { return time.Duration(v) * time.Second }}
		keep := func(key, life int) {
			g.DoFresh(t.Context(), key, func(context.Context) (int, error) { return life, nil })
		}
		want := func(keys ...int) {
			t.Helper()
			for key := range 10 {
				_, err := g.TryDo(key, func() (int, error) { return 0, errLinger }) // a failed probe does not linger
				if kept := err == nil; kept != slices.Contains(keys, key) {
					t.Errorf("%d: got lingering %t, want exactly %v to linger", key, kept, keys)
				}
			}
			if n := g.Stats().Lingering; n != uint64(len(keys)) {
				t.Errorf("got %d lingering, want %d", n, len(keys))
			}
		}
		keep(1, 30)
		keep(2, 10)
		keep(3, 20)
		want(1, 2, 3)
		keep(4, 5)
		want(1, 3, 4)
		keep(4, 20) // in its own place: no other is evicted
		want(1, 3, 4)
		keep(5, 40)
		want(1, 4, 5) // 3 was as near its end as 4, and is older
		keep(1, 20)
		keep(6, 40)
		want(1, 5, 6) // 4 is older than 1 by now
		if n := g.Stats().Evicted; n != 3 {
			t.Errorf("got %d evicted, want 3", n)
		}
		time.Sleep(20*time.Second + 1) // 1 has expired, and is not freed yet
		keep(7, 50)
		want(5, 6, 7)
		if n := g.Stats().Evicted; n != 3 {
			t.Errorf("got %d evicted, want 3: the last one had expired", n)
		}
	})
}

// TestG12_ExpiredIsFreed: in a quiet group, an outcome is freed within a second after its
// end or, if that is longer, within a sixteenth of its life, whichever other outcomes
// linger.
func TestG12_ExpiredIsFreed(t *testing.T) {
	seconds := []float64{100, 0.001, 3600, 1, 2.5, 0.000001, 30, 31, 1600, 40, 1, 86400, 5}
	for _, apart := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			g := coalesce.Group[int, time.Duration]{LingerFor: func(life time.Duration, _ error) time.Duration { return life }}
			var latest []time.Time // when each must have been freed
			check := func() {
				want := 0
				for _, at := range latest {
					if time.Now().Before(at) {
						want++
					}
				}
				synctest.Wait()
				if n := int(g.Stats().Lingering); n > want {
					t.Errorf("%v apart: got %d kept, want at most %d", apart, n, want)
				}
			}
			for key, s := range seconds {
				life := time.Duration(s * float64(time.Second))
				g.Do(key, func() (time.Duration, error) { return life, nil })
				latest = append(latest, time.Now().Add(life+max(time.Second, life/16)))
				time.Sleep(apart)
				check()
			}
			slices.SortFunc(latest, time.Time.Compare)
			for _, at := range slices.Clone(latest) {
				time.Sleep(time.Until(at))
				check()
			}
		})
	}
}

// TestG12_ExpiredIsCollected: the group has no reference to a value that has expired, or that
// was dropped, also if others of the group go on lingering.
func TestG12_ExpiredIsCollected(t *testing.T) {
	type value struct {
		life time.Duration
		_    *int // so that it does not share its memory with others, as tiny values do
	}
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[int, *value]{LingerFor: func(v *value, _ error) time.Duration { return v.life }}
		var expired []weak.Pointer[value]
		for key, life := range []time.Duration{coalesce.Forever, time.Second, time.Hour, time.Minute, 24 * time.Hour} {
			v := &value{life: life}
			if life != coalesce.Forever && life < 24*time.Hour {
				expired = append(expired, weak.Make(v))
			}
			g.Do(key, func() (*value, error) { return v, nil })
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		g.Forget(2) // of an hour
		runtime.GC()
		if n := g.Stats().Lingering; n != 2 {
			t.Errorf("got %d that linger, want 2", n)
		}
		for i, p := range expired {
			if p.Value() != nil {
				t.Errorf("got value %d of those that are over, want it collected", i)
			}
		}
	})
}

// TestLingerFor_Bubbles: a group in a package variable may be used in one bubble after
// another and outside: an outcome that was kept by the clock of one of them answers no
// call for longer than LingerFor has said, and is freed.
func TestLingerFor_Bubbles(t *testing.T) {
	g := coalesce.Group[string, time.Duration]{LingerFor: func(life time.Duration, _ error) time.Duration { return life }}
	keep := func(key string, life time.Duration) {
		g.Do(key, func() (time.Duration, error) { return life, nil })
	}
	keep("outside", 50*time.Millisecond)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			keep("bubble, short", time.Second)
			keep("bubble, long", time.Hour)
			time.Sleep(time.Second)
			synctest.Wait()
			if _, shared, _ := g.Do("bubble, short", func() (time.Duration, error) { return 0, nil }); shared {
				t.Error("in the bubble: got the outcome after its end, want none")
			}
			if _, shared, _ := g.Do("bubble, long", func() (time.Duration, error) { return 0, nil }); !shared {
				t.Error("in the bubble: got no outcome before its end, want one")
			}
		})
		keep("outside", 50*time.Millisecond)
		if _, shared, _ := g.Do("bubble, long", func() (time.Duration, error) { return 0, nil }); shared {
			t.Error("outside: got the outcome of a bubble, want none")
		}
		keep("outside too", 50*time.Millisecond)
	}
	for end := time.Now().Add(10 * time.Second); g.Stats().Lingering > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got %d kept, want none", g.Stats().Lingering)
		}
	}
}

// logToNowhere discards the log for the duration of the test.
func logToNowhere(t *testing.T) {
	old := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(old) })
}
