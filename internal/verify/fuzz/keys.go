package fuzz

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

// A fuzzKey is a key with everything that makes == special.
type fuzzKey struct {
	F float64 // NaN, +0 and -0
	S string
	X any // may hold what cannot be compared
}

// keyOf returns a key of one of the dynamic types that == distinguishes.
func keyOf(kind byte, s string, bits uint64) any {
	f := math.Float64frombits(bits)
	switch kind % 12 {
	case 0:
		return s
	case 1:
		return f
	case 2:
		return int(bits)
	case 3:
		return int64(bits)
	case 4:
		return fuzzKey{F: f, S: s, X: int(bits)}
	case 5:
		return fuzzKey{F: f, S: s, X: f}
	case 6:
		return [2]any{s, f}
	case 7:
		return complex(1, f)
	case 8:
		return nil
	case 9:
		return []byte(s) // not comparable, nor are the next two
	case 10:
		return fuzzKey{F: f, S: s, X: []byte(s)}
	}
	return [2]any{f, []byte(s)}
}

// Keys checks that == decides whether two calls share a flight, for keys of any type and
// independent of their hashes, and that a key that cannot be compared panics and leaves
// the group as it was.
func Keys(f *testing.F) {
	nan, negZero := math.Float64bits(math.NaN()), math.Float64bits(math.Copysign(0, -1))
	for kind := range byte(12) {
		f.Add(kind, kind, "a", "a", uint64(1), uint64(1), false)
		f.Add(kind, kind, "a", "b", uint64(1), uint64(2), true)
		f.Add(kind, kind, "", "", nan, nan, true)
		f.Add(kind, kind, "", "", uint64(0), negZero, kind&1 == 0)
		f.Add(kind, (kind+1)%12, "a", "a", uint64(1), uint64(1), true)
	}
	f.Add(byte(2), byte(3), "", "", uint64(1), uint64(1), true) // int(1), int64(1)
	f.Add(byte(1), byte(11), "", "", nan, nan, true)
	f.Fuzz(func(t *testing.T, kindA, kindB byte, sa, sb string, a, b uint64, constant bool) {
		sb = strings.Clone(sb)
		testKeys(t, keyOf(kindA, sa, a), keyOf(kindB, sb, b), constant)
		testKeys(t, sa, sb, constant)
		testKeys(t, a, b, constant)
		testKeys(t, math.Float64frombits(a), math.Float64frombits(b), constant)
		testKeys(t, fuzzKey{math.Float64frombits(a), sa, keyOf(kindA, sa, a)},
			fuzzKey{math.Float64frombits(b), sb, keyOf(kindB, sb, b)}, constant)
	})
}

// hashable reports whether k can be a key of a map.
func hashable[K comparable](k K) (ok bool) {
	defer func() { ok = recover() == nil }()
	_ = map[K]bool{k: true}
	return
}

// testKeys checks the calls for b while one for a runs.
func testKeys[K comparable](t *testing.T, a, b K, constant bool) {
	g := &coalesce.Group[K, int]{Shards: 2}
	if constant {
		g.Hash = func(K) uint64 { return 7 }
	}
	for _, k := range []K{a, b} {
		if !hashable(k) {
			wantUnusable(t, g, k)
		}
	}
	if !hashable(a) || !hashable(b) {
		return
	}
	same := a == b
	other := 1 // the keys in flight while a call for b runs beside one for a
	if !same {
		other = 2
	}
	v, shared, err := g.Do(a, func() (int, error) {
		if n := g.Len(); n != 1 {
			t.Errorf("got Len %d with key %#v in flight, want 1", n, a)
		}
		v, err := g.TryDo(b, func() (int, error) {
			if n := g.Len(); n != other || same {
				t.Errorf("keys %#v and %#v, equal %t: got Len %d beside each other, want %d", a, b, same, n, other)
			}
			return 2, nil
		})
		if same && err != coalesce.ErrInFlight || !same && (v != 2 || err != nil) {
			t.Errorf("keys %#v and %#v, equal %t: TryDo: got %d, %v, want 2, nil or %v", a, b, same, v, err, coalesce.ErrInFlight)
		}
		// Shared or not, the key is as before; and b can be forgotten if it equals that
		// key.
		if got := g.Forget(b); got != same {
			t.Errorf("keys %#v and %#v: Forget: got %t, want %t", a, b, got, same)
		}
		if n, want := g.Len(), other-1; n != want {
			t.Errorf("keys %#v and %#v, equal %t: got Len %d after Forget, want %d", a, b, same, n, want)
		}
		return 1, nil
	})
	if v != 1 || shared || err != nil {
		t.Errorf("Do: got %d, %t, %v, want 1, false, nil", v, shared, err)
	}
	if n := g.Len(); n != 0 {
		t.Errorf("got Len %d after keys %#v and %#v, want 0", n, a, b)
	}
	for fl := range g.Flights() {
		t.Errorf("got %+v, want no flight", fl)
	}
}

// wantUnusable checks that g panics in every call with a key that cannot be hashed, and
// stays as it was.
func wantUnusable[K comparable](t *testing.T, g *coalesce.Group[K, int], k K) {
	ctx := context.Background()
	fn := func() (int, error) { return 1, nil }
	ctxFn := func(context.Context) (int, error) { return 1, nil }
	for name, call := range map[string]func(){
		"Do":             func() { g.Do(k, fn) },
		"TryDo":          func() { g.TryDo(k, fn) },
		"DoContext":      func() { g.DoContext(ctx, k, ctxFn) },
		"DoFresh":        func() { g.DoFresh(ctx, k, ctxFn) },
		"DoChan":         func() { <-g.DoChan(ctx, k, ctxFn) },
		"Forget":         func() { g.Forget(k) },
		"ForgetUnshared": func() { g.ForgetUnshared(k) },
	} {
		if panicOf(call) == nil {
			t.Errorf("%s of %#v: got no panic, want one", name, k)
		}
		if n := g.Len(); n != 0 {
			t.Errorf("got Len %d after %s of %#v, want 0", n, name, k)
		}
	}
}

// panicOf returns the value that fn panics with.
func panicOf(fn func()) (r any) {
	defer func() { r = recover() }()
	fn()
	return nil
}
