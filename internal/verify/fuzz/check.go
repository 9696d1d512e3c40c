package fuzz

import (
	"fmt"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the checks of FuzzGroup when everything has come to rest.

// checkReplies checks the answer of each call by itself.
func (d *driver) checkReplies() {
	clones := map[*fuzzBox]bool{}
	for _, c := range d.calls {
		c.untangle()
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

// untangle gives c, if it is for NaN and its fn ran, the result of another call of its
// DoMulti whose fn did not run, if a Shutdown seems to have refused c. The results for
// NaN do not show which call they belong to.
func (c *fuzzCall) untangle() {
	if c.Key != model.NaN || c.starts == 0 || c.got.Err != coalesce.ErrClosed {
		return
	}
	for _, o := range c.all {
		if o.Key == model.NaN && o.starts == 0 && o.replies > 0 && o.got.Err != coalesce.ErrClosed {
			c.got, o.got = o.got, c.got
			return
		}
	}
}

// checkCounts checks the rules that hold for the group in every order of the effects of a
// batch's steps.
func (d *driver) checkCounts() {
	var want coalesce.Stats
	var left uint64
	var multi uint64 // keys of DoMultis that have not returned, which may have been rejected
	for _, c := range d.calls {
		want.Calls++
		if c.starts > 0 {
			want.Led++
		}
		switch {
		case c.run == nil || !c.run.ended:
		case c.run.exit == model.Panic:
			want.Panics++
		case c.run.exit == model.Goexit:
			want.Goexits++
		}
		switch {
		case c.replies == 0 && len(c.all) > 1:
			multi++
		case c.replies == 0:
		case c.got.Err == coalesce.ErrClosed, c.got.Err == coalesce.ErrInFlight, c.got.Err == coalesce.ErrSaturated:
			want.Rejected++
		case c.got.Err != nil && c.got.Err == c.plain.Err():
			left++
		}
	}
	got := d.g.Stats()
	if d.is(fuzzBlind) {
		want.Calls = min(want.Calls, got.Calls)
	} else {
		for f := range d.g.Flights() {
			if f.State == coalesce.StateQueued {
				want.Calls -= uint64(f.Waiters) // in no class yet
			}
		}
	}
	if got.Calls != got.Led+got.Joined+got.Lingered+got.Rejected+got.EndedOnEntry || got.Left+got.EndedOnEntry != left {
		d.errorf("%+v does not add up to %d calls that left", got, left)
	}
	if n := int(got.Forgotten); n < d.forgotten || n > d.forgotten+d.maybe {
		d.errorf("%d to %d flights were forgotten, %+v", d.forgotten, d.forgotten+d.maybe, got)
	}
	if n := got.Rejected - want.Rejected; n <= multi {
		want.Rejected = got.Rejected
	}
	want.Joined, want.EndedOnEntry, want.Left, want.Abandoned = got.Joined, got.EndedOnEntry, got.Left, got.Abandoned
	want.Forgotten, want.PanicsLogged = got.Forgotten, got.PanicsLogged
	if d.is(fuzzAge) {
		want.TakenOver = got.TakenOver
	}
	if d.lingers() {
		want.Lingered, want.Lingering = got.Lingered, got.Lingering
	}
	if d.lingers() && d.is(fuzzMax) {
		want.Evicted, want.Lingering = got.Evicted, min(want.Lingering, fuzzLingerMax)
	}
	if got != want {
		d.errorf("Stats() = %+v, want %+v", got, want)
	}
	d.checkHolds()
	if !d.is(fuzzBlind) {
		d.checkFlights()
	}
}

// checkHolds checks that a context of a flight that was held, and runs, has not ended
// because callers left, and that one that could not be held has ended.
func (d *driver) checkHolds() {
	for _, r := range d.runs {
		if r.ended || d.outOfTime {
			continue
		}
		if ended := r.ctx.Err() != nil; r.held && ended || r.unheld && !ended {
			d.errorf("call %d: fn runs, Hold has returned true: %t, false: %t, and its context has ended: %t",
				r.calls[0].id, r.held, r.unheld, ended)
		}
	}
}

// checkFlights checks that the flights match the calls and the executions, and keep to
// the limits.
func (d *driver) checkFlights() {
	pending := 0              // calls that do not lead
	multi := 0                // of them, the calls of DoMultis, which may have their results
	live := map[int]int{}     // by key, executions
	canceled := map[int]int{} // of them, the ones whose context has ended
	for _, c := range d.calls {
		if c.replies == 0 && c.starts == 0 {
			pending++
			if len(c.all) > 1 {
				multi++
			}
		}
		if c.run != nil && !c.run.ended {
			live[c.Key]++
			if c.run.ctx.Err() != nil {
				canceled[c.Key]++
			}
		}
	}
	registered, queued := map[int]int{}, map[int]int{} // by key, flights
	ages := map[int]time.Duration{}                    // of the registered flights
	n := 0                                             // their number
	for f := range d.g.Flights() {
		key := modelKey(f.Key)
		d.flights = append(d.flights, &fuzzFlight{id: f.ID, last: d.batch})
		pending -= f.Waiters
		limit := fuzzMaxWaiters
		if f.State == coalesce.StateQueued {
			limit++ // with the one that is to lead it
		}
		if d.is(fuzzWaiters) && f.Waiters > limit {
			d.errorf("%+v has more than MaxWaiters", f)
		}
		if f.State == coalesce.StateQueued {
			queued[key]++
			continue
		}
		live[key]--
		if f.State == coalesce.StateAbandoned {
			canceled[key]--
		}
		if !f.Forgotten {
			n++
			registered[key]++
			ages[key] = f.Age
		}
	}
	if pending < 0 || pending > multi {
		d.errorf("%d calls wait that are not in a flight", pending)
	}
	if got := d.g.Len(); got != n {
		d.errorf("Len() = %d, Flights reports %d that are registered", got, n)
	}
	for key := model.NaN; key <= argKey; key++ {
		if live[key] != 0 || canceled[key] != 0 && !d.outOfTime {
			d.errorf("key %d has %d executions more than flights, %d more that were canceled", key, live[key], canceled[key])
		}
		if registered[key] > 1 && key != model.NaN || queued[key] > registered[key] || queued[model.NaN] > 0 {
			d.errorf("key %d has %d flights and %d queued", key, registered[key], queued[key])
		}
		if d.is(fuzzAge) && queued[key] > 0 && ages[key] >= fuzzMaxAge*fuzzTick {
			d.errorf("key %d has a flight of age %v and one queued", key, ages[key])
		}
	}
}

// legal checks that c may have got its answer.
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
			if d.legalResult(c, of, model.Goexit) == nil {
				return nil
			}
		}
		return fmt.Errorf("no fn can have exited for it")
	case c.got.Err == coalesce.ErrAbsent:
		for _, of := range d.calls {
			if of.Absent && d.legalResult(c, of, model.Return) == nil {
				return nil
			}
		}
		return fmt.Errorf("no map can have lacked its key")
	case c.plain.Err() != nil && c.got.Err == c.plain.Err():
		return nil
	case c.starts > 0:
		return fmt.Errorf("its fn ran")
	case c.got.Err == coalesce.ErrClosed && d.shutdown != nil:
		return nil
	case c.got.Err == coalesce.ErrInFlight && c.Form == model.TryDo:
		return nil
	case c.got.Err == coalesce.ErrSaturated && d.is(fuzzWaiters) && c.Form != model.TryDo:
		return nil
	}
	return fmt.Errorf("there is no reason for it")
}

// source returns the call whose fn made the answer of c, nil if the answer does not show
// it.
func source(c *fuzzCall) (of *fuzzCall, how model.Exit, err error) {
	p := c.panicked
	if pe, ok := c.got.Err.(*coalesce.PanicError); ok && p == nil && (c.Form == model.DoChan || c.Form == model.DoMulti) {
		p = pe
	} else if p != nil && c.Form == model.DoMulti {
		return nil, 0, fmt.Errorf("got a panic outside of its Result, want it inside")
	}
	if p != nil {
		pe, ok := p.(*coalesce.PanicError)
		if !ok {
			return nil, 0, fmt.Errorf("got a panic with a %T, want a *PanicError", p)
		}
		fp, ok := pe.Value.(fuzzPanic)
		if !ok {
			return nil, 0, fmt.Errorf("got a panic that is not fn's, want fn's: %w", pe)
		}
		return fp.of.call(c), model.Panic, nil
	}
	of, err = sourceOfError(c)
	if err != nil {
		return nil, 0, err
	}
	if of != nil {
		if v := c.got.Val; (v == nil) != of.Absent || v != nil && v.of != of {
			return nil, 0, fmt.Errorf("got fn's error without its value, want both")
		}
		return of, model.Error, nil
	}
	if c.got.Err != nil || c.exited {
		return nil, 0, nil
	}
	if c.got.Val == nil {
		return nil, 0, fmt.Errorf("got neither a value nor an error, want one")
	}
	return c.got.Val.of, model.Return, nil
}

// sourceOfError returns the call whose fn returned the error of c, nil if that is not
// such an error. A key of a DoMulti that has an error of its own gets no other.
func sourceOfError(c *fuzzCall) (of *fuzzCall, err error) {
	own, whole := false, false // the error of one key; a KeyErrors
	switch e := c.got.Err.(type) {
	case *fuzzError:
		of = e.of.call(c)
	case *fuzzKeyError:
		of, own = e.of, true
	case coalesce.KeyErrors[float64]:
		other, ok := e[otherKey].(*fuzzKeyError)
		if !ok {
			return nil, fmt.Errorf("got a KeyErrors of no fn, want that of one")
		}
		of, whole = other.of.run.call(c), true
	default:
		return nil, nil
	}
	multi, end := of.run.multi(), of.run.end
	if own != (multi && end.fails(of.Key)) || whole != (!multi && end.keyErrors && end.arg&argWrapped == 0) {
		return nil, fmt.Errorf("got another error than fn of %d returned for its key, want that", of.id)
	}
	return of, nil
}

// legalResult checks that c may have got the result of the fn of the call of.
func (d *driver) legalResult(c, of *fuzzCall, how model.Exit) error {
	r := of.run
	switch {
	case of.Key != c.Key:
		return fmt.Errorf("got a result of key %d, want its own key", of.Key)
	case r == nil || !r.ended || r.exitOf(of) != how:
		return fmt.Errorf("got another end than that of fn of %d, want that", of.id)
	case (c.starts > 0 || c.Key == model.NaN) && c.run != r:
		return fmt.Errorf("it is alone, or its fn ran, and the result is of %d", of.id)
	case r.finish < c.began && !d.mayLinger(c, of):
		return fmt.Errorf("stale: fn of %d ended in batch %d, the call began in %d", of.id, r.finish, c.began)
	case d.is(fuzzAge) && c.beganAt.Sub(r.startedAt) >= fuzzMaxAge*fuzzTick && !d.mayLinger(c, of):
		return fmt.Errorf("overdue: fn of %d had run for %v when the call began", of.id, c.beganAt.Sub(r.startedAt))
	case c.Form == model.DoFresh && r.started < c.began:
		return fmt.Errorf("not fresh: fn of %d started in batch %d, the call began in %d", of.id, r.started, c.began)
	case c != of && c.run != r && c.Form != model.TryDo && !c.got.Shared && c.panicked == nil:
		return fmt.Errorf("shared is false, and fn is that of %d", of.id)
	}
	return nil
}

// mayLinger reports whether the outcome of the fn of the call of, which had ended before
// c began, may answer c.
func (d *driver) mayLinger(c, of *fuzzCall) bool {
	r, life := of.run, 0
	how := r.exitOf(of)
	switch {
	case c.Form == model.DoFresh || r.endedAt.After(c.beganAt) || how != model.Return && how != model.Error:
		return false
	case d.is(fuzzLingerFor):
		life = r.end.life(r, of)
	case !d.is(fuzzLinger) || how == model.Error || of.Absent:
		return false
	case d.is(fuzzForever):
		life = model.Forever
	default:
		life = fuzzLife
	}
	return life == model.Forever || c.beganAt.Sub(r.endedAt) < duration(life)
}
