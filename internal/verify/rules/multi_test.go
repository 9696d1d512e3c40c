package rules_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds what a DoMulti for several keys promises beyond what it
// promises for one, which the tests of the contract and of the state table show
// by the form DoMulti. How a batch ends is in multi_exit_test.go.

type (
	result  = coalesce.Result[int]
	results = map[string]result
	loader  = func(context.Context, []string) (map[string]int, error)
)

// valuesFrom returns a value for each key, which is one letter: base for "a",
// base+1 for "b".
func valuesFrom(base int, keys ...string) map[string]int {
	m := map[string]int{}
	for _, k := range keys {
		m[k] = base + int(k[0]-'a')
	}
	return m
}

// loads returns a fn that returns valuesFrom(base) the keys that it gets.
func loads(base int) loader {
	return func(_ context.Context, keys []string) (map[string]int, error) {
		return valuesFrom(base, keys...), nil
	}
}

// A heldLoader is a fn for DoMulti that runs until it is released. It keeps what
// it was given.
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

// A manyAnswer is what one DoMulti got.
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

// leadMany starts a DoMulti, with a context that never ends, that leads all of
// the keys.
func leadMany(g *kit.Group, fn loader, keys ...string) (*heldLoader, *manyAnswer) {
	h := holdLoader()
	a, _ := goMulti(context.Background(), g, h.then(fn), keys...)
	<-h.Started
	return h, a
}

// abandonMany leaves the keys with an abandoned batch, whose fn ignores its
// context until it is released.
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
			t.Fatalf("abandoning call: %+v", a.results)
		}
	}
	return h
}

// wantResults checks what a DoMulti got.
func wantResults(t *testing.T, who string, got, want results) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %+v, want %+v", who, got, want)
	}
}

// flightsOf returns what Flights shows of each key, in words.
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

// TestDoMulti_LoadsWhatNobodyLoads: fn runs once, for the keys that have no
// flight, each once and in the order of keys, and all keys get their results:
// also those that are asked for twice, which count once.
func TestDoMulti_LoadsWhatNobodyLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		busy := kit.Hold()
		kit.Go(t.Context(), kit.Forms[0], &g, "d", busy.CtxFn(4))
		<-busy.Started
		other, _ := leadMany(&g, loads(20), "f")
		h, a := leadMany(&g, loads(100), "g", "d", "b", "g", "f", "a", "b", "a", "d", "c")
		if got, want := <-h.got, []string{"g", "b", "a", "c"}; !slices.Equal(got, want) {
			t.Errorf("fn got %q, want %q", got, want)
		}
		if n := g.Len(); n != 6 {
			t.Errorf("Len = %d", n)
		}
		want := map[string]string{
			"a": "running 0", "b": "running 0", "c": "running 0", "g": "running 0",
			"d": "running 1", "f": "running 1",
		}
		if got := flightsOf(&g); !maps.Equal(got, want) {
			t.Errorf("Flights: %v, want %v", got, want)
		}
		close(h.Release)
		close(busy.Release)
		synctest.Wait()
		if a.results != nil {
			t.Errorf("answered before all keys were: %+v", a)
		}
		close(other.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", a.results, results{
			"a": {Val: 100}, "b": {Val: 101}, "c": {Val: 102}, "g": {Val: 106},
			"d": {Val: 4, Shared: true}, "f": {Val: 25, Shared: true},
		})
		if st := g.Stats(); st != (coalesce.Stats{Calls: 8, Led: 6, Joined: 2}) || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
	})
}

// TestDoMulti_NothingToLoad: with no keys, and when all keys have flights, fn is
// not called.
func TestDoMulti_NothingToLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		never := func(context.Context, []string) (map[string]int, error) {
			t.Error("fn ran")
			return nil, nil
		}
		for _, keys := range [][]string{nil, {}} {
			if r := g.DoMulti(t.Context(), keys, never); r == nil || len(r) != 0 {
				t.Errorf("%v", r)
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

// TestDoMulti_KeysMayChange: neither a caller that changes keys while fn runs,
// nor an fn that changes its slice, nor one that returns more than it was asked
// for, confuses which key gets what. (Peers that look their flights up again by
// that slice leave the others dead.)
func TestDoMulti_KeysMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := abandonMany(t, &g, "d")
		h := holdLoader()
		keys := []string{"a", "b", "c", "d"}
		a, done := goMulti(t.Context(), &g, h.then(func(_ context.Context, got []string) (map[string]int, error) {
			m := valuesFrom(1, got...)
			for i := range got {
				got[i] = "x"
			}
			m["x"], m["y"] = 77, 78
			_ = append(got[:0], "y", "y", "y")
			return m, nil
		}), keys...)
		<-h.Started
		for i := range keys {
			keys[i] = "z"
		}
		b, _ := kit.Go(t.Context(), kit.Forms[0], &g, "b", kit.CtxValue(0))
		synctest.Wait()
		close(h.Release)
		close(old.Release)
		<-done
		synctest.Wait()
		wantResults(t, "DoMulti", a.results, results{
			"a": {Val: 1}, "b": {Val: 2, Shared: true}, "c": {Val: 3}, "d": {Val: 4},
		})
		if b.V != 2 || b.Err != nil {
			t.Errorf("follower: %+v", b)
		}
		if g.Len() != 0 {
			t.Errorf("Len = %d", g.Len())
		}
		for _, k := range []string{"a", "b", "c", "d", "x", "y", "z"} {
			if v, _, err := g.Do(k, kit.Value(9)); v != 9 || err != nil {
				t.Errorf("%s afterwards: %v, %v", k, v, err)
			}
		}
	})
}

// TestDoMulti_NaN: a key that does not equal itself is given to fn as often as
// it is there, and gets ErrAbsent, or fn's error, as often.
func TestDoMulti_NaN(t *testing.T) {
	g := coalesce.Group[float64, int]{Linger: coalesce.Forever}
	nan := math.NaN()
	for _, want := range []error{coalesce.ErrAbsent, kit.ErrTest} {
		r := g.DoMulti(t.Context(), []float64{nan, 1, nan, 1, nan}, func(_ context.Context, keys []float64) (map[float64]int, error) {
			if len(keys) < 3 || keys[0] == keys[0] {
				t.Errorf("fn got %v", keys)
			}
			m := map[float64]int{}
			for _, k := range keys {
				m[k] = 5
			}
			if want == kit.ErrTest {
				return m, kit.ErrTest
			}
			return m, nil
		})
		n := 0
		for k, v := range r {
			if k == k {
				continue
			}
			if n++; v != (coalesce.Result[int]{Err: want}) {
				t.Errorf("NaN: %+v, want %v", v, want)
			}
		}
		if n != 3 || r[1].Val != 5 || g.Len() != 0 {
			t.Errorf("%v, Len %d", r, g.Len())
		}
	}
	if st := g.Stats(); st.Led != 7 || st.Lingered != 1 {
		t.Errorf("%+v", st)
	}
	if r := g.DoMulti(kit.EndedContext, []float64{nan, nan, 1}, nothingByFloat); len(r) != 3 {
		t.Errorf("ended on entry: %v", r)
	}
}

func nothingByFloat(context.Context, []float64) (map[float64]int, error) { return nil, nil }

// TestDoMulti_ZerosAreOneKey: as == says, with the one that comes first.
func TestDoMulti_ZerosAreOneKey(t *testing.T) {
	var g coalesce.Group[float64, float64]
	r := g.DoMulti(t.Context(), []float64{math.Copysign(0, -1), 0}, func(_ context.Context, keys []float64) (map[float64]float64, error) {
		if len(keys) != 1 {
			t.Errorf("fn got %v", keys)
		}
		return map[float64]float64{0: 1 / keys[0]}, nil
	})
	if len(r) != 1 || r[0].Val != math.Inf(-1) || r[0].Err != nil {
		t.Errorf("%v", r)
	}
}

// TestDoMulti_UnhashableKey: one such key, wherever it is, panics before
// anything is begun for the others, and the group is as usable as before.
func TestDoMulti_UnhashableKey(t *testing.T) {
	for name, hash := range map[string]func(any) uint64{"default": nil, "constant": func(any) uint64 { return 0 }} {
		for i := range 3 {
			g := coalesce.Group[any, int]{Hash: hash}
			keys := []any{"a", "b", "c"}
			keys[i] = []int{1}
			r, _ := panicOf(func() {
				g.DoMulti(t.Context(), keys, func(context.Context, []any) (map[any]int, error) {
					t.Error("fn ran")
					return nil, nil
				})
			}).(error)
			if r == nil || !strings.Contains(r.Error(), "[]int") {
				t.Errorf("%s hash: %v", name, r)
			}
			if st := g.Stats(); st.Calls != 0 || g.Len() != 0 {
				t.Errorf("%s hash: %+v, Len %d", name, st, g.Len())
			}
			for _, k := range []any{"a", "b", "c"} {
				if v, shared, err := g.Do(k, kit.Value(1)); v != 1 || shared || err != nil {
					t.Errorf("%s hash, %v: %v, %v, %v", name, k, v, shared, err)
				}
			}
		}
	}
}

// TestDoMulti_SharesBothWays: calls of every form for one key of a batch share
// it, and a DoMulti shares what calls of every form lead.
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
					t.Errorf("joins: %+v", one)
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
					t.Errorf("led: %+v", one)
				}
				wantResults(t, "joins", many.results, results{"a": {Val: 1}, "b": {Val: 7, Shared: true}, "c": {Val: 3}})
			})
		})
	}
}

// TestDoMulti_TryDoAndDoFresh: a key of a batch is in flight for TryDo, whose
// flight a DoMulti joins in turn, and DoFresh queues behind it.
func TestDoMulti_TryDoAndDoFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, first := leadMany(&g, loads(1), "a", "b")
		if v, err := g.TryDo("b", kit.Value(9)); v != 0 || err != coalesce.ErrInFlight {
			t.Errorf("TryDo: %v, %v", v, err)
		}
		fresh, _ := kit.Go(t.Context(), kit.Forms[4], &g, "b", kit.CtxValue(8))
		synctest.Wait()
		try := kit.Hold()
		go g.TryDo("c", try.Fn(7))
		<-try.Started
		second, _ := goMulti(t.Context(), &g, loads(1), "a", "b", "c")
		synctest.Wait()
		if !fresh.At.IsZero() {
			t.Errorf("DoFresh did not queue: %+v", fresh)
		}
		close(h.Release)
		close(try.Release)
		synctest.Wait()
		wantResults(t, "first", first.results, results{"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}})
		wantResults(t, "second", second.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}, "c": {Val: 7, Shared: true},
		})
		if fresh.V != 8 || fresh.Shared || fresh.Err != nil {
			t.Errorf("DoFresh: %+v", fresh)
		}
	})
}

// TestDoMulti_Absent: a key that fn's map lacks gets ErrAbsent, whoever waits
// for it: never a zero value with a nil error. It is not cloned, and does not
// linger. (Peers hand the zero value to a call that has joined.)
func TestDoMulti_Absent(t *testing.T) {
	for _, queued := range []bool{false, true} {
		for _, m := range []map[string]int{nil, {}, {"other": 1}} {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: coalesce.Forever, Clone: func(v int) int {
					if v == 0 {
						t.Error("Clone was called")
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
						t.Errorf("%s: %+v", name, a)
					}
				}
				if v, shared, err := g.Do("b", kit.Value(9)); v != 9 || shared || err != nil {
					t.Errorf("afterwards: %v, %v, %v", v, shared, err)
				}
				if st := g.Stats(); st.Lingered != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// TestDoMulti_ErrorWithAPartialMap: every key that fn was given gets the very
// error, and the value that the map holds for it.
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
				t.Errorf("follower %d: %+v", i, a)
			}
		}
		if r := g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(50)); r["a"].Val != 50 || r["b"].Val != 51 || r["c"].Val != 7 {
			t.Errorf("what lingers: %+v", r)
		}
	})
}

// TestDoMulti_QueuedKeys: keys that are found abandoned wait for those
// executions to end, and are then given to fn one by one, each alone, whatever
// the other keys of the call do meanwhile. Others can be ahead of them.
func TestDoMulti_QueuedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		oldAB, oldC := abandonMany(t, &g, "a", "b"), abandonMany(t, &g, "c")
		first, _ := kit.Go(t.Context(), kit.Forms[0], &g, "b", kit.CtxValue(77)) // will lead
		synctest.Wait()
		h := holdLoader()
		many, _ := goMulti(t.Context(), &g, h.then(loads(1)), "a", "b", "c", "d", "e")
		<-h.Started
		if got, want := <-h.got, []string{"d", "e"}; !slices.Equal(got, want) {
			t.Errorf("fn got %q, want %q", got, want)
		}
		follower, _ := kit.Go(t.Context(), kit.Forms[2], &g, "a", kit.CtxValue(0))
		synctest.Wait()
		want := map[string]string{
			"a": "abandoned 0, queued 2", "b": "abandoned 0, queued 2", "c": "abandoned 0, queued 1",
			"d": "running 0", "e": "running 0",
		}
		if got := flightsOf(&g); !maps.Equal(got, want) {
			t.Errorf("Flights: %v, want %v", got, want)
		}
		close(oldAB.Release)
		<-h.Started
		close(oldC.Release)
		<-h.Started
		for _, want := range []string{"a", "c"} {
			if got := <-h.got; !slices.Equal(got, []string{want}) {
				t.Errorf("fn got %q, want %q alone", got, want)
			}
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 77, Shared: true}, "c": {Val: 3}, "d": {Val: 4}, "e": {Val: 5},
		})
		if first.V != 77 || !first.Shared || follower.V != 1 || follower.Err != nil {
			t.Errorf("first: %+v, follower: %+v", first, follower)
		}
		st := coalesce.Stats{Calls: 3 + 1 + 5 + 1, Led: 3 + 1 + 4, Joined: 2, Left: 3, Abandoned: 3}
		if got := g.Stats(); got != st || h.Runs.Load() != 3 || g.Len() != 0 {
			t.Errorf("%+v, want %+v; %d executions, Len %d", got, st, h.Runs.Load(), g.Len())
		}
	})
}

// TestDoMulti_Forget: a key of a batch that is forgotten can be led by another
// call, and each of the two flights answers its own callers; the batch's other
// keys go on.
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
					t.Error(name)
				}
				if got := g.Len(); got != 2-b2i(name == "Forget") {
					t.Errorf("Len = %d", got)
				}
				again, _ := leadMany(&g, loads(50), "a")
				if got := flightsOf(&g)["a"]; got != "running 0, running 0 forgotten" {
					t.Errorf("Flights: %q", got)
				}
				second, _ := goMulti(t.Context(), &g, loads(0), "a", "b")
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				wantResults(t, "first", many.results, results{
					"a": {Val: 1}, "b": {Val: 2, Shared: true}, "c": {Val: 3, Shared: true},
				})
				if joined.V != 3 || joined.Err != nil {
					t.Errorf("joined: %+v", joined)
				}
				if got := flightsOf(&g); !maps.Equal(got, map[string]string{"a": "running 1"}) {
					t.Errorf("Flights: %v", got)
				}
				close(again.Release)
				synctest.Wait()
				wantResults(t, "second", second.results, results{
					"a": {Val: 50, Shared: true}, "b": {Val: 2, Shared: true},
				})
				if g.Len() != 0 {
					t.Errorf("Len = %d", g.Len())
				}
			})
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestDoMulti_MaxAge: the first call that finds a key of an old batch takes that
// one over; a DoFresh that queues for another gets its turn at that age; the
// third key is still the batch's.
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
			t.Errorf("DoFresh: %+v", fresh)
		}
		second := g.DoMulti(t.Context(), []string{"a", "b"}, loads(50))
		wantResults(t, "second", second, results{"a": {Val: 50}, "b": {Val: 51}})
		if st := g.Stats(); st.TakenOver != 2 || st.Led != 3+1+2 || g.Len() != 1 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
		close(h.Release)
		synctest.Wait()
		wantResults(t, "first", many.results, results{"a": {Val: 1}, "b": {Val: 2}, "c": {Val: 3, Shared: true}})
		if third.V != 3 || !third.Shared || g.Len() != 0 {
			t.Errorf("third: %+v, Len %d", third, g.Len())
		}
	})
}

// TestDoMulti_MaxWaiters: counts the waiters of each key apart, beside the call
// that leads, exactly: one that leaves makes room, as does the leader not.
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
		cancel() // the one who leads is no waiter
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
				t.Errorf("b for call %d, after one has left: %+v", i, got)
			}
		}
		ok.Val = 1
		for i, want := range []result{ok, full, full} {
			if got := more[i].results["a"]; got != want {
				t.Errorf("a for call %d, after one has left: %+v", i, got)
			}
		}
		if third.V != 2 || third.Err != nil {
			t.Errorf("third: %+v", third)
		}
		if st := g.Stats(); st.Rejected != 1+2+4 || st.Calls != 2+2+1+3+3+6 {
			t.Errorf("%+v", st)
		}
	})
}

// TestDoMulti_Linger: each key that was loaded lingers, and answers calls of
// other forms; what lingers is not given to fn.
func TestDoMulti_Linger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: lingering}
		first := g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(context.Context, []string) (map[string]int, error) {
			g.Forget("c") // which is then not to linger
			return valuesFrom(1, "a", "b", "c"), nil
		})
		wantResults(t, "first", first, results{"a": {Val: 1}, "b": {Val: 2}, "c": {Val: 3}})
		time.Sleep(lingering - 1)
		if v, shared, err := g.Do("a", kit.Value(9)); v != 1 || !shared || err != nil {
			t.Errorf("Do: %v, %v, %v", v, shared, err)
		}
		h := holdLoader()
		many, done := goMulti(t.Context(), &g, h.then(loads(50)), "b", "c", "a", "d", "b")
		<-h.Started
		if got, want := <-h.got, []string{"c", "d"}; !slices.Equal(got, want) {
			t.Errorf("fn got %q, want %q", got, want)
		}
		time.Sleep(time.Second) // what has answered the call may expire meanwhile
		close(h.Release)
		<-done
		wantResults(t, "second", many.results, results{
			"a": {Val: 1, Shared: true}, "b": {Val: 2, Shared: true}, "c": {Val: 52}, "d": {Val: 53},
		})
		third := g.DoMulti(t.Context(), []string{"a", "c", "d"}, loads(90))
		wantResults(t, "third", third, results{"a": {Val: 90}, "c": {Val: 52, Shared: true}, "d": {Val: 53, Shared: true}})
		st := coalesce.Stats{Calls: 3 + 1 + 4 + 3, Led: 3 + 2 + 1, Lingered: 1 + 2 + 2, Forgotten: 1, Lingering: 3}
		if got := g.Stats(); got != st {
			t.Errorf("%+v, want %+v", got, st)
		}
		ended := g.DoMulti(kit.EndedContext, []string{"a", "c"}, loads(0))
		wantResults(t, "ended", ended, results{"a": {Err: context.Canceled}, "c": {Err: context.Canceled}})
	})
}

// TestDoMulti_Clone: of a key that others share, or that lingers, each caller
// gets a value of its own; of one that nobody shares, the original.
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
					t.Errorf("%s: %v, %v", key, p, err)
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
				t.Errorf("%d clones, %d answers", n, len(got["a"]))
			}
			if own := slices.Contains(got["b"], originals["b"]); own == lingers {
				t.Errorf("the original of b went to its one caller: %v", own)
			}
			seen := map[*int]bool{originals["a"]: true}
			for _, p := range slices.Concat(got["a"], got["b"]) {
				if seen[p] {
					t.Error("two callers have one value")
				}
				seen[p] = true
			}
		})
	}
}

func noPointer() (*int, error) { return nil, nil }

// TestDoMulti_ClonePanics: a Clone that panics costs the caller that one key.
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
			t.Errorf("b: %+v", r["b"])
		}
		if r["a"].Val != 1 || r["a"].Err != nil || r["c"].Val != 3 || r["c"].Err != nil {
			t.Errorf("%+v", r)
		}
	}
}

// TestDoMulti_CloneExits: a Clone that calls Goexit takes the caller's goroutine
// with it, and not the call's other keys: of those it has left by then, and fn's
// context tells.
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
			t.Errorf("fn's context: %v, Flights: %v", err, flightsOf(&g))
		}
		close(h.Release)
	})
}

// TestDoMulti_Shutdown: the keys of a running batch are waited for, and answered;
// keys that are queued, and calls that come, get ErrClosed for each key.
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
			t.Error("Shutdown did not wait for the batch")
		}
		close(h.Release)
		synctest.Wait()
		if err := <-shut; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wantResults(t, "DoMulti", many.results, results{
			"a": {Err: coalesce.ErrClosed, Shared: true}, "c": {Val: 3, Shared: true}, "d": {Val: 4},
		})
		if follower.V != 3 || follower.Err != nil {
			t.Errorf("follower: %+v", follower)
		}
		st := coalesce.Stats{Calls: 2 + 3 + 1 + 2 + 3, Led: 4, Joined: 1, Rejected: 6, Left: 2, Abandoned: 2}
		if got := g.Stats(); got != st || g.Len() != 0 {
			t.Errorf("%+v, want %+v, Len %d", got, st, g.Len())
		}
	})
}

// TestDoMulti_ShutdownOutOfTime: it cancels the one context of the batch, with
// its cause.
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
			t.Errorf("Shutdown: %v", err)
		}
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1, Err: coalesce.ErrClosed}, "b": {Val: 2, Err: coalesce.ErrClosed}, "c": {Val: 3, Err: coalesce.ErrClosed},
		})
		if err := g.Shutdown(t.Context()); err != nil {
			t.Errorf("nothing runs, but: %v", err)
		}
	})
}

// TestDoMulti_ThousandKeys: in one execution, beside one for every third of
// them, in the other order, from another call.
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
				t.Errorf("%d results for %d keys", len(r), len(keys))
			}
			for _, k := range keys {
				want := coalesce.Result[int]{Val: k, Shared: k%3 == 0}
				if k%3 == 0 {
					want.Val = -k
				}
				if r[k] != want {
					t.Errorf("%d: %+v, want %+v", k, r[k], want)
				}
			}
		}
		go call(third, -1)
		synctest.Wait()
		go call(all, 1)
		synctest.Wait()
		if n := g.Len(); n != 1000 {
			t.Errorf("Len = %d", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if executions.Load() != 2 || loaded.Load() != 1000 || g.Len() != 0 {
			t.Errorf("%d executions for %d keys, Len %d", executions.Load(), loaded.Load(), g.Len())
		}
	})
}

// TestDoMulti_Nested: a DoMulti made by the fn of another for other keys is like
// any call; for keys that wait for it, it is refused, for these alone.
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
					t.Errorf("depth %d, %s: %+v", i+1, k, r)
				case !refused && (r.Err != nil || r.Val != valuesFrom(10*(i+1), k)[k]):
					t.Errorf("depth %d, %s: %+v", i+1, k, r)
				}
			}
		}
		if len(inner) != 3 || len(innermost) != 3 {
			t.Errorf("%v, %v", inner, innermost)
		}
		if st := g.Stats(); st.Led != 5 || st.Rejected != 3 || st.Calls != 8 || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
	})
}

// TestDoMulti_Context: fn's context has the leader's values, no deadline, and
// does not end because fn has returned.
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
			t.Errorf("deadline %v, %v, value %v", ok, got.Err(), got.Value(key{}))
		}
	})
}

// An askedContext does not say why it has ended before resume is closed.
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

// TestDoMulti_LeavesAllKeysFirst: before the context is asked why it has ended,
// which may take its time. The first key has a flight of its own.
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
			t.Errorf("%+v, then %+v", before, st)
		}
		close(slow.resume)
	})
}
