package rules_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// This file holds how a batch ends: by its fn, and by the contexts of its callers.

// TestDoMulti_EveryExitCompletes is the matrix of how fn ends, whether the ctx of the
// DoMulti can end, and which form follows one of its keys. Every key is answered, also
// those after the one that has a follower, and any call that has its result finds all
// keys usable at once. (Peers leave the other keys dead after a panic.)
func TestDoMulti_EveryExitCompletes(t *testing.T) {
	for _, e := range endings {
		for _, cancelable := range []bool{false, true} {
			for _, f := range kit.Joining {
				t.Run(fmt.Sprintf("%s/cancelable=%v/%s", e.name, cancelable, f.Name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testBatchCell(t, e, cancelable, f) })
				})
			}
		}
	}
}

func testBatchCell(t *testing.T, e ending, cancelable bool, f kit.Form) {
	log := kit.CaptureLog(t)
	var g kit.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if !cancelable {
		ctx = context.Background()
	}
	keys := []string{"a", "b", "c", "d"}
	h := holdLoader()
	many, done := goMulti(ctx, &g, h.then(func(context.Context, []string) (map[string]int, error) {
		v, err := e.end()
		return map[string]int{"a": v, "b": v, "c": v}, err // and no "d"
	}), keys...)
	<-h.Started
	is := func(who, key string, a kit.Answer, shared bool) {
		t.Helper()
		ok := e.is(&a)
		if key == "d" && e.name == "returns" {
			ok = a.V == 0 && a.Err == coalesce.ErrAbsent && a.Panic == nil
		} else if key == "d" && e.name == "errs" {
			ok = a.V == 0 && a.Err == kit.ErrTest && a.Panic == nil
		}
		if !ok || a.Shared != shared && a.Panic == nil {
			t.Errorf("%s, key %s: got %+v, want the end of fn", who, key, a)
		}
	}
	usable := func() {
		for _, k := range keys {
			if v, _, err := g.Do(k, kit.Value(9)); v != 9 || err != nil {
				t.Errorf("%s: got %v, %v, want 9, nil at once", k, v, err)
			}
		}
	}
	var calls sync.WaitGroup
	for _, k := range keys[1:] {
		calls.Go(func() {
			a := f.Call(t.Context(), &g, k, kit.CtxValue(0))
			usable()
			is("follower", k, a, true)
		})
	}
	calls.Go(func() {
		<-done
		usable()
	})
	synctest.Wait()
	close(h.Release)
	calls.Wait()
	var firstPanic error
	for i, k := range keys {
		r := many.results[k]
		is("DoMulti", k, kit.Answer{V: r.Val, Err: r.Err, Shared: r.Shared}, i > 0)
		var pe *coalesce.PanicError
		if errors.As(r.Err, &pe) {
			if i == 0 {
				firstPanic = r.Err
			} else if r.Err != firstPanic {
				t.Errorf("got %v for key %s, want the same panic for all keys", r.Err, k)
			}
		}
	}
	synctest.Wait()
	st := g.Stats()
	n := map[bool]uint64{true: 4}
	if st.Panics != n[firstPanic != nil] || st.Goexits != n[many.results["a"].Err == coalesce.ErrGoexit] {
		t.Errorf("got %+v, want 4 panics or Goexits", st)
	}
	logged := 0
	if firstPanic != nil && (f.Name == "DoChan" || f.Name == "DoMulti") {
		logged = 1 // no call panics
	}
	wantLogged(t, &g, log, logged)
	if g.Len() != 0 {
		t.Errorf("got Len %d, want 0", g.Len())
	}
}

// TestDoMulti_FailNow: a test that fails inside fn is a Goexit.
func TestDoMulti_FailNow(t *testing.T) {
	var g kit.Group
	r := g.DoMulti(t.Context(), []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
		var inner testing.T
		inner.FailNow()
		return nil, nil
	})
	wantResults(t, "DoMulti", r, results{"a": {Err: coalesce.ErrGoexit}, "b": {Err: coalesce.ErrGoexit}})
}

// TestDoMulti_UnreceivedPanicIsLogged: the panic is logged once, with the keys of the
// batch, when all callers of all keys have left, however many flights there were.
func TestDoMulti_UnreceivedPanicIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		goMulti(ctx, &g, func(ctx context.Context, _ []string) (map[string]int, error) {
			<-ctx.Done()
			panic("no caller listens")
		}, "ape", "bee", "cat")
		synctest.Wait()
		kit.Go(ctx, kit.Forms[3], &g, "bee", kit.CtxValue(0))
		synctest.Wait()
		g.Forget("cat")
		cancel()
		synctest.Wait()
		for _, want := range []string{"level=ERROR", "no caller listens", "ape", "bee", "cat", "multi_exit_test.go"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("got the log %s, want %q in it", log, want)
			}
		}
		if n := strings.Count(log.String(), "level="); n != 1 {
			t.Errorf("got %d entries in the log, want 1", n)
		}
		st := coalesce.Stats{Calls: 4, Led: 3, Joined: 1, Left: 4, Abandoned: 3, Forgotten: 1, Panics: 3, PanicsLogged: 1}
		if got := g.Stats(); got != st || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want %+v, 0", got, g.Len(), st)
		}
	})
}

// TestDoMulti_PanicReachesOneKey: a panic is not logged if one key still has a caller to
// panic with it, even if that key was forgotten.
func TestDoMulti_PanicReachesOneKey(t *testing.T) {
	for _, key := range []string{"a", "b", "c"} {
		synctest.Test(t, func(t *testing.T) {
			log := kit.CaptureLog(t)
			var g kit.Group
			ctx, cancel := context.WithCancel(t.Context())
			h := holdLoader()
			goMulti(ctx, &g, h.then(func(context.Context, []string) (map[string]int, error) { panic(kit.ErrTest) }), "a", "b", "c")
			<-h.Started
			a, _ := kit.Go(t.Context(), kit.Forms[0], &g, key, kit.CtxValue(0))
			synctest.Wait()
			g.Forget("c")
			cancel()
			synctest.Wait()
			close(h.Release)
			synctest.Wait()
			pe, _ := a.Panic.(*coalesce.PanicError)
			if pe == nil || pe.Value != kit.ErrTest || log.Len() > 0 {
				t.Errorf("got %+v and the log %q, want the panic %v and nothing logged", a, log, kit.ErrTest)
			}
			if st := g.Stats(); st.Panics != 3 || st.PanicsLogged != 0 || st.Abandoned != 0 {
				t.Errorf("got %+v, want 3 panics, none logged, none abandoned", st)
			}
		})
	}
}

// TestDoMulti_EndedOnEntry: every key gets the ctx's error, each once, and no flight is
// started or joined.
func TestDoMulti_EndedOnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, _ := leadMany(&g, loads(1), "a")
		r := g.DoMulti(kit.EndedContext, []string{"a", "b", "c", "b"}, func(context.Context, []string) (map[string]int, error) {
			t.Error("got a call of fn, want none")
			return nil, nil
		})
		wantResults(t, "DoMulti", r, results{"a": {Err: context.Canceled}, "b": {Err: context.Canceled}, "c": {Err: context.Canceled}})
		if st := g.Stats(); st != (coalesce.Stats{Calls: 4, Led: 1, EndedOnEntry: 3}) || g.Len() != 1 {
			t.Errorf("got %+v, Len %d, want 4 calls, 1 led, 3 ended on entry, 1", st, g.Len())
		}
		close(h.Release)
	})
}

// TestDoMulti_ResultBeatsCancellation: the rule holds for each key by itself. A key whose
// flight has finished when ctx ends has its result, the others ctx's error, at once.
func TestDoMulti_ResultBeatsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := abandonMany(t, &g, "e", "f")
		busy, slow := kit.Hold(), kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "b", busy.CtxFn(2))
		kit.Go(t.Context(), kit.Forms[0], &g, "c", slow.CtxFn(3))
		kit.Go(t.Context(), kit.Forms[0], &g, "f", slow.CtxFn(6)) // the call that leads it
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, kit.ErrTest)
		defer cancel()
		h := holdLoader()
		start := time.Now()
		many, done := goMulti(ctx, &g, func(ctx context.Context, keys []string) (map[string]int, error) {
			if keys[0] == "e" {
				return loads(1)(ctx, keys) // queued, and alone: it finishes in time
			}
			return h.then(loads(1))(ctx, keys)
		}, "a", "b", "c", "d", "e", "f")
		<-h.Started
		close(busy.Release)
		close(old.Release)
		<-done
		if many.at.Sub(start) != time.Second {
			t.Errorf("got a return after %v, want 1s", many.at.Sub(start))
		}
		late := context.DeadlineExceeded
		wantResults(t, "DoMulti", many.results, results{
			"a": {Err: late}, "b": {Val: 2, Shared: true}, "c": {Err: late, Shared: true},
			"d": {Err: late}, "e": {Val: 5}, "f": {Err: late, Shared: true},
		})
		if cause := context.Cause(<-h.ctxs); cause != kit.ErrTest {
			t.Errorf("got cause %v, want %v", cause, kit.ErrTest)
		}
		if st := g.Stats(); st.Left != 2+4 || st.Abandoned != 2+2 {
			t.Errorf("got %+v, want 6 left, 4 abandoned", st)
		}
		close(h.Release)
		close(slow.Release)
		synctest.Wait()
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
	})
}

// TestDoMulti_ResultThereFirst: the batch finishes, then ctx ends, and only then is the
// caller scheduled: it has the results, every time.
func TestDoMulti_ResultThereFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		for range 500 {
			ctx, cancel := context.WithCancel(t.Context())
			h := holdLoader()
			many, done := goMulti(ctx, &g, h.then(loads(1)), "a", "b")
			<-h.Started
			go func() {
				g.Do("b", kit.Value(0))
				cancel() // its flight has finished, and so has that of "a"
			}()
			synctest.Wait()
			close(h.Release)
			<-done
			if many.results["a"] != (result{Val: 1}) || many.results["b"] != (result{Val: 2, Shared: true}) {
				t.Fatalf("got %+v, want 1 for a and 2, shared, for b", many.results)
			}
		}
	})
}

// TestDoMulti_SameInstant: if a result and the end of ctx come in the same instant of a
// fake clock, each key gets one or the other, whole.
func TestDoMulti_SameInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[int, int]
		keys := make([]int, 50)
		for i := range keys {
			keys[i] = i
		}
		won, lost, both := 0, 0, 0
		for range 300 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			r := g.DoMulti(ctx, keys, func(_ context.Context, keys []int) (map[int]int, error) {
				time.Sleep(time.Second)
				m := map[int]int{}
				for _, k := range keys {
					m[k] = k + 1
				}
				return m, nil
			})
			n := 0
			for k, r := range r {
				switch r {
				case coalesce.Result[int]{Val: k + 1}:
					n++
				case coalesce.Result[int]{Err: context.DeadlineExceeded}:
				default:
					t.Fatalf("%d: got %+v, want its result or the deadline", k, r)
				}
			}
			switch n {
			case 0:
				lost++
			case 50:
				won++
			default:
				both++
			}
			cancel()
			synctest.Wait()
			if g.Len() != 0 {
				t.Fatalf("got Len %d, want 0", g.Len())
			}
		}
		t.Logf("results %d, deadline %d, of each some %d", won, lost, both)
	})
}

// A stayer is a call of a batch that can be made to leave.
type stayer struct {
	name  string
	leave context.CancelCauseFunc
	done  <-chan struct{}
}

// TestDoMulti_AbandonedByTheLastOfAll: calls of several keys leave one after the other,
// in every order. Until the last has left, nothing is canceled, and each key can be
// joined, whether it still has a caller or not; then all keys are abandoned at once, with
// the cause of the last caller.
func TestDoMulti_AbandonedByTheLastOfAll(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}, {1, 2, 3, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testAbandonedByTheLast(t, order) })
		})
	}
}

func testAbandonedByTheLast(t *testing.T, order []int) {
	var g kit.Group
	h := holdLoader()
	newStayer := func(name string, call func(ctx context.Context) <-chan struct{}) stayer {
		ctx, leave := context.WithCancelCause(t.Context())
		return stayer{name, leave, call(ctx)}
	}
	stayers := []stayer{newStayer("the leader", func(ctx context.Context) <-chan struct{} {
		_, done := goMulti(ctx, &g, h.then(loads(1)), "a", "b", "c")
		return done
	})}
	<-h.Started
	g.Forget("c") // it is still part of the batch
	fnCtx := <-h.ctxs
	for _, f := range []kit.Form{kit.Forms[2], kit.Forms[3]} {
		stayers = append(stayers, newStayer(f.Name, func(ctx context.Context) <-chan struct{} {
			_, done := kit.Go(ctx, f, &g, "a", kit.CtxValue(0))
			return done
		}))
		synctest.Wait()
	}
	stayers = append(stayers, newStayer("DoMulti", func(ctx context.Context) <-chan struct{} {
		_, done := goMulti(ctx, &g, loads(0), "a", "b")
		return done
	}))
	synctest.Wait()
	for i, n := range order {
		if st := g.Stats(); st.Abandoned != 0 || fnCtx.Err() != nil {
			t.Errorf("after %d of 4 calls: got fn's context with error %v, %+v, want none abandoned", i, fnCtx.Err(), st)
		}
		for _, k := range []string{"a", "b"} {
			before := g.Stats().Joined
			ctx, cancel := context.WithCancel(t.Context())
			_, done := kit.Go(ctx, kit.Forms[2], &g, k, kit.CtxValue(0))
			synctest.Wait()
			if s := flightsOf(&g)[k]; !strings.HasPrefix(s, "running ") || g.Stats().Joined != before+1 {
				t.Errorf("after %d of 4 calls: got %q for %s, want it running and joined", i, s, k)
			}
			cancel() // leaves again
			<-done
		}
		s := stayers[n]
		s.leave(fmt.Errorf("%s leaves", s.name))
		synctest.Wait()
		if !kit.IsDone(s.done) {
			t.Errorf("%s: got no return, want one", s.name)
		}
	}
	want := map[string]string{"a": "abandoned 0", "b": "abandoned 0", "c": "abandoned 0 forgotten"}
	if got := flightsOf(&g); !maps.Equal(got, want) {
		t.Errorf("got flights %v, want %v", got, want)
	}
	last := stayers[order[3]].name + " leaves"
	if cause := context.Cause(fnCtx); cause == nil || cause.Error() != last || g.Stats().Abandoned != 3 {
		t.Errorf("got cause %v, %+v, want %q, 3 abandoned", cause, g.Stats(), last)
	}
	if !kit.IsDone(fnCtx.Done()) || fnCtx.Err() != context.Canceled {
		t.Errorf("got error %v, want %v", fnCtx.Err(), context.Canceled)
	}
	close(h.Release)
	synctest.Wait()
	for f := range g.Flights() {
		t.Errorf("got %+v, want no flight", f)
	}
}

// TestDoMulti_KeyWithoutCallers: the flight of a batch whose last caller has left, while
// another key has one, is answered like the others: a call of any form joins it, thereby
// keeps the batch alive, and gets the value.
func TestDoMulti_KeyWithoutCallers(t *testing.T) {
	for _, f := range kit.Joining {
		for _, key := range []string{"a", "b", "c"} { // the first, one in between, the last
			t.Run(f.Name+" "+key, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					ctx, cancel := context.WithCancel(t.Context())
					h := holdLoader()
					_, done := goMulti(ctx, &g, h.then(loads(1)), "a", "b", "c")
					<-h.Started
					stays, stop := context.WithCancel(t.Context())
					_, stayed := kit.Go(stays, kit.Forms[2], &g, "b", kit.CtxValue(0))
					synctest.Wait()
					cancel()
					<-done
					if err := g.ForgetUnshared("none"); !err || flightsOf(&g)["a"] != "running 0" {
						t.Errorf("got flights %v, want a running one without callers for a", flightsOf(&g))
					}
					late, _ := kit.Go(t.Context(), f, &g, key, kit.CtxValue(0))
					synctest.Wait()
					stop()
					<-stayed
					if err := (<-h.ctxs).Err(); err != nil {
						t.Errorf("got fn's context with error %v, want a live one", err)
					}
					close(h.Release)
					synctest.Wait()
					if late.V != valuesFrom(1, key)[key] || !late.Shared || late.Err != nil {
						t.Errorf("late: got %+v, want its value, shared", late)
					}
					if st := g.Stats(); st.Abandoned != 0 || g.Len() != 0 {
						t.Errorf("got %+v, Len %d, want none abandoned, 0", st, g.Len())
					}
				})
			})
		}
	}
}

// TestDoMulti_BehindAnAbandonedBatch: calls of every form for any key of it wait until
// its execution has ended, and get the results of other executions.
func TestDoMulti_BehindAnAbandonedBatch(t *testing.T) {
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := abandonMany(t, &g, "a", "b", "c")
				if v, err := g.TryDo("b", kit.Value(1)); v != 0 || err != coalesce.ErrInFlight {
					t.Errorf("TryDo: got %v, %v, want 0, %v", v, err, coalesce.ErrInFlight)
				}
				if !g.ForgetUnshared("c") || !g.Forget("b") {
					t.Error("got false, want true: an abandoned flight can be forgotten")
				}
				a, _ := kit.Go(t.Context(), f, &g, "a", kit.CtxValue(8))
				synctest.Wait()
				if !a.At.IsZero() {
					t.Errorf("got %+v, want the call to wait", a)
				}
				b := f.Call(t.Context(), &g, "b", kit.CtxValue(9))
				close(old.Release)
				synctest.Wait()
				if a.V != 8 || a.Shared || a.Err != nil || b.V != 9 || g.Len() != 0 {
					t.Errorf("got a %+v, b %+v, Len %d, want 8, 9, 0", a, b, g.Len())
				}
			})
		})
	}
}

// TestDoMulti_AbandonedWasJoined: the result of an abandoned batch does not linger, and a
// key of it that had been joined is shared no longer.
func TestDoMulti_AbandonedWasJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever}
		ctx, cancel := context.WithCancel(t.Context())
		h := holdLoader()
		goMulti(ctx, &g, h.then(loads(1)), "a", "b", "c")
		<-h.Started
		goMulti(ctx, &g, loads(0), "a", "b")
		synctest.Wait()
		if g.ForgetUnshared("a") {
			t.Error("ForgetUnshared of a shared key: got true, want false")
		}
		cancel()
		synctest.Wait()
		if !g.ForgetUnshared("a") || g.Len() != 2 {
			t.Errorf("ForgetUnshared of a key without callers: got Len %d, want true and 2", g.Len())
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "afterwards", g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(50)), results{
			"a": {Val: 50}, "b": {Val: 51}, "c": {Val: 52},
		})
	})
}

// TestDoMulti_QueuedKeyLeaves: a DoMulti whose ctx ends while a key of it is queued
// leaves at once; its fn is not called for that key, nor for the next call in the queue;
// and the call that has waited longest after it leads.
func TestDoMulti_QueuedKeyLeaves(t *testing.T) {
	for _, next := range append(kit.Forms, kit.Form{}) { // or no other call
		t.Run(next.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := abandonMany(t, &g, "a", "b")
				ctx, cancel := context.WithCancel(t.Context())
				many, done := goMulti(ctx, &g, func(_ context.Context, keys []string) (map[string]int, error) {
					if keys[0] != "c" {
						t.Errorf("fn: got %q, want the key c alone", keys)
					}
					return valuesFrom(1, keys...), nil
				}, "a", "b", "c")
				synctest.Wait()
				var a *kit.Answer
				if next.Call != nil {
					a, _ = kit.Go(t.Context(), next, &g, "b", kit.CtxValue(8))
				}
				synctest.Wait()
				cancel()
				synctest.Wait()
				if !kit.IsDone(done) {
					t.Fatal("DoMulti: got no return, want one")
				}
				wantResults(t, "DoMulti", many.results, results{
					"a": {Err: context.Canceled}, "b": {Err: context.Canceled, Shared: a != nil}, "c": {Val: 3},
				})
				close(old.Release)
				synctest.Wait()
				if a != nil && (a.V != 8 || !a.Shared || a.Err != nil) {
					t.Errorf("next: got %+v, want 8, shared", a)
				}
				if st := g.Stats(); st.Left != 4 || st.Abandoned != 2 || g.Len() != 0 {
					t.Errorf("got %+v, Len %d, want 4 left, 2 abandoned, 0", st, g.Len())
				}
			})
		})
	}
}

// TestDoMulti_PromotedAsContextEnds: the ctx ends in the very moment in which a queued
// key gets its turn. The call may lead it or not, but either fn answers it or it has
// left, and the call after it in the queue is answered.
func TestDoMulti_PromotedAsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		led, left := 0, 0
		for i := range 500 {
			var g kit.Group
			old := abandonMany(t, &g, "a", "b")
			ctx, cancel := context.WithCancel(t.Context())
			many, _ := goMulti(ctx, &g, loads(1), "a", "b", "c")
			synctest.Wait()
			next, _ := goMulti(t.Context(), &g, loads(50), "b", "a")
			synctest.Wait()
			go close(old.Release)
			go func() {
				for range i % 8 {
					runtime.Gosched()
				}
				cancel()
			}()
			synctest.Wait()
			for _, k := range []string{"a", "b"} {
				mine, theirs := many.results[k], next.results[k]
				switch mine {
				case result{Val: valuesFrom(1, k)[k], Shared: true}:
					led++
				case result{Err: context.Canceled, Shared: true}:
					left++
				default:
					t.Fatalf("%s: got %+v, want its result or the error of ctx", k, mine)
				}
				// If it leads and leaves, the other still gets the value that it loads.
				if theirs.Err != nil || !theirs.Shared || theirs.Val%49 != valuesFrom(1, k)[k] || mine.Err == nil && theirs.Val != mine.Val {
					t.Fatalf("%s: got %+v after %+v, want a shared value", k, theirs, mine)
				}
			}
			if many.results["c"] != (result{Val: 3}) || g.Len() != 0 {
				t.Fatalf("c: got %+v, Len %d, want 3, 0", many.results["c"], g.Len())
			}
		}
		t.Logf("led %d, left %d", led, left)
	})
}

// TestDoMulti_ReturnsWhenAllHaveFinished: a caller that has the result of one key calls
// for another key of the batch at once, and does not get the result of the batch.
func TestDoMulti_ReturnsWhenAllHaveFinished(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(old)
	var g coalesce.Group[int, int]
	const keys = 64
	all := make([]int, keys)
	for i := range all {
		all[i] = i
	}
	var stale atomic.Int32
	for range 30 {
		h := kit.Hold()
		var calls sync.WaitGroup
		calls.Go(func() {
			g.DoMulti(context.Background(), all, func(_ context.Context, keys []int) (map[int]int, error) {
				_, _ = h.Fn(0)()
				m := map[int]int{}
				for _, k := range keys {
					m[k] = 7
				}
				return m, nil
			})
		})
		<-h.Started
		before := g.Stats().Joined
		for k := range all {
			calls.Go(func() {
				v, _, err := g.Do(k, kit.Value(0))
				if v != 7 || err != nil {
					t.Errorf("%d: got %v, %v, want 7, nil", k, v, err)
				}
				for i := range keys {
					if v, _, _ := g.Do((k+keys-1-i)%keys, kit.Value(0)); v == 7 {
						stale.Add(1)
					}
				}
			})
		}
		kit.Await(t, func() bool { return g.Stats().Joined == before+keys })
		close(h.Release)
		calls.Wait()
	}
	if n := stale.Load(); n > 0 || g.Len() != 0 {
		t.Errorf("got %d stale results, Len %d, want none, 0", n, g.Len())
	}
}

// A oneDoneContext panics when it is asked for its Done channel twice.
type oneDoneContext struct {
	context.Context
	asked int
}

func (c *oneDoneContext) Done() <-chan struct{} {
	if c.asked++; c.asked > 1 {
		panic("asked again")
	}
	return c.Context.Done()
}

// TestDoMulti_AsksForDoneOnce: a context whose methods misbehave after the call has
// claimed a key would leave that key registered, with no fn to end its flight.
func TestDoMulti_AsksForDoneOnce(t *testing.T) {
	var g kit.Group
	ctx := &oneDoneContext{Context: context.WithoutCancel(t.Context())}
	r := g.DoMulti(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
		return map[string]int{"a": 1, "b": 2}, nil
	})
	wantResults(t, "DoMulti", r, results{"a": {Val: 1}, "b": {Val: 2}})
	if n := g.Len(); n != 0 {
		t.Errorf("got %d keys in flight, want none", n)
	}
}
