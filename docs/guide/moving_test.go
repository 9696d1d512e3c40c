package guide

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/singleflight"
)

// This file holds what moving.md says of programs that come from other libraries.

type user struct{}

// TestMoving_OneCallAtATime: a call of the drop-in and one of the group beneath share a
// flight. A caller that gives up no longer needs a channel for it.
func TestMoving_OneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g singleflight.Group
		release := make(chan struct{})
		load := func(ctx context.Context, key string) (any, error) {
			select {
			case <-release:
				return "value of " + key, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		moved := func(ctx context.Context, key string) (any, bool, error) {
			v, shared, err := g.Coalesce().DoContext(ctx, key, func(ctx context.Context) (any, error) {
				return load(ctx, key)
			})
			return v, shared, err
		}
		leaves := func(ctx context.Context, key string) (any, error) {
			v, _, err := g.Coalesce().DoContext(ctx, key, func(ctx context.Context) (any, error) { return load(ctx, key) })
			return v, err
		}

		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { _, err := leaves(ctx, "k"); left <- err }()
		synctest.Wait()
		answers := make(chan any, 2)
		go func() {
			v, shared, err := moved(t.Context(), "k")
			if !shared || err != nil {
				t.Errorf("DoContext: got %v, %v, want true, nil", shared, err)
			}
			answers <- v
		}()
		go func() {
			v, err, shared := g.Do("k", func() (any, error) { return nil, errors.New("a second flight") })
			if !shared || err != nil {
				t.Errorf("Do: got %v, %v, want true, nil", shared, err)
			}
			answers <- v
		}()
		synctest.Wait()
		cancel()
		if err := <-left; err != context.Canceled {
			t.Errorf("the caller that left: got %v, want %v", err, context.Canceled)
		}
		close(release)
		for range 2 {
			if v := <-answers; v != "value of k" {
				t.Errorf("got %v, want the value", v)
			}
		}
	})
}

// TestMoving_FnContextOutlivesDo: fn's context does not end with Do. An fn that wants the
// end of what it has started makes a context for that.
func TestMoving_FnContextOutlivesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, *user]
		ended := map[string]bool{}
		background := func(ctx context.Context, key string) {
			context.AfterFunc(ctx, func() { ended[key] = true })
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		key := "runs on"
		load := func(ctx context.Context) (*user, error) {
			background(ctx, key)
			return &user{}, nil
		}
		v, shared, err := g.DoContext(ctx, key, load)
		if v == nil || shared || err != nil {
			t.Fatalf("got %v, %v, %v, want a user, false, nil", v, shared, err)
		}
		_, _, _ = g.DoContext(ctx, "ends", func(ctx context.Context) (*user, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel() // of all that fn has started
			background(ctx, "ends")
			return &user{}, nil
		})
		synctest.Wait()
		if ended["runs on"] || !ended["ends"] {
			t.Errorf("got %v, want the end of the second alone", ended)
		}
	})
}

// TestMoving_EndedContext: a call whose context has ended starts nothing.
func TestMoving_EndedContext(t *testing.T) {
	var g coalesce.Group[string, *user]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := g.DoContext(ctx, "k", func(context.Context) (*user, error) {
		t.Error("got an execution, want none")
		return nil, nil
	})
	if err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestMoving_Panics: a panic is in the Result of a channel, and a caller that recovers
// gets it as a *PanicError.
func TestMoving_Panics(t *testing.T) {
	var g singleflight.Group
	cause := errors.New("cause")
	var panicked *coalesce.PanicError
	r := <-g.DoChan("k", func() (any, error) { panic(cause) })
	if !errors.As(r.Err, &panicked) || !errors.Is(r.Err, cause) {
		t.Errorf("DoChan: got %v, want a PanicError with the cause", r.Err)
	}
	defer func() {
		err, _ := recover().(error)
		if !errors.As(err, &panicked) || !errors.Is(err, cause) {
			t.Errorf("Do: got %v, want a panic with a PanicError with the cause", err)
		}
	}()
	_, _, _ = g.Do("k", func() (any, error) { panic(cause) })
}
