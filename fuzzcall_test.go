package coalesce_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/model"
)

// This file holds the calls that FuzzGroup makes, and what they call.

// A fuzzBox is the value of the fuzzed group.
type fuzzBox struct {
	of     *fuzzCall
	cloned bool
}

// A fuzzError is the error that fn returns, and a fuzzPanic what it panics
// with.
type (
	fuzzError struct{ of *fuzzCall }
	fuzzPanic struct{ of *fuzzCall }
)

func (e *fuzzError) Error() string { return fmt.Sprintf("fn of call %d failed", e.of.id) }

// A fuzzCall is a call of the Group, beside its counterpart in the model.
type fuzzCall struct {
	model.Call
	id    int
	began int // number of the batch

	ctx    context.Context // what the call is given
	plain  context.Context // it, or what is behind the slow one
	slow   *slowContext
	cancel func(error)

	// Written by the goroutines of the call and of fn, read after Wait.
	replies  int
	exited   bool // the goroutine that called did
	panicked any
	ch       <-chan coalesce.Result[*fuzzBox]
	got      coalesce.Result[*fuzzBox]
	starts   int
	fnCtx    context.Context
	box      *fuzzBox // what fn returned
	ended    bool
	exit     model.Exit

	// Written by the driver.
	commands        chan fuzzCommand
	told            bool // to end
	started, finish int  // the batches in which it saw them, or 0
}

// A slowContext takes its time to say whether it has ended. That holds a call
// where it has been woken from a queue and has not gone on, or has left and has
// not returned: it makes states last that usually pass at once.
type slowContext struct {
	context.Context
	armed  atomic.Bool // set once the call has begun
	resume chan struct{}
}

func (c *slowContext) Err() error {
	if c.armed.Load() {
		<-c.resume
	}
	return c.Context.Err()
}

// A fuzzCommand makes an fn do something, or end.
type fuzzCommand struct {
	do   func()
	exit model.Exit
}

// fn is the fn of the call c.
func (c *fuzzCall) fn(ctx context.Context) (*fuzzBox, error) {
	c.starts++
	c.fnCtx = ctx
	var done <-chan struct{}
	if c.Honors {
		done = ctx.Done()
	}
	for {
		select {
		case cmd := <-c.commands:
			if cmd.do != nil {
				cmd.do()
				continue
			}
			c.exit = cmd.exit
		case <-done:
			c.exit = model.Error
		}
		break
	}
	c.ended = true
	c.box = &fuzzBox{of: c}
	switch c.exit {
	case model.Error:
		return c.box, &fuzzError{c}
	case model.Panic:
		panic(fuzzPanic{c})
	case model.Goexit:
		runtime.Goexit()
	}
	return c.box, nil
}

// run makes the call c of g.
func (c *fuzzCall) run(g *coalesce.Group[int, *fuzzBox]) {
	returned := false
	defer func() {
		c.panicked = recover()
		c.exited = !returned && c.panicked == nil
		c.replies++
	}()
	fn := func() (*fuzzBox, error) { return c.fn(c.ctx) }
	r := &c.got
	switch c.Form {
	case model.Do:
		r.Val, r.Shared, r.Err = g.Do(c.Key, fn)
	case model.DoContext:
		r.Val, r.Shared, r.Err = g.DoContext(c.ctx, c.Key, c.fn)
	case model.DoChan:
		c.ch = g.DoChan(c.ctx, c.Key, c.fn)
		*r = <-c.ch
	case model.DoFresh:
		r.Val, r.Shared, r.Err = g.DoFresh(c.ctx, c.Key, c.fn)
	case model.TryDo:
		r.Val, r.Err = g.TryDo(c.Key, fn)
	}
	returned = true
}
