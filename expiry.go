package coalesce

import (
	"container/heap"
	"math"
	"slices"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the order in which outcomes that linger expire, and the sweeps that
// free those that have.
//
// The order is a heap for the whole group, under one lock: LingerMax bounds the group. A
// call takes that lock only if its outcome begins to linger or drops another, and holds
// it for a number of steps that is logarithmic in the number of outcomes. In particular,
// it is never held while an index changes, and the heap does not move its elements when
// it grows.
//
// Invariants, true whenever the lock of lingerers is not held:
//  E1. Each lingerer in the order is at its place there, and the first is the next to
//      expire: of all that end at the same time, the one that was kept first.
//  E2. The order has LingerMax elements at most.
//  E3. A sweep is due soon after the end of the first (see watch), unless it never
//      expires. sweeps has those that are to come, the next one last.
//
// E3 assumes a single clock, but each testing/synctest bubble has one of its own, and all
// of these begin at the same moment. An outcome that was kept in a bubble has expired for
// calls outside it, but not for calls in a later bubble. A sweep that was to come in a
// bubble that is over never runs. watch notices that when the next outcome begins to
// linger. A timer may be neither reset nor stopped in another bubble, so each is used
// once, and one that is not needed any more finds nothing to do.

const (
	// sweepFraction and sweepSlack bound the time for which an outcome is kept after its
	// end: that fraction of its life, but a second at most. So there are at most so many
	// sweeps in one life, each for all outcomes that have expired by then.
	sweepFraction = 16
	sweepSlack    = int64(time.Second)

	// sweepPause is the least time between two sweeps, for lives that are very short.
	sweepPause = int64(time.Millisecond)

	// sweepBatch bounds the outcomes that a sweep removes before it releases the lock for
	// a moment.
	sweepBatch = 256

	// orderChunk is the number of elements that the order allocates at once.
	orderChunk = 1024
)

// lingerers are the outcomes that linger in a group.
type lingerers[K comparable, V any] struct {
	linger    time.Duration                // Group.Linger
	lingerFor func(V, error) time.Duration // Group.LingerFor; nil if linger decides
	max       int                          // LingerMax
	hits      sched.Counter                // calls that were answered

	// mu guards the fields below, and those of lingerers that name it. It may be taken
	// under a shard's lock, and no lock may be taken under it.
	mu      sched.Mutex `rest:"lock"`
	order   order[K, V]
	evicted uint64  // how many were dropped before their time, because of LingerMax
	sweeps  []int64 // when those to come are due, each before the one in front of it
	read    int64   // the last reading of the clock; negative in bubbles
	strays  bool    // some may have been kept by another clock
}

// newLingerers returns an empty set, or nil if nothing is to linger.
func newLingerers[K comparable, V any](g *Group[K, V]) *lingerers[K, V] {
	if g.Linger == 0 && g.LingerFor == nil {
		return nil
	}
	l := &lingerers[K, V]{linger: g.Linger, lingerFor: g.LingerFor, max: g.LingerMax, read: math.MinInt64}
	if l.max == 0 || l.max > math.MaxInt32 {
		l.max = math.MaxInt32 // so that a place has 32 bits: no memory holds as many
	}
	return l
}

// begin makes p answer calls, in place of old, which may be nil. p must be in its index.
// If LingerMax outcomes linger already, the first to expire goes: begin returns it, for
// unindex. The lock of p's shard must be held.
func (l *lingerers[K, V]) begin(p, old *lingerer[K, V]) (gone *lingerer[K, V]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old != nil {
		l.remove(old)
	}
	if l.order.n == l.max {
		gone = l.order.first()
		if gone.live() {
			l.evicted++
		}
		l.remove(gone)
	}
	heap.Push(&l.order, p)
	p.answers.Store(true)
	if p.end != never {
		l.planSweep(sched.Now())
	}
	return gone
}

// drop makes p, which is in its index, answer no more, and reports whether it would have
// answered a call. The lock of p's shard must be held.
func (l *lingerers[K, V]) drop(p *lingerer[K, V]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lived := p.live()
	l.remove(p)
	return lived
}

// remove takes p out of the order, unless it has been taken out before. l.mu must be
// held.
func (l *lingerers[K, V]) remove(p *lingerer[K, V]) {
	if p.place >= 0 {
		p.answers.Store(false)
		heap.Remove(&l.order, int(p.place))
	}
}

// clear removes all lingerers from the order. None may begin to linger any more. The
// lock is released from time to time. l.mu must not be held.
func (l *lingerers[K, V]) clear() {
	for again := true; again; {
		l.mu.Lock()
		for range min(l.order.n, sweepBatch) {
			l.remove(l.order.at(l.order.n - 1).lingerer)
		}
		again = l.order.n > 0
		l.mu.Unlock()
	}
}

// planSweep starts a sweep if none is due soon after the end of the first to expire: at
// most a sixteenth of the life of that one later, or a second, whichever is less. now is
// the time. l.mu must be held.
//
// If that sweep is due before those that are to come, they stay, as the last of them is
// the next again when it is over. This is why sweeps is a stack and not one time: with
// outcomes that linger for a moment, beside one that lingers for an hour, each sweep would
// otherwise start another timer of an hour.
func (l *lingerers[K, V]) planSweep(now int64) {
	if now < l.read {
		// This is another clock. What seems to come from the future has expired, and the
		// timers that were to free it may never fire.
		l.sweeps, l.strays = nil, true
		l.arm(now, now)
	}
	l.read = now
	if n := len(l.sweeps); n > 0 && now-l.sweeps[n-1] > sweepSlack {
		l.sweeps = nil // lost with its bubble; or it is late, and will do nothing
	}
	p := l.order.first()
	if p == nil || p.end == never {
		return
	}
	slack := max(min((p.end-p.since)/sweepFraction, sweepSlack), sweepPause)
	due := max(p.end, now+slack)
	if n := len(l.sweeps); n == 0 || l.sweeps[n-1] > due && l.sweeps[n-1]-slack > p.end {
		l.arm(now, due)
	}
}

// arm starts a timer for a sweep, which must be due before all others. The timer has only
// a weak pointer to l, so that it does not keep an unused group alive. now is the time.
// l.mu must be held.
func (l *lingerers[K, V]) arm(now, due int64) {
	l.sweeps = append(l.sweeps, due)
	w := weak.Make(l)
	sched.After(time.Duration(due-now), func() {
		if l := w.Value(); l != nil {
			l.sweep(due)
		}
	})
}

// sweep runs on the goroutine of a timer that was due at the given time. It removes
// expired outcomes, and plans the next sweep. It does nothing if another has been started
// in its place. No lock may be held.
func (l *lingerers[K, V]) sweep(due int64) {
	l.mu.Lock()
	i := slices.Index(l.sweeps, due)
	if i >= 0 {
		l.sweeps = l.sweeps[:i] // those behind it were due before: they will find nothing
	}
	l.mu.Unlock()
	for again := i >= 0; again; {
		var gone []*lingerer[K, V]
		gone, again = l.expired()
		for _, p := range gone {
			p.unindex()
		}
	}
}

// expired removes outcomes that have expired from the order, and returns them, for
// unindex. If again is set, more may have. Otherwise it has seen to the next sweep. No
// lock may be held.
func (l *lingerers[K, V]) expired() (gone []*lingerer[K, V], again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := sched.Now()
	if l.strays {
		l.strays = false
		for i := range l.order.n {
			if p := l.order.at(i).lingerer; p.since > now && p.end != never {
				gone = append(gone, p)
			}
		}
		for _, p := range gone {
			l.remove(p)
		}
	}
	for range sweepBatch {
		p := l.order.first()
		if p == nil || p.end > now {
			l.planSweep(now)
			return gone, false
		}
		l.remove(p)
		gone = append(gone, p)
	}
	return gone, true
}

// An order is a heap of lingerers, the first to expire at its root. It is kept in chunks:
// when it grows, it gets another one, and no element moves. It implements [heap.Interface],
// by which alone it changes. The lock of lingerers guards it.
type order[K comparable, V any] struct {
	chunks [][]element[K, V] // all but the last two are full; the last may be empty
	n      int
	kept   uint64 // how many lingerers were ever put into it
}

// An element of an order is a lingerer with its rank. The rank is here so that a
// comparison need not touch the lingerer.
type element[K comparable, V any] struct {
	end      int64           // the lingerer's
	number   uint64          // counts them, in the order in which they were kept
	lingerer *lingerer[K, V] `rest:"stays"`
}

// at returns the element at place i.
func (o *order[K, V]) at(i int) *element[K, V] { return &o.chunks[i/orderChunk][i%orderChunk] }

// first returns the first lingerer to expire, or nil.
func (o *order[K, V]) first() *lingerer[K, V] {
	if o.n == 0 {
		return nil
	}
	return o.at(0).lingerer
}

// Len implements [heap.Interface].
func (o *order[K, V]) Len() int { return o.n }

// Less implements [heap.Interface].
func (o *order[K, V]) Less(i, j int) bool {
	a, b := o.at(i), o.at(j)
	return a.end < b.end || a.end == b.end && a.number < b.number
}

// Swap implements [heap.Interface].
func (o *order[K, V]) Swap(i, j int) {
	a, b := o.at(i), o.at(j)
	*a, *b = *b, *a
	a.lingerer.place, b.lingerer.place = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (o *order[K, V]) Push(x any) {
	p := x.(*lingerer[K, V])
	i := o.n / orderChunk
	if i == len(o.chunks) {
		var chunk []element[K, V] // the first one grows as a slice does
		if i > 0 {
			chunk = make([]element[K, V], 0, orderChunk)
		}
		o.chunks = append(o.chunks, chunk)
	}
	o.chunks[i] = append(o.chunks[i], element[K, V]{p.end, o.kept, p})
	p.place = int32(o.n)
	o.kept++
	o.n++
}

// Pop implements [heap.Interface]. One empty chunk is kept, so that an order that
// changes by a few elements does not allocate; none if the order is empty.
func (o *order[K, V]) Pop() any {
	o.n--
	i, j := o.n/orderChunk, o.n%orderChunk
	p := o.chunks[i][j].lingerer
	p.place = -1
	o.chunks[i][j] = element[K, V]{}
	o.chunks[i] = o.chunks[i][:j]
	switch {
	case o.n == 0:
		o.chunks = nil
	case j == 0:
		clear(o.chunks[i+1:])
		o.chunks = o.chunks[:i+1]
	}
	return p
}
