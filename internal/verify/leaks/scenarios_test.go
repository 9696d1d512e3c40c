package leaks

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the scenarios: calls of groups before the tests look for goroutines.

// calls is the number of calls or flights of each scenario.
const calls = 100

// scenarios leave no goroutine behind.
var scenarios = []struct {
	name string
	run  func(t *testing.T)
}{
	{"receivers after Goexit", receiversAfterGoexit},
	{"abandoned flights", abandonedFlights},
	{"dropped group", droppedGroup},
	{"held flights", heldFlights},
	{"outcomes that linger", lingeringOutcomes},
	{"batches with errors of single keys", keyErrors},
	{"contexts of Start", startContexts},
}

// receiversAfterGoexit: fn calls Goexit; half of the callers of DoChan receive, and the
// others never do.
func receiversAfterGoexit(t *testing.T) {
	var g coalesce.Group[string, int]
	started, release := make(chan struct{}), make(chan struct{})
	lead := g.DoChan(t.Context(), "k", func(context.Context) (int, error) {
		close(started)
		<-release
		runtime.Goexit()
		return 0, nil
	})
	<-started
	channels := []<-chan coalesce.Result[int]{lead}
	for range calls - 1 {
		channels = append(channels, g.DoChan(t.Context(), "k", func(context.Context) (int, error) {
			t.Error("got a second execution, want one")
			return 0, nil
		}))
	}
	close(release)
	for _, ch := range channels[:calls/2] {
		if r := <-ch; r.Err != coalesce.ErrGoexit {
			t.Errorf("got %+v, want %v", r, coalesce.ErrGoexit)
		}
	}
}

// abandonedFlights: all callers leave, and each fn returns when its context ends.
func abandonedFlights(t *testing.T) {
	var g coalesce.Group[int, int]
	abandon(t, &g, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	if err := g.Shutdown(context.Background()); err != nil { // waits for the fns
		t.Errorf("Shutdown: got %v, want nil", err)
	}
}

// droppedGroup is abandonedFlights in a group that nothing refers to any more when fns
// return, with a successor queued behind each flight.
func droppedGroup(t *testing.T) {
	var ended sync.WaitGroup
	ended.Add(calls)
	g := new(coalesce.Group[int, int])
	fresh := make(chan struct{})
	abandon(t, g, func(ctx context.Context) (int, error) {
		defer ended.Done()
		<-ctx.Done()
		<-fresh
		return 0, ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	for key := range calls {
		g.DoChan(ctx, key, func(context.Context) (int, error) { return 0, nil })
	}
	cancel()
	g = nil
	close(fresh)
	ended.Wait()
}

// abandon calls g for many keys, once blocking and once for a channel, and has all
// these calls leave when their fns have started.
func abandon(t *testing.T, g *coalesce.Group[int, int], fn func(context.Context) (int, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var started, left sync.WaitGroup
	started.Add(calls)
	leading := func(ctx context.Context) (int, error) {
		started.Done()
		return fn(ctx)
	}
	for key := range calls {
		left.Go(func() {
			if _, _, err := g.DoContext(ctx, key, leading); !errors.Is(err, context.Canceled) {
				t.Errorf("key %d: got %v, want %v", key, err, context.Canceled)
			}
		})
	}
	started.Wait()
	for key := range calls {
		ch := g.DoChan(ctx, key, leading)
		left.Go(func() {
			if r := <-ch; !errors.Is(r.Err, context.Canceled) {
				t.Errorf("key %d: got %+v, want %v", key, r, context.Canceled)
			}
		})
	}
	cancel()
	left.Wait()
}

// stuckGroup is a case that no library can help: fn never returns. Its caller and those
// that have joined are blocked on a channel that no goroutine can reach.
func stuckGroup() {
	var g coalesce.Group[string, int]
	started := make(chan struct{})
	go g.Do("k", func() (int, error) {
		close(started)
		select {}
	})
	<-started
	for range calls {
		go g.Do("k", func() (int, error) { return 0, nil })
	}
}
