package coalesce

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync"
	"time"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the shards of a Group: which lock owns which key, and how a flight is
// registered.
//
//	Group ──▶ groupState        the options; a pool of records (record.go);
//	          │                 the successes that linger (linger.go)
//	          ▼
//	          shard, shard, …   the high bits of a key's hash pick one
//
//	shard     mu, the lock
//	├─ lone ──▶ flight                               registered, if alone is set
//	├─ table ── bucket ──▶ flight ──▶ flight         registered; one chain in a bucket
//	├─ detached ─────────▶ flight ◀──▶ flight        forgotten and unfinished
//	└─ free ─────────────▶ flight ──▶ flight         records to use again
//
//	flight    key, state, result, number of callers
//	├─ done                                          the first 128 waiters
//	└─ cold                                          nil in most flights
//	   ├─ ctx                                        fn's context
//	   ├─ blocks ──▶ block ◀──▶ block                128 more waiters each
//	   ├─ callers ─▶ caller ◀──▶ caller              receivers, and calls that are queued
//	   └─ queue ───▶ flight                          the successor, not registered
//
// A waiter on done or on a block is a blocked call. The flight counts it and has no
// pointer to it. Only the listed callers are found from their flight: to be sent the
// result, or to lead the successor (waiter.go).
//
// Most flights are alone in their shard: fn returns before another call comes to it.
// Such a flight is not linked into the table, and its record stays in the shard when
// the flight has finished, for the next lone flight.
//
// Invariants, true whenever no shard's lock is held:
//  S1. A key has at most one registered flight: the lone one, or one in the table, of
//      the shard that the key's hash picks. (A key that does not equal itself, such as
//      NaN, has one for each call.)
//  S2. A registered flight is running, which includes abandoned, or promoted. It is
//      never queued or finished.
//  S3. Under a shard's lock no user code runs, no waiter is woken, and a goroutine waits
//      for nothing but the locks below. No goroutine holds the locks of two shards.
//  S4. If alone is set, lone is registered, and not in the table. Its key and the low
//      bits of its hash are loneKey and loneHash, and are in the record only if the
//      flight has been revealed. If alone is not set, lone is nil, or a record that no
//      goroutine uses.
//  S5. Once closed is set, all flights of the shard are running: none is queued or
//      promoted, and no other is registered.
//
// Locks are taken in this order: closing (shutdown.go) or graph (deadlock.go), a shard's,
// a batch's (batch.go) or that of the successes (linger.go), a context's (context.go).
//
// Why a lone flight: a Do takes 25.2 ns on one goroutine. It takes 27.3 ns if it takes a
// record from the free list, links it and unlinks it. If two cores use a shard in turn,
// a record that is written is one more cache line that moves between them: 25 ns with
// the key in the record, 19.5 ns with the key in the shard
// (go test -run - -bench Do/key=string .).

const (
	// shardsPerProc is the number of shards that a group has by default for each P.
	// With that many, two Ps rarely need the same lock. On two Ps, calls for a million
	// keys with a skewed distribution took 4 to 8 % longer with eight shards, and no
	// less time with 32 (work=zipf in benchmarks/).
	shardsPerProc = 16

	// shardPadding keeps the words that one shard writes out of the cache lines of the
	// next one. On 64-bit machines it also makes a shard with keys of 16 bytes 256 bytes
	// long, a size that the allocator aligns. On two cores, no padding and 128 bytes
	// more made no difference that exceeded the noise.
	shardPadding = 32
)

// A groupState is the state of a Group from its first use: a copy of its configuration,
// and its shards. newGroupState sets the configuration, which does not change. The counter,
// the pool and the lingering successes can be used without another lock.
type groupState[K comparable, V any] struct {
	userHash   func(K) uint64   // Group.Hash; nil for the default
	clone      func(V) V        // nil without Clone
	maxWaiters int              // 0: no bound
	maxAge     time.Duration    // 0: no limit
	lingering  *successes[K, V] // nil without Linger
	hooks      *hooks[K]        // nil without Hooks

	seed   maphash.Seed   // for maphash.Comparable
	mix    uint64         // the secret that the results of userHash are mixed with
	shift  uint           // 64 - log2(len(shards)): leaves the bits that pick a shard
	shards []*shard[K, V] // each allocated by itself, for its alignment
	ended  *xsync.Counter // calls whose context had ended on entry

	records sync.Pool // of *flight[K, V], for takeOwn

	// closing is held while Shutdown closes the shards. Shards' locks are taken under
	// it, one at a time.
	closing sched.Mutex
}

// A shard owns the keys whose hashes begin with its index.
type shard[K comparable, V any] struct {
	mu sched.Mutex // guards all fields below, except group, which does not change

	// A Do that leads a lone flight writes only these fields, and of counts only the
	// first, callLed. They share the cache line of the lock, unless keys are long.
	lone     *flight[K, V] // see S4
	alone    bool
	plain    bool // flights may be alone: no MaxAge, Linger or Hooks, and not closed
	closed   bool // by Shutdown; never reset
	loneHash uint32
	loneKey  K
	counts   [steps]uint64 // how often each step was taken

	group *groupState[K, V]
	table[K, V]

	// events is the last number that an event or a flight got. It grows by the number of
	// shards and begins with the shard's index, so that no two shards use the same.
	events   uint64
	free     *flight[K, V]       // records to use again, linked by next
	nfree    int                 // how many, at most freeFlights
	detached list[*flight[K, V]] // forgotten flights that have not finished
	drained  sched.Completion    // made by Shutdown; complete when nothing runs

	_ [shardPadding]byte
}

// newGroupState returns the state of g, which its exported fields configure. It panics
// if one of them is a negative number.
func newGroupState[K comparable, V any](g *Group[K, V]) *groupState[K, V] {
	names := [...]string{"Shards", "MaxWaiters", "MaxAge", "Linger", "LingerMax"}
	for i, n := range [...]int64{int64(g.Shards), int64(g.MaxWaiters), int64(g.MaxAge), int64(g.Linger), int64(g.LingerMax)} {
		if n < 0 {
			panic("coalesce: Group." + names[i] + " is negative")
		}
	}
	nshards := g.Shards
	if nshards == 0 {
		nshards = shardsPerProc * runtime.GOMAXPROCS(0)
	}
	log := bits.Len(uint(nshards - 1))
	gs := &groupState[K, V]{
		userHash:   g.Hash,
		clone:      g.Clone,
		maxWaiters: g.MaxWaiters,
		maxAge:     g.MaxAge,
		hooks:      newHooks(g.Hooks),
		seed:       maphash.MakeSeed(),
		mix:        sched.Random(),
		shift:      uint(64 - log),
		shards:     make([]*shard[K, V], 1<<log),
		ended:      xsync.NewCounter(),
	}
	gs.lingering = newSuccesses(g, gs.seed)
	plain := g.MaxAge == 0 && g.Linger == 0 && gs.hooks == nil
	for i := range gs.shards {
		gs.shards[i] = &shard[K, V]{group: gs, plain: plain, events: uint64(i)}
	}
	return gs
}

// each calls look for each shard in turn, with that shard's lock held. No shard's lock
// may be held.
func (gs *groupState[K, V]) each(look func(*shard[K, V])) {
	for _, s := range gs.shards {
		s.mu.Lock()
		look(s)
		s.mu.Unlock()
	}
}

// shard returns the shard that owns the keys with hash h.
func (gs *groupState[K, V]) shard(h uint64) *shard[K, V] {
	return gs.shards[h>>gs.shift]
}

// lookup returns the flight that is registered for key, or nil. It returns nil for a key
// that does not equal itself. It reveals the lone flight if that is the one. s.mu must
// be held.
func (s *shard[K, V]) lookup(h uint64, key K, reflexive bool) *flight[K, V] {
	switch {
	case !reflexive:
		return nil
	case s.alone && s.loneHash == uint32(h) && s.loneKey == key:
		return s.reveal()
	case s.count == 0:
		return nil
	}
	return s.find(h, key)
}

// lead registers, for key, a running flight that the caller leads on its own goroutine,
// and returns it. s.mu must be held, the key must have no flight, and s must not be
// closed.
func (s *shard[K, V]) lead(h uint64, key K) *flight[K, V] {
	if s.plain && !s.alone {
		return s.leadAlone(h, key)
	}
	f := s.take()
	if s.group.maxAge > 0 {
		f.born = sched.Now()
	}
	s.register(f, h, key)
	s.counts[callLed]++ // as note would: there is no edge
	if s.group.hooks != nil {
		s.enroll(f)
	}
	return f
}

// register puts f, which take or takeOwn has returned, into the table as a running
// flight for key with one caller, its leader. s.mu must be held.
func (s *shard[K, V]) register(f *flight[K, V], h uint64, key K) {
	f.callers, f.leading = 1, true
	f.key, f.hash = key, uint32(h)
	s.link(f)
}

// empty reports whether s is plain and no key has a flight in it. A call for any of its
// keys then leads a lone flight, with no further questions. s.mu must be held.
func (s *shard[K, V]) empty() bool {
	return !s.alone && s.count == 0 && s.plain
}

// leadAlone is lead for a lone flight. s must be plain and have no lone flight. It does
// not call note: a plain shard has no hooks, and no edge leads to a flight without a
// context, so that only the counter is left. The key stays in the shard, whose cache
// line is written anyway. s.mu must be held.
func (s *shard[K, V]) leadAlone(h uint64, key K) *flight[K, V] {
	s.counts[callLed]++
	f := s.lone
	if f == nil {
		f = s.take()
		s.lone = f
	}
	s.alone, s.loneHash, s.loneKey = true, uint32(h), key
	return f
}

// reveal returns the lone flight to a goroutine other than its leader's. It gives the
// record its key and hash, and sets known, so that the record, with these in it, is not
// used again (R1). There must be a lone flight, and s.mu must be held.
func (s *shard[K, V]) reveal() *flight[K, V] {
	f := s.lone
	f.key, f.hash, f.known = s.loneKey, s.loneHash, true
	return f
}

// clearLone unregisters the lone flight and leaves its record in s.lone, for the next
// lone flight. If other goroutines know the record, the caller must clear s.lone, too
// (R1). s.mu must be held.
func (s *shard[K, V]) clearLone() {
	var zero K
	s.alone, s.loneKey = false, zero
}

// unregister takes f, which is registered, out of the table, or out of s.lone. Its
// record is not used again, unless retire keeps it. s.mu must be held.
func (s *shard[K, V]) unregister(f *flight[K, V]) {
	if s.lone == f {
		s.clearLone()
		s.lone = nil
		return
	}
	s.unlink(f)
	f.next = nil // a caller that still refers to f must not keep f's neighbor
}

// idle returns the completion that a Shutdown waits on, if the last flight of s has just
// been removed, and nil otherwise. The caller must close the completion once it has
// released s.mu. It is returned only once, as a closed shard registers no flight. s.mu
// must be held.
func (s *shard[K, V]) idle() sched.Completion {
	if s.drained == nil || s.busy() {
		return nil
	}
	return s.drained
}

// busy reports whether s has an unfinished flight. Those that are queued need no look:
// each is behind a registered one (Q1). s.mu must be held.
func (s *shard[K, V]) busy() bool {
	return s.alone || s.count > 0 || s.detached.first != nil
}
