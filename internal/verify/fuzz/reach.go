package fuzz

import (
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the states that a program reaches, for the test that checks that
// programs reach the states that they are meant for.

// reach notes that a program has reached something, and the state of f, which may be nil.
func (d *driver) reach(what string, f *model.Flight) {
	if d.reached == nil || d.m == nil {
		return
	}
	d.reached[what] = true
	if f == nil {
		return
	}
	for tag, is := range map[string]bool{
		"abandoned": f.State == model.Abandoned,
		"queued":    f.State == model.Queued,
		"promoted":  f.State == model.Promoted,
		"finished":  f.State == model.Finished,
		"forgotten": f.Forgotten,
		"held":      f.Held,
		"deserted":  len(f.Callers) == 0,
		"succeeded": f.Queue != nil,
		"turned":    f.Leader != nil && f.Leader.Follows,
		"batch":     len(f.Batch) > 1,
		"NaN":       f.Key == model.NaN,
		"closed":    d.m.Closed,
		"overdue":   d.is(fuzzAge) && f.Leader != nil && d.m.Age(f) >= fuzzMaxAge,
		"hooks":     d.is(fuzzHooks),
		"clone":     d.is(fuzzClone),
		"lingers":   d.lingers(),
	} {
		if is {
			d.reached[what+": "+tag] = true
		}
	}
}

// reachEnd notes that r is about to end, with the flights of the model before that.
func (d *driver) reachEnd(r *fuzzRun, end fuzzEnd) {
	for _, c := range r.calls {
		f, how := c.Flight, end.of(r)
		switch {
		case end.keyErrors && !r.multi():
			d.reach("a KeyErrors of no DoMulti", f)
		case end.keyErrors && how == model.Error:
			d.reach("an empty KeyErrors, wrapped", f)
		case end.keyErrors && end.fails(c.Key):
			d.reach("a key fails", f)
		case end.keyErrors:
			d.reach("a key does not fail", f)
		}
		if f.Held {
			d.reach("a held flight ends by "+exitNames[how], f)
		}
		if end.late(r) {
			d.reach("LingerFor ends by "+exitNames[how], f)
		} else if d.is(fuzzLingerFor) {
			d.reach("LingerFor is asked after "+exitNames[how], f)
		}
	}
}

// reachKept notes which outcomes of r, which has ended, linger.
func (d *driver) reachKept(r *fuzzRun) {
	if d.is(fuzzLingerFor) && d.m.Stats.Evicted > 0 {
		d.reach("one of different lives is evicted", nil)
	}
	for _, c := range r.calls {
		switch f := c.Flight; {
		case !f.Kept:
		case f.Exit == model.Error:
			d.reach("an error lingers", f)
		case f.Leader.Absent:
			d.reach("an absence lingers", f)
		default:
			d.reach("a value lingers", f)
		}
	}
}

// reachEvents notes the events that c must have by now, except Join and Leave.
func (d *driver) reachEvents(c *fuzzCall, want fuzzEvents) {
	if want.joins > 0 && want.starts > 0 {
		d.reach("Start after Join", c.Flight)
	}
	switch f := c.Flight; {
	case want.receives == 0:
	case c.Reply() == model.Closed:
		d.reach("Receive of ErrClosed", f)
	default:
		d.reach("Receive after "+exitNames[f.Exit], f)
	}
}

// exitNames are the names of the ends of an fn in reachable.
var exitNames = map[model.Exit]string{
	model.Return: "return", model.Error: "error", model.Panic: "panic", model.Goexit: "exit",
}
