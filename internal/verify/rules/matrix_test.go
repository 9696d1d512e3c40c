package rules_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the matrix: how fn ends, the role of the call in the flight, its form,
// when its context ends, how the group is configured, and which incident happens while fn
// runs. The last two, and flights that are held, are in matrix_settings_test.go.

// The ways in which fn can end.
type ending struct {
	name string
	end  func() (int, error)
	is   func(a *kit.Answer) bool // whether a is the answer of each call, except for a leader
}

var endings = []ending{
	{"returns", func() (int, error) { return 5, nil }, func(a *kit.Answer) bool {
		return a.V == 5 && a.Err == nil && a.Panic == nil
	}},
	{"errs", func() (int, error) { return 5, kit.ErrTest }, func(a *kit.Answer) bool {
		return a.V == 5 && a.Err == kit.ErrTest && a.Panic == nil
	}},
	{"panics", func() (int, error) { panic(kit.ErrTest) }, func(a *kit.Answer) bool {
		return a.V == 0 && panickedWith(a, kit.ErrTest)
	}},
	{"panics with nil", func() (int, error) { panic(nil) }, func(a *kit.Answer) bool {
		return a.V == 0 && panickedWithNil(a)
	}},
	{"exits", func() (int, error) { runtime.Goexit(); return 5, nil }, func(a *kit.Answer) bool {
		return a.V == 0 && a.Err == coalesce.ErrGoexit && a.Panic == nil
	}},
	{"panics in Goexit", func() (int, error) {
		defer func() { panic(kit.ErrTest) }()
		runtime.Goexit()
		return 5, nil
	}, func(a *kit.Answer) bool {
		return a.V == 0 && panickedWith(a, kit.ErrTest)
	}},
	{"exits in a panic", func() (int, error) {
		defer runtime.Goexit()
		panic(kit.ErrTest)
	}, func(a *kit.Answer) bool {
		return a.V == 0 && a.Err == coalesce.ErrGoexit && a.Panic == nil
	}},
}

// exits reports whether the goroutine that ran fn goes on exiting.
func (e ending) exits() bool { return strings.Contains(strings.ToLower(e.name), "exit") }

// panicked returns the panic that a reports, in the manner of its form, or nil.
func panicked(a *kit.Answer) *coalesce.PanicError {
	reported := a.Err
	if a.Panic != nil {
		reported, _ = a.Panic.(error)
	}
	var pe *coalesce.PanicError
	if !errors.As(reported, &pe) || reported != error(pe) || !strings.Contains(string(pe.Stack), "matrix_test.go") {
		return nil
	}
	return pe
}

// panickedWith reports whether a reports a panic with a given error.
func panickedWith(a *kit.Answer, err error) bool {
	pe := panicked(a)
	return pe != nil && pe.Value == err && errors.Is(pe, err)
}

// nilPanics reports whether panic(nil) behaves as before Go 1.21, as under
// GODEBUG=panicnil=1.
func nilPanics() bool {
	panicked, value := recovered(func() { panic(nil) })
	return panicked && value == nil
}

// panickedWithNil reports whether a reports a panic(nil).
func panickedWithNil(a *kit.Answer) bool {
	if nilPanics() {
		return a.Err == coalesce.ErrGoexit && a.Panic == nil
	}
	pe := panicked(a)
	var none *runtime.PanicNilError
	return pe != nil && errors.As(pe, &none) && pe.Value == any(none)
}

// A cellEnding is an ending in the matrix. In addition to the endings that fn has
// anywhere, LingerFor may end in its place, and fn may fail for its key alone.
type cellEnding struct {
	ending
	lingerFor func(int, error) time.Duration // the group's; nil if it ends as usual
	byKey     bool
}

var cellEndings = func() (all []cellEnding) {
	for _, e := range endings {
		all = append(all, cellEnding{ending: e})
	}
	// LingerFor is called with the results of fn; the results of other calls linger.
	ask := func(end func()) func(int, error) time.Duration {
		return func(v int, _ error) time.Duration {
			if v == 5 {
				end()
			}
			return 0
		}
	}
	panics, exits, returns := endings[2], endings[4], endings[0]
	return append(
		all,
		cellEnding{ending{"LingerFor panics", returns.end, panics.is}, ask(func() { panic(kit.ErrTest) }), false},
		cellEnding{ending{"LingerFor exits", returns.end, exits.is}, ask(runtime.Goexit), false},
		cellEnding{ending{"fails by key", func() (int, error) { return 5, keyErrors{"k": kit.ErrTest} }, nil}, nil, true},
	)
}()

// is reports whether a is the answer that e has for the calls of a flight that a call of
// the given form leads. Only DoMulti has errors of single keys.
func (e cellEnding) is(a *kit.Answer, leader kit.Form) bool {
	if !e.byKey {
		return e.ending.is(a)
	}
	err := a.Err
	if leader.Name != "DoMulti" {
		var all keyErrors
		if !errors.As(err, &all) {
			return false
		}
		err = all["k"]
	}
	return a.V == 5 && err == kit.ErrTest && a.Panic == nil
}

// returned reports whether fn has returned, and with which error, nil or not.
func (e cellEnding) returned() (ok bool, err error) {
	switch {
	case e.lingerFor != nil || strings.Contains(e.name, "panic") || e.exits():
		return false, nil
	case e.name == "returns":
		return true, nil
	}
	return true, kit.ErrTest
}

// A role is the part of the call under test in the flight that ends.
type role int

const (
	leader role = iota
	follower
	successor        // queued behind an abandoned flight, then promoted
	successorWaiting // queued behind it as the second, in the end a follower
	newcomer         // a follower in a flight that is held and that its caller has left
)

var roles = []string{"leader", "follower", "queued successor", "queued second", "newcomer to a held flight"}

// The moments at which the caller's context ends.
var cancels = []string{"never", "on entry", "as fn ends", "before fn ends"}

// A cell is one place in the matrix, by the indexes of its parts: the end of fn, the
// role, the form, the end of the context, the setting and the incident.
type cell [6]int

func (c cell) end() cellEnding    { return cellEndings[c[0]] }
func (c cell) role() role         { return role(c[1]) }
func (c cell) form() kit.Form     { return kit.Forms[c[2]] }
func (c cell) cancel() int        { return c[3] }
func (c cell) setting() setting   { return settings[c[4]] }
func (c cell) incident() incident { return incidents[c[5]] }

func (c cell) String() string {
	return strings.Join([]string{
		c.end().name, roles[c[1]], c.form().Name, cancels[c[3]], c.setting().name, c.incident().name,
	}, "/")
}

// sizes are the numbers of the parts.
var sizes = cell{len(cellEndings), len(roles), len(kit.Forms), len(cancels), len(settings), len(incidents)}

// leaderForm is the form of the call that leads.
func (c cell) leaderForm() kit.Form {
	if r := c.role(); r == leader || r == successor {
		return c.form()
	}
	return kit.Forms[2]
}

// endedOnEntry reports whether there is no flight, because the call that was to lead it
// had an ended context.
func (c cell) endedOnEntry() bool {
	return c.cancel() == 1 && (c.role() == leader || c.role() == successor)
}

// exists reports whether c is possible.
func (c cell) exists() bool {
	switch {
	case c.cancel() > 0 && c[2] < 2:
		return false // it has no context that could end
	case c.form().Name == "DoFresh" && (c.role() == follower || c.role() == newcomer):
		return false // it follows no flight that runs
	case c.endedOnEntry() && c.incident().happen != nil:
		return false // there is no flight for the incident
	}
	return fits(c.end(), c.setting(), c.incident())
}

// TestG9_EveryExitCompletes is the matrix of how fn ends, the role of the call in the
// flight, its form, and when its context ends; each cell with some settings and
// incidents. It checks the results of the call under test and of another call of the
// flight, and that the key is usable at once. All pairs of parts occur.
//
// TestG10_PanicsAreReported is the same matrix: its panicking rows.
func TestG9_EveryExitCompletes(t *testing.T) {
	each := 2 // settings and incidents for a cell
	if !testing.Short() {
		each = 8
	}
	used := newUsedGroup()
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[[4]int]bool{}
	for c := range cells(4) {
		for range each {
			for c[4], c[5] = rng.IntN(sizes[4]), rng.IntN(sizes[5]); !c.exists(); {
				c[4], c[5] = rng.IntN(sizes[4]), rng.IntN(sizes[5])
			}
			c.addPairs(seen)
			t.Run(c.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testCell(t, c, used) })
			})
		}
	}
	possible := map[[4]int]bool{}
	for c := range cells(6) {
		c.addPairs(possible)
	}
	for p := range possible {
		if !seen[p] {
			t.Errorf("got %d of %d never with %d of %d, want each pair", p[1], p[0], p[3], p[2])
		}
	}
}

// cells yields the cells that exist with all combinations of the first n, and 0 for the rest.
func cells(n int) func(yield func(cell) bool) {
	return func(yield func(cell) bool) {
		for c := (cell{}); ; {
			if c.exists() && !yield(c) {
				return
			}
			i := n - 1
			for ; i >= 0 && c[i] == sizes[i]-1; i-- {
				c[i] = 0
			}
			if i < 0 {
				return
			}
			c[i]++
		}
	}
}

// addPairs adds all pairs of c.
func (c cell) addPairs(to map[[4]int]bool) {
	for i := range c {
		for j := range i {
			to[[4]int{j, c[j], i, c[i]}] = true
		}
	}
}

// testCell checks one cell. The group is a new one, or used, depending on the setting.
func testCell(t *testing.T, c cell, used *kit.Group) {
	log := kit.CaptureLog(t)
	g, seen := c.setting().group(used, c.end(), c.incident())
	before := g.Stats()
	e, f, cancelAt := c.end(), c.form(), c.cancel()
	ctx, cancel := context.WithCancelCause(named(t.Context(), "mine"))
	defer cancel(nil)
	live, cancelLive := context.WithCancel(named(t.Context(), "other"))
	defer cancelLive()
	if cancelAt == 1 {
		cancel(nil)
	}

	h := kit.Hold()
	fn := func(fnCtx context.Context) (int, error) {
		if seen != nil && fnCtx != context.Background() && !strings.HasSuffix(nameOf(fnCtx), "+") {
			t.Errorf("got the name %q in fn's context, want the one that Start gave it", nameOf(fnCtx))
		}
		h.Started <- struct{}{}
		<-h.Release
		if cancelAt == 2 {
			cancel(nil)
		}
		return e.end()
	}
	unused := func(context.Context) (int, error) {
		t.Error("got a call of the fn of a call that does not lead, want none")
		return 0, nil
	}

	// The call under test leads, or joins. Another call, with a context that goes on, is in
	// the flight as well, so that there is always one that stays.
	var mine, other *kit.Answer
	var old *kit.Held
	switch c.role() {
	case leader:
		mine, _ = kit.Go(ctx, f, g, "k", fn)
		synctest.Wait()
		if c.endedOnEntry() {
			wantEnded(t, mine)
			c.wantUsable(t, g, before, nil)
			return
		}
		other, _ = kit.Go(live, kit.Forms[2], g, "k", unused)
	case follower:
		other, _ = kit.Go(live, kit.Forms[2], g, "k", fn)
		synctest.Wait()
		mine, _ = kit.Go(ctx, f, g, "k", unused)
	case successor:
		old = kit.Abandon(t, g, "k")
		mine, _ = kit.Go(ctx, f, g, "k", fn)
		synctest.Wait()
		if c.endedOnEntry() {
			close(old.Release)
			synctest.Wait()
			wantEnded(t, mine)
			c.wantUsable(t, g, before, nil)
			return
		}
		other, _ = kit.Go(live, kit.Forms[2], g, "k", unused)
	case successorWaiting:
		old = kit.Abandon(t, g, "k")
		other, _ = kit.Go(live, kit.Forms[2], g, "k", fn)
		synctest.Wait()
		mine, _ = kit.Go(ctx, f, g, "k", unused)
	case newcomer:
		leadHeld(t, g, kit.Forms[2], fn)
		other, _ = kit.Go(live, kit.Forms[2], g, "k", unused)
		synctest.Wait()
		mine, _ = kit.Go(ctx, f, g, "k", unused)
	}
	synctest.Wait()
	if old != nil {
		close(old.Release)
		synctest.Wait()
	}
	wantHappened := c.incident().begin(t, g)
	if cancelAt == 3 {
		cancel(nil)
		synctest.Wait()
		if mine.Err != context.Canceled || !mine.Shared {
			t.Errorf("the call that left: got %+v, want %v", mine, context.Canceled)
		}
	}
	close(h.Release)
	synctest.Wait()
	wantHappened()

	lingers := c.setting().keeps(e, c.incident())
	wantClone(t, mine, c.setting(), lingers)
	wantClone(t, other, c.setting(), lingers)
	leads := c.role() == leader || c.role() == successor
	inline := leads && (f.Name == "Do" || f.Name == "DoContext background")
	switch {
	case cancelAt == 1 || cancelAt == 3:
		if mine.Err != context.Canceled || mine.V != 0 || mine.Panic != nil {
			t.Errorf("mine: got %+v, want %v", mine, context.Canceled)
		}
	case inline && e.exits():
		if mine.Err == nil || mine.Err.Error() != "the goroutine of the call exited" {
			t.Errorf("the leader: got %+v, want an exit of its goroutine", mine)
		}
	case cancelAt == 2 && mine.Err == context.Canceled:
		// Its context ended while fn was still about to end: either may win.
	case !e.is(mine, c.leaderForm()):
		t.Errorf("mine: got %+v, want the end of fn", mine)
	}
	if !e.is(other, c.leaderForm()) {
		t.Errorf("other: got %+v, want the end of fn", other)
	}
	if n := logged(log); n > 0 {
		t.Errorf("got %d panics logged that a blocking call got, want none: %s", n, log)
	}
	if seen != nil {
		wantLives(t, seen, "other", "mine")
	}
	c.setting().wantHookPanics(t, g)
	c.wantUsable(t, g, before, func(a *kit.Answer) bool { return e.is(a, c.leaderForm()) })
}

// wantEnded checks the answer to a call whose context had ended on entry.
func wantEnded(t *testing.T, a *kit.Answer) {
	t.Helper()
	if a.Err != context.Canceled || a.Shared || a.V != 0 || a.Panic != nil {
		t.Errorf("ended on entry: got %+v, want %v", a, context.Canceled)
	}
}

// wantUsable checks that nothing is left of the key's flights, that the outcome of the
// last one answers the next call if it lingers, and that the call after that, or the next
// one, is answered by an execution of its own. before are the Stats of g before the cell;
// is returns true for that outcome, and is nil if there was no flight.
func (c cell) wantUsable(t *testing.T, g *kit.Group, before coalesce.Stats, is func(*kit.Answer) bool) {
	t.Helper()
	c.setting().wantOutcome(t, g, c.end(), c.incident(), is)
	if c.incident().leaves == closedGroup {
		return
	}
	wantUsable(t, g)
	g.Forget("k") // the value of the check's own call
	if st := g.Stats(); st.Lingering != 0 || st.Calls == before.Calls {
		t.Errorf("got %+v at the end and %+v before, want more calls and none lingering", st, before)
	}
}

// wantUsable checks that nothing is left of the key's flights and that the
// next call for it is answered by an execution of its own.
func wantUsable(t *testing.T, g *kit.Group) {
	t.Helper()
	synctest.Wait()
	if g.Len() != 0 {
		t.Errorf("got Len %d, want 0", g.Len())
	}
	if v, shared, err := g.Do("k", kit.Value(9)); v%cloned != 9 || shared || err != nil {
		t.Errorf("the next call: got %v, %v, %v, want 9, false, nil", v, shared, err)
	}
	st := g.Stats()
	if st.Calls != st.Led+st.Joined+st.Lingered+st.Rejected+st.EndedOnEntry {
		t.Errorf("got %+v, want Calls to be the sum", st)
	}
}

// TestG12_NoGoroutineIsLeft: after calls of all forms, for each way to end, all
// goroutines of the group have ended. The bubble would not end otherwise.
func TestG12_NoGoroutineIsLeft(t *testing.T) {
	kit.CaptureLog(t)
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		for _, f := range kit.Forms {
			for _, e := range endings {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				for range 100 {
					kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
						child, stop := context.WithCancel(ctx)
						defer stop()
						select {
						case <-child.Done():
						case <-time.After(time.Minute):
						}
						return e.end()
					})
				}
				time.Sleep(10 * time.Minute)
			}
		}
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
	})
}
