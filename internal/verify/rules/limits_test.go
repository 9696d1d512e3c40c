package rules_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestMaxWaiters_Exact: of thirty calls of each form, exactly as many follow as may,
// whichever form leads, and the others are refused at once.
func TestMaxWaiters_Exact(t *testing.T) {
	for _, lead := range kit.Forms {
		for _, follow := range kit.Joining {
			t.Run(lead.Name+" then "+follow.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{MaxWaiters: 10}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := kit.Hold()
					leader, _ := kit.Go(ctx, lead, &g, "k", h.CtxFn(1))
					<-h.Started
					var calls [30]*kit.Answer
					var done [30]<-chan struct{}
					for i := range calls {
						calls[i], done[i] = kit.Go(ctx, follow, &g, "k", kit.CtxValue(0))
					}
					synctest.Wait()
					refused := 0
					for i, a := range calls {
						if kit.IsDone(done[i]) {
							refused++
							if a.Err != coalesce.ErrSaturated || a.V != 0 || a.Shared {
								t.Errorf("refused: got %+v, want %v", a, coalesce.ErrSaturated)
							}
						}
					}
					if n := kit.WaitersOf(&g, "k"); refused != 20 || n != 10 {
						t.Errorf("got %d refused and %d waiting, want 20 and 10", refused, n)
					}
					close(h.Release)
					synctest.Wait()
					for _, a := range calls {
						if a.Err == nil && (a.V != 1 || !a.Shared) {
							t.Errorf("follower: got %+v, want 1, shared", a)
						}
					}
					if leader.V != 1 || leader.Err != nil {
						t.Errorf("leader: got %+v, want 1", leader)
					}
					if st := g.Stats(); st.Led != 1 || st.Joined != 10 || st.Rejected != 20 {
						t.Errorf("got %+v, want 1 led, 10 joined, 20 rejected", st)
					}
				})
			})
		}
	}
}

// TestMaxWaiters_RoomIsMade: a caller that leaves makes room for one other.
func TestMaxWaiters_RoomIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 1}
		h := kit.Lead(t, &g)
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			first, _ := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(0))
			synctest.Wait()
			if _, _, err := g.Do("k", kit.Value(0)); err != coalesce.ErrSaturated {
				t.Fatalf("second: got %v, want %v", err, coalesce.ErrSaturated)
			}
			cancel()
			synctest.Wait()
			if first.Err != context.Canceled {
				t.Fatalf("first: got %+v, want %v", first, context.Canceled)
			}
		}
		close(h.Release)
	})
}

// TestMaxWaiters_SuccessorCountsApart: a queued flight takes one call to lead it and as
// many waiters as any other, however many the flight before it has.
func TestMaxWaiters_SuccessorCountsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 2}
		h := kit.Lead(t, &g)
		var followers, queue []*kit.Answer
		for range 2 {
			a, _ := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
			followers = append(followers, a)
		}
		for range 3 {
			a, _ := kit.Go(t.Context(), kit.Forms[4], &g, "k", kit.CtxValue(2))
			queue = append(queue, a)
			synctest.Wait()
		}
		for _, f := range kit.Forms {
			if a := f.Call(t.Context(), &g, "k", kit.CtxValue(0)); a.Err != coalesce.ErrSaturated {
				t.Errorf("%s: got %+v, want %v", f.Name, a, coalesce.ErrSaturated)
			}
		}
		close(h.Release)
		synctest.Wait()
		for _, a := range followers {
			if a.V != 1 || a.Err != nil {
				t.Errorf("follower: got %+v, want 1", a)
			}
		}
		for _, a := range queue {
			if a.V != 2 || a.Err != nil {
				t.Errorf("queued: got %+v, want 2", a)
			}
		}
	})
}

// TestMaxWaiters_Storm: there are never more waiters than allowed, in a crowd that comes
// and goes.
func TestMaxWaiters_Storm(t *testing.T) {
	const limit = 3
	g := kit.Group{MaxWaiters: limit}
	stop := make(chan struct{})
	var watch, calls sync.WaitGroup
	watch.Go(func() {
		for {
			for f := range g.Flights() {
				if f.State == coalesce.StateRunning && f.Waiters > limit {
					t.Errorf("got %+v, want at most %d waiters", f, limit)
				}
			}
			select {
			case <-stop:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	var saturated atomic.Int64
	for range 16 {
		calls.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*time.Microsecond)
				_, _, err := g.DoContext(ctx, "k", func(context.Context) (int, error) {
					time.Sleep(20 * time.Microsecond)
					return 1, nil
				})
				if err == coalesce.ErrSaturated {
					saturated.Add(1)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	close(stop)
	watch.Wait()
	st := g.Stats()
	if st.Calls != 8000 || st.Rejected != uint64(saturated.Load()) {
		t.Errorf("got %+v with %d saturated calls, want 8000 calls, as many rejected", st, saturated.Load())
	}
	if !kit.Eventually(func() bool { return g.Len() == 0 }) { // an abandoned flight may still run
		t.Error("got a key in flight, want none")
	}
}

// TestMaxAge_OneTakeoverPerAge: one call a second for two minutes, with fns that do not
// end: one call takes over every ten seconds, the others join the newest flight, and each
// flight answers its own callers in the end.
func TestMaxAge_OneTakeoverPerAge(t *testing.T) {
	for _, f := range kit.Joining {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{MaxAge: 10 * time.Second}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				release := make(chan struct{})
				runs := 0
				fn := func(context.Context) (int, error) {
					runs++
					v := runs
					<-release
					return v, nil
				}
				var calls []*kit.Answer
				for range 120 {
					a, _ := kit.Go(ctx, f, &g, "k", fn)
					calls = append(calls, a)
					synctest.Wait()
					time.Sleep(time.Second)
				}
				if st := g.Stats(); runs != 12 || st.TakenOver != 11 || st.Forgotten != 0 || g.Len() != 1 {
					t.Errorf("got %d executions, Len %d, %+v, want 12, 1 and 11 takeovers", runs, g.Len(), st)
				}
				close(release)
				synctest.Wait()
				for i, a := range calls {
					if a.V != i/10+1 || a.Err != nil || !a.Shared {
						t.Errorf("call %d: got %+v, want %d, shared", i, a, i/10+1)
					}
				}
				if g.Len() != 0 {
					t.Errorf("got Len %d, want 0", g.Len())
				}
			})
		})
	}
}

// TestMaxAge_ReleasesQueue: calls that queue behind a stuck flight, abandoned or not,
// start when it reaches that age, even if no further call comes.
func TestMaxAge_ReleasesQueue(t *testing.T) {
	for _, abandoned := range []bool{false, true} {
		for _, f := range kit.Forms {
			if !abandoned && f.Name != "DoFresh" {
				continue // it would join
			}
			t.Run(fmt.Sprintf("abandoned=%v %s", abandoned, f.Name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{MaxAge: time.Minute}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					start := time.Now()
					var h *kit.Held
					if abandoned {
						h = kit.Abandon(t, &g, "k")
					} else {
						h = kit.Lead(t, &g)
					}
					time.Sleep(20 * time.Second)
					a, _ := kit.Go(ctx, f, &g, "k", kit.CtxValue(2))
					time.Sleep(20 * time.Second)
					b, _ := kit.Go(ctx, f, &g, "k", kit.CtxValue(3))
					time.Sleep(time.Hour)
					synctest.Wait()
					for _, a := range []*kit.Answer{a, b} {
						if a.V != 2 || a.Err != nil || !a.Shared || a.At.Sub(start) != time.Minute {
							t.Errorf("got %+v after %v, want 2, shared, after 1m", a, a.At.Sub(start))
						}
					}
					if st := g.Stats(); st.TakenOver != 1 || g.Len() != 0 {
						t.Errorf("got %+v, Len %d, want 1 takeover, 0", st, g.Len())
					}
					close(h.Release)
				})
			})
		}
	}
}

// TestMaxAge_ChainOfQueues: each of a chain of stuck flights holds up the next one for
// its own age, counted from its start.
func TestMaxAge_ChainOfQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		h := kit.Lead(t, &g)
		time.Sleep(30 * time.Second)
		start := time.Now()
		var at [3]time.Duration
		for i := range at {
			go g.DoFresh(t.Context(), "k", func(context.Context) (int, error) {
				at[i] = time.Since(start)
				<-h.Release
				return 0, nil
			})
			time.Sleep(61 * time.Second) // the one before has been promoted
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if want := [3]time.Duration{30 * time.Second, 90 * time.Second, 150 * time.Second}; at != want {
			t.Errorf("got starts after %v, want %v", at, want)
		}
		close(h.Release)
	})
}

// TestMaxAge_QueueBehindPromoted: a call that is queued behind a promoted flight whose
// leader takes its time waits for the whole age of that flight, counted from its start.
func TestMaxAge_QueueBehindPromoted(t *testing.T) {
	for _, late := range []time.Duration{1, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{MaxAge: time.Minute}
			old := kit.Abandon(t, &g, "k")
			base, cancel := context.WithCancel(t.Context())
			defer cancel()
			answer := make(chan struct{})
			slow := &kit.StrangeContext{Context: base, StrangeErr: func() error { <-answer; return nil }}
			stuck := kit.Hold()
			kit.Go(slow, kit.Forms[2], &g, "k", stuck.CtxFn(2))
			synctest.Wait()
			slow.Strange.Store(true)
			close(old.Release) // the call gets its turn, and asks its context
			synctest.Wait()
			next, _ := kit.Go(base, kit.Forms[4], &g, "k", kit.CtxValue(3))
			time.Sleep(late)
			close(answer) // it leads
			start := time.Now()
			time.Sleep(time.Hour)
			synctest.Wait()
			if next.V != 3 || next.At.Sub(start) != time.Minute {
				t.Errorf("got %+v after %v, want 3 after 1m; the leader started %v late", next, next.At.Sub(start), late)
			}
			close(stuck.Release)
		})
	}
}

// TestMaxAge_QueueThatLeaves: when all queued calls have left, no timer is left and
// nothing is taken over.
func TestMaxAge_QueueThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		h := kit.Lead(t, &g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := g.DoFresh(ctx, "k", kit.CtxValue(0)); err != context.DeadlineExceeded {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := g.Stats(); st.TakenOver != 0 || g.Len() != 1 {
			t.Errorf("got %+v, Len %d, want no takeover, 1", st, g.Len())
		}
		close(h.Release)
	})
}

// TestMaxAge_SameInstant: calls that come in the very instant in which a queue is
// released are answered, and so is the queue.
func TestMaxAge_SameInstant(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{MaxAge: time.Second}
			var calls []*kit.Answer
			at := func(f kit.Form) {
				a := new(kit.Answer)
				calls = append(calls, a)
				go func() {
					time.Sleep(time.Second)
					*a = f.Call(t.Context(), &g, "k", kit.CtxValue(2))
				}()
			}
			for _, f := range kit.Forms {
				at(f)
			}
			h := kit.Lead(t, &g)
			for range 3 {
				a, _ := kit.Go(t.Context(), kit.Forms[4], &g, "k", kit.CtxValue(2))
				calls = append(calls, a)
			}
			for _, f := range kit.Forms {
				at(f)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			for i, a := range calls {
				if a.V != 2 || a.Err != nil {
					t.Errorf("call %d: got %+v, want 2", i, a)
				}
			}
			close(h.Release)
		})
	}
}

// TestMaxAge_QueueLeavesNothing: a call that was queued for a long age can be collected
// once it has left, not only at that age (G12), although the runtime keeps a stopped timer
// among its timers until it is due, or until many of them have been stopped.
func TestMaxAge_QueueLeavesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // each P has timers of its own
	timers := func(d time.Duration) {
		for range 100 {
			timer := time.AfterFunc(d, func() {})
			t.Cleanup(func() { timer.Stop() })
		}
	}
	timers(time.Minute)
	g := coalesce.Group[*kit.Payload, int]{MaxAge: time.Hour}
	key := func() weak.Pointer[kit.Payload] {
		key := new(kit.Payload)
		h := kit.Hold()
		var wg sync.WaitGroup
		wg.Go(func() { g.Do(key, h.Fn(1)) })
		<-h.Started
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { g.DoFresh(ctx, key, kit.CtxValue(2)) })
		kit.Await(t, func() bool { return kit.Waiting(&g) == 1 })
		timers(2 * time.Hour)
		cancel()
		close(h.Release)
		wg.Wait()
		return weak.Make(key)
	}()
	if !kit.Collected(key) {
		t.Error("got a key that the group, or a timer of it, keeps, want it collected")
	}
	runtime.KeepAlive(&g)
}

// TestLimits_Misuse: a number that cannot be served panics at first use, in every call,
// and at each use after it. The panic can be recovered, and names the field, the number
// and the limit.
func TestLimits_Misuse(t *testing.T) {
	uses := map[string]func(g *kit.Group){
		"Do":       func(g *kit.Group) { g.Do("k", kit.Value(1)) },
		"TryDo":    func(g *kit.Group) { g.TryDo("k", kit.Value(1)) },
		"DoChan":   func(g *kit.Group) { g.DoChan(t.Context(), "k", kit.CtxValue(1)) },
		"DoMulti":  func(g *kit.Group) { g.DoMulti(t.Context(), []string{"k"}, loads(1)) },
		"Forget":   func(g *kit.Group) { g.Forget("k") },
		"Len":      func(g *kit.Group) { g.Len() },
		"Stats":    func(g *kit.Group) { g.Stats() },
		"Flights":  func(g *kit.Group) { g.Flights()(func(coalesce.Flight[string]) bool { return true }) },
		"Shutdown": func(g *kit.Group) { _ = g.Shutdown(t.Context()) },
	}
	set := map[string]func(g *kit.Group, n int64){
		"Shards":     func(g *kit.Group, n int64) { g.Shards = int(n) },
		"MaxWaiters": func(g *kit.Group, n int64) { g.MaxWaiters = int(n) },
		"MaxAge":     func(g *kit.Group, n int64) { g.MaxAge = time.Duration(n) },
		"Linger":     func(g *kit.Group, n int64) { g.Linger = time.Duration(n) },
		"LingerMax":  func(g *kit.Group, n int64) { g.LingerMax = int(n) },
	}
	for _, c := range []struct {
		field string
		n     int64
		want  string
	}{
		{"Shards", -1, ", and must not be negative"},
		{"Shards", math.MinInt, ", and must not be negative"},
		{"Shards", 1<<20 + 1, ", and the limit is 1048576"},
		{"Shards", math.MaxInt32, ", and the limit is 1048576"},
		{"Shards", 1 << 40, ", and the limit is 1048576"},
		{"Shards", 1 << 62, ", and the limit is 1048576"},
		{"Shards", math.MaxInt64, ", and the limit is 1048576"},
		{"MaxWaiters", -1, ", and must not be negative"},
		{"MaxWaiters", math.MinInt, ", and must not be negative"},
		{"MaxWaiters", math.MaxInt32, ", and the limit is 2147483646"},
		{"MaxWaiters", math.MaxInt64, ", and the limit is 2147483646"},
		{"MaxAge", -1, ", and must not be negative"},
		{"MaxAge", math.MinInt64, ", and must not be negative"},
		{"Linger", -1, ", and must not be negative"},
		{"Linger", math.MinInt64, ", and must not be negative"},
		{"LingerMax", -1, ", and must not be negative"},
		{"LingerMax", math.MinInt, ", and must not be negative"},
	} {
		isInt := c.field != "MaxAge" && c.field != "Linger"
		if isInt && int64(int(c.n)) != c.n {
			continue // it cannot be set on this machine
		}
		for name, use := range uses {
			var g kit.Group
			set[c.field](&g, c.n)
			for range 2 {
				if got, want := panicOf(func() { use(&g) }), fmt.Sprintf("coalesce: Group.%s is %d%s", c.field, c.n, c.want); got != want {
					t.Errorf("%s of %d, %s: got %v, want %q", c.field, c.n, name, got, want)
				}
			}
		}
	}
}

// TestLimits_Greatest: the greatest numbers that can be set are served. They overflow no
// sum with a time: such a limit is never reached.
func TestLimits_Greatest(t *testing.T) {
	for name, config := range map[string]func(g *kit.Group){
		"Shards":               func(g *kit.Group) { g.Shards = 1 << 20 },
		"MaxWaiters":           func(g *kit.Group) { g.MaxWaiters = math.MaxInt32 - 1 },
		"MaxAge":               func(g *kit.Group) { g.MaxAge = math.MaxInt64 },
		"MaxAge, less by one":  func(g *kit.Group) { g.MaxAge = math.MaxInt64 - 1 },
		"Linger":               func(g *kit.Group) { g.Linger = math.MaxInt64 },
		"Linger, less by one":  func(g *kit.Group) { g.Linger = math.MaxInt64 - 1 },
		"LingerMax":            func(g *kit.Group) { g.Linger, g.LingerMax = time.Hour, math.MaxInt },
		"LingerMax and Linger": func(g *kit.Group) { g.Linger, g.LingerMax = math.MaxInt64-1, math.MaxInt },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				config(&g)
				h := kit.Lead(t, &g)
				for _, f := range kit.Forms {
					a, done := kit.Go(t.Context(), f, &g, "k", kit.CtxValue(2))
					time.Sleep(time.Minute)
					if kit.IsDone(done) {
						t.Errorf("%s: got %+v while the flight runs, want none", f.Name, a)
					}
				}
				close(h.Release)
				synctest.Wait()
				time.Sleep(time.Minute)
				st := g.Stats()
				if st.TakenOver != 0 || st.Rejected != 0 || st.Calls != 7 || g.Len() != 0 {
					t.Errorf("got %+v, Len %d, want 7 calls that are answered", st, g.Len())
				}
				g.Do("l", kit.Value(1))
				time.Sleep(time.Minute)
				want := 3
				if g.Linger > 0 {
					want = 1
				}
				if v, _, err := g.Do("l", kit.Value(3)); v != want || err != nil {
					t.Errorf("got %d, %v, want %d", v, err, want)
				}
				if err := g.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown: got %v, want nil", err)
				}
			})
		})
	}
}

// TestLimits_Storm: calls of all forms on two keys, with both limits on, random fns,
// contexts that end, Forget and in the end Shutdown: all calls are answered, MaxWaiters
// holds throughout, and nothing is left.
func TestLimits_Storm(t *testing.T) {
	kit.CaptureLog(t)
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			g := kit.Group{MaxAge: 20 * time.Millisecond, MaxWaiters: 5, Shards: 1}
			var calls, answered atomic.Int64
			for range 400 {
				f := kit.Forms[r.IntN(len(kit.Forms))]
				key := []string{"a", "b"}[r.IntN(2)]
				patience := time.Duration(r.IntN(60)) * time.Millisecond
				work := time.Duration(r.IntN(50)) * time.Millisecond
				heeds, e := r.IntN(2) == 0, endings[r.IntN(3)]
				calls.Add(1)
				go func() {
					defer answered.Add(1)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					a := f.Call(ctx, &g, key, func(ctx context.Context) (int, error) {
						if !heeds {
							ctx = context.Background()
						}
						select {
						case <-ctx.Done():
						case <-time.After(work):
						}
						return e.end()
					})
					if a.Err == nil && a.V != 5 && a.Panic == nil {
						t.Errorf("%s: got %+v, want 5, an error or a panic", f.Name, a)
					}
				}()
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
				if r.IntN(20) == 0 {
					g.Forget(key)
				}
				for f := range g.Flights() {
					limit := 5
					if f.State == coalesce.StateQueued {
						limit = 6 // one of them is to lead
					}
					if f.Waiters > limit {
						t.Errorf("got %+v, want at most %d waiters", f, limit)
					}
				}
			}
			go g.Shutdown(t.Context())
			time.Sleep(time.Hour)
			synctest.Wait()
			st := g.Stats()
			if answered.Load() != calls.Load() || int64(st.Calls) != calls.Load() || g.Len() != 0 {
				t.Errorf("got %d of %d answered, Len %d, %+v, want all, 0", answered.Load(), calls.Load(), g.Len(), st)
			}
			if st.TakenOver == 0 || st.Rejected == 0 || st.Left == 0 {
				t.Errorf("got %+v, want takeovers, rejected calls and calls that left", st)
			}
		})
	}
}
