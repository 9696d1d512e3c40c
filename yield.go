package coalesce

import (
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds when a leader gives way to its own fn.
//
// A leader whose fn runs on another goroutine lets that run before it waits. If
// fn is over by then, neither a channel nor a select was needed, and the call has
// taken 0.7 µs instead of 1.1 (go test -run - -bench DoContext/impl .).
//
// But who gives way waits for all that is runnable, where a leader that is parked
// would be the next to run: where goroutines compute, the call takes milliseconds
// longer. So it is done for as long as it pays. At first, and once it did not, one
// leader of the whole group tries, provided that few goroutines are runnable and,
// where something was lost, that thirty times as long has passed. The others follow
// when that one has found that it pays.
//
// Rejected: to try without looking. Where four goroutines computed on each of two
// Ps, the first call of a program took 75 ms (go test -run - -bench
// '/^work=cancellable$/keys=string16/busy=4/impl=coalesce' ./benchmarks).
//
// Rejected: to learn it for each shard, by counting calls. Each of many shards
// then pays for its own lesson, 10 ms each where four goroutines compute on two
// Ps. And to let followers give way, too: no gain that the noise would show.

// yielding decides whether a leader gives way.
type yielding struct {
	// after is 0 if all leaders are to give way; else the reading of sched.Now
	// after which one is to try, 1 in a new table. Written by due and note, read
	// by due.
	after sched.Int64

	// misses counts how often in a row it did not pay. Written by note.
	misses sched.Int64
}

const (
	// longYield is how long, in nanoseconds, a leader may give way, fn included,
	// for it to pay.
	longYield = int64(10 * time.Microsecond)

	// yieldMisses is how often fn may not be over, in a row, until it is taken
	// for one that takes long: a miss costs some 0.2 µs. Two that took long are
	// as many.
	yieldMisses = 16

	// yieldPause is how long, in nanoseconds, nobody tries after that, or while
	// one leader does.
	yieldPause = int64(time.Millisecond)

	// yieldShare is how many times what was lost has to pass before one tries.
	yieldShare = 30
)

// A way is whether a leader gives way.
type way uint8

const (
	parks  way = iota // it does not
	yields            // it does
	tries             // it does unless there is a crowd, and the others learn from it
)

// due decides what the caller is to do, at the given reading of sched.Now.
func (y *yielding) due(now int64) way {
	after := y.after.Load()
	switch {
	case after == 0:
		return yields
	case now >= after && y.after.CompareAndSwap(after, now+yieldPause):
		return tries
	}
	return parks
}

// note learns from a leader that was due at began and has gone on at now, two
// readings of sched.Now, and whether fn was over.
func (y *yielding) note(began, now int64, over bool) {
	took := now - began
	slow, weight := took >= longYield, int64(1)
	switch {
	case over && !slow:
		if y.misses.Load() != 0 {
			y.misses.Store(0)
		}
		if y.after.Load() != 0 {
			y.after.CompareAndSwap(began+yieldPause, 0) // if it was the one to try
		}
		return
	case slow && y.after.Load() != 0:
		weight = yieldMisses
	case slow:
		weight = yieldMisses / 2 // the collector, or another process, can do that once
	}
	if y.misses.Add(weight) < yieldMisses {
		return
	}
	y.misses.Store(0)
	pause := yieldPause
	if slow {
		pause = max(pause, yieldShare*took)
	}
	y.after.Store(now + pause)
}

// yield lets the goroutine of f run, in the way that was due, which c leads and has
// a seat in, but nothing to wait on, and reports whether f has finished. If not, c
// can wait. The lock must not be held.
func (s *shard[K, V]) yield(c *call[K, V], f *flight[K, V], w way) bool {
	gives := w == yields || !sched.Crowded()
	if gives {
		sched.Yield()
	}
	now := sched.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	over := f.state == finished
	if gives {
		s.group.yields.note(f.born, now, over) // born was set once, as f never was in a queue
	}
	if !over {
		c.w = f.seat()
	}
	return over
}
