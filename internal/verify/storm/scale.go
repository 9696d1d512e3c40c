package storm

import (
	"os"
	"strconv"
	"testing"
)

// This file holds the duration of the storms.

// Scale returns the factor by which the storms are to last longer than usual. The
// environment variable COALESCE_STORM sets it.
func Scale(t testing.TB) int {
	s := os.Getenv("COALESCE_STORM")
	if s == "" {
		return 1
	}
	const most = 100_000 // weeks
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		t.Fatalf("COALESCE_STORM: got %q, want a number from 1 to %d", s, most)
	}
	return n
}

// Scaled returns n calls in a short test, and ten times as many otherwise.
func Scaled(t testing.TB, n int) int {
	if testing.Short() {
		return n
	}
	return 10 * n * Scale(t)
}
