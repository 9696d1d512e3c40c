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

// This file holds waits that look like a cycle and are none, and cycles that cannot be seen.

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
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Second) // flights that others led may take longer
		if g.Len() != 0 {
			t.Errorf("Len = %d", g.Len())
		}
	})
}

// wantAnswer checks that a is an answer with the given value.
func wantAnswer(t *testing.T, a kit.Answer, v int) {
	t.Helper()
	if a.V != v || a.Err != nil || a.Panic != nil {
		t.Errorf("%+v, want %d", a, v)
	}
}

// TestDeadlock_NotADiamond: two ways to one flight are no cycle.
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

// TestDeadlock_NotASlowCall: waiting for long is no cycle, nor is waiting for
// what others wait for.
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

// TestDeadlock_NotAWaiterThatHasLeft: a waits for b no more when its call has
// left, nor when the context of the call has ended, though it has not woken up.
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
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Second)
	})
}

// TestDeadlock_NotAnAbandonedFlight: the fn of an abandoned flight waits no more
// when its context has ended, so that a call may queue behind it.
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
							t.Errorf("%+v", a)
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

// TestDeadlock_NotAFinishedFlight: a flight that has finished waits for nobody,
// and nobody waits for it.
func TestDeadlock_NotAFinishedFlight(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
				// What a waited for asks for a, when it runs again.
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

// TestDeadlock_NotAGoroutineThatGoesOn: when fn has returned, what its goroutines
// wait for is not its wait, be it that they began before or after.
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

// TestDeadlock_NotAForgottenFlight: a call for a key whose flight was forgotten,
// or has reached MaxAge, leads another and does not wait for the old one.
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

// TestDeadlock_PromotedWaitsForNobody: a successor that was promoted does not
// stand behind the forgotten flight any more.
func TestDeadlock_PromotedWaitsForNobody(t *testing.T) {
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

// TestDeadlock_NotWhatLingers: an answer that is there is not waited for.
func TestDeadlock_NotWhatLingers(t *testing.T) {
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
				t.Errorf("%s: %+v", f.Name, after)
			}
			if !g.ForgetUnshared("b") || kit.WaitersOf(g, "a") != 0 {
				t.Errorf("%s: %d waiters", f.Name, kit.WaitersOf(g, "a"))
			}
			wantAnswer(t, f.Call(ctx, g, "b", kit.CtxValue(3)), 3)
		}
		if g.ForgetUnshared("a") {
			t.Error("the flight is not shared, but calls have joined it")
		}
	})
}

// TestDeadlock_BlindToDo: an fn of Do has no context that would tell.
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
						t.Errorf("%+v after %v", a, time.Since(start))
					}
					return 1, nil
				})
				if shared != (f.Name != "DoFresh") || err != nil {
					t.Error(shared, err)
				}
			})
		})
	}
}

// TestDeadlock_BlindThroughDo: a cycle of which one flight was led by a Do.
func TestDeadlock_BlindThroughDo(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		start := time.Now()
		limit, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go g.Do("b", func() (int, error) {
			time.Sleep(time.Second)
			a := kit.Forms[2].Call(limit, g, "a", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("%+v after %v", a, time.Since(start))
			}
			return 2, nil
		})
		synctest.Wait()
		wantAnswer(t, kit.Forms[2].Call(ctx, g, "b", kit.CtxValue(0)), 2)
		if time.Since(start) != time.Minute {
			t.Errorf("after %v", time.Since(start))
		}
	})
}

// TestDeadlock_BlindWithoutCancel: a DoContext that runs fn on its caller's
// goroutine gives it no context of its own: its calls count as those of the fn
// around it, and it cannot be waited for in a cycle.
func TestDeadlock_BlindWithoutCancel(t *testing.T) {
	within(t, func(t *testing.T, g *kit.Group, ctx context.Context) {
		v, _, err := g.DoContext(context.WithoutCancel(ctx), "b", func(ctx context.Context) (int, error) {
			wantCycle(t, kit.Forms[2].Call(ctx, g, "a", kit.CtxValue(0)).Err, "a", "a")
			limit, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			start := time.Now()
			a := kit.Forms[2].Call(limit, g, "b", kit.CtxValue(0))
			if a.Err != context.DeadlineExceeded || time.Since(start) != time.Minute {
				t.Errorf("%+v after %v", a, time.Since(start))
			}
			return 3, nil
		})
		if v != 3 || err != nil {
			t.Error(v, err)
		}
	})
}

// TestDeadlock_QueuedKeyThatHasLeft: a key of DoMulti that gave up its turn, as
// its context said that it had ended, is waited for no more, though the call goes
// on for another key: the next one in the queue may wait for the caller.
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
		close(old.Release) // the key is picked, and hands on
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		if next.V != 6 || next.Err != nil {
			t.Errorf("next: %+v", next)
		}
		wantResults(t, "DoMulti", many.results, results{"q": {Err: kit.ErrTest, Shared: true}, "z": {Val: 25}})
		if caller.V != 5 || caller.Err != nil || g.Len() != 0 {
			t.Errorf("caller: %+v, Len %d", caller, g.Len())
		}
	})
}

// TestDeadlock_DoMultiThatHasLeft: an fn that has given up on a DoMulti waits for
// none of its keys any more, be they led, joined or queued: what they run may
// wait for that fn.
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
					t.Errorf("DoMulti: %+v", r)
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
				t.Errorf("%s: %+v, caller: %+v", key, other, caller)
			}
		})
	}
}
