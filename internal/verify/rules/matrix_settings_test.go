package rules_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the settings and the incidents of the matrix (matrix_test.go), and in
// all of them the flights that are held and finish without a caller.

// A setting is the configuration of the group of a cell.
type setting struct {
	name    string
	set     func(g *kit.Group)
	lingers func(err error) bool // whether an outcome with that error lingers; nil if none does
}

// cloned is the number that Clone adds to a value, so that a clone can be recognized.
const cloned = 1000

func setClone(g *kit.Group)       { g.Clone = func(v int) int { return v + cloned } }
func setLingerFor(g *kit.Group)   { g.LingerFor, g.LingerMax = livesFor(60, 60), 1 }
func valueLingers(err error) bool { return err == nil }
func anyLingers(error) bool       { return true }

var settings = []setting{
	{name: "plain"},
	{name: "Clone", set: setClone},
	{name: "Linger", set: func(g *kit.Group) { g.Linger = time.Minute }, lingers: valueLingers},
	{name: "LingerFor", set: setLingerFor, lingers: anyLingers},
	{name: "Clone and LingerFor", set: func(g *kit.Group) { setClone(g); setLingerFor(g) }, lingers: anyLingers},
	{name: "MaxAge and MaxWaiters", set: func(g *kit.Group) { g.MaxAge, g.MaxWaiters = time.Hour, 2 }},
	{name: "Hooks", set: func(*kit.Group) {}}, // see group
	{name: "hooks that panic", set: func(g *kit.Group) {
		hook := func(context.Context, coalesce.Event[string]) { panic("in a hook") }
		g.Hooks = coalesce.Hooks[string]{
			Start: func(context.Context, coalesce.Event[string]) context.Context { panic("in Start") },
			Join:  hook, Receive: hook, Leave: hook, Finish: hook,
		}
	}},
	{name: "used in other bubbles", lingers: anyLingers}, // see newUsedGroup
}

// newUsedGroup returns a group that cells use in turn, each in a bubble of its own. It
// has the settings that do not depend on the cell.
func newUsedGroup() *kit.Group {
	g := &kit.Group{MaxAge: time.Hour}
	setClone(g)
	setLingerFor(g)
	return g
}

// isUsed reports whether cells use one group in turn.
func (s setting) isUsed() bool { return s.name == "used in other bubbles" }

// group returns the group for a cell: used or a new one. seen records the events of its
// hooks, if the setting is for that.
func (s setting) group(used *kit.Group, e cellEnding, i incident) (g *kit.Group, seen *recorder) {
	if s.isUsed() {
		return used, nil
	}
	g = new(kit.Group)
	if s.set != nil {
		s.set(g)
	}
	if s.name == "Hooks" {
		seen = new(recorder)
		g.Hooks = seen.hooks()
	}
	if e.lingerFor != nil {
		g.LingerFor = e.lingerFor
	}
	if i.set != nil {
		i.set(g)
	}
	return g, seen
}

// clones reports whether Clone is set.
func (s setting) clones() bool { return s.isUsed() || strings.HasPrefix(s.name, "Clone") }

// keeps reports whether the outcome of a flight that ends in the given way lingers in
// spite of an incident.
func (s setting) keeps(e cellEnding, i incident) bool {
	returned, err := e.returned()
	return returned && s.lingers != nil && s.lingers(err) && i.leaves == ""
}

// keepsAnother reports whether the value of another flight lingers, one that the incident
// brought about.
func (s setting) keepsAnother(e cellEnding, i incident) bool {
	return i.leaves == another && s.lingers != nil && e.lingerFor == nil
}

// wantClone checks that a, a value, is a clone if it has to be one, because it is shared
// or lingers, and takes back the number that Clone has added.
func wantClone(t *testing.T, a *kit.Answer, s setting, lingers bool) {
	t.Helper()
	if a.V == 0 {
		return
	}
	if got, want := a.V >= cloned, s.clones() && (a.Shared || lingers); got != want {
		t.Errorf("got clone %v, want %v: %+v", got, want, a)
	}
	a.V %= cloned
}

// wantHookPanics checks that the panics of hooks were counted, and that otherwise there
// was none.
func (s setting) wantHookPanics(t *testing.T, g *kit.Group) {
	t.Helper()
	if st := g.Stats(); st.HookPanics > 0 != (s.name == "hooks that panic") {
		t.Errorf("got %d panics of hooks, want some only if hooks panic", st.HookPanics)
	}
}

// logged returns the number of panics of fn in the log.
func logged(log *bytes.Buffer) int {
	return strings.Count(log.String(), "level=ERROR") - strings.Count(log.String(), "a hook panicked")
}

// wantLives checks that the hooks of the given calls were called in a possible order.
func wantLives(t *testing.T, seen *recorder, calls ...string) {
	t.Helper()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, call := range calls {
		var hooks []string
		for _, e := range seen.all {
			if e.who == call {
				hooks = append(hooks, e.hook)
			}
		}
		if !kit.HookLives[strings.Join(hooks, " ")] {
			t.Errorf("call %s: got the hooks %q, want a possible order", call, hooks)
		}
	}
}

// An incident is an event while fn runs. The calls of its flight get the same results as
// without it.
type incident struct {
	name string
	set  func(g *kit.Group) // configures the group for it

	// happen makes it happen. The returned function checks its effects when the flight is
	// over. It is nil if there are none.
	happen func(t *testing.T, g *kit.Group) (wantHappened func())

	leaves string // "" if the outcome of the flight may linger, or one of the constants below
}

// The state that an incident leaves in place of the outcome of the flight.
const (
	noOutcome   = "no outcome"
	another     = "the value 7 of another flight"
	closedGroup = "ErrClosed"
)

var incidents = []incident{
	{name: "undisturbed"},
	{name: "Forget", happen: forgetBy("Forget"), leaves: noOutcome},
	{name: "ForgetFunc", happen: forgetBy("ForgetFunc"), leaves: noOutcome},
	{name: "ForgetFlight", happen: forgetBy("ForgetFlight"), leaves: noOutcome},
	{name: "taken over", set: func(g *kit.Group) { g.MaxAge = time.Hour }, happen: takeOver, leaves: another},
	{name: "a DoFresh behind it", happen: queueFresh, leaves: another},
	{name: "Shutdown", happen: beginShutdown, leaves: closedGroup},
}

// fits reports whether a cell can combine the three.
func fits(e cellEnding, s setting, i incident) bool {
	return !s.isUsed() || i.leaves != closedGroup && e.lingerFor == nil
}

// begin makes the incident happen.
func (i incident) begin(t *testing.T, g *kit.Group) (wantHappened func()) {
	if i.happen == nil {
		return func() {}
	}
	wantHappened = i.happen(t, g)
	synctest.Wait()
	return wantHappened
}

// forgetBy returns an incident: the given form forgets the flight.
func forgetBy(form string) func(*testing.T, *kit.Group) func() {
	return func(t *testing.T, g *kit.Group) func() {
		if !kit.Forgets[form](g, "k") || g.Len() != 0 {
			t.Errorf("%s: got false or Len %d, want true and 0", form, g.Len())
		}
		return func() {}
	}
}

// takeOver is an incident: the flight reaches MaxAge, and a call takes over from it.
func takeOver(t *testing.T, g *kit.Group) func() {
	time.Sleep(time.Hour)
	a, _ := kit.Go(t.Context(), kit.Forms[0], g, "k", kit.CtxValue(7))
	synctest.Wait()
	wantSeven(t, a)
	return func() {}
}

// queueFresh is an incident: a DoFresh is queued behind the flight.
func queueFresh(t *testing.T, g *kit.Group) func() {
	a, done := kit.Go(t.Context(), kit.Forms[4], g, "k", kit.CtxValue(7))
	synctest.Wait()
	if kit.IsDone(done) {
		t.Errorf("got %+v from a DoFresh, want it queued", a)
	}
	return func() { wantSeven(t, a) }
}

// wantSeven checks the answer of a call that has led another flight.
func wantSeven(t *testing.T, a *kit.Answer) {
	t.Helper()
	if a.V%cloned != 7 || a.Shared || a.Err != nil || a.Panic != nil {
		t.Errorf("got %+v, want the value 7 of another flight", a)
	}
}

// beginShutdown is an incident: the group is shut down, and waits for the flight.
func beginShutdown(t *testing.T, g *kit.Group) func() {
	ended := make(chan error, 1)
	go func() { ended <- g.Shutdown(t.Context()) }()
	return func() {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Shutdown: got %v, want nil", err)
			}
		default:
			t.Error("got a Shutdown that goes on waiting, want it to return")
		}
	}
}

// wantOutcome checks the results of the next calls when the flight is over, which has
// ended with e: its outcome, if that lingers, for which is returns true, or the state
// that the incident leaves. Then it is forgotten.
func (s setting) wantOutcome(t *testing.T, g *kit.Group, e cellEnding, i incident, is func(*kit.Answer) bool) {
	t.Helper()
	synctest.Wait()
	switch {
	case i.leaves == closedGroup:
		if a := kit.Forms[2].Call(t.Context(), g, "k", kit.CtxValue(8)); a.Err != coalesce.ErrClosed {
			t.Errorf("after Shutdown: got %+v, want %v", a, coalesce.ErrClosed)
		}
		return
	case is == nil:
	case s.keeps(e, i):
	case s.keepsAnother(e, i):
		is = func(a *kit.Answer) bool { return a.V == 7 && a.Err == nil }
	default:
		is = nil
	}
	if is == nil {
		if n := g.Stats().Lingering; n != 0 {
			t.Errorf("got %d outcomes that linger, want none", n)
		}
		return
	}
	for _, f := range kit.Joining {
		a := f.Call(t.Context(), g, "k", kit.CtxValue(8))
		wantClone(t, &a, s, true)
		if !is(&a) || !a.Shared {
			t.Errorf("%s: got %+v, want the outcome that lingers", f.Name, a)
		}
	}
	if !g.Forget("k") {
		t.Error("Forget: got false, want true for the outcome")
	}
}

// leadHeld makes a call that leads a flight whose fn holds it before it does anything
// else, and that leaves.
func leadHeld(t *testing.T, g *kit.Group, f kit.Form, fn func(context.Context) (int, error)) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	a, _ := kit.Go(ctx, f, g, "k", func(ctx context.Context) (int, error) {
		if !coalesce.Hold(ctx) {
			t.Error("Hold: got false, want true")
		}
		return fn(ctx)
	})
	synctest.Wait()
	leave()
	synctest.Wait()
	if a.Err != context.Canceled {
		t.Errorf("got %+v, want a caller that has left", a)
	}
}

// TestG18_EveryEnd: a flight that is held, and finishes without a caller, ends fn's
// context unless its outcome lingers, for each way to end, under each setting and after
// each incident. Its panic is logged once, and the key is usable at once.
func TestG18_EveryEnd(t *testing.T) {
	used := newUsedGroup()
	rng := rand.New(rand.NewPCG(3, 4))
	for _, e := range cellEndings {
		for _, f := range ownForms {
			for _, s := range settings {
				for _, i := range incidents {
					if !fits(e, s, i) || testing.Short() && rng.IntN(6) > 0 {
						continue
					}
					t.Run(strings.Join([]string{e.name, f.Name, s.name, i.name}, "/"), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { testHeldEnd(t, e, f, s, i, used) })
					})
				}
			}
		}
	}
}

func testHeldEnd(t *testing.T, e cellEnding, f kit.Form, s setting, i incident, used *kit.Group) {
	log := kit.CaptureLog(t)
	g, _ := s.group(used, e, i)
	before := g.Stats()
	release := make(chan struct{})
	var given context.Context
	leadHeld(t, g, f, func(ctx context.Context) (int, error) {
		given = ctx
		<-release
		return e.end()
	})
	wantHappened := i.begin(t, g)
	wantEnd(t, given, nil)
	close(release)
	synctest.Wait()
	wantHappened()

	lingers := s.keeps(e, i)
	if lingers {
		wantEnd(t, given, nil)
	} else {
		wantEnd(t, given, context.Canceled)
	}
	st := g.Stats()
	if n := int(st.Panics - before.Panics); logged(log) != n || int(st.PanicsLogged-before.PanicsLogged) != n || st.Abandoned != before.Abandoned {
		t.Errorf("got the log %s, and %+v after %+v, want each panic logged", log, st, before)
	}
	s.wantHookPanics(t, g)
	s.wantOutcome(t, g, e, i, func(a *kit.Answer) bool { return e.is(a, f) })
	if i.leaves != closedGroup {
		wantUsable(t, g)
		g.Forget("k")
	}
}
