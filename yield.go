package coalesce

import (
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds when a leader gives way to its own fn.

// yielding decides whether a leader whose fn runs on another goroutine gives way
// to that before it waits. If fn is over by then, neither a channel nor a select
// was needed, and the call has taken 0.6 of the time.
//
// But who gives way waits for all that is runnable, where a leader that is parked
// would be the next to run: with four goroutines that compute, on two Ps, the
// median call took 10 ms instead of 0.03 ms. So it is done for as long as it pays,
// and what did not is tried again after 64 calls, then 128, and so on.
type yielding struct {
	skip   uint32 // how many leaders are not to
	log    uint8  // of what skip was last set to, less one for each that paid
	misses uint8  // how often, of late, fn was not over
}

const (
	minYieldLog = 6
	maxYieldLog = 16

	// yieldMisses is how often fn may not be over in a row. That costs 0.2 µs
	// each time, and fn is of those that take long.
	yieldMisses = 16

	// longYield is how long, in nanoseconds, a leader may give way, fn included,
	// for it to pay.
	longYield = int64(10 * time.Microsecond)
)

// due reports whether the next leader is to give way. The shard's lock must be
// held.
func (y *yielding) due() bool {
	if y.skip == 0 {
		return true
	}
	y.skip--
	return false
}

// note learns how long a leader has given way, and whether fn was over. The
// shard's lock must be held.
func (y *yielding) note(took int64, over bool) {
	y.misses++
	if over {
		y.misses = 0
	}
	if took >= longYield || y.misses == yieldMisses {
		y.misses = 0
		y.log = min(max(y.log+1, minYieldLog), maxYieldLog)
		y.skip = 1 << y.log
	} else if over && y.log > 0 {
		y.log--
	}
}

// yield lets the goroutine of f run, which the caller leads and does not wait for
// yet, and reports whether f has finished. If not, c waits for it. The lock must
// not be held.
func (s *shard[K, V]) yield(c *call[K, V], f *flight[K, V]) bool {
	sched.Yield()
	took := sched.Now() - f.born // a flight that its leader runs began when it was made
	s.mu.Lock()
	defer s.mu.Unlock()
	over := f.state == finished
	s.yields.note(took, over)
	if !over {
		c.w = f.wait()
	}
	return over
}
