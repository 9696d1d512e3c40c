package fleet

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// This file tests Linger, and the hints that save a swap.

// TestLinger: a value answers later calls of each process for so long, and no longer.
func TestLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Linger = 10 * time.Second })
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "v")).is(t, "v", Led)
		later(9 * time.Second)
		for _, g := range g {
			o := call(t.Context(), g, "k", w.after(time.Second, "new"))
			o.is(t, "v", Followed)
			o.between(t, 0, 0)
		}
		later(time.Second)
		call(t.Context(), g[1], "k", w.after(time.Second, "new")).is(t, "new", Led)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestLinger_NoError: an error does not linger.
func TestLinger_NoError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.Linger = 10 * time.Second })
		var w work
		call(t.Context(), g[0], "k", w.failing(errors.New("failed"))).get()
		later(time.Millisecond)
		call(t.Context(), g[1], "k", w.after(time.Second, "v")).is(t, "v", Led)
	})
}

// TestLinger_Forget: Forget ends it.
func TestLinger_Forget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.Linger = 10 * time.Second })
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second, "v")).is(t, "v", Led)
		later(time.Second)
		if ok, err := g[1].Forget(t.Context(), "k"); !ok || err != nil {
			t.Errorf("got %t, %v, want true", ok, err)
		}
		call(t.Context(), g[0], "k", w.after(time.Second, "new")).is(t, "new", Led)
	})
}

// TestHints: a wrong hint costs one conflict, and answers nothing.
func TestHints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second/2, "a")).is(t, "a", Led)
		call(t.Context(), g[1], "k", w.after(time.Second/2, "b")).is(t, "b", Led)
		e[0].ops()
		call(t.Context(), g[0], "k", w.after(time.Second/2, "c")).is(t, "c", Led)
		if got, want := e[0].ops(), [3]int32{3, 1, 1}; got != want {
			t.Errorf("got %v swaps, arms and reads, want %v", got, want)
		}
	})
}

// TestHints_Expired: the record of a hint has expired.
func TestHints_Expired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(time.Second/2, "a")).is(t, "a", Led)
		later(time.Minute)
		e[0].ops()
		call(t.Context(), g[0], "k", w.after(time.Second/2, "b")).is(t, "b", Led)
		if got, want := e[0].ops(), [3]int32{3, 0, 0}; got != want {
			t.Errorf("got %v swaps, arms and reads, want %v", got, want)
		}
	})
}

// TestHints_Bounded: the table has a bounded size, and keeps what was put last.
func TestHints_Bounded(t *testing.T) {
	var h hints
	for i := range 10 * mostHints {
		h.put(fmt.Sprint(i), uint64(i), 0)
		if n := len(h.now) + len(h.old); n > mostHints {
			t.Fatalf("got %d hints, want at most %d", n, mostHints)
		}
	}
	for i := 10*mostHints - mostHints/2; i < 10*mostHints; i++ {
		if got, ok := h.take(fmt.Sprint(i)); !ok || got.rev != uint64(i) {
			t.Errorf("got %v, %t, want %d", got, ok, i)
		}
	}
	if _, ok := h.take(fmt.Sprint(10*mostHints - 1)); ok {
		t.Error("a hint was taken twice")
	}
}
