package rules_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the rules of a DoMulti for several keys that go beyond those for one
// key, which the tests of the contract and of the state table cover by the form DoMulti.
// How a batch ends is in multi_exit_test.go.

type (
	result  = coalesce.Result[int]
	results = map[string]result
	loader  = func(context.Context, []string) (map[string]int, error)
)

// valuesFrom returns a value for each key, which is one letter: base for "a", base+1 for
// "b".
func valuesFrom(base int, keys ...string) map[string]int {
	m := map[string]int{}
	for _, k := range keys {
		m[k] = base + int(k[0]-'a')
	}
	return m
}

// loads returns an fn that returns valuesFrom(base) of the keys that it gets.
func loads(base int) loader {
	return func(_ context.Context, keys []string) (map[string]int, error) {
		return valuesFrom(base, keys...), nil
	}
}

// A heldLoader is an fn for DoMulti that runs until it is released. It keeps its
// arguments.
type heldLoader struct {
	*kit.Held
	got  chan []string
	ctxs chan context.Context
}

func holdLoader() *heldLoader {
	return &heldLoader{kit.Hold(), make(chan []string, 16), make(chan context.Context, 16)}
}

// then returns the fn, which goes on as another one.
func (h *heldLoader) then(fn loader) loader {
	return func(ctx context.Context, keys []string) (map[string]int, error) {
		h.got <- slices.Clone(keys)
		h.ctxs <- ctx
		_, _ = h.Fn(0)()
		return fn(ctx, keys)
	}
}

// A manyAnswer is the answer that a DoMulti got.
type manyAnswer struct {
	results
	at time.Time
}

// goMulti is kit.Go for DoMulti with several keys.
func goMulti(ctx context.Context, g *kit.Group, fn loader, keys ...string) (*manyAnswer, <-chan struct{}) {
	a, done := new(manyAnswer), make(chan struct{})
	go func() {
		defer close(done)
		r := g.DoMulti(ctx, keys, fn)
		*a = manyAnswer{r, time.Now()}
	}()
	return a, done
}

// leadMany starts a DoMulti, with a context that never ends, that leads all of the keys.
func leadMany(g *kit.Group, fn loader, keys ...string) (*heldLoader, *manyAnswer) {
	h := holdLoader()
	a, _ := goMulti(context.Background(), g, h.then(fn), keys...)
	<-h.Started
	return h, a
}

// abandonMany leaves the keys with an abandoned batch, whose fn ignores its context until
// it is released.
func abandonMany(t *testing.T, g *kit.Group, keys ...string) *heldLoader {
	t.Helper()
	h := holdLoader()
	ctx, cancel := context.WithCancel(t.Context())
	a, done := goMulti(ctx, g, h.then(loads(100)), keys...)
	<-h.Started
	cancel()
	<-done
	for _, k := range keys {
		if a.results[k] != (result{Err: context.Canceled}) {
			t.Fatalf("abandoning call: got %+v, want %v", a.results, context.Canceled)
		}
	}
	return h
}

// wantResults checks the results of a DoMulti.
func wantResults(t *testing.T, who string, got, want results) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %+v, want %+v", who, got, want)
	}
}

// flightsOf returns the state of each key that Flights shows, in words.
func flightsOf(g *kit.Group) map[string]string {
	m := map[string]string{}
	for f := range g.Flights() {
		s := fmt.Sprintf("%v %d", f.State, f.Waiters)
		if f.Forgotten {
			s += " forgotten"
		}
		if m[f.Key] != "" {
			s = m[f.Key] + ", " + s
		}
		m[f.Key] = s
	}
	return m
}

// TestDoMulti_LoadsKeysWithoutFlight: fn runs once, for the keys that have no flight,
// each once and in the order of keys, and all keys get their results, also those that
// occur twice in keys, which count once.
func TestDoMulti_LoadsKeysWithoutFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		busy := kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "d", busy.CtxFn(4))
		<-busy.Started
		other, _ := leadMany(&g, loads(20), "f")
		h, a := leadMany(&g, loads(100), "g", "d", "b", "g", "f", "a", "b", "a", "d", "c")
		if got, want := <-h.got, []string{"g", "b", "a", "c"}; !slices.Equal(got, want) {
			t.Errorf("fn: got %q, want %q", got, want)
		}
		if n := g.Len(); n != 6 {
			t.Errorf("got Len %d, want 6", n)
		}
		want := map[string]string{
			"a": "running 0", "b": "running 0", "c": "running 0", "g": "running 0",
			"d": "running 1", "f": "running 1",
		}
		if got := flightsOf(&g); !maps.Equal(got, want) {
			t.Errorf("got flights %v, want %v", got, want)
		}
		close(h.Release)
		close(busy.Release)
		synctest.Wait()
		if a.results != nil {
			t.Errorf("got %+v before all keys were answered, want none", a)
		}
		close(other.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", a.results, results{
			"a": {Val: 100}, "b": {Val: 101}, "c": {Val: 102}, "g": {Val: 106},
			"d": {Val: 4, Shared: true}, "f": {Val: 25, Shared: true},
		})
		if st := g.Stats(); st != (coalesce.Stats{Calls: 8, Led: 6, Joined: 2}) || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want 8 calls, 6 led, 2 joined, 0", st, g.Len())
		}
	})
}

// TestDoMulti_NothingToLoad: fn is not called for no keys, nor if all keys have flights.
func TestDoMulti_NothingToLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		never := func(context.Context, []string) (map[string]int, error) {
			t.Error("got a call of fn, want none")
			return nil, nil
		}
		for _, keys := range [][]string{nil, {}} {
			if r := g.DoMulti(t.Context(), keys, never); r == nil || len(r) != 0 {
				t.Errorf("got %v, want an empty map", r)
			}
		}
		h, first := leadMany(&g, loads(1), "a", "b")
		second, _ := goMulti(t.Context(), &g, never, "b", "a", "b")
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		want := results{"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}}
		wantResults(t, "first", first.results, want)
		wantResults(t, "second", second.results, want)
	})
}

// TestDoMulti_SharesBothWays: calls of every form for one key of a batch share it, and a
// DoMulti shares the flights that calls of every form lead.
func TestDoMulti_SharesBothWays(t *testing.T) {
	for _, f := range kit.Joining {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h, many := leadMany(&g, loads(1), "a", "b", "c")
				one, _ := kit.Go(ctx, f, &g, "b", kit.CtxValue(0))
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				if one.V != 2 || !one.Shared || one.Err != nil {
					t.Errorf("joins: got %+v, want 2, shared", one)
				}
				wantResults(t, "joined", many.results, results{"a": {Val: 1}, "b": {Val: 2, Shared: true}, "c": {Val: 3}})
			})
		})
	}
	for _, f := range kit.Forms {
		t.Run("with "+f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h := kit.Hold()
				one, _ := kit.Go(ctx, f, &g, "b", h.CtxFn(7))
				<-h.Started
				many, _ := goMulti(ctx, &g, loads(1), "a", "b", "c")
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				if one.V != 7 || !one.Shared || one.Err != nil {
					t.Errorf("led: got %+v, want 7, shared", one)
				}
				wantResults(t, "joins", many.results, results{"a": {Val: 1}, "b": {Val: 7, Shared: true}, "c": {Val: 3}})
			})
		})
	}
}

// TestDoMulti_TryDoAndDoFresh: for TryDo a key of a batch is in flight, a DoMulti joins
// the flight of a TryDo in turn, and DoFresh queues behind a key of a batch.
func TestDoMulti_TryDoAndDoFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, first := leadMany(&g, loads(1), "a", "b")
		if v, err := g.TryDo("b", kit.Value(9)); v != 0 || err != coalesce.ErrInFlight {
			t.Errorf("TryDo: got %v, %v, want 0, %v", v, err, coalesce.ErrInFlight)
		}
		fresh, _ := kit.Go(t.Context(), kit.Forms[4], &g, "b", kit.CtxValue(8))
		synctest.Wait()
		try := kit.Hold()
		go g.TryDo("c", try.Fn(7))
		<-try.Started
		second, _ := goMulti(t.Context(), &g, loads(1), "a", "b", "c")
		synctest.Wait()
		if !fresh.At.IsZero() {
			t.Errorf("DoFresh: got %+v, want it queued", fresh)
		}
		close(h.Release)
		close(try.Release)
		synctest.Wait()
		wantResults(t, "first", first.results, results{"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}})
		wantResults(t, "second", second.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}, "c": {Val: 7, Shared: true},
		})
		if fresh.V != 8 || fresh.Shared || fresh.Err != nil {
			t.Errorf("DoFresh: got %+v, want 8, not shared", fresh)
		}
	})
}

// TestDoMulti_Absent: for a key that fn's map lacks, every caller gets ErrAbsent, never a
// zero value with a nil error. The key's result is not cloned, and does not linger.
// (Peers return the zero value to a call that has joined.)
func TestDoMulti_Absent(t *testing.T) {
	for _, queued := range []bool{false, true} {
		for _, m := range []map[string]int{nil, {}, {"other": 1}} {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: coalesce.Forever, Clone: func(v int) int {
					if v == 0 {
						t.Error("Clone: got a call with the zero value, want none")
					}
					return v
				}}
				var old *heldLoader
				if queued {
					old = abandonMany(t, &g, "a")
				}
				h := holdLoader()
				many, _ := goMulti(t.Context(), &g, h.then(func(context.Context, []string) (map[string]int, error) { return m, nil }), "a", "b")
				synctest.Wait()
				followers := map[string]*kit.Answer{}
				for _, f := range kit.Joining {
					followers[f.Name], _ = kit.Go(t.Context(), f, &g, "a", kit.CtxValue(0))
				}
				synctest.Wait()
				if queued {
					close(old.Release)
				}
				close(h.Release)
				synctest.Wait()
				wantResults(t, "DoMulti", many.results, results{
					"a": {Err: coalesce.ErrAbsent, Shared: true}, "b": {Err: coalesce.ErrAbsent},
				})
				for name, a := range followers {
					if a.V != 0 || !a.Shared || a.Err != coalesce.ErrAbsent || a.Panic != nil {
						t.Errorf("%s: got %+v, want 0, shared, %v", name, a, coalesce.ErrAbsent)
					}
				}
				if v, shared, err := g.Do("b", kit.Value(9)); v != 9 || shared || err != nil {
					t.Errorf("afterwards: got %v, %v, %v, want 9, false, nil", v, shared, err)
				}
				if st := g.Stats(); st.Lingered != 0 {
					t.Errorf("got %+v, want none lingered", st)
				}
			})
		}
	}
}

// TestDoMulti_ErrorWithAPartialMap: every key that was passed to fn gets the very error,
// and the value in the map for it.
func TestDoMulti_ErrorWithAPartialMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever}
		busy := kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "c", busy.CtxFn(7))
		<-busy.Started
		old := abandonMany(t, &g, "d")
		h := holdLoader()
		many, _ := goMulti(t.Context(), &g, h.then(func(_ context.Context, keys []string) (map[string]int, error) {
			return map[string]int{"a": 1}, kit.ErrTest
		}), "a", "b", "c", "d")
		<-h.Started
		var one [2]*kit.Answer
		for i, k := range []string{"a", "b"} {
			one[i], _ = kit.Go(t.Context(), kit.Forms[0], &g, k, kit.CtxValue(0))
		}
		synctest.Wait()
		close(h.Release)
		close(old.Release)
		close(busy.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1, Err: kit.ErrTest, Shared: true}, "b": {Err: kit.ErrTest, Shared: true},
			"c": {Val: 7, Shared: true}, "d": {Err: kit.ErrTest},
		})
		for i, a := range one {
			if a.V != 1-i || a.Err != kit.ErrTest || !a.Shared {
				t.Errorf("follower %d: got %+v, want %d, shared, %v", i, a, 1-i, kit.ErrTest)
			}
		}
		if r := g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(50)); r["a"].Val != 50 || r["b"].Val != 51 || r["c"].Val != 7 {
			t.Errorf("after the error: got %+v, want 50, 51 and the lingering 7", r)
		}
	})
}

// TestDoMulti_QueuedKeys: keys whose flights are abandoned wait for those executions to
// end, and are then passed to fn one by one, each alone, independent of the other keys of
// the call. Other calls can be ahead of them.
func TestDoMulti_QueuedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		oldAB, oldC := abandonMany(t, &g, "a", "b"), abandonMany(t, &g, "c")
		first, _ := kit.Go(t.Context(), kit.Forms[0], &g, "b", kit.CtxValue(77)) // this call will lead
		synctest.Wait()
		h := holdLoader()
		many, _ := goMulti(t.Context(), &g, h.then(loads(1)), "a", "b", "c", "d", "e")
		<-h.Started
		if got, want := <-h.got, []string{"d", "e"}; !slices.Equal(got, want) {
			t.Errorf("fn: got %q, want %q", got, want)
		}
		follower, _ := kit.Go(t.Context(), kit.Forms[2], &g, "a", kit.CtxValue(0))
		synctest.Wait()
		want := map[string]string{
			"a": "abandoned 0, queued 2", "b": "abandoned 0, queued 2", "c": "abandoned 0, queued 1",
			"d": "running 0", "e": "running 0",
		}
		if got := flightsOf(&g); !maps.Equal(got, want) {
			t.Errorf("got flights %v, want %v", got, want)
		}
		close(oldAB.Release)
		<-h.Started
		close(oldC.Release)
		<-h.Started
		for _, want := range []string{"a", "c"} {
			if got := <-h.got; !slices.Equal(got, []string{want}) {
				t.Errorf("fn: got %q, want %q alone", got, want)
			}
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 77, Shared: true}, "c": {Val: 3}, "d": {Val: 4}, "e": {Val: 5},
		})
		if first.V != 77 || !first.Shared || follower.V != 1 || follower.Err != nil {
			t.Errorf("got first %+v, follower %+v, want 77 and 1", first, follower)
		}
		st := coalesce.Stats{Calls: 3 + 1 + 5 + 1, Led: 3 + 1 + 4, Joined: 2, Left: 3, Abandoned: 3}
		if got := g.Stats(); got != st || h.Runs.Load() != 3 || g.Len() != 0 {
			t.Errorf("got %+v, %d executions, Len %d, want %+v, 3, 0", got, h.Runs.Load(), g.Len(), st)
		}
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestDoMulti_ThousandKeys: a thousand keys in one execution, beside another call for
// every third of them, in the other order.
func TestDoMulti_ThousandKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[int, int]
		all := make([]int, 1000)
		var third []int
		for i := range all {
			all[i] = i
			if i%3 == 0 {
				third = append(third, i)
			}
		}
		slices.Reverse(third)
		var executions, loaded atomic.Int32
		call := func(keys []int, sign int) {
			fn := func(_ context.Context, keys []int) (map[int]int, error) {
				executions.Add(1)
				loaded.Add(int32(len(keys)))
				time.Sleep(time.Second)
				m := make(map[int]int, len(keys))
				for _, k := range keys {
					m[k] = sign * k
				}
				return m, nil
			}
			r := g.DoMulti(t.Context(), keys, fn)
			if len(r) != len(keys) {
				t.Errorf("got %d results, want %d", len(r), len(keys))
			}
			for _, k := range keys {
				want := coalesce.Result[int]{Val: k, Shared: k%3 == 0}
				if k%3 == 0 {
					want.Val = -k
				}
				if r[k] != want {
					t.Errorf("%d: got %+v, want %+v", k, r[k], want)
				}
			}
		}
		go call(third, -1)
		synctest.Wait()
		go call(all, 1)
		synctest.Wait()
		if n := g.Len(); n != 1000 {
			t.Errorf("got Len %d, want 1000", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if executions.Load() != 2 || loaded.Load() != 1000 || g.Len() != 0 {
			t.Errorf("got %d executions for %d keys, Len %d, want 2 for 1000, 0", executions.Load(), loaded.Load(), g.Len())
		}
	})
}

// TestDoMulti_Nested: a DoMulti that the fn of another makes for other keys is like any
// call; it is refused for the keys that wait for it, and for these alone.
func TestDoMulti_Nested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		var inner, innermost results
		outer := g.DoMulti(t.Context(), []string{"a", "b"}, func(ctx context.Context, keys []string) (map[string]int, error) {
			inner = g.DoMulti(ctx, []string{"c", "b", "d"}, func(ctx context.Context, keys []string) (map[string]int, error) {
				innermost = g.DoMulti(ctx, []string{"e", "a", "c"}, loads(20))
				return valuesFrom(10, keys...), nil
			})
			return valuesFrom(1, keys...), nil
		})
		// They have been joined by the calls that were refused.
		wantResults(t, "outer", outer, results{"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}})
		for i, r := range []results{inner, innermost} {
			for k, r := range r {
				var cycle *coalesce.DeadlockError
				switch refused := i == 0 && k == "b" || i == 1 && k != "e"; {
				case refused && (!errors.As(r.Err, &cycle) || !r.Shared):
					t.Errorf("depth %d, %s: got %+v, want a deadlock, shared", i+1, k, r)
				case !refused && (r.Err != nil || r.Val != valuesFrom(10*(i+1), k)[k]):
					t.Errorf("depth %d, %s: got %+v, want %d", i+1, k, r, valuesFrom(10*(i+1), k)[k])
				}
			}
		}
		if len(inner) != 3 || len(innermost) != 3 {
			t.Errorf("got %v and %v, want 3 results each", inner, innermost)
		}
		if st := g.Stats(); st.Led != 5 || st.Rejected != 3 || st.Calls != 8 || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want 5 led and 3 rejected of 8 calls, 0", st, g.Len())
		}
	})
}

// TestDoMulti_Context: fn's context has the leader's values, no deadline, and does not
// end because fn has returned.
func TestDoMulti_Context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, 5), time.Minute)
		defer cancel()
		var got context.Context
		g.DoMulti(ctx, []string{"a", "b"}, func(ctx context.Context, keys []string) (map[string]int, error) {
			got = ctx
			return nil, nil
		})
		time.Sleep(time.Hour)
		if _, ok := got.Deadline(); ok || got.Err() != nil || got.Value(key{}) != 5 || kit.IsDone(got.Done()) {
			t.Errorf("got deadline %v, error %v, value %v, want none, nil, 5", ok, got.Err(), got.Value(key{}))
		}
	})
}

// An askedContext does not report why it has ended before resume is closed.
type askedContext struct {
	context.Context
	resume chan struct{}
}

func (c *askedContext) Err() error {
	if c.Context.Err() != nil {
		<-c.resume
	}
	return c.Context.Err()
}

func (c *askedContext) Value(key any) any {
	if c.Context.Err() != nil {
		<-c.resume
	}
	return c.Context.Value(key)
}

// TestDoMulti_LeavesAllKeysFirst: the call leaves all keys before it asks the context why
// it has ended, which may take its time. The first key has a flight of its own.
func TestDoMulti_LeavesAllKeysFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h := kit.Abandon(t, &g, "a")
		ctx, cancel := context.WithCancel(t.Context())
		slow := &askedContext{ctx, make(chan struct{})}
		untilDone := func(ctx context.Context, _ []string) (map[string]int, error) {
			<-ctx.Done()
			return nil, nil
		}
		go g.DoMulti(slow, []string{"a", "b"}, untilDone)
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		before := g.Stats()
		cancel()
		synctest.Wait()
		if st := g.Stats(); st.Left-before.Left != 2 || st.Abandoned-before.Abandoned != 2 {
			t.Errorf("got %+v after %+v, want 2 more left and abandoned", st, before)
		}
		close(slow.resume)
	})
}
