package coalesce_test

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// Each test here failed before the bug that it describes was mended.

// TestShutdown_ClosesAllBeforeItTells: a caller that has been told ErrClosed
// leads nothing any more, whatever the key.
func TestShutdown_ClosesAllBeforeItTells(t *testing.T) {
	for range 50 {
		g := coalesce.Group[int, int]{Shards: 1024}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-start
				closed := false
				for k := range 4096 {
					if _, err := g.TryDo(k, value(1)); err == coalesce.ErrClosed {
						closed = true
					} else if closed {
						t.Errorf("after ErrClosed: %v", err)
						return
					}
				}
			})
		}
		close(start)
		g.Shutdown(t.Context())
		wg.Wait()
	}
}

// A stuckContext blocks whoever stops an AfterFunc of its.
type stuckContext struct {
	context.Context
	stuck chan struct{}
}

func (c stuckContext) AfterFunc(fn func()) func() bool {
	stop := context.AfterFunc(c.Context, fn)
	return func() bool { <-c.stuck; return stop() }
}

// TestDoChan_StuckStop: a receiver's context that blocks when it is told to
// stop holds up neither the other receivers nor the successor nor Shutdown.
func TestDoChan_StuckStop(t *testing.T) {
	for _, lead := range forms {
		t.Run(lead.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stuck := stuckContext{ctx, make(chan struct{})}
				h := hold()
				leader, _ := goCall(ctx, lead, &g, "k", h.ctxFn(1))
				<-h.started
				for range 3 {
					goCall(stuck, forms[3], &g, "k", ctxValue(0))
				}
				synctest.Wait()
				other, otherDone := goCall(ctx, forms[3], &g, "k", ctxValue(0))
				next, nextDone := goCall(ctx, forms[4], &g, "k", ctxValue(2))
				synctest.Wait()
				close(h.release)
				synctest.Wait()
				if leader.v != 1 || !isDone(otherDone) || other.v != 1 || !isDone(nextDone) || next.v != 2 {
					t.Errorf("leader %+v, other %+v, next %+v", leader, other, next)
				}
				if err := g.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				close(stuck.stuck)
			})
		})
	}
}

// An endlessContext says that it has ended but has no Done to tell of it.
type endlessContext struct {
	context.Context
	mu  sync.Mutex
	err error
}

func (c *endlessContext) Done() <-chan struct{} { return nil }

func (c *endlessContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// TestPromoted_ErrWithoutDone: a context without Done never ends, whatever its
// Err says later; the call that has it leads when it is its turn.
func TestPromoted_ErrWithoutDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		old := abandon(t, &g, "k")
		ctx := &endlessContext{Context: context.Background()}
		a, done := goCall(ctx, forms[2], &g, "k", ctxValue(2))
		synctest.Wait()
		ctx.mu.Lock()
		ctx.err = context.Canceled
		ctx.mu.Unlock()
		close(old.release)
		synctest.Wait()
		if !isDone(done) || a.v != 2 || a.err != nil || g.Len() != 0 {
			t.Errorf("%+v, Len %d", a, g.Len())
		}
	})
}

// TestFlights_AgeCountsFromStart: the age of a successor that runs does not
// include its time in the queue.
func TestFlights_AgeCountsFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		h, next := lead(t, &g), hold()
		goCall(t.Context(), forms[4], &g, "k", next.ctxFn(2))
		time.Sleep(10 * time.Minute)
		close(h.release)
		<-next.started
		time.Sleep(time.Second)
		for f := range g.Flights() {
			if f.Age != time.Second {
				t.Errorf("%+v", f)
			}
		}
		close(next.release)
	})
}

// TestG11_UnhashableBehindNaN: the comparison of such a key with itself stops
// at the NaN; it panics all the same, with a custom Hash too.
func TestG11_UnhashableBehindNaN(t *testing.T) {
	type key struct {
		f float64
		v any
	}
	for name, hash := range map[string]func(key) uint64{"default": nil, "constant": func(key) uint64 { return 0 }} {
		g := coalesce.Group[key, int]{Hash: hash}
		r, _ := panicOf(func() { g.Do(key{math.NaN(), []int{1}}, value(1)) }).(error)
		if r == nil || !strings.Contains(r.Error(), "[]int") {
			t.Errorf("%s hash: %v", name, r)
		}
	}
}
