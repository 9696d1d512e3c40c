package coalesce_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

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
	fuzzError struct{ of *fuzzRun }
	fuzzPanic struct{ of *fuzzRun }
)

func (e *fuzzError) Error() string { return fmt.Sprintf("fn of call %d failed", e.of.calls[0].id) }

// A fuzzCall is a call of the Group, beside its counterpart in the model. A
// DoMulti is a fuzzCall for each of its keys.
type fuzzCall struct {
	model.Call
	id      int
	all     []*fuzzCall // those of the same DoMulti; of another form, it alone
	keys    []int       // what DoMulti is given
	began   int         // number of the batch
	beganAt time.Time

	ctx      context.Context // what the call is given
	plain    context.Context // it, or what is behind the slow one
	slow     *slowContext
	cancel   func(error)   // nil if there is none, or another of all has it
	released chan struct{} // closed when all fns are to end

	// Written by the goroutines of the call and of fn, read after Wait.
	replies  int
	exited   bool // the goroutine that called did
	panicked any
	ch       <-chan coalesce.Result[*fuzzBox]
	got      coalesce.Result[*fuzzBox]
	starts   int
	run      *fuzzRun // that it leads
	box      *fuzzBox // what its fn returned
}

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
	exit    model.Exit

	// Written by the driver.
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

// Value is slow, too: before Go 1.26, context.Cause calls no other method.
func (c *slowContext) Value(key any) any {
	if c.armed.Load() {
		<-c.resume
	}
	return c.Context.Value(key)
}

// A fuzzCommand makes an fn do something, or end.
type fuzzCommand struct {
	do   func()
	exit model.Exit
}

// ask makes c a DoMulti for the sums of its key and the given ones; if that is
// wanted, the map of its fn lacks the odd keys.
func (c *fuzzCall) ask(plus []int, absent bool) {
	first := *c
	c.all = nil
	for _, n := range plus {
		key := (first.Key + n) & argKey
		c.keys = append(c.keys, key)
		if slices.Contains(c.keys[:len(c.keys)-1], key) {
			continue
		}
		o := c
		if len(c.all) > 0 {
			o = new(fuzzCall)
			*o = first
			o.id += len(c.all)
			o.cancel = nil
		}
		o.Key, o.Absent = key, absent && key&1 != 0
		c.all = append(c.all, o)
	}
	for _, o := range c.all {
		o.all = c.all
	}
}

// start begins the execution of fn for the given keys.
func (c *fuzzCall) start(ctx context.Context, keys []int) *fuzzRun {
	r := &fuzzRun{ctx: ctx, commands: make(chan fuzzCommand, maxSteps+1), startedAt: time.Now()}
	for _, key := range keys {
		i := slices.IndexFunc(c.all, func(o *fuzzCall) bool { return o.Key == key })
		if i < 0 {
			panic(fmt.Sprintf("fn gets key %d, which is not the call's", key))
		}
		o := c.all[i]
		o.starts++
		o.run = r
		r.calls = append(r.calls, o)
	}
	return r
}

// call returns the call of r for key.
func (r *fuzzRun) call(key int) *fuzzCall {
	for _, c := range r.calls {
		if c.Key == key {
			return c
		}
	}
	return r.calls[0] // of another key, which the check of the result finds
}

// await runs until r is told how to end, and ends like that.
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
			r.exit = cmd.exit
		case <-done:
			r.exit = model.Error
		case <-r.calls[0].released:
		}
		running = false
	}
	r.ended, r.endedAt = true, time.Now()
	for _, c := range r.calls {
		c.box = &fuzzBox{of: c}
	}
	switch r.exit {
	case model.Error:
		return &fuzzError{r}
	case model.Panic:
		panic(fuzzPanic{r})
	case model.Goexit:
		runtime.Goexit()
	}
	return nil
}

// multi is the fn of the DoMulti that c is the first call of.
func (c *fuzzCall) multi(ctx context.Context, keys []int) (map[int]*fuzzBox, error) {
	r := c.start(ctx, keys)
	err := r.await()
	boxes := map[int]*fuzzBox{}
	for _, c := range r.calls {
		if !c.Absent {
			boxes[c.Key] = c.box
		}
	}
	return boxes, err
}

// fn is the fn of the call c.
func (c *fuzzCall) fn(ctx context.Context) (*fuzzBox, error) {
	err := c.start(ctx, []int{c.Key}).await()
	return c.box, err
}

// do makes the call c of g.
func (c *fuzzCall) do(g *coalesce.Group[int, *fuzzBox]) {
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
	case model.DoMulti:
		all := g.DoMulti(c.ctx, c.keys, c.multi)
		if len(all) != len(c.all) {
			panic(fmt.Sprintf("DoMulti returned %d results for %d keys", len(all), len(c.all)))
		}
		for _, o := range c.all {
			o.got = all[o.Key]
			o.replies++
		}
		c.replies-- // or it would be counted twice
	case model.TryDo:
		r.Val, r.Err = g.TryDo(c.Key, fn)
	}
	returned = true
}
