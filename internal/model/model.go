// Package model is a sequential model of a coalesce.Group: the state table of
// its contract as a program that does one thing at a time and lets everything
// that follows from it happen before the next. It knows nothing of locks,
// channels or goroutines, so that it can be read, and believed.
//
// Tests drive a Group and a model with the same steps and compare them after
// each.
package model

import (
	"errors"
	"slices"
)

// A Form is a way to call a Group.
type Form uint8

// The forms, in the order of the exported methods.
const (
	Do Form = iota
	DoContext
	DoChan
	DoFresh
	TryDo
	Forms // how many there are
)

// An Exit is how an fn ends.
type Exit uint8

// The exits.
const (
	Return Exit = iota
	Error
	Panic
	Goexit
	Exits // how many there are
)

// A Reply is the kind of answer that a call got.
type Reply uint8

// The replies.
const (
	Pending  Reply = iota // no answer yet
	Result                // what Call.Flight ended with
	Left                  // its context's error
	Closed                // ErrClosed
	InFlight              // ErrInFlight
)

// ErrClosed stands for the Group's, as a cause.
var ErrClosed = errors.New("closed")

// A Call is one caller's invocation. The caller sets the first fields.
type Call struct {
	Key    int
	Form   Form
	Cause  error // of its context's end; nil if that can never end, or Form has none
	Ended  bool  // its context has ended
	Slow   bool  // its context, once asked whether it has ended, does not say so before Resume
	Honors bool  // its fn returns an error when its context ends

	Flight *Flight // what it takes, or took, part in
	Shared bool    // what it was told
	reply  Reply
	queued bool // it waits for its turn, and must ask its context when it is woken
	held   bool // it has its answer, and returns with it when its context has said why
	last   bool // it abandoned Flight, whose context ends when its own has said why
}

// Reply returns what c has been answered so far.
func (c *Call) Reply() Reply {
	if c.held {
		return Pending
	}
	return c.reply
}

// answer gives c its answer. Who leaves, and who was woken from a queue, has to
// ask the context before it can return.
func (c *Call) answer(r Reply) {
	c.reply = r
	c.Shared = c.Flight != nil && c.Flight.Joined
	c.held = c.Slow && (r == Left || c.queued && c.Form != DoChan)
}

// Own reports whether a flight that c leads runs on a goroutine of its own.
func (c *Call) Own() bool {
	switch c.Form {
	case Do, TryDo:
		return false
	case DoContext:
		return c.Cause != nil
	}
	return true
}

// A State is that of a flight.
type State uint8

// The states.
const (
	Running State = iota
	Abandoned
	Queued
	Promoted // its turn has come, and Picked has not started it
	Finished
)

// A Flight is one execution with its callers.
type Flight struct {
	Key       int
	State     State
	Leader    *Call // nil before it runs
	Picked    *Call // who is to lead it; nil before it is promoted
	Callers   []*Call
	Joined    bool // a second call has taken part
	Forgotten bool
	Queue     *Flight // the successor behind it
	Exit      Exit    // valid once it is finished
	Cause     error   // of its context's end, nil if that has not ended
}

// Waiters returns how many calls wait for f, its leader not among them.
func (f *Flight) Waiters() int {
	n := len(f.Callers)
	if slices.Contains(f.Callers, f.Leader) {
		n--
	}
	return n
}

// Stats are the Group's counters of the same names.
type Stats struct {
	Led, Joined, Rejected, Ended                        uint64
	Left, Abandoned, Forgotten, Panics, Goexits, Untold uint64
}

// A Group is the model. The zero Group is ready to use.
type Group struct {
	Stats  Stats
	Closed bool

	registered map[int]*Flight
	forgotten  []*Flight
}

// Len returns the number of keys that have a flight.
func (g *Group) Len() int { return len(g.registered) }

// Flights returns all unfinished flights, in no order.
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

// Begin makes the call c.
func (g *Group) Begin(c *Call) {
	f := g.registered[c.Key]
	switch {
	case c.Ended:
		c.answer(Left)
		g.Stats.Ended++
	case g.Closed:
		c.answer(Closed)
		g.Stats.Rejected++
	case f == nil:
		f = &Flight{Key: c.Key, Callers: []*Call{c}, Picked: c}
		c.Flight = f
		g.register(f)
		g.lead(f)
	case c.Form == TryDo:
		c.answer(InFlight)
		g.Stats.Rejected++
	case f.State == Running && c.Form != DoFresh:
		g.join(f, c)
	case f.State == Promoted && c.Form != DoFresh:
		c.queued = true
		g.join(f, c)
	default:
		if f.Queue == nil {
			f.Queue = &Flight{Key: c.Key, State: Queued}
		}
		c.queued = true
		g.join(f.Queue, c)
	}
}

func (g *Group) register(f *Flight) {
	if g.registered == nil {
		g.registered = map[int]*Flight{}
	}
	g.registered[f.Key] = f
}

func (g *Group) join(f *Flight, c *Call) {
	f.Joined = len(f.Callers) > 0 || f.Joined
	f.Callers = append(f.Callers, c)
	c.Flight = f
	g.Stats.Joined++
}

// lead starts f, led by the call that was picked.
func (g *Group) lead(f *Flight) {
	f.State = Running
	f.Leader = f.Picked
	g.Stats.Led++
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
		g.Stats.Joined--
		g.lead(f)
	}
}

// Resume makes the context of c say whether it has ended, now and henceforth.
func (g *Group) Resume(c *Call) {
	c.Slow, c.held = false, false
	if c.last {
		g.end(c.Flight, c.Cause)
	}
	if c.queued && c.reply == Pending {
		g.wake(c)
	}
}

// Finish ends the execution of f, which runs or is abandoned.
func (g *Group) Finish(f *Flight, how Exit) {
	f.State, f.Exit = Finished, how
	for _, c := range f.Callers {
		c.answer(Result)
	}
	switch how {
	case Panic:
		g.Stats.Panics++
		if len(f.Callers) == 0 {
			g.Stats.Untold++
		}
	case Goexit:
		g.Stats.Goexits++
	}
	g.remove(f)
}

// remove takes f, which is finished or being forgotten, from where it is and
// promotes its successor.
func (g *Group) remove(f *Flight) {
	if i := slices.Index(g.forgotten, f); i >= 0 {
		g.forgotten = slices.Delete(g.forgotten, i, i+1)
		return
	}
	delete(g.registered, f.Key)
	if q := f.Queue; q != nil {
		f.Queue = nil
		q.State = Promoted
		g.register(q)
		g.hand(q)
	}
}

// Cancel ends the context of c.
func (g *Group) Cancel(c *Call) {
	if c.reply != Pending || c.Cause == nil || c.Ended {
		return
	}
	c.Ended = true
	if c.queued && c.Form != DoChan {
		g.wake(c)
	} else {
		g.leave(c)
	}
}

// leave makes c, whose context has ended, leave.
func (g *Group) leave(c *Call) {
	f := c.Flight
	c.answer(Left)
	g.Stats.Left++
	f.Callers = slices.DeleteFunc(f.Callers, func(x *Call) bool { return x == c })
	switch alone := len(f.Callers) == 0; {
	case f.State == Promoted && alone:
		f.State = Finished
		g.remove(f)
	case f.State == Promoted && f.Picked == c:
		g.hand(f)
	case f.State == Queued && alone:
		g.registered[f.Key].Queue = nil
	case f.State == Running && alone:
		f.State = Abandoned
		g.Stats.Abandoned++
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
	f.Cause = cause
	if f.Leader.Honors && f.State != Finished {
		g.Finish(f, Error)
	}
}

// Forget forgets the flight of key.
func (g *Group) Forget(key int) bool {
	f := g.registered[key]
	if f == nil {
		return false
	}
	g.Stats.Forgotten++
	f.Forgotten = true
	g.remove(f)
	g.forgotten = append(g.forgotten, f)
	return true
}

// ForgetUnshared forgets the flight of key unless a call has joined it and
// somebody still waits for it.
func (g *Group) ForgetUnshared(key int) bool {
	f := g.registered[key]
	if f != nil && f.Joined && f.State != Abandoned {
		return false
	}
	g.Forget(key)
	return true
}

// Shutdown closes the group.
func (g *Group) Shutdown() {
	g.Closed = true
	for _, f := range g.Flights() {
		if f.State != Queued && f.State != Promoted {
			continue
		}
		f.State = Finished
		for _, c := range f.Callers {
			c.answer(Closed)
			g.Stats.Joined--
			g.Stats.Rejected++
		}
	}
	started := func(f *Flight) bool { return f.State != Finished }
	g.forgotten = slices.DeleteFunc(g.forgotten, func(f *Flight) bool { return !started(f) })
	for key, f := range g.registered {
		f.Queue = nil
		if !started(f) {
			delete(g.registered, key)
		}
	}
}

// Drained reports whether a Shutdown that was called returns nil.
func (g *Group) Drained() bool {
	return g.Closed && len(g.registered) == 0 && len(g.forgotten) == 0
}

// OutOfTime is the end of the context of a Shutdown that was called and has
// not returned.
func (g *Group) OutOfTime() {
	for _, f := range g.Flights() {
		g.end(f, ErrClosed)
	}
}
