package coalesce_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/model"
)

// This file holds what FuzzGroup checks when everything has come to rest.

// checkReplies checks by itself what each call has got.
func (d *driver) checkReplies() {
	clones := map[*fuzzBox]bool{}
	for _, c := range d.calls {
		if c.starts > 1 || c.replies > 1 {
			d.errorf("call %d: fn started %d times, %d replies", c.id, c.starts, c.replies)
		}
		if c.replies == 0 {
			continue
		}
		if err := d.legal(c); err != nil {
			d.errorf("call %d, key %d: %v; it got %+v, panic %v", c.id, c.Key, err, c.got, c.panicked)
		}
		if b := c.got.Val; b != nil && b.cloned {
			if clones[b] {
				d.errorf("call %d got a clone that is not its own", c.id)
			}
			clones[b] = true
		}
	}
}

// checkCounts checks what must be true of the group in whatever order the steps
// of a batch took effect.
func (d *driver) checkCounts() {
	var want coalesce.Stats
	var left uint64
	pending, leading := 0, 0
	live := map[int]int{}     // by key, executions
	canceled := map[int]int{} // of them, those whose context has ended
	for _, c := range d.calls {
		want.Calls++
		if c.starts > 0 {
			want.Led++
		}
		switch {
		case c.starts > 0 && !c.ended:
			live[c.Key]++
			if c.fnCtx.Err() != nil {
				canceled[c.Key]++
			}
		case c.ended && c.exit == model.Panic:
			want.Panics++
		case c.ended && c.exit == model.Goexit:
			want.Goexits++
		}
		switch {
		case c.replies == 0:
			pending++
			if c.starts > 0 {
				leading++
			}
		case c.got.Err == coalesce.ErrClosed, c.got.Err == coalesce.ErrInFlight:
			want.Rejected++
		case c.got.Err != nil && c.got.Err == c.plain.Err():
			left++
		}
	}
	got := d.g.Stats()
	if got.Calls != got.Led+got.Joined+got.Rejected+got.Ended || got.Left+got.Ended != left {
		d.errorf("%+v does not add up to %d calls that left", got, left)
	}
	if n := int(got.Forgotten); n < d.forgotten || n > d.forgotten+d.maybe {
		d.errorf("%d to %d flights were forgotten, %+v", d.forgotten, d.forgotten+d.maybe, got)
	}
	want.Joined, want.Ended, want.Left, want.Abandoned = got.Joined, got.Ended, got.Left, got.Abandoned
	want.Forgotten, want.Untold = got.Forgotten, got.Untold
	if got != want {
		d.errorf("Stats() = %+v, want %+v", got, want)
	}
	if d.blind {
		return
	}

	registered, queued := map[int]int{}, map[int]int{} // by key, flights
	for f := range d.g.Flights() {
		pending -= f.Waiters
		if f.State == coalesce.StateQueued {
			queued[f.Key]++
			continue
		}
		live[f.Key]--
		if f.State == coalesce.StateAbandoned {
			canceled[f.Key]--
		}
		if !f.Forgotten {
			registered[f.Key]++
		}
	}
	if pending != leading {
		d.errorf("%d calls wait that are not in a flight", pending-leading)
	}
	if n := d.g.Len(); n != len(registered) {
		d.errorf("Len() = %d, %d keys have a flight", n, len(registered))
	}
	for key := range 1 + argKey {
		if live[key] != 0 || canceled[key] != 0 && !d.outOfTime {
			d.errorf("key %d has %d executions more than flights, %d more that were canceled", key, live[key], canceled[key])
		}
		if registered[key] > 1 || queued[key] > registered[key] {
			d.errorf("key %d has %d flights and %d queued", key, registered[key], queued[key])
		}
	}
}

// legal checks that c may have got what it got.
func (d *driver) legal(c *fuzzCall) error {
	of, how, err := source(c)
	switch {
	case err != nil:
		return err
	case of != nil:
		return d.legalResult(c, of, how)
	case c.got.Val != nil:
		return fmt.Errorf("a value beside an error of the group's")
	case c.got.Err == coalesce.ErrGoexit || c.exited:
		if c.exited && c.starts == 0 {
			return fmt.Errorf("a goroutine exited although it did not run fn")
		}
		for _, of := range d.calls {
			if of.ended && of.exit == model.Goexit && d.legalResult(c, of, model.Goexit) == nil {
				return nil
			}
		}
		return fmt.Errorf("no fn can have exited for it")
	case c.plain.Err() != nil && c.got.Err == c.plain.Err():
		return nil
	case c.starts > 0:
		return fmt.Errorf("its fn ran")
	case c.got.Err == coalesce.ErrClosed && d.shutdown != nil:
		return nil
	case c.got.Err == coalesce.ErrInFlight && c.Form == model.TryDo:
		return nil
	}
	return fmt.Errorf("there is no reason for it")
}

// source returns the call whose fn made what c got, nil if it does not say.
func source(c *fuzzCall) (of *fuzzCall, how model.Exit, err error) {
	p := c.panicked
	if pe, ok := c.got.Err.(*coalesce.PanicError); ok && c.Form == model.DoChan {
		p = pe
	}
	if p != nil {
		pe, ok := p.(*coalesce.PanicError)
		if !ok {
			return nil, 0, fmt.Errorf("a panic with a %T", p)
		}
		fp, ok := pe.Value.(fuzzPanic)
		if !ok {
			return nil, 0, fmt.Errorf("a panic that is not fn's: %v", pe)
		}
		return fp.of, model.Panic, nil
	}
	if fe, ok := c.got.Err.(*fuzzError); ok {
		if c.got.Val == nil || c.got.Val.of != fe.of {
			return nil, 0, fmt.Errorf("fn's error without its value")
		}
		return fe.of, model.Error, nil
	}
	if c.got.Err != nil || c.exited {
		return nil, 0, nil
	}
	if c.got.Val == nil {
		return nil, 0, fmt.Errorf("neither a value nor an error")
	}
	return c.got.Val.of, model.Return, nil
}

// legalResult checks that c may have got what the fn of the call of ended with.
func (d *driver) legalResult(c, of *fuzzCall, how model.Exit) error {
	switch {
	case of.Key != c.Key:
		return fmt.Errorf("the result is of key %d", of.Key)
	case !of.ended || of.exit != how:
		return fmt.Errorf("fn of %d did not end like that", of.id)
	case c.starts > 0 && c != of:
		return fmt.Errorf("its fn ran, and the result is of %d", of.id)
	case of.finish < c.began:
		return fmt.Errorf("stale: fn of %d ended in batch %d, the call began in %d", of.id, of.finish, c.began)
	case c.Form == model.DoFresh && of.started < c.began:
		return fmt.Errorf("not fresh: fn of %d started in batch %d, the call began in %d", of.id, of.started, c.began)
	case c != of && c.Form != model.TryDo && !c.got.Shared && c.panicked == nil:
		return fmt.Errorf("shared is false, and fn is that of %d", of.id)
	}
	return nil
}

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
			d.compareContext(c)
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
		Calls: m.Led + m.Joined + m.Rejected + m.Ended, Led: m.Led, Joined: m.Joined, Rejected: m.Rejected, Ended: m.Ended,
		Left: m.Left, Abandoned: m.Abandoned, Forgotten: m.Forgotten, Panics: m.Panics, Goexits: m.Goexits, Untold: m.Untold,
	}
	if got := d.g.Stats(); got != want {
		d.errorf("Stats() = %+v, want %+v", got, want)
	}
	if !d.blind {
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
	case model.Result:
		return d.compareResult(c, answers)
	}
	return nil
}

func (d *driver) compareResult(c *fuzzCall, answers map[*model.Flight]any) error {
	f := c.Flight
	if f.Exit == model.Goexit {
		if inline := c.starts > 0 && c.fnCtx == c.ctx; c.exited != inline || !inline && c.got.Err != coalesce.ErrGoexit {
			return fmt.Errorf("fn exited on this goroutine: %t", inline)
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
	if f.Exit == model.Panic {
		return nil
	}
	cloned := d.clone && f.Joined
	if c.got.Val.cloned != cloned || !cloned && c.got.Val != of.box {
		return fmt.Errorf("cloned is %t, want %t", c.got.Val.cloned, cloned)
	}
	return nil
}

// compareContext compares the context of c's fn with the model.
func (d *driver) compareContext(c *fuzzCall) {
	want := c.Flight.Cause
	if want == model.ErrClosed {
		want = coalesce.ErrClosed
	}
	own := c.fnCtx != c.ctx
	if own != c.Own() {
		d.errorf("call %d: fn has the caller's very context: %t", c.id, !own)
	}
	if own && context.Cause(c.fnCtx) != want || own && (c.fnCtx.Err() != nil) != (want != nil) {
		d.errorf("call %d: fn's context ended with %v, %v, want %v", c.id, c.fnCtx.Err(), context.Cause(c.fnCtx), want)
	}
}

// compareFlights compares what Flights tells with the model.
func (d *driver) compareFlights() {
	type flight = coalesce.Flight[int]
	var got, want []flight
	for f := range d.g.Flights() {
		if f.Age < 0 {
			d.errorf("%+v", f)
		}
		f.Age = 0
		got = append(got, f)
	}
	states := map[model.State]coalesce.FlightState{
		model.Running:   coalesce.StateRunning,
		model.Abandoned: coalesce.StateAbandoned,
		model.Queued:    coalesce.StateQueued,
		model.Promoted:  coalesce.StateQueued,
	}
	for _, f := range d.m.Flights() {
		want = append(want, flight{Key: f.Key, Waiters: f.Waiters(), State: states[f.State], Forgotten: f.Forgotten})
	}
	rank := func(f flight) int {
		r := f.Key<<16 | int(f.State)<<8 | f.Waiters<<1
		if f.Forgotten {
			r++
		}
		return r
	}
	order := func(a, b flight) int { return cmp.Compare(rank(a), rank(b)) }
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
