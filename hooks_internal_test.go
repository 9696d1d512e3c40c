package coalesce

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestHooks_JoinOfAQueuedDo: the hook is told of a Do that is queued when no lock is
// held: it may use the group.
func TestHooks_JoinOfAQueuedDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		told := 0
		g.Hooks.Join = func(Event[int]) { told++; g.Len() }
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		go g.Do(1, func() (int, error) { return 2, nil })
		synctest.Wait()
		if told != 1 {
			t.Errorf("the hook was told of %d calls, want 1", told)
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
		g.Hooks.Leave = func(Event[int]) { left++; runtime.Goexit() }
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
			t.Errorf("the hook got %d leaves, want 1; fn is canceled: %v", left, canceled)
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestHooks_BatchStartsBeforeFn: a batch's fn is called when the hook has been
// told of the start of all its flights.
func TestHooks_BatchStartsBeforeFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		g := Group[int, int]{Hooks: Hooks[int]{Start: func(Event[int]) { time.Sleep(time.Second); told++ }}}
		g.DoMulti(t.Context(), []int{1, 2}, func(context.Context, []int) (map[int]int, error) {
			if told != 2 {
				t.Errorf("fn is called when the hook has been told of %d flights, want 2", told)
			}
			return nil, nil
		})
	})
}
