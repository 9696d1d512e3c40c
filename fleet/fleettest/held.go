package fleettest

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file checks that nothing is left, and that connections do not grow with keys.

// someGoroutines are what a server or a client in this process may start meanwhile, for
// itself.
const someGoroutines = 20

// someConnections are what a client may open for itself, however many keys there are.
const someConnections = 8

// held: many watches take subscriptions, but no more connections, and leave nothing when
// they are stopped.
func (s suite) held(t *testing.T) {
	e := s.open(t)
	stop := s.watch(t, e, 10) // starts what is started once
	stop()
	counts := func() (c, n int) {
		if s.o.Held == nil {
			return 0, 0
		}
		return s.o.Held(t)
	}
	time.Sleep(100 * time.Millisecond)
	goroutines := runtime.NumGoroutine()
	connections, subscriptions := counts()

	const keys = 200
	stop = s.watch(t, e, keys)
	if c, n := counts(); s.o.Held != nil && e.Caps().Push && (c > connections+someConnections || n < subscriptions+keys) {
		t.Errorf("%d watches: got %d connections and %d subscriptions, want at most %d and at least %d",
			keys, c, n, connections+someConnections, subscriptions+keys)
	}
	stop()
	s.eventually(t, func() string {
		c, n := counts()
		if c > connections+someConnections || n > subscriptions {
			return fmt.Sprintf("%d watches that were stopped: got %d connections and %d subscriptions, want at most %d and %d",
				keys, c, n, connections+someConnections, subscriptions)
		}
		if g := runtime.NumGoroutine(); g > goroutines+someGoroutines {
			return fmt.Sprintf("%d watches that were stopped: got %d goroutines, want about %d", keys, g, goroutines)
		}
		return ""
	})
}

// watch watches n keys. All are stopped at once.
func (s suite) watch(t *testing.T, e fleet.Engine, n int) (stop func()) {
	t.Helper()
	var stops []func()
	for range n {
		key := newKey()
		box := newMailbox()
		one, err := e.Notify(within(t), key, box.push)
		if err != nil {
			t.Fatalf("Notify: %v", err)
		}
		stops = append(stops, one)
		mustSwap(t, e, key, 0, []byte("v"), ttl)
	}
	return func() {
		for _, one := range stops {
			one()
		}
	}
}

// closed: engines that are closed leave nothing.
func (s suite) closed(t *testing.T) {
	open := func(t *testing.T) {
		e := s.open(t)
		stop := s.watch(t, e, 1)
		defer stop()
	}
	t.Run("First", open) // starts what is started once
	goroutines := runtime.NumGoroutine()
	for range 2 * someGoroutines {
		t.Run("Again", open)
	}
	s.eventually(t, func() string {
		if g := runtime.NumGoroutine(); g > goroutines+someGoroutines {
			return fmt.Sprintf("%d engines that were closed: got %d goroutines, want about %d", 2*someGoroutines, g, goroutines)
		}
		return ""
	})
}

// eventually waits until check returns nothing, and fails the test with what it returns
// last.
func (s suite) eventually(t *testing.T, check func() string) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		what := check()
		if what == "" {
			return
		}
		if time.Since(begin) > patience/2 {
			t.Fatal(what)
		}
	}
}
