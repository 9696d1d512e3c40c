package coalesce

import (
	"context"
	"slices"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds the detection of deadlocks: flights that wait for each other in a
// cycle.
//
// A call that is made with the context of a flight's fn counts as that fn waiting. So
// there is a graph of waits. It spans all groups of the process, whatever their types. A
// node is a flight that has a context, and the context stands for it. The flights of a
// batch have one context, and are one node. There are two kinds of edges:
//
//   - An edge leads from a flight to the flight that a call made by its fn leads, joins
//     or is queued in. It exists from when the call takes part until the call has its
//     answer or leaves.
//   - ahead leads from a queued flight to the flight in front of it. It exists until the
//     queued flight is promoted, rejected or left by its last call.
//
// Here a call by the fn of A has joined B. The fn of B has called DoFresh for the key c:
// that call is queued in C', the successor of C, because C began earlier. Now the fn of C
// makes a call for the key a.
//
//	   key a          key b          key c
//	╭────────╮ edge ╭────────╮ edge ╭─────────╮
//	│   A    │ ───▶ │   B    │ ───▶ │   C'    │
//	╰────────╯      ╰────────╯      ╰─────────╯
//	    ▲                                │ ahead
//	    ╎                                ▼
//	    ╎                           ╭─────────╮
//	    ╰╌╌╌ refused ╌╌╌╌╌╌╌╌╌╌╌╌╌╌ │   C     │
//	                                ╰─────────╯
//
// Before that call takes part, cycle looks for a way from A, the flight that the call has
// found, to C, the flight whose fn makes the call. There is one, through B and C'. So the
// call is refused, and the keys of its error are c, a, b, c.
//
// Invariants:
//  D1. graph guards the edges, and the counts of them in their nodes. A call takes graph
//      only if an fn made it, and takes it before a shard's lock, never under one. ahead
//      and finished are atomic: the goroutines that write them under a shard's lock need
//      not hold graph, and a search, which reads them, holds the lock of one shard.
//  D2. A call's edge is added in the critical section that admits the call. That comes
//      after the search for a way back, and before a flight that the call leads starts.
//      graph is held all the time. So of the calls that form a cycle together, the one
//      that is admitted last finds the edges of the others.
//  D3. A call that would close a cycle takes part in nothing. It is refused.
//  D4. The search does not follow an edge from or to a flight that has finished. Nor does
//      it follow the edge of a call whose context has ended, or which was made by an fn
//      whose context has been canceled: such a call is about to leave, though it may
//      take a moment to wake up and remove the edge (see stale). A call that leaves
//      removes its edge before that, or in the same critical section. Otherwise another
//      call could be refused for a wait that is over.
//  D5. No way leads to a node if no edge leads to it, nor to a flight queued behind it. A
//      call by its fn then closes no cycle, unless it asks for that very node. Most calls
//      come from such nodes, and skip the search. To recognize them, each node counts in
//      waited the edges that lead to it, and behind is set when an edge is added to a
//      flight queued behind it. That is enough because a flight is queued before an edge
//      leads to it, and is never put behind another flight later.
//
// finished and ahead may change during a search, but only so as to end a wait. So all
// edges of a way that is found existed when the search began.
//
// The fn of a flight that runs on its leader's goroutine does not get a context of that
// flight, so no edges start there. Do costs the same as without this file. The price is
// that a cycle through a Do is not found.

// graph guards the edges between the flights of all groups (D1).
var graph sched.Mutex

// An edge is a call that the fn of one flight has made and that waits for another
// flight. nestedIn makes it, or claim for a key of a DoMulti. point adds it to the graph.
type edge struct {
	// from and done, the Done channel of the call's context, do not change. point sets
	// to, and key, which the call asks for: both are zero unless the edge is in the
	// graph. graph guards to, key and the links, which are those of the list from.edges.
	from, to *flightContext
	key      any
	done     <-chan struct{}
	links[*edge]
}

// flightKey is the private key under which a context finds the flightContext that it
// is, or is derived from.
type flightKey struct{}

// Detach returns a context for work that fn starts but does not wait for, such as
// filling another cache on a goroutine of its own. ctx is the context that fn was given,
// or one derived from it.
//
// A call that is made with ctx counts as fn waiting: it gets a *[DeadlockError] if the
// flight that it would wait for waits, in turn, for fn. A call that is made with the
// detached context does not count. In all other respects the two contexts are the same:
// the detached one has the values, the deadline, the end and the cause of ctx. If ctx
// does not come from an fn, nothing changes.
//
// Detach panics if ctx is nil.
func Detach(ctx context.Context) context.Context {
	must(ctx != nil, "context")
	return detachedContext{ctx}
}

// A detachedContext is a context that does not answer flightKey.
type detachedContext struct{ context.Context }

// Value implements [context.Context].
func (c detachedContext) Value(key any) any {
	if key == any(flightKey{}) {
		return nil
	}
	return c.Context.Value(key)
}

// AfterFunc calls [context.AfterFunc]. With it, a context derived from c ends with c and
// needs no goroutine that waits for c (see flightContext.AfterFunc).
func (c detachedContext) AfterFunc(fn func()) (stop func() bool) {
	return context.AfterFunc(c.Context, fn)
}

// nestedIn returns an edge for a call made with ctx, which is not in the graph yet. It
// returns nil if ctx does not come from an fn, or if the flight of that fn has finished.
// It calls methods of ctx, so that no lock may be held.
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

// stale reports whether the call of e is about to leave: its context has ended, or the
// context of the fn that made it has been canceled, which is about to end the call's
// context as well. The call leaves as soon as it wakes up. graph must be held.
//
// The second is a guess, and is wrong for a call whose context has the values of fn's
// context, but an end of its own instead of that one's, as with [context.WithTimeout] on
// top of [context.WithoutCancel]. Such a call goes on waiting when fn's context is
// canceled, because all callers of fn's flight have left or a Shutdown has run out of
// time. From then on a cycle through this call is missed: another call that closes it is
// admitted, and the flights of the cycle wait for each other until a call of the cycle
// leaves. A call whose context can never end is not concerned: its edge counts.
func (e *edge) stale() bool {
	return e.done != nil && (sched.IsComplete(e.done) || e.from.marked())
}

// point adds e to the graph, as an edge to f. It does nothing if e is nil, or if f has no
// context. graph and the lock of f's shard must be held: so ahead does not change here.
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

// drop removes e from the graph, if it is there. e may be nil. No lock may be held.
func (e *edge) drop() {
	if e == nil {
		return
	}
	graph.Lock()
	e.remove()
	graph.Unlock()
}

// remove is drop for a caller that holds graph. Other locks may be held, too.
func (e *edge) remove() {
	if e == nil || e.to == nil {
		return // it has not been added, or has been removed
	}
	e.from.edges.remove(e)
	e.to.waited--
	e.to, e.key = nil, nil
}

// cycle returns a *DeadlockError if e would close a cycle as an edge to f or to the
// successor of f. Both are asked for at once, because ahead leads from the successor to
// f and no other edge starts there. cycle returns nil if e is nil. graph and the lock of
// f's shard must be held.
func cycle[K comparable, V any](e *edge, f *flight[K, V]) error {
	if e == nil || e.from.finished.Load() {
		return nil
	}
	if !e.from.awaited() && e.from != f.context() {
		return nil // most calls are made by a flight that no other waits for (D5)
	}
	var w walk
	if !w.find(e.from, f.context()) {
		return nil
	}
	keys := append(w.keys, f.key) // in the example: c, b, a
	keys = append(keys, keys[0])
	slices.Reverse(keys)
	return &DeadlockError{Keys: keys}
}

// awaited reports whether an edge leads to the flight of c, or has led to a flight that
// was queued behind it. An edge of the second kind is not counted down when it is
// removed: that would take more time than the searches which are made in vain. graph
// must be held.
func (c *flightContext) awaited() bool { return c.waited > 0 || c.behind }

// A walk is one search for a way through the graph.
type walk struct {
	seen map[*flightContext]bool // the nodes with edges whose edges have been followed
	keys []any                   // of the edges on the way that was found, the last first
}

// find reports whether a way leads from a node to the target, and if so appends the keys
// of its edges to w.keys. The loop follows ahead, the recursion the edges; the edges of
// each node are followed once. graph must be held.
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
			if !e.stale() && w.find(target, e.to) {
				w.keys = append(w.keys, e.key)
				return true
			}
		}
	}
	return false
}
