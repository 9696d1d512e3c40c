package coalesce_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// The effects of an operation on a key, in the words of the state table.
const (
	leads   = "leads"
	joins   = "joins"
	queues  = "queues"
	refused = "ErrInFlight"
	closed  = "ErrClosed"
)

// A keyState is a state of the key "k", and the effect of each operation in it.
type keyState struct {
	name string

	// enter brings the key into the state. The function that it returns ends the flights
	// that it started.
	enter func(t *testing.T, g *kit.Group) []*kit.Held

	call, fresh, try       string // Do, DoContext and DoChan have the same effect
	forget, forgetUnshared bool
	promotes               bool // Forget starts the successor
}

// TestStateTable checks each cell: every state of a key against every operation.
func TestStateTable(t *testing.T) {
	states := []keyState{
		{
			name:  "none",
			enter: func(*testing.T, *kit.Group) []*kit.Held { return nil },
			call:  leads, fresh: leads, try: leads,
			forget: false, forgetUnshared: true,
		},
		{
			name:  "running",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held { return []*kit.Held{kit.Lead(t, g)} },
			call:  joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "running, joined",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h := kit.Lead(t, g)
				kit.Go(t.Context(), kit.Forms[0], g, "k", kit.CtxValue(0))
				return []*kit.Held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "running, its follower has left",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h := kit.Lead(t, g)
				ctx, cancel := context.WithCancel(t.Context())
				kit.Go(ctx, kit.Forms[2], g, "k", kit.CtxValue(0))
				synctest.Wait()
				cancel()
				return []*kit.Held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "running, with a queue",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h, next := kit.Lead(t, g), kit.Hold()
				kit.Go(t.Context(), kit.Forms[4], g, "k", next.CtxFn(2))
				return []*kit.Held{h, next}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name: "held, without a caller",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h, _ := kit.HoldAlone(t, g, kit.Forms[2])
				return []*kit.Held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "held, without a caller, was joined",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h, _ := kit.HoldAlone(t, g, kit.Forms[3])
				kit.JoinAndLeave(t, g, kit.Forms[2])
				return []*kit.Held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "held, without a caller, with a queue",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h, _ := kit.HoldAlone(t, g, kit.Forms[5])
				next := kit.Hold()
				kit.Go(t.Context(), kit.Forms[4], g, "k", next.CtxFn(2))
				return []*kit.Held{h, next}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name:  "abandoned",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held { return []*kit.Held{kit.Abandon(t, g, "k")} },
			call:  queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "abandoned, was joined",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h := kit.Hold()
				ctx, cancel := context.WithCancel(t.Context())
				kit.Go(ctx, kit.Forms[2], g, "k", h.CtxFn(1))
				synctest.Wait()
				kit.Go(ctx, kit.Forms[3], g, "k", kit.CtxValue(0))
				synctest.Wait()
				cancel()
				return []*kit.Held{h}
			},
			call: queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "abandoned, with a queue",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h, next := kit.Abandon(t, g, "k"), kit.Hold()
				kit.Go(t.Context(), kit.Forms[0], g, "k", next.CtxFn(2))
				return []*kit.Held{h, next}
			},
			call: queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name: "forgotten, still running",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h := kit.Lead(t, g)
				g.Forget("k")
				return []*kit.Held{h}
			},
			call: leads, fresh: leads, try: leads,
			forget: false, forgetUnshared: true,
		},
		{
			name: "shut down",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				if err := g.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				return nil
			},
			call: closed, fresh: closed, try: closed,
			forget: false, forgetUnshared: true,
		},
		{
			name: "shut down, still running",
			enter: func(t *testing.T, g *kit.Group) []*kit.Held {
				h := kit.Lead(t, g)
				go g.Shutdown(t.Context())
				return []*kit.Held{h}
			},
			call: closed, fresh: closed, try: closed,
			forget: true, forgetUnshared: true,
		},
	}
	for _, st := range states {
		in := func(op string, do func(t *testing.T, g *kit.Group)) {
			t.Run(st.name+"/"+op, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					held := st.enter(t, &g)
					synctest.Wait()
					do(t, &g)
					synctest.Wait()
					for _, h := range held {
						close(h.Release)
						synctest.Wait()
					}
					if n := g.Len(); n != 0 {
						t.Errorf("got Len %d at the end, want 0", n)
					}
					for f := range g.Flights() {
						t.Errorf("got %+v, want no flight", f)
					}
				})
			})
		}
		for i, f := range kit.Forms {
			want := st.call
			if f.Name == "DoFresh" {
				want = st.fresh
			}
			in(f.Name, func(t *testing.T, g *kit.Group) { testCall(t, g, kit.Forms[i], want) })
		}
		in("TryDo", func(t *testing.T, g *kit.Group) {
			v, err := g.TryDo("k", kit.Value(8))
			want := map[string]error{leads: nil, refused: coalesce.ErrInFlight, closed: coalesce.ErrClosed}[st.try]
			if err != want || err == nil && v != 8 {
				t.Errorf("TryDo: got %v, %v, want error %v", v, err, want)
			}
		})
		in("Forget", func(t *testing.T, g *kit.Group) {
			testForget(t, g, g.Forget, st.forget, st.forget, st.promotes)
		})
		for _, name := range []string{"ForgetFunc", "ForgetFlight"} {
			in(name, func(t *testing.T, g *kit.Group) {
				forget := func(key string) bool { return kit.Forgets[name](g, key) }
				testForget(t, g, forget, st.forget, st.forget, st.promotes)
			})
		}
		in("ForgetUnshared", func(t *testing.T, g *kit.Group) {
			detaches := st.forget && st.forgetUnshared
			testForget(t, g, g.ForgetUnshared, st.forgetUnshared, detaches, st.promotes)
		})
	}
}

// testCall makes a call and checks its effect on the key.
func testCall(t *testing.T, g *kit.Group, f kit.Form, want string) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	before := g.Stats()
	queuedBefore, waitingBefore := kit.CountState(g, coalesce.StateQueued), kit.Waiting(g)
	h := kit.Hold()
	a, done := kit.Go(ctx, f, g, "k", h.CtxFn(8))
	synctest.Wait()
	after := g.Stats()
	got := "nothing"
	switch {
	case a.Err == coalesce.ErrClosed && kit.IsDone(done):
		got = closed
	case after.Led > before.Led && h.Runs.Load() == 1:
		got = leads
	case kit.Waiting(g) > waitingBefore && isQueued(g, queuedBefore):
		got = queues
	case after.Joined > before.Joined:
		got = joins
	}
	if got != want {
		t.Errorf("%s: got %s, want %s (%+v, then %+v)", f.Name, got, want, before, after)
	}
	close(h.Release)
}

// isQueued reports whether the last call is in a queued flight: the table has
// one more of them, or one with two calls.
func isQueued(g *kit.Group, before int) bool {
	for f := range g.Flights() {
		if f.State == coalesce.StateQueued && f.Waiters > before {
			return true
		}
	}
	return false
}

func testForget(t *testing.T, g *kit.Group, forget func(string) bool, want, detaches, promotes bool) {
	led, n, forgotten := g.Stats().Led, g.Len(), g.Stats().Forgotten
	if got := forget("k"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	synctest.Wait()
	if detaches && promotes {
		if g.Stats().Led != led+1 || g.Len() != 1 {
			t.Errorf("got Len %d, %+v, want the successor promoted at once", g.Len(), g.Stats())
		}
	} else if detaches && (g.Len() != 0 || g.Stats().Forgotten != forgotten+1) {
		t.Errorf("got Len %d, %+v, want the flight forgotten", g.Len(), g.Stats())
	} else if !detaches && (g.Len() != n || g.Stats().Forgotten != forgotten) {
		t.Errorf("got Len %d, %+v, want no flight forgotten", g.Len(), g.Stats())
	}
}

// TestDoFresh_StartsAfterTheCall: a DoFresh never shares an execution that began before
// it. Calls of DoFresh that come before that execution ends share one successor, and
// calls of the other forms go on joining the running flight.
func TestDoFresh_StartsAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		n := 0
		slow := func(context.Context) (int, error) {
			n++
			v := n
			time.Sleep(time.Minute)
			return v, nil
		}
		call := func(f kit.Form, want int, shared bool, after time.Duration) {
			start := time.Now()
			go func() {
				a := f.Call(t.Context(), &g, "k", slow)
				if a.V != want || a.Shared != shared || a.Err != nil || a.At.Sub(start) != after {
					t.Errorf("%s: got %+v after %v, want %d after %v", f.Name, a, a.At.Sub(start), want, after)
				}
			}()
			synctest.Wait()
		}
		call(kit.Forms[0], 1, true, 60*time.Second)
		time.Sleep(10 * time.Second)
		call(kit.Forms[4], 2, true, 110*time.Second)
		call(kit.Forms[4], 2, true, 110*time.Second)
		call(kit.Forms[0], 1, true, 50*time.Second)
		time.Sleep(60 * time.Second)
		// The successor runs now, and began before this call.
		call(kit.Forms[2], 2, true, 50*time.Second)
		call(kit.Forms[4], 3, false, 110*time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n != 3 || g.Len() != 0 {
			t.Errorf("got %d executions, Len %d, want 3, 0", n, g.Len())
		}
	})
}

// TestPromoted_TakenByAnother: between promotion and the moment in which the promoted
// call runs, others join that flight, and any of them can take it over.
func TestPromoted_TakenByAnother(t *testing.T) {
	for _, first := range kit.Forms[2:] {
		for _, second := range kit.Forms {
			t.Run(first.Name+" then "+second.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for range 200 {
						var g kit.Group
						old := kit.Abandon(t, &g, "k")
						ctx, cancel := context.WithCancel(t.Context())
						live, cancelLive := context.WithCancel(t.Context())
						a, _ := kit.Go(ctx, first, &g, "k", kit.CtxValue(1))
						synctest.Wait()
						// All of these are concurrent: the end of the old flight, the end
						// of the first's context, and the second call.
						go close(old.Release)
						go cancel()
						b, _ := kit.Go(live, second, &g, "k", kit.CtxValue(2))
						synctest.Wait()
						if !(a.V == 1 && a.Err == nil || a.V == 0 && a.Err == context.Canceled) {
							t.Fatalf("first: got %+v, want 1 or %v", a, context.Canceled)
						}
						if b.Err != nil || b.V != 1 && b.V != 2 {
							t.Fatalf("second: got %+v, want 1 or 2", b)
						}
						if g.Len() != 0 {
							t.Fatalf("got Len %d, want 0", g.Len())
						}
						cancelLive()
					}
				})
			})
		}
	}
}

// TestShutdown_Waits: Shutdown waits for running flights, including the forgotten ones.
// New calls, queued calls and calls from inside the flights get ErrClosed at once; calls
// that have joined get the result.
func TestShutdown_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lost, running := kit.Lead(t, &g), kit.Hold()
		g.Forget("k")
		leader, _ := kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			v, err := running.CtxFn(7)(ctx)
			if _, _, err := g.Do("nested", kit.Value(1)); err != coalesce.ErrClosed {
				t.Errorf("nested: got %v, want %v", err, coalesce.ErrClosed)
			}
			return v, err
		})
		synctest.Wait()
		follower, _ := kit.Go(ctx, kit.Forms[0], &g, "k", kit.CtxValue(0))
		old := kit.Abandon(t, &g, "other")
		var queued []*kit.Answer
		for _, f := range kit.Forms {
			for _, key := range []string{"k", "other"} {
				if key == "other" || f.Name == "DoFresh" {
					a, _ := kit.Go(ctx, f, &g, key, kit.CtxValue(0))
					queued = append(queued, a)
				}
			}
		}
		synctest.Wait()
		shut := make(chan error, 2)
		for range 2 {
			go func() { shut <- g.Shutdown(context.Background()) }()
		}
		synctest.Wait()
		for i, a := range queued {
			if a.Err != coalesce.ErrClosed || a.V != 0 {
				t.Errorf("queued %d: got %+v, want %v", i, a, coalesce.ErrClosed)
			}
		}
		for _, f := range kit.Forms {
			for _, key := range []string{"k", "other", "new"} {
				if a := f.Call(ctx, &g, key, kit.CtxValue(0)); a.Err != coalesce.ErrClosed || a.Shared {
					t.Errorf("%s %s: got %+v, want %v", f.Name, key, a, coalesce.ErrClosed)
				}
			}
		}
		for _, h := range []*kit.Held{old, running, lost} {
			if len(shut) > 0 {
				t.Error("got a Shutdown that has returned, want it to wait")
			}
			close(h.Release)
			synctest.Wait()
		}
		if leader.V != 7 || leader.Err != nil || follower.V != 7 || !follower.Shared {
			t.Errorf("got leader %+v, follower %+v, want 7 for both", leader, follower)
		}
		for range 2 {
			if err := <-shut; err != nil {
				t.Errorf("Shutdown: got %v, want nil", err)
			}
		}
		st := g.Stats()
		want := coalesce.Stats{
			Calls: 3 + 1 + 7 + 18 + 1, Led: 3, Joined: 1, Rejected: 7 + 18 + 1,
			Left: 1, Abandoned: 1, Forgotten: 1,
		}
		if st != want {
			t.Errorf("got  %+v\nwant %+v", st, want)
		}
	})
}

// TestShutdown_RejectsPromoted: a flight that was promoted, but whose leader has not
// started it, is rejected like a queued one: its calls get ErrClosed at once, and no
// execution starts.
func TestShutdown_RejectsPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		base, cancel := context.WithCancel(t.Context())
		defer cancel()
		reply := make(chan struct{})
		slow := &kit.StrangeContext{Context: base, StrangeErr: func() error { <-reply; return nil }}
		never := func(context.Context) (int, error) {
			t.Error("got a call of fn, want none")
			return 0, nil
		}
		first, _ := kit.Go(slow, kit.Forms[2], &g, "k", never)
		synctest.Wait()
		second, _ := kit.Go(base, kit.Forms[0], &g, "k", never)
		synctest.Wait()
		slow.Strange.Store(true)
		close(old.Release) // the first gets its turn, and asks its context
		synctest.Wait()
		third, _ := kit.Go(base, kit.Forms[4], &g, "k", never) // behind the promoted one
		synctest.Wait()
		if err := g.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for i, a := range []*kit.Answer{second, third} {
			if a.Err != coalesce.ErrClosed {
				t.Errorf("%d: got %+v, want %v", i, a, coalesce.ErrClosed)
			}
		}
		close(reply)
		synctest.Wait()
		if first.Err != coalesce.ErrClosed || g.Len() != 0 {
			t.Errorf("first: got %+v, Len %d, want %v, 0", first, g.Len(), coalesce.ErrClosed)
		}
	})
}

// TestShutdown_OutOfTime: its context ends first; the calls return by their own contexts,
// and only an fn that ignores its context is left.
func TestShutdown_OutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h := kit.Lead(t, &g)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(kit.ErrTest)
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: got %v, want %v", err, context.Canceled)
		}
		if _, err := g.TryDo("other", kit.Value(1)); err != coalesce.ErrClosed {
			t.Errorf("TryDo: got %v, want %v", err, coalesce.ErrClosed)
		}
		close(h.Release)
		synctest.Wait()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown when nothing runs: got %v, want nil", err)
		}
	})
	var unused kit.Group
	if err := unused.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown of an unused group: got %v, want nil", err)
	}
	if _, _, err := unused.Do("k", kit.Value(1)); err != coalesce.ErrClosed {
		t.Errorf("Do: got %v, want %v", err, coalesce.ErrClosed)
	}
}

// TestShutdown_InsideFn: a Shutdown inside fn waits for itself until its context ends.
func TestShutdown_InsideFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		start := time.Now()
		_, _, err := g.Do("k", func() (int, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return 0, g.Shutdown(ctx)
		})
		if err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want %v after 1s", err, time.Since(start), context.DeadlineExceeded)
		}
	})
}

// TestFlights shows every kind of unfinished flight as it is.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		forgotten := kit.Lead(t, &g)
		g.Forget("k")
		h := kit.Lead(t, &g)
		time.Sleep(time.Second) // no call has asked for its age yet
		for range 3 {
			kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		next := kit.Hold()
		kit.Go(t.Context(), kit.Forms[4], &g, "k", next.CtxFn(0))
		old := kit.Abandon(t, &g, "left")
		ctx, cancel := context.WithCancel(t.Context())
		own := kit.Hold()
		kit.Go(ctx, kit.Forms[2], &g, "own", own.CtxFn(0))
		<-own.Started
		kit.Go(t.Context(), kit.Forms[3], &g, "own", kit.CtxValue(0))
		synctest.Wait()
		cancel() // its leader leaves, one follower stays
		synctest.Wait()
		time.Sleep(time.Second)
		want := map[string]int{
			"{k 0 2s true 3 running false}":       1,
			"{k 0 0s true 0 running true}":        1,
			"{k 0 1s false 1 queued false}":       1,
			"{left 0 1s false 0 abandoned false}": 1,
			"{own 0 1s false 1 running false}":    1,
		}
		for f := range g.Flights() {
			f.ID = 0 // see TestFlightID_Unique
			s := fmt.Sprint(f)
			if want[s]--; want[s] < 0 {
				t.Errorf("got %s, want no such flight", s)
			}
		}
		for s, n := range want {
			if n > 0 {
				t.Errorf("got no %s, want one", s)
			}
		}
		for range g.Flights() {
			break // the loop may stop
		}
		if s := coalesce.FlightState(99).String(); s != "unknown" {
			t.Errorf("got state %q, want unknown", s)
		}
		for _, h := range []*kit.Held{forgotten, h, next, old, own} {
			close(h.Release)
			synctest.Wait()
		}
		for f := range g.Flights() {
			t.Errorf("got %+v, want no flight", f)
		}
	})
}

// TestMaxAge_StateTable: the effect of each operation on a flight past MaxAge.
func TestMaxAge_StateTable(t *testing.T) {
	overdue := func(t *testing.T, do func(t *testing.T, g *kit.Group)) {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{MaxAge: time.Second}
			h := kit.Lead(t, &g)
			time.Sleep(time.Second)
			do(t, &g)
			close(h.Release)
			synctest.Wait()
			if g.Len() != 0 {
				t.Errorf("got Len %d, want 0", g.Len())
			}
		})
	}
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			overdue(t, func(t *testing.T, g *kit.Group) {
				// DoFresh queues, which lets the timer take over at once.
				a := f.Call(t.Context(), g, "k", kit.CtxValue(2))
				if a.V != 2 || a.Shared || a.Err != nil || g.Stats().TakenOver != 1 {
					t.Errorf("got %+v with %+v, want 2, not shared, 1 takeover", a, g.Stats())
				}
			})
		})
	}
	t.Run("TryDo", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if v, err := g.TryDo("k", kit.Value(2)); v != 2 || err != nil {
				t.Errorf("got %v, %v, want 2, nil", v, err)
			}
		})
	})
	t.Run("Forget", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if !g.Forget("k") || g.Stats().Forgotten != 1 {
				t.Errorf("got %+v, want 1 forgotten", g.Stats())
			}
		})
	})
	t.Run("ForgetUnshared", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if !g.ForgetUnshared("k") || g.Stats().Forgotten != 1 {
				t.Errorf("got %+v, want 1 forgotten", g.Stats())
			}
		})
	})
	t.Run("young", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{MaxAge: time.Second}
			h := kit.Lead(t, &g)
			time.Sleep(time.Second - 1)
			for i, f := range kit.Forms {
				testCall(t, &g, f, []string{joins, joins, joins, joins, queues, joins}[i])
			}
			close(h.Release)
		})
	})
}
