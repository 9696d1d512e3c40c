//go:build coalesceexplore

package explore

import (
	"slices"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file explores ForgetFunc and ForgetFlight, which look first and forget afterwards.

// forgetFunc returns a step that forgets some keys with ForgetFunc.
func forgetFunc(name string, keys ...int) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		inv, asked := history.Now(), map[int]int{}
		for _, key := range keys {
			w.forgot[key] = true
		}
		n := w.g.ForgetFunc(func(key int) bool {
			sched.Point() // match may take its time
			asked[key]++
			return slices.Contains(keys, key)
		})
		f := history.Forget{Func: true, Inv: inv, Ret: history.Now(), Done: n > 0, Count: n}
		for _, key := range keys {
			f.Key = key
			c.Forgets = append(c.Forgets, f)
			f.Count = 0
			if asked[key] > 2 {
				w.note("match was asked for key %d %d times", key, asked[key])
			}
		}
		if n < 0 || n > len(keys) {
			w.note("ForgetFunc forgot %d of %d keys", n, len(keys))
		}
		w.forgotten += uint64(n)
	}}
}

// forgetFlight returns a step that looks at the flights of a key and forgets one of them,
// any, with ForgetFlight.
func forgetFlight(name string, key int) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		ids := []uint64{0} // of no flight
		for f := range w.g.Flights() {
			if f.Key == key {
				ids = append(ids, f.ID)
			}
		}
		id := ids[len(ids)-1]
		if len(ids) > 2 {
			id = ids[1+sched.Choose(len(ids)-1)]
		}
		w.forgot[key] = true
		f := history.Forget{Key: key, Flight: id, Inv: history.Now()}
		f.Done = w.g.ForgetFlight(id)
		f.Ret = history.Now()
		w.forgotten += btou(f.Done)
		if id == 0 {
			if f.Done {
				w.note("a flight with ID 0 was forgotten")
			}
			return
		}
		c.Forgets = append(c.Forgets, f)
		if !f.Done {
			return
		}
		for of := range w.g.Flights() {
			if of.ID == id && !of.Forgotten {
				w.note("%+v after it was forgotten", of)
			}
		}
		if w.g.ForgetFlight(id) {
			w.note("flight %d was forgotten twice", id)
		}
	}}
}

// TestExplore_Forget: ForgetFunc and ForgetFlight while calls lead, join, are queued and
// promoted, while flights finish, and while outcomes begin to linger.
func TestExplore_Forget(t *testing.T) {
	sum := exploring(t)
	lingering := func(g *tokens) { g.Linger = coalesce.Forever }
	all := steps("Do", "DoContext/ends", "DoFresh/ends", "DoChan/ends", "DoMulti/ends")
	for i, a := range all {
		for _, b := range all[i:] {
			for _, c := range steps("ForgetFlight", "ForgetFunc") {
				p := program{scripts: []script{{a}, {b}, {c}}}
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
			// The result of a call that begins after ForgetFunc is newer than that.
			p := program{setup: lingering, scripts: []script{{a}, {b}, steps("ForgetFunc", "Do")}}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		}
		p := program{scripts: []script{{a}, {a}, steps("ForgetFlight")}}
		sum.add(explore(t, sched.Explorer{Delays: 2, Releases: true}, p))
		p = program{setup: lingering, scripts: []script{{a}, steps("ForgetFlight"), steps("Do")}}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		p = program{scripts: []script{{a}, steps("ForgetFunc/both"), steps("Do/other", "Do")}, shards: 4}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		p.setup = lingering
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		p = program{scripts: []script{{a}, steps("ForgetFunc"), steps("Shutdown/ends")}}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
	}
	sum.log(t)
}
