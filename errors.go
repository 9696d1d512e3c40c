package coalesce

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Errors that a Group itself returns. An error of fn reaches every caller
// unchanged, and the error of a context that has ended is returned bare, so that
// == works for all of them.
var (
	// ErrInFlight is returned by [Group.TryDo] when the key has a flight.
	ErrInFlight = errors.New("coalesce: key is in flight")

	// ErrSaturated is returned to a call that would exceed
	// [Group.MaxWaiters].
	ErrSaturated = errors.New("coalesce: too many calls wait for this key")

	// ErrClosed is returned to calls that begin after [Group.Shutdown] has
	// begun, and to calls that were queued at that moment. It is also the cause
	// with which Shutdown cancels the contexts of flights that still run when
	// its own context ends.
	ErrClosed = errors.New("coalesce: group is shut down")

	// ErrGoexit is returned to the callers of a flight whose fn ended with
	// [runtime.Goexit], which t.FailNow calls: there is no result, and the zero
	// value must not be taken for one. If fn ran on a caller's own goroutine,
	// that goroutine goes on exiting instead.
	ErrGoexit = errors.New("coalesce: fn called runtime.Goexit")

	// ErrAbsent is returned to the calls for a key that is missing from the map
	// which the fn of [Group.DoMulti] returned, if fn returned no error for it.
	ErrAbsent = errors.New("coalesce: fn returned no value for this key")

	// ErrDeadlock matches every *[DeadlockError] in [errors.Is].
	ErrDeadlock = errors.New("coalesce: deadlock")
)

// A DeadlockError is returned to a call that waits for itself. Its context is one
// that the fn of a flight was given, and the flight that it waits for is that
// same flight, or waits for it, directly or through others. The call has waited
// for 10 ms, and leaves its flight as if its context had ended. [errors.Is]
// reports that the error is [ErrDeadlock].
type DeadlockError struct {
	// Keys are the keys of the cycle, in which each flight waits for the next.
	// The first is the key of the flight whose fn made the call, the second is
	// the key that the call asked for, and the last is the first again. They may
	// come from several groups and have different types.
	Keys []any
}

// Error returns the texts of the keys in order. A text is what [fmt.Print] shows, cut
// at 256 bytes, but a pointer is not followed. A key hides a secret from it by a String or a Format method (see
// “Keys that hold secrets” in the package documentation).
func (e *DeadlockError) Error() string {
	var b strings.Builder
	b.WriteString(ErrDeadlock.Error())
	for i, key := range e.Keys {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(" → ")
		}
		b.WriteString(keyText(key))
	}
	return b.String()
}

// Is reports whether target is [ErrDeadlock].
func (e *DeadlockError) Is(target error) bool { return target == ErrDeadlock }

const (
	// maxKeyText bounds the bytes of a key that an error or the log contains.
	maxKeyText = 256

	// noText stands for a key whose text cannot be had.
	noText = "(no text: a method of the key panicked or exited)"
)

// keyText returns the text of a key, as fmt.Sprint returns it, for an error or the log. A
// long one is cut, at the end of a character, and ends with an ellipsis. A pointer is not
// followed, unless it has a method for its text: other goroutines may write what it points
// to, and that may be no text for a log.
func keyText(key any) (text string) {
	defer func() {
		// fmt recovers the first panic of a method, but not one of the value of that panic.
		if recover() != nil {
			text = noText
		}
	}()
	switch key := key.(type) {
	case string:
		text = key
	case fmt.Formatter, fmt.Stringer, error:
		text = fmt.Sprint(key)
	default:
		if v := reflect.ValueOf(key); v.Kind() == reflect.Pointer {
			text = fmt.Sprintf("(%T)(%p)", key, key)
		} else {
			text = fmt.Sprint(key)
		}
	}
	if len(text) <= maxKeyText {
		return text
	}
	end := maxKeyText
	for end > maxKeyText-utf8.UTFMax+1 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// reasonOf returns the error of a context whose Done channel is closed. A
// context that has closed Done but has no error is broken; even so, its caller
// must not get a zero value with a nil error.
func reasonOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return context.Canceled
}
