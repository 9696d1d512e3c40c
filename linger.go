package coalesce

import (
	"hash/maphash"
	"math"
	"time"
	"weak"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the successes that linger: values that go on answering calls
// after their flights have finished.
//
// Invariants, true whenever no lock is held:
//  L1. A success is in the index if and only if it is in the list. A key has at
//      most one, which was put there by the last flight of the key to finish
//      while it was registered.
//  L2. The list is in the order in which the flights finished, which is that in
//      which the successes expire, as they all linger equally long.
//  L3. While the list is not empty and its successes expire, a sweep is due.
//
// L2 and L3 assume one clock. Each testing/synctest bubble has another: a success
// of a bubble's has expired everywhere else, but not in the next bubble, which
// begins at the same moment; and a sweep that was due in a bubble which is over
// is not made before the next success shows that it is lost.
//
// A success is put in and forgotten under the lock of its key's shard, too, so
// that what Forget has dropped cannot come back. Readers take no lock: a call
// is answered at the moment when it finds the success in the index, and a Forget
// that returns later may have come later.
//
// Rejected: the finished flight itself in the index. It would keep its leader's
// context alive, and could not be used again. Rejected, too: a list for each
// shard. LingerMax would then be exact for shards only, and stores, of which
// there is one for each execution, are rare beside reads.

// Forever is a [Group.Linger] that does not end.
const Forever time.Duration = math.MaxInt64

const (
	// sweepFraction is how many times at most a Linger is swept for what has
	// expired: a success is freed, at the latest, that part of a Linger after it
	// has expired.
	sweepFraction = 16

	// sweepBatch bounds the successes that are removed under one hold of the
	// lock.
	sweepBatch = 256
)

// A success is a value that lingers. It never changes; prev and next belong to
// the list.
type success[K comparable, V any] struct {
	key   K
	val   V
	since int64 // sched.Now when its flight finished; 0 if it lingers for ever
	links[*success[K, V]]
}

// successes are those of a group.
type successes[K comparable, V any] struct {
	linger time.Duration
	max    int // LingerMax
	index  *xsync.MapOf[K, *success[K, V]]
	hits   *xsync.Counter // calls that were answered

	mu         sched.Mutex // guards what follows and changes of index; taken under a shard's lock
	list       list[*success[K, V]]
	n          int
	evicted    uint64
	armed, due int64 // when the sweep to come was armed, and when it is due; 0 if none is
}

// newSuccesses returns an empty set, or nil if nothing is to linger.
func newSuccesses[K comparable, V any](g *Group[K, V], seed maphash.Seed) *successes[K, V] {
	if g.Linger == 0 {
		return nil
	}
	return &successes[K, V]{
		linger: g.Linger,
		max:    g.LingerMax,
		index: xsync.NewMapOfWithHasher[K, *success[K, V]](func(key K, _ uint64) uint64 {
			return maphash.Comparable(seed, key)
		}),
		hits: xsync.NewCounter(),
	}
}

// get returns the success that lingers for key, or nil. It takes no lock.
func (l *successes[K, V]) get(key K) *success[K, V] {
	p, _ := l.index.Load(key)
	if p == nil || l.linger != Forever && l.remaining(p, sched.Now()) <= 0 {
		return nil
	}
	return p
}

// hit is get for a call that is answered by what it finds.
func (l *successes[K, V]) hit(key K) *success[K, V] {
	p := l.get(key)
	if p != nil {
		l.hits.Inc()
	}
	return p
}

// remaining returns how long p goes on lingering, not more than 0 if it has
// expired. One that seems to come from the future was put in by another clock,
// that of a testing/synctest bubble, and has expired.
func (l *successes[K, V]) remaining(p *success[K, V], now int64) time.Duration {
	if now < p.since {
		return 0
	}
	return l.linger - time.Duration(now-p.since)
}

// keep makes a value linger for key, for which nothing does. The shard's lock
// must be held.
func (l *successes[K, V]) keep(key K, val V) {
	p := &success[K, V]{key: key, val: val}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.linger != Forever {
		p.since = sched.Now() // under l.mu: the list is in this order
	}
	if l.n == l.max && l.max > 0 {
		if l.linger == Forever || l.remaining(l.list.first, p.since) > 0 {
			l.evicted++ // or it had expired, and the sweep has not come yet
		}
		l.remove(l.list.first)
	}
	l.index.Store(key, p)
	l.n++
	l.list.push(p)
	// A timer that was armed in a testing/synctest bubble never fires once that
	// is over. What has not come by now will not come.
	lost := p.since < l.armed || p.since-l.due > int64(l.linger)
	if l.linger != Forever && (l.due == 0 || lost) {
		l.arm(p.since, l.linger)
	}
}

// drop makes key's success, if there is one, linger no longer, and reports
// whether one did. The shard's lock must be held.
func (l *successes[K, V]) drop(key K) bool {
	if p, _ := l.index.Load(key); p == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := l.index.Load(key) // the sweep does not take the shard's lock
	if p == nil {
		return false
	}
	lingered := l.linger == Forever || l.remaining(p, sched.Now()) > 0
	l.remove(p)
	return lingered
}

// remove takes p out of the index and off the list. l.mu must be held.
func (l *successes[K, V]) remove(p *success[K, V]) {
	l.index.Delete(p.key)
	l.n--
	l.list.remove(p)
}

// clear drops everything.
func (l *successes[K, V]) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index.Clear()
	l.list, l.n = list[*success[K, V]]{}, 0
}

// arm arranges for a sweep. The timer does not keep a group alive that is not
// used any more. l.mu must be held.
func (l *successes[K, V]) arm(now int64, wait time.Duration) {
	l.armed, l.due = now, now+int64(wait)
	w, due := weak.Make(l), l.due
	sched.After(wait, func() {
		if l := w.Value(); l != nil {
			l.sweep(due)
		}
	})
}

// sweep removes what has expired, and arranges for the next sweep if something
// is left. It does nothing if another sweep was armed in place of this one.
func (l *successes[K, V]) sweep(due int64) {
	for again := true; again; {
		l.mu.Lock()
		if l.due != due {
			l.mu.Unlock()
			return
		}
		now := sched.Now()
		for range sweepBatch {
			p := l.list.first
			if p == nil {
				l.due, again = 0, false
				break
			}
			if wait := l.remaining(p, now); wait > 0 {
				l.arm(now, max(wait, l.linger/sweepFraction))
				again = false
				break
			}
			l.remove(p)
		}
		l.mu.Unlock()
	}
}

// keep drops what lingers for the key of f, which is registered and ends as given, and
// makes its value linger if it may. It returns the outcome, kept in place of returned
// if the value does. The shard's lock must be held.
//
// A result does not linger if the flight was abandoned, as fn's context was canceled,
// or if a successor is queued, as a call has asked for something fresher.
func (s *shard[K, V]) keep(f *flight[K, V], how outcome, v V, err error) outcome {
	l := s.group.lingering
	if l == nil || f.detached {
		return how
	}
	l.drop(f.key)
	if how != returned || err != nil || s.closed || f.abandoned() || f.queue() != nil || !equal(f.key, f.key) {
		return how
	}
	l.keep(f.key, v)
	return kept
}

// answer returns what a call gets that is answered by p. No lock may be held.
func (gs *groupState[K, V]) answer(p *success[K, V]) (v V, shared bool, err error) {
	if gs.clone != nil {
		return mustClone(gs.clone, Result[V]{Val: p.val, Shared: true})
	}
	return p.val, true, nil
}
