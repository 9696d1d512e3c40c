//go:build coalesceexplore

package coalesce_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/history"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/storm"
)

// This file explores the schedules of small programs systematically: the code of
// the package itself, with every order of its locks, atomics, waits and
// completions that the bounds allow. What the callers saw is judged by the checker
// of the storms, and the group's own state when everybody has returned.
//
//	go test -tags coalesceexplore -run Explore -cpu 1 .

var (
	exploreLong = flag.Bool("explore.long", false, "explore much more, which takes some twenty minutes")
	exploreRuns = flag.Int("explore.random", 20_000, "how many random schedules of larger programs to explore")
	exploreSeed = flag.Int("explore.seed", 1, "what those are drawn from")
)

// A step is one thing that a client of a program does.
type step struct {
	name string
	do   func(w *world, c *storm.Client)
}

// A script is what one client does, one step after the other. A step in which the
// client's own goroutine may exit has to be the last.
type script []step

func (s script) String() string {
	var names []string
	for _, st := range s {
		names = append(names, st.name)
	}
	return strings.Join(names, ", ")
}

// A program is what is explored: a group, and scripts that run side by side.
type program struct {
	setup   func(g *coalesce.Group[int, history.Token])
	scripts []script
	unused  bool           // the calls make the table
	shards  int            // 0 means 1
	aging   bool           // MaxAge may be reached at any time
	during  func(w *world) // called while an fn runs; may be nil
	after   func(w *world) // called at the end; may be nil
}

func (p program) String() string {
	var names []string
	for _, s := range p.scripts {
		names = append(names, s.String())
	}
	return strings.Join(names, " | ")
}

// A world is what one run of a program is about.
type world struct {
	program
	g       *coalesce.Group[int, history.Token]
	running map[int]int  // executions, by key
	forgot  map[int]bool // keys of which two may run at once
	h       *history.History
	notes   []string

	contexts map[history.Token]context.Context // that each fn was given
	lasting  map[history.Token]bool            // of those, which must not end any more
}

func (w *world) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// run runs p once, and returns what is wrong with what happened.
func (p program) run() error {
	w := &world{
		program: p,
		g:       &coalesce.Group[int, history.Token]{Shards: max(1, p.shards), Hash: func(key int) uint64 { return uint64(key) }},
		running: map[int]int{}, forgot: map[int]bool{},
		contexts: map[history.Token]context.Context{}, lasting: map[history.Token]bool{},
	}
	if p.setup != nil {
		p.setup(w.g)
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
	for _, c := range clients {
		w.h.Calls = append(w.h.Calls, c.Calls)
		w.h.Forgets = append(w.h.Forgets, c.Forgets)
	}
	w.atRest(clients)
	if p.after != nil {
		p.after(w)
	}
	w.h.Notes = w.notes
	return w.h.Check()
}

// atRest notes what a group must not have left when nobody uses it.
func (w *world) atRest(clients []*storm.Client) {
	if n := w.g.Len(); n != 0 {
		w.note("%d keys in flight", n)
	}
	for f := range w.g.Flights() {
		w.note("a flight at rest: %+v", f)
	}
	if err := storm.AtRest(w.g); err != nil {
		w.note("%v", err)
	}
	for key, n := range w.running {
		if n != 0 {
			w.note("%d executions of key %d have not ended", n, key)
		}
	}
	for of := range w.lasting {
		if w.contexts[of].Err() != nil {
			w.note("the context of %v ended when its result had been had", of)
		}
	}
	if n := sched.Watches(); n != 0 {
		w.note("%d contexts are still watched", n)
	}
	calls := uint64(0)
	for _, c := range clients {
		calls += uint64(len(c.Calls))
	}
	if st := w.g.Stats(); st.Calls != calls || st.Calls != st.Led+st.Joined+st.Lingered+st.Rejected+st.EndedOnEntry {
		w.note("%d calls, and %+v", calls, st)
	}
}

// enter and leave surround what an fn does for a key.
func (w *world) enter(key int) {
	if w.running[key]++; w.running[key] > 1 && !w.forgot[key] && !w.aging {
		w.note("%d executions of key %d at once", w.running[key], key)
	}
}

func (w *world) leave(key int) { w.running[key]-- }

// had notes that r has returned: what it got may need the context of the fn that
// it comes from for as long as it likes. A Shutdown may have ended that before.
func (w *world) had(r *history.Call) {
	ctx := w.contexts[r.From]
	if r.Got == history.GotResult && ctx != nil && (w.h.Closing == history.Never || ctx.Err() == nil) {
		w.lasting[r.From] = true
	}
}

// fn returns the fn of the call r, during which others can do something.
func (w *world) fn(r *history.Call, how history.Exit) func(context.Context) (history.Token, error) {
	me, e := r.Token, &r.Exec
	e.How = how
	return func(ctx context.Context) (history.Token, error) {
		e.Start = history.Now()
		e.Runs++
		w.contexts[me] = ctx
		w.enter(me.Key)
		sched.Point()
		if w.during != nil {
			w.during(w)
		}
		w.leave(me.Key)
		e.Canceled = ctx.Err() != nil
		e.End = history.Now()
		switch how {
		case history.ExitError:
			return history.Token{}, &history.FnError{Of: me}
		case history.ExitPanic:
			panic(history.FnPanic{Of: me})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		return me, nil
	}
}

// An endable is a context that a thread of a program ends.
type endable struct {
	context.Context
	done  chan struct{}
	ended bool
}

func newEndable() *endable { return &endable{Context: context.Background(), done: make(chan struct{})} }

func (c *endable) Done() <-chan struct{} { return c.done }

func (c *endable) Err() error {
	sched.Point()
	if c.ended {
		return context.Canceled
	}
	return nil
}

// end ends c, as what a client of its own does.
func (c *endable) end() {
	sched.Go(func() {
		sched.Point()
		c.ended = true
		close(c.done)
	})
}

// call returns a step that makes one call of a blocking form. cancel says that the
// call's context may end at any time.
func call(name string, form storm.Form, key int, how history.Exit, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		r := c.NewRecord(key)
		r.Fresh, r.Try = form == storm.ByFresh, form == storm.ByTry
		ctx := context.Context(context.Background())
		if form == storm.ByContext || form == storm.ByFresh {
			e := newEndable()
			ctx = e
			if cancel {
				e.end()
			}
		}
		sched.Point()
		c.Block(form, ctx, r, w.fn(r, how))
		w.had(r)
	}}
}

// callForever returns a step that makes a DoContext whose context never ends: if it
// leads, it runs fn itself.
func callForever(name string, key int) step {
	return step{name, func(w *world, c *storm.Client) {
		r := c.NewRecord(key)
		sched.Point()
		c.Block(storm.ByContext, context.Background(), r, w.fn(r, history.ExitReturn))
		w.had(r)
	}}
}

// callChan returns a step that makes a DoChan and receives from it.
func callChan(name string, key int, how history.Exit, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		r, e := c.NewRecord(key), newEndable()
		if cancel {
			e.end()
		}
		sched.Point()
		r.Inv = history.Now()
		ch := c.G.DoChan(e, key, w.fn(r, how))
		sched.Await("receive", func() bool { return len(ch) > 0 })
		res := <-ch
		r.Ret, r.Shared = history.Now(), res.Shared
		if pe, ok := res.Err.(*coalesce.PanicError); ok {
			r.RecordPanic(pe)
		} else {
			r.Record(e, res.Val, res.Err)
		}
		w.had(r)
	}}
}

// callMulti returns a step that makes a DoMulti.
func callMulti(name string, how history.Exit, cancel bool, keys ...int) step {
	return step{name, func(w *world, c *storm.Client) {
		e := newEndable()
		if cancel {
			e.end()
		}
		sched.Point()
		records := map[int]*history.Call{}
		for _, key := range keys {
			records[key] = c.NewRecord(key)
			records[key].Inv = history.Now()
		}
		results := c.G.DoMulti(e, keys, func(ctx context.Context, keys []int) (map[int]history.Token, error) {
			of := map[int]history.Token{}
			for _, key := range keys {
				x := &records[key].Exec
				x.Start, x.How, x.Batch = history.Now(), how, records[keys[0]].Token
				x.Runs++
				of[key] = records[key].Token
				w.contexts[of[key]] = ctx
				w.enter(key)
			}
			sched.Point()
			for _, key := range keys {
				w.leave(key)
				x := &records[key].Exec
				x.Canceled, x.End = ctx.Err() != nil, history.Now()
			}
			switch how {
			case history.ExitError:
				return nil, &history.BatchError{Of: of}
			case history.ExitPanic:
				panic(history.BatchPanic{Of: of})
			case history.ExitGoexit:
				runtime.Goexit()
			}
			return of, nil
		})
		ret := history.Now()
		for _, key := range keys {
			r, res := records[key], results[key]
			r.Ret, r.Shared = ret, res.Shared
			if pe, ok := res.Err.(*coalesce.PanicError); ok {
				r.RecordPanic(pe)
			} else {
				r.Record(e, res.Val, res.Err)
			}
			w.had(r)
		}
	}}
}

// forget returns a step that forgets a key.
func forget(name string, key int, unshared bool) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		w.forgot[key] = true
		f := history.Forget{Key: key, Unshared: unshared, Inv: history.Now()}
		if unshared {
			f.Done = c.G.ForgetUnshared(key)
		} else {
			f.Done = c.G.Forget(key)
		}
		f.Ret = history.Now()
		c.Forgets = append(c.Forgets, f)
	}}
}

// shutdown returns a step that shuts the group down. After that nothing runs.
func shutdown(name string, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		e := newEndable()
		if cancel {
			e.end()
		}
		sched.Point()
		w.h.Closing = min(w.h.Closing, history.Now())
		err := w.g.Shutdown(e)
		switch {
		case err == nil:
			for key, n := range w.running {
				if n > 0 {
					w.note("%d executions of key %d after Shutdown", n, key)
				}
			}
		case !cancel || err != context.Canceled:
			w.note("Shutdown returned %v", err)
		}
	}}
}

// elapse returns a step that lets time pass, after which flights that were running
// may be taken over from.
func elapse(name string, d time.Duration) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		for key := 1; key <= 2; key++ {
			w.forgot[key] = true
			c.Forgets = append(c.Forgets, history.Forget{Key: key, Inv: history.Now(), Ret: history.Never, Done: true})
		}
		sched.Advance(int64(d))
	}}
}

// The alphabet of the small programs, all for key 1 but for the second key of a
// DoMulti.
func alphabet() []step {
	return []step{
		call("Do", storm.ByDo, 1, history.ExitReturn, false),
		call("Do/other", storm.ByDo, 2, history.ExitReturn, false),
		call("Do/error", storm.ByDo, 1, history.ExitError, false),
		call("Do/panic", storm.ByDo, 1, history.ExitPanic, false),
		call("Do/Goexit", storm.ByDo, 1, history.ExitGoexit, false),
		call("DoContext", storm.ByContext, 1, history.ExitReturn, false),
		callForever("DoContext/never", 1),
		call("DoContext/ends", storm.ByContext, 1, history.ExitReturn, true),
		call("DoContext/panic/ends", storm.ByContext, 1, history.ExitPanic, true),
		call("DoContext/Goexit", storm.ByContext, 1, history.ExitGoexit, false),
		call("DoFresh", storm.ByFresh, 1, history.ExitReturn, false),
		call("DoFresh/ends", storm.ByFresh, 1, history.ExitReturn, true),
		callChan("DoChan", 1, history.ExitReturn, false),
		callChan("DoChan/ends", 1, history.ExitReturn, true),
		callChan("DoChan/Goexit", 1, history.ExitGoexit, false),
		call("TryDo", storm.ByTry, 1, history.ExitReturn, false),
		callMulti("DoMulti", history.ExitReturn, false, 1, 2),
		callMulti("DoMulti/ends", history.ExitReturn, true, 2, 1),
		callMulti("DoMulti/panic", history.ExitPanic, false, 1, 2),
		forget("Forget", 1, false),
		forget("ForgetUnshared", 1, true),
		shutdown("Shutdown", false),
		shutdown("Shutdown/ends", true),
	}
}

// explore explores p and fails the test if it finds something.
func explore(t *testing.T, x sched.Explorer, p program) sched.Report {
	t.Helper()
	rep := x.Explore(p.run)
	if rep.Err != nil {
		t.Fatalf("%v\nafter %d schedules: %v\ndecisions %v\nthread  is about to     at\n%s",
			p, rep.Runs, rep.Err, rep.Decisions, rep.Trace)
	}
	return rep
}

// unlogged keeps panics that nobody is left to be told of from the log, and gives the
// histories their time back when the test is over.
func unlogged(t *testing.T) {
	clock, l := history.Now, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() { history.Now = clock; slog.SetDefault(l) })
}

// An explored sums reports up.
type explored struct{ programs, runs, points int }

func (e *explored) add(r sched.Report) {
	e.programs++
	e.runs += r.Runs
	e.points += r.Points
}

func (e *explored) log(t *testing.T, began time.Time) {
	took := time.Since(began)
	t.Logf("%d programs, %d schedules, %d points; %.0f schedules a second", e.programs, e.runs, e.points,
		float64(e.runs)/took.Seconds())
}

// steps returns the steps of the alphabet with these names.
func steps(names ...string) []step {
	var found []step
	for _, st := range alphabet() {
		if slices.Contains(names, st.name) {
			found = append(found, st)
		}
	}
	if len(found) != len(names) {
		panic(fmt.Sprintf("%q are %d steps", names, len(found)))
	}
	return found
}

// inline are the forms whose fn runs on the caller's goroutine: programs of these
// have no threads but the callers, and few schedules.
func inline() []step {
	return steps("Do", "Do/other", "Do/error", "Do/panic", "Do/Goexit", "DoContext/never", "TryDo")
}

// TestExplore_Inline: all schedules of two callers with a call each and a Forget
// to three preemptions, of three callers, and of two with two calls each, to two.
func TestExplore_Inline(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
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
	for _, a := range steps("Do", "Do/panic", "TryDo", "Forget") { // no Goexit: the goroutine would be gone
		for _, b := range steps("Do", "Do/panic", "TryDo") {
			scripts = append(scripts, script{a, b})
		}
	}
	for i, a := range scripts {
		for _, b := range scripts[i:] {
			sum.add(explore(t, sched.Explorer{Preemptions: 2}, program{scripts: []script{a, b}}))
		}
	}
	sum.log(t, began)
}

// TestExplore_Pairs: each two calls of the alphabet, and a Forget beside them.
func TestExplore_Pairs(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
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
	sum.log(t, began)
}

// TestExplore_Triples: three callers with a call each.
func TestExplore_Triples(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
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
	sum.log(t, began)
}

// TestExplore_Rejected: Shutdown rejects the keys of a batch that are queued behind
// those of another; in the same order, whatever the group's secret.
func TestExplore_Rejected(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	p := program{scripts: []script{steps("DoMulti/ends"), steps("DoMulti/ends"), steps("Shutdown/ends")}}
	sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	sum.log(t, began)
}

// TestExplore_Shards: a batch whose flights are in different shards is joined while
// its caller leaves. With one shard, that one's lock hides what the batch's own does.
func TestExplore_Shards(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	for _, other := range []string{"Do/other", "Do"} {
		p := program{scripts: []script{steps("DoMulti/ends"), steps(other)}, shards: 16}
		sum.add(explore(t, sched.Explorer{Preemptions: 2}, p))
		sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	}
	// A Shutdown is out of time between the ends of the batch's flights.
	p := program{scripts: []script{steps("DoMulti"), steps("DoContext/ends"), steps("Shutdown/ends")}, shards: 4}
	sum.add(explore(t, sched.Explorer{Delays: 3}, p))
	// Everybody leaves the batch while its flights end: what lingers needs its context.
	p = program{
		setup:   func(g *coalesce.Group[int, history.Token]) { g.Linger = coalesce.Forever },
		scripts: []script{steps("DoMulti/ends"), steps("DoContext/ends")}, shards: 4,
		after: func(w *world) {
			for key := range 3 {
				of, lingers, _ := w.g.Do(key, func() (history.Token, error) { return history.Token{}, nil })
				if lingers && w.contexts[of].Err() != nil {
					w.note("what %v returned lingers, and its context has ended", of)
				}
			}
		},
	}
	sum.add(explore(t, sched.Explorer{Delays: 4}, p))
	sum.log(t, began)
}

// TestExplore_TwoByTwo: two callers with two calls each.
func TestExplore_TwoByTwo(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
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
	sum.log(t, began)
}

// TestExplore_Releases: the same with a point after each release of a lock: what
// is done outside of a lock and belongs into it is seen here, without the race
// detector, and by what comes of it.
func TestExplore_Releases(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
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
	sum.log(t, began)
}

// TestExplore_FirstUse: two calls make the table, and use the same one.
func TestExplore_FirstUse(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	for _, a := range steps("Do", "DoContext", "DoChan/ends", "TryDo", "Forget", "Shutdown") {
		for _, b := range steps("Do", "DoMulti") {
			p := program{unused: true, scripts: []script{{a}, {b}}}
			sum.add(explore(t, sched.Explorer{Delays: 4}, p))
		}
	}
	sum.log(t, began)
}

// TestExplore_MaxAge: a flight that reaches its age is taken over from by a call,
// or by a successor's timer.
func TestExplore_MaxAge(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	aged := func(g *coalesce.Group[int, history.Token]) { g.MaxAge = time.Second }
	all := steps("Do", "DoContext/ends", "DoFresh", "DoFresh/ends", "DoChan/ends", "TryDo", "DoMulti", "Forget")
	for i, a := range all {
		for _, b := range all[i:] {
			p := program{setup: aged, scripts: []script{{a}, {b}, {elapse("a second", time.Second)}}}
			sum.add(explore(t, sched.Explorer{Delays: 3}, p))
			sum.add(explore(t, sched.Explorer{Delays: 2, Releases: true}, p))
		}
	}
	sum.log(t, began)
}

// TestExplore_MaxWaiters: no flight ever has more waiters than it may, and where
// there cannot be as many, nobody is refused.
func TestExplore_MaxWaiters(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	limited := func(g *coalesce.Group[int, history.Token]) { g.MaxWaiters = 1 }
	exceeded := func(w *world) {
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
		for _, calls := range w.h.Calls {
			for _, c := range calls {
				if c.Got == history.GotFull {
					n++
				}
			}
		}
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
		t.Error("nobody was ever refused")
	}
	t.Logf("%d calls were refused", refused)
	sum.log(t, began)
}

// TestExplore_Linger: successes linger until they are forgotten, or replaced.
func TestExplore_Linger(t *testing.T) {
	unlogged(t)
	var sum explored
	began := time.Now()
	lingering := func(g *coalesce.Group[int, history.Token]) { g.Linger = coalesce.Forever }
	all := steps("Do", "Do/error", "DoContext/ends", "DoFresh", "DoChan/ends", "TryDo", "DoMulti", "Shutdown")
	for i, a := range all {
		for _, b := range all[i:] {
			for _, c := range steps("Do", "DoFresh", "Forget") {
				p := program{setup: lingering, scripts: []script{{a}, {b}, {c}}}
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
		}
	}
	sum.log(t, began)
}

// TestExplore_Cycles: where two fns call for each other's keys, in whatever order
// and form, one of them is told or they never met; nobody waits for ever, and an
// answer that is no deadlock is the value. Where there is no cycle, nobody is told.
func TestExplore_Cycles(t *testing.T) {
	unlogged(t)
	type group = coalesce.Group[int, int]
	forms := map[string]func(ctx context.Context, g *group, key int, fn func(context.Context) (int, error)) error{
		"DoContext": func(ctx context.Context, g *group, key int, fn func(context.Context) (int, error)) error {
			_, _, err := g.DoContext(ctx, key, fn)
			return err
		},
		"DoFresh": func(ctx context.Context, g *group, key int, fn func(context.Context) (int, error)) error {
			_, _, err := g.DoFresh(ctx, key, fn)
			return err
		},
		"DoChan": func(ctx context.Context, g *group, key int, fn func(context.Context) (int, error)) error {
			ch := g.DoChan(ctx, key, fn)
			sched.Await("receive", func() bool { return len(ch) > 0 })
			return (<-ch).Err
		},
		"DoMulti": func(ctx context.Context, g *group, key int, fn func(context.Context) (int, error)) error {
			return g.DoMulti(ctx, []int{key}, func(ctx context.Context, keys []int) (map[int]int, error) {
				v, err := fn(ctx)
				return map[int]int{key: v}, err
			})[key].Err
		},
	}
	leaf := func(context.Context) (int, error) { return 0, nil }
	told := 0
	for name, first := range forms {
		for nestedName, nested := range forms {
			for _, cycle := range []bool{true, false} {
				run := func() error {
					g := &group{Shards: 1, Hash: func(key int) uint64 { return uint64(key) }}
					var errs [2]error
					for i, keys := range [][2]int{{1, 2}, {2, 1}} {
						if !cycle {
							keys = [2]int{1 + i, 3}
						}
						sched.Go(func() {
							errs[i] = first(newEndable(), g, keys[0], func(ctx context.Context) (int, error) {
								return 0, nested(ctx, g, keys[1], leaf)
							})
						})
					}
					sched.Join()
					for _, err := range errs {
						if errors.Is(err, coalesce.ErrDeadlock) {
							if !cycle {
								return fmt.Errorf("where there is no cycle: %w", err)
							}
							told++
						} else if err != nil {
							return err
						}
					}
					if n := g.Len(); n != 0 {
						return fmt.Errorf("%d keys in flight", n)
					}
					return nil
				}
				for _, releases := range []bool{false, true} {
					if rep := (sched.Explorer{Delays: 2, Releases: releases}).Explore(run); rep.Err != nil {
						t.Fatalf("%s that calls %s, cycle %v: after %d schedules: %v\n%s",
							name, nestedName, cycle, rep.Runs, rep.Err, rep.Trace)
					}
				}
			}
		}
	}
	if told == 0 {
		t.Error("nobody was ever told of a deadlock")
	}
	t.Logf("%d calls were told of a deadlock", told)
}

// TestExplore_Random: programs that are too large for all schedules, of all steps, in
// groups of one shard or of sixteen and with one feature or none.
func TestExplore_Random(t *testing.T) {
	unlogged(t)
	if *exploreRuns < 100 || *exploreRuns > 1_000_000_000 {
		t.Fatalf("-explore.random is %d (want 100 to 1e9)", *exploreRuns)
	}
	var sum explored
	began := time.Now()
	rng := rand.New(rand.NewPCG(uint64(*exploreSeed), 2))
	for range 100 {
		p := program{scripts: make([]script, 3+rng.IntN(4))}
		all := alphabet()
		for i := range p.scripts {
			for n := 1 + rng.IntN(3); n > 0; n-- {
				st := all[rng.IntN(len(all))]
				p.scripts[i] = append(p.scripts[i], st)
				if strings.HasSuffix(st.name, "Goexit") {
					break // the client's goroutine may exit
				}
			}
		}
		p.shards = 1 + 15*rng.IntN(2)
		switch rng.IntN(7) {
		case 0:
			p.setup = func(g *coalesce.Group[int, history.Token]) {
				g.Clone = func(v history.Token) history.Token { return v }
			}
		case 1:
			p.setup = func(g *coalesce.Group[int, history.Token]) {
				g.Hooks.Join = func(context.Context, coalesce.Event[int]) { sched.Point() }
			}
		case 2:
			p.setup = func(g *coalesce.Group[int, history.Token]) { g.MaxAge = time.Second }
			p.aging, p.scripts = true, append(p.scripts, script{elapse("a second", time.Second)})
		case 3:
			p.setup = func(g *coalesce.Group[int, history.Token]) { g.MaxWaiters = 1 }
		case 4:
			p.setup = func(g *coalesce.Group[int, history.Token]) { g.Linger = coalesce.Forever }
		}
		sum.add(explore(t, sched.Explorer{Random: *exploreRuns / 100, Changes: 3, Seed: rng.Uint64()}, p))
	}
	sum.log(t, began)
}

// TestExplore_Finds: the explorer itself finds what is wrong: an error that only
// one order brings about, a deadlock, a panic, and what does not end.
func TestExplore_Finds(t *testing.T) {
	lost := func() error {
		var mu sched.Mutex
		n := 0
		for range 2 {
			sched.Go(func() {
				mu.Lock()
				v := n
				mu.Unlock()
				mu.Lock()
				n = v + 1
				mu.Unlock()
			})
		}
		sched.Join()
		if n != 2 {
			return fmt.Errorf("n = %d", n)
		}
		return nil
	}
	early := func() error {
		var mu sched.Mutex
		n := 0
		for range 2 {
			sched.Go(func() {
				mu.Lock()
				v := n
				mu.Unlock()
				n = v + 1
			})
		}
		sched.Join()
		if n != 2 {
			return fmt.Errorf("n = %d", n)
		}
		return nil
	}
	locks := func() error {
		var a, b sched.Mutex
		for _, m := range [][2]*sched.Mutex{{&a, &b}, {&b, &a}} {
			sched.Go(func() {
				for _, l := range m {
					l.Lock()
				}
				for _, l := range m {
					l.Unlock()
				}
			})
		}
		sched.Join()
		return nil
	}
	wakeLost := func() error {
		var flag sched.Int64
		c := sched.NewCompletion()
		sched.Go(func() {
			if flag.Load() == 0 {
				sched.Wait(c)
			}
		})
		flag.Store(1) // and nobody completes c
		sched.Join()
		return nil
	}
	panics := func() error {
		var p sched.Pointer[int]
		sched.Go(func() { p.Store(new(int)) })
		sched.Go(func() { _ = *p.Load() })
		sched.Join()
		return nil
	}
	endless := func() error {
		for {
			sched.Point()
		}
	}
	for _, tt := range []struct {
		name        string
		program     func() error
		preemptions int // that it takes
		want        string
	}{
		{"a lost update", lost, 1, "n = 1"},
		{"a lock released early", early, 1, "n = 1"},
		{"locks in opposite orders", locks, 1, "deadlock"},
		{"a wake that is lost", wakeLost, 1, "deadlock"},
		{"a panic", panics, 0, "panicked"},
		{"no end", endless, 0, "no end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.preemptions > 0 {
				if rep := (sched.Explorer{Preemptions: tt.preemptions - 1, Releases: true}).Explore(tt.program); rep.Err != nil || !rep.Complete {
					t.Errorf("with %d preemptions: %+v", tt.preemptions-1, rep)
				}
			}
			for _, x := range []sched.Explorer{
				{Preemptions: tt.preemptions, Releases: true}, {Random: 1000, Changes: 2, Releases: true},
			} {
				rep := x.Explore(tt.program)
				if rep.Err == nil || !strings.Contains(rep.Err.Error(), tt.want) || rep.Trace == "" && tt.name != "no end" {
					t.Errorf("%+v: %+v", x, rep)
				}
				t.Logf("%d schedules", rep.Runs)
			}
		})
	}
}
