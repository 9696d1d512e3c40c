package fleet

import (
	"context"
	"errors"
	"time"
)

// This file holds a run, which is what one process does for one key, once for all its
// calls that share the run, and the steps of a run.
//
//	acquire ──ok──▶ lead (lead.go)
//	   │  ▲
//	conflict  the key is free, or its leader's lease has expired
//	   ▼  │
//	follow (follow.go) ──result──▶ answer (answer.go)
//	   │
//	   └─ the engine does not answer, the value cannot be had ──▶ local
//
// Nothing but a swap decides (swap.go). What is read or pushed only says when to try, for
// which revision, and what the result is (sight.go).

// A run is one of a process and a key.
type run[K comparable, V any] struct {
	s        *state[K, V]
	key      K
	name     string // of the record
	box      box
	fn       func(context.Context) (V, error)
	fresh    bool
	began    time.Duration
	activity *activity[K]
	tenure   *tenure[K, V] // nil until it leads
	budget   budget

	tries    []try // for the lease
	held     try   // the one that has made it
	latest   sight // see R1; its rev is 0 at first
	expiry   time.Duration
	since    time.Duration // when the token of latest was first seen
	floor    uint64        // see R2
	hasFloor bool
	joined   uint64 // see R3; 0 for none
	last     uint64 // the latest token of a lease that has been seen since
	newer    int    // flights that have begun since then, though no result has arrived
	info     Info   // of the result

	watch *watch // nil until the push is armed
	armed time.Duration
	again bool          // whether the second read after arming is to come
	news  time.Duration // when something was last seen
}

// run is what the core calls for a key of which this process has no run.
func (s *state[K, V]) run(fctx context.Context, key K, fn func(context.Context) (V, error), fresh bool) (answer[V], error) {
	r := &run[K, V]{
		s: s, key: key, name: s.recordName(key), fn: fn, fresh: fresh, began: s.clock.now(),
		budget: s.newBudget(),
	}
	r.box = s.vault.box(r.name)
	r.activity = &activity[K]{began: r.began, flight: Flight[K]{Key: key}}
	r.activity.called.Store(int64(r.began))
	s.stats.runs.Add(1)
	s.runs.add(r.activity)
	defer s.runs.remove(r.activity)
	defer r.disarm()
	defer r.count(fctx) // also if fn panics
	v, err := r.do(fctx)
	return answer[V]{v, r.info}, err
}

// count counts the end of a run.
func (r *run[K, V]) count(fctx context.Context) {
	i, c := r.info, &r.s.stats
	switch i.Role {
	case Led:
		c.led.Add(1)
	case Followed:
		c.followed.Add(1)
	case Adopted:
		c.adopted.Add(1)
	case Local:
		c.local.Add(1)
	case RoleNone:
		if fctx.Err() != nil && !errors.Is(context.Cause(fctx), ErrClosed) {
			c.left.Add(1)
		} else {
			c.refused.Add(1)
		}
	}
	if f := r.s.observer.Answered; f != nil && i.Role != RoleNone {
		f(i)
	}
}

// A step is what a run does next.
type step uint8

const (
	stepWait    step = iota // there is nothing to do
	stepSwap                // swap for the revision prev
	stepLead                // this process has the lease, of revision prev
	stepAnswer              // the latest sight is the answer
	stepGiveUp              // MaxTakeovers is reached
	stepLocal               // see next.cause
	stepAborted             // see next.err
)

// next is a step with what it needs.
type next struct {
	step    step
	prev    uint64
	attempt uint8
	cause   localCause
	err     error
}

func (r *run[K, V]) do(fctx context.Context) (V, error) {
	n := next{step: stepSwap, prev: r.hint()}
	for {
		switch n.step {
		case stepSwap:
			n = r.acquire(fctx, n)
		case stepLead:
			if r.late() || fctx.Err() != nil {
				n = r.yield(fctx, n)
				continue
			}
			v, over, err := r.lead(fctx, n)
			if over {
				return v, err
			}
			n = next{step: stepSwap}
		case stepGiveUp:
			n = r.giveUp(fctx, n)
		case stepWait:
			n = r.follow(fctx)
		default:
			return r.end(fctx, n)
		}
	}
}

// end ends a run that does not lead.
func (r *run[K, V]) end(fctx context.Context, n next) (v V, err error) {
	switch n.step {
	case stepAnswer:
		v, cause, err := r.answer()
		if cause != notLocal {
			return r.local(fctx, cause)
		}
		return v, err
	case stepLocal:
		return r.local(fctx, n.cause)
	default:
		r.withdraw()
		if fctx.Err() == nil && r.s.onOutage == RunLocally {
			return r.local(fctx, localOutage)
		}
		return v, n.err
	}
}

// hint returns the revision to swap for at first.
func (r *run[K, V]) hint() uint64 {
	h, ok := r.s.hints.take(r.name)
	if !ok || r.s.linger > 0 && r.began-h.seen < r.s.linger { // its value may answer this run
		return 0
	}
	return h.rev
}

// acquire swaps a lease in.
func (r *run[K, V]) acquire(fctx context.Context, n next) next {
	s := r.s
	mine := record{kind: lease, attempt: n.attempt, nonce: newNonce(), lease: s.lease, process: s.process}
	val := r.box.encode(&mine)
	r.tries = append(r.tries, try{mine.nonce, n.prev, s.clock.now(), s.clock.wall()})
	b := &r.budget
	if n.attempt > 0 {
		// One try: if the engine does not answer, it may be for that reason that the leader
		// has been silent, and it shall not be a race between the two when it does again.
		once := r.budget
		once.left, once.breaker = 0, nil
		b = &once
	}
	got, err := r.swapWith(b, fctx, n.attempt > 0, n.prev, val, s.ttl(), mine.nonce)
	if n.attempt > 0 {
		r.budget.failed, r.budget.misses = b.failed, b.misses
		if err != nil && fctx.Err() == nil && r.budget.left > 0 {
			r.budget.spend(s.clock.now() - r.tries[len(r.tries)-1].sent)
			r.postpone()
			return next{}
		}
	}
	if err != nil {
		return next{step: stepAborted, err: err}
	}
	if !got.mine {
		return r.met(got.sight, n)
	}
	mine.token = got.rev
	return r.leads(mine, got.rev, r.tries[len(r.tries)-1])
}

// leads returns the step of a run that has the lease rec, of the given revision, which the
// given try has made.
func (r *run[K, V]) leads(rec record, rev uint64, by try) next {
	r.held = by
	r.latest = sight{rev: rev, rec: rec, read: true, at: by.sent}
	return next{step: stepLead, prev: rev, attempt: rec.attempt}
}

// late reports whether the lease that the run has got may have expired by now, by either
// clock (C7).
func (r *run[K, V]) late() bool {
	c := r.s.clock
	return c.now()-r.held.sent >= r.s.lease || c.wall().Sub(r.held.wall) >= r.s.lease
}

// yield gives up a lease that the run has got too late, as it may have expired, or for no
// caller.
func (r *run[K, V]) yield(fctx context.Context, n next) next {
	rev := r.release(r.held.nonce, r.latest.rec.token, n.prev)
	if fctx.Err() != nil {
		return next{step: stepAborted, err: context.Cause(fctx)}
	}
	return next{step: stepSwap, prev: rev}
}

// part makes the calls that come from now on share another run.
func (r *run[K, V]) part() {
	r.s.core.Forget(r.key)
	r.s.runs.part(r.activity)
}

// restart makes r as it was before its first swap, but that it has seen the revision rev.
func (r *run[K, V]) restart(rev uint64) {
	r.began = r.s.clock.now()
	r.tenure, r.tries, r.latest, r.info = nil, nil, sight{rev: rev}, Info{}
	r.floor, r.hasFloor, r.joined, r.newer = 0, false, 0, 0
	r.activity.set(Acquiring, 0, "", 0)
}

// met returns the step after a swap that has met another revision.
func (r *run[K, V]) met(seen sight, n next) next {
	r.s.stats.conflicts.Add(1)
	if !r.hasFloor && !seen.maybe && seen.rev > 0 {
		r.floor, r.hasFloor = seen.rev, true
	}
	if seen.rev == 0 { // the engine's answer, not that of a read: there is no record
		r.latest = sight{}
		return next{step: stepSwap, attempt: n.attempt}
	}
	return r.judge(seen)
}

// takeOver returns the step when the latest lease has expired.
func (r *run[K, V]) takeOver() next {
	attempt := uint8(0)
	if r.latest.isLease() {
		attempt = r.latest.rec.attempt
	}
	if int(attempt) >= r.s.maxTakeovers {
		return next{step: stepGiveUp, prev: r.latest.rev, attempt: attempt}
	}
	return next{step: stepSwap, prev: r.latest.rev, attempt: attempt + 1}
}

// giveUp says in the engine that the key is not to be tried for a while.
func (r *run[K, V]) giveUp(fctx context.Context, n next) next {
	rec := record{
		kind: failed, failure: failedTakeovers, attempt: n.attempt, token: r.latest.rec.token, nonce: newNonce(),
		process: r.s.process, payload: encodeFailure("", "", 0),
	}
	got, err := r.swap(fctx, n.prev, r.box.encode(&rec), takeoversFor, rec.nonce)
	switch {
	case err != nil:
		return next{step: stepAborted, err: err}
	case got.mine:
		r.latest = sight{rev: got.rev, rec: rec, read: true, at: got.at}
		return next{step: stepAnswer}
	default:
		return r.met(got.sight, n)
	}
}

// A localCause is why fn runs without a lease.
type localCause uint8

const (
	notLocal localCause = iota
	localOutage
	localOversize
	localUnread
	localMissed
)

// local runs fn without a lease.
func (r *run[K, V]) local(fctx context.Context, cause localCause) (V, error) {
	c := &r.s.stats
	switch cause {
	case localOutage:
		c.localOutage.Add(1)
	case localOversize:
		c.localOversize.Add(1)
	case localUnread:
		c.localUnread.Add(1)
	default:
		c.localMissed.Add(1)
	}
	r.activity.set(RunningLocally, 0, r.s.process, 0)
	r.info = Info{Role: Local, Process: r.s.process, Wait: r.s.clock.now() - r.began}
	return r.fn(context.WithValue(fctx, tokenKey{}, nil)) // fctx may have one of another key
}
