package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestContext_ErrAfterDone: who sees that a flight's context has ended, by Err or
// by its cause, sees its Done closed, also before everybody else is woken.
func TestContext_ErrAfterDone(t *testing.T) {
	var c flightContext
	done := c.Done()
	c.mark(endedBy(ErrClosed))
	if err, cause := c.Err(), context.Cause(&c); err != context.Canceled || cause != ErrClosed {
		t.Errorf("it ended with %v and %v", err, cause)
	}
	if !sched.IsComplete(done) {
		t.Error("Done is not closed when Err says that the context has ended")
	}
}

// TestContext_AfterFuncOnceEnded: a function that is registered when the context
// has ended is called at once.
func TestContext_AfterFuncOnceEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c flightContext
		c.cancel(ErrClosed)
		called := 0
		stop := c.AfterFunc(func() { called++ })
		synctest.Wait()
		if called != 1 || stop() {
			t.Errorf("called %d times, or it could be stopped", called)
		}
	})
}

// TestContext_AfterFuncStopped: functions can be stopped in any order, and no
// other is: those that are left are called when the context ends. To stop one
// again, or one that has been called, does nothing.
func TestContext_AfterFuncStopped(t *testing.T) {
	for _, order := range [][]int{{}, {0}, {3}, {1, 2}, {2, 1}, {0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0}, {2, 0, 3}} {
		synctest.Test(t, func(t *testing.T) {
			var c flightContext
			var called, want [4]int
			var stops [4]func() bool
			for i := range stops {
				stops[i] = c.AfterFunc(func() { called[i]++ })
				want[i] = 1
			}
			for _, i := range order {
				if !stops[i]() || stops[i]() {
					t.Errorf("%v: %d was not stopped once", order, i)
				}
				want[i] = 0
				n, before := 0, (*afterFunc)(nil)
				for a := c.after.first; a != nil; a = a.next {
					if a.prev != before {
						t.Errorf("%v: the list is broken when %d has been stopped", order, i)
					}
					n, before = n+1, a
				}
				if left := want[0] + want[1] + want[2] + want[3]; n != left {
					t.Errorf("%v: %d functions are kept when %d has been stopped, want %d", order, n, i, left)
				}
			}
			c.cancel(ErrClosed)
			synctest.Wait()
			if called != want {
				t.Errorf("%v: called %v, want %v", order, called, want)
			}
			for i, stop := range stops {
				if stop() {
					t.Errorf("%v: %d was stopped when the context had ended", order, i)
				}
			}
		})
	}
}

// TestContext_EndedKeepsNoFunctions: a context that has ended, which what fn
// returned may keep, does not keep what was to be called then (G12).
func TestContext_EndedKeepsNoFunctions(t *testing.T) {
	var c flightContext
	c.AfterFunc(func() {})
	c.cancel(ErrClosed)
	if c.after.first != nil {
		t.Error("a function is kept")
	}
}

// TestContext_ChildEndsWithIt: a context derived from fn's has ended when who canceled
// that goes on, as it would have with package context's own.
func TestContext_ChildEndsWithIt(t *testing.T) {
	for range 100 {
		c := flightContext{values: context.Background()}
		child, cancel := context.WithTimeout(&c, time.Hour)
		c.cancel(ErrClosed)
		if err, cause := child.Err(), context.Cause(child); err != context.Canceled || cause != ErrClosed {
			t.Fatalf("it ended with %v and %v", err, cause)
		}
		cancel()
	}
}
