package rules_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestG4_LeaderInACrowd: a leader whose context ends returns at once, though many
// goroutines compute: it does not wait for its turn among them. Quick calls come
// first, as a group that learned from them to let fn run before its leader parks
// returned half a second late here. Hooks for the start and the leaving of the call do
// not make it wait until fn's goroutine has a turn either.
func TestG4_LeaderInACrowd(t *testing.T) {
	if kit.RaceEnabled {
		t.Skip("in a race build, the runtime puts a woken goroutine behind the others at random")
	}
	start := func(context.Context, coalesce.Event[int]) context.Context { return nil }
	leave := func(context.Context, coalesce.Event[int]) {}
	for name, hooks := range map[string]coalesce.Hooks[int]{"plain": {}, "hooks": {Start: start, Leave: leave}} {
		const tries, limit = 5, 200 * time.Millisecond
		var took []time.Duration
		for range tries {
			took = append(took, leadInACrowd(t, &coalesce.Group[int, int]{Hooks: hooks}))
		}
		slices.Sort(took)
		if median := took[tries/2]; median > limit {
			t.Errorf("%s: got returns after %v for a deadline of 5ms, want half of them within %v", name, took, limit)
		}
	}
}

// leadInACrowd returns how long a DoContext with a deadline of 5ms takes, with an fn that
// waits for its context to end, while 64 goroutines compute.
func leadInACrowd(t *testing.T, g *coalesce.Group[int, int]) time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3000 {
		_, _, _ = g.DoContext(ctx, 1, func(context.Context) (int, error) { return 1, nil })
	}
	var crowd sync.WaitGroup
	var over atomic.Bool
	for range 64 {
		crowd.Go(func() {
			for !over.Load() {
			}
		})
	}
	short, stop := context.WithTimeout(ctx, 5*time.Millisecond)
	defer stop()
	began := time.Now()
	_, _, err := g.DoContext(short, 1, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, nil
	})
	took := time.Since(began)
	over.Store(true)
	crowd.Wait()
	if err != context.DeadlineExceeded {
		t.Fatalf("got %v, want the deadline's error", err)
	}
	return took
}
