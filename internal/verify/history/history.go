// Package history holds the oracle of the stress tests: a history, which is the
// record of every call and every fn with its times, and a checker that decides whether a
// group that keeps its contract can have produced it.
//
// An execution E can be joined in an interval [L, C], from its registration
// to its finish. Neither end is seen from outside, but L is between the
// beginning of the call that leads and the start of fn, and C is not before
// the end of fn, not before the beginning of any call that received E, and not
// after the return of any. As each result names the execution that it is from, these
// bounds decide whether a history is possible:
//
//	rule 1  a result belongs to one execution, of the call's own key; a call
//	        whose fn ran gets that result or leaves; no fn runs twice
//	rule 2  fn starts after its leader's call began and ends before any
//	        receiver returns
//	rule 3  all receivers have an instant in common: no call gets a result
//	        that another had before the call began (never stale)
//	rule 4  executions of a key do not overlap, unless a Forget of any form was
//	        there to detach the first, even if all callers have left that
//	rule 5  a call that begins after a Forget returned, of any form for its key,
//	        gets no execution that started before that Forget began; after a
//	        ForgetFlight, none that does not linger
//	rule 6  fn's context ends if no call receives the result, and not otherwise:
//	        before fn does if all callers have left, after it if the flight was
//	        held, never if the outcome lingers; the exception is a group that is
//	        shut down before the flight finishes
//	rule 7  all receivers get that they share the result if there are several, and
//	        a lone one only if its leader left, or if another call may have left whose
//	        fn did not run
//	rule 8  a DoFresh gets an execution that started after the call began
//	rule 9  an answer that is no result has a reason: the call's own context has
//	        ended, the key was in flight, or the group was shut down; no call that begins
//	        after another had ErrClosed leads
//	rule 10 the reports of Flights, Len, Stats and ForgetFunc are possible
//	rule 11 a ForgetFlight forgets that very flight, so only one for each ID
//
// Where outcomes linger, rule 3 holds for those that do not linger. The others
// answer calls until their time is over, and a call gets the newest of the key:
// each later execution drops it, whether its own outcome lingers or not. Rule 7 does
// not apply then, as the calls of a flight do not know of the later ones.
//
// Rule 4 takes the earliest C that the receivers allow, rule 3 says that there
// is one. Without Forget and without leaving, rules 1 to 4 are exact: they
// accept a history if and only if it is linearizable.
package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// A Stamp is a time in nanoseconds since epoch. Equal stamps overlap.
type Stamp int64

// Never is after every other Stamp.
const Never Stamp = math.MaxInt64

var epoch = time.Now()

// Now reads the clock. It is a variable so that another clock can replace it where time
// stands still.
var Now = func() Stamp { return Stamp(time.Since(epoch)) }

// A Token names an execution, by the call whose fn it is. fn returns its own, so that
// each result names its origin. The zero Token names none.
type Token struct {
	Key, Client, Call int
}

// An Exit is how an fn ends.
type Exit uint8

// The ends of an fn.
const (
	ExitReturn Exit = iota
	ExitError
	ExitPanic
	ExitGoexit
	ExitAbsent // the fn of a DoMulti returned nothing for the key
)

// The errors that an fn returns and the values that it panics with, with the name of the
// execution.
type (
	FnError    struct{ Of Token }         // returned by an fn
	FnPanic    struct{ Of Token }         // the value of its panic
	BatchError struct{ Of map[int]Token } // the same of DoMulti's, by key
	BatchPanic struct{ Of map[int]Token }
)

// Error implements error.
func (e *FnError) Error() string { return fmt.Sprintf("fn of %v failed", e.Of) }

// Error implements error.
func (e *BatchError) Error() string { return fmt.Sprintf("fn of %v failed", e.Of) }

// A Reply is the kind of a call's answer.
type Reply uint8

// The kinds.
const (
	NoAnswer Reply = iota
	GotResult
	GotGoexit   // ErrGoexit, or the goroutine exited; it names no execution
	GotAbsent   // ErrAbsent; it names no execution either
	GotOwnEnd   // the error of the call's own context, which had ended
	GotInFlight // ErrInFlight
	GotClosed   // ErrClosed
	GotFull     // ErrSaturated
	GotNonsense // an answer that no call may get
)

// An Execution is the record of an fn about its own run. Only fn's goroutine writes it.
type Execution struct {
	Runs       int
	Start, End Stamp
	How        Exit
	Canceled   bool  // its context had ended when fn was about to
	Held       bool  // Hold has reported that the flight is held
	Batch      Token // the name of the execution, common to all keys of one fn of DoMulti

	// Life is how long the outcome may linger after fn has returned: 0 if it may not,
	// Never if it does not expire.
	Life Stamp

	// Ctx is the context that fn got. Check looks whether it has ended by then, so that
	// the group must be at rest. Nil if that is not known.
	Ctx context.Context
}

// A Call is the record of one call. Only the goroutine of the client that made it writes
// it, except for Exec.
type Call struct {
	Token    // names the call, and its fn's execution if there is one
	Fresh    bool
	Try      bool // a TryDo, which does not return whether it shared
	Inv, Ret Stamp

	Got    Reply
	From   Token // the execution of the result, if that names one
	How    Exit  // the form in which it came
	Shared bool
	Mute   bool   // the form of the answer has no place for shared
	Note   string // about nonsense

	Exec Execution
}

// A Forget is the record of one Forget of any form. A ForgetFunc has one for each key
// that it matched.
type Forget struct {
	Key      int
	Inv, Ret Stamp
	Unshared bool
	Func     bool   // a ForgetFunc
	Flight   uint64 // the argument of a ForgetFlight; 0 for the other forms
	Done     bool   // the result; of a ForgetFunc, whether it forgot any key
	Count    int    // in the first one of a ForgetFunc, the number of keys that it forgot
}

// A History is the record of all clients of a storm. Each of them appends to slices of
// its own, so that recording orders nothing.
type History struct {
	Calls   [][]Call
	Forgets [][]Forget
	Notes   []string
	Closing Stamp // when Shutdown was called, or Never

	// If Lingering is set, successes linger forever, for every Life: they answer calls
	// that begin later, until a Forget or a later execution.
	Lingering bool

	// If Aging is set, flights reach MaxAge, and others start beside them: rule 4 does
	// not apply.
	Aging bool
}

// Record records the result of a call, and its time if that is not known.
func (r *Call) Record(ctx context.Context, v Token, err error) {
	if r.Ret == 0 {
		r.Ret = Now()
	}
	var fe *FnError
	var be *BatchError
	switch {
	case err == nil:
		r.Got, r.From, r.How = GotResult, v, ExitReturn
	case errors.As(err, &fe):
		r.Got, r.From, r.How = GotResult, fe.Of, ExitError
	case errors.As(err, &be):
		r.Got, r.From, r.How = GotResult, be.Of[r.Key], ExitError
	case err == coalesce.ErrGoexit:
		r.Got = GotGoexit
	case err == coalesce.ErrAbsent:
		r.Got = GotAbsent
	case err == coalesce.ErrClosed:
		r.Got = GotClosed
	case err == coalesce.ErrSaturated:
		r.Got = GotFull
	case err == coalesce.ErrInFlight:
		r.Got = GotInFlight
	case err == ctx.Err():
		r.Got = GotOwnEnd
	default:
		r.Got, r.Note = GotNonsense, fmt.Sprint(err)
	}
	if err != nil && v != (Token{}) {
		r.Got, r.Note = GotNonsense, fmt.Sprintf("both %v and %v", v, err)
	}
}

// RecordPanic records the value that a call panicked with.
func (r *Call) RecordPanic(p any) {
	r.Ret = max(r.Ret, Now())
	r.Got, r.Note = GotNonsense, fmt.Sprint(p)
	if pe, ok := p.(*coalesce.PanicError); ok {
		switch p := pe.Value.(type) {
		case FnPanic:
			r.Got, r.From, r.How = GotResult, p.Of, ExitPanic
		case BatchPanic:
			r.Got, r.From, r.How = GotResult, p.Of[r.Key], ExitPanic
		}
	}
}
