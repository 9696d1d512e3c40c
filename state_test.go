package coalesce_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
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
	enter func(t *testing.T, g *group) []*held

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
			enter: func(*testing.T, *group) []*held { return nil },
			call:  leads, fresh: leads, try: leads,
			forget: false, forgetUnshared: true,
		},
		{
			name:  "running",
			enter: func(t *testing.T, g *group) []*held { return []*held{lead(t, g)} },
			call:  joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "running, joined",
			enter: func(t *testing.T, g *group) []*held {
				h := lead(t, g)
				goCall(t.Context(), forms[0], g, "k", ctxValue(0))
				return []*held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "running, its follower has left",
			enter: func(t *testing.T, g *group) []*held {
				h := lead(t, g)
				ctx, cancel := context.WithCancel(t.Context())
				goCall(ctx, forms[2], g, "k", ctxValue(0))
				synctest.Wait()
				cancel()
				return []*held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "running, with a queue",
			enter: func(t *testing.T, g *group) []*held {
				h, next := lead(t, g), hold()
				goCall(t.Context(), forms[4], g, "k", next.ctxFn(2))
				return []*held{h, next}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name: "held, without a caller",
			enter: func(t *testing.T, g *group) []*held {
				h, _ := holdAlone(t, g, forms[2])
				return []*held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "held, without a caller, was joined",
			enter: func(t *testing.T, g *group) []*held {
				h, _ := holdAlone(t, g, forms[3])
				joinAndLeave(t, g, forms[2])
				return []*held{h}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: false,
		},
		{
			name: "held, without a caller, with a queue",
			enter: func(t *testing.T, g *group) []*held {
				h, _ := holdAlone(t, g, forms[5])
				next := hold()
				goCall(t.Context(), forms[4], g, "k", next.ctxFn(2))
				return []*held{h, next}
			},
			call: joins, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name:  "abandoned",
			enter: func(t *testing.T, g *group) []*held { return []*held{abandon(t, g, "k")} },
			call:  queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "abandoned, was joined",
			enter: func(t *testing.T, g *group) []*held {
				h := hold()
				ctx, cancel := context.WithCancel(t.Context())
				goCall(ctx, forms[2], g, "k", h.ctxFn(1))
				synctest.Wait()
				goCall(ctx, forms[3], g, "k", ctxValue(0))
				synctest.Wait()
				cancel()
				return []*held{h}
			},
			call: queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true,
		},
		{
			name: "abandoned, with a queue",
			enter: func(t *testing.T, g *group) []*held {
				h, next := abandon(t, g, "k"), hold()
				goCall(t.Context(), forms[0], g, "k", next.ctxFn(2))
				return []*held{h, next}
			},
			call: queues, fresh: queues, try: refused,
			forget: true, forgetUnshared: true, promotes: true,
		},
		{
			name: "forgotten, still running",
			enter: func(t *testing.T, g *group) []*held {
				h := lead(t, g)
				g.Forget("k")
				return []*held{h}
			},
			call: leads, fresh: leads, try: leads,
			forget: false, forgetUnshared: true,
		},
		{
			name: "shut down",
			enter: func(t *testing.T, g *group) []*held {
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
			enter: func(t *testing.T, g *group) []*held {
				h := lead(t, g)
				go g.Shutdown(t.Context())
				return []*held{h}
			},
			call: closed, fresh: closed, try: closed,
			forget: true, forgetUnshared: true,
		},
	}
	for _, st := range states {
		in := func(op string, do func(t *testing.T, g *group)) {
			t.Run(st.name+"/"+op, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g group
					held := st.enter(t, &g)
					synctest.Wait()
					do(t, &g)
					synctest.Wait()
					for _, h := range held {
						close(h.release)
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
		for i, f := range forms {
			want := st.call
			if f.name == "DoFresh" {
				want = st.fresh
			}
			in(f.name, func(t *testing.T, g *group) { testCall(t, g, forms[i], want) })
		}
		in("TryDo", func(t *testing.T, g *group) {
			v, err := g.TryDo("k", value(8))
			want := map[string]error{leads: nil, refused: coalesce.ErrInFlight, closed: coalesce.ErrClosed}[st.try]
			if err != want || err == nil && v != 8 {
				t.Errorf("TryDo: %v, %v, want error %v", v, err, want)
			}
		})
		in("Forget", func(t *testing.T, g *group) {
			testForget(t, g, g.Forget, st.forget, st.forget, st.promotes)
		})
		for _, name := range []string{"ForgetFunc", "ForgetFlight"} {
			in(name, func(t *testing.T, g *group) {
				forget := func(key string) bool { return forgets[name](g, key) }
				testForget(t, g, forget, st.forget, st.forget, st.promotes)
			})
		}
		in("ForgetUnshared", func(t *testing.T, g *group) {
			detaches := st.forget && st.forgetUnshared
			testForget(t, g, g.ForgetUnshared, st.forgetUnshared, detaches, st.promotes)
		})
	}
}

// lead starts a flight of Do that runs until it is released.
func lead(t *testing.T, g *group) *held {
	h := hold()
	goCall(t.Context(), forms[0], g, "k", h.ctxFn(1))
	<-h.started
	return h
}

// testCall makes a call and checks what it does to the key.
func testCall(t *testing.T, g *group, f form, want string) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	before := g.Stats()
	queuedBefore, waitingBefore := countState(g, coalesce.StateQueued), waiting(g)
	h := hold()
	a, done := goCall(ctx, f, g, "k", h.ctxFn(8))
	synctest.Wait()
	after := g.Stats()
	got := "nothing"
	switch {
	case a.err == coalesce.ErrClosed && isDone(done):
		got = closed
	case after.Led > before.Led && h.runs.Load() == 1:
		got = leads
	case waiting(g) > waitingBefore && isQueued(g, queuedBefore):
		got = queues
	case after.Joined > before.Joined:
		got = joins
	}
	if got != want {
		t.Errorf("%s: %s, want %s (%+v, then %+v)", f.name, got, want, before, after)
	}
	close(h.release)
}

// isQueued reports whether the last call is in a queued flight: the table has
// one more of them, or one with two calls.
func isQueued(g *group, before int) bool {
	for f := range g.Flights() {
		if f.State == coalesce.StateQueued && f.Waiters > before {
			return true
		}
	}
	return false
}

func countState(g *group, s coalesce.FlightState) (n int) {
	for f := range g.Flights() {
		if f.State == s {
			n++
		}
	}
	return n
}

func testForget(t *testing.T, g *group, forget func(string) bool, want, detaches, promotes bool) {
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
		var g group
		n := 0
		slow := func(context.Context) (int, error) {
			n++
			v := n
			time.Sleep(time.Minute)
			return v, nil
		}
		call := func(f form, want int, shared bool, after time.Duration) {
			start := time.Now()
			go func() {
				a := f.call(t.Context(), &g, "k", slow)
				if a.v != want || a.shared != shared || a.err != nil || a.at.Sub(start) != after {
					t.Errorf("%s: %+v after %v, want %d after %v", f.name, a, a.at.Sub(start), want, after)
				}
			}()
			synctest.Wait()
		}
		call(forms[0], 1, true, 60*time.Second)
		time.Sleep(10 * time.Second)
		call(forms[4], 2, true, 110*time.Second)
		call(forms[4], 2, true, 110*time.Second)
		call(forms[0], 1, true, 50*time.Second)
		time.Sleep(60 * time.Second)
		// The successor runs now, and began before this call.
		call(forms[2], 2, true, 50*time.Second)
		call(forms[4], 3, false, 110*time.Second)
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
	for _, first := range forms[2:] {
		for _, second := range forms {
			t.Run(first.name+" then "+second.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for range 200 {
						var g group
						old := abandon(t, &g, "k")
						ctx, cancel := context.WithCancel(t.Context())
						live, cancelLive := context.WithCancel(t.Context())
						a, _ := goCall(ctx, first, &g, "k", ctxValue(1))
						synctest.Wait()
						// All of this is concurrent: the end of the old flight,
						// the end of the first's context, and the second call.
						go close(old.release)
						go cancel()
						b, _ := goCall(live, second, &g, "k", ctxValue(2))
						synctest.Wait()
						if !(a.v == 1 && a.err == nil || a.v == 0 && a.err == context.Canceled) {
							t.Fatalf("first: %+v", a)
						}
						if b.err != nil || b.v != 1 && b.v != 2 {
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
		var g group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lost, running := lead(t, &g), hold()
		g.Forget("k")
		leader, _ := goCall(ctx, forms[2], &g, "k", func(ctx context.Context) (int, error) {
			v, err := running.ctxFn(7)(ctx)
			if _, _, err := g.Do("nested", value(1)); err != coalesce.ErrClosed {
				t.Errorf("nested: %v", err)
			}
			return v, err
		})
		synctest.Wait()
		follower, _ := goCall(ctx, forms[0], &g, "k", ctxValue(0))
		old := abandon(t, &g, "other")
		var queued []*answer
		for _, f := range forms {
			for _, key := range []string{"k", "other"} {
				if key == "other" || f.name == "DoFresh" {
					a, _ := goCall(ctx, f, &g, key, ctxValue(0))
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
			if a.err != coalesce.ErrClosed || a.v != 0 {
				t.Errorf("queued %d: %+v", i, a)
			}
		}
		for _, f := range forms {
			for _, key := range []string{"k", "other", "new"} {
				if a := f.call(ctx, &g, key, ctxValue(0)); a.err != coalesce.ErrClosed || a.shared {
					t.Errorf("%s %s: %+v", f.name, key, a)
				}
			}
		}
		for _, h := range []*held{old, running, lost} {
			if len(shut) > 0 {
				t.Error("Shutdown did not wait")
			}
			close(h.release)
			synctest.Wait()
		}
		if leader.v != 7 || leader.err != nil || follower.v != 7 || !follower.shared {
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
		var g group
		old := abandon(t, &g, "k")
		base, cancel := context.WithCancel(t.Context())
		defer cancel()
		reply := make(chan struct{})
		slow := &strangeContext{Context: base, err: func() error { <-reply; return nil }}
		never := func(context.Context) (int, error) {
			t.Error("fn ran")
			return 0, nil
		}
		first, _ := goCall(slow, forms[2], &g, "k", never)
		synctest.Wait()
		second, _ := goCall(base, forms[0], &g, "k", never)
		synctest.Wait()
		slow.strange.Store(true)
		close(old.release) // the first is picked, and asks its context
		synctest.Wait()
		third, _ := goCall(base, forms[4], &g, "k", never) // behind the promoted
		synctest.Wait()
		if err := g.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for i, a := range []*answer{second, third} {
			if a.err != coalesce.ErrClosed {
				t.Errorf("%d: %+v", i, a)
			}
		}
		close(reply)
		synctest.Wait()
		if first.err != coalesce.ErrClosed || g.Len() != 0 {
			t.Errorf("first: %+v, Len %d", first, g.Len())
		}
	})
}

// TestShutdown_OutOfTime: its context ends first; the calls return by their
// own contexts, and what fn ignores is all that is left.
func TestShutdown_OutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		h := lead(t, &g)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errTest)
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: %v", err)
		}
		if _, err := g.TryDo("other", value(1)); err != coalesce.ErrClosed {
			t.Errorf("TryDo: %v", err)
		}
		close(h.release)
		synctest.Wait()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("nothing runs, but: %v", err)
		}
	})
	var unused group
	if err := unused.Shutdown(t.Context()); err != nil {
		t.Errorf("of an unused group: %v", err)
	}
	if _, _, err := unused.Do("k", value(1)); err != coalesce.ErrClosed {
		t.Errorf("Do: %v", err)
	}
}

// TestShutdown_InsideFn: it waits for itself until its context ends.
func TestShutdown_InsideFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
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
		var g group
		forgotten := lead(t, &g)
		g.Forget("k")
		h := lead(t, &g)
		time.Sleep(time.Second) // nobody has asked for its age yet
		for range 3 {
			goCall(t.Context(), forms[0], &g, "k", ctxValue(0))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		next := hold()
		goCall(t.Context(), forms[4], &g, "k", next.ctxFn(0))
		old := abandon(t, &g, "left")
		ctx, cancel := context.WithCancel(t.Context())
		own := hold()
		goCall(ctx, forms[2], &g, "own", own.ctxFn(0))
		<-own.started
		goCall(t.Context(), forms[3], &g, "own", ctxValue(0))
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
		for _, h := range []*held{forgotten, h, next, old, own} {
			close(h.release)
			synctest.Wait()
		}
		for f := range g.Flights() {
			t.Errorf("left behind: %+v", f)
		}
	})
}
