package fleet

import (
	"context"
	"errors"
	"time"
)

// This file holds the operations of a run on its record, and how a run finds out what has
// become of a swap that was not answered.
//
// Such a swap may have been made, or may be made later. Each record that a process writes
// for a lease has the nonce of that attempt, so the next swap of the run, which meets the
// record, knows it as its own and goes on from its revision.

// A try is one to swap a lease in. If it was not answered, its nonce tells whether it was
// made.
type try struct {
	nonce nonce
	prev  uint64 // the revision that it was for
	sent  time.Duration
	wall  time.Time // when it was sent, too
}

// swapped is what came of a swap.
type swapped struct {
	sight
	mine bool // the record, of revision rev, is the one that was swapped in
}

// swap swaps val, of the given nonce, for the revision prev. It finds out what became of
// tries that were not answered, as their records have the nonce. It returns the error of
// budget.do.
func (r *run[K, V]) swap(ctx context.Context, prev uint64, val []byte, ttl time.Duration, own nonce) (got swapped, err error) {
	return r.swapWith(&r.budget, ctx, false, prev, val, ttl, own)
}

func (r *run[K, V]) swapWith(b *budget, ctx context.Context, must bool, prev uint64, val []byte, ttl time.Duration, own nonce) (got swapped, err error) {
	var rec Record
	err = b.do(ctx, must, func(ctx context.Context) (err error) {
		if prev == 0 && r.tenure != nil && !r.tenure.mayWrite() {
			return errTooLate
		}
		rec, err = r.s.engine.Swap(ctx, r.name, prev, val, ttl)
		return err
	})
	var c *Conflict
	switch {
	case err == nil:
		return swapped{sight{rev: rec.Rev, at: r.s.clock.now()}, true}, nil
	case !errors.As(err, &c):
		return swapped{}, err
	}
	seen := r.sighted(c.Record)
	if c.Unnamed || seen.rev > 0 && !seen.read && (b.failed != nil || r.tenure != nil) {
		// It may be a try of this swap, or a renewal, that was made and not answered.
		if seen, err = r.find(b, ctx, max(seen.rev, prev+1)); err != nil {
			return swapped{}, err
		}
		seen.maybe = c.Unnamed
	}
	if seen.read && seen.rec.nonce == own && seen.rec.kind != unreadable {
		return swapped{seen, true}, nil
	}
	return swapped{seen, false}, nil
}

// find reads until it finds a revision that is not below the given one, which is known to
// have been written, or finds several times that there is no record, as it may have
// expired. The time between reads that find an older record counts as one in which the
// engine does not answer.
func (r *run[K, V]) find(b *budget, ctx context.Context, rev uint64) (seen sight, err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, mostWait) {
		seen, err = r.load(b, ctx)
		switch {
		case err != nil || seen.rev >= rev:
			return seen, err
		case wait >= 100*time.Millisecond && seen.rev == 0:
			return seen, nil
		case wait >= 100*time.Millisecond && b.left <= 0:
			return seen, &spentError{errStale}
		}
		if err = pause(ctx, r.s.clock, wait); err != nil {
			return seen, err
		}
		if seen.rev > 0 {
			b.spend(wait)
		}
	}
}

var errStale = errors.New("it returns old records")

// load reads the record, which may be an old one.
func (r *run[K, V]) load(b *budget, ctx context.Context) (sight, error) {
	var rec Record
	err := b.do(ctx, false, func(ctx context.Context) (err error) {
		rec, err = r.s.engine.Load(ctx, r.name)
		return err
	})
	if errors.Is(err, ErrAbsent) {
		return sight{at: r.s.clock.now()}, nil
	}
	if err != nil {
		return sight{}, err
	}
	return r.sighted(rec), nil
}

// sighted returns the sight of a record that has just been received.
func (r *run[K, V]) sighted(rec Record) sight {
	seen := sight{rev: rec.Rev, age: rec.Age, at: r.s.clock.now()}
	if rec.Val != nil {
		seen.read = true
		var err error
		if seen.rec, err = r.box.decode(rec.Val, rec.Rev); err != nil {
			r.s.stats.notOpened.Add(1)
			seen.rec = record{kind: unreadable, token: rec.Rev}
		}
	}
	return seen
}
