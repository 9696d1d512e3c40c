package coalesce_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/model"
)

// This file holds the comparison of the Group that FuzzGroup drives with the
// model.

// compare compares all that can be seen with the model.
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
	want.Lingering = got.Lingering // some may have expired, and have yet to be freed
	if got != want {
		d.errorf("Stats() = %+v, want %+v", got, want)
	}
	if !d.is(fuzzBlind) {
		d.compareFlights()
	}
	d.compareShutdown()
}

// compareReply compares what c got with the model. answers holds what the
// callers of each flight got before.
func (d *driver) compareReply(c *fuzzCall, answers map[*model.Flight]any) error {
	blind := c.Form == model.TryDo || c.panicked != nil || c.exited
	if c.replies > 0 && !blind && c.got.Shared != c.Shared {
		return fmt.Errorf("shared is %t", c.got.Shared)
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
		if inline := c.starts > 0 && c.run.ctx == c.ctx; c.exited != inline || !inline && c.got.Err != coalesce.ErrGoexit {
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
	same := any(c.got.Err)
	if c.panicked != nil {
		same = c.panicked
	}
	if first, ok := answers[f]; ok && first != same {
		return fmt.Errorf("others of the flight got %v", first)
	}
	answers[f] = same
	if f.Exit == model.Panic || f.Leader.Absent {
		return nil
	}
	cloned := d.is(fuzzClone) && (f.Joined || f.Kept)
	if c.got.Val.cloned != cloned || !cloned && c.got.Val != of.box {
		return fmt.Errorf("cloned is %t, want %t", c.got.Val.cloned, cloned)
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
	if want == model.ErrClosed {
		want = coalesce.ErrClosed
	}
	own := r.ctx != c.ctx
	if own != c.Own() {
		d.errorf("call %d: fn has the caller's very context: %t", c.id, !own)
	}
	if own && context.Cause(r.ctx) != want || own && (r.ctx.Err() != nil) != (want != nil) {
		d.errorf("call %d: fn's context ended with %v, %v, want %v", c.id, r.ctx.Err(), context.Cause(r.ctx), want)
	}
}

// compareFlights compares what Flights tells with the model.
func (d *driver) compareFlights() {
	type flight = coalesce.Flight[int]
	var got, want []flight
	ids := map[uint64]bool{0: true}
	for f := range d.g.Flights() {
		if ids[f.ID] {
			d.errorf("two flights have the ID %d, or it is 0", f.ID)
		}
		ids[f.ID] = true
		f.ID, f.AtLeast = 0, false // the model has neither
		got = append(got, f)
	}
	states := map[model.State]coalesce.FlightState{
		model.Running:   coalesce.StateRunning,
		model.Abandoned: coalesce.StateAbandoned,
		model.Queued:    coalesce.StateQueued,
		model.Promoted:  coalesce.StateQueued,
	}
	for _, f := range d.m.Flights() {
		want = append(want, flight{
			Key: f.Key, Age: time.Duration(d.m.Age(f)) * fuzzTick,
			Waiters: f.Waiters(), State: states[f.State], Forgotten: f.Forgotten,
		})
	}
	order := func(a, b flight) int {
		forgotten := 0
		if a.Forgotten != b.Forgotten {
			forgotten = 1
			if b.Forgotten {
				forgotten = -1
			}
		}
		return cmp.Or(cmp.Compare(a.Key, b.Key), forgotten, cmp.Compare(a.State, b.State),
			cmp.Compare(a.Age, b.Age), cmp.Compare(a.Waiters, b.Waiters))
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		d.errorf("Flights() = %+v, want %+v", got, want)
	}
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
