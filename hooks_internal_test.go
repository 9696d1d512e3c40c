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
// keep the flight from being canceled, be it that the context has ended or that the
// Start hook has ended the goroutine before. Each leave is told of.
func TestHooks_LeaveThatExits(t *testing.T) {
	for _, start := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var g Group[int, int]
			left, canceled := 0, false
			g.Hooks.Leave = func(Event[int]) { left++; runtime.Goexit() }
			if start {
				g.Hooks.Start = func(Event[int]) { runtime.Goexit() }
			}
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
			if !start {
				cancel()
				synctest.Wait()
			}
			if left != 1 || !canceled {
				t.Errorf("Start exits %v: the hook was told of %d leaves, want 1; fn is canceled: %v", start, left, canceled)
			}
			cancel()
			time.Sleep(2 * time.Hour)
		})
	}
}

// TestHooks_ExitAtStartAndLeave: a flight whose receiver's call was ended by the
// hook for its start is run, though the hook for the call's leaving exits, too (H2).
func TestHooks_ExitAtStartAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exit := func(Event[int]) { runtime.Goexit() }
		g := Group[int, int]{Hooks: Hooks[int]{Start: exit, Leave: exit}}
		ran := false
		go g.DoChan(t.Context(), 1, func(context.Context) (int, error) { ran = true; return 1, nil })
		synctest.Wait()
		if n := g.Len(); !ran || n != 0 {
			t.Errorf("fn ran: %t, and %d keys are in flight", ran, n)
		}
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
