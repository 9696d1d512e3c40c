package coalesce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
)

// Errors that a Group returns of its own accord. Whatever fn returns reaches
// every caller as it is, and the error of a context that has ended is returned
// bare, so that == works for all of them.
var (
	// ErrInFlight is returned by [Group.TryDo] when the key has a flight.
	ErrInFlight = errors.New("coalesce: key is in flight")

	// ErrSaturated is returned to a call that would be one waiter more than
	// [Group.MaxWaiters] allows.
	ErrSaturated = errors.New("coalesce: too many calls wait for this key")

	// ErrClosed is returned to calls that begin after [Group.Shutdown] has
	// begun, and to those that were queued at that moment. It is also the
	// cause with which Shutdown cancels the contexts of flights that it can no
	// longer wait for.
	ErrClosed = errors.New("coalesce: group is shut down")

	// ErrGoexit is what the callers of a flight get when its fn ended with
	// [runtime.Goexit], as t.FailNow does: there is no result, and the zero
	// value must not be taken for one. Where fn ran on a caller's own
	// goroutine, that goroutine goes on exiting instead.
	ErrGoexit = errors.New("coalesce: fn called runtime.Goexit")

	// ErrAbsent is what the calls for a key get that the map returned by the fn
	// of [Group.DoMulti] lacks, when fn returned no error.
	ErrAbsent = errors.New("coalesce: fn returned no value for this key")

	// ErrDeadlock is what every *[DeadlockError] is, for [errors.Is].
	ErrDeadlock = errors.New("coalesce: deadlock")
)

// A DeadlockError is returned to a call that would wait for itself: its context
// is one that the fn of a flight was given, and what the call asks for waits,
// directly or by way of others, for that flight. The call takes part in nothing.
// It is an [ErrDeadlock].
type DeadlockError struct {
	// Keys are those of the circle, each flight waiting for the next. The first
	// is the key of the flight whose fn made the call, the second the one that
	// the call asked for, and the last is the first again. They may be of
	// several groups and types.
	Keys []any
}

// Error returns the keys in order, each as [fmt.Print] shows it.
func (e *DeadlockError) Error() string {
	var b strings.Builder
	b.WriteString(ErrDeadlock.Error())
	for i, key := range e.Keys {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(" → ")
		}
		fmt.Fprint(&b, key)
	}
	return b.String()
}

// Is reports whether target is [ErrDeadlock].
func (e *DeadlockError) Is(target error) bool { return target == ErrDeadlock }

// A PanicError reports that fn, or Clone, panicked. Callers that block panic
// with it in their turn; receivers of [Group.DoChan] find it in Result.Err.
// All callers of a flight are told by the same *PanicError.
//
// A *PanicError that fn returns as its error is an error like any other.
type PanicError struct {
	// Value is what was passed to panic.
	Value any

	// Stack is the trace of the goroutine that panicked, taken while it did,
	// in the format of [runtime/debug.Stack].
	Stack []byte
}

// Error returns the panic's value and its stack. It is what the runtime prints
// if nobody recovers.
func (e *PanicError) Error() string {
	return fmt.Sprintf("coalesce: panic: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error, so that [errors.Is] and
// [errors.As] see through the panic, and nil otherwise.
func (e *PanicError) Unwrap() error {
	if e == nil {
		return nil // e may itself be the value that fn panicked with
	}
	err, _ := e.Value.(error)
	return err
}

// newPanicError wraps a recovered value. It must be called by the deferred
// function that recovered it, while the stack still shows where it came from.
// A panic that comes from a nested group keeps the stack of its origin.
func newPanicError(recovered any) *PanicError {
	if e, ok := recovered.(*PanicError); ok && e != nil {
		return e
	}
	return &PanicError{Value: recovered, Stack: debug.Stack()}
}

// logUntold reports a panic that no caller is left to be told of. It runs on
// the flight's own goroutine, where a panic of the user's log handler would
// end the process, and comes last, as that may exit the goroutine.
func logUntold(key any, e *PanicError) {
	defer func() { _ = recover() }()
	slog.Default().Error("coalesce: fn panicked after its last caller had left",
		"key", key, "panic", e.Value, "stack", string(e.Stack))
}

// reasonOf returns the error of a context whose Done channel is closed. A
// context that closes Done and then claims to have no error is broken; its
// caller must still not be given a zero value with a nil error.
func reasonOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return context.Canceled
}
