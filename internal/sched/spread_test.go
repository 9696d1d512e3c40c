//go:build !race && !coalesceexplore

package sched

import (
	"sync"
	"testing"
)

// TestCounter_Spread: goroutines with stacks of their own do not all choose one stripe.
// The race detector moves variables to other places.
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
	if used < 4 {
		t.Errorf("got %d of 64 stripes used by 256 goroutines, want 4 at least", used)
	}
}
