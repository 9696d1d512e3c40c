package rules_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds DoMulti with keys that are alike, unequal to themselves, or change.

// TestDoMulti_KeysMayChange: a caller that changes keys while fn runs, an fn that changes
// its slice, or one that returns more keys than it got, does not change which result each
// key gets. (Peers that find their flights again by that slice leave the others dead.)
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
			t.Errorf("follower: got %+v, want 2", b)
		}
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
		for _, k := range []string{"a", "b", "c", "d", "x", "y", "z"} {
			if v, _, err := g.Do(k, kit.Value(9)); v != 9 || err != nil {
				t.Errorf("%s afterwards: got %v, %v, want 9, nil", k, v, err)
			}
		}
	})
}

// TestDoMulti_NaN: a key that does not equal itself is passed to fn as often as it
// occurs, and gets ErrAbsent, or fn's error, as often.
func TestDoMulti_NaN(t *testing.T) {
	g := coalesce.Group[float64, int]{Linger: coalesce.Forever}
	nan := math.NaN()
	for _, want := range []error{coalesce.ErrAbsent, kit.ErrTest} {
		r := g.DoMulti(t.Context(), []float64{nan, 1, nan, 1, nan}, func(_ context.Context, keys []float64) (map[float64]int, error) {
			if len(keys) < 3 || keys[0] == keys[0] {
				t.Errorf("fn: got %v, want three NaNs first", keys)
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
				t.Errorf("NaN: got %+v, want 0, %v", v, want)
			}
		}
		if n != 3 || r[1].Val != 5 || g.Len() != 0 {
			t.Errorf("got %v, Len %d, want three results for NaN and 5 for 1, 0", r, g.Len())
		}
	}
	if st := g.Stats(); st.Led != 7 || st.Lingered != 1 {
		t.Errorf("got %+v, want 7 led, 1 lingered", st)
	}
	if r := g.DoMulti(kit.EndedContext, []float64{nan, nan, 1}, nothingByFloat); len(r) != 3 {
		t.Errorf("ended on entry: got %v, want 3 results", r)
	}
}

// TestDoMulti_ManyNaNs: thousands of keys that do not equal themselves come before those
// that do, and among these are duplicates.
func TestDoMulti_ManyNaNs(t *testing.T) {
	const nans, others = 5000, 1000
	var g coalesce.Group[float64, int]
	var keys []float64
	for range nans {
		keys = append(keys, math.NaN())
	}
	for i := range 3 * others {
		keys = append(keys, float64(i%others))
	}
	r := g.DoMulti(t.Context(), keys, func(_ context.Context, got []float64) (map[float64]int, error) {
		if len(got) != nans+others {
			t.Errorf("fn: got %d keys, want %d", len(got), nans+others)
		}
		m := map[float64]int{}
		for _, k := range got {
			m[k] = int(k) + 1
		}
		return m, nil
	})
	if len(r) != nans+others || r[others-1].Val != others {
		t.Errorf("got %d results, %+v for the last key, want %d, %d", len(r), r[others-1], nans+others, others)
	}
}

func nothingByFloat(context.Context, []float64) (map[float64]int, error) { return nil, nil }

// TestDoMulti_ZerosAreOneKey: 0 and -0 are equal, so fn gets the one that comes first.
func TestDoMulti_ZerosAreOneKey(t *testing.T) {
	var g coalesce.Group[float64, float64]
	r := g.DoMulti(t.Context(), []float64{math.Copysign(0, -1), 0}, func(_ context.Context, keys []float64) (map[float64]float64, error) {
		if len(keys) != 1 {
			t.Errorf("fn: got %v, want one key", keys)
		}
		return map[float64]float64{0: 1 / keys[0]}, nil
	})
	if len(r) != 1 || r[0].Val != math.Inf(-1) || r[0].Err != nil {
		t.Errorf("got %v, want the result of -0 alone", r)
	}
}

// TestDoMulti_UnhashableKey: one such key, in any place, panics before a flight is
// started for the others, and the group is as usable as before.
func TestDoMulti_UnhashableKey(t *testing.T) {
	for name, hash := range map[string]func(any) uint64{"default": nil, "constant": func(any) uint64 { return 0 }} {
		for i := range 3 {
			g := coalesce.Group[any, int]{Hash: hash}
			keys := []any{"a", "b", "c"}
			keys[i] = []int{1}
			r, _ := panicOf(func() {
				g.DoMulti(t.Context(), keys, func(context.Context, []any) (map[any]int, error) {
					t.Error("got a call of fn, want none")
					return nil, nil
				})
			}).(error)
			if r == nil || !strings.Contains(r.Error(), "[]int") {
				t.Errorf("%s hash: got the panic %v, want one that names []int", name, r)
			}
			if st := g.Stats(); st.Calls != 0 || g.Len() != 0 {
				t.Errorf("%s hash: got %+v, Len %d, want no call, 0", name, st, g.Len())
			}
			for _, k := range []any{"a", "b", "c"} {
				if v, shared, err := g.Do(k, kit.Value(1)); v != 1 || shared || err != nil {
					t.Errorf("%s hash, %v: got %v, %v, %v, want 1, false, nil", name, k, v, shared, err)
				}
			}
		}
	}
}
