package fuzz

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the comparison of the Group that FuzzGroup drives with the
// model.

// compare compares all visible state with the model.
func (d *driver) compare() {
	answers := map[*model.Flight]any{}
	for _, c := range d.calls {
		f := c.Flight
		leads := f != nil && f.Leader == &c.Call
		if (c.starts > 0) != leads {
			d.errorf("call %d: fn started %d times, the model says that it leads: %t", c.id, c.starts, leads)
			return
		}
		if leads {
			d.compareRun(c)
		}
		if (c.replies > 0) != (c.Reply() != model.Pending) {
			d.errorf("call %d: %d replies, the model's is %d", c.id, c.replies, c.Reply())
			return
		}
		if err := d.compareReply(c, answers); err != nil {
			d.errorf("call %d: %v; got %+v, panic %v, the model's reply is %d", c.id, err, c.got, c.panicked, c.Reply())
		}
	}
	if got, want := d.g.Len(), d.m.Len(); got != want {
		d.errorf("Len() = %d, want %d", got, want)
	}
	m := d.m.Stats
	want := coalesce.Stats{
		Calls: m.Led + m.Joined + m.Lingered + m.Rejected + m.EndedOnEntry,
		Led:   m.Led, Joined: m.Joined, Lingered: m.Lingered, Rejected: m.Rejected, EndedOnEntry: m.EndedOnEntry,
		Left: m.Left, Abandoned: m.Abandoned, Forgotten: m.Forgotten, TakenOver: m.TakenOver,
		Panics: m.Panics, Goexits: m.Goexits, PanicsLogged: m.PanicsLogged, Evicted: m.Evicted,
	}
	got := d.g.Stats()
	if n, more := d.m.Lingering(); got.Lingering >= uint64(n) && got.Lingering <= uint64(n+more) {
		want.Lingering = got.Lingering
	} else {
		want.Lingering = uint64(n)
	}
	if m := uint64(d.m.LingerMax); got != want || m > 0 && got.Lingering > m {
		d.errorf("Stats() = %+v, want %+v", got, want)
	}
	if !d.is(fuzzBlind) {
		d.compareFlights()
	}
	if d.is(fuzzHooks) && len(d.slow()) == 0 {
		d.compareEvents()
	}
	d.compareShutdown()
}

// compareReply compares the answer of c with the model. answers holds the earlier answers
// of the callers of each flight.
func (d *driver) compareReply(c *fuzzCall, answers map[*model.Flight]any) error {
	blind := c.Form == model.TryDo || c.panicked != nil || c.exited
	if c.replies > 0 && !blind && c.got.Shared != c.Shared {
		return fmt.Errorf("got shared %t, want %t", c.got.Shared, c.Shared)
	}
	switch c.Reply() {
	case model.Left:
		if c.got.Err != c.plain.Err() {
			return fmt.Errorf("want its context's error")
		}
	case model.Closed:
		if c.got.Err != coalesce.ErrClosed {
			return fmt.Errorf("want ErrClosed")
		}
	case model.InFlight:
		if c.got.Err != coalesce.ErrInFlight {
			return fmt.Errorf("want ErrInFlight")
		}
	case model.Saturated:
		if c.got.Err != coalesce.ErrSaturated {
			return fmt.Errorf("want ErrSaturated")
		}
	case model.Result:
		return d.compareResult(c, answers)
	}
	return nil
}

func (d *driver) compareResult(c *fuzzCall, answers map[*model.Flight]any) error {
	f := c.Flight
	if f.Exit == model.Goexit {
		if inline := c.starts > 0 && !c.Own(); c.exited != inline || !inline && c.got.Err != coalesce.ErrGoexit {
			return fmt.Errorf("fn exited on this goroutine: %t", inline)
		}
		return nil
	}
	if f.Exit == model.Return && f.Leader.Absent {
		if c.got.Err != coalesce.ErrAbsent {
			return fmt.Errorf("want ErrAbsent")
		}
		return nil
	}
	of, how, _ := source(c)
	if of == nil || &of.Call != f.Leader || how != f.Exit {
		return fmt.Errorf("want fn's own exit %d", f.Exit)
	}
	// All get the same error, or the same *PanicError.
	same := identity(c.got.Err)
	if c.panicked != nil {
		same = c.panicked
	}
	if first, ok := answers[f]; ok && first != same {
		return fmt.Errorf("got another answer than others of the flight, want %v", first)
	}
	answers[f] = same
	if f.Exit == model.Panic || f.Leader.Absent {
		return nil
	}
	cloned := d.is(fuzzClone) && (f.Joined || f.Kept)
	if c.got.Val.cloned != cloned || !cloned && c.got.Val != of.box {
		return fmt.Errorf("got cloned %t, want %t", c.got.Val.cloned, cloned)
	}
	return nil
}

// compareRun compares the execution that c leads with the model.
func (d *driver) compareRun(c *fuzzCall) {
	r, f := c.run, c.Flight
	if !slices.EqualFunc(r.calls, f.Batch, func(c *fuzzCall, f *model.Flight) bool { return &c.Call == f.Leader }) {
		d.errorf("call %d: fn got %d keys, not the %d of the model", c.id, len(r.calls), len(f.Batch))
	}
	want := f.Cause
	switch want {
	case model.ErrClosed:
		want = coalesce.ErrClosed
	case model.ErrCanceled:
		want = context.Canceled
	}
	own := r.ctx != c.ctx
	if d.is(fuzzHooks) && c.named() {
		_, given := r.ctx.Value(fuzzStartKey{}).(uint64)
		if given != c.gives() {
			d.errorf("call %d: fn's context has the values of that which Start returned: %t", c.id, given)
		}
		if given && c.Form == model.DoContext && c.Cause == nil {
			own = r.ctx.Done() != nil // it is not the caller's very context, but never ends
		}
	}
	if own != c.Own() {
		d.errorf("call %d: fn has the caller's very context: %t", c.id, !own)
	}
	asked := 0
	if d.is(fuzzLingerFor) && !c.Absent && f.State == model.Finished && (f.Exit == model.Return || f.Exit == model.Error) {
		asked = 1
	}
	if r.end.late(r) {
		asked = min(c.asked, 1) // it has panicked or exited at one of the keys
	}
	if c.asked != asked {
		d.errorf("call %d: LingerFor was asked %d times for its value, want %d", c.id, c.asked, asked)
	}
	if own && context.Cause(r.ctx) != want || own && (r.ctx.Err() != nil) != (want != nil) {
		d.errorf("call %d: fn's context ended with %v, %v, want %v", c.id, r.ctx.Err(), context.Cause(r.ctx), want)
	}
}

// compareFlights compares the flights that Flights reports with the model. A flight that
// has been reported before must have the same ID as then.
func (d *driver) compareFlights() {
	got := map[uint64]coalesce.Flight[float64]{}
	for f := range d.g.Flights() {
		if _, twice := got[f.ID]; twice || f.ID == 0 {
			d.errorf("two flights have the ID %d, or it is 0", f.ID)
		}
		got[f.ID] = f
	}
	known := map[*model.Flight]*fuzzFlight{}
	for _, f := range d.flights {
		known[f.model] = f
	}
	var unseen []*model.Flight
	for _, f := range d.m.Flights() {
		k := known[f]
		if k == nil {
			unseen = append(unseen, f)
			continue
		}
		if g, ok := got[k.id]; !ok || !d.same(g, f) {
			d.errorf("Flights reports %+v, %t, want flight %d to be %s", g, ok, k.id, d.describe(f))
		}
		delete(got, k.id)
		k.last = d.batch
	}
	// No step makes two flights that look the same, unless it is a DoMulti with NaN twice.
	for _, f := range unseen {
		var as *fuzzFlight
		for id, g := range got {
			if d.same(g, f) {
				as = &fuzzFlight{id: id, model: f, last: d.batch}
			}
		}
		if as == nil {
			d.errorf("Flights does not report %s, but %+v", d.describe(f), got)
			return
		}
		delete(got, as.id)
		d.flights = append(d.flights, as)
	}
	if len(got) > 0 {
		d.errorf("Flights reports %+v, which should not be there", got)
	}
}

// same reports whether f, apart from its ID, is a flight that Flights may have described
// as g.
func (d *driver) same(g coalesce.Flight[float64], f *model.Flight) bool {
	return modelKey(g.Key) == f.Key && g.Age == duration(d.m.Age(f)) && g.Waiters == f.Waiters() &&
		g.State == stateOf[f.State] && g.Forgotten == f.Forgotten && g.AtLeast == d.atLeast(f)
}

// atLeast reports whether the age of f is only a lower bound: that of a flight which
// began at once on its leader's goroutine.
func (d *driver) atLeast(f *model.Flight) bool {
	return f.Leader != nil && !f.Leader.Own() && !f.Leader.Follows && !d.is(fuzzAge|fuzzHooks)
}

// stateOf holds the states in Flights for the states of the model.
var stateOf = map[model.State]coalesce.FlightState{
	model.Running:   coalesce.StateRunning,
	model.Abandoned: coalesce.StateAbandoned,
	model.Queued:    coalesce.StateQueued,
	model.Promoted:  coalesce.StateQueued,
}

// describe describes f.
func (d *driver) describe(f *model.Flight) string {
	return fmt.Sprintf("key %d, age %v, %d waiters, %v, forgotten %t, at least %t",
		f.Key, duration(d.m.Age(f)), f.Waiters(), stateOf[f.State], f.Forgotten, d.atLeast(f))
}

// compareShutdown compares the Shutdown that was called with the model.
func (d *driver) compareShutdown() {
	s := d.shutdown
	if s == nil {
		return
	}
	if drained := d.m.Drained(); s.returned != (drained || d.outOfTime) {
		d.errorf("Shutdown has returned: %t; nothing runs: %t", s.returned, drained)
	}
	if s.returned && s.err != nil && (s.err != context.Canceled || !d.outOfTime) {
		d.errorf("Shutdown() = %v", s.err)
	}
}
