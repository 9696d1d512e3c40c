package fleet

import (
	"context"
	"testing"
	"time"
)

// This file tests Shutdown.

// TestShutdown_InTime: it waits for what runs, and later calls get ErrClosed.
func TestShutdown_InTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		a := call(t.Context(), g[0], "k", w.obeying(time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "other"))
		later(0)
		begin := time.Now()
		if err := g[0].Shutdown(t.Context()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want nil after fn", err, time.Since(begin))
		}
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		if o := call(t.Context(), g[0], "k", w.after(0, "v")).get(); o.err != ErrClosed || o.took != 0 {
			t.Errorf("got %v after %v, want %v", o.err, o.took, ErrClosed)
		}
		left(t, e[0], g...)
	})
}

// TestShutdown_OutOfTime: fn's context ends, the lease is given up before Shutdown returns,
// and another process leads at once.
func TestShutdown_OutOfTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		e[0].swap = func(_ context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
			time.Sleep(10 * time.Millisecond)
			return do()
		}
		var w work
		var cause error
		a := call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return "", cause
		})
		later(10 * time.Millisecond)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "v"))
		later(0)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := g[0].Shutdown(ctx); err != context.DeadlineExceeded || time.Since(begin) != 510*time.Millisecond {
			t.Errorf("got %v after %v, want %v when the lease is given up", err, time.Since(begin), context.DeadlineExceeded)
		}
		if h, _ := g[1].Peek(t.Context(), "k"); h.Process == "a" && h.Leads {
			t.Errorf("got %+v, want a lease that was given up", h)
		}
		if a.get(); a.err != ErrClosed || cause != ErrClosed {
			t.Errorf("got %v, cause %v, want %v", a.err, cause, ErrClosed)
		}
		b.is(t, "v", Led)
		b.between(t, 1510*time.Millisecond, 1510*time.Millisecond)
		left(t, e[0], g...)
	})
}

// TestShutdown_FnDoesNotEnd: it waits for that at most Grace.
func TestShutdown_FnDoesNotEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(1, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
		later(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := g[0].Shutdown(ctx); err != context.DeadlineExceeded || time.Since(begin) != 2*time.Second {
			t.Errorf("got %v after %v, want %v after Grace", err, time.Since(begin), context.DeadlineExceeded)
		}
	})
}

// TestShutdown_Follower: calls that wait for another process get ErrClosed, and leave
// nothing behind.
func TestShutdown_Follower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(10*time.Second, "v"))
		later(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g[1].Shutdown(ctx)
		if b.get(); b.err != ErrClosed || b.took != time.Second {
			t.Errorf("got %v after %v, want %v", b.err, b.took, ErrClosed)
		}
		left(t, e[0], g[1])
		if st := g[1].Stats(); st.Refused != 1 {
			t.Errorf("got %+v, want one that was refused", st)
		}
		w.ran(t, 1)
	})
}
