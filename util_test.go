package coalesce_test

import (
	"cmp"
	"context"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
)

// endedContext is a context that has ended.
var endedContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// median returns the middle one of some measurements.
func median[T cmp.Ordered](x []T) T {
	slices.Sort(x)
	return x[len(x)/2]
}

// wantNoWatchers checks that no context has a goroutine that waits for the end of
// its parent. (runtime.NumGoroutine is not exact after thousands have ended.)
func wantNoWatchers(t *testing.T) {
	t.Helper()
	if !eventually(func() bool { // another test's may be on its way out
		var goroutines strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&goroutines, 1)
		return !strings.Contains(goroutines.String(), "propagateCancel")
	}) {
		t.Error("a derived context has a goroutine that waits for its parent")
	}
}
