package fleet

import (
	"context"
	"time"
)

// This file holds how a leader publishes its result, by a swap for the revision of the
// write before, so that one that was replaced cannot; and how it then adopts the result of
// the process that has taken over.

// hand publishes the record of a result, and returns it; or that of the process that has
// taken over. over is false if there is a call that must not get any of these.
func (t *tenure[K, V]) hand(fctx context.Context, rec record, v V, err error) (_ V, over bool, _ error) {
	ttl := t.r.s.ttl()
	if rec.kind == result {
		ttl = max(ttl, t.r.s.linger)
	}
	if other := t.publish(&rec, ttl); other != nil {
		if adopted, ok, err := t.adopt(fctx, other); ok {
			t.end(ErrLeaseLost) // v is no caller's
			return adopted, true, err
		}
		t.stale()
	}
	if t.tooLate() {
		t.end(ErrLeaseLost)
		t.r.part() // the calls that come from now on need not wait for this run
		t.r.restart(0)
		return v, false, nil
	}
	return v, true, err
}

// publish stores rec in the place of the lease. It returns the record of the process that
// has taken over, if one has. If the engine does not answer, the callers do not wait any
// longer, and a goroutine goes on for them, as long as others wait for the lease to expire.
func (t *tenure[K, V]) publish(rec *record, ttl time.Duration) *sight {
	r, s := t.r, t.r.s
	t.close()
	begin := s.clock.now()
	rec.ran = begin - t.began
	val := r.box.encode(rec)
	what, seen, err := t.store(&r.budget, rec.kind, val, ttl)
	switch {
	case err != nil:
		s.stats.unpublished.Add(1)
		r.info.Unpublished = true
		s.runs.begin()
		go func() {
			defer s.runs.done()
			_, _, _ = t.store(s.ownBudget(t.ackedAt()+s.lease-s.clock.now()), rec.kind, val, ttl)
		}()
		return nil
	case what == taken:
		return &seen
	case what == dropped:
		t.stale()
	default:
		if f := s.observer.Published; f != nil {
			f(s.clock.now()-begin, len(rec.payload))
		}
	}
	return nil
}

// store swaps val, of a record of the given kind, in for the lease. It returns stored, or
// taken with what is there instead, or dropped.
func (t *tenure[K, V]) store(b *budget, k kind, val []byte, ttl time.Duration) (what fate, seen sight, err error) {
	r, s := t.r, t.r.s
	misses := b.misses
	for {
		t.mu.Lock()
		lost, void, prev := t.lost, t.void, t.rev
		t.mu.Unlock()
		if void {
			return dropped, sight{}, nil
		}
		if lost {
			if seen, err = r.load(b, context.Background()); err != nil || seen.rev == 0 {
				t.drop(0) // it is not known whether that was a takeover
				return dropped, sight{}, nil
			}
			return taken, seen, nil
		}
		got, err := r.swapWith(b, context.Background(), true, prev, val, ttl, t.own.nonce)
		switch {
		case err == errTooLate:
			return dropped, sight{}, nil
		case err != nil:
			return dropped, sight{}, err
		case got.mine && (got.rec.kind == 0 || got.rec.kind == k):
			s.hints.put(r.name, got.rev, got.at)
			return stored, got.sight, nil
		}
		s.stats.conflicts.Add(1)
		switch what := t.fate(&got.sight); what {
		case ours: // a renewal that was cut off
			t.setRevision(got.rev)
		case gone:
			if b.misses > misses { // a try may have been made, and the next flight may have followed
				return dropped, sight{}, nil
			}
			t.setRevision(0) // if that is not too late
		case taken:
			s.stats.lost.Add(1)
			return what, got.sight, nil
		case dropped:
			t.drop(got.written())
			return what, got.sight, nil
		default:
			return what, got.sight, nil
		}
	}
}

// stale notes that the result is not stored, as another process has come since.
func (t *tenure[K, V]) stale() {
	t.r.s.stats.stale.Add(1)
	t.r.info.Stale = true
}

// adopt returns the result of the process that has taken over, whose record is in seen.
// It returns false if that has none within a lease, or had it before a call came that this
// run has to answer.
func (t *tenure[K, V]) adopt(fctx context.Context, seen *sight) (v V, ok bool, err error) {
	r, s := t.r, t.r.s
	r.part()                                                               // fn has ended: a call that comes now must not get v, if it comes to that
	if seen.read && seen.rec.attempt == 0 && seen.rec.kind != unreadable { // that was no takeover
		t.drop(0)
	}
	if !t.suits(seen) {
		return v, false, nil
	}
	ctx, cancel := context.WithCancel(fctx)
	defer cancel()
	stop := s.clock.after(s.lease, cancel)
	defer stop()

	r.latest, r.joined, r.newer = sight{}, t.own.token+1, 0
	r.last = r.joined
	r.activity.set(Following, 0, "", 0)
	n := r.judge(*seen)
	if n.step == stepWait {
		n = r.follow(ctx)
	}
	led := r.info
	if n.step == stepAnswer {
		if v, cause, err := r.answer(); cause == notLocal && r.info.Role != RoleNone {
			r.info.Role = Adopted
			return v, true, err
		}
	}
	r.info = led
	return v, false, nil
}

// suits reports whether the result of the process that has taken over, which is in seen or
// is to come, ends after the last call came. It ends after the last write of this one.
func (t *tenure[K, V]) suits(seen *sight) bool {
	called := time.Duration(t.r.activity.called.Load())
	switch {
	case seen.rev == 0 || !seen.read:
		return false
	case seen.rec.kind != result && seen.rec.kind != failed:
		return true
	default:
		return called <= t.ackedAt() || seen.age > 0 && seen.at-seen.age >= called
	}
}
