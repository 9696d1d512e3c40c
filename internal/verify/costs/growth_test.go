package costs_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestG16_GrowthOfWhatLingers: while outcomes begin to linger by the million, no call for
// another key waits long for the index to grow.
//
// What a busy machine adds differs from one try to the next, and what the index adds does
// not: each try makes it grow in the same way. So the shortest of a few tries counts.
func TestG16_GrowthOfWhatLingers(t *testing.T) {
	outcomes, limit := 2_000_000, 60*time.Millisecond
	if kit.RaceEnabled {
		t.Skip("the race detector takes more time than the growth of the index")
	}
	if testing.Short() {
		outcomes /= 2 // with one index for the group, that took half a second
	}
	var slowest time.Duration
	for try := range 8 {
		if slowest = slowestBesideGrowth(outcomes); slowest <= limit {
			t.Logf("try %d: %v", try, slowest)
			return
		}
	}
	t.Errorf("the slowest call took %v, want at most %v", slowest, limit)
}

// slowestBesideGrowth makes so many outcomes linger, and returns how long the slowest call
// took for one of 1,000 other keys meanwhile.
func slowestBesideGrowth(outcomes int) (slowest time.Duration) {
	g := coalesce.Group[int, int]{Linger: coalesce.Forever, Shards: 64}
	one := func() (int, error) { return 1, nil }
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-done:
				return
			default:
			}
			key := -1 - r.IntN(1000)
			began := time.Now()
			g.Do(key, one)
			g.Forget(key)
			slowest = max(slowest, time.Since(began))
			time.Sleep(50 * time.Microsecond)
		}
	})
	for key := range outcomes {
		g.Do(key, one)
	}
	close(done)
	wg.Wait()
	return slowest
}
