package model

import "slices"

// full reports whether MaxWaiters refuses a call that is to take part in f, which is nil
// if it is still to be made.
func (g *Group) full(f *Flight) bool {
	if g.MaxWaiters == 0 || f == nil {
		return false
	}
	waiters := f.Waiters()
	if f.Leader == nil {
		waiters-- // one of them is to lead it
	}
	return waiters >= g.MaxWaiters
}

// overdue reports whether f has reached MaxAge.
func (g *Group) overdue(f *Flight) bool {
	return g.MaxAge > 0 && f.Leader != nil && g.Age(f) >= g.MaxAge
}

// takeOver lets another flight start beside f, which is overdue, and drops the lingering
// outcome for its key.
func (g *Group) takeOver(f *Flight) {
	g.Stats.TakenOver++
	g.drop(f.Key)
	g.detach(f)
}

// expire takes over from f if it is overdue and a successor waits for that.
func (g *Group) expire(f *Flight) {
	if g.overdue(f) && f.Queue != nil {
		g.takeOver(f)
	}
}

// Tick lets a unit of time pass.
func (g *Group) Tick() {
	g.now++
	for _, f := range g.Flights() {
		if slices.Contains(g.registered, f) {
			g.expire(f)
		}
	}
	g.age()
}
