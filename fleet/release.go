package fleet

import (
	"context"
)

// This file holds how a run gives up a lease without a result, so that others need not
// wait for its expiry.

// release gives a lease up without a result, and returns the revision of that, or 0 if that
// was not done, so that a swap for it is never one for the lease of another process. If
// the engine does not answer, a goroutine goes on, as others wait for the lease to expire.
func (r *run[K, V]) release(own nonce, token, rev uint64) uint64 {
	s := r.s
	rec := record{kind: released, token: token, nonce: own, process: s.process}
	val := r.box.encode(&rec)
	now, err := r.swapRelease(&r.budget, val, own, rev)
	if err != nil {
		s.runs.begin()
		go func() {
			defer s.runs.done()
			_, _ = r.swapRelease(s.ownBudget(s.lease), val, own, rev)
		}()
	}
	return now
}

// swapRelease swaps val in for the lease.
func (r *run[K, V]) swapRelease(b *budget, val []byte, own nonce, rev uint64) (uint64, error) {
	for {
		got, err := r.swapWith(b, context.Background(), true, rev, val, 2*r.s.lease, own)
		switch {
		case err != nil:
			return 0, err
		case got.mine && (got.rec.kind == 0 || got.rec.kind == released):
			r.s.hints.put(r.name, got.rev, got.at)
			return got.rev, nil
		}
		r.s.stats.conflicts.Add(1)
		if !got.mine { // it is another's by now
			return 0, nil
		}
		rev = got.rev // of a renewal that was cut off
	}
}

// withdraw releases a lease that may have been swapped in though that was not answered,
// as long as others would have to wait for its expiry. It does not block.
func (r *run[K, V]) withdraw() {
	if len(r.tries) == 0 || r.budget.misses == 0 {
		return
	}
	r.s.runs.begin()
	go r.s.withdraw(r.name, r.box, r.tries[len(r.tries)-1])
}

func (s *state[K, V]) withdraw(name string, box box, last try) {
	defer s.runs.done()
	r := &run[K, V]{s: s, name: name, box: box, budget: *s.ownBudget(s.lease)}
	for wait := firstWait; s.clock.now()-last.sent < s.lease; wait = min(2*wait, mostWait) {
		seen, err := r.load(&r.budget, context.Background())
		switch {
		case err != nil:
			return
		case seen.read && seen.rec.nonce == last.nonce:
			r.release(last.nonce, seen.rev, seen.rev)
			return
		case seen.rev > last.prev: // another process has come
			return
		}
		if pause(context.Background(), s.clock, wait) != nil {
			return
		}
	}
}
