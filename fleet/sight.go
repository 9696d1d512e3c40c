package fleet

import (
	"slices"
	"time"
)

// This file holds what a run has seen of its record, and what follows from that.
//
// Invariants:
//  R1. A run acts on nothing older than what it has seen: a sight with a lower revision
//      than latest is ignored, as reads may be stale and pushes late.
//  R2. floor is the revision that the first swap of the run has met. A result that was
//      written after it is one of an execution that ran when the call began, or later.
//      An execution whose token is above it has begun later.
//  R3. joined is the token of the first lease that the run has waited for, and no result
//      with a lower one answers it: it would be an old one, written again.
//  R4. A lease is taken over only at its expiry, by a swap for the very revision that has
//      been seen for so long; or when its leader has had MaxAge and one lease more.

// A sight is a record that a run has seen.
type sight struct {
	rev  uint64 // 0 if there was none
	rec  record // if it is known
	read bool   // whether rec is known; its kind may be unreadable

	// maybe is set if a swap has met a revision that the engine has not named. Then this
	// one was read, and may be older.
	maybe bool

	age time.Duration
	at  time.Duration // when this process had received it
}

// judge takes notice of a sight, and returns the step that follows from it.
func (r *run[K, V]) judge(seen sight) next {
	r.news = seen.at
	switch {
	case seen.rev == 0 && (r.latest.rev == 0 || !r.latest.read && r.joined == 0):
		return next{step: stepSwap} // absent, and the run waits for no lease
	case seen.rev < r.latest.rev: // R1
		return next{}
	case seen.rev > r.latest.rev:
		r.expire(seen)
	case !r.latest.read && seen.read: // its revision was known
		r.expire(seen)
	default:
		return next{}
	}
	if !seen.read {
		return next{}
	}
	rec := &r.latest.rec
	switch rec.kind {
	case lease:
		return r.judgeLease(rec)
	case result, failed:
		switch {
		case r.answers(&r.latest):
			return next{step: stepAnswer}
		case rec.token < r.joined:
			return next{}
		}
		return next{step: stepSwap, prev: seen.rev}
	case released:
		r.joined = 0
		return next{step: stepSwap, prev: seen.rev}
	default:
		return next{}
	}
}

// judgeLease is judge for a lease.
func (r *run[K, V]) judgeLease(rec *record) next {
	if i := slices.IndexFunc(r.tries, func(t try) bool { return t.nonce == rec.nonce }); i >= 0 { // it was made
		if r.s.clock.now()-r.tries[i].sent < r.s.lease {
			return r.leads(*rec, r.latest.rev, r.tries[i])
		}
		return next{step: stepSwap, prev: r.latest.rev, attempt: rec.attempt}
	}
	r.activity.set(Following, rec.token, rec.process, int(rec.attempt))
	if r.fresh && (!r.hasFloor || rec.token <= r.floor) {
		return next{} // it has begun before the call: wait for its end
	}
	switch {
	case r.joined == 0:
		r.joined, r.last, r.newer = rec.token, rec.token, 0
	case rec.token > r.last:
		r.last = rec.token
		if rec.attempt == 0 { // no takeover: the flight that the run has joined has ended
			r.newer++
		}
	}
	if r.newer >= mostNewer {
		return next{step: stepLocal, cause: localMissed}
	}
	return next{}
}

// mostNewer is how many later leases a run sees before it no longer waits for a result.
const mostNewer = 3

// expire makes a sight the latest, and computes when it expires.
func (r *run[K, V]) expire(seen sight) {
	if !seen.continues(&r.latest) {
		r.since = seen.at
	}
	r.latest = seen
	d := r.s.lease
	if seen.isLease() {
		d = seen.rec.lease // C5
	}
	r.expiry = seen.at + d + d/20 + r.s.clock.random(d/20+1) // C3
}

// written returns when the record was written, at the earliest; 0 if that is not known.
func (s *sight) written() time.Duration {
	if s.age <= 0 {
		return 0
	}
	return s.at - s.age*21/20 // 5 % is for the engine's clock
}

// isLease reports whether a sight is known to be one of a lease.
func (s *sight) isLease() bool { return s.read && s.rec.kind == lease }

// continues reports whether a sight may be a renewal of an earlier one.
func (s *sight) continues(earlier *sight) bool {
	if s.read && s.rec.kind == unreadable {
		return earlier.read && earlier.rec.kind == unreadable
	}
	return s.isLease() && earlier.isLease() && s.rec.token == earlier.rec.token
}

// answers reports whether a result or a failure is one that the run may return.
func (r *run[K, V]) answers(seen *sight) bool {
	rec := &seen.rec
	switch {
	case rec.kind == failed && rec.failure == failedTakeovers:
		return seen.age < takeoversFor
	case rec.token < r.joined: // R3
		return false
	case r.fresh:
		return r.hasFloor && rec.token > r.floor
	case r.joined != 0 || r.hasFloor && seen.rev > r.floor:
		return true
	case rec.kind == result && seen.age > 0 && seen.age < r.s.linger:
		return true
	}
	// The execution ended that long ago, by the one clock of the engine. It ran when the
	// last call came that this run answers, if that is longer ago: the run has come late to
	// the engine. 5 % is for the engine's clock, which may run at another speed.
	called := r.began
	if r.activity != nil {
		called = time.Duration(r.activity.called.Load())
	}
	return seen.age > 0 && seen.age < (seen.at-called)*19/20
}

// takeoversFor is how long a key is given up.
const takeoversFor = 30 * time.Second
