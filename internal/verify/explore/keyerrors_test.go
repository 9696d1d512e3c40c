//go:build coalesceexplore

package explore

import (
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file explores the batches of a DoMulti whose fn gives single keys errors of their
// own.

// TestExplore_KeyErrors: a DoMulti with a key that fails and one that does not, while
// other calls join one of them, lead it alone, and leave, and while the value begins to
// linger. Each call gets the result of its own key.
func TestExplore_KeyErrors(t *testing.T) {
	sum := exploring(t)
	lingering := func(g *tokens) { g.Linger = coalesce.Forever }
	for _, a := range steps("DoMulti/keys", "DoMulti/keys/ends") {
		for _, b := range steps(
			"Do", "Do/other", "DoContext/ends", "DoContext/other/ends", "DoFresh/ends", "DoChan/ends",
			"DoMulti/ends", "DoMulti/keys/ends", "Forget", "ForgetFunc/both", "Shutdown/ends",
		) {
			p := program{scripts: []script{{a}, {b}}}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			p.setup, p.shards = lingering, 4
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			// Another call joins, and may leave.
			p = program{hooked: true, scripts: []script{{a}, {b}, steps("DoContext/other/ends")}}
			sum.add(explore(t, sched.Explorer{Delays: 1, Releases: true}, p))
		}
		p := program{scripts: []script{{a}, steps("Do/other"), steps("DoContext/other/ends")}}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
	}
	sum.log(t)
}
