package guide

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for a load that takes long, or that must not be run
// too often.

// TestSoftTimeout: a caller that does not want to wait for long takes a
// substitute. The load goes on, and its value is there for the next caller.
func TestSoftTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[string, string]{Linger: time.Hour}
		loads := 0
		load := func(ctx context.Context) (string, error) {
			loads++
			select {
			case <-time.After(time.Second):
				return "page", nil
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		get := func(ctx context.Context) string {
			select {
			case r := <-g.DoChan(context.WithoutCancel(ctx), "k", load):
				return r.Val
			case <-time.After(100 * time.Millisecond):
				return "substitute"
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		if got := get(ctx); got != "substitute" {
			t.Errorf("after 100 ms: got %q, want the substitute", got)
		}
		cancel()
		time.Sleep(time.Second)
		if got := get(t.Context()); got != "page" || loads != 1 {
			t.Errorf("after the load: got %q and %d loads, want the page and 1", got, loads)
		}
	})
}

// TestTimeLimit: fn limits its own time. All callers learn that the time
// was up, and none of their own contexts has ended.
func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		errSlow := errors.New("the store is slow")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, _, err := g.DoContext(t.Context(), "k", func(ctx context.Context) (int, error) {
					ctx, cancel := context.WithTimeoutCause(ctx, time.Second, errSlow)
					defer cancel()
					<-ctx.Done() // a query that never ends
					return 0, context.Cause(ctx)
				})
				if !errors.Is(err, errSlow) {
					t.Errorf("got %v, want %v", err, errSlow)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("got an answer after %v, want 1s", took)
		}
	})
}

// TestHedge: fn sends a second query if the first has no answer yet. All waiting callers
// gain from it, as they would not from a MaxAge.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		var asked, canceled atomic.Int64
		ask := func(ctx context.Context) (int, error) {
			n, takes := asked.Add(1), 10*time.Millisecond
			if n == 1 {
				takes = time.Minute
			}
			select {
			case <-time.After(takes):
				return int(n), nil
			case <-ctx.Done():
				canceled.Add(1)
				return 0, context.Cause(ctx)
			}
		}
		hedged := func(ctx context.Context) (int, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel() // of the slower one
			answers := make(chan coalesce.Result[int], 2)
			again := time.After(100 * time.Millisecond)
			for {
				go func() {
					v, err := ask(ctx)
					answers <- coalesce.Result[int]{Val: v, Err: err}
				}()
				select {
				case r := <-answers:
					return r.Val, r.Err
				case <-again:
					again = nil
				}
			}
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if v, _, err := g.DoContext(t.Context(), "k", hedged); v != 2 || err != nil {
					t.Errorf("got %d, %v, want the second answer", v, err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took != 110*time.Millisecond {
			t.Errorf("got an answer after %v, want 110ms", took)
		}
		synctest.Wait()
		if asked.Load() != 2 || canceled.Load() != 1 {
			t.Errorf("got %d asked and %d canceled, want 2 and 1", asked.Load(), canceled.Load())
		}
	})
}

// TestLimitOfExecutions: at most three fns run at a time, of all keys. The slot is taken
// in fn, so that callers of one key need one for all, and a caller that leaves gives up
// its place in the line.
func TestLimitOfExecutions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[int, int]
		slots := make(chan struct{}, 3)
		var running, most, loaded atomic.Int64
		load := func(ctx context.Context) (int, error) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			loaded.Add(1)
			return 1, nil
		}
		for key := range 20 {
			for range 2 {
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
					defer cancel()
					_, _, _ = g.DoContext(ctx, key, load)
				}()
			}
		}
		time.Sleep(time.Minute)
		// Three after each second; those of the third were abandoned as they ran.
		if most.Load() != 3 || loaded.Load() != 9 || g.Len() != 0 {
			t.Errorf("got %d at a time, %d loaded, %d left; want 3, 9, 0", most.Load(), loaded.Load(), g.Len())
		}
	})
}

// TestAskAgain: errors are shared, and not retried. Callers that call again after one
// share the next attempt as they did the first.
func TestAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		var attempts atomic.Int64
		load := func(context.Context) (int, error) {
			time.Sleep(time.Millisecond)
			if n := attempts.Add(1); n < 3 {
				return 0, fmt.Errorf("attempt %d failed", n)
			}
			return 1, nil
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for wait := time.Second; ; wait *= 2 {
					_, _, err := g.DoContext(t.Context(), "k", load)
					if err == nil {
						return
					}
					time.Sleep(wait)
				}
			})
		}
		wg.Wait()
		if attempts.Load() != 3 {
			t.Errorf("got %d attempts of 10 callers, want 3", attempts.Load())
		}
	})
}

// TestUrgentJoiner: a load that runs at low priority learns from the Join
// hook, which gets the context of the call, that a caller is in a hurry.
func TestUrgentJoiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type urgent struct{}
		hurry := make(chan struct{}, 1)
		g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
			Join: func(ctx context.Context, _ coalesce.Event[string]) {
				if ctx.Value(urgent{}) != nil {
					select {
					case hurry <- struct{}{}:
					default: // it knows
					}
				}
			},
		}}
		load := func(context.Context) (int, error) {
			pace := time.Second
			for range 100 {
				select {
				case <-time.After(pace):
				case <-hurry:
					pace = time.Millisecond
				}
			}
			return 1, nil
		}
		g.DoChan(t.Context(), "image", load)
		time.Sleep(time.Second)
		g.DoChan(t.Context(), "image", load) // in no hurry
		time.Sleep(time.Second)
		began := time.Now()
		if _, _, err := g.DoContext(context.WithValue(t.Context(), urgent{}, true), "image", load); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("got an answer after %v, want less than a second", took)
		}
	})
}
