package coalesce

import (
	"context"
	"slices"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the detection of deadlocks: flights that wait for each other
// in a circle.
//
// A call that is made with the context that a flight's fn was given counts as
// that fn waiting. So there is a graph of waits, across all groups of the
// process, whatever their types. A node is a flight that has a context, and is
// represented by it. An edge goes
//
//   - from a flight to that which a call made by its fn leads, joins, or is
//     queued in, from when the call takes part until it is answered or leaves;
//   - from a flight that is queued to the one in front of it.
//
// Invariants:
//  D1. Edges of the first kind are in the list of their flight, guarded by
//      graph. Only a call that was made by an fn takes it; it is taken before a
//      shard's lock, never under one.
//  D2. The edge is added in the critical section in which the call is admitted,
//      before a flight that it leads has started, and after the search for a
//      way back. So of two calls that would close a circle, the one that is
//      admitted second finds the first.
//  D3. A call that would close a circle takes part in nothing: it is refused.
//  D4. An edge from or to a flight that has finished counts for nothing, nor does
//      that of a call whose context has ended, or is about to with that of the fn
//      that made the call, though it takes the caller a moment to wake up and
//      remove it. A call that leaves removes its edge
//      before that, or with it, as until it has left it may be seen waiting for
//      what it gives up.
//  D5. A flight that no edge leads to, nor to what is queued behind it, is in no
//      circle, and most of them are spared the search (see awaited). What is queued
//      was put there before any edge led to it, and is never put behind another
//      flight.
//
// A flight that runs on its leader's goroutine has no context, hence no edges
// from it: Do's cost stays what it is. The price is that a circle through a Do
// is not found.

// graph guards the edges between flights.
var graph sched.Mutex

// An edge is a call that the fn of one flight made and that waits for another.
type edge struct {
	from, to *flightContext
	key      any             // of to
	done     <-chan struct{} // of the call's context
	links[*edge]
}

// flightKey is the private key under which a flight's context answers with
// itself.
type flightKey struct{}

// Detach returns a context like ctx for work that the fn which was given ctx
// does not wait for, such as filling another cache on a goroutine of its own.
// Calls made with ctx, or with contexts derived from it, count as fn waiting for
// them, and get a *[DeadlockError] if they, in turn, wait for fn; calls made
// with the detached context do not. It changes nothing else: the new context has
// the values, the deadline and the end of ctx. A nil ctx panics.
func Detach(ctx context.Context) context.Context {
	if ctx == nil {
		panicNil(true)
	}
	return detachedContext{ctx}
}

// A detachedContext does not tell which flight it comes from.
type detachedContext struct{ context.Context }

// Value implements [context.Context].
func (c detachedContext) Value(key any) any {
	if key == any(flightKey{}) {
		return nil
	}
	return c.Context.Value(key)
}

// AfterFunc spares contexts derived from c a goroutine (see
// flightContext.AfterFunc).
func (c detachedContext) AfterFunc(fn func()) (stop func() bool) {
	return context.AfterFunc(c.Context, fn)
}

// nestedIn returns an edge for a call made with ctx, nil unless ctx comes from a
// flight that has not finished.
func nestedIn(ctx context.Context) *edge {
	if ctx == context.Background() {
		return nil
	}
	from, _ := ctx.Value(flightKey{}).(*flightContext)
	if from == nil || from.finished.Load() {
		return nil
	}
	return &edge{from: from, done: ctx.Done()}
}

// leaving reports whether the context of e's call has ended, or is about to as the
// context of the fn that made the call has: the call leaves as soon as it wakes up.
// (A context that keeps the values of fn's, does not end with it, and ends otherwise,
// is taken for one that ends with it. So a circle may be missed, of a flight that
// nobody waits for, until that context ends.)
func (e *edge) leaving() bool {
	return e.done != nil && (sched.IsComplete(e.done) || e.from.ending())
}

// point makes e an edge to f. graph must be held. e may be nil.
func point[K comparable, V any](e *edge, f *flight[K, V]) {
	if e == nil || f.context() == nil {
		return
	}
	e.to, e.key = f.context(), f.key
	e.to.waited++
	if a := e.to.ahead.Load(); a != nil {
		a.behind = true
	}
	e.from.edges.push(e)
}

// drop removes e. It may be called again, and graph must not be held. e may be
// nil.
func (e *edge) drop() {
	if e == nil {
		return
	}
	graph.Lock()
	e.remove()
	graph.Unlock()
}

// remove is drop with graph held.
func (e *edge) remove() {
	if e == nil || e.to == nil {
		return // it was never added, or has been removed
	}
	e.from.edges.remove(e)
	e.to.waited--
	e.to, e.key = nil, nil
}

// cycle returns a *DeadlockError if e, pointed to f or to what is queued behind
// it, would close a circle. graph must be held. e may be nil.
func cycle[K comparable, V any](e *edge, f *flight[K, V]) error {
	if e == nil || e.from.finished.Load() {
		return nil
	}
	if !e.from.awaited() && e.from != f.context() {
		return nil // most calls are made by a flight that no other waits for
	}
	var w walk
	if !w.find(e.from, f.context()) {
		return nil
	}
	keys := append(w.keys, f.key) // the last comes first
	keys = append(keys, keys[0])
	slices.Reverse(keys)
	return &DeadlockError{Keys: keys}
}

// awaited reports whether an edge leads to the flight of c, or has led to what was
// queued behind it: to count those, too, would take more than the searches
// that are made in vain. graph must be held.
func (c *flightContext) awaited() bool { return c.waited > 0 || c.behind }

// A walk looks for a way through the graph.
type walk struct {
	seen map[*flightContext]bool
	keys []any // of the edges on the way that was found, the last one first
}

// find reports whether there is a way from a node to the target. Each node is
// looked at once.
func (w *walk) find(target, from *flightContext) bool {
	for n := from; n != nil; n = n.ahead.Load() {
		switch {
		case n == target:
			return true
		case n.finished.Load():
			return false
		case n.edges.first == nil:
			continue
		case w.seen[n]:
			return false
		case w.seen == nil:
			w.seen = map[*flightContext]bool{}
		}
		w.seen[n] = true
		for e := n.edges.last; e != nil; e = e.prev {
			if !e.leaving() && w.find(target, e.to) {
				w.keys = append(w.keys, e.key)
				return true
			}
		}
	}
	return false
}
