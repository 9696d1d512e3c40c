package fuzz

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the calls that FuzzGroup makes, and the functions that they call.

// A fuzzBox is the value of the fuzzed group.
type fuzzBox struct {
	of     *fuzzCall
	cloned bool
}

// A fuzzGroup is the group that FuzzGroup drives.
type fuzzGroup = coalesce.Group[float64, *fuzzBox]

// A fuzzCall is a call of the Group, beside its counterpart in the model. A DoMulti is a
// fuzzCall for each of its keys.
type fuzzCall struct {
	model.Call
	id      int
	all     []*fuzzCall // the calls of the same DoMulti; of another form, it alone
	keys    []float64   // the argument of DoMulti
	asks    bool        // there is a LingerFor
	began   int         // number of the batch
	beganAt time.Time

	ctx      context.Context // the argument of the call
	plain    context.Context // ctx, or the context behind the slow one
	slow     *slowContext
	cancel   func(error)   // nil if there is none, or another of all has it
	released chan struct{} // closed when all fns are to end

	events   fuzzEvents              // guarded by the recorder
	received coalesce.Event[float64] // that of Receive; likewise

	// Written by the goroutines of the call and of fn, read after Wait.
	replies  int
	exited   bool // the goroutine of the call exited
	panicked any
	ch       <-chan coalesce.Result[*fuzzBox]
	got      coalesce.Result[*fuzzBox]
	starts   int
	run      *fuzzRun // that it leads
	box      *fuzzBox // the value of its fn
	asked    int      // the number of calls of LingerFor about box
}

// A slowContext takes its time to report whether it has ended. That holds a call that has
// been woken from a queue and has not gone on, or that has left and has not returned:
// states last that usually pass at once.
type slowContext struct {
	context.Context
	armed  atomic.Bool // set once the call has begun
	resume chan struct{}
}

// The keys of the values that FuzzGroup puts into contexts: the call whose context it is,
// and the FlightID of the event with which Start was called.
type (
	fuzzCallKey  struct{}
	fuzzStartKey struct{}
)

func (c *slowContext) Err() error {
	if c.armed.Load() {
		<-c.resume
	}
	return c.Context.Err()
}

// Value is slow as well: before Go 1.26, context.Cause calls no other method. It is not
// for the recorder of events.
func (c *slowContext) Value(key any) any {
	switch key.(type) {
	case fuzzCallKey, fuzzStartKey:
	default:
		if c.armed.Load() {
			<-c.resume
		}
	}
	return c.Context.Value(key)
}

// ask makes c a DoMulti for the given keys. If absent is set, the map of its fn lacks the
// odd ones. It lacks NaN, which cannot be found there, in any case. Each key counts once,
// but NaN as often as it is given.
func (c *fuzzCall) ask(keys []int, absent bool) {
	first := *c
	c.all = nil
	for _, key := range keys {
		c.keys = append(c.keys, groupKey(key))
		asked := func(o *fuzzCall) bool { return o.Key == key }
		if key != model.NaN && slices.ContainsFunc(c.all, asked) {
			continue
		}
		o := c
		if len(c.all) > 0 {
			o = new(fuzzCall)
			*o = first
			o.id += len(c.all)
			o.cancel = nil
		}
		o.Key, o.Absent = key, key == model.NaN || absent && key&1 != 0
		c.all = append(c.all, o)
	}
	for _, o := range c.all {
		o.all = c.all
	}
}

// multi is the fn of the DoMulti that c is the first call of.
func (c *fuzzCall) multi(ctx context.Context, keys []float64) (map[float64]*fuzzBox, error) {
	r := c.start(ctx, keys)
	err := r.await()
	boxes := map[float64]*fuzzBox{}
	for _, c := range r.calls {
		if !c.Absent || c.Key == model.NaN {
			boxes[groupKey(c.Key)] = c.box
		}
	}
	return boxes, err
}

// fn is the fn of the call c.
func (c *fuzzCall) fn(ctx context.Context) (*fuzzBox, error) {
	err := c.start(ctx, []float64{groupKey(c.Key)}).await()
	return c.box, err
}

// do makes the call c of g.
func (c *fuzzCall) do(g *fuzzGroup) {
	returned := false
	defer func() {
		c.panicked = recover()
		c.exited = !returned && c.panicked == nil
		c.replies++
	}()
	key, fn := groupKey(c.Key), func() (*fuzzBox, error) { return c.fn(c.ctx) }
	r := &c.got
	switch c.Form {
	case model.Do:
		r.Val, r.Shared, r.Err = g.Do(key, fn)
	case model.DoContext:
		r.Val, r.Shared, r.Err = g.DoContext(c.ctx, key, c.fn)
	case model.DoChan:
		c.ch = g.DoChan(c.ctx, key, c.fn)
		*r = <-c.ch
	case model.DoFresh:
		r.Val, r.Shared, r.Err = g.DoFresh(c.ctx, key, c.fn)
	case model.DoMulti:
		c.spread(g.DoMulti(c.ctx, c.keys, c.multi))
		c.replies-- // or it would count twice
	case model.TryDo:
		r.Val, r.Err = g.TryDo(key, fn)
	}
	returned = true
}

// spread distributes the results of a DoMulti to its calls, of which c is the first.
func (c *fuzzCall) spread(all map[float64]coalesce.Result[*fuzzBox]) {
	if len(all) != len(c.all) {
		panic(fmt.Sprintf("DoMulti returned %d results for %d keys", len(all), len(c.all)))
	}
	var unequal []coalesce.Result[*fuzzBox] // the results of NaN
	for key, r := range all {
		if key != key {
			unequal = append(unequal, r)
		}
	}
	for _, o := range c.all {
		if o.Key != model.NaN {
			o.got = all[groupKey(o.Key)]
		} else {
			o.got, unequal = unequal[0], unequal[1:]
		}
		o.replies++
	}
}
