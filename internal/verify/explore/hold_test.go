//go:build coalesceexplore

package explore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file explores Hold (G18) against every event that ends a flight or a call.

// hold calls Hold with ctx, for the fn of the executions with these tokens, and reports
// whether they are held.
func (w *world) hold(ctx context.Context, of ...history.Token) bool {
	s, ok := ctx.(fmt.Stringer)
	own := ok && s.String() == "coalesce.Flight"
	held := coalesce.Hold(ctx)
	if held && !own {
		w.note("Hold held %v, whose fn has no context of its own", of)
	}
	for _, me := range of {
		if own {
			w.holds[me] = held
		}
	}
	return held
}

// checkContexts notes contexts of fns that have ended and should not have, or for another
// reason, where the history does not show that. got has the executions whose outcome a
// call or the group has.
func (w *world) checkContexts(got map[history.Token]bool) {
	for of := range w.lasting {
		if w.contexts[of].Err() != nil {
			w.note("the context of %v ended when its result had been had", of)
		}
	}
	w.calls(func(c *history.Call) {
		held, own := w.holds[c.Token]
		if !own || c.Exec.How == history.ExitGoexit {
			return // the answers do not name it
		}
		ctx, used := w.contexts[c.Token], got[w.first(c.Token)]
		switch {
		case !held && used:
			w.note("Hold returned false for %v, and its outcome is used", c.Token)
		case held && !used && ctx.Err() != nil && w.h.Closing == history.Never && context.Cause(ctx) != context.Canceled:
			w.note("the context of %v, which was held, ended because of %v", c.Token, context.Cause(ctx))
		}
	})
}

// heldIsJoined notes a wrong state of a held flight in Flights: that it is abandoned, or
// that calls are queued behind it though none is a DoFresh.
func heldIsJoined(w *world, of history.Token) {
	if !w.holds[of] || w.forgot[of.Key] {
		return
	}
	fresh := strings.Contains(w.program.String(), "DoFresh")
	for f := range w.g.Flights() {
		if f.Key == of.Key && !f.Forgotten && !w.forgot[of.Key] && // while Flights was called
			(f.State == coalesce.StateAbandoned || f.State == coalesce.StateQueued && !fresh) {
			w.note("%v is held, and there is %+v", of, f)
		}
	}
}

// TestExplore_Hold: the fn of a call calls Hold while the call leaves, others come, the
// flight is forgotten or reaches MaxAge, the group is shut down, and the outcome begins to
// linger.
func TestExplore_Hold(t *testing.T) {
	sum := exploring(t)
	lingering := func(g *tokens) { g.Linger = coalesce.Forever }
	aged := func(g *tokens) { g.MaxAge = time.Second }
	for _, a := range steps("DoContext/hold/ends", "DoFresh/hold/ends", "DoChan/hold/ends", "DoMulti/hold/ends") {
		for _, b := range steps("Do", "DoContext/ends", "DoFresh/ends", "DoContext/hold/panic/ends", "DoMulti/hold/ends") {
			p := program{scripts: []script{{a}, {b}}, during: heldIsJoined}
			sum.add(explore(t, sched.Explorer{Delays: 2, Releases: true}, p))
			p.setup = lingering
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		}
		for _, c := range steps("Forget", "ForgetUnshared", "ForgetFlight", "Shutdown", "Shutdown/ends", "TryDo", "Do/hold") {
			p := program{scripts: []script{{a}, steps("DoContext/ends"), {c}}, during: heldIsJoined}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		}
		p := program{scripts: []script{{a}, steps("Do")}, during: heldIsJoined}
		sum.add(explore(t, sched.Explorer{Delays: 3}, p))
		p = program{setup: aged, scripts: []script{{a}, steps("Do"), {elapse("a second", time.Second)}}}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
	}
	sum.log(t)
}
