package rules_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds waits that look like a cycle and are none, and cycles that the search
// cannot see.

// within runs fn in a bubble, with the context of a flight of key "a" in g.
func within(t *testing.T, fn func(t *testing.T, g *kit.Group, ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		a, done := kit.Go(contextThatCanEnd(t), kit.Forms[2], &g, "a", func(ctx context.Context) (int, error) {
			fn(t, &g, ctx)
			return 1, nil
		})
		<-done
		if a.V != 1 || a.Err != nil {
			t.Errorf("got %+v, want 1", a)
		}
		time.Sleep(time.Second) // flights that others led may take longer
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
	})
}

// wantAnswer checks that a is an answer with the given value.
func wantAnswer(t *testing.T, a kit.Answer, v int) {
	t.Helper()
	if a.V != v || a.Err != nil || a.Panic != nil {
		t.Errorf("got %+v, want %d", a, v)
	}
}

// TestDeadlock_NotADiamond: two paths to one flight are no cycle.
func TestDeadlock_NotADiamond(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				var wg sync.WaitGroup
				for _, key := range []string{"b", "c", "b", "d"} {
					wg.Go(func() {
						a := f.Call(ctx, g, key, func(ctx context.Context) (int, error) {
							a := f.Call(ctx, g, "d", func(context.Context) (int, error) {
								time.Sleep(time.Second)
								return 4, nil
							})
							if key == "d" {
								wantCycle(t, a.Err, "d", "d")
								return 4, nil
							}
							return a.V, a.Err
						})
						wantAnswer(t, a, 4)
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestDeadlock_NotASlowCall: a long wait is no cycle, nor is a wait for a flight that
// other calls wait for.
func TestDeadlock_NotASlowCall(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				for _, by := range kit.Forms { // inline, too
					go by.Call(contextThatCanEnd(t), g, "slow", func(ctx context.Context) (int, error) {
						time.Sleep(time.Hour)
						return 5, nil
					})
					synctest.Wait()
					wantAnswer(t, f.Call(ctx, g, "slow", kit.CtxValue(5)), 5)
				}
			})
		})
	}
}

// TestDeadlock_NotAWaiterThatHasLeft: a no longer waits for b once its call has left, or
// once the context of the call has ended, even if the call has not woken up yet.
func TestDeadlock_NotAWaiterThatHasLeft(t *testing.T) {
	for _, f := range nested {
		for _, woken := range []bool{true, false} {
			t.Run(fmt.Sprint(f.Name, ", woken up: ", woken), func(t *testing.T) {
				if woken {
					testWaiterThatHasLeft(t, f, synctest.Wait)
					return
				}
				for range 20 {
					testWaiterThatHasLeft(t, f, func() {})
				}
			})
		}
	}
}

func testWaiterThatHasLeft(t *testing.T, f kit.Form, wake func()) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		leaving, leave := context.WithCancel(ctx)
		go func() { // led by a caller of its own, or it would be abandoned
			a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
				time.Sleep(time.Second)
				leave()
				wake()
				a := kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0))
				return a.V + 1, a.Err
			})
			wantAnswer(t, a, 2)
		}()
		synctest.Wait()
		if a := f.Call(leaving, g, "b", kit.CtxValue(0)); a.Err != context.Canceled {
			t.Errorf("got %+v, want %v", a, context.Canceled)
		}
		time.Sleep(time.Second)
	})
}

// TestDeadlock_NotAnAbandonedFlight: the fn of an abandoned flight counts as waiting no
// longer once its context has ended, so that a call may queue behind the flight.
func TestDeadlock_NotAnAbandonedFlight(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					ctx, cancel := context.WithCancel(t.Context())
					inA := make(chan context.Context, 1)
					b, done := kit.Go(contextThatCanEnd(t), kit.Forms[2], &g, "b", func(ctx context.Context) (int, error) {
						ended := <-inA
						cancel()
						<-ended.Done()
						a := kit.Forms[2].Call(ctx, &g, "a", kit.CtxValue(2))
						return a.V, a.Err
					})
					synctest.Wait()
					kit.Forms[2].Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
						go func() {
							synctest.Wait()
							inA <- ctx
						}()
						if a := f.Call(ctx, &g, "b", kit.CtxValue(0)); a.Err != context.Canceled {
							t.Errorf("got %+v, want %v", a, context.Canceled)
						}
						return 0, nil
					})
					<-done
					wantAnswer(t, *b, 2)
				})
			}
		})
	}
}

// TestDeadlock_NotAFinishedFlight: a flight that has finished waits for no call, and no
// call waits for it.
func TestDeadlock_NotAFinishedFlight(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				// The flight that a waited for calls for a when it runs again.
				wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(5)), 5)
				if f.Name != "DoFresh" {
					go func() {
						a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
							a := f.Call(ctx, g, "a", kit.CtxValue(0))
							return a.V, a.Err
						})
						wantAnswer(t, a, 1)
					}()
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// TestDeadlock_NotAGoroutineThatGoesOn: when fn has returned, a wait of one of its
// goroutines is no longer a wait of fn, whether it began before or after.
func TestDeadlock_NotAGoroutineThatGoesOn(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				var wg sync.WaitGroup
				second := func(ctx context.Context) (int, error) { return f.Call(ctx, &g, "c", kit.CtxValue(3)).V, nil }
				b := func(ctx context.Context) (int, error) {
					time.Sleep(time.Second)
					a := f.Call(ctx, &g, "a", second) // runs again
					return a.V, a.Err
				}
				wantAnswer(t, kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
					wg.Go(func() { wantAnswer(t, f.Call(ctx, &g, "b", b), 3) })
					wg.Go(func() {
						time.Sleep(time.Hour)
						wantAnswer(t, f.Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
							a := f.Call(ctx, &g, "b", b2(f, &g))
							return a.V, a.Err
						}), 4)
					})
					synctest.Wait()
					return 1, nil
				}), 1)
				wg.Wait()
			})
		})
	}
}

func b2(f kit.Form, g *kit.Group) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		a := f.Call(ctx, g, "c", kit.CtxValue(4))
		return a.V, a.Err
	}
}

// TestDeadlock_NotAForgottenFlight: a call for a key whose flight was forgotten, or has
// reached MaxAge, leads another flight and does not wait for the old one.
func TestDeadlock_NotAForgottenFlight(t *testing.T) {
	for _, f := range nested {
		for _, aged := range []bool{false, true} {
			if aged && f.Name == "DoFresh" {
				continue // it queues, see TestDeadlock_FreshInAnAgedFlight
			}
			t.Run(fmt.Sprint(f.Name, ", aged: ", aged), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{MaxAge: time.Minute}
					var old error
					a := kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
						time.Sleep(30 * time.Second)
						old = f.Call(ctx, &g, "a", kit.CtxValue(0)).Err
						if !aged {
							g.Forget("a")
						}
						time.Sleep(30 * time.Second)
						again := f.Call(ctx, &g, "a", func(ctx context.Context) (int, error) {
							// b waits for this one now.
							a := f.Call(ctx, &g, "b", func(ctx context.Context) (int, error) {
								a := f.Call(ctx, &g, "a", kit.CtxValue(0))
								wantCycle(t, a.Err, "b", "a", "b")
								return 6, nil
							})
							return a.V, a.Err
						})
						wantAnswer(t, again, 6)
						return 1, nil
					})
					wantAnswer(t, a, 1)
					wantCycle(t, old, "a", "a")
				})
			})
		}
	}
}

// TestDeadlock_FreshInAnAgedFlight: a wait that MaxAge ends is a cycle if it would last
// longer than 10 ms, and none otherwise.
func TestDeadlock_FreshInAnAgedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		wantAnswer(t, kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
			wantCycle(t, kit.Forms[4].Call(ctx, &g, "a", kit.CtxValue(0)).Err, "a", "a")
			time.Sleep(time.Minute - lookAfter - lookAfter/2)
			start := time.Now()
			wantAnswer(t, kit.Forms[4].Call(ctx, &g, "a", kit.CtxValue(2)), 2)
			if took := time.Since(start); took != lookAfter/2 {
				t.Errorf("got an answer after %v, want %v", took, lookAfter/2)
			}
			return 1, nil
		}), 1)
	})
}

// TestDeadlock_PromotedWaitsForNone: a successor that was promoted no longer waits for
// the forgotten flight.
func TestDeadlock_PromotedWaitsForNone(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		release := make(chan struct{})
		go g.DoFresh(t.Context(), "a", func(context.Context) (int, error) { <-release; return 2, nil })
		synctest.Wait()
		go func() {
			a := kit.Forms[2].Call(contextThatCanEnd(t), g, "b", func(ctx context.Context) (int, error) {
				a := kit.Forms[4].Call(ctx, g, "a", kit.CtxValue(0)) // joins the queue
				return a.V, a.Err
			})
			wantAnswer(t, a, 2)
		}()
		time.Sleep(2 * lookAfter) // the other has looked, and found no cycle
		wantCycle(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)).Err, "a", "b", "a")
		g.Forget("a")
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(release) })
		wantAnswer(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)), 2)
	})
}

// TestDeadlock_NotALingeringOutcome: a call that a lingering outcome answers does not wait.
func TestDeadlock_NotALingeringOutcome(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	_, _, _ = g.Do("a", kit.Value(5))
	_, _, _ = g.DoFresh(contextThatCanEnd(t), "a", func(ctx context.Context) (int, error) {
		for _, f := range nested {
			a := f.Call(ctx, &g, "a", kit.CtxValue(0))
			if f.Name == "DoFresh" {
				wantCycle(t, a.Err, "a", "a")
			} else {
				wantAnswer(t, a, 5)
			}
		}
		return 0, nil
	})
}

// TestDeadlock_RefusedLeavesNothing: a call that was refused leaves no waiter behind and
// counts as Rejected alone, and the next, which closes no cycle, is not refused.
func TestDeadlock_RefusedLeavesNothing(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		for _, f := range nested {
			before := g.Stats()
			for range 100 {
				wantCycle(t, f.Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
			}
			after := g.Stats()
			if before.Rejected += 100; before.Calls+100 != after.Calls || before.Rejected != after.Rejected || after.Joined != 0 || after.Left != 0 {
				t.Errorf("%s: got %+v after %+v, want 100 more Calls and Rejected", f.Name, after, before)
			}
			if !g.ForgetUnshared("b") || kit.WaitersOf(g, "a") != 0 {
				t.Errorf("%s: got %d waiters, want none", f.Name, kit.WaitersOf(g, "a"))
			}
			wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
		}
		if g.ForgetUnshared("a") {
			t.Error("ForgetUnshared: got true after refused calls, want false: they had joined")
		}
	})
}

// TestDeadlock_BlindToDo: an fn of Do has no context by which the search could find its
// calls.
func TestDeadlock_BlindToDo(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, shared, err := g.Do("k", func() (int, error) {
					a := f.Call(ctx, &g, "k", kit.CtxValue(0))
					if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
						t.Errorf("got %+v after %v, want %v after 1m", a, time.Since(start), context.DeadlineExceeded)
					}
					return 1, nil
				})
				if shared != (f.Name != "DoFresh") || err != nil {
					t.Errorf("got shared %v, %v, want %v, nil", shared, err, f.Name != "DoFresh")
				}
			})
		})
	}
}

// TestDeadlock_BlindThroughDo: a cycle in which a Do led one of the flights is not seen.
func TestDeadlock_BlindThroughDo(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		start := time.Now()
		limit, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go g.Do("b", func() (int, error) {
			time.Sleep(time.Second)
			a := kit.Forms[2].Call(limit, g, "a", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("got %+v after %v, want %v after 1m", a, time.Since(start), context.DeadlineExceeded)
			}
			return 2, nil
		})
		synctest.Wait()
		wantAnswer(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)), 2)
		if time.Since(start) != time.Minute {
			t.Errorf("got an answer after %v, want 1m", time.Since(start))
		}
	})
}

// TestDeadlock_BlindWithoutCancel: a DoContext that runs fn on its caller's goroutine
// gives it no context of its own. Its calls count as those of the fn around it, and no
// search finds the flight itself.
func TestDeadlock_BlindWithoutCancel(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		v, _, err := g.DoContext(context.WithoutCancel(ctx), "b", func(ctx context.Context) (int, error) {
			wantCycle(t, kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
			limit, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			start := time.Now()
			a := kit.Forms[2].Call(limit, g, "b", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("got %+v after %v, want %v after 1m", a, time.Since(start), context.DeadlineExceeded)
			}
			return 3, nil
		})
		if v != 3 || err != nil {
			t.Errorf("got %v, %v, want 3, nil", v, err)
		}
	})
}

// TestDeadlock_QueuedKeyThatHasLeft: a key of a DoMulti whose context had ended when its
// turn came is no longer waited for, though the call goes on for another key. The next
// call in the queue may wait for the caller.
func TestDeadlock_QueuedKeyThatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "q")
		h := holdLoader()
		var many *manyAnswer
		var manyDone <-chan struct{}
		strange := make(chan *kit.StrangeContext, 1)
		caller, _ := kit.Go(context.WithoutCancel(t.Context()), kit.Forms[3], &g, "x", func(ctx context.Context) (int, error) {
			s := &kit.StrangeContext{Context: ctx, StrangeErr: func() error { return kit.ErrTest }}
			many, manyDone = goMulti(s, &g, h.then(loads(0)), "q", "z")
			strange <- s
			<-manyDone
			return 5, nil
		})
		s := <-strange
		<-h.Started
		next, _ := kit.Go(t.Context(), kit.Forms[4], &g, "q", func(ctx context.Context) (int, error) {
			v, _, err := g.DoContext(ctx, "x", kit.CtxValue(0))
			return v + 1, err
		})
		synctest.Wait()
		s.Strange.Store(true)
		close(old.Release) // the key gets its turn, and passes it on
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		if next.V != 6 || next.Err != nil {
			t.Errorf("next: got %+v, want 6", next)
		}
		wantResults(t, "DoMulti", many.results, results{"q": {Err: kit.ErrTest, Shared: true}, "z": {Val: 25}})
		if caller.V != 5 || caller.Err != nil || g.Len() != 0 {
			t.Errorf("caller: got %+v, Len %d, want 5, 0", caller, g.Len())
		}
	})
}

// TestDeadlock_DoMultiThatHasLeft: an fn that has given up on a DoMulti waits for none of
// its keys any more, whether they were led, joined or queued. Their fns may wait for that
// fn.
func TestDeadlock_DoMultiThatHasLeft(t *testing.T) {
	for _, key := range []string{"led", "joined", "queued"} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			old := kit.Abandon(t, &g, "queued")
			proceed := make(chan struct{})
			waits := func(ctx context.Context) (int, error) {
				<-proceed
				v, _, err := g.DoContext(ctx, "caller", kit.CtxValue(0))
				return v + 1, err
			}
			fn := func(ctx context.Context, keys []string) (map[string]int, error) {
				v, err := waits(ctx)
				return map[string]int{keys[0]: v}, err
			}
			if key == "joined" {
				kit.Go(context.Background(), kit.Forms[3], &g, key, waits)
				synctest.Wait()
			}
			h := kit.Hold()
			caller, _ := kit.Go(context.Background(), kit.Forms[3], &g, "caller", func(ctx context.Context) (int, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				r := g.DoMulti(ctx, []string{key}, fn)[key]
				if r.Err != context.DeadlineExceeded {
					t.Errorf("DoMulti: got %+v, want %v", r, context.DeadlineExceeded)
				}
				return h.CtxFn(5)(ctx)
			})
			synctest.Wait()
			other, _ := kit.Go(context.Background(), kit.Forms[3], &g, key, waits)
			<-h.Started // it has left
			close(old.Release)
			synctest.Wait()
			close(proceed)
			synctest.Wait()
			close(h.Release)
			synctest.Wait()
			if other.V != 6 || other.Err != nil || caller.V != 5 {
				t.Errorf("%s: got %+v and caller %+v, want 6 and 5", key, other, caller)
			}
		})
	}
}
