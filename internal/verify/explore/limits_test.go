//go:build coalesceexplore

package explore

import (
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file explores MaxAge and MaxWaiters.

// TestExplore_MaxAge: a call, or the timer of a successor, takes over from a flight that
// reaches its age.
func TestExplore_MaxAge(t *testing.T) {
	sum := exploring(t)
	aged := func(g *tokens) { g.MaxAge = time.Second }
	all := steps("Do", "DoContext/ends", "DoFresh", "DoFresh/ends", "DoChan/ends", "TryDo", "DoMulti", "Forget")
	for i, a := range all {
		for _, b := range all[i:] {
			p := program{setup: aged, scripts: []script{{a}, {b}, {elapse("a second", time.Second)}}}
			sum.add(explore(t, sched.Explorer{Delays: 3}, p))
			sum.add(explore(t, sched.Explorer{Delays: 2, Releases: true}, p))
		}
	}
	sum.log(t)
}

// TestExplore_MaxWaiters: no flight ever has more waiters than allowed, and in programs
// that cannot have as many, no call is refused.
func TestExplore_MaxWaiters(t *testing.T) {
	sum := exploring(t)
	limited := func(g *tokens) { g.MaxWaiters = 1 }
	exceeded := func(w *world, _ history.Token) {
		for f := range w.g.Flights() {
			waiters := f.Waiters
			if f.State == coalesce.StateQueued {
				waiters-- // one of them is to lead
			}
			if waiters > 1 {
				w.note("%+v, where one may wait", f)
			}
		}
	}
	full := func(w *world) (n int) {
		w.calls(func(c *history.Call) {
			if c.Got == history.GotFull {
				n++
			}
		})
		return n
	}
	refused := 0
	all := steps("Do", "DoContext", "DoContext/ends", "DoFresh", "DoFresh/ends", "DoChan/ends", "TryDo", "DoMulti")
	for i, a := range all {
		for j, b := range all[i:] {
			sum.add(explore(t, sched.Explorer{Delays: 2}, program{
				setup: limited, scripts: []script{{a}, {b}},
				after: func(w *world) {
					if full(w) > 0 {
						w.note("a call was refused, with one other")
					}
				},
			}))
			for _, c := range all[i+j:] {
				sum.add(explore(t, sched.Explorer{Delays: 2}, program{
					setup: limited, scripts: []script{{a}, {b}, {c}}, during: exceeded,
					after: func(w *world) { refused += full(w) },
				}))
			}
		}
	}
	if refused == 0 {
		t.Error("got no call that was refused, want some")
	}
	t.Logf("%d calls were refused", refused)
	sum.log(t)
}
