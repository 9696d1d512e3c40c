//go:build coalesceexplore

package explore

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file explores the order of hooks, their contexts, and that each Join is followed by
// exactly one of Receive, Leave and Start.

// A hookLog has the hooks of a world, which record their arguments. Methods that steps
// and fns call do nothing on a nil hookLog.
type hookLog struct {
	w     *world
	calls map[context.Context]map[int]history.Token // by the context of the call and its key
	own   map[int]history.Token                     // of the calls without a context, by the thread that makes them
	heard map[history.Token][]string                // the hooks that were called for a call, except Finish

	starts   map[uint64]bool                // flights for which Start was called
	finishes map[uint64]coalesce.Event[int] // by flight
	receives []coalesce.Event[int]
	seqs     map[uint64]string // the hook that got each number, except Receive
	total    map[string]uint64
	over     bool // later events belong to the end of a run, and are not recorded
}

func newHookLog(w *world) *hookLog {
	return &hookLog{
		w: w, calls: map[context.Context]map[int]history.Token{}, own: map[int]history.Token{},
		heard: map[history.Token][]string{}, starts: map[uint64]bool{},
		finishes: map[uint64]coalesce.Event[int]{}, seqs: map[uint64]string{}, total: map[string]uint64{},
	}
}

// startedKey is the key for the ID of the flight, in the context that Start returns.
type startedKey struct{}

func (l *hookLog) hooks() coalesce.Hooks[int] {
	return coalesce.Hooks[int]{
		Start: func(ctx context.Context, e coalesce.Event[int]) context.Context {
			l.hear("start", ctx, e)
			if l.starts[e.FlightID] {
				l.w.note("Start was called twice for flight %d", e.FlightID)
			}
			l.starts[e.FlightID] = true
			return context.WithValue(ctx, startedKey{}, e.FlightID)
		},
		Join:    func(ctx context.Context, e coalesce.Event[int]) { l.hear("join", ctx, e) },
		Receive: func(ctx context.Context, e coalesce.Event[int]) { l.hear("receive", ctx, e) },
		Leave:   func(ctx context.Context, e coalesce.Event[int]) { l.hear("leave", ctx, e) },
		Finish:  l.finish,
	}
}

// hear is the common part of all hooks except Finish.
func (l *hookLog) hear(name string, ctx context.Context, e coalesce.Event[int]) {
	if l.over {
		return
	}
	l.total[name]++
	of, ok := l.calls[ctx][e.Key]
	if ctx == context.Background() {
		of, ok = l.own[sched.Thread()]
	}
	if !ok || of.Key != e.Key || e.FlightID == 0 {
		l.w.note("%s was called with the context of another call: %+v", name, e)
	}
	l.heard[of] = append(l.heard[of], name)
	if name == "receive" {
		l.receives = append(l.receives, e)
	} else {
		l.number(name, e)
	}
	sched.Point() // it may take its time
}

// number notes if another event has the number of e.
func (l *hookLog) number(name string, e coalesce.Event[int]) {
	if other, ok := l.seqs[e.Seq]; ok {
		l.w.note("%s and %s have the number %d", name, other, e.Seq)
	}
	l.seqs[e.Seq] = name
}

// finish is the Finish hook.
func (l *hookLog) finish(ctx context.Context, e coalesce.Event[int]) {
	if l.over {
		return
	}
	l.total["finish"]++
	if _, ok := l.finishes[e.FlightID]; ok {
		l.w.note("Finish was called twice for flight %d", e.FlightID)
	}
	l.finishes[e.FlightID] = e
	l.number("finish", e)
	id, ok := ctx.Value(startedKey{}).(uint64)
	switch {
	case e.Outcome == coalesce.OutcomeClosed:
		l.total["closed"]++
		if ctx != context.Background() || l.starts[e.FlightID] {
			l.w.note("Finish of a flight that Shutdown refused: %+v with %v", e, ctx)
		}
	case !ok || !l.starts[id] || l.starts[e.FlightID] && id != e.FlightID: // a batch has one Start
		l.w.note("Finish of flight %d got the context of flight %d", e.FlightID, id)
	}
	sched.Point()
}

// begin notes that a call for the keys of the records is made with ctx.
func (l *hookLog) begin(ctx context.Context, records ...*history.Call) {
	if l == nil {
		return
	}
	if ctx == context.Background() {
		l.own[sched.Thread()] = records[0].Token
		return
	}
	l.calls[ctx] = map[int]history.Token{}
	for _, r := range records {
		l.calls[ctx][r.Key] = r.Token
	}
}

// inFn notes that an fn was given ctx, which has the values of the context that Start
// returned. The fn of a Do is given none.
func (l *hookLog) inFn(ctx context.Context) {
	if l != nil && ctx != context.Background() && ctx.Value(startedKey{}) == nil {
		l.w.note("fn was given a context without the values of Start's: %v", ctx)
	}
}

// returned notes if the hooks that were called for r, which has returned, are not those
// of a call with its answer.
func (l *hookLog) returned(r *history.Call) {
	if l == nil {
		return
	}
	hooks := strings.Join(l.heard[r.Token], " ")
	ok := slices.Contains(l.expected(r), hooks)
	if r.Got == history.GotOwnEnd && !l.over { // fn may not have begun
		ok = hooks == "" || strings.HasSuffix(hooks, "leave")
	}
	if !ok {
		l.w.note("%v got answer %d, and the hooks %q", r.Token, r.Got, hooks)
	}
}

// expected returns the hooks that may be called for r, in order. A key that a DoMulti
// leads has no Start unless it is the first.
func (l *hookLog) expected(r *history.Call) []string {
	led, other := r.Exec.Runs > 0, r.Exec.Batch != history.Token{} && r.Exec.Batch != r.Token
	switch r.Got {
	case history.GotResult, history.GotGoexit:
		switch {
		case other:
			return []string{""}
		case led:
			return []string{"start", "join start"}
		case l.w.lingers():
			return []string{"", "join receive"}
		}
		return []string{"join receive"}
	case history.GotOwnEnd:
		switch {
		case other:
			return []string{"leave"}
		case led:
			return []string{"start leave", "join start leave"}
		}
		return []string{"", "join leave"} // or its context had ended on entry
	case history.GotClosed:
		return []string{"", "join receive"}
	}
	return []string{""}
}

// atRest notes missing and wrong hooks when all of them have returned.
func (l *hookLog) atRest() {
	w := l.w
	l.over = true
	w.calls(l.returned)
	st := w.g.Stats()
	if led := l.total["finish"] - l.total["closed"]; led != st.Led || l.total["leave"] != st.Left || st.HookPanics != 0 {
		w.note("hooks were called %v times, and %+v", l.total, st)
	}
	for _, e := range l.receives {
		f := l.finishes[e.FlightID]
		if f.Seq != e.Seq || f.Outcome != e.Outcome || f.Err != e.Err || e.Waiters != 0 || e.Run != 0 || e.Key != f.Key {
			w.note("Receive got %+v, and Finish %+v", e, f)
		}
	}
	for id := range l.starts {
		if _, ok := l.finishes[id]; !ok {
			w.note("flight %d has a Start and no Finish", id)
		}
	}
}

// TestExplore_Hooks: the hooks of each call are called in order, and exactly those that
// match its answer, while calls leave as their flights finish, are promoted, and are
// refused by a Shutdown.
func TestExplore_Hooks(t *testing.T) {
	sum := exploring(t)
	all := steps("Do", "Do/panic", "DoContext/ends", "DoContext/Goexit", "DoFresh/ends", "DoChan/ends", "DoMulti/ends")
	for i, a := range all {
		for _, b := range all[i:] {
			p := program{hooked: true, scripts: []script{{a}, {b}}}
			sum.add(explore(t, sched.Explorer{Delays: 2}, p))
		}
	}
	leaving := steps("DoContext/ends", "DoFresh/ends", "DoChan/ends", "DoMulti/ends")
	for i, a := range leaving {
		for _, b := range leaving[i:] {
			for _, c := range steps("Forget", "Shutdown/ends") {
				p := program{hooked: true, scripts: []script{{a}, {b}, {c}}}
				sum.add(explore(t, sched.Explorer{Delays: 2}, p))
			}
		}
		p := program{hooked: true, scripts: []script{{a}, steps("Do")}}
		p.setup = func(g *tokens) { g.Clone = func(v history.Token) history.Token { return v } }
		sum.add(explore(t, sched.Explorer{Delays: 2, Releases: true}, p))
	}
	sum.log(t)
}
