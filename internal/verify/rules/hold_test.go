package rules_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// The row of the state table for a flight that is held and has no caller is in
// TestStateTable.

// ownForms are those that give fn a context of its flight.
var ownForms = kit.Forms[2:]

// wantEnd checks how a context that fn was given has ended; a nil cause means that it has
// not.
func wantEnd(t *testing.T, ctx context.Context, cause error) {
	t.Helper()
	if ended := ctx.Err() != nil; ended != (cause != nil) || context.Cause(ctx) != cause {
		t.Errorf("fn's context: got %v with cause %v, want cause %v", ctx.Err(), context.Cause(ctx), cause)
	}
}

// wantAtRest checks that nothing is left of any call.
func wantAtRest(t *testing.T, g *kit.Group) {
	t.Helper()
	if err := storm.AtRest(g); err != nil {
		t.Error(err)
	}
}

// TestG18_GoesOn: a flight that is held goes on though all callers have left, and those
// that come later join it.
func TestG18_GoesOn(t *testing.T) {
	for _, lead := range ownForms {
		for _, join := range kit.Joining {
			t.Run(lead.Name+"/"+join.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					h, ctx := kit.HoldAlone(t, &g, lead)
					for range 2 {
						for f := range g.Flights() {
							if f.State != coalesce.StateRunning || f.Waiters != 0 || f.Forgotten {
								t.Errorf("got %+v, want a running flight without waiters", f)
							}
						}
						wantEnd(t, ctx, nil)
						kit.JoinAndLeave(t, &g, kit.Leaving[0])
					}
					a, _ := kit.Go(t.Context(), join, &g, "k", kit.CtxValue(2))
					synctest.Wait()
					if n := kit.WaitersOf(&g, "k"); n != 1 {
						t.Errorf("got %d waiters, want the one that has joined", n)
					}
					close(h.Release)
					synctest.Wait()
					if a.V != 1 || !a.Shared || a.Err != nil {
						t.Errorf("got %+v, want the result of the flight that was held, shared", a)
					}
					wantEnd(t, ctx, nil) // a call got the result
					want := coalesce.Stats{Calls: 4, Led: 1, Joined: 3, Left: 3}
					if st := g.Stats(); st != want {
						t.Errorf("got %+v, want %+v", st, want)
					}
					wantAtRest(t, &g)
				})
			})
		}
	}
}

// TestG18_AnotherComes: a caller leaves early and another comes, while fn takes 200 ms:
// there is one execution, and the second caller waits for no other.
func TestG18_AnotherComes(t *testing.T) {
	for _, f := range []kit.Form{kit.Forms[2], kit.Forms[3], kit.Forms[5]} {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				began, runs := time.Now(), 0
				fn := func(ctx context.Context) (int, error) {
					coalesce.Hold(ctx)
					runs++
					select {
					case <-time.After(200 * time.Millisecond):
						return 1, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				}
				first, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				a := f.Call(first, &g, "k", fn)
				if a.Err != context.DeadlineExceeded || a.At.Sub(began) != 50*time.Millisecond {
					t.Errorf("got %+v after %v, want the first to leave at 50 ms", a, a.At.Sub(began))
				}
				time.Sleep(50 * time.Millisecond)
				b := f.Call(t.Context(), &g, "k", fn)
				if b.V != 1 || b.Err != nil || b.At.Sub(began) != 200*time.Millisecond {
					t.Errorf("got %+v after %v, want the second to have 1 at 200 ms", b, b.At.Sub(began))
				}
				if runs != 1 {
					t.Errorf("got %d executions, want 1", runs)
				}
			})
		})
	}
}

// TestG18_EndsUnclaimed: if a flight that is held has no caller when it finishes, fn's
// context ends then, however fn ends, and not before. By then the flight is over.
func TestG18_EndsUnclaimed(t *testing.T) {
	logs := kit.CaptureLog(t)
	for name, end := range map[string]func() (int, error){
		"returns": func() (int, error) { return 1, nil },
		"fails":   func() (int, error) { return 0, kit.ErrTest },
		"panics":  func() (int, error) { panic("only the hold sees it") },
		"exits":   func() (int, error) { runtime.Goexit(); return 0, nil },
	} {
		for _, f := range ownForms {
			t.Run(name+"/"+f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					logs.Reset()
					var g kit.Group
					h, ctx := kit.HoldAloneTo(t, &g, f, end)
					child, cancel := context.WithCancel(context.WithValue(ctx, kit.CtxKey{}, 1))
					defer cancel()
					left := -1
					context.AfterFunc(child, func() { left = g.Len() })
					time.Sleep(time.Hour)
					wantEnd(t, child, nil)
					close(h.Release)
					synctest.Wait()
					wantEnd(t, ctx, context.Canceled)
					wantEnd(t, child, context.Canceled)
					if left != 0 {
						t.Errorf("got %d flights when the context ended, want none", left)
					}
					st, n := g.Stats(), strings.Count(logs.String(), "only the hold sees it")
					if panics := st.Panics; st.PanicsLogged != panics || n != int(panics) || st.Abandoned != 0 {
						t.Errorf("got %d log entries and %+v, want each panic logged", n, st)
					}
					wantAtRest(t, &g)
				})
			})
		}
	}
}

// TestG18_Late: a hold of a flight that is abandoned or has finished has no effect.
func TestG18_Late(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				var given context.Context
				caller, leave := context.WithCancelCause(t.Context())
				kit.Go(caller, f, &g, "k", func(ctx context.Context) (int, error) {
					given = ctx
					<-ctx.Done()
					time.Sleep(time.Second)
					return 1, nil
				})
				synctest.Wait()
				leave(kit.ErrTest)
				synctest.Wait()
				if coalesce.Hold(given) {
					t.Error("got true for a flight that is abandoned, want false")
				}
				if n := kit.CountState(&g, coalesce.StateAbandoned); n != 1 {
					t.Errorf("got %d abandoned flights, want 1", n)
				}
				time.Sleep(time.Second)
				wantEnd(t, given, kit.ErrTest)
				if coalesce.Hold(given) {
					t.Error("got true for an abandoned flight that has finished, want false")
				}

				f.Call(t.Context(), &g, "k", func(ctx context.Context) (int, error) { given = ctx; return 1, nil })
				if coalesce.Hold(given) {
					t.Error("got true for a flight that has finished, want false")
				}
				wantEnd(t, given, nil)
			})
		})
	}
}

// TestG18_WhichContexts: each context that comes from fn's holds the flight, even if it
// has ended, but a detached one does not, nor does one that comes from no fn.
func TestG18_WhichContexts(t *testing.T) {
	type derive func(ctx context.Context) context.Context
	for name, tt := range map[string]struct {
		derive derive
		want   bool
	}{
		"fn's":          {func(ctx context.Context) context.Context { return ctx }, true},
		"WithValue":     {func(ctx context.Context) context.Context { return context.WithValue(ctx, kit.CtxKey{}, 1) }, true},
		"WithoutCancel": {context.WithoutCancel, true},
		"WithTimeout": {func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
			cancel()
			return ctx
		}, true},
		"detached": {coalesce.Detach, false},
		"detached, WithCancel": {func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(coalesce.Detach(ctx))
			defer cancel()
			return ctx
		}, false},
		"another": {func(context.Context) context.Context { return context.Background() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				var given context.Context
				caller, leave := context.WithCancelCause(t.Context())
				kit.Go(caller, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
					given = ctx
					if got := coalesce.Hold(tt.derive(ctx)); got != tt.want {
						t.Errorf("Hold: got %v, want %v", got, tt.want)
					}
					time.Sleep(time.Second)
					return 1, nil
				})
				synctest.Wait()
				leave(kit.ErrTest)
				synctest.Wait()
				if tt.want {
					wantEnd(t, given, nil)
				} else {
					wantEnd(t, given, kit.ErrTest)
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// TestG18_NilContext: a nil context is misuse.
func TestG18_NilContext(t *testing.T) {
	defer func() {
		if r := recover(); r != "coalesce: nil context" {
			t.Errorf("got panic %v, want coalesce: nil context", r)
		}
	}()
	var ctx context.Context
	coalesce.Hold(ctx)
}

// TestG18_Nested: the context of an inner fn holds the inner flight, that of an fn on its
// caller's goroutine the outer one.
func TestG18_Nested(t *testing.T) {
	for _, inner := range kit.Forms {
		t.Run(inner.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g, in kit.Group
				var outerCtx, innerCtx context.Context
				caller, leave := context.WithCancelCause(t.Context())
				release := make(chan struct{})
				kit.Go(caller, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
					outerCtx = ctx
					fn := func(ctx context.Context) (int, error) {
						innerCtx = ctx
						<-release
						return 1, nil
					}
					switch inner.Name {
					case "Do":
						_, _, err := in.Do("in", func() (int, error) { return fn(ctx) })
						return 1, err
					case "DoContext background": // a context that cannot end
						_, _, err := in.DoContext(context.WithoutCancel(ctx), "in", fn)
						return 1, err
					}
					return 1, inner.Call(ctx, &in, "in", fn).Err
				})
				synctest.Wait()
				own := inner.Name != "Do" && inner.Name != "DoContext background"
				if !coalesce.Hold(innerCtx) {
					t.Error("got false, want true")
				}
				leave(kit.ErrTest)
				synctest.Wait()
				if own { // the outer is abandoned, which the inner fn's caller sees, too
					wantEnd(t, outerCtx, kit.ErrTest)
					if n := kit.CountState(&in, coalesce.StateRunning); n != 1 {
						t.Errorf("got %d inner flights that run, want 1", n)
					}
				}
				wantEnd(t, innerCtx, nil)
				if n := kit.CountState(&g, coalesce.StateAbandoned); n != 0 {
					t.Errorf("got %d outer flights that are abandoned, want none", n)
				}
				close(release)
				synctest.Wait()
				wantAtRest(t, &g)
				wantAtRest(t, &in)
			})
		})
	}
}

// TestG18_NoCall: a hold is no call. It does not make a result shared, and MaxWaiters
// does not count it.
func TestG18_NoCall(t *testing.T) {
	cloned := 0
	for _, f := range ownForms {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{MaxWaiters: 1, Clone: func(v int) int { cloned++; return v }}
			h := kit.Hold()
			var wg sync.WaitGroup
			a, _ := kit.Go(t.Context(), f, &g, "k", func(ctx context.Context) (int, error) {
				for range 3 {
					wg.Go(func() { coalesce.Hold(ctx) })
				}
				wg.Wait()
				return h.Fn(1)()
			})
			<-h.Started
			if n := kit.WaitersOf(&g, "k"); n != 0 {
				t.Errorf("%s: got %d waiters, want none", f.Name, n)
			}
			close(h.Release)
			synctest.Wait()
			if a.V != 1 || a.Shared || a.Err != nil || cloned != 0 {
				t.Errorf("%s: got %+v and %d clones, want 1, not shared, and none", f.Name, a, cloned)
			}
			if st := g.Stats(); st != (coalesce.Stats{Calls: 1, Led: 1}) {
				t.Errorf("%s: got %+v, want one call that led", f.Name, st)
			}

			h, _ = kit.HoldAlone(t, &g, f)
			joined, _ := kit.Go(t.Context(), kit.Forms[2], &g, "k", kit.CtxValue(2))
			synctest.Wait()
			if _, _, err := g.DoContext(t.Context(), "k", kit.CtxValue(3)); err != coalesce.ErrSaturated {
				t.Errorf("%s: got error %v beside a waiter, want ErrSaturated", f.Name, err)
			}
			close(h.Release)
			synctest.Wait()
			if joined.V != 1 || !joined.Shared || cloned != 1 {
				t.Errorf("%s: got %+v and %d clones, want 1, shared, a clone", f.Name, joined, cloned)
			}
			cloned = 0
		})
	}
}

// TestG18_Refused: a call that is refused because it waits for itself, and that is the
// last caller to leave, does not abandon a flight that is held.
func TestG18_Refused(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				var given context.Context
				h, release := kit.Hold(), make(chan struct{})
				caller, leave := context.WithCancel(t.Context())
				kit.Go(caller, f, &g, "k", func(ctx context.Context) (int, error) {
					given = ctx
					coalesce.Hold(ctx)
					_, _ = h.Fn(0)()
					_, _, err := g.DoContext(ctx, "k", kit.CtxValue(2))
					if !errors.Is(err, coalesce.ErrDeadlock) {
						t.Errorf("got error %v, want a deadlock", err)
					}
					<-release
					return 1, nil
				})
				<-h.Started
				leave()
				synctest.Wait()
				close(h.Release)
				time.Sleep(time.Second)
				wantEnd(t, given, nil)
				if st := g.Stats(); kit.CountState(&g, coalesce.StateRunning) != 1 || st.Abandoned != 0 || st.Rejected != 1 {
					t.Errorf("got %+v, want a flight that runs and a call that was refused", st)
				}
				close(release)
				synctest.Wait()
				wantEnd(t, given, context.Canceled)
				wantAtRest(t, &g)
			})
		})
	}
}

// A lateCause is a context that takes its time to report why it has ended.
type lateCause struct {
	context.Context
	until <-chan struct{}
}

func (c lateCause) Value(key any) any {
	if c.Err() != nil {
		<-c.until
	}
	return c.Context.Value(key)
}

// TestG18_AbandonedHasItsCause: if an abandoned flight, which is not held, finishes
// before its context has ended, that context still ends with the cause of the caller's.
func TestG18_AbandonedHasItsCause(t *testing.T) {
	for _, f := range ownForms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h := kit.Hold()
				var given context.Context
				caller, leave := context.WithCancelCause(t.Context())
				until := make(chan struct{})
				kit.Go(lateCause{caller, until}, f, &g, "k", func(ctx context.Context) (int, error) {
					given = ctx
					return h.Fn(1)()
				})
				synctest.Wait()
				leave(kit.ErrTest)
				synctest.Wait()
				if n := kit.CountState(&g, coalesce.StateAbandoned); n != 1 {
					t.Errorf("got %d abandoned flights, want 1", n)
				}
				close(h.Release)
				synctest.Wait()
				if g.Len() != 0 || given.Err() != nil {
					t.Errorf("got %d flights and error %v, want a flight that has finished first", g.Len(), given.Err())
				}
				close(until)
				synctest.Wait()
				wantEnd(t, given, kit.ErrTest)
			})
		})
	}
}

// TestG18_Bubbles: flights are held in bubbles, one after another, and outside.
func TestG18_Bubbles(t *testing.T) {
	var g kit.Group
	once := func(t *testing.T) {
		started, release := make(chan context.Context), make(chan struct{})
		caller, leave := context.WithCancel(t.Context())
		before := g.Stats().Left
		go func() {
			ctx := <-started
			leave()
			for g.Stats().Left == before {
				time.Sleep(time.Millisecond)
			}
			wantEnd(t, ctx, nil)
			close(release)
		}()
		ended := make(chan struct{})
		_, _, err := g.DoContext(caller, "k", func(ctx context.Context) (int, error) {
			coalesce.Hold(ctx)
			context.AfterFunc(ctx, func() { close(ended) })
			started <- ctx
			<-release
			return 1, nil
		})
		if err != context.Canceled {
			t.Errorf("got error %v, want that of a caller that has left", err)
		}
		<-ended
	}
	for range 2 {
		synctest.Test(t, once)
		once(t)
	}
}

// TestG18_OrAbandoned: of a Hold and the leaving of the last caller at the same moment,
// one is first: the flight is held and its context does not end while fn runs, or it is
// abandoned and its context ends.
func TestG18_OrAbandoned(t *testing.T) {
	var g kit.Group
	for i := range 2000 {
		f := ownForms[i%len(ownForms)]
		caller, leave := context.WithCancelCause(context.Background())
		wrong := make(chan string, 1)
		f.Call(caller, &g, "k", func(ctx context.Context) (int, error) {
			var wg sync.WaitGroup
			wg.Go(func() { leave(kit.ErrTest) })
			holds := coalesce.Hold(ctx)
			wg.Wait()
			for g.Stats().Left < uint64(i+1) {
				runtime.Gosched()
			}
			switch n := kit.CountState(&g, coalesce.StateAbandoned); {
			case holds && (n != 0 || ctx.Err() != nil):
				wrong <- "held, and abandoned or ended"
			case !holds && n != 1:
				wrong <- "neither held nor abandoned"
			case !holds:
				<-ctx.Done()
				if cause := context.Cause(ctx); !errors.Is(cause, kit.ErrTest) {
					wrong <- "ended with another cause"
				}
			}
			close(wrong)
			return 1, nil
		})
		if s := <-wrong; s != "" {
			t.Fatalf("%s: got a flight that is %s, want one that is either held or abandoned", f.Name, s)
		}
		for g.Len() != 0 { // fn has reported, and is about to return
			runtime.Gosched()
		}
	}
}
