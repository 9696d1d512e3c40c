package rules_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
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
					if _, err := g.TryDo(k, kit.Value(1)); err == coalesce.ErrClosed {
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

// Value hides the standard context inside, whose AfterFunc is used otherwise.
func (c stuckContext) Value(any) any { return nil }

func (c stuckContext) AfterFunc(fn func()) func() bool {
	stop := context.AfterFunc(c.Context, fn)
	return func() bool { <-c.stuck; return stop() }
}

// TestDoChan_StuckStop: a receiver's context that blocks when it is told to
// stop holds up neither the other receivers nor the successor nor Shutdown.
func TestDoChan_StuckStop(t *testing.T) {
	for _, lead := range kit.Forms {
		t.Run(lead.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stuck := stuckContext{ctx, make(chan struct{})}
				h := kit.Hold()
				leader, _ := kit.Go(ctx, lead, &g, "k", h.CtxFn(1))
				<-h.Started
				for range 3 {
					kit.Go(stuck, kit.Forms[3], &g, "k", kit.CtxValue(0))
				}
				synctest.Wait()
				other, otherDone := kit.Go(ctx, kit.Forms[3], &g, "k", kit.CtxValue(0))
				next, nextDone := kit.Go(ctx, kit.Forms[4], &g, "k", kit.CtxValue(2))
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				if leader.V != 1 || !kit.IsDone(otherDone) || other.V != 1 || !kit.IsDone(nextDone) || next.V != 2 {
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
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		ctx := &endlessContext{Context: context.Background()}
		a, done := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(2))
		synctest.Wait()
		ctx.mu.Lock()
		ctx.err = context.Canceled
		ctx.mu.Unlock()
		close(old.Release)
		synctest.Wait()
		if !kit.IsDone(done) || a.V != 2 || a.Err != nil || g.Len() != 0 {
			t.Errorf("%+v, Len %d", a, g.Len())
		}
	})
}

// TestFlights_AgeCountsFromStart: the age of a successor that runs does not
// include its time in the queue.
func TestFlights_AgeCountsFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, next := kit.Lead(t, &g), kit.Hold()
		kit.Go(t.Context(), kit.Forms[4], &g, "k", next.CtxFn(2))
		time.Sleep(10 * time.Minute)
		close(h.Release)
		<-next.Started
		time.Sleep(time.Second)
		for f := range g.Flights() {
			if f.Age != time.Second {
				t.Errorf("%+v", f)
			}
		}
		close(next.Release)
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
		r, _ := panicOf(func() { g.Do(key{math.NaN(), []int{1}}, kit.Value(1)) }).(error)
		if r == nil || !strings.Contains(r.Error(), "[]int") {
			t.Errorf("%s hash: %v", name, r)
		}
	}
}

// TestShutdown_FinishedFlightsKeepTheirContext: what a caller has got stays
// usable though Shutdown runs out of time in the same moment (G7).
func TestShutdown_FinishedFlightsKeepTheirContext(t *testing.T) {
	const n = 3000
	g := coalesce.Group[int, context.Context]{Shards: 1}
	release := make(chan struct{})
	var once sync.Once
	var started, calls sync.WaitGroup
	started.Add(n)
	got, live := make([]context.Context, n), make([]bool, n)
	callers, cancel := context.WithCancel(t.Context())
	defer cancel()
	for k := range n {
		calls.Go(func() {
			c, _, err := g.DoContext(callers, k, func(ctx context.Context) (context.Context, error) {
				started.Done()
				select {
				case <-ctx.Done(): // the first to be canceled lets the others finish
					once.Do(func() { close(release) })
					return nil, ctx.Err()
				case <-release:
				}
				return ctx, nil
			})
			if err == nil {
				got[k], live[k] = c, c.Err() == nil
			}
		})
	}
	started.Wait()
	g.Shutdown(kit.EndedContext)
	calls.Wait()
	dead := 0
	for k := range n {
		if live[k] && got[k].Err() != nil {
			dead++
		}
	}
	if dead > 0 {
		t.Errorf("%d contexts were live when their call returned, and ended after", dead)
	}
}

// TestShutdown_StuckStop: a context that blocks when it is told to stop holds
// up neither Shutdown nor the rejected callers of other keys (G4, G16).
func TestShutdown_StuckStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stuck := stuckContext{ctx, make(chan struct{})}
		var old []*kit.Held
		var calls []*kit.Answer
		for _, key := range []string{"a", "b", "c", "d"} {
			old = append(old, kit.Abandon(t, &g, key))
			kit.Go(stuck, kit.Forms[3], &g, key, kit.CtxValue(0))
			a, _ := kit.Go(ctx, kit.Forms[0], &g, key, kit.CtxValue(0))
			calls = append(calls, a)
		}
		synctest.Wait()
		limit, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		start := time.Now()
		if err := g.Shutdown(limit); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		synctest.Wait()
		for _, a := range calls {
			if a.Err != coalesce.ErrClosed || a.At != start {
				t.Errorf("rejected: %+v", a)
			}
		}
		for _, h := range old {
			close(h.Release)
		}
		close(stuck.stuck)
	})
}

// TestPromoted_StrangeErr: a call that was picked hands the flight on though
// its context's Err tells of the end before Done does, or panics, or exits.
func TestPromoted_StrangeErr(t *testing.T) {
	for name, err := range map[string]func() error{
		"early":  func() error { return kit.ErrTest },
		"panics": func() error { panic(kit.ErrTest) },
		"exits":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := kit.Abandon(t, &g, "k")
				base, cancel := context.WithCancel(t.Context())
				defer cancel()
				ctx := &kit.StrangeContext{Context: base, StrangeErr: err}
				first, firstDone := kit.Go(ctx, kit.Forms[2], &g, "k", kit.CtxValue(1))
				synctest.Wait()
				second, secondDone := kit.Go(base, kit.Forms[0], &g, "k", kit.CtxValue(2))
				synctest.Wait()
				ctx.Strange.Store(true)
				close(old.Release)
				synctest.Wait()
				if !kit.IsDone(firstDone) || name == "early" && first.Err != kit.ErrTest || name == "panics" && first.Panic != kit.ErrTest {
					t.Errorf("first: %+v", first)
				}
				if !kit.IsDone(secondDone) || second.V != 2 || g.Len() != 0 {
					t.Errorf("second: %+v, Len %d", second, g.Len())
				}
			})
		})
	}
}

// An exitingValue exits the goroutine that asks it for a value, once exits is set.
type exitingValue struct {
	context.Context
	exits atomic.Bool
}

func (c *exitingValue) Value(key any) any {
	if c.exits.Load() {
		runtime.Goexit()
	}
	return c.Context.Value(key)
}

// TestPromoted_ExitingValue: a receiver, or a key of a DoMulti, that was picked hands the
// flight on though its context exits the goroutine that is to lead.
func TestPromoted_ExitingValue(t *testing.T) {
	for _, f := range []kit.Form{kit.Forms[3], kit.Forms[5]} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			old := kit.Abandon(t, &g, "k")
			base, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctx := &exitingValue{Context: base}
			kit.Go(ctx, f, &g, "k", kit.CtxValue(1))
			synctest.Wait()
			second, done := kit.Go(base, kit.Forms[0], &g, "k", kit.CtxValue(2))
			synctest.Wait()
			ctx.exits.Store(true)
			close(old.Release)
			synctest.Wait()
			if !kit.IsDone(done) || second.V != 2 || g.Len() != 0 {
				t.Errorf("%s: got %+v for the next in the queue, Len %d", f.Name, second, g.Len())
			}
		})
	}
}

// TestG7_CauseThatPanics: fn is canceled though the context of the last caller
// panics when it is asked for the cause.
func TestG7_CauseThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		base, cancel := context.WithCancel(t.Context())
		ctx := &panickingValue{Context: base}
		a, done := kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		synctest.Wait()
		ctx.panics.Store(true)
		cancel()
		synctest.Wait()
		if !kit.IsDone(done) || a.Panic != kit.ErrTest || g.Len() != 0 {
			t.Errorf("%+v, Len %d", a, g.Len())
		}
	})
}

type panickingValue struct {
	context.Context
	panics atomic.Bool
}

func (c *panickingValue) Value(key any) any {
	if c.panics.Load() {
		panic(kit.ErrTest)
	}
	return c.Context.Value(key)
}

// TestG9_PanicNil: under GODEBUG=panicnil=1, where a panic(nil) cannot be told
// from a Goexit, nobody gets a zero value with a nil error for it.
func TestG9_PanicNil(t *testing.T) {
	t.Setenv("GODEBUG", "panicnil=1")
	if !nilPanics() {
		t.Fatal("GODEBUG has no effect")
	}
	t.Run("matrix", TestG9_EveryExitCompletes)
	t.Run("DoMulti", TestDoMulti_EveryExitCompletes)
	fn := func(context.Context) (int, error) { panic(nil) }
	for _, f := range kit.Forms {
		var g kit.Group
		if a := f.Call(t.Context(), &g, "k", fn); a.Err != coalesce.ErrGoexit {
			t.Errorf("%s: %+v", f.Name, a)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Clone: func(int) int { panic(nil) }}
		for i := range 8 {
			a, done := kit.Go(t.Context(), kit.Joining[i%len(kit.Joining)], &g, "k", func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return 7, nil
			})
			defer func() {
				if <-done; a.Err != coalesce.ErrGoexit {
					t.Errorf("Clone, %s: %+v", kit.Joining[i%len(kit.Joining)].Name, a)
				}
			}()
		}
	})
}

// recovered calls fn and returns whether it panicked, and with what.
func recovered(fn func()) (panicked bool, value any) {
	panicked = true
	defer func() { value = recover() }()
	fn()
	panicked = false
	return
}

// TestDo_QueuedAloneWakesNobody: a queued Do that comes to lead alone starts no
// goroutine when it is done.
func TestDo_QueuedAloneWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		var before int
		go func() {
			g.Do("k", func() (int, error) {
				before = runtime.NumGoroutine()
				return 0, nil
			})
			if n := runtime.NumGoroutine(); n > before {
				t.Errorf("%d goroutines started", n-before)
			}
		}()
		synctest.Wait()
		close(old.Release)
		synctest.Wait()
	})
}

// An exitingHandler is a log handler that exits the goroutine.
type exitingHandler struct{ slog.Handler }

func (exitingHandler) Handle(context.Context, slog.Record) error {
	runtime.Goexit()
	return nil
}

// TestG10_LogHandlerExits: a log handler that exits the goroutine on which a panic is
// logged that nobody was told of does not keep the hook from being told of the end.
func TestG10_LogHandlerExits(t *testing.T) {
	kit.CaptureLog(t)
	slog.SetDefault(slog.New(exitingHandler{slog.Default().Handler()}))
	for _, f := range kit.Forms[2:] {
		synctest.Test(t, func(t *testing.T) {
			var told []coalesce.Event[string]
			g := kit.Group{Hooks: coalesce.Hooks[string]{Finish: func(_ context.Context, e coalesce.Event[string]) { told = append(told, e) }}}
			ctx, cancel := context.WithCancel(t.Context())
			kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				panic("nobody listens")
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			if len(told) != 1 || told[0].Outcome != coalesce.OutcomePanicked {
				t.Errorf("%s: told of %+v", f.Name, told)
			}
		})
	}
}

// TestG10_NilPanicErrorIs: what panics with a nil *PanicError can be asked what it is.
func TestG10_NilPanicErrorIs(t *testing.T) {
	var g kit.Group
	r := <-g.DoChan(t.Context(), "k", func(context.Context) (int, error) { panic((*coalesce.PanicError)(nil)) })
	var e *coalesce.PanicError
	if !errors.As(r.Err, &e) || e == nil || errors.Is(r.Err, coalesce.ErrGoexit) {
		t.Errorf("%v", r.Err)
	}
}
