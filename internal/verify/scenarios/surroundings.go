package scenarios

import (
	"testing"
	"testing/synctest"
)

// This file holds the scenario about the places where a group is used.

var surroundings = []Scenario{{
	Name: "30",
	Requires: "A group in a package variable is used outside of testing/synctest bubbles, in one, in another, and " +
		"outside again: nothing is fatal, and a call that waits in a bubble is durably blocked. (One execution for " +
		"callers inside and outside is not required.)",
	Outside: true,
	Run:     bubbles,
}}

func bubbles(t *testing.T, p *Peer) error {
	var f faults
	g := p.New()
	outside := func() {
		for i := range 100 {
			f.usable(g, name(i))
		}
	}
	inside := func(t *testing.T) {
		for _, c := range together(g, value(1)) {
			if !c.got(1) {
				f.add("a call gets %v and %v", c.v, c.err)
			}
		}
		if p.Has&Channels != 0 {
			if v, _, err := g.DoChan("k", value(1))(); v != 1 || err != nil {
				f.add("a receiver gets %v and %v", v, err)
			}
		}
	}
	outside()
	synctest.Test(t, inside)
	synctest.Test(t, inside)
	outside()
	return f.err()
}
