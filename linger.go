package coalesce

import (
	"math"
	"time"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the outcomes that linger: values and errors that go on answering
// calls after their flights have finished. When they expire is in expiry.go.
//
//	fn returns       ask     asks LingerFor, and makes the lingerer: without a lock
//	finish           keep    puts it into the index of its shard, in place of an earlier
//	                         one of the key, and makes it answer: under the shard's lock
//	a call           hit     finds it in the index: without a lock
//	Forget, MaxAge   drop    makes it answer no more: under the shard's lock
//	LingerMax, time  (expiry.go) make it answer no more, and take it out of the index
//	                         afterwards: without a shard's lock
//
// Invariants, true whenever no shard's lock is held:
//  L1. A lingerer answers calls if and only if it is in the order (expiry.go) and its
//      time has not come. Each that is in the order is in the index of its shard.
//  L2. There is at most one for each key that answers: that of the last flight of the
//      key to finish while it was registered, if that one was to linger.
//  L3. A lingerer that is in the index but not in the order answers no call. The
//      goroutine that took it out of the order is about to take it out of the index.
//
// An index changes in two ways. A lingerer is put in under the lock of its shard, so
// that a flight that finishes cannot bring back what Forget has dropped. One that is in
// the order no more is taken out, with or without that lock, but only if it is still
// the one that the index has for its key (unindex). Readers take no lock. A call is
// answered at the moment when it sees that the lingerer which it has found answers. If a
// Forget runs at the same time, the call may come first, even if it returns after
// Forget.
//
// Growth. An index has its entries copied when it grows. There is one for each shard, so
// that meanwhile no calls wait but those for keys of that shard. With one index for the
// group, 1,000 keys waited up to a second while two million outcomes began to linger
// (TestG16_GrowthOfTheIndex).
//
// Rejected: the finished flight itself in the index. It would keep its leader's context
// alive, and its record could not be used again.

// Forever lets an outcome linger until it is dropped. It is for [Group.Linger], and for
// the result of [Group.LingerFor].
const Forever time.Duration = math.MaxInt64

// A lingerer is an outcome that lingers, is about to, or has lingered. A reader may have
// it after it was dropped.
type lingerer[K comparable, V any] struct {
	// These never change, so readers need no lock.
	key    K
	hash   uint32 // the low bits of the key's hash
	absent bool   // the map of a DoMulti lacked the key: val is no value of fn's
	val    V
	err    error
	since  int64        // sched.Now just before LingerFor was asked; 0 if end is never
	end    int64        // the time from which on it does not answer; or never
	shard  *shard[K, V] `rest:"stays"`

	answers sched.Bool // it is in the order; changed under the lock of lingerers
	place   int32      // where it is in the order, or -1; guarded by the lock of lingerers
}

// never is the end of a lingerer that does not expire.
const never = int64(Forever)

// A slot is the key of a lingerer in its index. The index takes the hash as it is.
type slot[K comparable] struct {
	key  K
	hash uint32
}

// An index finds the lingerers of a shard.
type index[K comparable, V any] = xsync.MapOf[slot[K], *lingerer[K, V]]

// makeIndex returns the index of s, and makes it for the first lingerer. s.mu must be
// held.
func (s *shard[K, V]) makeIndex() *index[K, V] {
	x := s.outcomes.Load()
	if x == nil {
		x = xsync.NewMapOfWithHasher[slot[K], *lingerer[K, V]](func(at slot[K], _ uint64) uint64 {
			return uint64(at.hash)
		})
		s.outcomes.CompareAndSwap(nil, x)
	}
	return x
}

// indexed returns the lingerer that the index of s has for key, or nil. It may answer no
// more. indexed takes no lock.
func (s *shard[K, V]) indexed(hash uint32, key K) *lingerer[K, V] {
	x := s.outcomes.Load()
	if x == nil {
		return nil
	}
	p, _ := x.Load(slot[K]{key, hash})
	return p
}

// unindex takes p, which is in the order no more, out of its index, unless another has
// taken its place. p may be nil. The lock of its shard may be held, but not that of
// another one: the index may be growing.
func (p *lingerer[K, V]) unindex() {
	if p == nil {
		return
	}
	p.shard.outcomes.Load().Compute(slot[K]{p.key, p.hash}, func(q *lingerer[K, V], _ bool) (*lingerer[K, V], bool) {
		return q, q == nil || q == p
	})
}

// live reports whether p answers a call that asks now. One that seems to come from the
// future was kept by another clock, outside this testing/synctest bubble, and has
// expired. live takes no lock.
func (p *lingerer[K, V]) live() bool {
	if !p.answers.Load() {
		return false
	}
	if p.end == never {
		return true // the clock is not read: it takes longer than all the rest
	}
	now := sched.Now()
	return p.since <= now && now < p.end
}

// hit returns the lingerer that answers a call for key, whose hash is h, or nil. It
// counts the call. There must be a Linger or a LingerFor. hit takes no lock.
func (s *shard[K, V]) hit(h uint64, key K) *lingerer[K, V] {
	p := s.indexed(uint32(h), key)
	if p == nil || !p.live() {
		return nil
	}
	s.group.lingering.hits.Inc()
	return p
}

// ask returns the outcome of f, for keep, or nil if it is not to linger. fn has returned
// v and err; how is absent if a map of fn's lacks the key, and returned otherwise. There
// must be a Linger or a LingerFor.
//
// LingerFor is user code, and part of fn: ask is called by the goroutine that runs fn,
// which takes a panic of LingerFor for one of fn. No lock may be held.
func (s *shard[K, V]) ask(f *flight[K, V], how outcome, v V, err error) *lingerer[K, V] {
	l := s.group.lingering
	var since int64
	var life time.Duration
	switch {
	case l.lingerFor != nil:
		since = sched.Now()
		life = l.lingerFor(v, err)
	case err != nil:
		return nil
	default:
		life = l.linger
	}
	if life <= 0 {
		return nil
	}
	p := &lingerer[K, V]{key: f.key, hash: f.hash, absent: how == absent, val: v, err: err, end: never, shard: s}
	if life == Forever {
		return p
	}
	if since == 0 {
		since = sched.Now()
	}
	if end := since + int64(life); end > since { // else it would be after the end of time
		p.since, p.end = since, end
	}
	return p
}

// keep is a part of finish. It drops the outcome of an earlier flight of f's key, and
// makes p, that of f, linger if it may; p is nil if it is not to. keep does neither if f
// has been forgotten. f must be unfinished, and how is its end. keep returns the outcome:
// kept or keptAbsent if p lingers, and otherwise how. It also returns the lingerer that
// has gone because of LingerMax, or nil, for unindex once the lock is released. s.mu
// must be held.
//
// An outcome does not linger if the flight was abandoned, as fn's context was canceled,
// or if a successor is queued, as a call has asked for something fresher.
func (s *shard[K, V]) keep(f *flight[K, V], how outcome, p *lingerer[K, V]) (outcome, *lingerer[K, V]) {
	if f.detached {
		return how, nil
	}
	if p == nil || s.closed || f.abandoned() || f.queue() != nil || !equal(f.key, f.key) {
		s.drop(f.hash, f.key)
		return how, nil
	}
	// There is an earlier one only if f was led by a DoFresh, or if it has expired.
	old := s.indexed(f.hash, f.key)
	s.makeIndex().Store(slot[K]{p.key, p.hash}, p) // p answers only once it is in the order
	gone := s.group.lingering.begin(p, old)
	if how == absent {
		return keptAbsent, gone
	}
	return kept, gone
}

// drop makes the outcome that lingers for key, if there is one, answer no more, and
// reports whether it would have answered a call: false if it had expired. s.mu must be
// held.
func (s *shard[K, V]) drop(hash uint32, key K) bool {
	p := s.indexed(hash, key)
	if p == nil {
		return false // most flights find none, and need no lock
	}
	lived := s.group.lingering.drop(p)
	p.unindex()
	return lived
}

// result returns the Result of a call that p answers, before its value is cloned.
func (p *lingerer[K, V]) result() Result[V] {
	return Result[V]{Val: p.val, Err: p.err, Shared: true}
}

// clones reports whether a call that p answers gets a clone.
func (p *lingerer[K, V]) clones(clone func(V) V) bool {
	return clone != nil && !p.absent
}

// answer returns the answer of a call that p answers. It panics if Clone does. No lock
// may be held.
func (gs *groupState[K, V]) answer(p *lingerer[K, V]) (v V, shared bool, err error) {
	if p.clones(gs.clone) {
		return mustClone(gs.clone, p.result())
	}
	return p.val, true, p.err
}
