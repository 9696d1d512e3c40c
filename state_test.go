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

// What an operation does to a key, in the words of the state table.
const (
	leads   = "leads"
	joins   = "joins"
	queues  = "queues"
	refused = "ErrInFlight"
	closed  = "ErrClosed"
)

// A keyState is a state of the key "k", and what each operation does in it.
type keyState struct {
	name string

	// enter brings the key into the state. What it returns ends the flights
	// that it started.
	enter func(t *testing.T, g *kit.Group) []*kit.Held

	call, fresh, try       string // Do, DoContext and DoChan do the same
	forget, forgetUnshared bool
	promotes               bool // Forget starts the successor
}

// TestStateTable checks each cell: every state of a key against every
// operation.
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
						t.Errorf("Len = %d at the end", n)
					}
					for f := range g.Flights() {
						t.Errorf("left behind: %+v", f)
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
				t.Errorf("TryDo: %v, %v, want error %v", v, err, want)
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

// testCall makes a call and checks what it does to the key.
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
		t.Errorf("%s: %s, want %s (%+v, then %+v)", f.Name, got, want, before, after)
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
		t.Errorf("reports %v, want %v", got, want)
	}
	synctest.Wait()
	if detaches && promotes {
		if g.Stats().Led != led+1 || g.Len() != 1 {
			t.Errorf("the successor was not promoted at once: Len %d, %+v", g.Len(), g.Stats())
		}
	} else if detaches && (g.Len() != 0 || g.Stats().Forgotten != forgotten+1) {
		t.Errorf("not forgotten: Len %d, %+v", g.Len(), g.Stats())
	} else if !detaches && (g.Len() != n || g.Stats().Forgotten != forgotten) {
		t.Errorf("forgotten: Len %d, %+v", g.Len(), g.Stats())
	}
}

// TestDoFresh_StartsAfterTheCall: it never shares an execution that began
// before it, others that come before that one ends share its successor, and
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
					t.Errorf("%s: %+v after %v, want %d after %v", f.Name, a, a.At.Sub(start), want, after)
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
			t.Errorf("%d executions, Len %d", n, g.Len())
		}
	})
}

// TestPromoted_TakenByAnother: between promotion and the moment in which the
// picked call runs, others join that flight, and any of them can take it over.
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
						// All of this is concurrent: the end of the old flight,
						// the end of the first's context, and the second call.
						go close(old.Release)
						go cancel()
						b, _ := kit.Go(live, second, &g, "k", kit.CtxValue(2))
						synctest.Wait()
						if !(a.V == 1 && a.Err == nil || a.V == 0 && a.Err == context.Canceled) {
							t.Fatalf("first: %+v", a)
						}
						if b.Err != nil || b.V != 1 && b.V != 2 {
							t.Fatalf("second: %+v", b)
						}
						if g.Len() != 0 {
							t.Fatalf("Len = %d", g.Len())
						}
						cancelLive()
					}
				})
			})
		}
	}
}

// TestShutdown_Waits: for running flights, the forgotten ones included; calls
// that come, that are queued, and that are made inside the flights get
// ErrClosed at once; those that have joined get the result.
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
				t.Errorf("nested: %v", err)
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
				t.Errorf("queued %d: %+v", i, a)
			}
		}
		for _, f := range kit.Forms {
			for _, key := range []string{"k", "other", "new"} {
				if a := f.Call(ctx, &g, key, kit.CtxValue(0)); a.Err != coalesce.ErrClosed || a.Shared {
					t.Errorf("%s %s: %+v", f.Name, key, a)
				}
			}
		}
		for _, h := range []*kit.Held{old, running, lost} {
			if len(shut) > 0 {
				t.Error("Shutdown did not wait")
			}
			close(h.Release)
			synctest.Wait()
		}
		if leader.V != 7 || leader.Err != nil || follower.V != 7 || !follower.Shared {
			t.Errorf("leader %+v, follower %+v", leader, follower)
		}
		for range 2 {
			if err := <-shut; err != nil {
				t.Errorf("Shutdown: %v", err)
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

// TestShutdown_RejectsPromoted: a flight that was promoted, but whose leader has
// not started it, is rejected like a queued one: its calls get ErrClosed at once,
// and nothing starts.
func TestShutdown_RejectsPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		base, cancel := context.WithCancel(t.Context())
		defer cancel()
		reply := make(chan struct{})
		slow := &kit.StrangeContext{Context: base, StrangeErr: func() error { <-reply; return nil }}
		never := func(context.Context) (int, error) {
			t.Error("fn ran")
			return 0, nil
		}
		first, _ := kit.Go(slow, kit.Forms[2], &g, "k", never)
		synctest.Wait()
		second, _ := kit.Go(base, kit.Forms[0], &g, "k", never)
		synctest.Wait()
		slow.Strange.Store(true)
		close(old.Release) // the first is picked, and asks its context
		synctest.Wait()
		third, _ := kit.Go(base, kit.Forms[4], &g, "k", never) // behind the promoted
		synctest.Wait()
		if err := g.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for i, a := range []*kit.Answer{second, third} {
			if a.Err != coalesce.ErrClosed {
				t.Errorf("%d: %+v", i, a)
			}
		}
		close(reply)
		synctest.Wait()
		if first.Err != coalesce.ErrClosed || g.Len() != 0 {
			t.Errorf("first: %+v, Len %d", first, g.Len())
		}
	})
}

// TestShutdown_OutOfTime: its context ends first; the calls return by their
// own contexts, and what fn ignores is all that is left.
func TestShutdown_OutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h := kit.Lead(t, &g)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(kit.ErrTest)
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: %v", err)
		}
		if _, err := g.TryDo("other", kit.Value(1)); err != coalesce.ErrClosed {
			t.Errorf("TryDo: %v", err)
		}
		close(h.Release)
		synctest.Wait()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("nothing runs, but: %v", err)
		}
	})
	var unused kit.Group
	if err := unused.Shutdown(t.Context()); err != nil {
		t.Errorf("of an unused group: %v", err)
	}
	if _, _, err := unused.Do("k", kit.Value(1)); err != coalesce.ErrClosed {
		t.Errorf("Do: %v", err)
	}
}

// TestShutdown_InsideFn: it waits for itself until its context ends.
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
			t.Errorf("%v after %v", err, time.Since(start))
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
		time.Sleep(time.Second) // nobody has asked for its age yet
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
				t.Errorf("unexpected: %s", s)
			}
		}
		for s, n := range want {
			if n > 0 {
				t.Errorf("missing: %s", s)
			}
		}
		for range g.Flights() {
			break // the loop may stop
		}
		if s := coalesce.FlightState(99).String(); s != "unknown" {
			t.Errorf("unknown state %q", s)
		}
		for _, h := range []*kit.Held{forgotten, h, next, old, own} {
			close(h.Release)
			synctest.Wait()
		}
		for f := range g.Flights() {
			t.Errorf("left behind: %+v", f)
		}
	})
}

// TestMaxAge_StateTable: an overdue flight for each operation.
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
				t.Errorf("Len = %d", g.Len())
			}
		})
	}
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			overdue(t, func(t *testing.T, g *kit.Group) {
				// DoFresh queues, which lets the timer take over at once.
				a := f.Call(t.Context(), g, "k", kit.CtxValue(2))
				if a.V != 2 || a.Shared || a.Err != nil || g.Stats().TakenOver != 1 {
					t.Errorf("%+v, %+v", a, g.Stats())
				}
			})
		})
	}
	t.Run("TryDo", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if v, err := g.TryDo("k", kit.Value(2)); v != 2 || err != nil {
				t.Errorf("%v, %v", v, err)
			}
		})
	})
	t.Run("Forget", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if !g.Forget("k") || g.Stats().Forgotten != 1 {
				t.Errorf("%+v", g.Stats())
			}
		})
	})
	t.Run("ForgetUnshared", func(t *testing.T) {
		overdue(t, func(t *testing.T, g *kit.Group) {
			if !g.ForgetUnshared("k") || g.Stats().Forgotten != 1 {
				t.Errorf("%+v", g.Stats())
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
