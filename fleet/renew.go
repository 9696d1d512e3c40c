package fleet

import (
	"context"
	"errors"
	"time"
)

// This file holds how a leader renews its lease.
//
// It does so by a swap for the revision of the write before, so a leader that was replaced
// cannot renew. A renewal that was not answered may have been made: the next swap then
// meets a record with the nonce of the lease, and goes on from its revision.

// schedule arms the timer of the next renewal.
func (t *tenure[K, V]) schedule(at time.Duration) {
	c := t.r.s.clock
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.lost || t.void {
		return
	}
	if m := t.r.s.maxAge; m > 0 && at-t.began >= m {
		return // the lease runs out, and who waits takes over
	}
	t.stop = c.after(max(0, at-c.now()), t.renew)
}

// renew renews the lease once. It runs on the goroutine of its timer.
func (t *tenure[K, V]) renew() {
	s := t.r.s
	_, _ = s.renewals.enter(context.Background())
	defer s.renewals.leave()
	ctx, cut := context.WithTimeout(context.Background(), s.tryFor)
	defer cut()
	t.mu.Lock()
	if t.over || t.lost || t.void {
		t.mu.Unlock()
		return
	}
	if t.rev == 0 && !t.holds() { // others may have come and gone since the record was lost
		t.void = true
		t.mu.Unlock()
		return
	}
	t.cut = cut
	prev := t.rev
	t.mu.Unlock()

	sent, sentWall := s.clock.now(), s.clock.wall()
	rec, err := s.engine.Swap(ctx, t.r.name, prev, t.r.box.encode(&t.own), s.ttl())
	var c *Conflict
	switch {
	case err == nil:
		t.acknowledge(rec.Rev, sent, sentWall)
		return
	case errors.As(err, &c):
		s.stats.conflicts.Add(1)
		t.meet(ctx, c)
		return
	}
	s.stats.engineErrors.Add(1)
	t.retry()
}

// retry schedules the next try of a renewal that was not answered. A whole lease without
// an answer is no loss yet: it may be that no process wants the key.
func (t *tenure[K, V]) retry() {
	s := t.r.s
	now := s.clock.now()
	t.mu.Lock()
	expired := now-t.acked >= s.lease
	t.mu.Unlock()
	if expired && s.strict {
		t.end(ErrLeaseLost)
	}
	t.schedule(now + firstWait)
}

// acknowledge notes that a write has been made which was sent at the given time.
func (t *tenure[K, V]) acknowledge(rev uint64, sent time.Duration, sentWall time.Time) {
	s := t.r.s
	t.mu.Lock()
	margin := t.acked + s.lease - s.clock.now()
	t.rev, t.acked, t.ackedWall = rev, sent, sentWall
	t.mu.Unlock()
	s.stats.renewals.Add(1)
	t.schedule(sent + s.lease/heartbeats) // first, as the Observer may block
	if f := s.observer.Renewed; f != nil {
		f(margin)
	}
}

// meet goes on after a renewal that has met another revision.
func (t *tenure[K, V]) meet(ctx context.Context, c *Conflict) {
	s := t.r.s
	seen := t.r.sighted(c.Record)
	if !seen.read && (seen.rev > 0 || c.Unnamed) {
		rec, err := s.engine.Load(ctx, t.r.name)
		switch {
		case errors.Is(err, ErrAbsent):
			seen = sight{}
		case err != nil || rec.Rev < max(c.Record.Rev, t.revision()):
			t.retry() // a read of an old record
			return
		default:
			seen = t.r.sighted(rec)
		}
	}
	switch what := t.fate(&seen); what {
	case ours:
		t.setRevision(seen.rev) // acked stays, as it is not known which try that was
		t.retry()
	case gone:
		t.mu.Lock()
		if t.holds() { // the engine has lost its data
			t.rev = 0
		} else {
			t.void = true
		}
		t.mu.Unlock()
		t.retry()
	case taken:
		t.mu.Lock()
		t.lost = true
		t.mu.Unlock()
		s.stats.lost.Add(1)
		t.r.part() // a call that comes now must not join fn
		t.end(ErrLeaseLost)
	case dropped:
		t.drop(seen.written())
		t.r.part()
	}
}

// close ends the renewals (L1).
func (t *tenure[K, V]) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.stop != nil {
		t.stop()
	}
	if t.cut != nil {
		t.cut()
	}
}
