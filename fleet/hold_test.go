package fleet

import (
	"context"
	"testing"
	"time"
)

// This file tests what becomes of fn when the callers of its process leave.

// TestHold_FollowersElsewhere: all callers of the leader's process leave, and the calls of
// other processes get the value of the same execution. So does a newcomer in the leader's.
func TestHold_FollowersElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		var w work
		ctx, cancel := context.WithCancel(t.Context())
		gone := call(ctx, g[0], "k", w.obeying(10*time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.obeying(10*time.Second, "other"))
		later(time.Second)
		cancel()
		if gone.get(); gone.err != context.Canceled {
			t.Errorf("got %v, want %v", gone.err, context.Canceled)
		}
		later(time.Second)
		a, c := call(t.Context(), g[0], "k", w.after(0, "other")), call(t.Context(), g[2], "k", w.after(0, "other"))
		b.is(t, "v", Followed)
		b.between(t, 10*time.Second, 10*time.Second)
		a.is(t, "v", Led)
		c.is(t, "v", Followed)
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestCancelAbandoned: fn ends with its last local caller, and a newcomer executes again.
func TestCancelAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.CancelAbandoned = true })
		var w work
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx, g[0], "k", w.obeying(10*time.Second, "never"))
		later(time.Second)
		cancel()
		later(0)
		left(t, e[0], g...)
		if o, err := g[1].Peek(t.Context(), "k"); o.Leads || err != nil {
			t.Errorf("got %+v, %v, want a lease that was given up", o, err)
		}
		o := call(t.Context(), g[1], "k", w.after(time.Second, "v"))
		o.is(t, "v", Led)
		o.between(t, time.Second, time.Second)
		w.ran(t, 2)
	})
}

// TestCancelAbandoned_ValueAllTheSame: an fn that returns a value though its context has
// ended answers the calls that wait elsewhere.
func TestCancelAbandoned_ValueAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.CancelAbandoned = true })
		var w work
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		call(ctx, g[0], "k", w.after(time.Second, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(time.Second, "other")).is(t, "v", Followed)
		w.ran(t, 1)
	})
}
