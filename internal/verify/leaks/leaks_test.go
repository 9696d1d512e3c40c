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

// This file holds those who look for goroutines, each with a planted leak that it
// must find.

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
			t.Error("a goroutine that is left was not found")
		}
		close(held)
		goleak.VerifyNone(t, before)
	})
}

// TestLeakProfile: no goroutine is blocked for ever after a scenario. The planted
// leak comes last, as it cannot be taken back.
func TestLeakProfile(t *testing.T) {
	if pprof.Lookup("goroutineleak") == nil {
		if strings.Contains(os.Getenv("GOEXPERIMENT"), "goroutineleakprofile") {
			t.Fatal("GOEXPERIMENT=goroutineleakprofile is set, but there is no such profile")
		}
		t.Skip("NOT RUN: there is no leak profile without GOEXPERIMENT=goroutineleakprofile")
	}
	for _, s := range scenarios {
		s.run(t)
		if n, text := leaked(t); n > 0 {
			t.Errorf("%s: %d goroutines are blocked for ever:\n%s", s.name, n, text)
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
			t.Fatalf("found %d goroutines of %d that are blocked for ever:\n%s", n, calls+1, text)
		}
	}
}

// leaked returns how many goroutines are blocked for ever, and their stacks. It is
// WriteTo that looks for them; Count returns how many the last one has found.
func leaked(t *testing.T) (n int, text string) {
	t.Helper()
	p := pprof.Lookup("goroutineleak")
	var b bytes.Buffer
	if err := p.WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	return p.Count(), b.String()
}
