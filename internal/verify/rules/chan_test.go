package rules_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the rules for receivers that cannot leave: a flight that runs keeps no
// more of them than their channels.

// receive takes the Result from a channel, where it must be by now.
func receive[V any](t *testing.T, ch <-chan coalesce.Result[V]) (r coalesce.Result[V]) {
	t.Helper()
	select {
	case r = <-ch:
	default:
		t.Error("got no Result, want one")
	}
	if len(ch) != 0 {
		t.Error("got a second Result, want one")
	}
	return r
}

// TestDoChan_CannotLeave: whichever way fn ends and whichever form leads, all receivers
// get the one result, are counted, and leave nothing behind.
func TestDoChan_CannotLeave(t *testing.T) {
	for _, lead := range kit.Forms {
		for _, e := range endings {
			for _, n := range []int{1, 4, 5, 1000} {
				t.Run(fmt.Sprintf("%s/%s/%d", lead.Name, e.name, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						kit.CaptureLog(t)
						var g kit.Group
						h := kit.Hold()
						kit.Go(t.Context(), lead, &g, "k", func(context.Context) (int, error) {
							<-h.Release
							return e.end()
						})
						synctest.Wait()
						channels := make([]<-chan result, n)
						for i := range channels {
							channels[i] = g.DoChan(context.Background(), "k", kit.CtxValue(0))
						}
						if w := kit.WaitersOf(&g, "k"); w != n {
							t.Errorf("got %d waiters, want %d", w, n)
						}
						close(h.Release)
						synctest.Wait()
						for _, ch := range channels {
							r := receive(t, ch)
							if a := (kit.Answer{V: r.Val, Err: r.Err}); !e.is(&a) || !r.Shared {
								t.Errorf("got %+v, want the result of fn, shared", r)
							}
						}
						if st := g.Stats(); st.Led != 1 || st.Joined != uint64(n) || st.Left != 0 {
							t.Errorf("got %+v, want 1 led, %d joined, none left", st, n)
						}
						wantUsable(t, &g)
						if err := storm.AtRest(&g); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	}
}

// TestDoChan_CannotLeaveAbandoned: such a receiver stays, so the flight is not abandoned
// when all others have left.
func TestDoChan_CannotLeaveAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		h := kit.Hold()
		kit.Go(ctx, kit.Forms[2], &g, "k", h.CtxFn(1))
		<-h.Started
		ch := g.DoChan(context.Background(), "k", kit.CtxValue(0))
		cancel()
		synctest.Wait()
		if st := g.Stats(); st.Left != 1 || st.Abandoned != 0 {
			t.Errorf("got %+v, want one that left, and a flight that is not abandoned", st)
		}
		g.Forget("k")
		close(h.Release)
		synctest.Wait()
		if r := receive(t, ch); r != (result{Val: 1, Shared: true}) {
			t.Errorf("got %+v, want 1", r)
		}
	})
}

// TestDoChan_CannotLeaveOtherwise: a receiver that cannot leave is refused, answered by a
// success that lingers, and queued like any other.
func TestDoChan_CannotLeaveOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 2, Linger: time.Minute}
		ctx := context.Background()
		h := kit.Hold()
		kit.Go(ctx, kit.Forms[0], &g, "k", h.CtxFn(1))
		<-h.Started
		a, b := g.DoChan(ctx, "k", kit.CtxValue(0)), g.DoChan(ctx, "k", kit.CtxValue(0))
		if r := receive(t, g.DoChan(ctx, "k", kit.CtxValue(0))); r.Err != coalesce.ErrSaturated {
			t.Errorf("got %+v, want ErrSaturated", r)
		}
		close(h.Release)
		synctest.Wait()
		for _, ch := range []<-chan result{a, b, g.DoChan(ctx, "k", kit.CtxValue(0))} {
			if r := receive(t, ch); r != (result{Val: 1, Shared: true}) {
				t.Errorf("got %+v, want 1", r)
			}
		}
		old := kit.Abandon(t, &g, "q")
		first, second := g.DoChan(ctx, "q", kit.CtxValue(2)), g.DoChan(ctx, "q", kit.CtxValue(3))
		synctest.Wait()
		close(old.Release)
		synctest.Wait()
		for _, ch := range []<-chan result{first, second} {
			if r := receive(t, ch); r != (result{Val: 2, Shared: true}) {
				t.Errorf("got %+v, want 2, of a flight that was queued", r)
			}
		}
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: got %v, want nil", err)
		}
		if r := receive(t, g.DoChan(ctx, "k", kit.CtxValue(0))); r.Err != coalesce.ErrClosed {
			t.Errorf("got %+v, want ErrClosed", r)
		}
	})
}

// TestDoChan_CannotLeaveClone: Clone runs on a goroutine for each receiver: if it blocks,
// panics or exits for one, the others have theirs.
func TestDoChan_CannotLeaveClone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		blocked := make(chan struct{})
		clones := make(chan int, 100)
		g := kit.Group{Clone: func(int) int {
			clones <- 0
			switch n := len(clones); n {
			case 10:
				<-blocked
			case 20:
				panic("no clone")
			case 30:
				runtime.Goexit()
			}
			return 7
		}}
		h := kit.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		kit.Go(ctx, kit.Forms[2], &g, "k", h.CtxFn(1))
		<-h.Started
		channels := make([]<-chan result, 50)
		for i := range channels {
			channels[i] = g.DoChan(context.Background(), "k", kit.CtxValue(0))
		}
		cancel() // the leader gets no clone
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		got := map[string]int{}
		count := func() {
			for _, ch := range channels {
				select {
				case r := <-ch:
					switch _, panicked := r.Err.(*coalesce.PanicError); {
					case !r.Shared:
						got["not shared"]++
					case panicked:
						got["panicked"]++
					case r.Err == coalesce.ErrGoexit:
						got["exited"]++
					case r.Val == 7:
						got["cloned"]++
					}
				default:
				}
			}
		}
		count()
		want := map[string]int{"cloned": 47, "panicked": 1, "exited": 1}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("while one Clone blocks: got %v, want %v", got, want)
		}
		close(blocked)
		synctest.Wait()
		count()
		if want["cloned"]++; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		wantLogged(t, &g, log, 1)
	})
}

// TestDoChan_CannotLeaveHooks: the Join and Receive hooks are called for such a receiver.
func TestDoChan_CannotLeaveHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var joined, received int
		g := kit.Group{Hooks: coalesce.Hooks[string]{
			Join:    func(context.Context, coalesce.Event[string]) { joined++ },
			Receive: func(context.Context, coalesce.Event[string]) { received++ },
		}}
		h := kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "k", h.CtxFn(1))
		<-h.Started
		ch := g.DoChan(context.Background(), "k", kit.CtxValue(0))
		close(h.Release)
		synctest.Wait()
		if r := receive(t, ch); r.Val != 1 || joined != 1 || received != 1 {
			t.Errorf("got %+v, %d joined and %d received, want one each", r, joined, received)
		}
	})
}

// TestDoChan_CannotLeaveNested: a receiver whose call an fn made is found by the search
// for cycles, although its context cannot end.
func TestDoChan_CannotLeaveNested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var inner result
		v, _, err := g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
			inner = <-g.DoChan(context.WithoutCancel(ctx), "k", kit.CtxValue(2))
			return 1, nil
		})
		if v != 1 || err != nil || inner.Err == nil {
			t.Errorf("got %v, %v, and %+v from the nested call, want 1, nil and a deadlock", v, err, inner)
		}
	})
}

// A stuckContext blocks any goroutine that stops one of its AfterFuncs.
type stuckContext struct {
	context.Context
	stuck chan struct{}
}

// Value hides the standard context inside, so that package context does not bypass
// AfterFunc.
func (c stuckContext) Value(any) any { return nil }

func (c stuckContext) AfterFunc(fn func()) func() bool {
	stop := context.AfterFunc(c.Context, fn)
	return func() bool { <-c.stuck; return stop() }
}

// TestDoChan_StuckStop: a receiver's context that blocks when its AfterFunc is stopped
// holds up neither the other receivers nor the successor nor Shutdown.
func TestDoChan_StuckStop(t *testing.T) {
	for _, lead := range kit.Forms {
		t.Run(lead.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stuck := stuckContext{ctx, make(chan struct{})}
				h := kit.Hold()
				leader, _ := kit.Go(ctx, lead, &g, "k", h.CtxFn(1))
				<-h.Started
				for range 3 {
					kit.Go(stuck, kit.Forms[3], &g, "k", kit.CtxValue(0))
				}
				synctest.Wait()
				other, otherDone := kit.Go(ctx, kit.Forms[3], &g, "k", kit.CtxValue(0))
				next, nextDone := kit.Go(ctx, kit.Forms[4], &g, "k", kit.CtxValue(2))
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				if leader.V != 1 || !kit.IsDone(otherDone) || other.V != 1 || !kit.IsDone(nextDone) || next.V != 2 {
					t.Errorf("got leader %+v, other %+v, next %+v, want 1, 1 and 2", leader, other, next)
				}
				if err := g.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				close(stuck.stuck)
			})
		})
	}
}
