package fuzz

import (
	"context"
	"fmt"
	"sync"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the hooks of the group that FuzzGroup drives, and the check of their
// events.

// fuzzEvents counts the events of a call, or of several.
type fuzzEvents struct{ starts, joins, receives, leaves int }

// A fuzzRecorder records the events of a group. They belong to the call that the context
// of the hook has.
type fuzzRecorder struct {
	mu       sync.Mutex
	unnamed  fuzzEvents                         // of Do and TryDo, which have no context
	starts   map[uint64]uint64                  // by FlightID: the StartID
	started  map[uint64]bool                    // by FlightID: whether Start has returned a context
	finished map[uint64]coalesce.Event[float64] // by FlightID
	seqs     map[uint64]bool                    // of all events except Receives
	err      error                              // the first that was found
}

// of returns the hooks that record in h.
func (h *fuzzRecorder) of() coalesce.Hooks[float64] {
	h.starts, h.started, h.finished, h.seqs = map[uint64]uint64{}, map[uint64]bool{}, map[uint64]coalesce.Event[float64]{}, map[uint64]bool{}
	return coalesce.Hooks[float64]{
		Start: h.start,
		Join: func(ctx context.Context, e coalesce.Event[float64]) {
			h.record(ctx, e, func(n *fuzzEvents) *int { return &n.joins })
		},
		Receive: h.receive,
		Leave: func(ctx context.Context, e coalesce.Event[float64]) {
			h.record(ctx, e, func(n *fuzzEvents) *int { return &n.leaves })
		},
		Finish: h.finish,
	}
}

// failf records the first error. h.mu must be held.
func (h *fuzzRecorder) failf(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf(format, args...)
	}
}

// start is the Start hook. It returns a context for every other call.
func (h *fuzzRecorder) start(ctx context.Context, e coalesce.Event[float64]) context.Context {
	c := h.record(ctx, e, func(n *fuzzEvents) *int { return &n.starts })
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, twice := h.started[e.FlightID]; twice {
		h.failf("flight %d has started twice", e.FlightID)
	}
	h.started[e.FlightID] = c == nil || c.gives()
	if h.started[e.FlightID] {
		return context.WithValue(ctx, fuzzStartKey{}, e.FlightID)
	}
	return nil
}

// gives reports whether the Start hook returns a context for c.
func (c *fuzzCall) gives() bool { return c.all[0].id&1 != 0 }

// receive is the Receive hook.
func (h *fuzzRecorder) receive(ctx context.Context, e coalesce.Event[float64]) {
	c := h.record(ctx, e, func(n *fuzzEvents) *int { return &n.receives })
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Waiters != 0 || e.Run != 0 {
		h.failf("Receive got %+v", e)
	}
	if c != nil {
		c.received = e
	}
}

// finish is the Finish hook.
func (h *fuzzRecorder) finish(ctx context.Context, e coalesce.Event[float64]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.once(e)
	h.checkStart(e)
	if _, twice := h.finished[e.FlightID]; twice {
		h.failf("flight %d has finished twice", e.FlightID)
	}
	h.finished[e.FlightID] = e
	id, given := ctx.Value(fuzzStartKey{}).(uint64)
	gave, known := h.started[e.StartID]
	if gave != given || given && id != e.StartID || known == (e.Outcome == coalesce.OutcomeClosed) {
		h.failf("Finish of flight %d got the context that Start returned for flight %d, want %d", e.FlightID, id, e.StartID)
	}
}

// checkStart checks that all events of a flight have the same StartID. h.mu must be held.
func (h *fuzzRecorder) checkStart(e coalesce.Event[float64]) {
	if id := h.starts[e.FlightID]; id != 0 && id != e.StartID {
		h.failf("an event of flight %d has the StartID %d, another %d", e.FlightID, e.StartID, id)
	}
	h.starts[e.FlightID] = e.StartID
}

// once checks that no other event has the Seq of e. h.mu must be held.
func (h *fuzzRecorder) once(e coalesce.Event[float64]) {
	if h.seqs[e.Seq] || e.FlightID == 0 {
		h.failf("a second event with the Seq of %+v, or one without a FlightID", e)
	}
	h.seqs[e.Seq] = true
}

// record counts the event e, in the field that which returns, for the call whose context
// is ctx, and returns that call, or nil if it is a Do or TryDo.
func (h *fuzzRecorder) record(ctx context.Context, e coalesce.Event[float64], which func(*fuzzEvents) *int) *fuzzCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &h.unnamed
	c, _ := ctx.Value(fuzzCallKey{}).(*fuzzCall)
	if c != nil {
		c = c.recipient(e, which)
		n = &c.events
	}
	h.checkStart(e)
	if which(n) != &n.receives {
		h.once(e)
	}
	*which(n)++
	return c
}

// recipient returns the call of the same DoMulti as c that e belongs to. If there are
// several, because they are for NaN, it is one that has no such event yet.
func (c *fuzzCall) recipient(e coalesce.Event[float64], which func(*fuzzEvents) *int) *fuzzCall {
	var of *fuzzCall
	for _, o := range c.all {
		if o.Key == modelKey(e.Key) && (of == nil || *which(&of.events) > 0) {
			of = o
		}
	}
	return of
}

// named reports whether the hooks of c get a context that shows its call.
func (c *fuzzCall) named() bool { return c.Form != model.Do && c.Form != model.TryDo }

// checkEvents checks that the events are in order: each Join is followed by exactly one
// of Receive, Leave and Start. No context may be slow.
func (d *driver) checkEvents() {
	h := &d.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		d.errorf("%v", h.err)
	}
	waiting, led := 0, 0 // calls of Do and TryDo
	for _, c := range d.calls {
		n := c.events
		switch {
		case c.named():
		case c.starts > 0:
			led++
		case c.replies == 0:
			waiting++
		}
		leads, answered := min(c.starts, 1), min(c.replies, 1)
		want := fuzzEvents{starts: n.starts, joins: n.joins, leaves: n.leaves}
		if n.joins > 0 {
			want.joins = 1
			want.receives = answered * (1 - leads) * (1 - n.leaves)
		}
		if n != want || n.starts > leads || n.leaves > max(leads, n.joins) {
			d.errorf("call %d: %+v, %d replies, its fn started %d times", c.id, n, c.replies, c.starts)
		}
		if n.receives > 0 {
			d.checkReceived(c)
		}
	}
	// Of calls without a context only their number is known.
	n := h.unnamed
	if later := n.joins - n.receives - waiting; later < 0 || later > led || n.starts != led || n.leaves > 0 {
		d.errorf("calls of Do and TryDo have %+v, %d wait, %d have led", n, waiting, led)
	}
}

// checkReceived checks the event with which Receive was called for c.
func (d *driver) checkReceived(c *fuzzCall) {
	e, end := c.received, d.hooks.finished[c.received.FlightID]
	if e.Seq != end.Seq || e.Outcome != end.Outcome || identity(e.Err) != identity(end.Err) {
		d.errorf("call %d: Receive got %+v, Finish got %+v", c.id, e, end)
	}
	got := identity(c.got.Err)
	if c.panicked != nil {
		got = c.panicked
	}
	if identity(e.Err) != got {
		d.errorf("call %d: Receive got the error %v, the call %v", c.id, e.Err, got)
	}
}

// compareEvents compares the events with the model. No context may be slow.
func (d *driver) compareEvents() {
	h := &d.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	var unnamed fuzzEvents // wanted
	over := map[*model.Flight]bool{}
	for _, c := range d.calls {
		var want fuzzEvents
		f := c.Flight
		leads := f != nil && f.Leader == &c.Call
		if f != nil && f.State == model.Finished && len(f.Callers)+len(f.Batch) > 0 { // otherwise it has evaporated
			over[f] = true
		}
		if leads && f.Batch[0] == f {
			want.starts = 1
		}
		if c.Follows {
			want.joins = 1
		}
		switch r := c.Reply(); {
		case f == nil:
		case r == model.Left:
			want.leaves = 1
		case r != model.Pending && c.Follows && !leads:
			want.receives = 1
		}
		d.reachEvents(c, want)
		if c.named() && c.events != want {
			d.errorf("call %d has %+v, want %+v", c.id, c.events, want)
		}
		if !c.named() {
			unnamed.starts += want.starts
			unnamed.joins += want.joins
			unnamed.receives += want.receives
		}
	}
	if h.unnamed != unnamed {
		d.errorf("calls of Do and TryDo have %+v, want %+v", h.unnamed, unnamed)
	}
	if len(h.finished) != len(over) {
		d.errorf("%d flights have had a Finish, want %d", len(h.finished), len(over))
	}
}
