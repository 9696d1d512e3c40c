package fleet

import (
	"context"
	"testing"
	"time"
)

// This file tests what a call costs, in operations of the engine and in allocations.

// TestCost: two swaps for an execution; one swap, one subscription and one read for a call
// that waits for another process, and one read more if it waits for 50 ms. The calls of a
// process share all of it.
func TestCost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		want := func(what string, e *faulty, want [3]int32) {
			t.Helper()
			if got := e.ops(); got != want {
				t.Errorf("%s: got %v swaps, arms and reads, want %v", what, got, want)
			}
		}
		var w work
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Led)
		want("fresh key, led", e[0], [3]int32{2, 0, 0})
		for range 5 {
			call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Led)
			want("again and again by one process", e[0], [3]int32{2, 0, 0})
		}
		for _, test := range []struct {
			fn   time.Duration
			want [3]int32
		}{{40 * time.Millisecond, [3]int32{1, 1, 1}}, {900 * time.Millisecond, [3]int32{1, 1, 2}}} {
			call(t.Context(), g[0], "k2", w.after(test.fn, "v"))
			later(0)
			e[0].ops()
			for range 10 {
				call(t.Context(), g[1], "k2", w.after(test.fn, "v"))
			}
			later(time.Second)
			want("followed", e[1], test.want)
			want("followed by others", e[0], [3]int32{1, 0, 0})
		}
		call(t.Context(), g[0], "k", w.after(2500*time.Millisecond, "v")).is(t, "v", Led)
		want("long", e[0], [3]int32{4, 0, 0})
	})
}

// TestCost_Waiting: a wait takes a read for 1.25 heartbeats without news, and none while
// the leader renews.
func TestCost_Waiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(time.Minute-time.Millisecond, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(0, "other")).is(t, "v", Followed)
		if got, want := e[1].ops(), [3]int32{1, 1, 2}; got != want {
			t.Errorf("got %v swaps, arms and reads in a minute, want %v", got, want)
		}
	})
}

// TestCost_Result: a conflict that comes with a result that answers costs no more.
func TestCost_Result(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Linger = time.Minute })
		e[1].swap = func(ctx context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			rec, err := do()
			if c, ok := err.(*Conflict); ok {
				c.Record, _ = e[1].Memory.Load(ctx, g[1].RecordName("k"))
			}
			return rec, err
		}
		var w work
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Led)
		later(time.Second)
		call(t.Context(), g[1], "k", w.after(0, "other")).is(t, "v", Followed)
		if got, want := e[1].ops(), [3]int32{1, 0, 0}; got != want {
			t.Errorf("got %v swaps, arms and reads, want %v", got, want)
		}
	})
}

// TestCost_Allocs bounds the allocations of an execution, its goroutines and the memory
// engine's own included.
func TestCost_Allocs(t *testing.T) {
	g, _ := processes(1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fn := func(context.Context) (string, error) { return "v", nil }
	n := testing.AllocsPerRun(1000, func() { g[0].DoContext(ctx, "k", fn) })
	t.Logf("%v allocations", n)
	if n > 80 {
		t.Errorf("got %v allocations, want at most 80", n)
	}
}
