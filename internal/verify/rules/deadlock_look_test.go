package rules_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// The tests of this file are about the look that a nested call takes for a cycle, and
// about the state that a refused call leaves behind.

// TestDeadlock_LookComesLater: until a call has waited for 10 ms it counts as waiting. An
// event that ends its wait within that time answers it: the end of the flight or of its
// own context, a Forget, MaxAge.
func TestDeadlock_LookComesLater(t *testing.T) {
	// The fn of a asks for b, whose fn asks for a: the second call closes the cycle.
	for name, test := range map[string]struct {
		end  func(g *kit.Group, leave func())
		want error // of the call that closes the cycle
	}{
		"nothing":     {func(*kit.Group, func()) {}, coalesce.ErrDeadlock},
		"its context": {func(_ *kit.Group, leave func()) { leave() }, context.Canceled},
		"Forget":      {func(g *kit.Group, _ func()) { g.Forget("a") }, coalesce.ErrDeadlock}, // joined: the call still waits
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				start := time.Now()
				a := kit.Forms[2].Call(contextThatCanEnd(t), &g, "a", func(ctx context.Context) (int, error) {
					a := kit.Forms[2].Call(ctx, &g, "b", func(inB context.Context) (int, error) {
						nested, leave := context.WithCancel(inB)
						defer leave()
						time.AfterFunc(lookAfter-1, func() { test.end(&g, leave) })
						a := kit.Forms[2].Call(nested, &g, "a", kit.CtxValue(0))
						if !errors.Is(a.Err, test.want) || !a.Shared {
							t.Errorf("got %+v, want %v", a, test.want)
						}
						return 2, nil
					})
					return a.V, a.Err
				})
				wantAnswer(t, a, 2)
				if took := time.Since(start); took > lookAfter {
					t.Errorf("got an answer after %v, want at most %v", took, lookAfter)
				}
			})
		})
	}
}

// TestDeadlock_RefusedIsRejected: in each form, whether it has joined or was queued,
// Stats count a refused call as Rejected, not as Left or Joined, and its Leave hook is
// called with the error.
func TestDeadlock_RefusedIsRejected(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []string
				var mu sync.Mutex
				note := func(what string) func(context.Context, coalesce.Event[string]) {
					return func(_ context.Context, e coalesce.Event[string]) {
						mu.Lock()
						defer mu.Unlock()
						events = append(events, fmt.Sprint(what, " ", e.Key, " ", e.Wait, " ", e.Waiters, " ", errors.Is(e.Err, coalesce.ErrDeadlock)))
					}
				}
				g := kit.Group{Hooks: coalesce.Hooks[string]{Join: note("join"), Leave: note("leave"), Receive: note("receive")}}
				_, _, err := g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
					a := f.Call(ctx, &g, "k", kit.CtxValue(0))
					wantCycle(t, a.Err, "k", "k")
					synctest.Wait() // DoChan's hook comes after its Result
					return 1, nil
				})
				if err != nil {
					t.Error(err)
				}
				want := coalesce.Stats{Calls: 2, Led: 1, Rejected: 1}
				if st := g.Stats(); st != want {
					t.Errorf("got %+v, want %+v", st, want)
				}
				wantEvents := []string{"join k 0s 1 false", "leave k 10ms 0 true"}
				if fmt.Sprint(events) != fmt.Sprint(wantEvents) {
					t.Errorf("got %q, want %q", events, wantEvents)
				}
			})
		})
	}
}

// TestDeadlock_RefusedAbandons: a refused call that was the last of its flight abandons
// it, with the error as the cause.
func TestDeadlock_RefusedAbandons(t *testing.T) {
	for _, f := range nested {
		if f.Name == "DoFresh" {
			continue // it queues behind b
		}
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				first, leave := context.WithCancel(t.Context())
				inA := make(chan context.Context)
				var cause error
				go g.DoContext(contextThatCanEnd(t), "a", func(ctx context.Context) (int, error) {
					inA <- ctx
					time.Sleep(time.Second)
					return 1, nil
				})
				synctest.Wait()
				go g.DoContext(first, "b", func(ctx context.Context) (int, error) {
					go g.DoContext(ctx, "a", kit.CtxValue(0)) // b waits for a
					<-ctx.Done()
					cause = context.Cause(ctx)
					return 0, nil
				})
				time.Sleep(2 * lookAfter) // that call has looked
				ctx := <-inA
				synctest.Wait()
				time.AfterFunc(lookAfter/2, leave)
				a := f.Call(ctx, &g, "b", kit.CtxValue(0))
				wantCycle(t, a.Err, "a", "b", "a")
				synctest.Wait()
				if !errors.Is(cause, coalesce.ErrDeadlock) {
					t.Errorf("got the cause %v, want the *DeadlockError", cause)
				}
				if st := g.Stats(); st.Abandoned != 1 || st.Rejected != 1 || st.Left != 2 { // first, and b's call for a
					t.Errorf("got %+v, want one abandoned flight", st)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestDeadlock_RefusedHandsTheTurnOn: a queued call that is refused when it has just been
// promoted leaves its turn to the next.
func TestDeadlock_RefusedHandsTheTurnOn(t *testing.T) {
	for _, f := range nested {
		t.Run(f.Name, func(t *testing.T) {
			var refused, led int
			for range 200 {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					var a *kit.Answer
					var done <-chan struct{}
					ok := false
					_, _, err := g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
						// fn's own DoFresh, and another behind it. fn returns when the look is due.
						a, done = kit.Go(ctx, f, &g, "k", kit.CtxValue(2))
						synctest.Wait()
						time.AfterFunc(time.Millisecond, func() {
							b := kit.Forms[4].Call(contextThatCanEnd(t), &g, "k", kit.CtxValue(3))
							ok = b.Err == nil && (b.V == 3 || b.V == 2)
						})
						time.Sleep(lookAfter)
						return 1, nil
					})
					if err != nil {
						t.Error(err)
					}
					<-done
					time.Sleep(time.Second)
					synctest.Wait()
					switch {
					case !ok:
						t.Error("the next queued call got no answer, want one")
					case a.Err == nil:
						led++
					case deadlocked(a.Err):
						refused++
					default:
						t.Errorf("got %+v, want a refusal or a lead", a)
					}
				})
			}
			t.Logf("%d answered, %d refused", led, refused)
		})
	}
}

// TestDeadlock_RefusedInJoin: a call that is refused while its Join hook takes its time
// returns the error when the hook has returned; if the hook exits the goroutine, the
// Leave hook is called all the same.
func TestDeadlock_RefusedInJoin(t *testing.T) {
	for _, exits := range []bool{false, true} {
		for _, f := range nested {
			t.Run(fmt.Sprint(f.Name, ", exits: ", exits), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					left := 0
					g := kit.Group{Hooks: coalesce.Hooks[string]{
						Join: func(context.Context, coalesce.Event[string]) {
							time.Sleep(5 * lookAfter)
							if exits {
								runtime.Goexit()
							}
						},
						Leave: func(_ context.Context, e coalesce.Event[string]) {
							if left++; !errors.Is(e.Err, coalesce.ErrDeadlock) {
								t.Errorf("got %+v, want the *DeadlockError", e)
							}
						},
					}}
					_, _, _ = g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
						start := time.Now()
						returned := make(chan struct{})
						go func() {
							defer close(returned)
							a := f.Call(ctx, &g, "k", kit.CtxValue(0))
							wantCycle(t, a.Err, "k", "k")
							if took := time.Since(start); took != 5*lookAfter {
								t.Errorf("got an answer after %v, want %v", took, 5*lookAfter)
							}
						}()
						<-returned
						time.Sleep(time.Second)
						return 1, nil
					})
					synctest.Wait()
					if left != 1 {
						t.Errorf("got %d calls of Leave, want 1", left)
					}
					if st := g.Stats(); st.Rejected != 1 || st.Left != 0 {
						t.Errorf("got %+v, want one rejected call", st)
					}
				})
			})
		}
	}
}

// TestDeadlock_BesideACallThatIsAboutToLeave: fn of a has made two calls for b. The context
// of the first has ended, but its Join hook keeps it. The second waits, so the call of b's
// fn for a waits for itself.
func TestDeadlock_BesideACallThatIsAboutToLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		g := kit.Group{Hooks: coalesce.Hooks[string]{Join: func(ctx context.Context, _ coalesce.Event[string]) {
			if ctx.Value(kit.CtxKey{}) != nil {
				<-unblock
			}
		}}}
		inside := make(chan context.Context, 2)
		h := kit.Hold()
		for _, key := range []string{"a", "b"} {
			kit.Go(contextThatCanEnd(t), kit.Forms[2], &g, key, func(ctx context.Context) (int, error) { inside <- ctx; <-h.Release; return 0, nil })
			synctest.Wait()
		}
		inA, inB := <-inside, <-inside
		leaver, leave := context.WithCancel(context.WithValue(inA, kit.CtxKey{}, true))
		kit.Go(leaver, kit.Forms[2], &g, "b", kit.CtxValue(0))
		synctest.Wait()
		kit.Go(inA, kit.Forms[2], &g, "b", kit.CtxValue(0))
		leave()
		time.Sleep(2 * lookAfter) // these two have looked
		ctx, cancel := context.WithTimeout(inB, time.Second)
		defer cancel()
		a := kit.Forms[2].Call(ctx, &g, "a", kit.CtxValue(0))
		wantCycle(t, a.Err, "b", "a", "b")
		close(unblock)
		close(h.Release)
	})
}

// TestDeadlock_StuckStop: a receiver that waits for itself gets the error although its
// context blocks when its AfterFunc is stopped.
func TestDeadlock_StuckStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		_, _, _ = g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
			stuck := stuckInside{stuckContext{ctx, make(chan struct{})}}
			defer close(stuck.stuck)
			select {
			case r := <-g.DoChan(stuck, "k", kit.CtxValue(0)):
				wantCycle(t, r.Err, "k", "k")
			case <-time.After(time.Minute):
				t.Error("got no answer, want the cycle")
			}
			return 1, nil
		})
	})
}

// A stuckInside is a stuckContext that has the values of fn's context, but is not found
// to be that.
type stuckInside struct{ stuckContext }

// Value hides the standard context inside, if there is one, as stuckContext does.
func (c stuckInside) Value(key any) any { return c.Context.Value(key) }

// TestDeadlock_OneKeyOfMany: a DoMulti that waits for itself for one key gets the error
// for that key alone.
func TestDeadlock_OneKeyOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		go g.DoContext(contextThatCanEnd(t), "slow", func(context.Context) (int, error) { time.Sleep(time.Second); return 3, nil })
		synctest.Wait()
		_, _, _ = g.DoContext(contextThatCanEnd(t), "k", func(ctx context.Context) (int, error) {
			got := g.DoMulti(ctx, []string{"k", "slow", "new"}, func(context.Context, []string) (map[string]int, error) {
				return map[string]int{"new": 4}, nil
			})
			wantCycle(t, got["k"].Err, "k", "k")
			if !got["k"].Shared || got["slow"] != (coalesce.Result[int]{Val: 3, Shared: true}) || got["new"] != (coalesce.Result[int]{Val: 4}) {
				t.Errorf("got %+v, want the deadlock for k alone", got)
			}
			return 1, nil
		})
		if st, want := g.Stats(), (coalesce.Stats{Calls: 5, Led: 3, Joined: 1, Rejected: 1}); st != want {
			t.Errorf("got %+v, want %+v", st, want)
		}
	})
}

// TestStats_NeverGoDown: a call that waits, and may come to lead or to be refused, is in
// no class before that is certain.
func TestStats_NeverGoDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		release := make(chan struct{})
		held := func(context.Context) (int, error) { <-release; return 1, nil }
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoFresh(t.Context(), "k", held)
		synctest.Wait()
		go g.DoFresh(ctx, "k", held) // will lead
		synctest.Wait()
		go g.DoFresh(t.Context(), "k", held) // will follow it
		synctest.Wait()
		leaving, leave := context.WithCancel(t.Context())
		go g.DoFresh(leaving, "k", held)
		synctest.Wait()
		want := func(want coalesce.Stats) {
			t.Helper()
			synctest.Wait()
			if st := g.Stats(); st != want {
				t.Errorf("got %+v, want %+v", st, want)
			}
		}
		want(coalesce.Stats{Calls: 1, Led: 1})
		leave()
		want(coalesce.Stats{Calls: 2, Led: 1, Joined: 1, Left: 1})
		release <- struct{}{}
		want(coalesce.Stats{Calls: 4, Led: 2, Joined: 2, Left: 1})
		go g.DoFresh(t.Context(), "k", held)
		want(coalesce.Stats{Calls: 4, Led: 2, Joined: 2, Left: 1})
		time.AfterFunc(time.Minute, func() { close(release) })
		if err := g.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		want(coalesce.Stats{Calls: 5, Led: 2, Joined: 2, Rejected: 1, Left: 1})
		cancel()

		var outer kit.Group
		_, _, _ = outer.DoContext(contextThatCanEnd(t), "a", func(ctx context.Context) (int, error) {
			var inner kit.Group
			go inner.Do("b", func() (int, error) { time.Sleep(time.Second); return 1, nil })
			synctest.Wait()
			go inner.DoContext(ctx, "b", held)
			synctest.Wait()
			if st := inner.Stats(); st != (coalesce.Stats{Calls: 1, Led: 1}) {
				t.Errorf("a nested call that waits: got %+v, want only Calls and Led", st)
			}
			time.Sleep(2 * time.Second)
			if st := inner.Stats(); st != (coalesce.Stats{Calls: 2, Led: 1, Joined: 1}) {
				t.Errorf("a nested call that was answered: got %+v, want it in Joined", st)
			}
			return 0, nil
		})
	})
}

// TestG16_NestedCallsShareNoLock: the cost of a nested call does not depend on the number
// of calls that the flight it joins has made, and calls for other keys do not wait for
// it. With one graph for the process, searched on admission, the nested calls took 40
// times as long as detached ones.
func TestG16_NestedCallsShareNoLock(t *testing.T) {
	const out, joins = 100_000, 200
	g := coalesce.Group[int, int]{Shards: 1}
	var inner coalesce.Group[int, int]
	release := make(chan struct{})
	ready := make(chan struct{})
	ctx := contextThatCanEnd(t)
	// busy is a flight with many outstanding calls. A flight that others wait for is to
	// join it.
	busy := g.DoChan(ctx, 0, func(ctx context.Context) (int, error) {
		for i := range out {
			inner.DoChan(ctx, i, func(context.Context) (int, error) { <-release; return 0, nil })
		}
		close(ready)
		<-release
		return 0, nil
	})
	<-ready
	in, parked := make(chan context.Context), make(chan struct{})
	outer := g.DoChan(ctx, 1, func(ctx context.Context) (int, error) {
		in <- ctx
		<-parked
		return 0, nil
	})
	nested := <-in
	g.DoChan(coalesce.Detach(nested), 2, func(ctx context.Context) (int, error) {
		g.DoChan(ctx, 1, nil1) // waits for the flight whose fn makes the calls
		<-release
		return 0, nil
	})
	took := func(ctx context.Context) (d time.Duration) {
		begun := time.Now()
		for range joins {
			g.DoChan(ctx, 0, nil1)
		}
		return time.Since(begun)
	}
	var slowest atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 10; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			begun := time.Now()
			_, _, _ = g.Do(i, func() (int, error) { return 0, nil })
			slowest.Store(max(slowest.Load(), int64(time.Since(begun))))
			runtime.Gosched()
		}
	}()
	best := func(ctx context.Context) (d time.Duration) {
		d = time.Hour
		for range 5 {
			d = min(d, took(ctx))
		}
		return d
	}
	detached, attached := best(coalesce.Detach(nested)), best(nested)
	time.Sleep(5 * lookAfter) // the looks run now; calls for other keys do not wait for them
	close(stop)
	<-stopped
	t.Logf("%d nested calls took %v, detached %v; the slowest Do of another key %v", joins, attached, detached, time.Duration(slowest.Load()))
	if attached > 10*detached {
		t.Errorf("%d nested calls: got %v, want at most ten times the %v of detached ones", joins, attached, detached)
	}
	close(release)
	close(parked)
	<-busy
	<-outer
}

func nil1(context.Context) (int, error) { return 0, nil }

// TestDeadlock_KeysOfOneBatch: a DoMulti waits for thousands of keys of a batch whose fn
// has made thousands of calls. One look answers for all these keys, so that an unrelated
// cycle is still found at once. (When each key looked, it took seconds.)
func TestDeadlock_KeysOfOneBatch(t *testing.T) {
	const n = 10_000
	limit := time.Second
	if kit.RaceEnabled {
		limit = time.Minute // the race detector is slow: then only the outcome counts
	}
	var g, other coalesce.Group[int, int]
	batch, far := make([]int, n), make([]int, n)
	for i := range n {
		batch[i], far[i] = 1+i, 1+n+i
	}
	release, begun := make(chan struct{}), make(chan struct{}, 4)
	waits := func(context.Context, []int) (map[int]int, error) { begun <- struct{}{}; <-release; return nil, nil }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer close(release)
	wg.Go(func() { g.DoMulti(ctx, far, waits) })
	<-begun
	wg.Go(func() {
		g.DoMulti(ctx, batch, func(ctx context.Context, _ []int) (map[int]int, error) {
			begun <- struct{}{}
			g.DoMulti(ctx, far, loadsNone)
			return nil, nil
		})
	})
	<-begun
	joined := make(chan struct{})
	wg.Go(func() {
		g.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
			begun <- struct{}{}
			<-joined // a call waits for its flight, so its own calls look
			g.DoMulti(ctx, batch, loadsNone)
			return 0, nil
		})
	})
	<-begun
	wg.Go(func() {
		other.DoContext(ctx, -1, func(ctx context.Context) (int, error) {
			v, _, err := g.DoContext(ctx, 0, func(context.Context) (int, error) { return 0, nil })
			return v, err
		})
	})
	for waiters := 0; waiters == 0; time.Sleep(time.Millisecond) {
		for f := range g.Flights() {
			if f.Key == 0 {
				waiters = f.Waiters
			}
		}
	}
	close(joined)
	for range 10 {
		began := time.Now()
		err := ownKey(ctx, &other, -2)
		if took := time.Since(began); !errors.Is(err, coalesce.ErrDeadlock) || took > limit {
			t.Fatalf("got %v after %v, want ErrDeadlock within %v", err, took, limit)
		}
	}
}

func loadsNone(context.Context, []int) (map[int]int, error) { return nil, nil }

// ownKey makes a call whose fn calls for its own key.
func ownKey(ctx context.Context, g *coalesce.Group[int, int], key int) error {
	_, _, err := g.DoContext(ctx, key, func(ctx context.Context) (int, error) {
		v, _, err := g.DoContext(ctx, key, func(context.Context) (int, error) { return 0, nil })
		return v, err
	})
	return err
}
