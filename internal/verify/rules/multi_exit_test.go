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

// This file holds how a batch ends: by what fn does, and by the contexts of its
// callers.

// TestDoMulti_EveryExitCompletes is the matrix of how fn ends, whether the ctx
// of the DoMulti can, and who follows one of its keys. Every key is answered,
// also the ones behind that which somebody waits for, and whoever has been told
// finds all of them usable at once. (Peers leave the other keys dead after a
// panic.)
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
			t.Errorf("%s, key %s: %+v", who, key, a)
		}
	}
	usable := func() {
		for _, k := range keys {
			if v, _, err := g.Do(k, kit.Value(9)); v != 9 || err != nil {
				t.Errorf("%s is not usable at once: %v, %v", k, v, err)
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
	var told error
	for i, k := range keys {
		r := many.results[k]
		is("DoMulti", k, kit.Answer{V: r.Val, Err: r.Err, Shared: r.Shared}, i > 0)
		var pe *coalesce.PanicError
		if errors.As(r.Err, &pe) {
			if i == 0 {
				told = r.Err
			} else if r.Err != told {
				t.Error("two keys are told of different panics")
			}
		}
	}
	synctest.Wait()
	st := g.Stats()
	n := map[bool]uint64{true: 4}
	if st.Panics != n[told != nil] || st.Goexits != n[many.results["a"].Err == coalesce.ErrGoexit] {
		t.Errorf("%+v", st)
	}
	logged := 0
	if told != nil && (f.Name == "DoChan" || f.Name == "DoMulti") {
		logged = 1 // no call panics
	}
	wantLogged(t, &g, log, logged)
	if g.Len() != 0 {
		t.Errorf("Len = %d", g.Len())
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

// TestDoMulti_UntoldPanicIsLogged: once, with the keys of the batch, when all
// callers of all keys have left, however many flights there were.
func TestDoMulti_UntoldPanicIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		goMulti(ctx, &g, func(ctx context.Context, _ []string) (map[string]int, error) {
			<-ctx.Done()
			panic("nobody listens")
		}, "ape", "bee", "cat")
		synctest.Wait()
		kit.Go(ctx, kit.Forms[3], &g, "bee", kit.CtxValue(0))
		synctest.Wait()
		g.Forget("cat")
		cancel()
		synctest.Wait()
		for _, want := range []string{"level=ERROR", "nobody listens", "ape", "bee", "cat", "multi_exit_test.go"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %q in the log: %s", want, log)
			}
		}
		if n := strings.Count(log.String(), "level="); n != 1 {
			t.Errorf("logged %d times", n)
		}
		st := coalesce.Stats{Calls: 4, Led: 3, Joined: 1, Left: 4, Abandoned: 3, Forgotten: 1, Panics: 3, PanicsLogged: 1}
		if got := g.Stats(); got != st || g.Len() != 0 {
			t.Errorf("%+v, want %+v", got, st)
		}
	})
}

// TestDoMulti_ToldOfAPanicByOneKey: it is not logged if a caller of one key is
// left to be told, be that the key which was forgotten.
func TestDoMulti_ToldOfAPanicByOneKey(t *testing.T) {
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
				t.Errorf("%+v, log: %s", a, log)
			}
			if st := g.Stats(); st.Panics != 3 || st.PanicsLogged != 0 || st.Abandoned != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestDoMulti_EndedOnEntry: every key gets the ctx's error, each once, and
// nothing is begun or joined.
func TestDoMulti_EndedOnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, _ := leadMany(&g, loads(1), "a")
		r := g.DoMulti(kit.EndedContext, []string{"a", "b", "c", "b"}, func(context.Context, []string) (map[string]int, error) {
			t.Error("fn ran")
			return nil, nil
		})
		wantResults(t, "DoMulti", r, results{"a": {Err: context.Canceled}, "b": {Err: context.Canceled}, "c": {Err: context.Canceled}})
		if st := g.Stats(); st != (coalesce.Stats{Calls: 4, Led: 1, EndedOnEntry: 3}) || g.Len() != 1 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
		close(h.Release)
	})
}

// TestDoMulti_ResultBeatsCancellation: for each key by itself. What has
// finished when ctx ends has its result, the rest the ctx's error, at once.
func TestDoMulti_ResultBeatsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := abandonMany(t, &g, "e", "f")
		busy, slow := kit.Hold(), kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "b", busy.CtxFn(2))
		kit.Go(t.Context(), kit.Forms[0], &g, "c", slow.CtxFn(3))
		kit.Go(t.Context(), kit.Forms[0], &g, "f", slow.CtxFn(6)) // is to lead it
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, kit.ErrTest)
		defer cancel()
		h := holdLoader()
		start := time.Now()
		many, done := goMulti(ctx, &g, func(ctx context.Context, keys []string) (map[string]int, error) {
			if keys[0] == "e" {
				return loads(1)(ctx, keys) // queued, and alone: it ends in time
			}
			return h.then(loads(1))(ctx, keys)
		}, "a", "b", "c", "d", "e", "f")
		<-h.Started
		close(busy.Release)
		close(old.Release)
		<-done
		if many.at.Sub(start) != time.Second {
			t.Errorf("returned after %v", many.at.Sub(start))
		}
		late := context.DeadlineExceeded
		wantResults(t, "DoMulti", many.results, results{
			"a": {Err: late}, "b": {Val: 2, Shared: true}, "c": {Err: late, Shared: true},
			"d": {Err: late}, "e": {Val: 5}, "f": {Err: late, Shared: true},
		})
		if cause := context.Cause(<-h.ctxs); cause != kit.ErrTest {
			t.Errorf("cause %v", cause)
		}
		if st := g.Stats(); st.Left != 2+4 || st.Abandoned != 2+2 {
			t.Errorf("%+v", st)
		}
		close(h.Release)
		close(slow.Release)
		synctest.Wait()
		if g.Len() != 0 {
			t.Errorf("Len = %d", g.Len())
		}
	})
}

// TestDoMulti_ResultThereFirst: the batch has finished, then ctx ends, and only
// then is the caller scheduled: it has the results, every time.
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
				t.Fatalf("%+v", many.results)
			}
		}
	})
}

// TestDoMulti_SameInstant: a result and the end of ctx in the same instant of a
// fake clock give one or the other for each key, whole.
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
					t.Fatalf("%d: %+v", k, r)
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
				t.Fatalf("Len = %d", g.Len())
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

// TestDoMulti_AbandonedByTheLastOfAll: calls of several keys leave one after the
// other, in every order. Until the last has, nothing is canceled, and each key
// can be joined, be there a caller left for it or not; then all of them are
// abandoned at once, with the last one's cause.
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
	g.Forget("c") // it is part of the batch as before
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
			t.Errorf("abandoned after %d of 4 calls: %v, %+v", i, fnCtx.Err(), st)
		}
		for _, k := range []string{"a", "b"} {
			before := g.Stats().Joined
			ctx, cancel := context.WithCancel(t.Context())
			_, done := kit.Go(ctx, kit.Forms[2], &g, k, kit.CtxValue(0))
			synctest.Wait()
			if s := flightsOf(&g)[k]; !strings.HasPrefix(s, "running ") || g.Stats().Joined != before+1 {
				t.Errorf("after %d of 4 calls: %s is %q", i, k, s)
			}
			cancel() // leaves as it came
			<-done
		}
		s := stayers[n]
		s.leave(fmt.Errorf("%s leaves", s.name))
		synctest.Wait()
		if !kit.IsDone(s.done) {
			t.Errorf("%s did not return", s.name)
		}
	}
	want := map[string]string{"a": "abandoned 0", "b": "abandoned 0", "c": "abandoned 0 forgotten"}
	if got := flightsOf(&g); !maps.Equal(got, want) {
		t.Errorf("Flights: %v, want %v", got, want)
	}
	last := stayers[order[3]].name + " leaves"
	if cause := context.Cause(fnCtx); cause == nil || cause.Error() != last || g.Stats().Abandoned != 3 {
		t.Errorf("cause %v, want %q; %+v", cause, last, g.Stats())
	}
	if !kit.IsDone(fnCtx.Done()) || fnCtx.Err() != context.Canceled {
		t.Errorf("Err: %v", fnCtx.Err())
	}
	close(h.Release)
	synctest.Wait()
	for f := range g.Flights() {
		t.Errorf("left behind: %+v", f)
	}
}

// TestDoMulti_KeyWithoutCallers: the flight of a batch whose last caller has
// left, while another key has one, is answered like the others: a call of any
// form joins it, by that keeps the batch alive, and gets the value.
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
						t.Errorf("Flights: %v", flightsOf(&g))
					}
					late, _ := kit.Go(t.Context(), f, &g, key, kit.CtxValue(0))
					synctest.Wait()
					stop()
					<-stayed
					if err := (<-h.ctxs).Err(); err != nil {
						t.Errorf("fn's context: %v", err)
					}
					close(h.Release)
					synctest.Wait()
					if late.V != valuesFrom(1, key)[key] || !late.Shared || late.Err != nil {
						t.Errorf("late: %+v", late)
					}
					if st := g.Stats(); st.Abandoned != 0 || g.Len() != 0 {
						t.Errorf("%+v, Len %d", st, g.Len())
					}
				})
			})
		}
	}
}

// TestDoMulti_BehindAnAbandonedBatch: calls of every form for any key of it wait
// until its execution has ended, and are answered by others.
func TestDoMulti_BehindAnAbandonedBatch(t *testing.T) {
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := abandonMany(t, &g, "a", "b", "c")
				if v, err := g.TryDo("b", kit.Value(1)); v != 0 || err != coalesce.ErrInFlight {
					t.Errorf("TryDo: %v, %v", v, err)
				}
				if !g.ForgetUnshared("c") || !g.Forget("b") {
					t.Error("an abandoned flight cannot be forgotten")
				}
				a, _ := kit.Go(t.Context(), f, &g, "a", kit.CtxValue(8))
				synctest.Wait()
				if !a.At.IsZero() {
					t.Errorf("it did not wait: %+v", a)
				}
				b := f.Call(t.Context(), &g, "b", kit.CtxValue(9))
				close(old.Release)
				synctest.Wait()
				if a.V != 8 || a.Shared || a.Err != nil || b.V != 9 || g.Len() != 0 {
					t.Errorf("a: %+v, b: %+v, Len %d", a, b, g.Len())
				}
			})
		})
	}
}

// TestDoMulti_AbandonedWasJoined: what an abandoned batch returns does not
// linger, and a key of it that had been joined is shared no more.
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
			t.Error("ForgetUnshared forgot what is shared")
		}
		cancel()
		synctest.Wait()
		if !g.ForgetUnshared("a") || g.Len() != 2 {
			t.Errorf("ForgetUnshared spared what nobody waits for: Len %d", g.Len())
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "afterwards", g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(50)), results{
			"a": {Val: 50}, "b": {Val: 51}, "c": {Val: 52},
		})
	})
}

// TestDoMulti_QueuedKeyLeaves: a DoMulti whose ctx ends while a key of it is
// queued leaves at once; fn is not called for that key, by the next in the queue
// neither; and who had waited longest after it leads.
func TestDoMulti_QueuedKeyLeaves(t *testing.T) {
	for _, next := range append(kit.Forms, kit.Form{}) { // or nobody
		t.Run(next.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := abandonMany(t, &g, "a", "b")
				ctx, cancel := context.WithCancel(t.Context())
				many, done := goMulti(ctx, &g, func(_ context.Context, keys []string) (map[string]int, error) {
					if keys[0] != "c" {
						t.Errorf("fn got %q", keys)
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
					t.Fatal("DoMulti did not return")
				}
				wantResults(t, "DoMulti", many.results, results{
					"a": {Err: context.Canceled}, "b": {Err: context.Canceled, Shared: a != nil}, "c": {Val: 3},
				})
				close(old.Release)
				synctest.Wait()
				if a != nil && (a.V != 8 || !a.Shared || a.Err != nil) {
					t.Errorf("next: %+v", a)
				}
				if st := g.Stats(); st.Left != 4 || st.Abandoned != 2 || g.Len() != 0 {
					t.Errorf("%+v, Len %d", st, g.Len())
				}
			})
		})
	}
}

// TestDoMulti_PromotedAsContextEnds: the ctx ends in the very moment in which a
// queued key gets its turn. It may lead it or not: but either it is answered by
// fn or it has left, and who came after it is answered.
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
					t.Fatalf("%s: %+v", k, mine)
				}
				// If it leads and leaves, the other still gets what it loads.
				if theirs.Err != nil || !theirs.Shared || theirs.Val%49 != valuesFrom(1, k)[k] || mine.Err == nil && theirs.Val != mine.Val {
					t.Fatalf("%s: %+v, before it %+v", k, theirs, mine)
				}
			}
			if many.results["c"] != (result{Val: 3}) || g.Len() != 0 {
				t.Fatalf("c: %+v, Len %d", many.results["c"], g.Len())
			}
		}
		t.Logf("led %d, left %d", led, left)
	})
}

// TestDoMulti_ToldWhenAllHaveFinished: whoever has been told of one key calls
// for another of the batch at once, and does not get what the batch returned.
func TestDoMulti_ToldWhenAllHaveFinished(t *testing.T) {
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
					t.Errorf("%d: %v, %v", k, v, err)
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
		t.Errorf("%d calls got what others had been told of before, Len %d", n, g.Len())
	}
}

// A oneDoneContext panics when it is asked for its Done channel again.
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

// TestDoMulti_AsksForDoneOnce: a context whose methods misbehave once the call has
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
