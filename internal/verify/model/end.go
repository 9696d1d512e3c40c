package model

import "slices"

// Forget forgets the flight of key and drops the lingering outcome for it.
func (g *Group) Forget(key int) bool {
	f := g.lookup(key)
	if !g.drop(key) && f == nil {
		return false
	}
	g.Stats.Forgotten++
	if f != nil {
		g.detach(f)
	}
	return true
}

// ForgetFlight forgets f if it is registered, and leaves the lingering outcome for its
// key.
func (g *Group) ForgetFlight(f *Flight) bool {
	if !slices.Contains(g.registered, f) {
		return false
	}
	g.Stats.Forgotten++
	g.detach(f)
	return true
}

// ForgetFunc does the same as Forget for each key that matches, including NaN, and
// returns the number of keys.
func (g *Group) ForgetFunc(match func(key int) bool) (n int) {
	for _, f := range slices.Clone(g.registered) {
		if match(f.Key) && (f.Key == NaN && g.ForgetFlight(f) || g.Forget(f.Key)) {
			n++
		}
	}
	for _, o := range slices.Clone(g.lingering) { // the others have no flight
		if match(o.flight.Key) && g.drop(o.flight.Key) {
			g.Stats.Forgotten++
			n++
		}
	}
	return n
}

// detach unregisters f, which goes on.
func (g *Group) detach(f *Flight) {
	f.Forgotten = true
	g.remove(f)
	g.forgotten = append(g.forgotten, f)
}

// ForgetUnshared is Forget unless a call has joined the flight of key and that is not
// abandoned.
func (g *Group) ForgetUnshared(key int) bool {
	f := g.lookup(key)
	if f != nil && f.Joined && f.State != Abandoned {
		return false
	}
	g.Forget(key)
	return true
}

// Shutdown closes the group.
func (g *Group) Shutdown() {
	g.Closed = true
	g.lingering, g.ended = nil, nil
	for _, f := range g.Flights() {
		if f.State != Queued && f.State != Promoted {
			continue
		}
		f.State = Finished
		for _, c := range f.Callers {
			g.reject(c, Closed)
		}
	}
	over := func(f *Flight) bool { return f.State == Finished }
	g.forgotten = slices.DeleteFunc(g.forgotten, over)
	g.registered = slices.DeleteFunc(g.registered, over)
	for _, f := range g.registered {
		f.Queue = nil
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
