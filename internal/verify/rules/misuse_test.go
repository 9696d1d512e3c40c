package rules_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestMisuse: a nil fn or context panics with a clear message and leaves the group as it
// was, also for a key in flight.
func TestMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h := kit.Hold()
		go g.Do("busy", h.Fn(1))
		<-h.Started
		var none context.Context
		for _, key := range []string{"busy", "idle"} {
			tests := []struct {
				name, want string
				call       func()
			}{
				{"Do", "coalesce: nil fn", func() { g.Do(key, nil) }},
				{"TryDo", "coalesce: nil fn", func() { g.TryDo(key, nil) }},
				{"DoContext", "coalesce: nil fn", func() { g.DoContext(t.Context(), key, nil) }},
				{"DoContext ctx", "coalesce: nil context", func() { g.DoContext(none, key, kit.CtxValue(1)) }},
				{"DoFresh", "coalesce: nil fn", func() { g.DoFresh(t.Context(), key, nil) }},
				{"DoFresh ctx", "coalesce: nil context", func() { g.DoFresh(none, key, kit.CtxValue(1)) }},
				{"DoChan", "coalesce: nil fn", func() { g.DoChan(t.Context(), key, nil) }},
				{"DoChan ctx", "coalesce: nil context", func() { g.DoChan(none, key, kit.CtxValue(1)) }},
				{"DoMulti", "coalesce: nil fn", func() { g.DoMulti(t.Context(), []string{key}, nil) }},
				{"DoMulti ctx", "coalesce: nil context", func() { g.DoMulti(none, []string{key}, loads(1)) }},
				{"Shutdown", "coalesce: nil context", func() { g.Shutdown(none) }},
			}
			for _, tt := range tests {
				if got := panicOf(tt.call); got != tt.want {
					t.Errorf("%s(%q): got the panic %v, want %q", tt.name, key, got, tt.want)
				}
			}
		}
		close(h.Release)
		synctest.Wait()
		if st := g.Stats(); st.Calls != 1 || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want 1 call, 1", st, g.Len())
		}
		bad := kit.Group{Shards: -1}
		if got := panicOf(func() { bad.Do("k", kit.Value(1)) }); got != "coalesce: Group.Shards is -1, and must not be negative" {
			t.Errorf("negative Shards: got the panic %v, want one that names it", got)
		}
	})
}

func panicOf(fn func()) (r any) {
	defer func() { r = recover() }()
	fn()
	return nil
}

// recovered calls fn and returns whether it panicked, and with what.
func recovered(fn func()) (panicked bool, value any) {
	panicked = true
	defer func() { value = recover() }()
	fn()
	panicked = false
	return
}
