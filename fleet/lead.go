package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds what a process does that leads: it runs fn, renews the lease meanwhile
// (renew.go), and publishes the result (publish.go).
//
// Invariants:
//  L1. One renewal is under way at a time, none before fn or after it has ended: publish
//      cuts it off and does not wait for it.
//  L2. rev is the revision of the last write that the engine has acknowledged, and acked
//      and ackedWall are when that was sent. While less than a lease has passed since
//      then, no other process takes over, whatever has become of the record.
//  L3. lost and void are final. After either, nothing is written for the flight.

// A tenure is the time for which a run leads.
type tenure[K comparable, V any] struct {
	r     *run[K, V]
	own   record // the lease
	began time.Duration
	end   context.CancelCauseFunc // ends fn's context

	mu        sync.Mutex
	rev       uint64        // see L2
	acked     time.Duration // see L2
	ackedWall time.Time     // see L2 and C7
	lost      bool          // another process has taken over
	void      bool          // the key was forgotten, or others may have come and gone
	dropped   bool          // the key was forgotten
	forgotten time.Duration // when, at the earliest
	over      bool          // fn has ended
	stop      func() bool   // stops the timer of the next renewal
	cut       context.CancelFunc
}

// lead runs fn under the lease that was acquired in step n. over is false if there is no
// result, as another process has taken over, and the run has to start again.
func (r *run[K, V]) lead(fctx context.Context, n next) (v V, over bool, err error) {
	s := r.s
	if !s.cancelAbandoned {
		coalesce.Hold(fctx)
	}
	if n.attempt > 0 {
		s.stats.takeovers.Add(1)
	}
	t := &tenure[K, V]{r: r, own: r.latest.rec, rev: n.prev, acked: r.held.sent, ackedWall: r.held.wall, began: s.clock.now()}
	r.tenure = t
	r.activity.set(Leading, t.own.token, s.process, int(n.attempt))
	r.info = Info{
		Role: Led, Token: t.own.token, Process: s.process, Takeovers: int(n.attempt), Wait: t.began - r.began,
	}
	// cancel is not called when fn has returned, as what fn has tied to ctx may belong to its
	// value. fctx is a context of the core's, so that this leaves no goroutine.
	ctx, cancel := context.WithCancelCause(fctx)
	t.end = cancel
	t.schedule(t.acked + s.lease/heartbeats)
	v, rec, err := t.execute(context.WithValue(ctx, tokenKey{}, t.own.token))
	if rec.kind != released {
		return t.hand(fctx, rec, v, err)
	}
	t.close()
	if lost, void := t.fallen(); !lost {
		if !void {
			r.release(t.own.nonce, t.own.token, t.revision())
		}
		return v, true, err
	}
	// fn has ended because of the loss: its callers get the result of the successor.
	seen, e := r.load(&r.budget, fctx)
	if e != nil {
		return v, true, err
	}
	if v, ok, err := t.adopt(fctx, &seen); ok {
		return v, true, err
	}
	r.restart(max(seen.rev, t.revision()))
	return v, false, nil
}

// execute runs fn and returns, with what it has returned, the record of that; or one of
// the kind released, if fn has ended because its context has. A panic or Goexit, of fn or
// of what makes the record, is published and then goes on.
func (t *tenure[K, V]) execute(ctx context.Context) (v V, rec record, err error) {
	normal := false
	defer func() {
		if normal {
			return
		}
		p := recover()
		how, message := failedGoexit, "fn has called runtime.Goexit"
		if p != nil {
			how, message = failedPanic, panicMessage(p)
		}
		rec := t.failed(how, "", message)
		if t.publish(&rec, t.r.s.ttl()) != nil {
			t.stale()
		}
		if p != nil {
			panic(p)
		}
	}()
	v, err = t.r.fn(ctx)
	rec = t.outcome(ctx, v, err)
	normal = true
	return v, rec, err
}

// outcome returns the record of what fn has returned. It calls code of the user.
func (t *tenure[K, V]) outcome(ctx context.Context, v V, err error) record {
	s := t.r.s
	if err != nil {
		if isEnd(ctx, err) {
			return record{kind: released}
		}
		name, message := s.errors.Encode(err)
		return t.failed(failedError, name, message)
	}
	data, bad := s.codec.Encode(v)
	if bad != nil || len(data) > s.maxResult {
		return t.failed(failedOversize, "", "")
	}
	rec := t.own
	rec.kind, rec.payload = result, data
	return rec
}

// panicMessage returns the text of a panic, without its stack.
func panicMessage(p any) string {
	if err, ok := p.(*coalesce.PanicError); ok {
		p = err.Value
	}
	return fmt.Sprint(p) // also if a method of p panics
}

// failed returns the record of an fn that has ended without a value to hand on.
func (t *tenure[K, V]) failed(how failure, name, message string) record {
	rec := t.own
	rec.kind, rec.failure = failed, how
	rec.payload = encodeFailure(name, message, min(t.r.s.maxResult, mostMessage))
	return rec
}

// ttl is how long the engine keeps leases and results (C6).
func (s *state[K, V]) ttl() time.Duration { return 2*s.lease + s.grace }

// mostMessage bounds the message of an error that is stored.
const mostMessage = 4 << 10

// holds reports whether no other process can have taken over (L2), by both clocks. t.mu
// must be held.
func (t *tenure[K, V]) holds() bool {
	c, most := t.r.s.clock, t.r.s.lease
	wall := c.wall().Sub(t.ackedWall)
	return c.now()-t.acked < most && wall >= 0 && wall < most
}

// mayWrite reports whether a write for no record is safe. It is holds, for a caller that does not hold t.mu.
func (t *tenure[K, V]) mayWrite() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holds()
}

// drop notes that the key was forgotten, at the given time or later, and after the last
// write.
func (t *tenure[K, V]) drop(at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.void, t.dropped, t.forgotten = true, true, max(t.acked, at)
}

// tooLate reports whether a call may have come since the key was forgotten, which must not
// get what fn returns.
func (t *tenure[K, V]) tooLate() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped && time.Duration(t.r.activity.called.Load()) > t.forgotten
}

// fallen returns lost and void.
func (t *tenure[K, V]) fallen() (lost, void bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost, t.void
}

// ackedAt returns when the last write was sent that the engine has acknowledged. A renewal
// that was cut off may still be.
func (t *tenure[K, V]) ackedAt() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acked
}

func (t *tenure[K, V]) revision() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rev
}

func (t *tenure[K, V]) setRevision(rev uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rev = rev
}

// A fate is what has become of a lease.
type fate uint8

const (
	ours    fate = iota // the record is a lease of this tenure
	gone                // there is no record: the engine has lost it
	dropped             // it was forgotten
	taken               // another process has taken over
	stored              // the record is the result of this tenure
)

// fate returns what the record of a conflict says about the lease.
func (t *tenure[K, V]) fate(seen *sight) fate {
	switch {
	case seen.rev == 0:
		return gone
	case !seen.read || seen.rec.nonce != t.own.nonce || seen.rec.kind == unreadable:
		if seen.read && seen.rec.kind == released {
			return dropped
		}
		return taken
	case seen.rec.kind == lease:
		return ours
	case seen.rec.kind == released:
		return dropped
	default:
		return stored
	}
}
