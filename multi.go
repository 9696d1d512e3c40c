package coalesce

import (
	"context"
	"errors"
	"slices"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds DoMulti. A call for many keys counts as one call for each key, and its
// flights are like all others; only fn runs once for all the flights that the call leads,
// which are a batch (see batch.go).
//
// No two calls wait for each other, whatever the order of their keys: a call claims its
// keys one by one without waiting, and starts fn for the keys that it leads before it
// waits for the others.
//
// Each key is claimed under the lock of its shard. The verdict decides which completion
// await waits on for that key:
//
//	leads       part.index, in load.claims              load.done
//	joins       part.caller, with a seat                seat.done, closed at its end
//	  nested    part.caller, listed in the flight       answered, closed by deliver or answerLeft
//	queues      part.caller, listed in the successor    answered, likewise
//	answered    part.index, in lingerers                nothing
//	refused     part.caller, which is gone              nothing
//
// A key that the call leads has no caller as long as the call stays: all flights that the
// call leads finish before load.done is closed. If the call leaves early, leave makes a
// caller for each of these keys, as every departure is that of a caller.
//
// The goroutine of the call is the only one that uses the multi and its parts. fn runs on
// a goroutine of its own, which uses the load. If a queued key comes to lead, its fn runs
// on one more (leadQueued).

// A multi is one call of DoMulti.
type multi[K comparable, V any] struct {
	group *groupState[K, V]
	ctx   context.Context
	done  <-chan struct{} // ctx.Done(), once asked is set
	asked bool
	fn    func(context.Context, []K) (map[K]V, error)
	parts []part[K, V]   // in the order of the keys, without duplicates
	load  *load[K, V]    // of the flights that it leads; nil if there are none
	spare []caller[K, V] // for keys that it does not lead
	edges []*edge        // one for each key, if fn of another flight made the call
	timer sched.Timer    // for their looks; nil unless the call waits for other flights

	hits []*lingerer[K, V] // that answer keys
}

// A part is one key of a DoMulti. It is small, as most parts are of keys that the call
// leads, and need no more.
type part[K comparable, V any] struct {
	key       K
	hash      uint64
	reflexive bool
	verdict   verdict
	index     int32         // of the claim, if the verdict is leads; if answered, of the lingerer
	caller    *caller[K, V] // of a key that is joined, queued for or refused, or has been left
}

// led reports whether the call leads the flight of p and has not left it.
func (p *part[K, V]) led() bool { return p.verdict == leads && p.caller == nil }

// DoMulti is [Group.DoContext] for many keys at once. It calls fn once for
// those keys that have no flight, waits for the flights of the others, and
// returns a Result for each key. Its flights are like all others: a Do can join
// the flight of a key that a DoMulti leads.
//
// fn gets the keys that it must load, each once, in the order of keys, in a
// slice of its own, and returns a map with their values. A key that is missing
// from the map gets [ErrAbsent]. If fn returns an error, all keys that it was
// given get that error, together with the values that the map holds for them. To
// give single keys errors of their own, fn returns a [KeyErrors]. All errors are
// in Result.Err: a panic of fn as a *[PanicError], a Goexit as [ErrGoexit], and
// [ErrClosed], [ErrSaturated] or a *[DeadlockError] for those keys that they
// concern. As with [Group.DoChan], a panic is also logged, once for all keys,
// unless a call that blocks has joined one of the flights and panics with it. If
// no key needs to be loaded, fn is not called.
//
// A key whose flight is abandoned is queued behind it, as in DoContext. If the
// call comes to lead the successor, fn is called for that key alone, possibly
// concurrently with the first execution.
//
// fn runs on a goroutine of its own, even if ctx can never end. Its context is
// as in DoContext, but one execution works for all the keys that it was given:
// the context is canceled when the last caller of all these keys has left. If
// ctx ends, DoMulti returns at once. Keys whose flights have finished have
// their results; the others have the error of ctx.
//
// The group reads the map when fn has returned; fn must not keep it and change it
// later. With Clone set, the clones are made on the goroutine of the call. If keys is
// empty, so is the result, and fn is not called.
//
// Keys are checked before anything is started: DoMulti panics if a key holds a
// dynamic type that is not comparable, or if ctx or fn is nil. A key that does
// not equal itself, such as NaN, is given to fn, but it cannot be found in a
// map and gets ErrAbsent. [Stats] counts one call for each key.
//
// Shards are locked one after another. For allocations and memory, see “Cost”
// in the package documentation.
func (g *Group[K, V]) DoMulti(ctx context.Context, keys []K, fn func(context.Context, []K) (map[K]V, error)) map[K]Result[V] {
	must(ctx != nil, "context")
	must(fn != nil, "fn")
	gs := g.use()
	m := multi[K, V]{group: gs, ctx: ctx, fn: fn, parts: gs.distinct(keys)}
	if err := ctx.Err(); err != nil {
		gs.endedOnEntry.add(int64(len(m.parts)))
		results := make(map[K]Result[V], len(m.parts))
		for i := range m.parts {
			results[m.parts[i].key] = Result[V]{Err: err}
		}
		return results
	}
	// The order matters. All keys are claimed before fn starts, as the batch must be
	// complete; and fn starts before the call waits, or runs a Join hook, which may take
	// its time.
	from := nestedIn(ctx)
	for i := range m.parts {
		if !m.lead(i, from) {
			m.claim(i, from)
		}
	}
	if m.load != nil {
		m.load.batch.counted(len(m.load.claims))
		sched.Go(m.load.run)
	}
	m.armLooks()
	if gs.hooks != nil {
		m.announce()
	}
	if m.await() {
		m.dropEdges()
		m.receive()
	} else {
		m.leave(ctx)
	}
	results := make(map[K]Result[V], len(m.parts))
	for i := range m.parts {
		results[m.parts[i].key] = m.answer(&m.parts[i])
	}
	return results
}

// fewKeys is the number of different keys for which distinct makes its table and the parts
// at first.
const fewKeys = 128

// distinct returns a part for each of the keys, without duplicates. It panics if a key is
// not hashable, before the call takes part in anything. A key that does not equal itself
// is never a duplicate.
//
// A hash table with open addressing finds the duplicates by the hashes, which the call
// needs anyway. It holds the indexes of the parts, plus one, and is at most half full. It
// and the parts grow with the number of different keys, not with that of all keys. For a
// hundred keys, a map in its place takes a fifth more of the instructions of the whole
// call, and 3.8 KB.
func (gs *groupState[K, V]) distinct(keys []K) []part[K, V] {
	parts := make([]part[K, V], 0, min(len(keys), fewKeys))
	var few [2 * fewKeys]int32 // on the stack
	table := few[:]
	for n, key := range keys {
		h, reflexive := gs.hash(key)
		if reflexive {
			if 2*len(parts) >= len(table) {
				parts = slices.Grow(parts, min(3*len(parts), len(keys)-n))
				table = make([]int32, 4*len(table))
				for i := range parts {
					if p := &parts[i]; p.reflexive {
						table[place(table, parts, p.hash, p.key)] = int32(i + 1)
					}
				}
			}
			i := place(table, parts, h, key)
			if table[i] != 0 {
				continue
			}
			table[i] = int32(len(parts) + 1)
		}
		parts = append(parts, part[K, V]{key: key, hash: h, reflexive: reflexive})
	}
	return parts
}

// place returns the index in table for a part with the given key and its hash h: that of
// such a part or, if there is none, an empty one. There must be an empty one.
func place[K comparable, V any](table []int32, parts []part[K, V], h uint64, key K) uint64 {
	mask := uint64(len(table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if table[i] == 0 {
			return i
		}
		if p := &parts[table[i]-1]; p.hash == h && p.key == key {
			return i
		}
	}
}

// lead makes the call lead a flight of its batch for key i, and reports whether it did.
// It does the same as claim, and takes less than half the time, in the common case: no
// fn has made the call, so that from is nil, nothing can linger, and the key has no
// flight. No lock may be held.
func (m *multi[K, V]) lead(i int, from *edge) bool {
	p, gs := &m.parts[i], m.group
	if from != nil || gs.lingering != nil {
		return false
	}
	m.askDone()
	s := gs.shard(p.hash)
	s.mu.Lock()
	free := !s.closed && s.lookup(p.hash, p.key, p.reflexive) == nil
	if free {
		f := m.register(i, s)
		s.counts[callLed]++ // as note would: there is no edge
		if gs.hooks != nil {
			s.enroll(f)
		}
	}
	s.mu.Unlock()
	return free
}

// register registers a flight of the batch for key i in its shard s, which must be locked
// and have no flight for the key, and returns the flight.
func (m *multi[K, V]) register(i int, s *shard[K, V]) *flight[K, V] {
	p := &m.parts[i]
	if m.load == nil {
		m.load = newLoad(m.ctx, m.fn, len(m.parts)-i)
	}
	p.index = int32(len(m.load.claims))
	return m.load.add(s, p.hash, p.key)
}

// askDone asks the context of the call for its Done channel, once, and before the first
// key is claimed: that may panic or exit.
func (m *multi[K, V]) askDone() {
	if !m.asked {
		m.asked, m.done = true, m.ctx.Done()
	}
}

// claim makes the call take part in the flight of key i, or lead a flight of its batch.
// It does not block. from is the edge that nestedIn returned, nil if no fn made the call;
// each key gets a copy. No lock may be held.
//
// From then on the flight is visible: other calls may join it, and it may finish, while
// the call claims its other keys. A flight that the call leads waits for fn until all
// keys are claimed. It cannot be abandoned before, as the call itself has not left.
func (m *multi[K, V]) claim(i int, from *edge) {
	p := &m.parts[i]
	s := m.group.shard(p.hash)
	c := caller[K, V]{shard: s, ctx: m.ctx, ofMulti: true}
	v := answered
	if m.group.lingering == nil || !c.lingering(p.hash, p.key) {
		m.askDone() // not for keys that are answered at once: it allocates
		c.done = m.done
		if from != nil {
			c.edge = &edge{from: from.from, done: from.done}
			m.edges = append(m.edges, c.edge)
		}
		s.mu.Lock()
		v = c.arriveLocked(p.hash, p.key, p.reflexive, anything)
	}
	if v == leads {
		// c stays on this goroutine's stack: the load stands for the key.
		s.note(callLed, m.register(i, s), &c)
		s.mu.Unlock()
		return
	}
	p.verdict = v
	switch v {
	case answered:
		p.index = int32(len(m.hits))
		m.hits = append(m.hits, c.lingerer)
	case refused:
		p.caller = m.onHeap(c)
	case joins, queues:
		if v == joins && c.edge == nil {
			p.caller = m.onHeap(c)
			p.caller.seat = c.flight.sit()
			c.flight.countSilent(p.caller.seat, 1)
			s.mu.Unlock()
			return
		}
		// Another goroutine leads the flight for this call if its turn comes, or refuses
		// this key if it waits for itself. That may outlast the call, so it must not keep
		// the callers of other keys.
		c.fn = single(p.key, m.fn)
		c.answered = sched.NewCompletion()
		p.caller = new(caller[K, V])
		*p.caller = c
		p.caller.list()
		s.mu.Unlock()
	}
}

// onHeap returns a copy of c on the heap, where a few share an allocation.
func (m *multi[K, V]) onHeap(c caller[K, V]) *caller[K, V] {
	if len(m.spare) == 0 {
		m.spare = make([]caller[K, V], min(8, len(m.parts)))
	}
	kept := &m.spare[0]
	m.spare = m.spare[1:]
	*kept = c
	return kept
}

// errLacking marks a key that is missing from fn's map. It is distinct from ErrAbsent, so
// that ErrAbsent, if fn itself returns it, is an error like any other.
var errLacking = errors.New("absent")

// single returns a function that calls fn for one key, for a queued key that comes to
// lead.
func single[K comparable, V any](key K, fn func(context.Context, []K) (map[K]V, error)) func(context.Context) (V, error) {
	return func(ctx context.Context) (V, error) {
		a := returnedBy(fn(ctx, []K{key}))
		how, v, err := a.of(key)
		if how == absent {
			err = errLacking
		}
		return v, err
	}
}

// announce calls the Join hook for each flight that the call has joined or is queued in.
// If one of these hooks exits the goroutine, the remaining ones are still called, and the
// call then leaves all its flights. No lock may be held.
func (m *multi[K, V]) announce() {
	normal := false
	defer func() {
		if !normal {
			m.leave(context.Background())
		}
	}()
	callAll(0, len(m.parts), func(i int) {
		if c := m.parts[i].caller; c != nil && c.joined != nil {
			c.callJoin()
		}
	})
	normal = true
}

// receive calls the Receive hook for each key that the call has not left and does not
// lead. It must have the results of all these keys. No lock may be held.
func (m *multi[K, V]) receive() {
	if m.group.hooks == nil {
		return
	}
	callAll(0, len(m.parts), func(i int) {
		if c := m.parts[i].caller; c != nil && !c.gone {
			c.receive()
		}
	})
}

// await blocks until all flights of the call have finished or its context has ended, and
// reports whether they have finished. It waits for one after another: the call needs them
// all, so the order does not matter. No lock may be held.
func (m *multi[K, V]) await() bool {
	if m.load != nil && !sched.WaitEither(m.load.done, m.done) {
		return false
	}
	for i := range m.parts {
		c := m.parts[i].caller
		if c == nil || c.flight == nil {
			continue // the load has answered this key, or it has its answer
		}
		end := c.seat.done
		if c.answered != nil {
			end = c.answered
		}
		if !sched.WaitEither(end, m.done) {
			return false
		}
	}
	return true
}

// leave makes the call leave all flights that have not finished, because the given
// context has ended. All of them are left before a context is canceled or a hook is
// called, because these run user code, which may take its time: a flight that this call
// was to lead goes to the next caller without that delay. For the flights that have
// finished, leave calls the Receive hook. No lock may be held.
func (m *multi[K, V]) leave(ctx context.Context) {
	defer m.receive() // even if other user code exits the goroutine
	m.dropEdges()     // before any flight is left (D4): the callers made below have no edge
	var left []*caller[K, V]
	for i := range m.parts {
		p := &m.parts[i]
		if p.led() {
			if f := m.load.share(p.index); f != nil {
				p.caller = &caller[K, V]{shard: m.group.shard(p.hash), ctx: m.ctx, flight: f, ofMulti: true, leads: true}
			}
		}
		// A flight that has finished meanwhile keeps its result for the call.
		if c := p.caller; c != nil && c.leave(nil) {
			left = append(left, c)
		}
	}
	defer callAll(0, len(left), func(i int) { left[i].answerLeft(ctx) })
	// The contexts of all keys end before a hook takes its time.
	callAll(0, len(left), func(i int) { left[i].cancelAbandoned(ctx) })
}

// armLooks arms the timer of a nested call for the keys that it has joined or is queued
// for. It does nothing for other calls. No lock may be held.
func (m *multi[K, V]) armLooks() {
	if m.edges == nil {
		return
	}
	var waiting []*caller[K, V]
	for i := range m.parts {
		if c := m.parts[i].caller; c != nil && c.answered != nil {
			waiting = append(waiting, c)
		}
	}
	if waiting != nil {
		m.timer = sched.After(lookAfter, func() { lookForEach(waiting) })
	}
}

// dropEdges removes the edges of the call. It may be called again, and no lock may be
// held.
func (m *multi[K, V]) dropEdges() {
	if m.timer != nil {
		m.timer.Stop()
	}
	for _, e := range m.edges {
		e.drop()
	}
}

// answer returns the result for the key of p, once the call waits no longer. It runs
// Clone if the result is shared. No lock may be held.
func (m *multi[K, V]) answer(p *part[K, V]) Result[V] {
	f, c := (*flight[K, V])(nil), p.caller
	switch {
	case p.led():
		f = m.load.claims[p.index].flight
		if f == nil { // no other call knew it
			_, v, err := m.load.answers.of(p.key)
			return Result[V]{Val: v, Err: err}
		}
	case p.verdict == answered:
		l := m.hits[p.index]
		r := l.result()
		if l.clones(m.group.clone) {
			r = m.cloned(p, r)
		}
		return r
	case c.gone:
		return Result[V]{Err: c.reason(m.ctx), Shared: c.shared}
	default:
		f = c.flight
	}
	if f.outcome == rejected {
		m.group.awaitClosed() // Shutdown may still be closing the other shards
	}
	r := Result[V]{f.val, f.err, f.joined}
	if f.clones(m.group.clone) {
		r = m.cloned(p, r)
	}
	return r
}
