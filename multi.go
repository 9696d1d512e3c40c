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

// A part is what a DoMulti does for one of its keys.
type part[K comparable, V any] struct {
	key       K
	hash      uint64
	reflexive bool

	// What admit said. flight is nil if the call takes no part in one.
	flight  *flight[K, V]
	shard   *shard[K, V]
	leads   bool             // flight, as one of the batch
	done    sched.Completion // complete when flight has finished; nil if that is the batch's
	w       waiter           // joined: where it waits
	r       *entry[K, V]     // queued
	success *success[K, V]
	err     error
	edge    *edge
	event   *Event[K] // joined: for the hook

	// What leave has said.
	left, shared bool
	after        departure[K, V]
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
	parts := gs.distinct(keys, results)
	if err := ctx.Err(); err != nil {
		gs.ended.Add(int64(len(parts)))
		for i := range parts {
			results[parts[i].key] = Result[V]{Err: err}
		}
		return results
	}
	from := nestedIn(ctx)
	var b *batch[K, V]
	for i := range parts {
		p := &parts[i]
		if from != nil {
			p.edge = &edge{from: from.from, done: from.done}
		}
		b = gs.claim(p, b, len(parts)-i, ctx, fn)
	}
	gs.begin(b, parts)
	ended := b != nil && !sched.WaitEither(b.done, ctx.Done())
	for i := range parts {
		p := &parts[i]
		if p.done != nil && !ended {
			ended = !sched.WaitEither(p.done, ctx.Done())
		}
	}
	if from != nil {
		graph.Lock()
		for i := range parts {
			parts[i].edge.remove()
		}
		graph.Unlock()
	}
	err := gs.leaveAll(parts, ctx, ended)
	for i := range parts {
		p := &parts[i]
		results[p.key] = gs.answerPart(p, err)
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
		parts = append(parts, part[K, V]{key: key, hash: h, reflexive: reflexive, shard: gs.shard(h)})
	}
	return parts
}

// claim makes the call take part in the flight of p's key, or lead one in b,
// which is made if it is nil, with room for the given number of flights. It
// returns b. It does not block.
func (gs *groupState[K, V]) claim(p *part[K, V], b *batch[K, V], room int, ctx context.Context, fn func(context.Context, []K) (map[K]V, error)) *batch[K, V] {
	if gs.lingering != nil {
		if p.success = gs.lingering.get(p.key); p.success != nil {
			gs.lingering.hits.Inc()
			return b
		}
	}
	s := p.shard
	s.lock(p.edge)
	a := s.admit(p.hash, p.key, p.reflexive, anything, p.edge)
	switch a.verdict {
	case leads:
		if b == nil {
			b = newBatch(ctx, fn, room)
		}
		p.flight = s.leadBatched(b, p.hash, p.key)
		p.leads = true
	case joins:
		p.flight = a.flight
		p.w = a.flight.wait()
		p.done, p.event = p.w.done, a.event
	case queues:
		p.r = &entry[K, V]{shard: s, ctx: ctx, fn: single(p.key, fn), told: sched.NewCompletion(), edge: p.edge}
		p.flight = s.enqueue(a.flight, anything, p.r)
		p.done, p.event = p.r.told, p.r.event
	case answered:
		p.success = a.success
		gs.lingering.hits.Inc()
	case refused:
		p.err = s.refuse(a.err, p.edge)
		return b
	}
	if p.flight != nil {
		point(p.edge, p.flight)
	}
	s.unlock(p.edge)
	return b
}

// errLacking is what single returns for ErrAbsent: only fn's lack of the key is
// to be that outcome, not an ErrAbsent that it returned.
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

// answerPart returns what the call gets for p's key, whose flight has finished,
// or has been left with the given error. No lock may be held.
func (gs *groupState[K, V]) answerPart(p *part[K, V], left error) (r Result[V]) {
	switch {
	case p.success != nil:
		r = Result[V]{Val: p.success.val, Shared: true}
		if gs.clone != nil {
			r.Val, r.Err = safelyCloned(gs.clone, r.Val, nil)
		}
		return r
	case p.flight == nil:
		return Result[V]{Err: p.err}
	case p.left:
		return Result[V]{Err: left, Shared: p.shared}
	}
	if p.flight.outcome == rejected {
		gs.awaitClosed()
	}
	r = p.flight.report(gs.clone)
	gs.giveBack(p.flight)
	return r
}

// begin starts b, if that is not nil, and tells the hooks of the flights that the
// call leads and has joined. If one exits the goroutine, the call leaves all of
// them. No lock may be held.
func (gs *groupState[K, V]) begin(b *batch[K, V], parts []part[K, V]) {
	if gs.hooks == nil {
		if b != nil {
			sched.Go(b.run)
		}
		return
	}
	told := false
	defer func() {
		for i := range parts {
			p := &parts[i]
			if p.r != nil {
				sched.Complete(p.r.announced)
			}
			if !told {
				p.edge.drop()
			}
		}
		if !told {
			_ = gs.leaveAll(parts, context.Background(), true)
		}
	}()
	each(-1, len(parts), func(i int) {
		if i >= 0 {
			gs.hooks.tell(gs.hooks.Join, parts[i].event)
		} else if b != nil {
			b.launch()
		}
	})
	told = true
}

// leaveAll ends the parts that the call takes, if its context has ended, and
// returns the context's error if it has left a flight. All are left before code
// of the context's is run, or a hook or Clone called: they may take their time.
// No lock may be held.
func (gs *groupState[K, V]) leaveAll(parts []part[K, V], ctx context.Context, ended bool) error {
	left := false
	for i := range parts {
		parts[i].leave(ended)
		left = left || parts[i].left
	}
	if !left {
		return nil
	}
	defer each(0, len(parts), func(i int) { parts[i].shard.tellLeave(parts[i].after) })
	cause := context.Canceled
	defer func() { // though ctx panics
		for i := range parts {
			if c := parts[i].after.cancel; c != nil {
				c.cancel(cause)
			}
		}
	}()
	for i := range parts {
		parts[i].after.next.notify()
	}
	cause = context.Cause(ctx)
	return reasonOf(ctx)
}

// leave makes the call leave p's flight if its context has ended, and notes
// whether it has left: a flight that has finished has a result, which beats the
// end of a context. No lock may be held.
func (p *part[K, V]) leave(ended bool) {
	s, f := p.shard, p.flight
	if f == nil || !ended && p.r == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p.r != nil && p.r.gone: // when it was to lead
		p.left = true
	case !ended || f.state == finished:
		return
	case p.r != nil:
		p.after, _ = p.r.depart()
		p.left = true
	default:
		if !p.leads {
			f.unwait(p.w)
		}
		p.after = s.depart(f, nil, p.leads, p.event)
		p.left = true
	}
	p.shared = f.joined
}
