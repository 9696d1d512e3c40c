package fleet

import (
	"context"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file tests MaxAge.

// TestMaxAge_Elsewhere: a leader whose fn takes too long renews no more, and who waits
// takes over. fn goes on, and its callers get the successor's value.
func TestMaxAge_Elsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.MaxAge = 10 * time.Second })
		var w work
		a := call(t.Context(), g[0], "k", w.obeying(15*time.Second, "old"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "new"))
		b.is(t, "new", Led)
		// The last renewal is up to a heartbeat before MaxAge, or at it.
		b.between(t, 9*time.Second+3150*time.Millisecond+time.Second, 10*time.Second+3300*time.Millisecond+time.Second)
		if b.info.Takeovers != 1 {
			t.Errorf("got %+v, want a takeover", b.info)
		}
		a.is(t, "new", Adopted)
		a.between(t, 15*time.Second, 15*time.Second)
		left(t, e[0], g...)
	})
}

// TestMaxAge_Here: a newcomer in the process where fn hangs takes over, too.
func TestMaxAge_Here(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, func(g *group) { g.MaxAge = 10 * time.Second })
		var w work
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		call(ctx, g[0], "k", w.after(time.Hour/2, "old"))
		later(10 * time.Second)
		o := call(t.Context(), g[0], "k", w.after(time.Second, "new"))
		o.is(t, "new", Led)
		o.between(t, time.Second, 4300*time.Millisecond)
		cancel()
		later(time.Hour)
		left(t, e[0], g...)
	})
}

// TestMaxAge_Forever: there may be no limit.
func TestMaxAge_Forever(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.MaxAge = coalesce.Forever })
		var w work
		a := call(t.Context(), g[0], "k", w.after(24*time.Hour, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(0, "other")).is(t, "v", Followed)
		a.is(t, "v", Led)
		w.ran(t, 1)
		left(t, e[0], g...)
	})
}

// TestMaxAge_Squatter: a process that renews for ever is taken over after MaxAge and 1.1
// leases, even if its records cannot be understood.
func TestMaxAge_Squatter(t *testing.T) {
	for _, val := range [][]byte{
		[]byte("\x09a later format"),
		box{}.encode(&record{kind: lease, lease: 3 * time.Second, token: 1, process: "squatter"}),
	} {
		bubble(t, func(t *testing.T) {
			g, e := processes(1, func(g *group) { g.MaxAge = 10 * time.Second })
			name := g[0].RecordName("k")
			rec, err := e[0].Memory.Swap(t.Context(), name, 0, val, time.Minute)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for err == nil && wait(ctx, time.Second) == nil {
					rec, err = e[0].Memory.Swap(t.Context(), name, rec.Rev, val, time.Minute)
				}
			}()
			var w work
			o := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
			o.is(t, "v", Led)
			o.between(t, 14300*time.Millisecond, 14300*time.Millisecond)
		})
	}
}

// TestMaxAge_Cycle: two processes that wait for each other's keys have values within
// MaxAge, 1.1 leases and fn.
func TestMaxAge_Cycle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.MaxAge = 10 * time.Second })
		const fn = time.Second
		nested := func(g *group, other string) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				time.Sleep(fn / 2)
				v, _, err := g.DoContext(ctx, other, func(context.Context) (string, error) {
					time.Sleep(fn)
					return "alone", nil
				})
				return v, err
			}
		}
		m := call(t.Context(), g[0], "m", nested(g[0], "n"))
		n := call(t.Context(), g[1], "n", nested(g[1], "m"))
		for _, o := range []*outcome{m, n} {
			if o.get(); o.err != nil || o.v != "alone" {
				t.Errorf("got %q, %v, want a value", o.v, o.err)
			}
			o.between(t, 10*time.Second, 10*time.Second+3300*time.Millisecond+fn)
		}
		left(t, e[0], g...)
	})
}
