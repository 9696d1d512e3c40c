//go:build coalesceexplore

package explore

import (
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file explores the forms of call, with each other, with Forget and with Shutdown.

// inline are the forms whose fn runs on the caller's goroutine: programs of these have no
// threads other than the callers, and few schedules.
func inline() []step {
	return steps("Do", "Do/other", "Do/error", "Do/panic", "Do/Goexit", "DoContext/never", "TryDo")
}

// TestExplore_Inline: all schedules of two callers with a call each and a Forget
// to three preemptions, of three callers, and of two with two calls each, to two.
func TestExplore_Inline(t *testing.T) {
	sum := exploring(t)
	all := inline()
	for i, a := range all {
		for j, b := range all[i:] {
			p := program{scripts: []script{{a}, {b}, steps("Forget")}}
			sum.add(explore(t, sched.Explorer{Preemptions: 3}, p))
			for _, c := range all[i+j:] {
				p := program{scripts: []script{{a}, {b}, {c}}}
				sum.add(explore(t, sched.Explorer{Preemptions: 2}, p))
			}
		}
	}
	var scripts []script
	for _, a := range steps("Do", "Do/panic", "TryDo", "Forget") { // no Goexit: it would end the goroutine
		for _, b := range steps("Do", "Do/panic", "TryDo") {
			scripts = append(scripts, script{a, b})
		}
	}
	for i, a := range scripts {
		for _, b := range scripts[i:] {
			sum.add(explore(t, sched.Explorer{Preemptions: 2}, program{scripts: []script{a, b}}))
		}
	}
	sum.log(t)
}

// TestExplore_Pairs: each two calls of the alphabet, and a Forget beside them.
func TestExplore_Pairs(t *testing.T) {
	sum := exploring(t)
	all := alphabet()
	for i, a := range all {
		for _, b := range all[i:] {
			p := program{scripts: []script{{a}, {b}, steps("Forget")}}
			if *exploreLong {
				sum.add(explore(t, sched.Explorer{Delays: 4}, p))
				sum.add(explore(t, sched.Explorer{Preemptions: 1}, p))
			} else {
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
		}
	}
	sum.log(t)
}

// TestExplore_Triples: three callers with a call each.
func TestExplore_Triples(t *testing.T) {
	sum := exploring(t)
	all := steps("Do", "DoContext/ends", "DoFresh/ends", "DoChan/ends", "TryDo", "DoMulti/ends", "Shutdown/ends")
	x := sched.Explorer{Delays: 2}
	if *exploreLong {
		all, x.Delays = append(all, steps("Do/panic", "DoFresh", "Forget")...), 3
	}
	for i, a := range all {
		for j, b := range all[i:] {
			for _, c := range all[i+j:] {
				sum.add(explore(t, x, program{scripts: []script{{a}, {b}, {c}}}))
			}
		}
	}
	sum.log(t)
}

// TestExplore_Rejected: Shutdown rejects the keys of a batch that are queued behind those
// of another, in the same order for every seed of the group.
func TestExplore_Rejected(t *testing.T) {
	sum := exploring(t)
	p := program{scripts: []script{steps("DoMulti/ends"), steps("DoMulti/ends"), steps("Shutdown/ends")}}
	sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	sum.log(t)
}

// TestExplore_Shards: a batch whose flights are in different shards is joined while its
// caller leaves. With one shard, that shard's lock hides the effect of the batch's own.
func TestExplore_Shards(t *testing.T) {
	sum := exploring(t)
	for _, other := range []string{"Do/other", "Do"} {
		p := program{scripts: []script{steps("DoMulti/ends"), steps(other)}, shards: 16}
		sum.add(explore(t, sched.Explorer{Preemptions: 2}, p))
		sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	}
	// A Shutdown is out of time between the ends of the batch's flights.
	p := program{scripts: []script{steps("DoMulti"), steps("DoContext/ends"), steps("Shutdown/ends")}, shards: 4}
	sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	// All callers leave the batch while its flights end: a lingering value needs its
	// context.
	p = program{
		setup:   func(g *tokens) { g.Linger = coalesce.Forever },
		scripts: []script{steps("DoMulti/ends"), steps("DoContext/ends")}, shards: 4,
	}
	sum.add(explore(t, sched.Explorer{Delays: 4}, p))
	sum.log(t)
}

// TestExplore_TwoByTwo: two callers with two calls each.
func TestExplore_TwoByTwo(t *testing.T) {
	sum := exploring(t)
	all := steps("Do", "DoContext/ends", "DoFresh", "Forget")
	x := sched.Explorer{Delays: 2}
	if *exploreLong {
		all = steps("Do", "DoContext", "DoContext/ends", "DoFresh/ends", "DoChan/ends", "TryDo", "DoMulti", "Forget")
		x.Delays = 3
	}
	var scripts []script
	for _, a := range all {
		for _, b := range all {
			scripts = append(scripts, script{a, b})
		}
	}
	for i, a := range scripts {
		for _, b := range scripts[i:] {
			sum.add(explore(t, x, program{scripts: []script{a, b}}))
		}
	}
	sum.log(t)
}

// TestExplore_Releases: the same with a point after each release of a lock. This finds
// operations outside of a lock that belong under it, without the race detector, by their
// consequences.
func TestExplore_Releases(t *testing.T) {
	sum := exploring(t)
	for i, a := range inline() {
		for j, b := range inline()[i:] {
			for _, c := range append(inline()[i+j:], steps("Forget", "Shutdown")...) {
				sum.add(explore(t, sched.Explorer{Preemptions: 2, Releases: true}, program{scripts: []script{{a}, {b}, {c}}}))
			}
		}
	}
	all := alphabet()
	for i, a := range all {
		for _, b := range all[i:] {
			x := sched.Explorer{Delays: 2, Releases: true}
			sum.add(explore(t, x, program{scripts: []script{{a}, {b}}}))
		}
	}
	sum.log(t)
}

// TestExplore_FirstUse: two calls make the table, and use the same one.
func TestExplore_FirstUse(t *testing.T) {
	sum := exploring(t)
	for _, a := range steps("Do", "DoContext", "DoChan/ends", "TryDo", "Forget", "Shutdown") {
		for _, b := range steps("Do", "DoMulti") {
			p := program{unused: true, scripts: []script{{a}, {b}}}
			sum.add(explore(t, sched.Explorer{Delays: 4}, p))
		}
	}
	sum.log(t)
}
