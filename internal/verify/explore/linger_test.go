//go:build coalesceexplore

package explore

import (
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file explores the outcomes that linger: until they are dropped, and until their
// time is over.

// TestExplore_Linger: successes linger until they are forgotten, or replaced.
func TestExplore_Linger(t *testing.T) {
	sum := exploring(t)
	lingering := func(g *tokens) { g.Linger = coalesce.Forever }
	all := steps("Do", "Do/error", "DoContext/ends", "DoFresh", "DoChan/ends", "TryDo", "DoMulti", "Shutdown")
	for i, a := range all {
		for _, b := range all[i:] {
			for _, c := range steps("Do", "DoFresh", "Forget") {
				p := program{setup: lingering, scripts: []script{{a}, {b}, {c}}}
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
		}
	}
	sum.log(t)
}

// lingerFor is the LingerFor of the programs that have lives.
func (w *world) lingerFor(v history.Token, err error) time.Duration {
	of := tokenOf(0, v, err) // the token of a batch's error has no key, and is zero
	life, now := w.lives(of, err), sched.Now()
	w.asked[of]++
	switch {
	case life == coalesce.Forever:
		w.ends[of] = int64(coalesce.Forever)
	case life > 0:
		w.ends[of] = now + int64(life)
	}
	sched.Point() // it may take its time
	return life
}

// checkLives notes answers by expired outcomes, executions that a lingering outcome
// should have held off, and executions for which LingerFor was not called exactly once.
func (w *world) checkLives() {
	had := map[history.Token]history.Stamp{} // when a call first had the outcome
	w.calls(func(c *history.Call) {
		if first, ok := had[c.From]; c.Got == history.GotResult && (!ok || c.Ret < first) {
			had[c.From] = c.Ret
		}
	})
	var runs []*history.Call
	w.calls(func(c *history.Call) {
		if c.Exec.Runs > 0 {
			runs = append(runs, c)
		}
		end, lingers := w.ends[c.From]
		if c.Got == history.GotResult && had[c.From] < c.Inv && w.lives != nil && (!lingers || w.begins[c.Token] >= end) {
			w.note("%v began at %d, and got the outcome of %v, which had expired at %d", c.Token, w.begins[c.Token], c.From, end)
		}
	})
	if w.lives == nil {
		return
	}
	for _, r := range runs {
		want := 0
		if r.Exec.How == history.ExitReturn || r.Exec.How == history.ExitError {
			want = 1
		}
		_, batch := w.batches[r.Token]
		if n := w.asked[r.Token]; n != want && !(batch && r.Exec.How == history.ExitError) {
			w.note("LingerFor was asked %d times for %v", n, r.Token)
		}
		for _, o := range runs {
			first, ok := had[o.Token]
			if w.steady && o.Key == r.Key && ok && first < r.Inv && w.starts[r.Token] < w.ends[o.Token] {
				w.note("%v ran at %d, and the outcome of %v lingered until %d", r.Token, w.starts[r.Token], o.Token, w.ends[o.Token])
			}
		}
	}
}

// expireAll lets time pass until all lingering outcomes have expired, except those that
// linger forever, and notes any that has not been freed by then.
func (w *world) expireAll() {
	forever := uint64(0)
	for _, end := range w.ends {
		if end == int64(coalesce.Forever) {
			forever++
		}
	}
	sched.Advance(int64(time.Hour))
	sched.FireTimers()
	if n := w.g.Stats().Lingering; w.lives != nil && n > forever {
		w.note("%d outcomes linger, and %d may forever", n, forever)
	}
	if _, err := coalesce.KeptIn(w.g); err != nil {
		w.note("%v after an hour", err)
	}
}

// TestExplore_LingerFor: outcomes linger for a time, failures for another, while calls are
// answered by them, load them again, and drop them, and sweeps free them.
func TestExplore_LingerFor(t *testing.T) {
	sum := exploring(t)
	seconds := func(of history.Token, err error) time.Duration {
		if err != nil {
			return time.Second // a failure holds off other calls
		}
		return time.Duration(of.Call) * time.Second // of one client, the later one has a longer life
	}
	mixed := func(of history.Token, err error) time.Duration {
		return []time.Duration{0, time.Second, coalesce.Forever, 2 * time.Second}[(of.Client+of.Call)%4]
	}
	passes := script{elapse("a second", time.Second)}
	for _, a := range steps("Do", "Do/error", "DoContext/ends", "DoChan/ends", "DoMulti/keys") {
		// A second call of the same client finds the outcome of the first, or loads it again.
		again := script{a, steps("Do")[0]}
		p := program{lives: seconds, steady: true, scripts: []script{again, steps("Do"), passes}}
		sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		for _, b := range steps("DoFresh", "Forget", "ForgetFunc", "Shutdown", "DoContext/hold/ends") {
			p := program{lives: seconds, scripts: []script{again, {b}}}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			p.lives = mixed
			p.scripts = []script{{a}, {b}, steps("DoFresh")}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		}
	}
	// A sweep and a new outcome of the same key.
	p := program{lives: seconds, steady: true, scripts: []script{steps("Do", "Do/error"), passes}}
	p.scripts[0] = append(p.scripts[0], steps("Do")...)
	sum.add(explore(t, sched.Explorer{Preemptions: 2, Releases: true}, p))
	sum.log(t)
}

// TestExplore_LingerMax: at no moment do more outcomes linger than allowed, even if
// several begin to at once, in different shards, and others expire.
func TestExplore_LingerMax(t *testing.T) {
	sum := exploring(t)
	evicted := uint64(0)
	exceeded := func(w *world, _ history.Token) {
		if st := w.g.Stats(); st.Lingering > 1 {
			w.note("%d outcomes linger, where one may", st.Lingering)
		}
	}
	lives := func(of history.Token, err error) time.Duration {
		if of.Key == 1 {
			return time.Second
		}
		return 2 * time.Second
	}
	for _, a := range steps("Do", "DoFresh", "DoMulti") {
		for _, b := range steps("Do/other", "DoMulti/ends") {
			for _, c := range steps("Forget", "a second") {
				p := program{
					setup: func(g *tokens) { g.LingerMax = 1 }, lives: lives, shards: 4, during: exceeded,
					scripts: []script{{a, steps("Do")[0]}, {b}, {c}},
					after:   func(w *world) { evicted += w.g.Stats().Evicted },
				}
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
		}
	}
	if evicted == 0 {
		t.Error("got no outcome evicted, want some")
	}
	t.Logf("%d outcomes were evicted", evicted)
	sum.log(t)
}
