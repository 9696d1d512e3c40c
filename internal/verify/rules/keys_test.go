package rules_test

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestG11_UnhashableKey: such a key panics before any lock is taken, with every hash, and
// the group is as usable as before.
func TestG11_UnhashableKey(t *testing.T) {
	for name, hash := range map[string]func(any) uint64{"default": nil, "constant": func(any) uint64 { return 0 }} {
		g := coalesce.Group[any, int]{Shards: 1, Hash: hash}
		bad := any([]int{1})
		fn := func() (int, error) { t.Error("got a call of fn, want none"); return 0, nil }
		ctxFn := func(context.Context) (int, error) { return fn() }
		for form, call := range map[string]func(){
			"Do":             func() { g.Do(bad, fn) },
			"TryDo":          func() { g.TryDo(bad, fn) },
			"DoContext":      func() { g.DoContext(t.Context(), bad, ctxFn) },
			"DoChan":         func() { g.DoChan(t.Context(), bad, ctxFn) },
			"DoFresh":        func() { g.DoFresh(t.Context(), bad, ctxFn) },
			"Forget":         func() { g.Forget(bad) },
			"ForgetUnshared": func() { g.ForgetUnshared(bad) },
			"in a struct":    func() { g.Do(struct{ any }{bad}, fn) },
		} {
			r, _ := panicOf(call).(error)
			if r == nil || !strings.Contains(r.Error(), "[]int") {
				t.Errorf("%s hash, %s: got the panic %v, want one that names []int", name, form, r)
			}
			if v, _, err := g.Do("good", kit.Value(1)); v != 1 || err != nil {
				t.Fatalf("%s hash, after %s: got %v, %v, want 1, nil", name, form, v, err)
			}
		}
	}
}

// TestG11_NaN: a key that does not equal itself is never shared, cannot be
// forgotten by key (see TestForget_NaN), and leaves nothing behind.
func TestG11_NaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type point struct{ x, y float64 }
		var g coalesce.Group[point, int]
		key := point{1, math.NaN()}
		for range 100_000 {
			if _, shared, err := g.Do(key, kit.Value(1)); shared || err != nil {
				t.Fatalf("got shared %v, %v, want false, nil", shared, err)
			}
		}
		var wg sync.WaitGroup
		h := kit.Hold()
		for i := range 10 {
			wg.Go(func() {
				v, shared, err := g.DoContext(t.Context(), key, func(ctx context.Context) (int, error) {
					return h.CtxFn(i)(ctx)
				})
				if v != i || shared || err != nil {
					t.Errorf("got %v, %v, %v, want %v, false, nil", v, shared, err, i)
				}
			})
		}
		synctest.Wait()
		if n := h.Runs.Load(); n != 10 || g.Len() != 10 {
			t.Errorf("got %d executions, Len %d, want 10, 10", n, g.Len())
		}
		if g.Forget(key) || !g.ForgetUnshared(key) {
			t.Error("got a wrong answer for NaN, want false from Forget and true from ForgetUnshared")
		}
		close(h.Release)
		wg.Wait()
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
	})
}

// TestG11_EqualityDecides: keys are equal if == says so, independent of their hashes and
// of the places where they are stored.
func TestG11_EqualityDecides(t *testing.T) {
	constant := func(any) uint64 { return 7 }
	type wide struct{ b [1024]byte }
	hello := string([]byte{'h', 'e', 'l', 'l', 'o'})
	tests := []struct {
		name string
		a, b any
		same bool
	}{
		{"zeros", 0.0, math.Copysign(0, -1), true},
		{"types", int(1), int64(1), false},
		{"strings", "hello", hello, true},
		{"strings differ", "hello", "hellp", false},
		{"wide", wide{}, wide{}, true},
		{"wide differ", wide{}, wide{[1024]byte{1023: 1}}, false},
		{"pointers", new(int), new(int), false},
		{"nil", nil, nil, true},
		{"arrays", [2]any{1, "x"}, [2]any{1, "x"}, true},
	}
	for _, tt := range tests {
		for name, g := range map[string]*coalesce.Group[any, int]{
			"default":  {},
			"constant": {Hash: constant},
			"one":      {Hash: constant, Shards: 1},
		} {
			_, err := g.TryDo(tt.a, func() (int, error) {
				_, err := g.TryDo(tt.b, kit.Value(1))
				return 0, err
			})
			if same := err == coalesce.ErrInFlight; same != tt.same {
				t.Errorf("%s, %s group: got same %v, want %v", tt.name, name, same, tt.same)
			}
		}
	}
}

// TestG11_CollidingKeysAreApart: a hundred keys with one hash, in flight at once and
// ended in another order, do not disturb each other.
func TestG11_CollidingKeysAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[int, int]{Hash: func(int) uint64 { return 0 }}
		var hs [100]*kit.Held
		var wg sync.WaitGroup
		for k := range hs {
			hs[k] = kit.Hold()
			for range 3 {
				wg.Go(func() {
					if v, shared, err := g.Do(k, hs[k].Fn(k)); v != k || !shared || err != nil {
						t.Errorf("key %d: got %v, %v, %v, want %d, true, nil", k, v, shared, err, k)
					}
				})
			}
		}
		synctest.Wait()
		if g.Len() != 100 {
			t.Errorf("got Len %d, want 100", g.Len())
		}
		for k := range hs {
			k = k * 37 % 100
			close(hs[k].Release)
			synctest.Wait()
		}
		wg.Wait()
		for k, h := range hs {
			if n := h.Runs.Load(); n != 1 {
				t.Errorf("key %d: got %d executions, want 1", k, n)
			}
		}
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
	})
}

// TestHashString: the hash is XXH64 with seed 0, as in its published test vectors.
func TestHashString(t *testing.T) {
	for in, want := range map[string]uint64{
		"":    0xef46db3751d8e999,
		"a":   0xd24ec4f1a98c6e5b,
		"abc": 0x44bc2cf5ad770999,
	} {
		if h := coalesce.HashString(in); h != want {
			t.Errorf("HashString(%q): got %#x, want %#x", in, h, want)
		}
	}
	g := coalesce.Group[string, int]{Hash: coalesce.HashString}
	if v, _, err := g.Do("k", kit.Value(4)); v != 4 || err != nil {
		t.Errorf("got %v, %v, want 4, nil", v, err)
	}
}
