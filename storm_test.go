package coalesce_test

import (
	"io"
	"log"
	"log/slog"
	"os"
	"strconv"
	"testing"
)

// This file holds how long the storms last, and what they do not log.

// stormScale returns how many times longer than usual the storms are to last.
// The environment variable COALESCE_STORM says so.
func stormScale(t testing.TB) int {
	s := os.Getenv("COALESCE_STORM")
	if s == "" {
		return 1
	}
	const most = 100_000 // weeks
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		t.Fatalf("COALESCE_STORM = %q, want a number from 1 to %d", s, most)
	}
	return n
}

// scaled returns n calls in a short test, and ten times as many otherwise.
func scaled(t testing.TB, n int) int {
	if testing.Short() {
		return n
	}
	return 10 * n * stormScale(t)
}

// silenceLog discards what is logged through slog until the test is over: a
// panic that no blocking call receives is logged.
func silenceLog(t testing.TB) {
	l, w, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		slog.SetDefault(l)
		log.SetOutput(w)
		log.SetFlags(flags)
	})
}
