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

// This file holds the shards of a Group: which lock owns which key, and how a
// flight is registered.
//
// Most flights are alone: fn returns before another call comes to the shard. Such
// a flight is not linked into the hash table, and its record stays in the shard
// when it is over, for the next to be alone.
//
// Invariants, true whenever no shard's lock is held:
//  S1. A key has at most one registered flight, in the shard that its hash picks:
//      the lone one, or one in the table. (A key that does not equal itself, NaN,
//      has one for each call.)
//  S2. A registered flight is running, abandoned or promoted, never finished.
//  S3. No user code runs, nothing blocks and no waiter is woken under a shard's
//      lock. No goroutine holds two of them.
//  S4. If alone is set, lone is registered and not in the table; its key and hash are
//      loneKey and loneHash, and its record has them only once it is revealed.
//      Otherwise lone is nil or a record that no goroutine refers to.
//  S5. Once closed is set, no flight is registered or promoted any more.
//
// Why a lone flight: to take a record from a free list, link it and unlink it takes
// 27.3 ns for a Do that takes 25.2 like this, on one goroutine. Between two cores that
// use a shard in turn, a record that is written is one more cache line that travels:
// 25 ns with the key in the record, 19.5 with it in the shard
// (go test -run - -bench Do/key=string .).

const (
	// shardsPerProc is how many shards a group has by default for each P:
	// enough that two of n Ps rarely meet on one lock. On two Ps, calls for a
	// million keys by a skewed distribution took 4 to 8 % longer with eight, and
	// no less with 32 (work=zipf in benchmarks/).
	shardsPerProc = 16

	// shardPadding keeps what one shard writes away from what the next one
	// does. On 64-bit machines it also fills a shard with keys of 16 bytes to 256, a
	// size that the allocator aligns. On two cores, none or 128 bytes more made no
	// difference that the noise would show.
	shardPadding = 32
)

// A groupState is what a Group becomes at its first use: its configuration, copied
// so that it cannot change, and its shards. All but the locks and the counter is read-only.
type groupState[K comparable, V any] struct {
	userHash   func(K) uint64
	clone      func(V) V
	maxWaiters int
	maxAge     time.Duration
	lingering  *successes[K, V] // nil without Linger
	hooks      *hooks[K]        // nil without Hooks

	seed   maphash.Seed
	mix    uint64         // the seed for the results of userHash
	shift  uint           // 64 - log2(len(shards))
	shards []*shard[K, V] // apart, for their alignment
	ended  *xsync.Counter // calls whose context had ended on entry

	records sync.Pool // of *flight[K, V], for takeOwn

	// closing is held while Shutdown closes the shards, whose locks are taken
	// under it.
	closing sched.Mutex
}

// A shard owns the keys whose hashes begin with its index.
type shard[K comparable, V any] struct {
	mu sched.Mutex // guards everything below but group

	// What a Do on its own writes, callLed included, in the cache line of the lock.
	lone     *flight[K, V] // see S4
	alone    bool
	plain    bool // flights may be alone: not closed, and no MaxAge, Linger or Hooks
	closed   bool // by Shutdown, for good
	loneHash uint32
	loneKey  K
	counts   [steps]uint64

	group *groupState[K, V]
	table[K, V]

	events   uint64        // the number of the last; the shard's index modulo the number of shards
	free     *flight[K, V] // records to use again, linked by next
	nfree    int
	detached list[*flight[K, V]] // forgotten flights, which still run or will
	drained  sched.Completion    // made by Shutdown, complete when nothing runs

	_ [shardPadding]byte
}

// newGroupState builds the state of g from its fields.
func newGroupState[K comparable, V any](g *Group[K, V]) *groupState[K, V] {
	for name, n := range map[string]int64{
		"Shards": int64(g.Shards), "MaxWaiters": int64(g.MaxWaiters), "MaxAge": int64(g.MaxAge),
		"Linger": int64(g.Linger), "LingerMax": int64(g.LingerMax),
	} {
		if n < 0 {
			panic("coalesce: Group." + name + " is negative")
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

// each calls look for each shard, under its lock, one after the other.
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

// lookup returns the flight that is registered for key, or nil; a key that does
// not equal itself has none. s.mu must be held.
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

// lead registers a running flight that the caller leads on its own goroutine.
// s.mu must be held, the key must have no flight, and s must not be closed.
func (s *shard[K, V]) lead(h uint64, key K) *flight[K, V] {
	if s.plain && !s.alone {
		return s.leadAlone(h, key)
	}
	f := s.take()
	if s.group.maxAge > 0 {
		f.born = sched.Now()
	}
	s.register(f, h, key)
	s.note(callLed, f, nil)
	return f
}

// register puts f, a new record, into the table as a running flight for key with one
// caller, its leader. s.mu must be held.
func (s *shard[K, V]) register(f *flight[K, V], h uint64, key K) {
	f.callers, f.leading = 1, true
	f.key, f.hash = key, uint32(h)
	s.link(f)
}

// empty reports whether a call can lead a lone flight without looking further: no
// key has a flight, and s is plain. s.mu must be held.
func (s *shard[K, V]) empty() bool {
	return !s.alone && s.count == 0 && s.plain
}

// leadAlone is lead for a lone flight, of which there must be none. It has no hooks,
// and no edge, so there is only the counter to note.
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

// reveal returns the lone flight for a goroutine other than its leader's. s.mu must be
// held.
func (s *shard[K, V]) reveal() *flight[K, V] {
	f := s.lone
	f.key, f.hash, f.known = s.loneKey, s.loneHash, true
	return f
}

// clearLone unregisters the lone flight and keeps its record, which only its leader
// has a pointer to (R1). s.mu must be held.
func (s *shard[K, V]) clearLone() {
	var zero K
	s.alone, s.loneKey = false, zero
}

// unregister takes f out of the table, or lets it be the lone one no longer. s.mu
// must be held.
func (s *shard[K, V]) unregister(f *flight[K, V]) {
	if s.lone == f {
		s.clearLone()
		s.lone = nil
		return
	}
	s.unlink(f)
	f.next = nil // what still refers to f must not keep its neighbor
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
	return s.alone || s.count > 0 || s.detached.first != nil
}
