package model

import (
	"errors"
	"slices"
)

// NaN is a key that does not equal itself.
const NaN = -1

// A Form is a way to call a Group.
type Form uint8

// The forms.
const (
	Do Form = iota
	DoContext
	DoChan
	DoFresh
	DoMulti // one key of it: a DoMulti is a call for each
	TryDo
	Forms // the number of forms
)

// An Exit is how an fn ends.
type Exit uint8

// The exits.
const (
	Return Exit = iota
	Error
	Panic
	Goexit
	Exits // the number of exits
)

// A Reply is the kind of answer that a call got.
type Reply uint8

// The replies.
const (
	Pending   Reply = iota // no answer yet
	Result                 // the outcome of Call.Flight
	Left                   // its context's error
	Closed                 // ErrClosed
	InFlight               // ErrInFlight
	Saturated              // ErrSaturated
)

// ErrClosed stands for the Group's, as a cause, and ErrCanceled for that of package
// context.
var (
	ErrClosed   = errors.New("closed")
	ErrCanceled = errors.New("canceled")
)

// A Call is one caller's invocation. The caller sets the first fields.
type Call struct {
	Key    int
	Form   Form
	Cause  error // of its context's end; nil if that can never end, or Form has none
	Ended  bool  // its context has ended
	Slow   bool  // its context, once asked whether it has ended, does not answer before Resume
	Honors bool  // its fn returns an error when its context ends
	Absent bool  // the map that its fn returns lacks Key
	Fails  bool  // if its fn returns, Key gets an error of its own
	Life   int   // the time for which the outcome of its fn lingers, if Group.LingerFor is set

	Flight  *Flight // the flight that it takes, or took, part in, or whose outcome lingered for it
	Follows bool    // it has joined Flight, or was queued in it
	Shared  bool    // whether its result is shared
	with    []*Call // the calls of the same DoMulti; of another form, it alone
	reply   Reply
	queued  bool // it waits for its turn, and must ask its context when it is woken
	slowed  bool // it has its answer, and returns it when its context has answered
	last    bool // it abandoned Flight, whose context ends when its own has answered
}

// Reply returns the answer of c so far. A DoMulti returns when all its keys have been
// answered.
func (c *Call) Reply() Reply {
	for _, o := range c.with {
		if o.slowed || o.reply == Pending {
			return Pending
		}
	}
	return c.reply
}

// answer gives c its answer. One that leaves, or was woken from a queue, has to
// ask its context before it can return.
func (c *Call) answer(r Reply) {
	c.reply = r
	c.Shared = c.Flight != nil && c.Flight.Joined
	c.slowed = c.Slow && (r == Left || c.queued && c.Form != DoChan)
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

// A Flight is one execution with its callers, or the part of it for one key of a DoMulti
// that leads several.
type Flight struct {
	Key       int
	State     State
	Since     int   // when it started or, before that, when it was queued
	Leader    *Call // nil before it runs
	Picked    *Call // the call that is to lead it; nil before it is promoted
	Callers   []*Call
	Joined    bool // a second call has taken part
	Held      bool // it is not abandoned when its last caller leaves
	Forgotten bool
	Queue     *Flight   // the successor behind it
	Batch     []*Flight // the flights of the same execution, with it; nil before it runs
	Exit      Exit      // valid once it is finished
	Kept      bool      // when it finished, its outcome began to linger
	Cause     error     // of its context's end, nil if that has not ended
}

// Waiters returns the number of calls that wait for f, excluding its leader.
func (f *Flight) Waiters() int {
	n := len(f.Callers)
	if slices.Contains(f.Callers, f.Leader) {
		n--
	}
	return n
}

// kept reports whether the outcome of any flight of f's execution lingers, or has.
func (f *Flight) kept() bool {
	return slices.ContainsFunc(f.Batch, func(f *Flight) bool { return f.Kept })
}

// panics reports whether a call that blocks is there to panic if f's execution panics.
func (f *Flight) panics() bool {
	for _, f := range f.Batch {
		for _, c := range f.Callers {
			if c.Form != DoChan && c.Form != DoMulti {
				return true
			}
		}
	}
	return false
}

// deserted reports whether all callers of f's execution have left.
func (f *Flight) deserted() bool {
	for _, f := range f.Batch {
		if len(f.Callers) > 0 {
			return false
		}
	}
	return true
}
