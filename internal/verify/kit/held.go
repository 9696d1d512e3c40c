package kit

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
)

// Held is an fn that runs until it is released.
type Held struct {
	Started chan struct{} // receives one value as each execution starts
	Release chan struct{} // closed by the test to let fn return
	Runs    atomic.Int32  // executions
}

// Hold returns an fn that has not started.
func Hold() *Held {
	return &Held{Started: make(chan struct{}, 16), Release: make(chan struct{})}
}

// Fn returns an fn for Do that yields v once h is released.
func (h *Held) Fn(v int) func() (int, error) {
	return func() (int, error) {
		h.Runs.Add(1)
		h.Started <- struct{}{}
		<-h.Release
		return v, nil
	}
}

// CtxFn is Fn for the forms that give a context, which it ignores.
func (h *Held) CtxFn(v int) func(context.Context) (int, error) {
	fn := h.Fn(v)
	return func(context.Context) (int, error) { return fn() }
}

// Abandon leaves key with an abandoned flight, whose fn ignores its context
// until it is released.
func Abandon(t *testing.T, g *Group, key string) *Held {
	t.Helper()
	h := Hold()
	ctx, cancel := context.WithCancel(t.Context())
	a, done := Go(ctx, Forms[2], g, key, h.CtxFn(1))
	<-h.Started
	cancel()
	<-done
	if a.Err != context.Canceled {
		t.Fatalf("abandoning call: got %+v, want %v", *a, context.Canceled)
	}
	return h
}

// HoldAlone makes a call that leads a flight of "k" whose fn holds it, and that leaves.
// fn runs until it is released, and then returns 1. HoldAlone also returns fn's context.
func HoldAlone(t *testing.T, g *Group, f Form) (*Held, context.Context) {
	t.Helper()
	return HoldAloneTo(t, g, f, func() (int, error) { return 1, nil })
}

// HoldAloneTo is HoldAlone for an fn that ends in the given way.
func HoldAloneTo(t *testing.T, g *Group, f Form, end func() (int, error)) (*Held, context.Context) {
	t.Helper()
	h := Hold()
	var given context.Context
	ctx, leave := context.WithCancel(t.Context())
	a, done := Go(ctx, f, g, "k", func(ctx context.Context) (int, error) {
		given = ctx
		if !coalesce.Hold(ctx) {
			t.Errorf("%s: Hold: got false, want true", f.Name)
		}
		_, _ = h.Fn(0)()
		return end()
	})
	<-h.Started
	leave()
	synctest.Wait()
	if !IsDone(done) || a.Err != context.Canceled {
		t.Errorf("%s: got %+v, want a caller that has left", f.Name, a)
	}
	return h, given
}

// JoinAndLeave makes a call join the flight of "k" and leave it.
func JoinAndLeave(t *testing.T, g *Group, f Form) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	a, done := Go(ctx, f, g, "k", CtxValue(0))
	synctest.Wait()
	leave()
	synctest.Wait()
	if !IsDone(done) || a.Err != context.Canceled || !a.Shared {
		t.Errorf("%s: got %+v, want a caller that has joined and left", f.Name, a)
	}
}

// Lead starts a flight of Do that runs until it is released.
func Lead(t *testing.T, g *Group) *Held {
	h := Hold()
	Go(t.Context(), Forms[0], g, "k", h.CtxFn(1))
	<-h.Started
	return h
}
