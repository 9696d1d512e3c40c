package sched

import (
	"runtime"
	"sync"
	"testing"
)

// TestCounter_Exact: no addition is lost, whichever stripes the goroutines choose; a
// Counter that was not used costs nothing.
func TestCounter_Exact(t *testing.T) {
	var c Counter
	if n := c.Value(); n != 0 || c.stripes.Load() != nil {
		t.Errorf("the zero Counter: got %d with stripes %v, want 0 without", n, c.stripes.Load())
	}
	const goroutines, times = 16, 10_000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range times {
				c.Inc()
			}
		})
	}
	wg.Wait()
	if got := c.Value(); got != goroutines*times {
		t.Errorf("got %d, want %d", got, goroutines*times)
	}
	n := len(*c.stripes.Load())
	if n&(n-1) != 0 || n < runtime.GOMAXPROCS(0) || n >= 2*runtime.GOMAXPROCS(0) {
		t.Errorf("got %d stripes for %d Ps, want the next power of two", n, runtime.GOMAXPROCS(0))
	}
}
