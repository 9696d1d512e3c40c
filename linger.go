package coalesce

import (
	"hash/maphash"
	"math"
	"time"
	"weak"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the successes that linger: values that go on answering calls after
// their flights have finished.
//
// Invariants, true whenever no lock is held:
//  L1. A success is in the index if and only if it is in the list. There is at most one
//      for each key: that of the last flight of the key to finish while it was
//      registered, if it has one.
//  L2. The list is in the order in which the flights finished. The successes expire in
//      the same order, because all of them linger for the same time.
//  L3. A sweep is due while the list is not empty, unless its successes never expire.
//
// L2 and L3 assume a single clock, but each testing/synctest bubble has one of its own,
// and all of these begin at the same moment. A success that was kept in a bubble has
// expired for calls outside it, but not for calls in a later bubble. A sweep that was
// due in a bubble that is over never runs. keep notices that with the next success.
//
// Successes are kept and dropped under the lock of their key's shard, so that a flight
// that finishes cannot bring back what Forget has dropped. Readers take no lock. A call
// is answered at the moment when it finds the success in the index. If a Forget runs at
// the same time, the call may come first, even if it returns after Forget.
//
// Rejected: the finished flight itself in the index. It would keep its leader's context
// alive, and its record could not be used again.
//
// Rejected: a list for each shard. LingerMax would then be exact only for a shard, and
// there is little to gain: a success is stored once for each execution, which is rare
// beside reads.

// Forever, as [Group.Linger], lets a success linger until it is dropped.
const Forever time.Duration = math.MaxInt64

const (
	// sweepFraction bounds the sweeps: there are at most so many in the time of one
	// Linger, each for all successes that have expired by then. So a success is freed
	// that fraction of Linger after it has expired, at the latest.
	sweepFraction = 16

	// sweepBatch bounds the successes that a sweep removes before it releases the lock
	// for a moment.
	sweepBatch = 256
)

// A success is a value that lingers. key, val and since never change, so readers need
// no lock for them; its links are guarded by the lock of successes.
type success[K comparable, V any] struct {
	key   K
	val   V
	since int64 // sched.Now when its flight finished; 0 if Linger is Forever
	links[*success[K, V]]
}

// successes are those of a group, in an index for reading and in a list for expiry.
type successes[K comparable, V any] struct {
	linger time.Duration
	max    int // LingerMax
	index  *xsync.MapOf[K, *success[K, V]]
	hits   *xsync.Counter // calls that were answered

	// mu guards the fields below, and every change of index. It may be taken under a
	// shard's lock, and no lock may be taken under it.
	mu         sched.Mutex
	list       list[*success[K, V]]
	n          int    // how many are in the list
	evicted    uint64 // how many were dropped before their time, because of LingerMax
	armed, due int64  // when the next sweep was armed, and is due; due is 0 if none is
}

// newSuccesses returns an empty set, or nil if no success is to linger. The index uses
// the default hash with the given seed, even if the group has another Hash.
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

// get returns the success that lingers for key, or nil. One that has expired does not
// count, even if the sweep has not removed it yet. It takes no lock.
func (l *successes[K, V]) get(key K) *success[K, V] {
	p, _ := l.index.Load(key)
	if p == nil || l.linger != Forever && l.remaining(p, sched.Now()) <= 0 {
		return nil
	}
	return p
}

// hit is get for a call that the success, if there is one, answers. It counts the call.
func (l *successes[K, V]) hit(key K) *success[K, V] {
	p := l.get(key)
	if p != nil {
		l.hits.Inc()
	}
	return p
}

// remaining returns the time for which p goes on lingering. It is not positive if p has
// expired. A success that seems to come from the future was kept by another clock,
// outside this testing/synctest bubble, and has expired. It must not be called if linger is Forever.
func (l *successes[K, V]) remaining(p *success[K, V], now int64) time.Duration {
	if now < p.since {
		return 0
	}
	return l.linger - time.Duration(now-p.since)
}

// keep makes val linger for key, which must not have a success. If LingerMax successes
// linger already, the oldest is dropped. The lock of the key's shard must be held.
func (l *successes[K, V]) keep(key K, val V) {
	p := &success[K, V]{key: key, val: val}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.linger != Forever {
		p.since = sched.Now() // under l.mu, so that the list is in this order (L2)
	}
	if l.n == l.max && l.max > 0 {
		if l.linger == Forever || l.remaining(l.list.first, p.since) > 0 {
			l.evicted++ // it had not expired
		}
		l.remove(l.list.first)
	}
	l.index.Store(key, p)
	l.n++
	l.list.push(p)
	// A timer that was armed in a testing/synctest bubble never fires once the bubble
	// is over. So a sweep is lost if it was armed in the future, by another clock, or
	// is late by a whole Linger.
	lost := p.since < l.armed || p.since-l.due > int64(l.linger)
	if l.linger != Forever && (l.due == 0 || lost) {
		l.arm(p.since, l.linger)
	}
}

// drop removes the success of key, if there is one, and reports whether it was still
// lingering: false if it had expired. The lock of the key's shard must be held.
func (l *successes[K, V]) drop(key K) bool {
	if p, _ := l.index.Load(key); p == nil {
		return false // most flights find none, and need not lock
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := l.index.Load(key) // a sweep or LingerMax may have removed it
	if p == nil {
		return false
	}
	lingered := l.linger == Forever || l.remaining(p, sched.Now()) > 0
	l.remove(p)
	return lingered
}

// remove takes p out of the index and out of the list. l.mu must be held.
func (l *successes[K, V]) remove(p *success[K, V]) {
	l.index.Delete(p.key)
	l.n--
	l.list.remove(p)
}

// clear drops all successes. A sweep that is due finds none. l.mu must not be held.
func (l *successes[K, V]) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index.Clear()
	l.list, l.n = list[*success[K, V]]{}, 0
}

// arm starts a timer for a sweep after wait. The timer has only a weak pointer to l, so
// it does not keep an unused group alive. l.mu must be held.
func (l *successes[K, V]) arm(now int64, wait time.Duration) {
	l.armed, l.due = now, now+int64(wait)
	w, due := weak.Make(l), l.due
	sched.After(wait, func() {
		if l := w.Value(); l != nil {
			l.sweep(due)
		}
	})
}

// sweep runs on the goroutine of a timer that was due at the given time. It removes the
// successes that have expired and arms the next sweep if others are left. It does
// nothing if another sweep has been armed in its place. l.mu must not be held.
func (l *successes[K, V]) sweep(due int64) {
	for again := true; again; {
		l.mu.Lock()
		if l.due != due {
			l.mu.Unlock()
			return
		}
		now := sched.Now()
		for range sweepBatch {
			p := l.list.first // the oldest, so the first to expire (L2)
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

// keep is a part of finish. It drops the success of an earlier flight of f's key, and
// makes the value of f linger if it may. It does neither if f has been forgotten. f
// must be unfinished; how, v and err are its end. keep returns the outcome: kept in
// place of returned if v lingers, and otherwise how. s.mu must be held.
//
// A result does not linger if the flight was abandoned, as fn's context was canceled,
// or if a successor is queued, as a call has asked for something fresher.
func (s *shard[K, V]) keep(f *flight[K, V], how outcome, v V, err error) outcome {
	l := s.group.lingering
	if f.detached {
		return how
	}
	l.drop(f.key) // there is one only if f was led by a DoFresh, or if it has expired
	if how != returned || err != nil || s.closed || f.abandoned() || f.queue() != nil || !equal(f.key, f.key) {
		return how
	}
	l.keep(f.key, v)
	return kept
}

// answer returns the answer of a call that p answers: the value of p, or a clone of it,
// and true for shared. It panics if Clone does. No lock may be held.
func (gs *groupState[K, V]) answer(p *success[K, V]) (v V, shared bool, err error) {
	if gs.clone != nil {
		return mustClone(gs.clone, Result[V]{Val: p.val, Shared: true})
	}
	return p.val, true, nil
}
