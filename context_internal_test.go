package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestContext_ErrAfterDone: code that sees, by Err or by its cause, that a flight's
// context has ended, sees its Done closed, even before any waiter is woken.
func TestContext_ErrAfterDone(t *testing.T) {
	var c flightContext
	done := c.Done()
	c.mark(endedBy(ErrClosed))
	if err, cause := c.Err(), context.Cause(&c); err != context.Canceled || cause != ErrClosed {
		t.Errorf("got %v with cause %v, want %v with cause %v", err, cause, context.Canceled, ErrClosed)
	}
	if !sched.IsComplete(done) {
		t.Error("got an open Done after Err, want it closed")
	}
}

// TestContext_AfterFuncOnceEnded: a function that is registered after the context has
// ended is called at once.
func TestContext_AfterFuncOnceEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c flightContext
		c.cancel(ErrClosed)
		called := 0
		stop := c.AfterFunc(func() { called++ })
		synctest.Wait()
		if called != 1 || stop() {
			t.Errorf("got %d calls, or a stop that succeeds, want 1 and false", called)
		}
	})
}

// TestContext_AfterFuncStopped: functions can be stopped in any order, without stopping
// others: those that are left are called when the context ends. To stop one again, or one
// that has been called, has no effect.
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
					t.Errorf("%v: stop of %d: got a wrong answer, want true once", order, i)
				}
				want[i] = 0
				n, before := 0, (*afterFunc)(nil)
				for a := c.after.first; a != nil; a = a.next {
					if a.prev != before {
						t.Errorf("%v: stop of %d: got a broken list, want it linked", order, i)
					}
					n, before = n+1, a
				}
				if left := want[0] + want[1] + want[2] + want[3]; n != left {
					t.Errorf("%v: stop of %d: got %d functions kept, want %d", order, i, n, left)
				}
			}
			c.cancel(ErrClosed)
			synctest.Wait()
			if called != want {
				t.Errorf("%v: got calls %v, want %v", order, called, want)
			}
			for i, stop := range stops {
				if stop() {
					t.Errorf("%v: stop of %d after the end: got true, want false", order, i)
				}
			}
		})
	}
}

// TestContext_EndedKeepsNoFunctions: a context that has ended, which a value that fn
// returned may keep, does not keep the functions that were to be called then (G12).
func TestContext_EndedKeepsNoFunctions(t *testing.T) {
	var c flightContext
	c.AfterFunc(func() {})
	c.cancel(ErrClosed)
	if c.after.first != nil {
		t.Error("got a function kept, want none")
	}
}

// TestContext_ChildEndsWithIt: a context derived from fn's has ended before the goroutine
// that canceled fn's goes on, as with package context's own.
func TestContext_ChildEndsWithIt(t *testing.T) {
	for range 100 {
		c := flightContext{values: context.Background()}
		child, cancel := context.WithTimeout(&c, time.Hour)
		c.cancel(ErrClosed)
		if err, cause := child.Err(), context.Cause(child); err != context.Canceled || cause != ErrClosed {
			t.Fatalf("got %v with cause %v, want %v with cause %v", err, cause, context.Canceled, ErrClosed)
		}
		cancel()
	}
}
