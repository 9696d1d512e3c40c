package fleet

import (
	"context"
	"testing"
	"time"
)

// This file tests DoFresh, and which results answer a call that comes late.

// fresh is call for a DoFresh.
func fresh(ctx context.Context, g *group, key string, fn func(context.Context) (string, error)) *outcome {
	o := &outcome{done: make(chan struct{})}
	begin := time.Now()
	go func() {
		defer close(o.done)
		o.v, _, o.err = g.DoFresh(ctx, key, fn)
		o.took = time.Since(begin)
	}()
	return o
}

// TestDoFresh_BegunLater: a DoFresh does not get the result of an execution that has begun
// before, in whichever process, but shares one that begins later with those that wait.
func TestDoFresh_BegunLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		var w work
		old := call(t.Context(), g[0], "k", w.after(time.Second, "old"))
		later(100 * time.Millisecond)
		b, c := fresh(t.Context(), g[1], "k", w.after(time.Second, "new")), fresh(t.Context(), g[2], "k", w.after(time.Second, "new"))
		old.is(t, "old", Led)
		for _, o := range []*outcome{b, c} {
			if o.get(); o.v != "new" || o.err != nil || o.took != 1900*time.Millisecond {
				t.Errorf("got %q, %v after %v, want new after 1.9s", o.v, o.err, o.took)
			}
		}
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestDoFresh_Queued: nor does one in the process that runs fn.
func TestDoFresh_Queued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "old"))
		later(100 * time.Millisecond)
		a, b := fresh(t.Context(), g[0], "k", w.after(time.Second, "new")), fresh(t.Context(), g[0], "k", w.after(time.Second, "new"))
		later(0)
		c := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		for _, o := range []*outcome{a, b} {
			if o.get(); o.v != "new" || o.took != 1900*time.Millisecond {
				t.Errorf("got %q, %v after %v, want new after 1.9s", o.v, o.err, o.took)
			}
		}
		c.is(t, "old", Followed)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestDoFresh_NotLingering: nor does it get a value that lingers, or one that was written
// just now.
func TestDoFresh_NotLingering(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.Linger = time.Minute })
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "old")).is(t, "old", Led)
		later(time.Millisecond)
		if o := fresh(t.Context(), g[1], "k", w.after(0, "new")).get(); o.v != "new" || o.err != nil {
			t.Errorf("got %q, %v, want new", o.v, o.err)
		}
		w.ran(t, 2)
	})
}

// TestDoFresh_DeadLeader: the leader for which a DoFresh waits dies, and it takes over.
func TestDoFresh_DeadLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(20*time.Second, "old"))
		later(0)
		e[0].cut.Store(true)
		o := fresh(t.Context(), g[1], "k", w.after(time.Second, "new")).get()
		if o.v != "new" || o.took < 4150*time.Millisecond || o.took > 4300*time.Millisecond {
			t.Errorf("got %q, %v after %v, want new after 1.05 to 1.1 leases and a second", o.v, o.err, o.took)
		}
	})
}

// TestDoFresh_UnnamedConflict: a conflict that names no revision is no measure of what has
// begun before.
func TestDoFresh_UnnamedConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var n int
		e[1].swap = func(_ context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			rec, err := do()
			if _, ok := err.(*Conflict); ok && n == 0 {
				n++
				return rec, &Conflict{Unnamed: true}
			}
			return rec, err
		}
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "old"))
		later(0)
		if o := fresh(t.Context(), g[1], "k", w.after(time.Second, "new")).get(); o.v != "new" {
			t.Errorf("got %q, %v, want new", o.v, o.err)
		}
		w.ran(t, 2)
	})
}

// TestLate_EndedAfterTheCall: a call that could not reach the engine for some time takes
// the result of an execution that has ended meanwhile, without Linger, as it ran when the
// call came; one that has ended before is none for it.
func TestLate_EndedAfterTheCall(t *testing.T) {
	for _, test := range []struct {
		before time.Duration // that the execution begins before the call, or after if it is negative
		took   time.Duration
		v      string
		n      int32
	}{
		{-500 * time.Millisecond, time.Second, "other", 1},
		{time.Millisecond, time.Second, "other", 1},
		{time.Second, 500 * time.Millisecond, "own", 2},
		// It has ended later, by less than 5 % of what has passed.
		{time.Second, 1100 * time.Millisecond, "own", 2},
	} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, func(g *group) { g.Grace = 10 * time.Second })
			var w work
			heal := time.Now().Add(5 * time.Second)
			begin := func() *outcome { return call(t.Context(), g[0], "k", w.after(test.took, "other")) }
			e[1].swap = func(ctx context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
				if time.Now().Before(heal) {
					<-ctx.Done()
					return Record{}, errCut
				}
				return do()
			}
			if test.before > 0 {
				begin()
				later(test.before)
			}
			o := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
			if test.before < 0 {
				later(-test.before)
				begin()
			}
			if o.get(); o.v != test.v || o.err != nil {
				t.Errorf("begun %v before: got %q, %v, want %q", test.before, o.v, o.err, test.v)
			}
			w.ran(t, test.n)
		})
	}
}

// TestLate_JoinedLater: a call that has joined such a run after that execution has ended is
// not answered by it.
func TestLate_JoinedLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Grace = 10 * time.Second })
		var w work
		heal := time.Now().Add(5 * time.Second)
		e[1].swap = func(ctx context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			if time.Now().Before(heal) {
				<-ctx.Done()
				return Record{}, errCut
			}
			return do()
		}
		early := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		later(time.Second)
		call(t.Context(), g[0], "k", w.after(time.Second, "other"))
		later(2 * time.Second)
		late := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		early.is(t, "own", Led)
		late.is(t, "own", Led)
	})
}

// TestLate_UnknownAge: where the engine does not tell an age, or one from the future, a
// result answers no call that comes late.
func TestLate_UnknownAge(t *testing.T) {
	for _, age := range []time.Duration{-1, -time.Hour, 0} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, func(g *group) { g.Linger = time.Minute })
			e[1].load = func(_ context.Context, do func() (Record, error)) (Record, error) {
				rec, err := do()
				rec.Age = age
				return rec, err
			}
			var w work
			call(t.Context(), g[0], "k", w.after(time.Second, "old")).is(t, "old", Led)
			later(time.Second)
			call(t.Context(), g[1], "k", w.after(time.Second, "new")).is(t, "new", Led)
		})
	}
}
