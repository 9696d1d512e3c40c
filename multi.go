package coalesce

import (
	"context"
	"errors"

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
//	leads       part.flight, a flight of the batch      batch.done
//	joins       part.caller, with a seat                seat.done, closed at its end
//	  nested    part.caller, listed in the flight       answered, closed by deliver or answerLeft
//	queues      part.caller, listed in the successor    answered, likewise
//	answered    part.lingerer                           nothing
//	refused     its Result in results                   nothing
//
// A key that the call leads has no caller as long as the call stays: the batch finishes
// all flights that the call leads before it closes batch.done. If the call leaves early,
// leave makes a caller for each of these keys, as every departure is that of a caller.
//
// The goroutine of the call is the only one that uses the multi and its parts. The batch
// runs fn on a goroutine of its own. If a queued key comes to lead, its fn runs on one
// more (leadQueued).

// A multi is one call of DoMulti.
type multi[K comparable, V any] struct {
	group *groupState[K, V]
	ctx   context.Context
	done  <-chan struct{} // ctx.Done(), once asked is set
	asked bool
	fn    func(context.Context, []K) (map[K]V, error)
	parts []part[K, V]   // in the order of the keys, without duplicates
	batch *batch[K, V]   // of the flights that it leads; nil if there are none
	spare []caller[K, V] // for keys that it joins

	results map[K]Result[V]
	edges   []*edge // one for each key, if fn of another flight made the call
}

// A part is one key of a DoMulti.
type part[K comparable, V any] struct {
	key       K
	hash      uint64
	reflexive bool
	flight    *flight[K, V]   // that the call leads, as one of the batch; or nil
	caller    *caller[K, V]   // for a key that it joins or queues for, or has left
	lingerer  *lingerer[K, V] // that answers it
}

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
	results := make(map[K]Result[V], len(keys))
	m := multi[K, V]{group: gs, ctx: ctx, fn: fn, parts: gs.distinct(keys, results), results: results}
	if err := ctx.Err(); err != nil {
		gs.ended.add(int64(len(m.parts)))
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
		m.claim(i, from)
	}
	if m.batch != nil {
		sched.Go(m.batch.run)
	}
	if gs.hooks != nil {
		m.announce()
	}
	if m.await() {
		m.dropEdges()
		m.receive()
	} else {
		m.leave(ctx)
	}
	for i := range m.parts {
		if p := &m.parts[i]; p.flight != nil || p.caller != nil || p.lingerer != nil {
			results[p.key] = m.answer(p)
		}
	}
	return results
}

// distinct returns a part for each of the keys, without duplicates, and enters the keys
// in results. It panics if a key is not hashable, before the call takes part in anything.
// A key that does not equal itself is never a duplicate, and is entered when it has its
// answer.
func (gs *groupState[K, V]) distinct(keys []K, results map[K]Result[V]) []part[K, V] {
	parts := make([]part[K, V], 0, len(keys))
	for _, key := range keys {
		h, reflexive := gs.hash(key)
		if _, seen := results[key]; seen {
			continue
		}
		if reflexive { // a NaN's entry could not be overwritten
			results[key] = Result[V]{}
		}
		parts = append(parts, part[K, V]{key: key, hash: h, reflexive: reflexive})
	}
	return parts
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
	c := caller[K, V]{shard: s, ctx: m.ctx, key: true}
	v := answered
	if m.group.lingering == nil || !c.lingering(p.hash, p.key) {
		if !m.asked {
			m.asked, m.done = true, m.ctx.Done() // not for keys that are answered at once: it allocates
		}
		c.done = m.done
		if from != nil {
			c.edge = &edge{from: from.from, done: from.done}
			m.edges = append(m.edges, c.edge)
		}
		s.mu.Lock()
		v = c.arriveLocked(p.hash, p.key, p.reflexive, anything)
	}
	if v == leads {
		if m.batch == nil {
			m.batch = newBatch(m.ctx, m.fn, len(m.parts)-i)
		}
		// c stays on this goroutine's stack: the batch stands for the key.
		p.flight = c.leadIn(m.batch, p.hash, p.key)
		s.mu.Unlock()
		return
	}
	switch v {
	case answered:
		p.lingerer = c.lingerer
	case refused:
		m.results[p.key] = Result[V]{Err: c.err}
	case joins, queues:
		if v == joins && c.edge == nil {
			p.caller = m.keep(c)
			p.caller.seat = c.flight.sit()
			c.flight.countKey(p.caller.seat, 1)
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
		p.caller.watch()
		s.mu.Unlock()
	}
}

// keep returns a copy of c on the heap, where a few share an allocation.
func (m *multi[K, V]) keep(c caller[K, V]) *caller[K, V] {
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
	each(0, len(m.parts), func(i int) {
		if c := m.parts[i].caller; c != nil {
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
	each(0, len(m.parts), func(i int) {
		if c := m.parts[i].caller; c != nil && !c.gone {
			c.receive()
		}
	})
}

// await blocks until all flights of the call have finished or its context has ended, and
// reports whether they have finished. It waits for one after another: the call needs them
// all, so the order does not matter. No lock may be held.
func (m *multi[K, V]) await() bool {
	if m.batch != nil && !sched.WaitEither(m.batch.done, m.done) {
		return false
	}
	for i := range m.parts {
		c := m.parts[i].caller
		if c == nil {
			continue // the batch has answered this key, or it has its answer
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
		if p.flight != nil && p.caller == nil { // the call leads the key
			p.caller = &caller[K, V]{shard: p.flight.cold.shard, ctx: m.ctx, flight: p.flight, key: true, leads: true}
		}
		// A flight that has finished meanwhile keeps its result for the call.
		if c := p.caller; c != nil && c.leave(nil) {
			left = append(left, c)
		}
	}
	defer each(0, len(left), func(i int) { left[i].answerLeft(ctx) })
	// The contexts of all keys end before a hook takes its time.
	each(0, len(left), func(i int) { left[i].cancelAbandoned(ctx) })
}

// dropEdges removes the edges of the call. It may be called again, and no lock may be
// held.
func (m *multi[K, V]) dropEdges() {
	for _, e := range m.edges {
		e.drop()
	}
}

// answer returns the result for the key of p, once the call waits no longer. It runs
// Clone if the result is shared, and gives back the flight's record if it may be used
// again. No lock may be held.
func (m *multi[K, V]) answer(p *part[K, V]) (r Result[V]) {
	gs, f := m.group, p.flight
	switch c := p.caller; {
	case p.lingerer != nil:
		r = p.lingerer.result()
		if p.lingerer.clones(gs.clone) {
			r = m.cloned(p, r)
		}
		return r
	case c != nil && c.gone:
		return Result[V]{Err: c.reason(m.ctx), Shared: c.shared}
	case c != nil:
		f = c.flight
	}
	if f.outcome == rejected {
		gs.awaitClosed() // Shutdown may still be closing the other shards
	}
	r = Result[V]{f.val, f.err, f.joined}
	clones := f.clones(gs.clone)
	f.giveBack()
	if clones {
		r = m.cloned(p, r)
	}
	return r
}

// cloned returns r, the result for the key of p, with a clone of its value. If Clone
// panics, that is logged. No lock may be held.
func (m *multi[K, V]) cloned(p *part[K, V], r Result[V]) Result[V] {
	r, e := cloned(m.group.clone, r)
	if e != nil {
		m.group.shard(p.hash).logClone(e, p.key)
	}
	return r
}
