package coalesce

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// This file holds panics of fn: the error that carries one to the callers, and which of
// them are logged (G10).
//
// A panic must not be silent, and a caller that panics with it is enough. So finish counts
// the calls that are about to: under the lock, since calls leave until then. If there is
// none, it logs the panic. But user code runs between that count and the panic of a call,
// Clone or a hook, and may exit the goroutine. Such a call forgoes its panic.
//
// Invariants, true whenever the shard's lock is not held:
//  P1. Each panic of an execution is either logged once, or one call at least has panicked
//      with it or is going to. So is a panic of Clone in a call that cannot panic.
//  P2. After expect, the counter panickers, of the flight or of its batch, is the number of
//      calls that are to panic and have not forgone it; those that have panicked included.
//      A flight without a cold part needs none: no user code comes in between.
//  P3. Only forgone takes the last of them away, and then its caller logs.

// A PanicError reports that fn, or Clone, panicked. Callers that block panic
// with it in turn; receivers of [Group.DoChan] and callers of [Group.DoMulti]
// find it in Result.Err. If fn panicked, all callers of the flight get the same
// *PanicError. It is logged if none of them panics with it.
//
// A recover in a caller therefore yields the *PanicError, not the value. A handler
// whose fn panics with [net/http.ErrAbortHandler], which net/http compares with ==,
// has to restore it:
//
//	defer func() {
//		r := recover()
//		if e, ok := r.(*coalesce.PanicError); ok && errors.Is(e, http.ErrAbortHandler) {
//			r = http.ErrAbortHandler
//		}
//		if r != nil {
//			panic(r)
//		}
//	}()
//
// A *PanicError that fn returns as its error is an error like any other.
//
// If fn panics with a *PanicError, as it does if it called another group whose fn
// panicked, callers get that very *PanicError, with the stack of the first panic.
//
// Under GODEBUG=panicnil=1, a panic(nil) cannot be distinguished from a call of
// [runtime.Goexit]. There is no PanicError then, and nothing is logged or counted
// as a panic: the callers get [ErrGoexit], also the one whose goroutine ran fn or
// Clone. By default, Value is a *[runtime.PanicNilError].
type PanicError struct {
	// Value is the value that was passed to panic.
	Value any

	// Stack is the trace of the goroutine that panicked, taken during the
	// panic, in the format of [runtime/debug.Stack].
	Stack []byte
}

// Error returns the panic's value and its stack. The runtime prints this text
// if the panic is not recovered.
func (e *PanicError) Error() string {
	return fmt.Sprintf("coalesce: panic: %v\n\n%s", e.Value, e.Stack)
}

// GoString returns e in Go syntax, as the verb %#v prints it, with the length of the
// stack in place of its thousands of bytes.
func (e *PanicError) GoString() string {
	if e == nil {
		return "(*coalesce.PanicError)(nil)"
	}
	return fmt.Sprintf("&coalesce.PanicError{Value:%#v, Stack:[]byte{/* %d bytes */}}", e.Value, len(e.Stack))
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
// function that recovered the value, while the stack still shows the panic's
// origin. A panic that comes from a nested group keeps its first stack.
func newPanicError(recovered any) *PanicError {
	if e, ok := recovered.(*PanicError); ok && e != nil {
		return e
	}
	return &PanicError{Value: recovered, Stack: debug.Stack()}
}

// panickers returns the number of calls that take part in f and, if fn panics, panic with
// it: those that wait on a seat, except keys of DoMultis, and a leader that runs fn
// itself. f must be unfinished, and fn must have started. The shard's lock must be held.
func (f *flight[K, V]) panickers() int {
	n := int(f.seated - f.silent)
	if f.context() == nil {
		n++ // its leader has run fn from the beginning, and has no seat
	}
	if f.cold != nil {
		for b := f.cold.blocks.last; b != nil; b = b.prev {
			n += int(b.n - b.silent)
		}
	}
	return n
}

// expect keeps n, the number of calls in f, whose fn has panicked, that are about to panic
// with it. It reports whether the panic is to be logged, which it counts in that case: if
// n is 0. It reports false for a flight of a batch, which logs a panic once. Mostly, that
// is all. But user code may exit the goroutine of such a call before it can panic: then
// forgo counts it out, and logs the panic if it was the last. s.mu must be held.
func (s *shard[K, V]) expect(f *flight[K, V], n int) (logs bool) {
	switch b := f.batch(); {
	case b != nil:
		b.expect(n)
		return false
	case n == 0:
		s.note(panicLogged, f, nil)
		return true
	case f.cold != nil: // otherwise there are no hooks, and only the leader, which cannot exit before
		f.cold.panickers = int32(n)
	}
	return false
}

// forgone counts out one of the calls that expect has counted in. It reports whether the
// panic is to be logged, which it counts in that case. s.mu must be held.
func (s *shard[K, V]) forgone(f *flight[K, V]) (logs bool) {
	if b := f.batch(); b != nil {
		logs = b.forgone()
	} else {
		f.cold.panickers--
		logs = f.cold.panickers == 0
	}
	if logs {
		s.note(panicLogged, f, nil)
	}
	return logs
}

// forgo counts out a call that was about to panic with f, if it was counted and f's fn has
// panicked, and logs the panic if that was the last. It is entered with s.mu held and
// releases it.
func (s *shard[K, V]) forgo(f *flight[K, V], counted bool) {
	logs := counted && f.outcome == panicked && s.forgone(f)
	s.mu.Unlock()
	if logs {
		logPanic(f.err.(*PanicError), f.key)
	}
}

// forgo is for c, whose goroutine exits in user code before it returns. It does nothing
// unless c is a blocking call that was about to panic. No lock may be held.
func (c *caller[K, V]) forgo() {
	if c.ofMulti || c.seat.done == nil {
		return // its panic is a Result
	}
	c.shard.mu.Lock()
	counted := !c.gone
	c.gone = true // not again, if a Receive hook exits while the goroutine exits
	c.shard.forgo(c.flight, counted)
}

// forgoLeader is for the leader of f that has run fn itself, and whose Finish hook exits
// its goroutine. With hooks, a flight has a cold part and its record is not used again. No
// lock may be held.
func (s *shard[K, V]) forgoLeader(f *flight[K, V]) {
	s.mu.Lock()
	s.forgo(f, true)
}

// maxLoggedKeys bounds the keys of a batch that are logged with its panic.
const maxLoggedKeys = 16

// logPanic logs a panic of fn, or of Clone, that no blocking call receives. keys are those
// that the panic concerns. logPanic may run on a goroutine of the flight's own, where a
// panic of the user's log handler would end the process. It must be called last, because
// the handler, or a method of a key, may exit the goroutine.
func logPanic[K any](e *PanicError, keys ...K) {
	texts := make([]string, min(len(keys), maxLoggedKeys))
	for i := range texts {
		texts[i] = noText
	}
	defer func() { // also if a method of a key exits the goroutine
		defer func() { _ = recover() }() // of the log handler
		about := []any{"key", texts[0]}
		if len(keys) > 1 {
			about = []any{"keys", texts, "flights", len(keys)}
		}
		slog.Default().Error("coalesce: recovered a panic that no blocking call receives",
			append(about, "panic", e.Value, "stack", string(e.Stack))...)
	}()
	for i := range texts {
		texts[i] = keyText(keys[i])
	}
}
