package fleet

import (
	"context"
	"errors"
	"testing"
	"time"
)

// This file tests Forget and Peek.

// TestForget_Waiting: calls that wait in other processes start over, those of the leader's
// process get its value, which is not stored.
func TestForget_Waiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		var w work
		old := call(t.Context(), g[0], "k", w.after(500*time.Millisecond, "old"))
		later(0)
		b, c := call(t.Context(), g[1], "k", w.after(2*time.Second, "new")), call(t.Context(), g[2], "k", w.after(2*time.Second, "new"))
		later(100 * time.Millisecond)
		if ok, err := g[2].Forget(t.Context(), "k"); !ok || err != nil {
			t.Errorf("got %t, %v, want true", ok, err)
		}
		late := call(t.Context(), g[0], "k", w.after(2*time.Second, "new"))
		_ = late
		for _, o := range []*outcome{b, c} {
			if o.get(); o.v != "new" || o.took != 2100*time.Millisecond {
				t.Errorf("got %q, %v, %+v after %v, want new after 2.1s", o.v, o.err, o.info, o.took)
			}
		}
		if b.info.Takeovers != 0 {
			t.Errorf("got %+v, want no takeover", b.info)
		}
		old.get()
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestForget_Leader: a forgotten leader goes on for its own callers; what it returns is
// Stale, and answers no other.
func TestForget_Leader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		old := call(t.Context(), g[0], "k", w.obeying(2*time.Second, "old"))
		later(100 * time.Millisecond)
		if ok, err := g[1].Forget(t.Context(), "k"); !ok || err != nil {
			t.Errorf("got %t, %v, want true", ok, err)
		}
		if old.is(t, "old", Led); !old.info.Stale || old.took != 2*time.Second {
			t.Errorf("got %+v after %v, want stale after 2s", old.info, old.took)
		}
		if h, err := g[1].Peek(t.Context(), "k"); err != nil || h.Leads {
			t.Errorf("got %+v, %v, want no lease", h, err)
		}
		if st := g[0].Stats(); st.Stale != 1 || st.Lost != 0 {
			t.Errorf("got %+v, want one stale result", st)
		}
		left(t, e[0], g...)
	})
}

// TestForget_OwnProcess: a call that comes after Forget does not join a run of before.
func TestForget_OwnProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, nil)
		var w work
		old := call(t.Context(), g[0], "k", w.after(500*time.Millisecond, "old"))
		later(100 * time.Millisecond)
		if ok, err := g[0].Forget(t.Context(), "k"); !ok || err != nil {
			t.Errorf("got %t, %v, want true", ok, err)
		}
		o := call(t.Context(), g[0], "k", w.after(100*time.Millisecond, "new"))
		o.is(t, "new", Led)
		o.between(t, 100*time.Millisecond, 100*time.Millisecond)
		// The one that has ended meanwhile is no takeover, and its value is newer.
		if old.get(); old.err != nil || !old.info.Stale && old.info.Role != Adopted {
			t.Errorf("got %q, %v, %+v", old.v, old.err, old.info)
		}
		left(t, e[0], g...)
	})
}

// TestForget_LaterCallOfTheLeader: a call that comes to the leader's process after another
// has forgotten the key does not get the result of before, whether the leader has noticed
// that while fn ran or not. One that has come before does.
func TestForget_LaterCallOfTheLeader(t *testing.T) {
	for _, test := range []struct{ fn, come time.Duration }{
		{900 * time.Millisecond, 500 * time.Millisecond},  // at the end
		{1900 * time.Millisecond, 500 * time.Millisecond}, // by a renewal
		{1900 * time.Millisecond, 1500 * time.Millisecond},
	} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, nil)
			var w work
			begun := make(map[string]time.Duration)
			begin := time.Now()
			fn := func(name string) func(context.Context) (string, error) {
				return func(ctx context.Context) (string, error) {
					begun[name] = time.Since(begin)
					return w.after(test.fn, name)(ctx)
				}
			}
			call(t.Context(), g[0], "k", fn("old"))
			later(100 * time.Millisecond)
			g[1].Forget(t.Context(), "k")
			later(test.come - 100*time.Millisecond)
			o := call(t.Context(), g[0], "k", fn("new")).get()
			if o.err != nil || o.v == "old" && begun["old"] == 0 {
				t.Errorf("fn %v, call after %v: got %q, %v, %+v, want an execution of after the Forget", test.fn, test.come, o.v, o.err, o.info)
			}
			if test.come > time.Second && o.took != test.fn {
				t.Errorf("took %v, want %v, as the leader had noticed", o.took, test.fn)
			}
			later(10 * time.Second)
			left(t, e[0], g...)
		})
	}
}

// TestForget_Result: a result is forgotten, and then there is nothing to forget.
func TestForget_Result(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		if ok, err := g[1].Forget(t.Context(), "k"); ok || err != nil {
			t.Errorf("got %t, %v, want false", ok, err)
		}
		var w work
		call(t.Context(), g[0], "k", w.after(0, "v")).is(t, "v", Led)
		for i, want := range []bool{true, false} {
			if ok, err := g[1].Forget(t.Context(), "k"); ok != want || err != nil {
				t.Errorf("%d: got %t, %v, want %t", i, ok, err, want)
			}
		}
	})
}

// TestForget_LateResult: the result of a leader that did not hear of the Forget is refused.
func TestForget_LateResult(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Linger = time.Minute })
		var w work
		old := call(t.Context(), g[0], "k", w.after(300*time.Millisecond, "old"))
		later(100 * time.Millisecond)
		g[1].Forget(t.Context(), "k")
		old.get()
		call(t.Context(), g[1], "k", w.after(0, "new")).is(t, "new", Led)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestForget_Errors: Forget and Peek return the error of a context that has ended, and
// ErrEngine after Grace.
func TestForget_Errors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("a cause"))
		forget := func(ctx context.Context) error { _, err := g[0].Forget(ctx, "k"); return err }
		peek := func(ctx context.Context) error { _, err := g[0].Peek(ctx, "k"); return err }
		for name, do := range map[string]func(context.Context) error{"Forget": forget, "Peek": peek} {
			if err := do(ctx); err != context.Canceled {
				t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
			}
		}
		if got := e[0].ops(); got != [3]int32{} {
			t.Errorf("got %v operations, want none", got)
		}
		e[0].cut.Store(true)
		begin := time.Now()
		if err := forget(t.Context()); !errors.Is(err, ErrEngine) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want %v after Grace", err, time.Since(begin), ErrEngine)
		}
		begin = time.Now()
		if err := peek(t.Context()); !errors.Is(err, ErrEngine) || time.Since(begin) != 0 {
			t.Errorf("got %v after %v, want %v at once", err, time.Since(begin), ErrEngine)
		}
		e[0].cut.Store(false)
		later(2 * time.Second)
		peek(t.Context()) // which probes
		later(0)
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		e[0].cut.Store(true)
		if err := forget(ctx); err != context.DeadlineExceeded {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// TestPeek: it says who leads, and since when it has given no sign.
func TestPeek(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		if h, err := g[1].Peek(t.Context(), "k"); err != ErrAbsent {
			t.Errorf("got %+v, %v, want %v", h, err, ErrAbsent)
		}
		var w work
		o := call(t.Context(), g[0], "k", w.after(1900*time.Millisecond, "v"))
		later(1500 * time.Millisecond)
		h, err := g[1].Peek(t.Context(), "k")
		o.is(t, "v", Led)
		if want := (Holder{Leads: true, Process: "a", Token: o.info.Token, Age: 500 * time.Millisecond}); h != want || err != nil {
			t.Errorf("got %+v, %v, want %+v", h, err, want)
		}
		later(time.Second)
		h, err = g[1].Peek(t.Context(), "k")
		if want := (Holder{Process: "a", Token: o.info.Token, Age: time.Second}); h != want || err != nil {
			t.Errorf("got %+v, %v, want %+v", h, err, want)
		}
	})
}

// TestForget_LostAndGone: so it is if another process has led since, and its result has
// expired.
func TestForget_LostAndGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.after(30*time.Second, "old"))
		later(100 * time.Millisecond)
		g[1].Forget(t.Context(), "k")
		call(t.Context(), g[1], "k", w.after(2*time.Second, "new")).is(t, "new", Led)
		later(10 * time.Second)
		o := call(t.Context(), g[0], "k", w.after(time.Second, "newest"))
		o.is(t, "newest", Led)
		o.between(t, time.Second, time.Second)
		if a.get(); a.v != "old" || !a.info.Stale {
			t.Errorf("got %q, %v, %+v, want old and stale", a.v, a.err, a.info)
		}
	})
}
