//go:build coalesceexplore

package explore

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// The files of this package explore the schedules of small programs systematically: the
// code of package coalesce itself, with every order of its locks, atomics, waits and
// completions that the bounds allow. The checker of the storms judges the answers of the
// callers, and the group's own state is checked when all calls have returned.
//
//	go test -tags coalesceexplore -cpu 1 ./internal/verify/explore
//
// This file holds programs, how they run, and the rules that must hold at their end. The
// acts of their clients are in calls_test.go, and the programs are in the other files.

var (
	exploreLong = flag.Bool("explore.long", false, "explore much more, which takes some twenty minutes")
	exploreRuns = flag.Int("explore.random", 30_000, "how many random schedules of larger programs to explore")
	exploreSeed = flag.Int("explore.seed", 1, "what those are drawn from")
)

// tokens is the group of the programs.
type tokens = coalesce.Group[int, history.Token]

// A step is one act of a client of a program.
type step struct {
	name string
	do   func(w *world, c *storm.Client)
}

// A script is the acts of one client, one step after the other. A step in which the
// client's own goroutine may exit has to be the last.
type script []step

func (s script) String() string {
	var names []string
	for _, st := range s {
		names = append(names, st.name)
	}
	return strings.Join(names, ", ")
}

// A program is the unit that is explored: a group, and scripts that run side by side.
type program struct {
	setup   func(g *tokens)
	scripts []script
	unused  bool // the calls make the table
	shards  int  // 0 means 1
	aging   bool // MaxAge may be reached at any time
	hooked  bool // all hooks are set

	// lives is LingerFor, if it is not nil. If steady is set, a lingering outcome is
	// dropped when its time is over, and for no other reason.
	lives  func(of history.Token, err error) time.Duration
	steady bool

	during func(w *world, of history.Token) // called by the fn of that call; may be nil
	after  func(w *world)                   // called at the end; may be nil
}

func (p program) String() string {
	var names []string
	for _, s := range p.scripts {
		names = append(names, s.String())
	}
	return strings.Join(names, " | ")
}

// A world is the state of one run of a program.
type world struct {
	program
	g       *tokens
	running map[int]int  // executions, by key
	forgot  map[int]bool // keys of which two may run at once
	h       *history.History
	notes   []string
	heard   *hookLog // nil without hooks

	// Of the keys that a Forget of any form was called for: those that certainly were
	// forgotten, and those that may have been.
	forgotten, maybe uint64

	// The state of executions. Those of a batch have a token each.
	contexts map[history.Token]context.Context // the context that fn was given
	lasting  map[history.Token]bool            // of those, the ones that must not end any more
	batches  map[history.Token]history.Token   // the first of the same batch
	holds    map[history.Token]bool            // the result of Hold
	asked    map[history.Token]int             // the number of calls of LingerFor
	ends     map[history.Token]int64           // when the outcome expires, by the clock

	begins map[history.Token]int64 // when calls began, by the clock
	starts map[history.Token]int64 // when their fns started
}

func (w *world) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// run runs p once, and returns an error if the rules were broken.
func (p program) run() error {
	w := &world{
		program: p,
		g:       &tokens{Shards: max(1, p.shards), Hash: func(key int) uint64 { return uint64(key) }},
		running: map[int]int{}, forgot: map[int]bool{},
		contexts: map[history.Token]context.Context{}, lasting: map[history.Token]bool{},
		batches: map[history.Token]history.Token{}, holds: map[history.Token]bool{},
		asked: map[history.Token]int{}, ends: map[history.Token]int64{},
		begins: map[history.Token]int64{}, starts: map[history.Token]int64{},
	}
	if p.setup != nil {
		p.setup(w.g)
	}
	if p.lives != nil {
		w.g.LingerFor = w.lingerFor
	}
	if p.hooked {
		w.heard = newHookLog(w)
		w.g.Hooks = w.heard.hooks()
	}
	if !p.unused {
		w.g.Len() // makes the table
	}
	history.Now = func() history.Stamp { return history.Stamp(sched.Step()) }
	clients := make([]*storm.Client, len(p.scripts))
	w.h = &history.History{Closing: history.Never, Lingering: w.g.Linger > 0, Aging: p.aging}
	for i, s := range p.scripts {
		c := &storm.Client{Storm: &storm.Storm{}, G: w.g, ID: i, Calls: make([]history.Call, 0, 8)}
		clients[i] = c
		sched.Go(func() {
			for _, st := range s {
				st.do(w, c)
			}
		})
	}
	sched.Join()
	sched.Settle()
	for _, c := range clients {
		w.h.Calls = append(w.h.Calls, c.Calls)
		w.h.Forgets = append(w.h.Forgets, c.Forgets)
	}
	w.atRest()
	if p.after != nil {
		p.after(w)
	}
	w.h.Notes = w.notes
	return w.h.Check()
}

// lingers reports whether outcomes may linger.
func (w *world) lingers() bool { return w.g.Linger > 0 || w.lives != nil }

// calls calls do for each call that was made.
func (w *world) calls(do func(c *history.Call)) {
	for _, client := range w.h.Calls {
		for i := range client {
			do(&client[i])
		}
	}
}

// atRest notes remainders in a group that no call uses, and broken rules that the history
// does not show.
func (w *world) atRest() {
	if n := w.g.Len(); n != 0 {
		w.note("%d keys in flight", n)
	}
	for f := range w.g.Flights() {
		w.note("a flight at rest: %+v", f)
	}
	for key, n := range w.running {
		if n != 0 {
			w.note("%d executions of key %d have not ended", n, key)
		}
	}
	if n := sched.Watches(); n != 0 {
		w.note("%d contexts are still watched", n)
	}
	if n := sched.Timers(); n != 0 && w.lives == nil { // a sweep may have one
		w.note("%d timers are left", n)
	}
	w.checkStats()
	if w.heard != nil {
		w.heard.atRest()
	}
	got := w.gotten()
	w.checkContexts(got)
	if w.lingers() {
		w.checkLives()
		w.expireAll()
	}
	if err := storm.AtRest(w.g); err != nil {
		w.note("%v", err)
	}
}

// checkStats notes counters that do not add up.
func (w *world) checkStats() {
	calls := uint64(0)
	w.calls(func(*history.Call) { calls++ })
	st := w.g.Stats()
	if st.Calls != calls || st.Calls != st.Led+st.Joined+st.Lingered+st.Rejected+st.EndedOnEntry {
		w.note("%d calls, and %+v", calls, st)
	}
	if st.Forgotten < w.forgotten || st.Forgotten > w.forgotten+w.maybe {
		w.note("%d or %d more keys were forgotten, and %+v", w.forgotten, w.maybe, st)
	}
}

// life returns the time for which the outcome of an execution may linger, for the
// history: forever, as the stamps there are no times. checkLives checks the rest.
func (w *world) life(of history.Token, how history.Exit) history.Stamp {
	var err error
	if how == history.ExitError {
		err = &history.FnError{Of: of}
	}
	if w.lives == nil || w.lives(of, err) <= 0 {
		return 0
	}
	return history.Never
}

// gotten returns the executions of which a call has the outcome, or the group. Of those of
// a batch it has the first.
func (w *world) gotten() map[history.Token]bool {
	got := map[history.Token]bool{}
	w.calls(func(c *history.Call) {
		if c.Got == history.GotResult {
			got[w.first(c.From)] = true
		}
	})
	if !w.lingers() {
		return got
	}
	kept, err := coalesce.KeptIn(w.g)
	if err != nil {
		w.note("%v", err)
	}
	for _, k := range kept {
		of := tokenOf(k.Key, k.Val, k.Err)
		got[w.first(of)] = true
		if ctx := w.contexts[of]; ctx != nil && ctx.Err() != nil {
			w.note("the outcome of %v lingers, and its context has ended", of)
		}
	}
	return got
}

// first returns the first execution of the batch that one belongs to, or that one.
func (w *world) first(of history.Token) history.Token {
	if first, ok := w.batches[of]; ok {
		return first
	}
	return of
}

// tokenOf returns the execution that an outcome of key comes from.
func tokenOf(key int, v history.Token, err error) history.Token {
	switch e := err.(type) {
	case *history.FnError:
		return e.Of
	case *history.BatchError:
		return e.Of[key]
	}
	return v
}

// explore explores p and fails the test if a schedule breaks a rule.
func explore(t *testing.T, x sched.Explorer, p program) sched.Report {
	t.Helper()
	rep := x.Explore(p.run)
	if rep.Err != nil {
		t.Fatalf("%v\nafter %d schedules: %v\ndecisions %v\nthread  is about to     at\n%s",
			p, rep.Runs, rep.Err, rep.Decisions, rep.Trace)
	}
	return rep
}

// unlogged keeps panics that no blocking call gets out of the log, and restores the clock
// of the histories when the test is over.
func unlogged(t *testing.T) {
	clock, l := history.Now, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() { history.Now = clock; slog.SetDefault(l) })
}

// An explored sums reports up.
type explored struct {
	began                  time.Time
	programs, runs, points int
}

// exploring begins to sum up.
func exploring(t *testing.T) *explored {
	unlogged(t)
	return &explored{began: time.Now()}
}

func (e *explored) add(r sched.Report) {
	e.programs++
	e.runs += r.Runs
	e.points += r.Points
}

func (e *explored) log(t *testing.T) {
	t.Logf("%d programs, %d schedules, %d points; %.0f schedules a second", e.programs, e.runs, e.points,
		float64(e.runs)/time.Since(e.began).Seconds())
}

// steps returns all steps with these names.
func steps(names ...string) []step {
	var found []step
	for _, st := range append(alphabet(), features()...) {
		if slices.Contains(names, st.name) {
			found = append(found, st)
		}
	}
	if len(found) != len(names) {
		panic(fmt.Sprintf("%q are %d steps", names, len(found)))
	}
	return found
}
