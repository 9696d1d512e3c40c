package leaks

import (
	"bytes"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// This file holds the detectors of goroutines, each with a planted leak that it must
// find.

// TestGoleak: no goroutine is left after a scenario.
func TestGoleak(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			s.run(t)
			goleak.VerifyNone(t, before)
		})
	}
	t.Run("control", func(t *testing.T) {
		before := goleak.IgnoreCurrent()
		held := make(chan struct{})
		go func() { <-held }()
		if err := goleak.Find(before); err == nil {
			t.Error("got no error for a goroutine that is left, want one")
		}
		close(held)
		goleak.VerifyNone(t, before)
	})
}

// TestLeakProfile: no goroutine is blocked forever after a scenario. The planted leak
// comes last, as it cannot be undone.
func TestLeakProfile(t *testing.T) {
	if pprof.Lookup("goroutineleak") == nil {
		if strings.Contains(os.Getenv("GOEXPERIMENT"), "goroutineleakprofile") {
			t.Fatal("got no leak profile under GOEXPERIMENT=goroutineleakprofile, want one")
		}
		t.Skip("NOT RUN: there is no leak profile without GOEXPERIMENT=goroutineleakprofile")
	}
	for _, s := range scenarios {
		s.run(t)
		if n, text := leaked(t); n > 0 {
			t.Errorf("%s: got %d goroutines blocked forever, want none:\n%s", s.name, n, text)
		}
	}
	if t.Failed() {
		return
	}
	stuckGroup()
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, text := leaked(t)
		if n == calls+1 && strings.Contains(text, "coalesce.(*Group") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d goroutines blocked forever, want %d:\n%s", n, calls+1, text)
		}
	}
}

// leaked returns the number of goroutines that are blocked forever, and their stacks.
// WriteTo looks for them; Count returns the number that the last WriteTo has found.
func leaked(t *testing.T) (n int, text string) {
	t.Helper()
	p := pprof.Lookup("goroutineleak")
	var b bytes.Buffer
	if err := p.WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	return p.Count(), b.String()
}
