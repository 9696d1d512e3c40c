package coalesce

import (
	"context"
	"errors"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds DoMulti. A call for many keys is a call for each of them, and
// the flights are the same as everybody's; only fn runs once for all the flights
// that the call leads, which are a batch (see batch.go).
//
// No two calls wait for each other, whatever the order of their keys: a call
// claims its keys one by one, never waiting, and starts fn for those it leads
// before it waits for the others.

// A multi is one call of DoMulti.
type multi[K comparable, V any] struct {
	group *groupState[K, V]
	ctx   context.Context
	fn    func(context.Context, []K) (map[K]V, error)
	parts []part[K, V]
	batch *batch[K, V] // of the flights that it leads; nil if there are none
	edges []*edge      // of the keys, if fn of another flight made the call
}

// A part is one key of a DoMulti.
type part[K comparable, V any] struct {
	key       K
	hash      uint64
	reflexive bool
	flight    *flight[K, V] // that it leads, as one of the batch; or nil
	caller    *caller[K, V] // for a key that it does not lead, or has left
}

// DoMulti is [Group.DoContext] for many keys at once. It calls fn once for those
// of the keys that have no flight, waits for the flights of the others, and
// returns an outcome for each key. Its flights are like all others: a Do joins
// the flight of a key that a DoMulti leads.
//
// fn gets the keys that it must load, each once, in the order of keys, in a
// slice of its own, and returns a map with their values. A key that is not in
// the map gets [ErrAbsent]. If fn returns an error, all the keys that it was
// given get that, and what the map holds for them. Panics and Goexit are in
// Result.Err, as for [Group.DoChan], and so are all other errors, [ErrClosed],
// [ErrSaturated] and *[DeadlockError] among them, each for the keys that they
// concern. If no key needs to be loaded, fn is not called. A key whose flight is
// abandoned is queued, as it would be by DoContext; if its turn comes, fn is
// called for that key alone, concurrently, perhaps, with the first execution.
//
// fn runs on a goroutine of its own, even if ctx can never end. Its context is
// as in DoContext; it is canceled when the last caller of the last of its
// keys has left, as one fn works for all of them. When ctx ends, DoMulti returns
// at once: the keys whose flights have finished have their results, the others
// ctx's error.
//
// Keys are checked before anything is begun: DoMulti panics if one holds a
// dynamic type that cannot be compared, and if ctx or fn is nil. A key that does
// not equal itself, such as NaN, cannot be found in a map: it is given to fn and
// gets ErrAbsent. [Stats] counts a call for each key.
//
// Shards are locked one after the other. Beside the map that it returns and what
// fn allocates, a DoMulti makes six allocations, some 200 bytes a key, for as
// long as the call lasts (go test -run - -bench Feature .); one more for each key
// that it leads and another call joins, a few for one that is queued.
func (g *Group[K, V]) DoMulti(ctx context.Context, keys []K, fn func(context.Context, []K) (map[K]V, error)) map[K]Result[V] {
	if ctx == nil || fn == nil {
		panicNil(ctx == nil)
	}
	gs := g.use()
	results := make(map[K]Result[V], len(keys))
	m := multi[K, V]{group: gs, ctx: ctx, fn: fn, parts: gs.distinct(keys, results)}
	if err := ctx.Err(); err != nil {
		gs.ended.Add(int64(len(m.parts)))
		for i := range m.parts {
			results[m.parts[i].key] = Result[V]{Err: err}
		}
		return results
	}
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
	if !m.await() {
		m.leave(ctx)
	}
	m.dropEdges()
	for i := range m.parts {
		p := &m.parts[i]
		results[p.key] = m.answer(p)
	}
	return results
}

// distinct returns a part for each of the keys, without duplicates, and enters
// them in results. It panics if one cannot be hashed.
func (gs *groupState[K, V]) distinct(keys []K, results map[K]Result[V]) []part[K, V] {
	parts := make([]part[K, V], 0, len(keys))
	for _, key := range keys {
		h, reflexive := gs.hash(key)
		if _, seen := results[key]; seen {
			continue
		}
		if reflexive { // or it could not be overwritten
			results[key] = Result[V]{}
		}
		parts = append(parts, part[K, V]{key: key, hash: h, reflexive: reflexive})
	}
	return parts
}

// claim makes the call take part in the flight of a key, or lead one in its batch. It
// does not block.
func (m *multi[K, V]) claim(i int, from *edge) {
	p := &m.parts[i]
	s := m.group.shard(p.hash)
	c := caller[K, V]{shard: s, ctx: m.ctx, done: m.ctx.Done()}
	if from != nil {
		c.edge = &edge{from: from.from, done: from.done}
		m.edges = append(m.edges, c.edge)
	}
	v := answered
	if !c.lingering(p.key) {
		s.lock(c.edge)
		v = c.arriveLocked(p.hash, p.key, p.reflexive, anything)
	}
	if v == leads {
		if m.batch == nil {
			m.batch = newBatch(m.ctx, m.fn, len(m.parts)-i)
		}
		p.flight = c.leadIn(m.batch, p.hash, p.key)
		s.unlock(c.edge)
		return
	}
	p.caller = new(caller[K, V])
	*p.caller = c
	switch q := p.caller; v {
	case joins:
		q.seat = q.flight.sit()
		s.unlock(q.edge)
	case queues:
		q.fn = single(p.key, m.fn)
		q.answered = sched.NewCompletion()
		q.list()
		s.unlock(q.edge)
	}
}

// errLacking marks a key that fn's map lacks. It is not ErrAbsent, so that an fn which
// itself returns ErrAbsent has returned an error like any other.
var errLacking = errors.New("absent")

// single returns fn for one key.
func single[K comparable, V any](key K, fn func(context.Context, []K) (map[K]V, error)) func(context.Context) (V, error) {
	return func(ctx context.Context) (V, error) {
		m, err := fn(ctx, []K{key})
		v, ok := m[key]
		if !ok && err == nil {
			err = errLacking
		}
		return v, err
	}
}

// announce calls the hooks for the flights that the call has joined, or is queued in.
// If one exits the goroutine, the call leaves all its flights. No lock may be held.
func (m *multi[K, V]) announce() {
	normal := false
	defer func() {
		if !normal {
			m.leave(context.Background())
		}
	}()
	each(0, len(m.parts), func(i int) {
		if c := m.parts[i].caller; c != nil && c.joined != nil {
			if c.announced != nil {
				defer sched.Complete(c.announced)
			}
			m.group.hooks.tell(m.group.hooks.Join, c.joined)
		}
	})
	normal = true
}

// await blocks until all flights of the call have finished, or its context has ended,
// and reports whether they have.
func (m *multi[K, V]) await() bool {
	done := m.ctx.Done()
	if m.batch != nil && !sched.WaitEither(m.batch.done, done) {
		return false
	}
	for i := range m.parts {
		c := m.parts[i].caller
		if c == nil || c.flight == nil {
			continue
		}
		end := c.seat.done
		if c.answered != nil {
			end = c.answered
		}
		if !sched.WaitEither(end, done) {
			return false
		}
	}
	return true
}

// leave makes the call leave all flights that have not finished, as the given context
// has ended. All are left before code of the context's is run, or a hook or Clone
// called, which may take their time. No lock may be held.
func (m *multi[K, V]) leave(ctx context.Context) {
	m.dropEdges()
	var left []*caller[K, V]
	for i := range m.parts {
		p := &m.parts[i]
		c := p.caller
		switch {
		case c == nil:
			c = &caller[K, V]{shard: p.flight.cold.shard, flight: p.flight, leads: true}
			if !c.leave() {
				continue
			}
			p.caller = c
		case c.flight == nil || !c.leave():
			continue
		}
		left = append(left, c)
	}
	each(0, len(left), func(i int) { left[i].afterLeaving(ctx) })
}

// dropEdges removes the edges of the call.
func (m *multi[K, V]) dropEdges() {
	if m.edges == nil {
		return
	}
	graph.Lock()
	defer graph.Unlock()
	for _, e := range m.edges {
		e.remove()
	}
}

// answer returns what the call gets for the key of p, when it waits no longer. No lock
// may be held.
func (m *multi[K, V]) answer(p *part[K, V]) (r Result[V]) {
	gs, f := m.group, p.flight
	if c := p.caller; c != nil {
		switch {
		case c.success != nil:
			r = Result[V]{Val: c.success.val, Shared: true}
			if gs.clone != nil {
				r, _ = cloned(gs.clone, r)
			}
			return r
		case c.flight == nil:
			return Result[V]{Err: c.err}
		case c.gone:
			return Result[V]{Err: reasonOf(m.ctx), Shared: c.shared}
		}
		f = c.flight
	}
	if f.outcome == rejected {
		gs.awaitClosed()
	}
	r = f.report(gs.clone)
	gs.giveBack(f)
	return r
}
