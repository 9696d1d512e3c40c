package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the oracle of the storms: a history, which is what every
// call and every fn saw of the time, and a checker that decides whether a group
// that keeps its contract can have produced it.
//
// An execution E can be joined in an interval [L, C], from its registration
// to its finish. Neither end is seen from outside, but L is between the
// beginning of the call that leads and the start of fn, and C is not before
// the end of fn, not before the beginning of any call that received E, and not
// after the return of any. With executions that tell who ran them, these
// bounds decide the matter:
//
//	rule 1  a result belongs to one execution, of the call's own key; a call
//	        whose fn ran gets that result or leaves; no fn runs twice
//	rule 2  fn starts after its leader's call began and ends before any
//	        receiver returns
//	rule 3  all receivers have an instant in common: nobody gets a result
//	        that somebody had before the call began (never stale)
//	rule 4  executions of a key do not overlap, unless a Forget was there to
//	        detach the first; that everybody has left it is no excuse
//	rule 5  a call that begins after a Forget returned gets no execution that
//	        started before that Forget began
//	rule 6  fn's context does not end if somebody receives the result
//	rule 7  shared is told to all receivers if there are several, and to a
//	        lone one only if another call may have left
//	rule 8  a DoFresh gets an execution that started after the call began
//	rule 9  what is not a result has its reason: a call's own context has
//	        ended, the key was in flight, the group was shut down
//	rule 10 what Flights, Len and Stats tell is possible
//
// Where successes linger, rule 3 holds for what does not linger, and of that
// which does a call gets the newest; rule 7 says nothing.
//
// Rule 4 takes the earliest C that the receivers allow, rule 3 says that there
// is one. Without Forget and without leaving, rules 1 to 4 are exact: they
// accept a history if and only if it is linearizable.

// A stamp is a time in nanoseconds since epoch. Equal stamps overlap.
type stamp int64

const never stamp = math.MaxInt64

var epoch = time.Now()

// now is a variable so that time can be something else where it stands still.
var now = func() stamp { return stamp(time.Since(epoch)) }

// A token names an execution, by the call whose fn it is. fn returns its own,
// so that each result tells where it comes from. The zero token names none.
type token struct {
	key, client, call int
}

// An exit is how an fn ends.
type exit uint8

const (
	exitReturn exit = iota
	exitError
	exitPanic
	exitGoexit
)

// fnError is what an fn that fails returns, and fnPanic what one panics with.
type (
	fnError struct{ of token }
	fnPanic struct{ of token }

	batchError struct{ of map[int]token } // the same of DoMulti's, by key
	batchPanic struct{ of map[int]token }
)

func (e *fnError) Error() string    { return fmt.Sprintf("fn of %v failed", e.of) }
func (e *batchError) Error() string { return fmt.Sprintf("fn of %v failed", e.of) }

// A reply is the kind of what a call got.
type reply uint8

const (
	noAnswer reply = iota
	gotResult
	gotGoexit   // ErrGoexit, or the goroutine exited; it names no execution
	gotOwnEnd   // the error of the call's own context, which had ended
	gotInFlight // ErrInFlight
	gotClosed   // ErrClosed
	gotNonsense // what no call may get
)

// An execution is what an fn saw of its own run. Only fn's goroutine writes it.
type execution struct {
	runs       int
	start, end stamp
	how        exit
	canceled   bool  // its context had ended when fn was about to
	batch      token // names all that one fn of DoMulti did
}

// A callRecord is what one call saw. Only the goroutine of the client that made
// it writes it, but for exec.
type callRecord struct {
	token    // names the call, and its fn's execution if there is one
	fresh    bool
	try      bool // a TryDo, which is not told whether it shared
	inv, ret stamp

	got    reply
	from   token // whose result, if it is one that names an execution
	how    exit  // in what form it came
	shared bool
	untold bool   // the form of the answer has no place for shared
	note   string // about nonsense

	exec execution
}

// A forgetRecord is what one Forget or ForgetUnshared saw.
type forgetRecord struct {
	key      int
	inv, ret stamp
	unshared bool
	done     bool // what it returned
}

// A history is what all clients of a storm saw. Each of them appends to slices
// of its own, so that recording orders nothing.
type history struct {
	calls   [][]callRecord
	forgets [][]forgetRecord
	notes   []string
	closing stamp // when Shutdown was called, or never

	// lingering says that successes linger for ever. They then answer calls that
	// begin later, until a Forget or a newer success; and the calls of their
	// flights do not know of it.
	lingering bool
}

// record records what a call returned, and when if that is not known.
func (r *callRecord) record(ctx context.Context, v token, err error) {
	if r.ret == 0 {
		r.ret = now()
	}
	var fe *fnError
	var be *batchError
	switch {
	case err == nil:
		r.got, r.from, r.how = gotResult, v, exitReturn
	case errors.As(err, &fe):
		r.got, r.from, r.how = gotResult, fe.of, exitError
	case errors.As(err, &be):
		r.got, r.from, r.how = gotResult, be.of[r.key], exitError
	case err == coalesce.ErrGoexit:
		r.got = gotGoexit
	case err == coalesce.ErrClosed:
		r.got = gotClosed
	case err == coalesce.ErrInFlight:
		r.got = gotInFlight
	case err == ctx.Err():
		r.got = gotOwnEnd
	default:
		r.got, r.note = gotNonsense, fmt.Sprint(err)
	}
	if err != nil && v != (token{}) {
		r.got, r.note = gotNonsense, fmt.Sprintf("both %v and %v", v, err)
	}
}

// recordPanic records what a call panicked with.
func (r *callRecord) recordPanic(p any) {
	r.ret = max(r.ret, now())
	r.got, r.note = gotNonsense, fmt.Sprint(p)
	if pe, ok := p.(*coalesce.PanicError); ok {
		switch p := pe.Value.(type) {
		case fnPanic:
			r.got, r.from, r.how = gotResult, p.of, exitPanic
		case batchPanic:
			r.got, r.from, r.how = gotResult, p.of[r.key], exitPanic
		}
	}
}
