package fuzz

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the executions of the fns of FuzzGroup's calls, and the ways in which
// they end.

// A fuzzRun is one execution of fn: that of a call, or of a DoMulti for some of
// its keys.
type fuzzRun struct {
	calls     []*fuzzCall // by key
	ctx       context.Context
	commands  chan fuzzCommand
	startedAt time.Time

	// Written by the goroutine of fn, read after Wait.
	ended   bool
	endedAt time.Time
	end     fuzzEnd
	exit    model.Exit // the exit that end means

	// Written by the driver.
	ending          bool // it has a command to end
	started, finish int  // the batches in which it was seen to, or 0
	held, unheld    bool // a Hold with its context, if it has its own, has returned true, false
}

// A fuzzCommand makes an fn do something or, if that is nil, end.
type fuzzCommand struct {
	do  func()
	end fuzzEnd
}

// A fuzzEnd is a way in which an fn ends. The argument is that of the step.
type fuzzEnd struct {
	exit      model.Exit
	keyErrors bool // it returns a KeyErrors, in place of exit
	arg       byte
}

// The errors that fns return, and the values that they panic with. A fuzzKeyError is the
// error of one key. A fuzzError may wrap a KeyErrors.
type (
	fuzzError struct {
		of    *fuzzRun
		wraps error
	}
	fuzzKeyError struct{ of *fuzzCall }
	fuzzPanic    struct{ of *fuzzRun }
)

func (e *fuzzError) Error() string { return fmt.Sprintf("fn of call %d failed", e.of.calls[0].id) }

func (e *fuzzError) Unwrap() error { return e.wraps }

func (e *fuzzKeyError) Error() string { return fmt.Sprintf("the key of call %d failed", e.of.id) }

// Unwrap returns a KeyErrors that no call gets: only the error of the whole fn counts.
func (e *fuzzKeyError) Unwrap() error { return hiddenErrors }

var hiddenErrors = func() error {
	errs := coalesce.KeyErrors[float64]{}
	for key := range 1 + argKey {
		errs[groupKey(key)] = fmt.Errorf("a hidden error of key %d", key)
	}
	return errs
}()

// otherKey is a key that no call uses.
const otherKey = 99

// identity returns a value that is equal only for the same error.
func identity(err error) any {
	if errs, ok := err.(coalesce.KeyErrors[float64]); ok {
		return reflect.ValueOf(errs).Pointer()
	}
	return err
}

// start begins the execution of fn for the given keys.
func (c *fuzzCall) start(ctx context.Context, keys []float64) *fuzzRun {
	r := &fuzzRun{ctx: ctx, commands: make(chan fuzzCommand, maxSteps+1), startedAt: time.Now()}
	for _, key := range keys {
		i := slices.IndexFunc(c.all, func(o *fuzzCall) bool {
			return o.Key == modelKey(key) && !slices.Contains(r.calls, o)
		})
		if i < 0 {
			panic(fmt.Sprintf("fn gets key %v, which is not the call's, or twice", key))
		}
		o := c.all[i]
		o.starts++
		o.run = r
		r.calls = append(r.calls, o)
	}
	return r
}

// multi reports whether r is an execution of the fn of a DoMulti.
func (r *fuzzRun) multi() bool { return r.calls[0].Form == model.DoMulti }

// call returns the call of r that has, or may have, the same result as c.
func (r *fuzzRun) call(c *fuzzCall) *fuzzCall {
	if slices.Contains(r.calls, c) {
		return c
	}
	for _, o := range r.calls {
		if o.Key == c.Key {
			return o
		}
	}
	return r.calls[0] // of another key; the check of the result reports it
}

// await runs until r gets the command to end, and ends as it says. It returns fn's error.
func (r *fuzzRun) await() error {
	var done <-chan struct{}
	if r.calls[0].Honors {
		done = r.ctx.Done()
	}
	for running := true; running; {
		select {
		case cmd := <-r.commands:
			if cmd.do != nil {
				cmd.do()
				continue
			}
			r.end = cmd.end
		case <-done:
			r.end.exit = model.Error
		case <-r.calls[0].released:
		}
		running = false
	}
	r.exit = r.end.of(r)
	r.ended, r.endedAt = true, time.Now()
	for _, c := range r.calls {
		c.box = &fuzzBox{of: c}
	}
	switch {
	case r.end.keyErrors:
		return r.end.errors(r)
	case r.exit == model.Error:
		return &fuzzError{of: r}
	case !r.end.late(r):
		r.unwind()
	}
	return nil
}

// unwind panics or exits if r ends that way.
func (r *fuzzRun) unwind() {
	switch r.exit {
	case model.Panic:
		panic(fuzzPanic{r})
	case model.Goexit:
		runtime.Goexit()
	}
}

// exitOf returns how the execution of r has ended for c, one of its calls.
func (r *fuzzRun) exitOf(c *fuzzCall) model.Exit {
	if r.exit == model.Return && r.end.fails(c.Key) {
		return model.Error
	}
	return r.exit
}

// of returns how r ends with e, apart from the errors of single keys.
func (e fuzzEnd) of(r *fuzzRun) model.Exit {
	switch {
	case !e.keyErrors:
		return e.exit
	case !r.multi(), e.arg&argWrapped != 0 && e.arg&argKeys == argNone:
		return model.Error // its value is not read
	}
	return model.Return
}

// fails reports whether e has an error for key alone.
func (e fuzzEnd) fails(key int) bool {
	if !e.keyErrors || key == model.NaN {
		return false
	}
	switch odd := key&1 != 0; e.arg & argKeys {
	case argOdd:
		return odd
	case argEven:
		return !odd
	case argNone:
		return false
	}
	return true
}

// errors returns the error of r, which has, or is, a KeyErrors. It holds nil for the keys
// that do not fail and, unless it is to be empty, errors for keys that cannot be found or
// were not passed to fn. If fn is not that of a DoMulti, it is never empty, as it must
// show its fn.
func (e fuzzEnd) errors(r *fuzzRun) error {
	errs := coalesce.KeyErrors[float64]{}
	empty := e.arg&argKeys == argNone && r.multi()
	if !empty {
		errs[otherKey] = &fuzzKeyError{r.calls[0]}
	}
	for _, c := range r.calls {
		var err error
		if e.fails(c.Key) || c.Key == model.NaN && !empty {
			err = &fuzzKeyError{c}
		}
		errs[groupKey(c.Key)] = err
	}
	if e.arg&argWrapped != 0 {
		return &fuzzError{r, errs}
	}
	return errs
}

// late reports whether LingerFor panics or exits, and not fn. It can only if it gets a
// value: it must know the call.
func (e fuzzEnd) late(r *fuzzRun) bool {
	return (e.exit == model.Panic || e.exit == model.Goexit) && e.arg&argAsked != 0 && r.calls[0].asks &&
		slices.ContainsFunc(r.calls, func(c *fuzzCall) bool { return !c.Absent })
}

// life returns the number of ticks for which the outcome of c, one of the calls of r, is
// to linger if there is a LingerFor.
func (e fuzzEnd) life(r *fuzzRun, c *fuzzCall) int {
	if c.Absent {
		return fuzzAbsence
	}
	return fuzzLives[(int(e.arg/argLife)+slices.Index(r.calls, c))%len(fuzzLives)]
}

// lingerFor is the LingerFor of the group. It gets nil for absent keys, and for those
// whose error comes without a value.
func lingerFor(b *fuzzBox, err error) time.Duration {
	if b == nil {
		return duration(fuzzAbsence)
	}
	if b.cloned {
		panic("LingerFor got a clone")
	}
	c := b.of
	c.asked++
	if c.run.end.late(c.run) {
		c.run.unwind()
	}
	return duration(c.run.end.life(c.run, c))
}
