// Package model is a sequential model of a coalesce.Group: the state table of its
// contract as a program that does one thing at a time and lets all effects happen before
// the next. It has no locks, channels or goroutines, so that it can be read, and
// believed.
//
// Tests drive a Group and a model with the same steps and compare them after each.
package model

import "slices"

// Stats are the Group's counters of the same names.
type Stats struct {
	Led, Joined, Lingered, Rejected, EndedOnEntry                                 uint64
	Left, Abandoned, Forgotten, TakenOver, Panics, Goexits, PanicsLogged, Evicted uint64
}

// A Group is the model. The zero Group is ready to use. Its configuration is
// that of the Group of the same names, with time in units of Tick.
type Group struct {
	MaxWaiters, MaxAge, Linger, LingerMax int

	LingerFor bool // Call.Life decides in place of Linger
	Slack     int  // how long after its life an outcome may be kept

	Stats  Stats
	Closed bool

	now        int
	registered []*Flight // one for each key, except for NaN
	forgotten  []*Flight
	lingering  []outcome // in the order in which they began to
	ended      []int     // the ends of those that have expired recently
}

// Len returns the number of flights that are registered.
func (g *Group) Len() int { return len(g.registered) }

// lookup returns the flight that is registered for key, or nil.
func (g *Group) lookup(key int) *Flight {
	for _, f := range g.registered {
		if f.Key == key && key != NaN {
			return f
		}
	}
	return nil
}

// Flights returns all unfinished flights: the forgotten ones and then, each with its
// successor, those that are registered.
func (g *Group) Flights() []*Flight {
	all := slices.Clone(g.forgotten)
	for _, f := range g.registered {
		all = append(all, f)
		if f.Queue != nil {
			all = append(all, f.Queue)
		}
	}
	return all
}

// Age returns the time for which f, which is unfinished, has run or, before that, been
// queued.
func (g *Group) Age(f *Flight) int { return g.now - f.Since }

// Begin makes a call or, if there are several, a DoMulti with one for each key.
func (g *Group) Begin(calls ...*Call) {
	var led []*Flight
	for _, c := range calls {
		c.with = calls
		g.admit(c)
		if f := c.Flight; f != nil && f.Leader == c {
			led = append(led, f)
		}
	}
	for _, f := range led {
		f.Batch = led
	}
}

// admit makes the call c take part in a flight, or answers it.
func (g *Group) admit(c *Call) {
	fresh := c.Form == DoFresh
	switch s := g.lingers(c.Key); {
	case c.Ended:
		c.answer(Left)
		g.Stats.EndedOnEntry++
		return
	case g.Closed:
		g.reject(c, Closed)
		return
	case s != nil && !fresh:
		c.Flight = s
		c.answer(Result)
		c.Shared = true
		g.Stats.Lingered++
		return
	}
	f := g.lookup(c.Key)
	if f != nil && g.overdue(f) && !fresh {
		g.takeOver(f)
		f = nil
	}
	switch {
	case f == nil:
		f = &Flight{Key: c.Key, Callers: []*Call{c}, Picked: c}
		c.Flight = f
		g.registered = append(g.registered, f)
		g.lead(f)
		return
	case c.Form == TryDo:
		g.reject(c, InFlight)
		return
	}
	to := f // the flight that c is to take part in
	if f.State == Abandoned || fresh {
		to = f.Queue
	}
	switch {
	case g.full(to):
		g.reject(c, Saturated)
		return
	case to == nil:
		to = &Flight{Key: c.Key, State: Queued, Since: g.now}
		f.Queue = to
	}
	c.queued = to.State != Running
	g.join(to, c)
	g.expire(f)
}

func (g *Group) reject(c *Call, r Reply) {
	c.answer(r)
	g.Stats.Rejected++
}

func (g *Group) join(f *Flight, c *Call) {
	f.Joined = f.Joined || f.Leader != nil || len(f.Callers) > 0
	f.Callers = append(f.Callers, c)
	c.Flight, c.Follows = f, true
	if f.State == Running {
		g.Stats.Joined++ // otherwise it is counted when f starts, or when it leaves
	}
}

// lead starts f, led by the call that was picked.
func (g *Group) lead(f *Flight) {
	f.State = Running
	f.Leader = f.Picked
	f.Since = g.now
	f.Batch = []*Flight{f}
	g.Stats.Led++
	g.Stats.Joined += uint64(len(f.Callers) - 1)
}

// hand picks the call that has waited longest to lead f, which is promoted.
func (g *Group) hand(f *Flight) {
	f.Picked = f.Callers[0]
	g.wake(f.Picked)
}

// wake lets c, which was queued, go on: its turn or its context's end has come.
func (g *Group) wake(c *Call) {
	switch f := c.Flight; {
	case c.Slow: // not before Resume
	case c.Ended:
		g.leave(c)
	case f.State == Promoted && f.Picked == c:
		c.queued = false
		g.lead(f)
	}
}

// Resume makes the context of c answer whether it has ended, from now on.
func (g *Group) Resume(c *Call) {
	c.Slow, c.slowed = false, false
	if c.last {
		g.end(c.Flight, c.Cause)
	}
	if c.queued && c.reply == Pending {
		g.wake(c)
	}
}

// Finish ends the execution of f, which runs or is abandoned.
func (g *Group) Finish(f *Flight, how Exit) {
	if how == Panic && !f.panics() {
		g.Stats.PanicsLogged++
	}
	for _, f := range f.Batch {
		g.finish(f, how)
	}
	if f.Held && f.deserted() && !f.kept() {
		g.end(f, ErrCanceled)
	}
}

func (g *Group) finish(f *Flight, how Exit) {
	if how == Return && f.Leader.Fails {
		how = Error
	}
	if slices.Contains(g.registered, f) {
		g.drop(f.Key)
		life := g.life(f, how)
		if life > 0 && f.State == Running && f.Queue == nil && !g.Closed && f.Key != NaN {
			g.keep(f, life)
		}
	}
	f.State, f.Exit = Finished, how
	for _, c := range f.Callers {
		c.answer(Result)
	}
	switch how {
	case Panic:
		g.Stats.Panics++
	case Goexit:
		g.Stats.Goexits++
	}
	g.remove(f)
}

// remove removes f, which is finished or being forgotten, from its place and promotes its
// successor.
func (g *Group) remove(f *Flight) {
	if i := slices.Index(g.forgotten, f); i >= 0 {
		g.forgotten = slices.Delete(g.forgotten, i, i+1)
		return
	}
	i := slices.Index(g.registered, f)
	g.registered = slices.Delete(g.registered, i, i+1)
	if q := f.Queue; q != nil {
		f.Queue = nil
		q.State = Promoted
		g.registered = append(g.registered, q)
		g.hand(q)
	}
}

// Hold keeps the execution of f, which has begun, from being abandoned, and reports
// whether it does.
func (g *Group) Hold(f *Flight) bool {
	if !f.Leader.Own() || f.State != Running {
		return false
	}
	for _, f := range f.Batch {
		f.Held = true
	}
	return true
}

// Cancel ends the context of c.
func (g *Group) Cancel(c *Call) {
	for _, c := range c.with {
		if c.reply != Pending || c.Cause == nil || c.Ended {
			continue
		}
		c.Ended = true
		if c.queued && c.Form != DoChan {
			g.wake(c)
		} else {
			g.leave(c)
		}
	}
}

// leave makes c, whose context has ended, leave.
func (g *Group) leave(c *Call) {
	f := c.Flight
	c.answer(Left)
	g.Stats.Left++
	if f.State == Queued || f.State == Promoted {
		g.Stats.Joined++
	}
	f.Callers = slices.DeleteFunc(f.Callers, func(x *Call) bool { return x == c })
	switch alone := len(f.Callers) == 0; {
	case f.State == Promoted && alone:
		f.State = Finished
		g.remove(f)
	case f.State == Promoted && f.Picked == c:
		g.hand(f)
	case f.State == Queued && alone:
		g.lookup(f.Key).Queue = nil
	case f.State == Running && f.deserted() && !f.Held:
		for _, f := range f.Batch {
			f.State = Abandoned
			g.Stats.Abandoned++
		}
		c.last = true
		if !c.Slow {
			g.end(f, c.Cause)
		}
	}
}

// end ends the context of f, which runs or has run.
func (g *Group) end(f *Flight, cause error) {
	if !f.Leader.Own() || f.Cause != nil {
		return
	}
	for _, f := range f.Batch {
		f.Cause = cause
	}
	if f.Leader.Honors && f.State != Finished {
		g.Finish(f, Error)
	}
}
