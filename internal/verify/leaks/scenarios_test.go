package leaks

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds what is done to groups before the tests look for goroutines.

// calls is how many calls or flights each scenario has.
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

// receiversAfterGoexit: fn calls Goexit, one half of those who called DoChan
// receive, and the other never do.
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
			t.Error("a second execution")
			return 0, nil
		}))
	}
	close(release)
	for _, ch := range channels[:calls/2] {
		if r := <-ch; r.Err != coalesce.ErrGoexit {
			t.Errorf("%+v, want ErrGoexit", r)
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
		t.Errorf("Shutdown() = %v", err)
	}
}

// droppedGroup is abandonedFlights in a group to which nothing refers any more when fns
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
				t.Errorf("key %d: %v, want context.Canceled", key, err)
			}
		})
	}
	started.Wait()
	for key := range calls {
		ch := g.DoChan(ctx, key, leading)
		left.Go(func() {
			if r := <-ch; !errors.Is(r.Err, context.Canceled) {
				t.Errorf("key %d: %+v, want context.Canceled", key, r)
			}
		})
	}
	cancel()
	left.Wait()
}

// stuckGroup is what no library can help: fn never returns. Its caller and those
// who have joined are blocked on what no goroutine can reach.
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
