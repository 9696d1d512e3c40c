package fleet

import (
	"math/rand/v2"
	"time"
)

// This file holds the clock of a process. No two clocks are ever compared:
//
//  C1. Each process uses its own monotonic clock, and only differences of its readings.
//  C2. A leader counts its lease from before it sent the write that the engine has
//      acknowledged, and a follower from after it received the revision.
//  C3. A lease expires for a follower after 1.05 to 1.10 times its length: 5 % is for
//      clocks that run at different speeds, and the rest, drawn at random, spreads the
//      followers.
//  C4. A follower reads when it has armed the push, 50 ms later, when the engine has
//      connected again, and after 1.25 heartbeats without news.
//  C5. The length of a lease is that in the record, not the reader's own.
//  C6. A record may expire in the engine when two leases and Grace have passed since it was
//      written, so that it outlasts an outage that calls wait for. No decision depends on
//      whether it has.
//  C7. The monotonic clock of a machine that sleeps may stand still. Then the comparison of
//      revisions keeps its processes from overwriting others' results. Where there is no
//      record to compare with, as the engine has lost it or it has expired, a leader also
//      asks the wall clock how long ago its last write was.

// A clock is what a Group knows of time, and of chance. Simulations have slow, fast and frozen ones.
type clock interface {
	// now returns the time since some moment in the past.
	now() time.Duration

	// wall returns the time of day, which may be set forwards and back.
	wall() time.Time

	// after calls f on a goroutine of its own when d has passed, unless stop is called
	// before.
	after(d time.Duration, f func()) (stop func() bool)

	// random returns a random time below d.
	random(d time.Duration) time.Duration
}

// monotonic is the clock of the process.
type monotonic struct{ start time.Time }

func (c monotonic) now() time.Duration { return time.Since(c.start) }

func (c monotonic) wall() time.Time { return time.Now().Round(0) }

func (c monotonic) after(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

func (c monotonic) random(d time.Duration) time.Duration { return rand.N(d) }
