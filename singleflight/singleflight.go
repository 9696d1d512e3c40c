// Package singleflight is a drop-in replacement for
// golang.org/x/sync/singleflight, on package
// [github.com/seed342dcb2d/coalesce]: change the import, and nothing else.
//
//	-import "golang.org/x/sync/singleflight"
//	+import "github.com/seed342dcb2d/coalesce/singleflight"
//
// Names, signatures and the zero Group are the same, and so is their behavior, with these
// exceptions, all of them where a fault of fn ends or hangs a program that uses x/sync, or
// is lost:
//
//   - A panic of fn does not end the process if a call of DoChan takes part in the flight.
//     It is in Result.Err, as a *[coalesce.PanicError], and blocked calls of Do panic with it.
//     As the channel may be abandoned, it is logged to [log/slog.Default] at error level,
//     unless a blocked call panics with it.
//   - If fn calls [runtime.Goexit], a receiver gets [coalesce.ErrGoexit] in Result.Err. With
//     x/sync it waits forever. As with x/sync, the goroutines of all calls of Do exit.
//   - If a deferred function panics while fn's goroutine exits, that is a panic of fn. With
//     x/sync it is lost, and the goroutines exit.
//   - A blocked call panics with a *[coalesce.PanicError], an exported type, whose Unwrap
//     returns the value of the panic if that is an error.
//   - A nil fn panics at once in the call that has it, though that would only have waited.
//
// A channel that is not received from lives until its flight ends, as with x/sync, and the
// flight keeps its fn and what that refers to: there is no sign by which a Group could know
// that the channel was abandoned. Where callers give up, give the call a context that ends
// when they do: [Group.Coalesce] returns the group beneath, which has calls with a context,
// for the same keys and flights. So a program moves on one call at a time.
//
//	// before
//	select {
//	case r := <-g.DoChan(key, fn):
//		return r.Val, r.Err
//	case <-ctx.Done():
//		return nil, ctx.Err() // fn goes on, the channel stays
//	}
//
//	// after: fn gets a context, which ends when the last caller has left
//	v, _, err := g.Coalesce().DoContext(ctx, key, fn)
//	return v, err
package singleflight

import (
	"context"
	"runtime"

	"github.com/seed342dcb2d/coalesce"
)

// A Group is a set of keys for each of which one function runs at a time. The zero Group
// is ready to use. A Group must not be copied after first use. Its methods may be called
// by many goroutines at once.
type Group struct {
	group coalesce.Group[string, any]
}

// A Result is the answer to a call of DoChan: Val, Err and Shared, as in x/sync. Val is nil
// if fn panicked or exited its goroutine.
type Result = coalesce.Result[any]

// Do runs fn and returns its results, unless a call for the same key is being served: then
// it waits for that call's fn and returns the same results. shared reports whether more
// than one call took part, whatever became of the others. The value is the same for all of
// them: none may change what it refers to.
//
// fn runs on the goroutine of the call. If it panics, Do panics with a *[coalesce.PanicError],
// in every call that waits for it. If it calls [runtime.Goexit], the goroutines of all these
// calls exit. The error is the one that fn has returned, unless the group beneath was
// given a limit or shut down (see [Group.Coalesce]); Do panics if fn is nil.
//
// fn must not call Do for the same key: it would wait for itself. After the first call of
// the group, Do allocates nothing unless another call joins it.
func (g *Group) Do(key string, fn func() (any, error)) (v any, err error, shared bool) { //nolint:revive // the order of x/sync
	must(fn)
	v, shared, err = g.group.Do(key, func() (any, error) {
		return mark(fn())
	})
	switch err {
	case coalesce.ErrGoexit:
		runtime.Goexit() // fn, on another goroutine, has
	case errReturned:
		err = coalesce.ErrGoexit
	}
	return v, err, shared
}

// DoChan is Do without waiting: it returns a channel that will receive the results of fn,
// which runs on a goroutine of its own, or those of the call that is being served. The
// channel has room for the one Result that it gets, and is not closed, so it need not be
// received from.
//
// If fn panics, Result.Err is a *[coalesce.PanicError]; if it calls [runtime.Goexit],
// [coalesce.ErrGoexit]. If it returns that very error, Result.Err is another one, in which
// [errors.Is] finds it. DoChan panics if fn is nil.
func (g *Group) DoChan(key string, fn func() (any, error)) <-chan Result {
	must(fn)
	return g.group.DoChan(context.Background(), key, func(context.Context) (any, error) {
		return mark(fn())
	})
}

// Forget makes the group forget key: the next call for it runs its fn, rather than wait for
// one that runs already. Those that wait for that one get its results.
func (g *Group) Forget(key string) {
	g.group.Forget(key)
}

// ForgetUnshared is Forget, unless a second call has joined that whose fn runs for key. It
// reports whether the next call for key runs its fn: because key was forgotten, or because
// nothing runs for it. Package singleflight inside the standard library has this method.
func (g *Group) ForgetUnshared(key string) bool {
	return g.group.ForgetUnshared(key)
}

// Coalesce returns the group beneath g, the same each time, for calls with a context, looks
// at what is in flight, counters, and Shutdown. Its calls and those of g for the same key wait
// for each other. Its fields may be set before g is first used, and hold for the calls of g,
// too.
//
// If the fn of one of its calls, as against one of g's, returns the very value
// [coalesce.ErrGoexit], calls of [Group.Do] that wait for it take that for an exit, and
// exit their goroutines. If an fn of g returns it, calls of the group beneath get another
// error, in which [errors.Is] finds it.
func (g *Group) Coalesce() *coalesce.Group[string, any] {
	return &g.group
}

func must(fn func() (any, error)) {
	if fn == nil {
		panic("singleflight: nil fn")
	}
}

// errReturned stands for an ErrGoexit that fn has returned, as the error of a call of its
// own, to set it apart from the ErrGoexit of an fn that has called Goexit.
var errReturned error = returned{}

type returned struct{}

func (returned) Error() string { return coalesce.ErrGoexit.Error() }

func (returned) Is(target error) bool { return target == coalesce.ErrGoexit }

// mark returns the results of fn, with errReturned in place of ErrGoexit.
func mark(v any, err error) (any, error) {
	if err == coalesce.ErrGoexit {
		err = errReturned
	}
	return v, err
}
