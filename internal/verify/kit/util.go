package kit

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"time"
)

// CaptureLog makes slog.Default write to the returned buffer for one test.
func CaptureLog(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

// Await waits until cond holds, which it does soon, and fails the test after ten seconds.
func Await(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("got a condition that does not hold, want it to")
		}
	}
}

// SetProcs sets GOMAXPROCS until the test is over.
func SetProcs(t *testing.T, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// Eventually waits until cond holds, and reports whether it does in the end.
func Eventually(cond func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Microsecond)
	}
	return true
}

// EndedContext is a context that has ended.
var EndedContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Median returns the middle one of some measurements.
func Median[T cmp.Ordered](x []T) T {
	slices.Sort(x)
	return x[len(x)/2]
}
