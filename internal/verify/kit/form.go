package kit

import (
	"context"
	"errors"
	"time"
)

// Answer is the answer of one call.
type Answer struct {
	V      int
	Shared bool
	Err    error
	Panic  any       // the value that it panicked with
	At     time.Time // when it ended
}

// Form is one way to call, with the signature of all.
type Form struct {
	Name string
	Call func(ctx context.Context, g *Group, key string, fn func(context.Context) (int, error)) Answer
}

// Forms are the six forms that block, Do without a context and the others with one.
var Forms = []Form{
	{"Do", func(_ context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		a.V, a.Shared, a.Err = g.Do(key, func() (int, error) { return fn(context.Background()) })
		return a
	}},
	{"DoContext background", func(_ context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		a.V, a.Shared, a.Err = g.DoContext(context.Background(), key, fn)
		return a
	}},
	{"DoContext", func(ctx context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		a.V, a.Shared, a.Err = g.DoContext(ctx, key, fn)
		return a
	}},
	{"DoChan", func(ctx context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		r := <-g.DoChan(ctx, key, fn)
		a.V, a.Shared, a.Err = r.Val, r.Shared, r.Err
		return a
	}},
	{"DoFresh", func(ctx context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		a.V, a.Shared, a.Err = g.DoFresh(ctx, key, fn)
		return a
	}},
	{"DoMulti", func(ctx context.Context, g *Group, key string, fn func(context.Context) (int, error)) (a Answer) {
		defer a.Recover()
		r := g.DoMulti(ctx, []string{key}, func(ctx context.Context, keys []string) (map[string]int, error) {
			v, err := fn(ctx)
			return map[string]int{keys[0]: v}, err
		})[key]
		a.V, a.Shared, a.Err = r.Val, r.Shared, r.Err
		return a
	}},
}

// Joining are the forms that join a flight that runs, and Leaving those of them
// whose callers can give up.
var (
	Joining = append(Forms[:4:4], Forms[5])
	Leaving = Joining[2:]
)

// Recover is deferred by a form: it notes a panic, and the time.
func (a *Answer) Recover() {
	a.Panic = recover()
	a.At = time.Now()
}

// Go makes a call on a goroutine of its own. The answer may be read after
// synctest.Wait, or when the channel is closed.
func Go(ctx context.Context, f Form, g *Group, key string, fn func(context.Context) (int, error)) (*Answer, <-chan struct{}) {
	a, done := new(Answer), make(chan struct{})
	go func() {
		defer close(done)
		a.Err = errors.New("the goroutine of the call exited")
		*a = f.Call(ctx, g, key, fn)
	}()
	return a, done
}

// IsDone reports whether done is closed.
func IsDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
