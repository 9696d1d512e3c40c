package model

import "math"

// Forever is a Group.Linger that does not end.
const Forever = math.MaxInt

// full reports whether a call that wants to take part in f, nil if that is still
// to be made, finds MaxWaiters before it.
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

// takeOver lets another flight start beside f, which is overdue, and drops what
// lingers for its key.
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
		if f == g.registered[f.Key] {
			g.expire(f)
		}
	}
	for len(g.successes) > 0 && g.now-g.successes[0].since >= g.Linger {
		g.successes = g.successes[1:]
	}
}

// A success is a flight whose value lingers.
type success struct {
	flight *Flight
	since  int // when it finished
}

// keep makes the value of f linger.
func (g *Group) keep(f *Flight) {
	f.Kept = true
	g.successes = append(g.successes, success{f, g.now})
	if g.LingerMax > 0 && len(g.successes) > g.LingerMax {
		g.successes = g.successes[1:]
		g.Stats.Evicted++
	}
}

// lingering returns the flight whose value lingers for key, or nil.
func (g *Group) lingering(key int) *Flight {
	for _, s := range g.successes {
		if s.flight.Key == key {
			return s.flight
		}
	}
	return nil
}

// drop makes what lingers for key linger no longer, and reports whether
// anything did.
func (g *Group) drop(key int) bool {
	for i, s := range g.successes {
		if s.flight.Key == key {
			g.successes = append(g.successes[:i:i], g.successes[i+1:]...)
			return true
		}
	}
	return false
}
