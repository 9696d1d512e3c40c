package coalesce

import (
	"context"
	"unsafe"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the records of flights: their parts, where they come from, and which
// of them are used again.
//
//	fn runs on           the record is         made by   kept for use again by
//	-------------------  --------------------  --------  ---------------------------
//	its leader's         a flight without a    take      retire, in shard.free or as
//	goroutine            cold part                       shard.lone
//	another goroutine,   a flight and its      takeOwn   giveBack, in shard.freeOwn
//	or may do so         cold part, in one
//	                     allocation
//	that of a batch      a flight with the     take      claim.retire, by retire
//	                     batch's cold part
//
// Invariants:
//  R1. The record of a flight is used again only if known is unset when the
//      flight finishes. In that case its leader keeps it: retire does so in the critical
//      section that finishes the flight, giveBack when the leader has read the result.
//      (The garbage collector gets the record nevertheless if the leader has left, or if
//      R3 leaves no room for it.) All other records go to the garbage collector.
//      So no references are counted, and no pointer leads to a record that has become
//      another flight.
//
//      known is set under the shard's lock, and never reset while the flight lives, by
//        - join, when a second call takes part: its caller keeps a pointer;
//        - extend, when the cold part is asked for: to list a caller, to queue a
//          successor, to seat a waiter beyond the first 128, to forget the flight, or
//          to give it an ID or a story for hooks;
//        - reveal, when a call or Flights looks at a lone flight: the key is in the
//          record from then on (S4), and clearLone would leave it there;
//        - load.share, when a DoMulti leaves a flight that it leads: the caller that is
//          made for it keeps a pointer.
//      Other looks at a flight begin and end under the lock, and keep no pointer.
//
//      The goroutine that runs fn has a pointer, too, and does not set known. It is no
//      danger. Once it has finished the flight and released the lock, it follows that
//      pointer only to log a panic that no blocking call receives, to answer bare
//      receivers, or to find the context for the Finish hook. In the first case the leader
//      has left or is listed, and gives no record back; in the others, known is set. (A
//      batch reads the keys, for its log, before the DoMulti goes on.)
//  R2. The contexts that fn gets are no part of a record, and refer to none. fn's
//      context, and those derived from it, may outlast the flight, its result and its
//      callers. The context of a batch is a part of the batch, which refers to no record.
//  R3. A shard keeps at most maxKept records: lone, and those in free and freeOwn. If it
//      keeps more than one, they have at most maxKeptBytes together. So a group that is
//      idle keeps little, however many shards it has, and however large V is. If records
//      with a cold part and without one do not fit together, it keeps the kind that was
//      used last.
//
// Rejected: a sync.Pool for the records of takeOwn, which giveBack could use without the
// lock. A pool takes 128 bytes for each P, so that the first DoContext of a group would
// allocate 18 KB on 128 of them; and the records that it keeps have no bound. The lock
// costs a DoContext nothing that exceeds the noise (go test -run - -bench DoContext .).
//
// Rejected: the flights of a batch in one array. A pointer to one of them would keep the
// values of all.

const (
	// maxKept bounds the records that a shard keeps for use again. The garbage collector
	// gets the others when a storm is over. With 64, a call of a thousand goroutines takes
	// up to 3 % less time, and with 1 it takes 5 to 15 % more
	// (work=parallel in benchmarks/, with an fn that yields).
	maxKept = 4

	// maxKeptBytes bounds the memory of these records, if they are more than one.
	maxKeptBytes = 512
)

// cold is the part of a flight that most flights do without. takeOwn allocates it
// together with the flight; extend adds it to a flight that starts without it. The
// shard's lock guards its fields as it does those of the flight, with the exceptions
// that the fields name.
type cold[K comparable, V any] struct {
	// ctx is the context for fn, if fn runs on a goroutine other than the leader's. It
	// and shard, the shard of the flight's key, are set by takeOwn before another
	// goroutine knows the flight, and are read without the lock. extend leaves both nil.
	// In a flight of a batch, ctx is the batch's, and shard is nil.
	ctx   *flightContext
	shard *shard[K, V]

	// fn is the function that runOwn runs, from setOwn to setOutcome. It is nil in a
	// flight that has not started, that its leader runs itself or that belongs to a
	// batch: if it is set, finish knows that fn has its own goroutine. runOwn reads it
	// without the lock.
	fn func(context.Context) (V, error)

	// run calls runOwn for this record. spawn makes it the first time, without the lock,
	// as only the leader calls spawn. It stays when the record is used again.
	run func() `rest:"own"`

	// batch is the batch that the flight belongs to, or nil. common is set if this is the
	// cold part that the flights of the batch have in common (M5).
	batch  *batch[K, V]
	common bool

	queue *flight[K, V] // the successor behind this flight, or nil
	timer sched.Timer   // queued, with MaxAge: fires when the flight in front reaches it

	// When the flight finishes, end takes these lists, and they belong to the goroutine
	// that wakes the waiters.
	blocks  list[*block]        // the waiters beyond those on done, 128 to a block
	callers list[*caller[K, V]] // the listed callers, in order of arrival
	bare    *bareReceivers[V]   // the bare receivers, the newest first

	forgotten links[*flight[K, V]] // the neighbors in shard.detached, if forgotten

	// panickers is how many calls are about to panic, after fn has. end sets it, and forgo
	// counts it down. It stays 0 in the flights of a batch, which has such a number itself.
	panickers int32

	nested int    // see flight.nested
	id     uint64 // see I1
	story  *story // the flight's times, for hooks; nil without hooks
}

// An ownFlight is a flight and its cold part in one allocation.
type ownFlight[K comparable, V any] struct {
	flight[K, V]
	part cold[K, V]
}

// take returns a record for a flight that starts on its leader's goroutine, with
// running as its state and that leader as its one caller. The rest is zero, but for
// hash. s.mu must be held.
func (s *shard[K, V]) take() *flight[K, V] {
	f := s.free
	switch {
	case f != nil:
		s.free, f.next = f.next, nil
		s.nfree--
	case s.lone != nil && !s.alone:
		f, s.lone = s.lone, nil
	default:
		f = &flight[K, V]{callers: 1, leading: true}
	}
	return f
}

// takeLone is take for s.lone, which must be nil, and sets that. s.mu must be held.
func (s *shard[K, V]) takeLone() *flight[K, V] {
	f := s.take()
	s.makeRoom()
	s.lone = f
	return f
}

// makeRoom drops the records of takeOwn if there is no room for one of take beside them.
// s.mu must be held.
func (s *shard[K, V]) makeRoom() {
	if !s.hasRoom(unsafe.Sizeof(flight[K, V]{})) {
		s.freeOwn, s.nfreeOwn = nil, 0
	}
}

// retire unregisters f, whose fn has run on its leader's goroutine and which no other
// goroutine knows (R1), and keeps its record. It leaves the record as take returns it:
// callers and leading stay as they are, register overwrites hash, and all other fields
// that are not cleared here have never been set. s.mu must be held.
func (s *shard[K, V]) retire(f *flight[K, V]) {
	if s.lone == f {
		s.clearLone()
		return
	}
	s.unregister(f)
	if s.free == nil && s.lone == nil {
		s.makeRoom()
	}
	if !s.hasRoom(unsafe.Sizeof(*f)) {
		return
	}
	var zero K
	f.key = zero
	f.born = 0
	f.next = s.free
	s.free = f
	s.nfree++
}

// takeOwn returns a record, zero but for its cold part, for a flight that may run on a
// goroutine of its own. The caller must set its key, hash and callers. s.mu must be held.
func (s *shard[K, V]) takeOwn() *flight[K, V] {
	f := s.freeOwn
	if f != nil {
		s.freeOwn, f.next = f.next, nil
		s.nfreeOwn--
	} else {
		o := new(ownFlight[K, V])
		o.cold = &o.part
		f = &o.flight
	}
	f.cold.ctx, f.cold.shard = new(flightContext), s
	return f
}

// giveBack keeps the record of f for takeOwn, unless known is set (R1). f must have
// finished. Any call that stayed to its end may call giveBack when it has read the
// result: if known is unset, the leader is the only one. known does not change once f
// has finished, so giveBack reads it without the lock. The caller must not use f
// afterwards. No lock may be held.
func (f *flight[K, V]) giveBack() {
	if f.known {
		return
	}
	c := f.cold
	s := c.shard
	*c = cold[K, V]{run: c.run}
	*f = flight[K, V]{cold: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := unsafe.Sizeof(ownFlight[K, V]{})
	if s.freeOwn == nil && !s.hasRoom(size) { // as makeRoom, for the other kind
		s.free, s.nfree = nil, 0
		if !s.alone {
			s.lone = nil
		}
	}
	if s.hasRoom(size) {
		f.next = s.freeOwn
		s.freeOwn = f
		s.nfreeOwn++
	}
}

// hasRoom reports whether s may keep one more record, which has the given size (R3).
// s.mu must be held.
func (s *shard[K, V]) hasRoom(size uintptr) bool {
	plain, own := uintptr(s.nfree), uintptr(s.nfreeOwn)
	if s.lone != nil {
		plain++
	}
	if plain+own == 0 {
		return true
	}
	kept := plain*unsafe.Sizeof(flight[K, V]{}) + own*unsafe.Sizeof(ownFlight[K, V]{})
	return plain+own < maxKept && kept+size <= maxKeptBytes
}

// self returns the links of f in the list of forgotten flights.
func (f *flight[K, V]) self() *links[*flight[K, V]] { return &f.cold.forgotten }

// extend sets known, gives f a cold part of its own if it has none, and returns that.
// The shard's lock must be held.
func (f *flight[K, V]) extend() *cold[K, V] {
	f.known = true
	switch c := f.cold; {
	case c == nil:
		f.cold = new(cold[K, V])
	case c.common:
		f.cold = &cold[K, V]{ctx: c.ctx, batch: c.batch}
	}
	return f.cold
}
