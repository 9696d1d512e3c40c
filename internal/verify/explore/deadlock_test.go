//go:build coalesceexplore

package explore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file explores calls whose fns call for further keys, and the looks that find those
// which wait for themselves. The explorer chooses the time of a look: any.

// TestExplore_Cycles: if two fns call for each other's keys, in every order and form, one
// of the calls is refused, or they never met; no call waits forever, and an answer that
// is no deadlock is the value. Where there is no cycle, no call is refused.
func TestExplore_Cycles(t *testing.T) {
	sum := exploring(t)
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
	refused := 0
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
							errs[i] = first(newEndable(context.Background()), g, keys[0], func(ctx context.Context) (int, error) {
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
							refused++
						} else if err != nil {
							return err
						}
					}
					if n := g.Len(); n != 0 {
						return fmt.Errorf("got %d keys in flight, want none", n)
					}
					return nil
				}
				for _, releases := range []bool{false, true} {
					rep := sched.Explorer{Delays: 2, Releases: releases}.Explore(run)
					if rep.Err != nil {
						t.Fatalf("%s that calls %s, cycle %v: after %d schedules: %v\n%s",
							name, nestedName, cycle, rep.Runs, rep.Err, rep.Trace)
					}
					sum.add(rep)
				}
			}
		}
	}
	if refused == 0 {
		t.Error("got no call that was refused, want some")
	}
	t.Logf("%d calls were refused", refused)
	sum.log(t)
}

// A knot is a program of calls whose fns make calls as well.
type knot struct {
	name   string
	calls  []knotCall         // side by side
	nested map[int][]knotCall // by the fn for each key, one after another
	also   func(k *tangle)    // beside the calls; may be nil
	after  int                // also begins when so many calls have begun
	groups bool               // the keys are in two groups: even ones in another than odd ones
	cyclic bool               // calls may wait for themselves
	undone bool               // flights may end or be forgotten though they are in a cycle
}

// A knotCall is a call of a knot.
type knotCall struct {
	form  string
	ends  bool  // its context may end at any time
	later bool  // the fn that makes it does not wait for it: it must be a DoChan
	after int   // it begins when so many calls have begun, including those of fns
	keys  []int // one, except for DoMulti
}

func (c knotCall) String() string {
	s := fmt.Sprint(c.form, c.keys)
	if c.ends {
		s += "/ends"
	}
	if c.later {
		s += "/later"
	}
	return s
}

func (k knot) String() string {
	return fmt.Sprintf("%s: %v, whose fns call %v", k.name, k.calls, k.nested)
}

// A tangle is one run of a knot. An execution has a number, that of a batch one for all
// its keys, and fn returns it for each of them.
type tangle struct {
	knot
	g       [2]*coalesce.Group[int, int]
	closing bool // Shutdown was called

	executions []map[int]bool  // the keys of each
	last       map[int]int     // the last one of each key
	refused    map[[2]int]bool // calls: the execution that made it, and the one that it waited for

	// By group: the keys for which calls were made, that were refused because they waited
	// for themselves, that were answered by ErrClosed, and that left; and the Leave hooks
	// with an error.
	made, deadlocked, closed, left, leaves [2]uint64

	notes []string
}

func (k *tangle) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// group returns the index of the group of a key.
func (k *tangle) group(key int) int {
	if k.groups && key%2 == 0 {
		return 1
	}
	return 0
}

// knotRuns is the number of executions in a run of a knot from which on they make no calls.
const knotRuns = 8

// run runs k once, adds the number of calls that were refused to refused, and returns an
// error if the rules were broken.
func (k knot) run(refused *int) error {
	w := &tangle{knot: k, executions: []map[int]bool{nil}, last: map[int]int{}, refused: map[[2]int]bool{}}
	for i := range w.g {
		w.g[i] = &coalesce.Group[int, int]{Shards: 1, Hash: func(key int) uint64 { return uint64(key) }}
		w.g[i].Hooks.Leave = func(_ context.Context, e coalesce.Event[int]) {
			if e.Err != nil {
				w.leaves[i]++
			}
		}
		w.g[i].Len() // makes the table
	}
	for _, c := range k.calls {
		sched.Go(func() {
			w.begin(c.after)
			w.call(context.Background(), c, 0)
		})
	}
	if k.also != nil {
		sched.Go(func() {
			w.begin(k.after)
			k.also(w)
		})
	}
	sched.Join()
	sched.Settle()
	w.atRest()
	for i := range w.g {
		*refused += int(w.deadlocked[i])
	}
	if len(w.notes) > 0 {
		return errors.New(strings.Join(w.notes, "; "))
	}
	return nil
}

// atRest notes remainders after all calls have returned.
func (k *tangle) atRest() {
	for i, g := range k.g {
		st := g.Stats()
		if st.Calls != k.made[i] || st.Rejected != k.deadlocked[i]+k.closed[i] || st.Left+st.EndedOnEntry != k.left[i] || k.leaves[i] != k.deadlocked[i] {
			k.note("%d calls, %d refused, %d closed, %d left, %d leaves with an error: %+v",
				k.made[i], k.deadlocked[i], k.closed[i], k.left[i], k.leaves[i], st)
		}
		if n := g.Len(); n != 0 {
			k.note("%d keys in flight", n)
		}
		for f := range g.Flights() {
			k.note("a flight at rest: %+v", f)
		}
		if err := storm.AtRest(g); err != nil {
			k.note("%v", err)
		}
	}
	if n := sched.Timers(); n != 0 {
		k.note("%d timers are left", n)
	}
	if n := sched.Watches(); n != 0 {
		k.note("%d contexts are still watched", n)
	}
	for pair := range k.refused {
		if pair[0] < pair[1] && k.refused[[2]int{pair[1], pair[0]}] && !k.undone {
			k.note("two calls of one cycle were refused, of executions %v", pair)
		}
	}
}

// begin blocks until n calls have begun.
func (k *tangle) begin(n int) {
	sched.Await("begin", func() bool { return int(k.made[0]+k.made[1]) >= n })
}

// call makes the call c, which the fn of an execution makes with ctx. If no fn makes it, from
// is 0.
func (k *tangle) call(ctx context.Context, c knotCall, from int) {
	switch {
	case from == 0:
		e := newEndable(context.Background())
		if c.ends {
			e.end()
		}
		ctx = e
	case c.ends:
		e := newEndable(ctx)
		e.end()
		ctx = e
	}
	sched.Point()
	key := c.keys[0]
	g := k.g[k.group(key)]
	fn := func(ctx context.Context) (int, error) { return k.execute(ctx, c.keys[:1]), nil }
	var r coalesce.Result[int]
	k.made[k.group(key)] += uint64(len(c.keys))
	switch c.form {
	case "Do": // its fn has no context to make calls with
		r.Val, r.Shared, r.Err = g.Do(key, func() (int, error) { return k.execute(context.Background(), c.keys[:1]), nil })
	case "DoContext":
		r.Val, r.Shared, r.Err = g.DoContext(ctx, key, fn)
	case "DoFresh":
		r.Val, r.Shared, r.Err = g.DoFresh(ctx, key, fn)
	case "DoChan":
		ch := g.DoChan(ctx, key, fn)
		if c.later {
			sched.Go(func() { k.receive(ctx, ch, key, from) })
		} else {
			k.receive(ctx, ch, key, from)
		}
		return
	case "DoMulti":
		results := g.DoMulti(ctx, c.keys, func(ctx context.Context, keys []int) (map[int]int, error) {
			of, n := map[int]int{}, k.execute(ctx, keys)
			for _, key := range keys {
				of[key] = n
			}
			return of, nil
		})
		for _, key := range c.keys {
			k.answered(ctx, results[key], key, from)
		}
		return
	}
	k.answered(ctx, r, key, from)
}

// receive receives the answer of a DoChan.
func (k *tangle) receive(ctx context.Context, ch <-chan coalesce.Result[int], key, from int) {
	sched.Await("receive", func() bool { return len(ch) > 0 })
	k.answered(ctx, <-ch, key, from)
}

// answered notes a wrong answer of a call for key.
func (k *tangle) answered(ctx context.Context, r coalesce.Result[int], key, from int) {
	i := k.group(key)
	var e *coalesce.DeadlockError
	switch {
	case r.Err == nil:
		if r.Val <= 0 || !k.executions[r.Val][key] {
			k.note("a call for key %d got execution %d", key, r.Val)
		}
	case errors.As(r.Err, &e):
		k.deadlocked[i]++
		k.refused[[2]int{from, k.last[key]}] = true
		n := len(e.Keys) - 1
		if !k.cyclic || from == 0 || n < 1 || e.Keys[0] != e.Keys[n] || e.Keys[1] != any(key) ||
			!k.executions[from][e.Keys[0].(int)] {
			k.note("a call for key %d by execution %d got %+v", key, from, r)
		}
	case r.Err == coalesce.ErrClosed && k.closing:
		k.closed[i]++
	case r.Err == context.Canceled && ctx.Err() != nil:
		k.left[i]++
	default:
		k.note("a call for key %d got %+v", key, r)
	}
	if r.Err != nil && r.Val != 0 {
		k.note("a call for key %d got %+v", key, r)
	}
}

// execute is fn for some keys. It makes the calls of all of them, and returns the number
// of the execution.
func (k *tangle) execute(ctx context.Context, keys []int) int {
	n := len(k.executions)
	of := map[int]bool{}
	for _, key := range keys {
		of[key], k.last[key] = true, n
	}
	k.executions = append(k.executions, of)
	sched.Point()
	if ctx != context.Background() && n <= knotRuns {
		for _, key := range keys {
			for _, c := range k.nested[key] {
				k.call(ctx, c, n)
			}
		}
	}
	return n
}

// shutdown shuts the first group down, and runs out of time at any time.
func (k *tangle) shutdown() {
	ctx := newEndable(context.Background())
	ctx.end()
	k.closing = true
	_ = k.g[0].Shutdown(ctx)
}

// knots returns the programs of TestExplore_Looks.
func knots() []knot {
	one := func(form string, keys ...int) knotCall { return knotCall{form: form, keys: keys} }
	ending := func(form string, keys ...int) knotCall { return knotCall{form: form, keys: keys, ends: true} }
	calls := func(c ...knotCall) []knotCall { return c }
	type fns = map[int][]knotCall
	forget := func(k *tangle) { k.g[0].Forget(1) }
	all := []knot{
		{
			name: "a turn that is handed on", cyclic: true, undone: true, also: forget, after: 3,
			calls:  calls(one("DoContext", 1), knotCall{form: "DoFresh", keys: []int{1}, after: 2}),
			nested: fns{1: {one("DoFresh", 1)}},
		},
		{
			name: "one key of many", cyclic: true,
			calls: calls(one("DoContext", 1), one("Do", 2)), nested: fns{1: {one("DoMulti", 1, 2)}},
		},
		{
			name: "a batch", cyclic: true,
			calls: calls(one("DoMulti", 1, 2), one("DoContext", 2)), nested: fns{2: {one("DoContext", 1)}},
		},
		{
			name: "three keys", cyclic: true,
			calls:  calls(one("DoContext", 1), one("DoContext", 2)),
			nested: fns{1: {one("DoContext", 2)}, 2: {one("DoChan", 3)}, 3: {one("DoContext", 1)}},
		},
		{
			name: "two groups", cyclic: true, groups: true,
			calls:  calls(one("DoContext", 1), one("DoContext", 2)),
			nested: fns{1: {one("DoContext", 2)}, 2: {one("DoMulti", 1)}},
		},
		{
			name:   "a diamond",
			calls:  calls(one("DoContext", 1), one("DoContext", 3)),
			nested: fns{1: {one("DoMulti", 2, 3)}, 2: {one("DoContext", 4)}, 3: {one("DoContext", 4)}},
		},
		{
			name: "not waited for", cyclic: true, undone: true,
			calls:  calls(one("DoContext", 1), one("DoContext", 2)),
			nested: fns{1: {{form: "DoChan", keys: []int{2}, later: true}}, 2: {one("DoContext", 1)}},
		},
		{
			name: "callers leave", cyclic: true, undone: true,
			calls:  calls(ending("DoContext", 1), ending("DoChan", 2)),
			nested: fns{1: {one("DoContext", 2)}, 2: {one("DoChan", 1)}},
		},
		{
			name: "forgotten", cyclic: true, undone: true, also: forget,
			calls: calls(one("DoContext", 1)), nested: fns{1: {one("DoContext", 2)}, 2: {one("DoContext", 1)}},
		},
	}
	for _, form := range []string{"DoContext", "DoFresh", "DoChan", "DoMulti"} {
		all = append(all, knot{
			name: "its own key", cyclic: true,
			calls: calls(one("DoContext", 1), ending("DoContext", 1)), nested: fns{1: {one(form, 1)}},
		}, knot{
			name: "two keys", cyclic: true,
			calls: calls(one("DoContext", 1), one("DoContext", 2)), nested: fns{1: {one(form, 2)}, 2: {one("DoContext", 1)}},
		}, knot{
			name: "a call of the cycle leaves", cyclic: true, undone: true,
			calls: calls(one("DoContext", 1)), nested: fns{1: {ending(form, 2)}, 2: {one(form, 1)}},
		}, knot{
			name: "shut down", cyclic: true, undone: true, also: (*tangle).shutdown,
			calls: calls(one("DoContext", 1)), nested: fns{1: {one(form, 2)}, 2: {one(form, 1)}},
		})
	}
	return all
}

// TestExplore_Looks: wherever calls wait for each other, one of them is refused, by a
// look that comes at any time, or it is answered by the event that ended the wait before.
// Where there is no cycle, no call is refused. A call that is refused leaves nothing
// behind, and takes nothing from the others: neither their result nor their turn.
func TestExplore_Looks(t *testing.T) {
	sum := exploring(t)
	for _, k := range knots() {
		refused := 0
		run := func() error { return k.run(&refused) }
		for _, x := range []sched.Explorer{{Delays: 2}, {Delays: 1, Releases: true}, {Random: 200, Changes: 3, Seed: uint64(*exploreSeed)}} {
			rep := x.Explore(run)
			if rep.Err != nil {
				t.Fatalf("%v\nafter %d schedules: %v\ndecisions %v\nthread  is about to     at\n%s",
					k, rep.Runs, rep.Err, rep.Decisions, rep.Trace)
			}
			sum.add(rep)
		}
		if refused == 0 && k.cyclic {
			t.Errorf("%v: got no call that was refused, want some", k)
		}
	}
	sum.log(t)
}

// TestExplore_RandomLooks: the same for knots that are drawn at random.
func TestExplore_RandomLooks(t *testing.T) {
	const programs, runs = 100, 60
	sum := exploring(t)
	refused := 0
	rng := rand.New(rand.NewPCG(uint64(*exploreSeed), 3))
	draw := func(forms ...string) knotCall {
		c := knotCall{form: forms[rng.IntN(len(forms))], keys: []int{1 + rng.IntN(3)}, ends: rng.IntN(4) == 0}
		if c.form == "DoMulti" && rng.IntN(2) == 0 {
			c.keys = append(c.keys, 1+c.keys[0]%3)
		}
		c.later = c.form == "DoChan" && rng.IntN(4) == 0
		return c
	}
	for range programs {
		k := knot{name: "at random", cyclic: true, undone: true, nested: map[int][]knotCall{}}
		for range 2 + rng.IntN(3) {
			k.calls = append(k.calls, draw("Do", "DoContext", "DoFresh", "DoChan", "DoMulti"))
		}
		for key := 1; key <= 3; key++ {
			for range rng.IntN(3) {
				k.nested[key] = append(k.nested[key], draw("DoContext", "DoFresh", "DoChan", "DoMulti"))
			}
		}
		switch rng.IntN(4) {
		case 0:
			k.also = func(k *tangle) { k.g[0].Forget(1 + sched.Choose(3)) }
		case 1:
			k.also = (*tangle).shutdown
		}
		x := sched.Explorer{Random: runs, Changes: 3, Seed: rng.Uint64(), Releases: rng.IntN(2) == 0}
		rep := x.Explore(func() error { return k.run(&refused) })
		if rep.Err != nil {
			t.Fatalf("%v\nafter %d schedules: %v\ndecisions %v\nthread  is about to     at\n%s",
				k, rep.Runs, rep.Err, rep.Decisions, rep.Trace)
		}
		sum.add(rep)
	}
	if refused == 0 {
		t.Error("got no call that was refused, want some")
	}
	t.Logf("%d calls were refused", refused)
	sum.log(t)
}
