package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// held starts a load that is held at g and reports when it goes on.
func held(ctx context.Context, g *gate, followers func() int) *atomic.Bool {
	released := new(atomic.Bool)
	go func() {
		g.hold(ctx, followers)
		released.Store(true)
	}()
	return released
}

// expecting returns a gate that expects n workers.
func expecting(n int) *gate {
	g := newGate()
	g.expected = n
	return g
}

func TestGate_OpensWhenAllHaveJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := expecting(3)
		var joined atomic.Int64
		g.ask()
		released := held(t.Context(), g, func() int { return int(joined.Load()) })
		g.ask()
		g.ask()
		joined.Store(1)
		time.Sleep(time.Second)
		if released.Load() {
			t.Fatal("got an open gate with one of two followers missing, want it closed")
		}
		joined.Store(2)
		time.Sleep(time.Second)
		if !released.Load() {
			t.Fatal("got a closed gate when all have joined, want it open")
		}
	})
}

func TestGate_OpensWhenAllAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := expecting(2)
		g.ask()
		first := held(t.Context(), g, nil)
		g.ask()
		synctest.Wait()
		if first.Load() {
			t.Fatal("got an open gate before the second load was there, want it closed")
		}
		second := held(t.Context(), g, nil)
		synctest.Wait()
		if !first.Load() || !second.Load() {
			t.Fatal("got a closed gate when all are held, want it open")
		}
		// A load that comes when the gate is open is not held.
		third := held(t.Context(), g, nil)
		synctest.Wait()
		if !third.Load() {
			t.Fatal("got a load held at an open gate, want it to go on")
		}
	})
}

func TestGate_OpensWhenTheRestWithdrawsOrIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := expecting(4)
		g.ask()
		released := held(t.Context(), g, nil)
		g.ask()
		g.refuse()
		g.ask()
		g.withdraw()
		synctest.Wait()
		if released.Load() {
			t.Fatal("got an open gate while a worker is neither held nor refused, want it closed")
		}
		g.refuse()
		synctest.Wait()
		if !released.Load() {
			t.Fatal("got a closed gate with no worker left to wait for, want it open")
		}
	})
}

func TestGate_LetsGoWhenCanceled(t *testing.T) {
	for name, followers := range map[string]func() int{
		"alone":          nil,
		"with followers": func() int { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				expectingMore, waitingForJoin := expecting(2), expecting(2)
				expectingMore.ask()
				waitingForJoin.ask()
				waitingForJoin.ask()
				a := held(ctx, expectingMore, followers)
				b := held(ctx, waitingForJoin, followers)
				time.Sleep(time.Second)
				if a.Load() || b.Load() {
					t.Fatal("got an open gate, want it closed")
				}
				cancel()
				time.Sleep(time.Second)
				if !a.Load() || !b.Load() {
					t.Fatal("got loads held after cancellation, want them to go on")
				}
			})
		})
	}
}

func TestGate_NilHoldsNothing(t *testing.T) {
	var g *gate
	g.ask()
	g.refuse()
	g.withdraw()
	g.hold(t.Context(), nil)
}

func TestCommonOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lists [][]int
		ok    bool
	}{
		{"nothing", nil, true},
		{"agreeing", [][]int{{0, 2, 3}, {1, 2}, {0, 3}}, true},
		{"repeated", [][]int{{0, 1, 0, 2, 1}}, true},
		{"two contradicting", [][]int{{0, 1}, {1, 0}}, false},
		{"a cycle of three", [][]int{{0, 1}, {1, 2}, {2, 3, 0}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			place, ok := commonOrder(tt.lists, 4)
			if ok != tt.ok {
				t.Fatalf("got ok %v, want %v", ok, tt.ok)
			}
			if !ok {
				return
			}
			for _, list := range tt.lists {
				most, seen := -1, make(map[int]bool)
				for _, i := range list {
					if seen[i] {
						continue
					}
					seen[i] = true
					if place[i] <= most {
						t.Errorf("got the order %v, want %v increasing in it", place, list)
					}
					most = place[i]
				}
			}
		})
	}
}
