package sched

import (
	"runtime"
	"sync"
	"testing"
)

// TestCounter_Exact: whatever stripes they choose, no addition is lost; a Counter that was
// not used costs nothing.
func TestCounter_Exact(t *testing.T) {
	var c Counter
	if n := c.Value(); n != 0 || c.stripes.Load() != nil {
		t.Errorf("got %d from the zero Counter, with stripes %v", n, c.stripes.Load())
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
		t.Errorf("got %d stripes for %d Ps", n, runtime.GOMAXPROCS(0))
	}
}

// TestCounter_Spread: goroutines with stacks of their own do not all choose one stripe.
func TestCounter_Spread(t *testing.T) {
	stripes := make([]stripe, 64)
	var c Counter
	c.stripes.Store(&stripes)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range 256 {
		wg.Go(func() {
			<-begin // so that all are there at once
			c.Inc()
		})
	}
	close(begin)
	wg.Wait()
	used := 0
	for i := range stripes {
		if stripes[i].n.Load() > 0 {
			used++
		}
	}
	if used < 16 {
		t.Errorf("256 goroutines have used %d of 64 stripes", used)
	}
}
