package lincheck

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the test that the checker raises no false alarm.

var callsFlag = flag.Int("calls", 1_000_000, "number of calls that TestNoFalseAlarm records of the reference, and as many of groups")

// A mode is a load and its target.
type mode struct {
	name string
	part int // the load has one in so many of the calls
	load storm.Storm
	on   func() (storm.Subject, func() bool) // with a function that reports whether it is idle
}

// A group is the target of the storms.
type group = coalesce.Group[int, history.Token]

// idle reports whether no fn runs in g, forgotten flights included.
func idle(g *group) bool {
	for range g.Flights() {
		return false
	}
	return true
}

// run runs s and returns its history, when all fns have ended.
func run(s storm.Storm, on storm.Subject, idle func() bool) *history.History {
	before := runtime.NumGoroutine()
	h := s.Start(on)()
	for !idle() || runtime.NumGoroutine() > before { // one may have a context to end
		runtime.Gosched()
	}
	return h
}

func onReference() (storm.Subject, func() bool) {
	g := storm.NewReference(storm.Intact)
	return g, g.Idle
}

// onGroup returns a function that makes Groups with a configuration.
func onGroup(configure func(*group)) func() (storm.Subject, func() bool) {
	return func() (storm.Subject, func() bool) {
		g := new(group)
		configure(g)
		return g, func() bool { return idle(g) }
	}
}

func plain(*group) {}

func modes() []mode {
	clone := func(g *group) { g.Clone = func(v history.Token) history.Token { return v } }
	start := func(context.Context, coalesce.Event[int]) context.Context { return nil }
	hook := func(context.Context, coalesce.Event[int]) {}
	hooks := func(g *group) {
		g.Hooks = coalesce.Hooks[int]{Start: start, Join: hook, Receive: hook, Leave: hook, Finish: hook}
	}
	lives := func(g *group) { g.LingerFor, g.LingerMax = storm.LingerFor, 2 }
	one := func(g *group) { g.Shards, g.Hash = 1, func(int) uint64 { return 0 } }
	do, blocking := []storm.Form{storm.ByDo}, []storm.Form{storm.ByDo, storm.ByContext}
	return []mode{
		{"reference", 2, storm.Storm{Keys: 1, Forms: do, Calm: true}, onReference},
		{"reference, all it has", 2, storm.Storm{Keys: 3, Forms: blocking, Cancel: 20, Forget: 3, Calm: true}, onReference},
		{"Do", 8, storm.Storm{Keys: 1, Forms: do, Calm: true}, onGroup(plain)},
		{"Do and Forget", 8, storm.Storm{Keys: 1, Forms: do, Forget: 5}, onGroup(plain)},
		{"leaving", 8, storm.Storm{Keys: 2, Forms: blocking, Cancel: 40}, onGroup(plain)},
		{"everything, one key", 8, storm.Storm{Keys: 1, Cancel: 20, Forget: 3}, onGroup(plain)},
		{"everything, many keys", 8, storm.Storm{Keys: 16, Cancel: 20, Forget: 3}, onGroup(plain)},
		{"everything, one bucket", 8, storm.Storm{Keys: 4, Cancel: 20, Forget: 3}, onGroup(one)},
		{"everything, Clone", 8, storm.Storm{Keys: 3, Cancel: 20, Forget: 3}, onGroup(clone)},
		{"everything, Hooks", 8, storm.Storm{Keys: 3, Cancel: 20, Forget: 3}, onGroup(hooks)},
		{"everything, LingerFor", 8, storm.Storm{Keys: 3, Cancel: 20, Forget: 3, Lives: true}, onGroup(lives)},
	}
}

// silenceLog discards the log until the test is over: a panic that no blocking call
// receives is logged.
func silenceLog(t *testing.T) {
	l := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() { slog.SetDefault(l) })
}

// TestNoFalseAlarm checks that the checker accepts the histories of correct coalescers.
func TestNoFalseAlarm(t *testing.T) {
	silenceLog(t)
	if *callsFlag < 1 || *callsFlag > 1_000_000_000 {
		t.Fatalf("-calls: got %d, want 1 to 1e9", *callsFlag)
	}
	recorded, shared := 0, 0
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			for n := 0; n < *callsFlag/m.part; {
				l := m.load
				l.Clients, l.Calls, l.Seed = 8, 250, rand.Uint64()
				on, idle := m.on()
				h := run(l, on, idle)
				if err := h.Check(); err != nil {
					t.Fatal(err)
				}
				for _, calls := range h.Calls {
					n += len(calls)
					for _, c := range calls {
						if c.Got == history.GotResult && c.From != c.Token {
							shared++
						}
					}
				}
				recorded += l.Clients * l.Calls
			}
		})
	}
	t.Logf("%d calls, %d of them with the result of another", recorded, shared)
	if shared < recorded/20 {
		t.Errorf("got %d of %d calls that shared, want a twentieth: the histories show nothing", shared, recorded)
	}
}
