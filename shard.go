package coalesce

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"unsafe"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the shards of a Group: which lock owns which key, and the
// hash table in each shard.
//
// Invariants, true whenever no shard's lock is held:
//  S1. A key has at most one registered flight, in the shard its hash picks.
//      (A key that does not equal itself, NaN, has one for each call.)
//  S2. A registered flight is running, abandoned or promoted, never finished.
//  S3. No user code runs, nothing blocks and nobody is woken under a lock. No
//      goroutine holds two shards' locks.
//  S4. The table has at least one bucket for each registered flight, unless
//      it is empty, and the flight with hash h is in bucket index(h).
//  S5. Once closed is set, no flight is registered or promoted any more.

const (
	// firstBuckets is how many buckets a shard starts with. keptBuckets is the
	// size below which the table does not shrink, so that a group with a
	// steady load allocates nothing: 512 bytes on 64-bit machines. Both are
	// powers of two.
	firstBuckets = 8
	keptBuckets  = 64

	// freeFlights bounds a shard's list of free flights. A storm's records go
	// to the garbage collector when it is over.
	freeFlights = 64

	// shardsPerProc is how many shards a group has by default for each P:
	// enough that two of n Ps rarely meet on one lock.
	shardsPerProc = 8

	// shardSize is a multiple of 128: two cache lines, because adjacent ones
	// are fetched together.
	shardSize = 256
)

// A table is what a Group becomes at its first use: its configuration, copied
// so that it cannot change, and its shards. All but the shards is read-only.
type table[K comparable, V any] struct {
	seed     maphash.Seed
	mix      uint64 // the seed for userHash's results
	userHash func(K) uint64
	clone    func(V) V
	shift    uint // 64 - log2(len(shards))
	shards   []shard[K, V]
	ended    *xsync.Counter // calls whose context had ended on entry
}

// A shard owns the keys whose hashes begin with its index.
//
// mu is first, and what else a Do on its own touches follows it in the same
// cache line: between two cores that use a shard in turn, each line has to
// travel. The padding is last, and longer than 8 bytes: the allocator may place
// a slice of shards 8 bytes past a line's beginning.
type shard[K comparable, V any] struct {
	shardState[K, V]
	_ [shardSize - unsafe.Sizeof(shardState[int, int]{})%shardSize]byte
}

type shardState[K comparable, V any] struct {
	mu sched.Mutex // guards everything below but table

	buckets []*flight[K, V] // chains; see index
	mask    uint32          // the least 2ⁿ-1 that is ≥ len(buckets)-1
	count   int32           // registered flights
	free    *flight[K, V]   // flights to use again, linked by next
	led     uint64
	nfree   int32
	closed  bool // by Shutdown, for good

	// Not touched by a Do on its own.
	joined   uint64
	table    *table[K, V]     // set at birth, never changed
	detached list[K, V]       // forgotten flights, which still run or will
	drained  sched.Completion // made by Shutdown, complete when nothing runs
	rare     rareCounts
}

// newTable builds the table of a group with the given configuration.
func newTable[K comparable, V any](nshards int, hash func(K) uint64, clone func(V) V) *table[K, V] {
	if nshards < 0 {
		panic("coalesce: Group.Shards is negative")
	}
	if nshards == 0 {
		nshards = shardsPerProc * runtime.GOMAXPROCS(0)
	}
	log := bits.Len(uint(nshards - 1))
	t := &table[K, V]{
		seed:     maphash.MakeSeed(),
		mix:      rand.Uint64(),
		userHash: hash,
		clone:    clone,
		shift:    uint(64 - log),
		shards:   make([]shard[K, V], 1<<log),
		ended:    xsync.NewCounter(),
	}
	for i := range t.shards {
		t.shards[i].table = t
	}
	return t
}

// shard returns the shard that owns the keys with hash h.
func (t *table[K, V]) shard(h uint64) *shard[K, V] {
	return &t.shards[h>>t.shift]
}

// find returns the flight that is registered for key, or nil; a key that does
// not equal itself has none. s.mu must be held.
func (s *shard[K, V]) find(h uint64, key K, reflexive bool) *flight[K, V] {
	if s.count == 0 || !reflexive {
		return nil
	}
	for f := s.buckets[s.index(uint32(h))]; f != nil; f = f.next {
		if f.hash == uint32(h) && f.key == key {
			return f
		}
	}
	return nil
}

// lead registers a running flight that the caller leads. s.mu must be held,
// the key must have no flight, and s must not be closed.
func (s *shard[K, V]) lead(h uint64, key K) *flight[K, V] {
	f := s.free
	if f == nil {
		f = &flight[K, V]{callers: 1, leading: true}
	} else {
		s.free = f.next
		s.nfree--
	}
	f.key, f.hash = key, uint32(h)
	s.led++
	s.link(f)
	return f
}

// leadOwn is lead for a flight that will run on a goroutine of its own.
func (s *shard[K, V]) leadOwn(h uint64, key K) *flight[K, V] {
	o := new(ownFlight[K, V])
	f := &o.flight
	f.more, f.known = &o.rest, true
	f.born = sched.Now()
	f.callers, f.leading = 1, true
	f.key, f.hash = key, uint32(h)
	s.led++
	s.link(f)
	return f
}

// retire unregisters f, which nobody but its leader knows of (F4), and keeps
// it for the next lead as that finds it: callers and leading stay, and nothing
// else was ever set. s.mu must be held.
func (s *shard[K, V]) retire(f *flight[K, V]) {
	s.unlink(f)
	if s.nfree == freeFlights {
		return
	}
	var zero K
	f.key = zero
	f.next = s.free
	s.free = f
	s.nfree++
}

// idle returns the completion that Shutdown waits on if it is due now, which
// it is once only. s.mu must be held, and the completion closed after it is
// released.
func (s *shard[K, V]) idle() sched.Completion {
	if s.drained == nil || s.busy() {
		return nil
	}
	return s.drained
}

// busy reports whether a flight is unfinished. s.mu must be held.
func (s *shard[K, V]) busy() bool {
	return s.count > 0 || s.detached.first != nil
}

// The table is a linear hash (W. Litwin, "Linear hashing: a new tool for file
// and table addressing", VLDB 1980): it grows and shrinks by one bucket at a
// time, so that no call pays for rehashing a million flights under the lock.

// index returns the bucket for hash h. There must be buckets.
func (s *shard[K, V]) index(h uint32) uint32 {
	i := h & s.mask
	if i >= uint32(len(s.buckets)) {
		i &= s.mask >> 1 // not split yet
	}
	return i
}

// link puts f in its bucket. s.mu must be held.
func (s *shard[K, V]) link(f *flight[K, V]) {
	if int(s.count) == len(s.buckets) {
		s.grow()
	}
	b := &s.buckets[s.index(f.hash)]
	f.next = *b
	*b = f
	s.count++
}

// unlink takes f out of its bucket, by identity: a key that does not equal
// itself can be removed too. It leaves f.next to the caller. s.mu must be held.
func (s *shard[K, V]) unlink(f *flight[K, V]) {
	p := &s.buckets[s.index(f.hash)]
	for *p != f {
		p = &(*p).next
	}
	*p = f.next
	s.count--
	if len(s.buckets) > keptBuckets && len(s.buckets) > 4*int(s.count) {
		s.shrink()
	}
}

// grow adds a bucket and moves to it what belongs there from the one that it
// splits. s.mu must be held.
func (s *shard[K, V]) grow() {
	n := uint32(len(s.buckets))
	if n == 0 {
		s.buckets = make([]*flight[K, V], firstBuckets)
		s.mask = firstBuckets - 1
		return
	}
	s.buckets = append(s.buckets, nil)
	if n > s.mask {
		s.mask = s.mask<<1 | 1
	}
	to := &s.buckets[n]
	for p := &s.buckets[n&(s.mask>>1)]; *p != nil; {
		if f := *p; f.hash&s.mask == n {
			*p = f.next
			f.next = *to
			*to = f
		} else {
			p = &f.next
		}
	}
}

// shrink merges a few buckets into those that they were split from: several
// for each flight that leaves, so that an emptying table is small when it is
// empty. s.mu must be held.
func (s *shard[K, V]) shrink() {
	for range 8 {
		n := len(s.buckets) - 1
		if n < keptBuckets {
			break
		}
		p := &s.buckets[uint32(n)&(s.mask>>1)]
		for *p != nil {
			p = &(*p).next
		}
		*p = s.buckets[n]
		s.buckets[n] = nil
		s.buckets = s.buckets[:n]
		if uint32(n) == s.mask>>1+1 {
			s.mask >>= 1
		}
	}
	if cap(s.buckets) > 4*len(s.buckets) {
		s.buckets = append(make([]*flight[K, V], 0, 2*len(s.buckets)), s.buckets...)
	}
}
