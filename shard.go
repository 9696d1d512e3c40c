package coalesce

import (
	"hash/maphash"
	"iter"
	"math"
	"math/bits"
	"runtime"
	"strconv"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the shards of a Group: which lock owns which key, and how a flight is
// registered.
//
//	Group ──▶ groupState        the options; the outcomes that linger (linger.go)
//	          │
//	          ▼
//	          shard, nil, …     the high bits of a key's hash pick one
//
//	shard     mu, the lock
//	├─ lone ──▶ flight                               registered, if alone is set
//	├─ table ── bucket ──▶ flight ──▶ flight         registered; one chain in a bucket
//	├─ detached ─────────▶ flight ◀──▶ flight        forgotten and unfinished
//	├─ free ─────────────▶ flight ──▶ flight         records to use again (record.go)
//	└─ freeOwn ──────────▶ flight                    and those with a cold part
//
//	flight    key, state, result, number of callers
//	├─ done                                          the first 128 waiters
//	└─ cold                                          nil in most flights
//	   ├─ ctx                                        fn's context
//	   ├─ blocks ──▶ block ◀──▶ block                128 more waiters each
//	   ├─ callers ─▶ caller ◀──▶ caller              other receivers, and queued calls
//	   ├─ bare ────▶ bareReceivers ──▶ …             receivers that cannot leave
//	   └─ queue ───▶ flight                          the successor, not registered
//
// A waiter on done or on a block is a blocked call. The flight counts it and has no
// pointer to it. Only the listed callers are found from their flight: to be sent the
// result, or to lead the successor (waiter.go).
//
// A shard is made when a call first comes to one of its keys, and stays. So the cost of a
// group depends on its use, and not on the number of shards that it may make. Code that
// only looks, such as Forget and Stats, makes none, as a shard that has not been made has
// no flight. Shutdown puts one closed shard, the stand-in, into all places that are
// empty: a call that comes to one of them later finds it closed.
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
//  S6. A place in groupState.shards changes once, from nil to its shard or to the
//      stand-in. None is nil once a Shutdown has closed the group.
//
// Locks are taken in this order: closing (shutdown.go), a shard's, a batch's (batch.go) or
// that of lingerers (expiry.go), a context's (context.go). looking (deadlock.go) is taken
// with no lock held, and no other than a context's is taken under it. settling (context.go)
// is taken with no lock held, and none is taken under it. The locks of xsync's buckets come
// last.
//
// The tag rest of a field says which objects it may refer to while no call is under way,
// for a check that nothing is kept (internal/verify/storm/atrest.go).
//
// Why a lone flight: a Do takes 25.2 ns on one goroutine. It takes 27.3 ns if it takes a
// record from the free list, links it and unlinks it. If two cores use a shard in turn,
// a record that is written is one more cache line that moves between them: 25 ns with
// the key in the record, 19.5 ns with the key in the shard
// (go test -run - -bench Do/key=string .).
//
// Rejected: to make the shards in chunks of four. On 64 Ps the first call of a group then
// allocates 4 KB instead of 10; but it takes 1.7 times as long on two Ps, and each later
// call 4 to 11 % longer, as there is one more pointer to follow.
//
// Rejected: to begin with few shards and to add others as the group grows. A shard cannot
// be split while it has flights, so that each form of call would have to be ready to
// begin again in another one.

const (
	// shardsPerProc is the number of shards that a group has by default for each P.
	// With that many, two Ps rarely need the same lock. On two Ps, calls for a million
	// keys with a skewed distribution took 4 to 8 % longer with eight shards, and no
	// less time with 32 (work=zipf in benchmarks/).
	shardsPerProc = 16

	// maxShards bounds Group.Shards. The index of so many shards takes 8 MiB. More would
	// not make a call wait less for a lock, and a number that memory does not suffice for
	// would end the process.
	maxShards = 1 << 20

	// shardPadding keeps the words that one shard writes out of the cache lines of the
	// next one. On 64-bit machines it also makes a shard with keys of 16 bytes 256 bytes
	// long, a size that the allocator aligns. On two cores, no padding and 128 bytes
	// more made no difference that exceeded the noise.
	shardPadding = 8
)

// A groupState is the state of a Group from its first use: a copy of its configuration,
// and its shards. newGroupState sets the configuration, which does not change. The
// places of the shards, the counter and the lingering outcomes can be used without
// another lock.
type groupState[K comparable, V any] struct {
	userHash   func(K) uint64   // Group.Hash; nil for the default
	clone      func(V) V        // nil without Clone
	maxWaiters int              // maxFollowers without MaxWaiters
	maxAge     time.Duration    // 0: no limit
	lingering  *lingerers[K, V] `rest:"stays"` // nil without Linger and LingerFor
	hooks      *hooks[K]        `rest:"stays"` // nil without Hooks

	plain        bool                         // its shards begin plain
	seed         maphash.Seed                 // for maphash.Comparable
	mix          uint64                       // the secret that the results of userHash are mixed with
	shift        uint                         // 64 - log2(len(shards)): leaves the bits that pick a shard
	shards       []sched.SetOnce[shard[K, V]] `rest:"stays"` // see S6; each allocated by itself, for its alignment
	endedOnEntry counter                      // calls whose context had ended on entry

	// closing is held while Shutdown closes the shards. Shards' locks are taken under
	// it, one at a time.
	closing sched.Mutex
}

// A shard owns the keys whose hashes begin with its index.
type shard[K comparable, V any] struct {
	mu sched.Mutex // guards all fields below, except lingerers, and group and standIn, which do not change

	// A Do that leads a lone flight writes only these fields, and of counts only the
	// first, callLed. They share the cache line of the lock, unless keys are long.
	lone     *flight[K, V] `rest:"spare,used"` // see S4
	alone    bool          `rest:"zero"`
	plain    bool          // flights may be alone: no MaxAge, Linger or Hooks, and not closed
	closed   bool          // by Shutdown; never reset
	standIn  bool          // Shutdown's, for all shards that had not been made; it has no flight
	loneHash uint32
	loneKey  K
	counts   [steps]uint64 // how often each step was taken

	group    *groupState[K, V]          `rest:"stays"`
	outcomes sched.SetOnce[index[K, V]] `rest:"stays"` // the lingering outcomes; made by makeIndex, under mu
	table[K, V]

	// events is the last number that an event or a flight got. It grows by the number of
	// shards and begins with the shard's index, so that no two shards use the same.
	events   uint64
	free     *flight[K, V]       `rest:"spare,used,next"` // records to use again without a cold part, linked by next
	freeOwn  *flight[K, V]       `rest:"spare,own,next"`  // and those with one
	nfree    uint8               // how many are in free (R3)
	nfreeOwn uint8               // how many are in freeOwn
	detached list[*flight[K, V]] // forgotten flights that have not finished
	drained  sched.Completion    // made by Shutdown; complete when nothing runs

	_ [shardPadding]byte
}

// checkField panics if n, the number in a field of Group, is negative or exceeds a limit.
func checkField(name string, n, limit int64) {
	if n >= 0 && n <= limit {
		return
	}
	text := "coalesce: Group." + name + " is " + strconv.FormatInt(n, 10)
	if n < 0 {
		panic(text + ", and must not be negative")
	}
	panic(text + ", and the limit is " + strconv.FormatInt(limit, 10))
}

// newGroupState returns the state of g, which its exported fields configure. It panics
// if one of them is a number that cannot be served.
func newGroupState[K comparable, V any](g *Group[K, V]) *groupState[K, V] {
	// A limit is that of the memory or of the counters, where there is one before the
	// greatest number of the field's type. LingerMax and the durations have none: nothing is
	// allocated for them, and no sum with a time overflows.
	checkField("Shards", int64(g.Shards), maxShards)
	checkField("MaxWaiters", int64(g.MaxWaiters), maxFollowers)
	checkField("MaxAge", int64(g.MaxAge), math.MaxInt64)
	checkField("Linger", int64(g.Linger), math.MaxInt64)
	checkField("LingerMax", int64(g.LingerMax), math.MaxInt64)
	nshards := g.Shards
	if nshards == 0 {
		nshards = min(shardsPerProc*runtime.GOMAXPROCS(0), maxShards)
	}
	maxWaiters := g.MaxWaiters
	if maxWaiters == 0 {
		maxWaiters = maxFollowers
	}
	log := bits.Len(uint(nshards - 1))
	gs := &groupState[K, V]{
		userHash:   g.Hash,
		clone:      g.Clone,
		maxWaiters: maxWaiters,
		maxAge:     g.MaxAge,
		hooks:      newHooks(g.Hooks),
		seed:       maphash.MakeSeed(),
		shift:      uint(64 - log),
		shards:     make([]sched.SetOnce[shard[K, V]], 1<<log),
	}
	if g.Hash != nil {
		gs.mix = sched.Random()
	}
	gs.lingering = newLingerers(g)
	gs.plain = g.MaxAge == 0 && gs.lingering == nil && gs.hooks == nil
	return gs
}

// shard returns the shard that owns the keys with hash h. It makes the shard if that is
// the first call for one of them.
func (gs *groupState[K, V]) shard(h uint64) *shard[K, V] {
	s := gs.made(h)
	if s == nil {
		s = gs.makeShard(h)
	}
	return s
}

// made returns the shard that owns the keys with hash h, or nil if it has not been made:
// then none of these keys has a flight, or an outcome that lingers.
func (gs *groupState[K, V]) made(h uint64) *shard[K, V] {
	return gs.shards[h>>gs.shift].Load()
}

// makeShard is shard for a shard that has not been made. It is a separate function to
// keep its callers short.
//
//go:noinline
func (gs *groupState[K, V]) makeShard(h uint64) *shard[K, V] {
	i := h >> gs.shift
	s := &shard[K, V]{group: gs, plain: gs.plain, events: i}
	if !gs.shards[i].CompareAndSwap(nil, s) {
		s = gs.shards[i].Load() // another call, or Shutdown, was first
	}
	return s
}

// closeUnmade puts the stand-in, which is closed, into the places of all shards that have
// not been made. closing must be held.
func (gs *groupState[K, V]) closeUnmade() {
	var s *shard[K, V] // made once, as a second Shutdown finds no empty place
	for i := range gs.shards {
		if gs.shards[i].Load() != nil {
			continue
		}
		if s == nil {
			s = &shard[K, V]{group: gs, standIn: true, closed: true}
		}
		gs.shards[i].CompareAndSwap(nil, s)
	}
}

// all iterates over the shards that have been made. The stand-in comes once.
func (gs *groupState[K, V]) all() iter.Seq[*shard[K, V]] {
	return func(yield func(*shard[K, V]) bool) {
		stoodIn := false
		for i := range gs.shards {
			s := gs.shards[i].Load()
			if s == nil || s.standIn && stoodIn {
				continue
			}
			stoodIn = stoodIn || s.standIn
			if !yield(s) {
				return
			}
		}
	}
}

// each calls look for each shard that has been made, with that shard's lock held. No
// shard's lock may be held.
func (gs *groupState[K, V]) each(look func(*shard[K, V])) {
	for s := range gs.all() {
		s.mu.Lock()
		look(s)
		s.mu.Unlock()
	}
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
		f = s.takeLone()
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
