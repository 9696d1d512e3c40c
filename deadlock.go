package coalesce

import (
	"context"
	"maps"
	"slices"
	"time"

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
// makes a call for the key a, which joins A and closes the cycle.
//
//	   key a          key b          key c
//	╭────────╮ edge ╭────────╮ edge ╭─────────╮
//	│   A    │ ───▶ │   B    │ ───▶ │   C'    │
//	╰────────╯      ╰────────╯      ╰─────────╯
//	    ▲                                │ ahead
//	    │                                ▼
//	    │              edge         ╭─────────╮
//	    ╰────────────────────────── │   C     │
//	                                ╰─────────╯
//
// A cycle that is closed stays closed, so there is no hurry to find it. A nested call
// that joins a flight or is queued in one arms a timer, and one that has no answer when
// the timer fires looks: is there a path from the flight that it waits for back to the
// flight whose fn made it? The call of C finds the path through B and C'. It is refused:
// it leaves A as if its context had ended, and the keys of its error are c, a, b, c.
//
// Every cycle has a call that arms a timer, because a flight that has just been led has
// no edges yet. The last of these calls closes the cycle, and looks later than that. If
// others of the cycle look, too, the first one to find a path is refused.
//
// Invariants:
//  D1. The lock of a flight's context guards the edges that begin at that flight. For an
//      edge only the calls that its fn has made take it, under the lock of a shard or
//      under none. No shard's lock is taken under it. So calls share a lock only if one
//      fn has made them.
//  D2. A call's edge is added in the critical section that admits the call: before a
//      flight that the call leads starts, and before the call's timer is armed. An edge
//      is added once and removed once.
//  D3. looking is held by one look at a time, and by nothing else. No shard's lock is
//      held or taken under it. A look locks one flight at a time, for lookStretch edges
//      at most. No call waits for a look: it returns its result, or the end of its
//      context, though a look for it is under way.
//  D4. A look does not follow an edge from or to a flight that has finished. Nor does it
//      follow the edge of a call whose context has ended, or which was made by an fn
//      whose context has been canceled: such a call is about to leave, though it may
//      take a moment to wake up and remove the edge (see stale). A call that leaves
//      removes its edge before that, or in the same critical section. Otherwise another
//      call could be refused for a wait that is over.
//  D5. A path that was found counts only if it is found again, edge by edge. Then all its
//      edges existed at the moment between, as none of them is ever added again. A look
//      removes the edge of its own call before it releases looking. So no other look
//      finds that cycle, and one call of it is refused.
//  D6. No path leads to a flight if no edge has ever led to it, nor to a flight queued
//      behind it. awaited is set when one does. Most nested calls come from flights in
//      which it is not set, and do not look. It suffices to set it when an edge is
//      added: a flight is queued before an edge leads to it, and is never put behind
//      another flight later.
//
// The fn of a flight that runs on its leader's goroutine does not get a context of that
// flight, so no edges start there. Do costs the same as without this file. The price is
// that a cycle through a Do is not found.
//
// Rejected: to look before the call takes part, and to refuse it then. All nested calls
// of the process need one lock for that, held together with the lock of a shard while
// the graph is searched. With a hundred thousand calls out, two hundred nested calls
// took 889 ms in place of 20, and calls for other keys waited 79 ms.

const (
	// lookAfter is the time after which a call without an answer looks. Most nested
	// calls have theirs by then, and have paid for a timer alone.
	lookAfter = 10 * time.Millisecond

	// lookStretch bounds the edges that a look passes before it releases their lock.
	lookStretch = 1000
)

// looking serializes the looks of all groups, and guards looks, their number.
var (
	looking sched.Mutex
	looks   uint64
)

// An edge is a call that the fn of one flight has made and that waits for another
// flight. nestedIn makes it, or claim for a key of a DoMulti. point adds it to the graph.
type edge struct {
	from *flightContext
	done <-chan struct{} // the Done channel of the call's context

	// timer, if not nil, is that of a call which joined or is queued. armLook sets it
	// under the shard's lock, before the call can have its answer. The keys of a DoMulti
	// share another (multi.armLooks).
	timer sched.Timer

	// from.mu guards the rest. point sets to, and key, which the call asks for: both
	// are zero unless the edge is in the graph. look is the number of the look that
	// passed the edge last. The links are those of the list from.edges.
	to      *flightContext
	key     any
	look    uint64
	leads   bool  // the call was queued and has come to lead: no look may refuse it
	refusal error // a look has refused the call, which must not come to lead any more
	links[*edge]
}

// flightKey is the private key under which a context finds the flightContext that it
// is, or is derived from.
type flightKey struct{}

// Detach returns a context for work that fn starts but does not wait for, such as
// filling another cache on a goroutine of its own. ctx is the context that fn was given,
// or one derived from it.
//
// A call that is made with ctx counts as fn waiting: it gets a *[DeadlockError] if it has
// waited for 10 ms for a flight that waits, in turn, for fn. A call that is made with the
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
// context as well. The call leaves as soon as it wakes up. e.from.mu must be held.
//
// The second is a guess, and is wrong for a call whose context has the values of fn's
// context, but an end of its own instead of that one's, as with [context.WithTimeout] on
// top of [context.WithoutCancel]. Such a call goes on waiting when fn's context is
// canceled, because all callers of fn's flight have left or a Shutdown has run out of
// time. From then on a cycle through this call is missed: another call that closes it
// goes on waiting, and the flights of the cycle wait for each other until a call of the
// cycle leaves. A call whose context can never end is not concerned: its edge counts.
func (e *edge) stale() bool {
	return e.done != nil && (e.from.end != nil || sched.IsComplete(e.done))
}

// point adds e to the graph, as an edge to f. It does nothing if e is nil, or if f has no
// context. The lock of f's shard must be held: so ahead does not change here.
func point[K comparable, V any](e *edge, f *flight[K, V]) {
	if e == nil || f.context() == nil {
		return
	}
	to := f.context()
	to.awaited.Store(true)
	if a := to.ahead.Load(); a != nil {
		a.awaited.Store(true)
	}
	e.from.mu.Lock()
	defer e.from.mu.Unlock()
	e.to, e.key = to, f.key
	e.from.edges.push(e)
}

// drop removes e from the graph, if it is there, and stops the timer. e may be nil. A
// shard's lock may be held.
func (e *edge) drop() {
	if e == nil {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.from.mu.Lock()
	defer e.from.mu.Unlock()
	e.remove()
}

// remove takes e out of the graph, if it is there. e.from.mu must be held.
func (e *edge) remove() {
	if e.to != nil {
		e.from.edges.remove(e)
		e.to, e.key = nil, nil
	}
}

// exempt keeps looks from refusing the call of e, which is about to lead the flight that
// it was queued in. If one has refused the call already, exempt returns the error, and
// the call must not lead. e may be nil. A shard's lock may be held.
func (e *edge) exempt() (refusal error) {
	if e == nil {
		return nil
	}
	e.from.mu.Lock()
	defer e.from.mu.Unlock()
	e.leads = e.refusal == nil
	return e.refusal
}

// armLook arms the timer of c, a nested call that has joined a flight or is queued in
// one. It does nothing for other calls, and if c's flight has no context. c must be on
// the heap, and its shard locked.
func (c *caller[K, V]) armLook() {
	if e := c.edge; e != nil && c.flight.context() != nil {
		e.timer = sched.After(lookAfter, func() {
			if err := e.search(nil); err != nil {
				c.refuse(err)
			}
		})
	}
}

// lookForEach looks for each of the callers, which are keys of one DoMulti, and makes those
// leave that wait for themselves. All these looks are for ways to the same node, so each
// uses what those before have found: together they pass each edge about once. No lock may
// be held.
func lookForEach[K comparable, V any](callers []*caller[K, V]) {
	found := map[*flightContext][]hop{}
	for _, c := range callers {
		if err := c.edge.search(found); err != nil {
			sched.Go(func() { c.refuse(err) }) // it may run user code, which takes its time
		}
	}
}

// refuse makes c, which a look has refused, leave its flight with err as its answer. It
// does nothing if the flight has finished or c has left. If c was picked to lead the
// flight, it hands the turn on. It runs on the goroutine of c's timer, or on that which
// was to take c's turn. No lock may be held.
func (c *caller[K, V]) refuse(err error) {
	switch {
	case !c.leave(err):
	case c.turn == nil: // a receiver, or a key of a DoMulti
		defer c.unwatch() // its context has not ended
		c.afterLeaving(c.ctx)
	case !c.promoted:
		sched.Complete(c.turn) // otherwise notify has done that, or is about to
	}
}

// search looks for a path from the flight that e leads to back to the flight where e
// begins. If there is one, search removes e and returns a *DeadlockError: from then on
// the call waits for nothing, and must be refused. search returns nil if there is none,
// or if the call does not wait any more, or leads. No lock may be held.
//
// found, if not nil, has what earlier looks for edges of the same call have found, when all
// of these were in the graph: for each node that they reached, the path from there back, or
// nil if there was none. If there was none, one that is there now has been closed since, by
// a call that looks later.
func (e *edge) search(found map[*flightContext][]hop) error {
	if !e.from.awaited.Load() {
		return nil // no call waits for the flight whose fn made this one (D6)
	}
	looking.Lock()
	defer looking.Unlock()
	e.from.mu.Lock()
	first, waits := hop{edge: e, key: e.key, from: e.from, to: e.to}, e.to != nil && !e.leads
	e.from.mu.Unlock()
	if !waits {
		return nil
	}
	path := find(first, found)
	if found != nil && !stands(path) {
		maps.DeleteFunc(found, func(_ *flightContext, rest []hop) bool { return rest != nil })
		path = find(first, found)
	}
	if path == nil || !stands(path) {
		return nil
	}
	// e comes last: while it was there, the rest of the path has been seen twice.
	e.from.mu.Lock()
	defer e.from.mu.Unlock()
	if e.to == nil || e.leads {
		return nil
	}
	e.remove()
	e.refusal = &DeadlockError{Keys: keysAlong(path)}
	return e.refusal
}

// A look is one search for a path through the graph.
type look struct {
	number  uint64
	found   map[*flightContext][]hop // see search
	reached map[*flightContext]hop   // by which hop each node was reached first
	next    []*flightContext         // reached nodes that have not been left yet
	hops    []hop                    // from one node, for leave to use again
}

// A hop is a step from one node to another: along an edge or, if edge is nil, along
// ahead. key is that of the edge when it was seen.
type hop struct {
	edge     *edge
	key      any
	from, to *flightContext
}

// find returns a path from the end of the first hop back to its beginning, as a list of hops
// that begins with the first, or nil if there is none. It is a shortest one, unless found,
// as in search, has the rest of it. find adds to found. looking must be held, and no other
// lock.
func find(first hop, found map[*flightContext][]hop) (path []hop) {
	looks++
	l := look{number: looks, found: found, reached: map[*flightContext]hop{}}
	l.reach(first)
	for len(l.next) > 0 {
		n := l.next[0]
		l.next = l.next[1:]
		if rest := found[n]; n == first.from || rest != nil {
			return l.path(first, n, rest)
		}
		l.leave(n)
	}
	if found != nil {
		for n := range l.reached {
			found[n] = nil
		}
	}
	return nil
}

// path returns the path that begins with the first hop, leads to n as l has found it, and
// goes on with rest. It adds the nodes before n to l.found.
func (l *look) path(first hop, n *flightContext, rest []hop) (path []hop) {
	for h := l.reached[n]; ; h = l.reached[h.from] {
		path = append(path, h)
		if h.edge == first.edge {
			break
		}
	}
	slices.Reverse(path)
	before := path[:len(path)-1]
	path = append(path, rest...)
	if l.found != nil {
		for i, h := range before {
			l.found[h.to] = path[i+1:]
		}
	}
	return path
}

// reach notes that the node at the end of h can be reached, unless it has been before, or
// its flight has finished, or an earlier look has found no path from there.
func (l *look) reach(h hop) {
	if _, before := l.reached[h.to]; before || h.to.finished.Load() {
		return
	}
	if rest, known := l.found[h.to]; known && rest == nil {
		return
	}
	l.reached[h.to] = h
	l.next = append(l.next, h.to)
}

// leave reaches all nodes that are one hop from n. It moves each edge that it passes to
// the end of the list: so those that it has not passed come first, however the list
// changes when the lock is released between.
func (l *look) leave(n *flightContext) {
	if a := n.ahead.Load(); a != nil {
		l.reach(hop{from: n, to: a})
	}
	for more := true; more; {
		l.hops = l.hops[:0]
		n.mu.Lock()
		for range lookStretch {
			e := n.edges.first
			if e == nil || e.look == l.number {
				more = false
				break
			}
			e.look = l.number
			n.edges.remove(e)
			n.edges.push(e)
			if !e.stale() {
				l.hops = append(l.hops, hop{e, e.key, n, e.to})
			}
		}
		n.mu.Unlock()
		for _, h := range l.hops {
			l.reach(h)
		}
	}
}

// stands reports whether all hops of the path are still possible (D5).
func stands(path []hop) bool {
	return !slices.ContainsFunc(path, func(h hop) bool { return !h.stands() })
}

// stands reports whether h is still possible, and its flights have not finished.
func (h hop) stands() bool {
	if h.from.finished.Load() || h.to.finished.Load() {
		return false
	}
	if h.edge == nil {
		return h.from.ahead.Load() == h.to
	}
	h.from.mu.Lock()
	defer h.from.mu.Unlock()
	return h.edge.to == h.to && !h.edge.stale()
}

// keysAlong returns the keys of the flights on a path, which is a cycle. The first hop
// comes second, as its key is the one that the refused call asks for.
func keysAlong(path []hop) (keys []any) {
	for _, h := range path {
		if h.edge != nil { // ahead leads to a flight of the same key
			keys = append(keys, h.key)
		}
	}
	return append([]any{keys[len(keys)-1]}, keys...)
}
