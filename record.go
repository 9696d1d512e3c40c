package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the records of flights: what they are made of, where they come
// from, and which are used again.
//
// A record is used again if nobody can have a pointer to it any more but who gives
// it back, and nobody needs what it holds (F4, R1). All others are left to the
// garbage collector. So nothing has to be counted, and no pointer can meet a
// record that means another flight by now.
//
// Invariants:
//  R1. Who leads a flight that has run on a goroutine of its own, or in a batch, and
//      has taken its result, is the last to follow a pointer to it, unless another
//      call joined it or it has its extra part: whoever else keeps a pointer to a
//      record has left a mark of that in one of the two. The goroutine that ran fn
//      has one for longer, and does not follow it once it has told of the end.
//  R2. What a context refers to is not a record: fn's context, and with it all
//      that is derived from it, may outlast the flight, its result and its callers.
//      The context of a batch is part of that, which refers to no record once
//      they have finished.
//
// Rejected: the free lists of the shards for these records, too. Who gives one
// back does not hold the shard's lock, and would have to take it once more for
// each flight. The price of a sync.Pool is that it is not deterministic; but where
// a record comes from changes no order that the explorer could see.
//
// Rejected: the flights of a batch in one array. Whoever has to do with one of them
// would keep the values of all.

// freeFlights bounds a shard's list of free flights. A storm's records go
// to the garbage collector when it is over. With 16 or 256, the workloads
// parallel, hot and zipf of benchmarks/ took within 3 % of what they take.
const freeFlights = 64

// cold is the part of a flight that most do without. It is allocated together with a
// flight that may run on a goroutine other than its leader's, or in a batch, and
// added to another when it is first asked for. Like the flight's own fields, these
// are guarded by the shard's lock, but for ctx, shard and batch, which are set before
// any other goroutine knows of the flight.
type cold[K comparable, V any] struct {
	ctx   *flightContext // what fn gets, or would get; nil if it runs on its leader's goroutine
	shard *shard[K, V]   // nil if ctx is

	// What the flight's own goroutine runs, nil until that is about to start.
	fn  func(context.Context) (V, error)
	run func() // that goroutine; nil until it is needed, then for good

	batch *batch[K, V] // whose fn runs for this flight, with others; or nil

	queue  *flight[K, V] // the successor behind this flight
	timer  sched.Timer   // queued: promotes this one when the one before reaches MaxAge
	before *flight[K, V] // queued: the flight that this one is queued behind

	blocks  list[*block]        // waiters beyond those on done
	callers list[*caller[K, V]] // those listed, in order of arrival

	forgotten links[*flight[K, V]] // in the list of those

	story *story // what hooks keep of the flight; nil without hooks
}

// An ownFlight is a flight and its cold part in one allocation.
type ownFlight[K comparable, V any] struct {
	flight[K, V]
	part cold[K, V]
}

// take returns a record for a running flight with one caller, its leader. s.mu
// must be held.
func (s *shard[K, V]) take() *flight[K, V] {
	f := s.free
	if f == nil {
		return &flight[K, V]{callers: 1, leading: true}
	}
	s.free, f.next = f.next, nil
	s.nfree--
	return f
}

// retire unregisters f, which only its leader has a pointer to (R1), and keeps
// its record as take wants it: callers and leading stay, and what is not cleared
// here was never set. s.mu must be held.
func (s *shard[K, V]) retire(f *flight[K, V]) {
	if s.lone == f {
		s.clearLone()
		return
	}
	s.unregister(f)
	if s.nfree == freeFlights {
		return
	}
	var zero K
	f.key = zero
	f.born = 0
	f.next = s.free
	s.free = f
	s.nfree++
}

// takeOwn returns a record for a flight that is to run on a goroutine of its own or,
// if c is not nil, in a batch with that context. s.mu must be held.
func (s *shard[K, V]) takeOwn(c *flightContext) *flight[K, V] {
	f, _ := s.group.records.Get().(*flight[K, V])
	if f == nil {
		o := new(ownFlight[K, V])
		o.cold = &o.part
		f = &o.flight
	}
	if c == nil {
		c = new(flightContext)
	}
	f.cold.ctx, f.cold.shard = c, s
	return f
}

// giveBack keeps the record of f for takeOwn, unless it is known to others (R1). It is
// called by the leader when it has taken f's result.
func (gs *groupState[K, V]) giveBack(f *flight[K, V]) {
	if f.known {
		return
	}
	c := f.cold
	*c = cold[K, V]{run: c.run}
	*f = flight[K, V]{cold: c}
	gs.records.Put(f)
}

// self returns the links of f in the list of the forgotten.
func (f *flight[K, V]) self() *links[*flight[K, V]] { return &f.cold.forgotten }

// extend makes f known, gives it its cold part if it has none, and returns that. The
// shard's lock must be held.
func (f *flight[K, V]) extend() *cold[K, V] {
	f.known = true
	if f.cold == nil {
		f.cold = new(cold[K, V])
	}
	return f.cold
}
