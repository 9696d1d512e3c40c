package coalesce

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestHooks_JoinOfAQueuedDo: the hook for a Do that is queued is called when no lock is
// held: it may use the group.
func TestHooks_JoinOfAQueuedDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		joins := 0
		g.Hooks.Join = func(context.Context, Event[int]) { joins++; g.Len() }
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		go g.Do(1, func() (int, error) { return 2, nil })
		synctest.Wait()
		if joins != 1 {
			t.Errorf("got %d calls of the hook, want 1", joins)
		}
		close(release)
	})
}

// TestHooks_LeaveThatExits: a Leave hook that ends the caller's goroutine does not
// keep the flight's context from being canceled.
func TestHooks_LeaveThatExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		left, canceled := 0, false
		g.Hooks.Leave = func(context.Context, Event[int]) { left++; runtime.Goexit() }
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
				canceled = true
			case <-time.After(time.Hour):
			}
			return 1, nil
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if left != 1 || !canceled {
			t.Errorf("got %d leaves, canceled %v, want 1, true", left, canceled)
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestHooks_BatchStartsBeforeFn: the fn of a batch is called after the Start hook has
// returned, which is called once for all its flights, with the first key that fn gets.
func TestHooks_BatchStartsBeforeFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started []int
		g := Group[int, int]{Hooks: Hooks[int]{Start: func(_ context.Context, e Event[int]) context.Context {
			time.Sleep(time.Second)
			started = append(started, e.Key)
			return nil
		}}}
		g.DoMulti(t.Context(), []int{2, 1, 2}, func(context.Context, []int) (map[int]int, error) {
			if !slices.Equal(started, []int{2}) {
				t.Errorf("got starts of %v before fn, want 2", started)
			}
			return nil, nil
		})
		if len(started) != 1 {
			t.Errorf("got %d starts, want 1", len(started))
		}
	})
}
