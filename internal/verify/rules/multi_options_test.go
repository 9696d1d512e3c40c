package rules_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds DoMulti together with the options of a group, with Forget and with
// Shutdown.

// TestDoMulti_Forget: another call can lead a key of a batch that was forgotten, and each
// of the two flights answers its own callers; the batch's other keys go on.
func TestDoMulti_Forget(t *testing.T) {
	for name, forget := range map[string]func(*kit.Group, string) bool{
		"Forget": (*kit.Group).Forget, "ForgetUnshared": (*kit.Group).ForgetUnshared,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h, many := leadMany(&g, loads(1), "a", "b", "c")
				joined, _ := kit.Go(t.Context(), kit.Forms[0], &g, "c", kit.CtxValue(0))
				synctest.Wait()
				if !forget(&g, "a") || forget(&g, "c") != (name == "Forget") {
					t.Errorf("%s: got a wrong answer, want true, and for a shared key %v", name, name == "Forget")
				}
				if got := g.Len(); got != 2-b2i(name == "Forget") {
					t.Errorf("got Len %d, want %d", got, 2-b2i(name == "Forget"))
				}
				again, _ := leadMany(&g, loads(50), "a")
				if got := flightsOf(&g)["a"]; got != "running 0, running 0 forgotten" {
					t.Errorf("got flights %q, want the old one, forgotten, and the new one", got)
				}
				second, _ := goMulti(t.Context(), &g, loads(0), "a", "b")
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				wantResults(t, "first", many.results, results{
					"a": {Val: 1}, "b": {Val: 2, Shared: true}, "c": {Val: 3, Shared: true},
				})
				if joined.V != 3 || joined.Err != nil {
					t.Errorf("joined: got %+v, want 3", joined)
				}
				if got := flightsOf(&g); !maps.Equal(got, map[string]string{"a": "running 1"}) {
					t.Errorf("got flights %v, want a, which was joined", got)
				}
				close(again.Release)
				synctest.Wait()
				wantResults(t, "second", second.results, results{
					"a": {Val: 50, Shared: true}, "b": {Val: 2, Shared: true},
				})
				if g.Len() != 0 {
					t.Errorf("got Len %d, want 0", g.Len())
				}
			})
		})
	}
}

// TestDoMulti_MaxAge: the first call for a key of an old batch takes over that key; a
// DoFresh that is queued for another gets its turn at that age; the third key remains the
// batch's.
func TestDoMulti_MaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		start := time.Now()
		h, many := leadMany(&g, loads(1), "a", "b", "c")
		fresh, _ := kit.Go(t.Context(), kit.Forms[4], &g, "b", kit.CtxValue(8))
		time.Sleep(time.Minute - 1)
		third, _ := kit.Go(t.Context(), kit.Forms[0], &g, "c", kit.CtxValue(0))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if fresh.V != 8 || fresh.Err != nil || fresh.At.Sub(start) != time.Minute {
			t.Errorf("DoFresh: got %+v, want 8 after 1m", fresh)
		}
		second := g.DoMulti(t.Context(), []string{"a", "b"}, loads(50))
		wantResults(t, "second", second, results{"a": {Val: 50}, "b": {Val: 51}})
		if st := g.Stats(); st.TakenOver != 2 || st.Led != 3+1+2 || g.Len() != 1 {
			t.Errorf("got %+v, Len %d, want 2 takeovers, 6 led, 1", st, g.Len())
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "first", many.results, results{"a": {Val: 1}, "b": {Val: 2}, "c": {Val: 3, Shared: true}})
		if third.V != 3 || !third.Shared || g.Len() != 0 {
			t.Errorf("third: got %+v, Len %d, want 3, shared, 0", third, g.Len())
		}
	})
}

// TestDoMulti_MaxWaiters: the waiters of each key count separately, beside the call that
// leads, and exactly: a waiter that leaves makes room, the leader does not.
func TestDoMulti_MaxWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxWaiters: 2}
		ctx, cancel := context.WithCancel(t.Context())
		h := holdLoader()
		first, _ := goMulti(ctx, &g, h.then(loads(1)), "a", "b")
		<-h.Started
		mine, cancelMine := context.WithCancel(t.Context())
		second, _ := goMulti(mine, &g, loads(0), "a", "b")
		synctest.Wait()
		third, _ := kit.Go(t.Context(), kit.Forms[0], &g, "b", kit.CtxValue(0))
		synctest.Wait()
		fourth, _ := goMulti(t.Context(), &g, loads(50), "a", "b", "c")
		synctest.Wait()
		fifth := g.DoMulti(t.Context(), []string{"a", "b", "d"}, loads(60))
		wantResults(t, "fifth", fifth, results{
			"a": {Err: coalesce.ErrSaturated}, "b": {Err: coalesce.ErrSaturated}, "d": {Val: 63},
		})
		cancelMine()
		synctest.Wait()
		wantResults(t, "second", second.results, results{
			"a": {Err: context.Canceled, Shared: true}, "b": {Err: context.Canceled, Shared: true},
		})
		cancel() // the caller that leads is no waiter
		synctest.Wait()
		wantResults(t, "first", first.results, results{
			"a": {Err: context.Canceled, Shared: true}, "b": {Err: context.Canceled, Shared: true},
		})
		var more []*manyAnswer
		for range 3 {
			a, _ := goMulti(t.Context(), &g, loads(0), "a", "b")
			more = append(more, a)
			synctest.Wait()
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "fourth", fourth.results, results{
			"a": {Val: 1, Shared: true}, "b": {Err: coalesce.ErrSaturated}, "c": {Val: 52},
		})
		ok, full := result{Val: 2, Shared: true}, result{Err: coalesce.ErrSaturated}
		for i, want := range []result{ok, full, full} {
			if got := more[i].results["b"]; got != want {
				t.Errorf("b for call %d, after one has left: got %+v, want %+v", i, got, want)
			}
		}
		ok.Val = 1
		for i, want := range []result{ok, full, full} {
			if got := more[i].results["a"]; got != want {
				t.Errorf("a for call %d, after one has left: got %+v, want %+v", i, got, want)
			}
		}
		if third.V != 2 || third.Err != nil {
			t.Errorf("third: got %+v, want 2", third)
		}
		if st := g.Stats(); st.Rejected != 1+2+4 || st.Calls != 2+2+1+3+3+6 {
			t.Errorf("got %+v, want 7 rejected of 17 calls", st)
		}
	})
}

// TestDoMulti_Linger: each key that was loaded lingers, and answers calls of other forms;
// fn does not get lingering keys.
func TestDoMulti_Linger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: lingering}
		first := g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(context.Context, []string) (map[string]int, error) {
			g.Forget("c") // so that it does not linger
			return valuesFrom(1, "a", "b", "c"), nil
		})
		wantResults(t, "first", first, results{"a": {Val: 1}, "b": {Val: 2}, "c": {Val: 3}})
		time.Sleep(lingering - 1)
		if v, shared, err := g.Do("a", kit.Value(9)); v != 1 || !shared || err != nil {
			t.Errorf("Do: got %v, %v, %v, want 1, true, nil", v, shared, err)
		}
		h := holdLoader()
		many, done := goMulti(t.Context(), &g, h.then(loads(50)), "b", "c", "a", "d", "b")
		<-h.Started
		if got, want := <-h.got, []string{"c", "d"}; !slices.Equal(got, want) {
			t.Errorf("fn: got %q, want %q", got, want)
		}
		time.Sleep(time.Second) // an outcome that has answered the call may expire meanwhile
		close(h.Release)
		<-done
		wantResults(t, "second", many.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}, "c": {Val: 52}, "d": {Val: 53},
		})
		third := g.DoMulti(t.Context(), []string{"a", "c", "d"}, loads(90))
		wantResults(t, "third", third, results{"a": {Val: 90}, "c": {Val: 52, Shared: true}, "d": {Val: 53, Shared: true}})
		st := coalesce.Stats{Calls: 3 + 1 + 4 + 3, Led: 3 + 2 + 1, Lingered: 1 + 2 + 2, Forgotten: 1, Lingering: 3}
		if got := g.Stats(); got != st {
			t.Errorf("got %+v, want %+v", got, st)
		}
		ended := g.DoMulti(kit.EndedContext, []string{"a", "c"}, loads(0))
		wantResults(t, "ended", ended, results{"a": {Err: context.Canceled}, "c": {Err: context.Canceled}})
	})
}

// TestDoMulti_Clone: for a key that is shared, or that lingers, each caller gets a value
// of its own; for an unshared key, the caller gets the original.
func TestDoMulti_Clone(t *testing.T) {
	for _, linger := range []time.Duration{0, coalesce.Forever} {
		synctest.Test(t, func(t *testing.T) {
			var clones atomic.Int32
			g := coalesce.Group[string, *int]{Linger: linger, Clone: func(p *int) *int {
				clones.Add(1)
				v := *p
				return &v
			}}
			one, two := 1, 2
			originals := map[string]*int{"a": &one, "b": &two}
			release := make(chan struct{})
			load := func(context.Context, []string) (map[string]*int, error) {
				<-release
				return originals, nil
			}
			var mu sync.Mutex
			got := map[string][]*int{}
			note := func(key string, p *int, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil || *p != *originals[key] {
					t.Errorf("%s: got %v, %v, want a value like the original", key, p, err)
				}
				got[key] = append(got[key], p)
			}
			call := func(keys ...string) {
				for k, r := range g.DoMulti(t.Context(), keys, load) {
					note(k, r.Val, r.Err)
				}
			}
			go call("a", "b")
			synctest.Wait()
			go call("a")
			go func() {
				v, _, err := g.Do("a", noPointer)
				note("a", v, err)
			}()
			go func() {
				r := <-g.DoChan(t.Context(), "a", func(context.Context) (*int, error) { return nil, nil })
				note("a", r.Val, r.Err)
			}()
			synctest.Wait()
			close(release)
			synctest.Wait()
			lingers := linger > 0
			if lingers {
				call("b")
			}
			if n := clones.Load(); n != int32(4+2*b2i(lingers)) || len(got["a"]) != 4 {
				t.Errorf("got %d clones and %d answers, want %d and 4", n, len(got["a"]), 4+2*b2i(lingers))
			}
			if own := slices.Contains(got["b"], originals["b"]); own == lingers {
				t.Errorf("got the original of b for its one caller: %v, want %v", own, !lingers)
			}
			seen := map[*int]bool{originals["a"]: true}
			for _, p := range slices.Concat(got["a"], got["b"]) {
				if seen[p] {
					t.Error("got one value for two callers, want two")
				}
				seen[p] = true
			}
		})
	}
}

func noPointer() (*int, error) { return nil, nil }

// TestDoMulti_ClonePanics: if Clone panics, the caller lacks that one key only.
func TestDoMulti_ClonePanics(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever, Clone: func(v int) int {
		if v == 2 {
			panic("no clone")
		}
		return v
	}}
	for range 2 {
		r := g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(1))
		var pe *coalesce.PanicError
		if !errors.As(r["b"].Err, &pe) || pe.Value != "no clone" || r["b"].Val != 0 {
			t.Errorf("b: got %+v, want 0 and the panic of Clone", r["b"])
		}
		if r["a"].Val != 1 || r["a"].Err != nil || r["c"].Val != 3 || r["c"].Err != nil {
			t.Errorf("got %+v, want 1 for a and 3 for c", r)
		}
	}
}

// TestDoMulti_CloneExits: a Clone that calls Goexit exits the caller's goroutine, but
// leaves the call's other keys intact: the call has left them by then, as the state of
// fn's context shows.
func TestDoMulti_CloneExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Clone: func(int) int { runtime.Goexit(); return 0 }}
		ctx, cancel := context.WithCancel(t.Context())
		busy := kit.Hold()
		go g.Do("a", busy.Fn(1))
		<-busy.Started
		h := holdLoader()
		_, done := goMulti(ctx, &g, h.then(loads(0)), "a", "b")
		synctest.Wait()
		close(busy.Release)
		synctest.Wait()
		cancel()
		<-done
		synctest.Wait()
		if err := (<-h.ctxs).Err(); err == nil || flightsOf(&g)["b"] != "abandoned 0" {
			t.Errorf("got fn's context with error %v, flights %v, want it canceled and b abandoned", err, flightsOf(&g))
		}
		close(h.Release)
	})
}

// TestDoMulti_Shutdown: Shutdown waits for the keys of a running batch, which are
// answered; queued keys, and new calls, get ErrClosed for each key.
func TestDoMulti_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := abandonMany(t, &g, "a", "b")
		h := holdLoader()
		many, _ := goMulti(t.Context(), &g, h.then(loads(1)), "a", "c", "d")
		<-h.Started
		follower, _ := kit.Go(t.Context(), kit.Forms[0], &g, "c", kit.CtxValue(0))
		queued, _ := goMulti(t.Context(), &g, loads(1), "b", "a")
		synctest.Wait()
		shut := make(chan error, 1)
		go func() { shut <- g.Shutdown(context.Background()) }()
		synctest.Wait()
		wantResults(t, "queued", queued.results, results{
			"a": {Err: coalesce.ErrClosed, Shared: true}, "b": {Err: coalesce.ErrClosed},
		})
		late := g.DoMulti(t.Context(), []string{"a", "c", "e"}, loads(0))
		wantResults(t, "late", late, results{
			"a": {Err: coalesce.ErrClosed}, "c": {Err: coalesce.ErrClosed}, "e": {Err: coalesce.ErrClosed},
		})
		close(old.Release)
		synctest.Wait()
		if len(shut) > 0 {
			t.Error("got a Shutdown that has returned, want it to wait for the batch")
		}
		close(h.Release)
		synctest.Wait()
		if err := <-shut; err != nil {
			t.Errorf("Shutdown: got %v, want nil", err)
		}
		wantResults(t, "DoMulti", many.results, results{
			"a": {Err: coalesce.ErrClosed, Shared: true}, "c": {Val: 3, Shared: true}, "d": {Val: 4},
		})
		if follower.V != 3 || follower.Err != nil {
			t.Errorf("follower: got %+v, want 3", follower)
		}
		st := coalesce.Stats{Calls: 2 + 3 + 1 + 2 + 3, Led: 4, Joined: 1, Rejected: 6, Left: 2, Abandoned: 2}
		if got := g.Stats(); got != st || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want %+v, 0", got, g.Len(), st)
		}
	})
}

// TestDoMulti_ShutdownOutOfTime: it cancels the one context of the batch, with its cause.
func TestDoMulti_ShutdownOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		many, _ := goMulti(t.Context(), &g, func(ctx context.Context, keys []string) (map[string]int, error) {
			<-ctx.Done()
			return valuesFrom(1, keys...), context.Cause(ctx)
		}, "a", "b", "c")
		synctest.Wait()
		g.Forget("b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: got %v, want %v", err, context.DeadlineExceeded)
		}
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1, Err: coalesce.ErrClosed}, "b": {Val: 2, Err: coalesce.ErrClosed}, "c": {Val: 3, Err: coalesce.ErrClosed},
		})
		if err := g.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown when nothing runs: got %v, want nil", err)
		}
	})
}
