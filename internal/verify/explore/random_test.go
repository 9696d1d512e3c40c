//go:build coalesceexplore

package explore

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file explores programs that are drawn at random.

// TestExplore_Random: programs that are too large for all schedules, of all steps, in
// groups of one shard or of sixteen, and with some of the features.
func TestExplore_Random(t *testing.T) {
	const programs = 200
	sum := exploring(t)
	if *exploreRuns < programs || *exploreRuns > 1_000_000_000 {
		t.Fatalf("-explore.random: got %d, want %d to 1e9", *exploreRuns, programs)
	}
	rng := rand.New(rand.NewPCG(uint64(*exploreSeed), 2))
	for range programs {
		sum.add(explore(t, sched.Explorer{Random: *exploreRuns / programs, Changes: 3, Seed: rng.Uint64()}, randomProgram(rng)))
	}
	sum.log(t)
}

// randomProgram draws a program.
func randomProgram(rng *rand.Rand) program {
	p := program{scripts: make([]script, 3+rng.IntN(4)), shards: 1 + 15*rng.IntN(2), hooked: rng.IntN(4) == 0}
	all := append(alphabet(), features()...)
	for i := range p.scripts {
		for n := 1 + rng.IntN(3); n > 0; n-- {
			st := all[rng.IntN(len(all))]
			p.scripts[i] = append(p.scripts[i], st)
			if strings.HasSuffix(st.name, "Goexit") {
				break // the client's goroutine may exit
			}
		}
	}
	var options []func(g *tokens)
	p.setup = func(g *tokens) {
		for _, set := range options {
			set(g)
		}
	}
	if rng.IntN(4) == 0 {
		options = append(options, func(g *tokens) {
			g.Clone = func(v history.Token) history.Token { sched.Point(); return v }
		})
	}
	if rng.IntN(6) == 0 {
		options = append(options, func(g *tokens) { g.MaxWaiters = 1 })
	}
	if p.aging = rng.IntN(5) == 0; p.aging {
		options = append(options, func(g *tokens) { g.MaxAge = time.Second })
		p.scripts = append(p.scripts, script{elapse("a second", time.Second)})
	} else {
		p.during = heldIsJoined
	}
	switch rng.IntN(6) {
	case 0:
		options = append(options, func(g *tokens) { g.Linger = coalesce.Forever })
	case 1:
		options = append(options, func(g *tokens) { g.LingerMax = 1 })
		fallthrough
	case 2:
		odd := rng.IntN(2)
		p.lives = func(of history.Token, err error) time.Duration {
			return []time.Duration{time.Second, coalesce.Forever, 2 * time.Second, 0}[(of.Client+of.Call+odd)%4]
		}
	}
	return p
}
