package model

import (
	"math"
	"slices"
)

// Forever is a Group.Linger, or a Call.Life, that does not end.
const Forever = math.MaxInt

// An outcome is a flight whose value or error lingers.
type outcome struct {
	flight *Flight
	end    int // when it stops lingering; or Forever
}

// life returns the time for which the outcome of f, which ends with how, may linger.
func (g *Group) life(f *Flight, how Exit) int {
	switch {
	case how != Return && how != Error:
		return 0
	case g.LingerFor:
		return f.Leader.Life
	case how == Error || f.Leader.Absent:
		return 0
	}
	return g.Linger
}

// keep makes the outcome of f linger. If that is one too many, the one with the least
// time left is evicted, of several the one that has lingered longest.
func (g *Group) keep(f *Flight, life int) {
	f.Kept = true
	if g.LingerMax > 0 && len(g.lingering) == g.LingerMax {
		first := 0
		for i, o := range g.lingering {
			if o.end < g.lingering[first].end {
				first = i
			}
		}
		g.lingering = slices.Delete(g.lingering, first, first+1)
		g.Stats.Evicted++
	}
	o := outcome{f, Forever}
	if life < Forever {
		o.end = g.now + life
	}
	g.lingering = append(g.lingering, o)
}

// age ends the lives that are over.
func (g *Group) age() {
	g.lingering = slices.DeleteFunc(g.lingering, func(o outcome) bool {
		if o.end > g.now {
			return false
		}
		g.ended = append(g.ended, o.end)
		return true
	})
	g.ended = slices.DeleteFunc(g.ended, func(end int) bool { return end+g.Slack <= g.now })
}

// Lingering returns the number of outcomes that linger, and the number that the Group may
// keep in addition, because they have expired and it need not have freed them.
func (g *Group) Lingering() (n, more int) { return len(g.lingering), len(g.ended) }

// lingers returns the flight whose outcome lingers for key, or nil.
func (g *Group) lingers(key int) *Flight {
	for _, o := range g.lingering {
		if o.flight.Key == key {
			return o.flight
		}
	}
	return nil
}

// drop ends the lingering outcome for key, and reports whether there was one.
func (g *Group) drop(key int) bool {
	n := len(g.lingering)
	g.lingering = slices.DeleteFunc(g.lingering, func(o outcome) bool { return o.flight.Key == key })
	return len(g.lingering) < n
}
