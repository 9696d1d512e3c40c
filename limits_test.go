package coalesce_test

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
)

// TestMaxWaiters_Exact: of thirty calls of each form, whatever led, exactly as
// many follow as may, and the others are told at once.
func TestMaxWaiters_Exact(t *testing.T) {
	for _, lead := range forms {
		for _, follow := range joining {
			t.Run(lead.name+" then "+follow.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := group{MaxWaiters: 10}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					h := hold()
					leader, _ := goCall(ctx, lead, &g, "k", h.ctxFn(1))
					<-h.started
					var calls [30]*answer
					var done [30]<-chan struct{}
					for i := range calls {
						calls[i], done[i] = goCall(ctx, follow, &g, "k", ctxValue(0))
					}
					synctest.Wait()
					refused := 0
					for i, a := range calls {
						if isDone(done[i]) {
							refused++
							if a.err != coalesce.ErrSaturated || a.v != 0 || a.shared {
								t.Errorf("refused: %+v", a)
							}
						}
					}
					if n := waitersOf(&g, "k"); refused != 20 || n != 10 {
						t.Errorf("%d refused, %d wait", refused, n)
					}
					close(h.release)
					synctest.Wait()
					for _, a := range calls {
						if a.err == nil && (a.v != 1 || !a.shared) {
							t.Errorf("follower: %+v", a)
						}
					}
					if leader.v != 1 || leader.err != nil {
						t.Errorf("leader: %+v", leader)
					}
					if st := g.Stats(); st.Led != 1 || st.Joined != 10 || st.Rejected != 20 {
						t.Errorf("%+v", st)
					}
				})
			})
		}
	}
}

// TestMaxWaiters_RoomIsMade: by a caller that leaves, and no more than that.
func TestMaxWaiters_RoomIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{MaxWaiters: 1}
		h := lead(t, &g)
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			first, _ := goCall(ctx, forms[2], &g, "k", ctxValue(0))
			synctest.Wait()
			if _, _, err := g.Do("k", value(0)); err != coalesce.ErrSaturated {
				t.Fatalf("second: %v", err)
			}
			cancel()
			synctest.Wait()
			if first.err != context.Canceled {
				t.Fatalf("first: %+v", first)
			}
		}
		close(h.release)
	})
}

// TestMaxWaiters_SuccessorCountsApart: a queued flight takes one call to lead
// it and as many waiters as any other, whatever the one before it has.
func TestMaxWaiters_SuccessorCountsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{MaxWaiters: 2}
		h := lead(t, &g)
		var followers, queue []*answer
		for range 2 {
			a, _ := goCall(t.Context(), forms[0], &g, "k", ctxValue(0))
			followers = append(followers, a)
		}
		for range 3 {
			a, _ := goCall(t.Context(), forms[4], &g, "k", ctxValue(2))
			queue = append(queue, a)
			synctest.Wait()
		}
		for _, f := range forms {
			if a := f.call(t.Context(), &g, "k", ctxValue(0)); a.err != coalesce.ErrSaturated {
				t.Errorf("%s: %+v", f.name, a)
			}
		}
		close(h.release)
		synctest.Wait()
		for _, a := range followers {
			if a.v != 1 || a.err != nil {
				t.Errorf("follower: %+v", a)
			}
		}
		for _, a := range queue {
			if a.v != 2 || a.err != nil {
				t.Errorf("queued: %+v", a)
			}
		}
	})
}

// TestMaxWaiters_Storm: never more wait than may, in a crowd that comes and
// goes.
func TestMaxWaiters_Storm(t *testing.T) {
	const limit = 3
	g := group{MaxWaiters: limit}
	stop := make(chan struct{})
	var watch, calls sync.WaitGroup
	watch.Go(func() {
		for {
			for f := range g.Flights() {
				if f.State == coalesce.StateRunning && f.Waiters > limit {
					t.Errorf("%+v", f)
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
		t.Errorf("%+v, %d saturated", st, saturated.Load())
	}
	if !eventually(func() bool { return g.Len() == 0 }) { // an abandoned flight may still run
		t.Error("the key is in flight")
	}
}

// TestMaxAge_OneTakeoverPerAge: a call a second for two minutes, with fns that
// never end on their own: one of them takes over each ten seconds, the others
// join the newest, and each flight answers its own callers in the end.
func TestMaxAge_OneTakeoverPerAge(t *testing.T) {
	for _, f := range joining {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := group{MaxAge: 10 * time.Second}
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
				var calls []*answer
				for range 120 {
					a, _ := goCall(ctx, f, &g, "k", fn)
					calls = append(calls, a)
					synctest.Wait()
					time.Sleep(time.Second)
				}
				if st := g.Stats(); runs != 12 || st.TakenOver != 11 || st.Forgotten != 0 || g.Len() != 1 {
					t.Errorf("%d executions, Len %d, %+v", runs, g.Len(), st)
				}
				close(release)
				synctest.Wait()
				for i, a := range calls {
					if a.v != i/10+1 || a.err != nil || !a.shared {
						t.Errorf("call %d: %+v", i, a)
					}
				}
				if g.Len() != 0 {
					t.Errorf("Len = %d", g.Len())
				}
			})
		})
	}
}

// TestMaxAge_ReleasesQueue: calls that queue behind a stuck flight, abandoned
// or not, are let go when it reaches that age, though no further call comes.
func TestMaxAge_ReleasesQueue(t *testing.T) {
	for _, abandoned := range []bool{false, true} {
		for _, f := range forms {
			if !abandoned && f.name != "DoFresh" {
				continue // it would join
			}
			t.Run(fmt.Sprintf("abandoned=%v %s", abandoned, f.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := group{MaxAge: time.Minute}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					start := time.Now()
					var h *held
					if abandoned {
						h = abandon(t, &g, "k")
					} else {
						h = lead(t, &g)
					}
					time.Sleep(20 * time.Second)
					a, _ := goCall(ctx, f, &g, "k", ctxValue(2))
					time.Sleep(20 * time.Second)
					b, _ := goCall(ctx, f, &g, "k", ctxValue(3))
					time.Sleep(time.Hour)
					synctest.Wait()
					for _, a := range []*answer{a, b} {
						if a.v != 2 || a.err != nil || !a.shared || a.at.Sub(start) != time.Minute {
							t.Errorf("%+v after %v", a, a.at.Sub(start))
						}
					}
					if st := g.Stats(); st.TakenOver != 1 || g.Len() != 0 {
						t.Errorf("%+v, Len %d", st, g.Len())
					}
					close(h.release)
				})
			})
		}
	}
}

// TestMaxAge_StateTable: an overdue flight for each operation.
func TestMaxAge_StateTable(t *testing.T) {
	overdue := func(t *testing.T, do func(t *testing.T, g *group)) {
		synctest.Test(t, func(t *testing.T) {
			g := group{MaxAge: time.Second}
			h := lead(t, &g)
			time.Sleep(time.Second)
			do(t, &g)
			close(h.release)
			synctest.Wait()
			if g.Len() != 0 {
				t.Errorf("Len = %d", g.Len())
			}
		})
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			overdue(t, func(t *testing.T, g *group) {
				// DoFresh queues, which lets the timer take over at once.
				a := f.call(t.Context(), g, "k", ctxValue(2))
				if a.v != 2 || a.shared || a.err != nil || g.Stats().TakenOver != 1 {
					t.Errorf("%+v, %+v", a, g.Stats())
				}
			})
		})
	}
	t.Run("TryDo", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *group) {
			if v, err := g.TryDo("k", value(2)); v != 2 || err != nil {
				t.Errorf("%v, %v", v, err)
			}
		})
	})
	t.Run("Forget", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *group) {
			if !g.Forget("k") || g.Stats().Forgotten != 1 {
				t.Errorf("%+v", g.Stats())
			}
		})
	})
	t.Run("ForgetUnshared", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *group) {
			if !g.ForgetUnshared("k") || g.Stats().Forgotten != 1 {
				t.Errorf("%+v", g.Stats())
			}
		})
	})
	t.Run("young", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := group{MaxAge: time.Second}
			h := lead(t, &g)
			time.Sleep(time.Second - 1)
			for i, f := range forms {
				testCall(t, &g, f, []string{joins, joins, joins, joins, queues, joins}[i])
			}
			close(h.release)
		})
	})
}

// TestMaxAge_ChainOfQueues: each of a row of stuck flights holds up the next for
// its own age, counted from its start.
func TestMaxAge_ChainOfQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{MaxAge: time.Minute}
		h := lead(t, &g)
		time.Sleep(30 * time.Second)
		start := time.Now()
		var at [3]time.Duration
		for i := range at {
			go g.DoFresh(t.Context(), "k", func(context.Context) (int, error) {
				at[i] = time.Since(start)
				<-h.release
				return 0, nil
			})
			time.Sleep(61 * time.Second) // the one before has been promoted
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if want := [3]time.Duration{30 * time.Second, 90 * time.Second, 150 * time.Second}; at != want {
			t.Errorf("started after %v, want %v", at, want)
		}
		close(h.release)
	})
}

// TestMaxAge_QueueBehindPromoted: what is queued behind a flight that was
// promoted, and whose leader takes its time, waits for the whole age of that
// flight, counted from its start.
func TestMaxAge_QueueBehindPromoted(t *testing.T) {
	for _, late := range []time.Duration{1, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			g := group{MaxAge: time.Minute}
			old := abandon(t, &g, "k")
			base, cancel := context.WithCancel(t.Context())
			defer cancel()
			answer := make(chan struct{})
			slow := &strangeContext{Context: base, err: func() error { <-answer; return nil }}
			stuck := hold()
			goCall(slow, forms[2], &g, "k", stuck.ctxFn(2))
			synctest.Wait()
			slow.strange.Store(true)
			close(old.release) // the call is picked, and asks its context
			synctest.Wait()
			next, _ := goCall(base, forms[4], &g, "k", ctxValue(3))
			time.Sleep(late)
			close(answer) // it leads
			start := time.Now()
			time.Sleep(time.Hour)
			synctest.Wait()
			if next.v != 3 || next.at.Sub(start) != time.Minute {
				t.Errorf("%+v after %v, where the leader started %v late", next, next.at.Sub(start), late)
			}
			close(stuck.release)
		})
	}
}

// TestMaxAge_QueueThatLeaves: when all who were queued have left, no timer is
// left and nothing is taken over.
func TestMaxAge_QueueThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{MaxAge: time.Minute}
		h := lead(t, &g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := g.DoFresh(ctx, "k", ctxValue(0)); err != context.DeadlineExceeded {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := g.Stats(); st.TakenOver != 0 || g.Len() != 1 {
			t.Errorf("%+v", st)
		}
		close(h.release)
	})
}

// TestMaxAge_SameInstant: calls that come in the very instant in which a queue
// is let go are answered, and so is the queue.
func TestMaxAge_SameInstant(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			g := group{MaxAge: time.Second}
			var calls []*answer
			at := func(f form) {
				a := new(answer)
				calls = append(calls, a)
				go func() {
					time.Sleep(time.Second)
					*a = f.call(t.Context(), &g, "k", ctxValue(2))
				}()
			}
			for _, f := range forms {
				at(f)
			}
			h := lead(t, &g)
			for range 3 {
				a, _ := goCall(t.Context(), forms[4], &g, "k", ctxValue(2))
				calls = append(calls, a)
			}
			for _, f := range forms {
				at(f)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			for i, a := range calls {
				if a.v != 2 || a.err != nil {
					t.Errorf("call %d: %+v", i, a)
				}
			}
			close(h.release)
		})
	}
}

// TestMaxAge_QueueLeavesNothing: what was queued for a long age can be collected
// when it has left, not when that age has come (G12).
func TestMaxAge_QueueLeavesNothing(t *testing.T) {
	g := coalesce.Group[*payload, int]{MaxAge: time.Hour}
	key := func() weak.Pointer[payload] {
		key := new(payload)
		h := hold()
		var wg sync.WaitGroup
		wg.Go(func() { g.Do(key, h.fn(1)) })
		<-h.started
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { g.DoFresh(ctx, key, ctxValue(2)) })
		awaitStats(t, func() bool { return waiting(&g) == 1 })
		cancel()
		close(h.release)
		wg.Wait()
		return weak.Make(key)
	}()
	awaitStats(t, func() bool { runtime.GC(); return key.Value() == nil })
	runtime.KeepAlive(&g)
}

// TestLimits_Misuse: a number that cannot be served panics at first use, whatever call that
// is, and at each use after it. The panic can be recovered, and names the field, the
// number and the limit.
func TestLimits_Misuse(t *testing.T) {
	uses := map[string]func(g *group){
		"Do":       func(g *group) { g.Do("k", value(1)) },
		"TryDo":    func(g *group) { g.TryDo("k", value(1)) },
		"DoChan":   func(g *group) { g.DoChan(t.Context(), "k", ctxValue(1)) },
		"DoMulti":  func(g *group) { g.DoMulti(t.Context(), []string{"k"}, loads(1)) },
		"Forget":   func(g *group) { g.Forget("k") },
		"Len":      func(g *group) { g.Len() },
		"Stats":    func(g *group) { g.Stats() },
		"Flights":  func(g *group) { g.Flights()(func(coalesce.Flight[string]) bool { return true }) },
		"Shutdown": func(g *group) { _ = g.Shutdown(t.Context()) },
	}
	set := map[string]func(g *group, n int64){
		"Shards":     func(g *group, n int64) { g.Shards = int(n) },
		"MaxWaiters": func(g *group, n int64) { g.MaxWaiters = int(n) },
		"MaxAge":     func(g *group, n int64) { g.MaxAge = time.Duration(n) },
		"Linger":     func(g *group, n int64) { g.Linger = time.Duration(n) },
		"LingerMax":  func(g *group, n int64) { g.LingerMax = int(n) },
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
			var g group
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
// sum with a time: what they limit goes on for ever.
func TestLimits_Greatest(t *testing.T) {
	for name, config := range map[string]func(g *group){
		"Shards":               func(g *group) { g.Shards = 1 << 20 },
		"MaxWaiters":           func(g *group) { g.MaxWaiters = math.MaxInt32 - 1 },
		"MaxAge":               func(g *group) { g.MaxAge = math.MaxInt64 },
		"MaxAge, less by one":  func(g *group) { g.MaxAge = math.MaxInt64 - 1 },
		"Linger":               func(g *group) { g.Linger = math.MaxInt64 },
		"Linger, less by one":  func(g *group) { g.Linger = math.MaxInt64 - 1 },
		"LingerMax":            func(g *group) { g.Linger, g.LingerMax = time.Hour, math.MaxInt },
		"LingerMax and Linger": func(g *group) { g.Linger, g.LingerMax = math.MaxInt64-1, math.MaxInt },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g group
				config(&g)
				h := lead(t, &g)
				for _, f := range forms {
					a, done := goCall(t.Context(), f, &g, "k", ctxValue(2))
					time.Sleep(time.Minute)
					if isDone(done) {
						t.Errorf("%s: got %+v while the flight runs, want none", f.name, a)
					}
				}
				close(h.release)
				synctest.Wait()
				time.Sleep(time.Minute)
				st := g.Stats()
				if st.TakenOver != 0 || st.Rejected != 0 || st.Calls != 7 || g.Len() != 0 {
					t.Errorf("got %+v, Len %d, want 7 calls that are answered", st, g.Len())
				}
				g.Do("l", value(1))
				time.Sleep(time.Minute)
				want := 3
				if g.Linger > 0 {
					want = 1
				}
				if v, _, err := g.Do("l", value(3)); v != want || err != nil {
					t.Errorf("got %d, %v, want %d", v, err, want)
				}
				if err := g.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		})
	}
}

// TestLimits_Storm: calls of all forms on two keys, with both limits on, random
// fns, contexts that end, Forget and in the end Shutdown: everybody is answered,
// MaxWaiters holds throughout, and nothing is left.
func TestLimits_Storm(t *testing.T) {
	captureLog(t)
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			g := group{MaxAge: 20 * time.Millisecond, MaxWaiters: 5, Shards: 1}
			var calls, answered atomic.Int64
			for range 400 {
				f := forms[r.IntN(len(forms))]
				key := []string{"a", "b"}[r.IntN(2)]
				patience := time.Duration(r.IntN(60)) * time.Millisecond
				work := time.Duration(r.IntN(50)) * time.Millisecond
				heeds, e := r.IntN(2) == 0, endings[r.IntN(3)]
				calls.Add(1)
				go func() {
					defer answered.Add(1)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					a := f.call(ctx, &g, key, func(ctx context.Context) (int, error) {
						if !heeds {
							ctx = context.Background()
						}
						select {
						case <-ctx.Done():
						case <-time.After(work):
						}
						return e.end()
					})
					if a.err == nil && a.v != 5 && a.panic == nil {
						t.Errorf("%s: %+v", f.name, a)
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
						t.Errorf("%+v", f)
					}
				}
			}
			go g.Shutdown(t.Context())
			time.Sleep(time.Hour)
			synctest.Wait()
			st := g.Stats()
			if answered.Load() != calls.Load() || int64(st.Calls) != calls.Load() || g.Len() != 0 {
				t.Errorf("%d of %d answered, Len %d, %+v", answered.Load(), calls.Load(), g.Len(), st)
			}
			if st.TakenOver == 0 || st.Rejected == 0 || st.Left == 0 {
				t.Errorf("nothing happened: %+v", st)
			}
		})
	}
}
