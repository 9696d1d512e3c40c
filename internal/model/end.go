package model

import "slices"

// Forget forgets the flight of key and drops what lingers for it.
func (g *Group) Forget(key int) bool {
	f := g.registered[key]
	if !g.drop(key) && f == nil {
		return false
	}
	g.Stats.Forgotten++
	if f != nil {
		g.detach(f)
	}
	return true
}

// detach unregisters f, which goes on.
func (g *Group) detach(f *Flight) {
	f.Forgotten = true
	g.remove(f)
	g.forgotten = append(g.forgotten, f)
}

// ForgetUnshared is Forget unless a call has joined the flight of key and
// somebody still waits for it.
func (g *Group) ForgetUnshared(key int) bool {
	f := g.registered[key]
	if f != nil && f.Joined && f.State != Abandoned {
		return false
	}
	g.Forget(key)
	return true
}

// Shutdown closes the group.
func (g *Group) Shutdown() {
	g.Closed = true
	g.successes = nil
	for _, f := range g.Flights() {
		if f.State != Queued && f.State != Promoted {
			continue
		}
		f.State = Finished
		for _, c := range f.Callers {
			g.reject(c, Closed)
		}
	}
	started := func(f *Flight) bool { return f.State != Finished }
	g.forgotten = slices.DeleteFunc(g.forgotten, func(f *Flight) bool { return !started(f) })
	for key, f := range g.registered {
		f.Queue = nil
		if !started(f) {
			delete(g.registered, key)
		}
	}
}

// Drained reports whether a Shutdown that was called returns nil.
func (g *Group) Drained() bool {
	return g.Closed && len(g.registered) == 0 && len(g.forgotten) == 0
}

// OutOfTime is the end of the context of a Shutdown that was called and has
// not returned.
func (g *Group) OutOfTime() {
	for _, f := range g.Flights() {
		g.end(f, ErrClosed)
	}
}
