// Package storm holds the load of the stress tests: clients that call a group in
// every way, at random, and keep a history of it.
package storm

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// A Subject is the target of a storm: a Group, or one that is broken on purpose.
type Subject interface {
	Do(key int, fn func() (history.Token, error)) (history.Token, bool, error)
	DoContext(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error)
	DoFresh(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error)
	DoChan(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) <-chan coalesce.Result[history.Token]
	DoMulti(ctx context.Context, keys []int, fn func(context.Context, []int) (map[int]history.Token, error)) map[int]coalesce.Result[history.Token]
	TryDo(key int, fn func() (history.Token, error)) (history.Token, error)
	Forget(key int) bool
	ForgetUnshared(key int) bool
	ForgetFunc(match func(int) bool) int
	ForgetFlight(id uint64) bool
	Len() int
	Flights() iter.Seq[coalesce.Flight[int]]
	Stats() coalesce.Stats
}

// A Form is a way to call a group.
type Form uint8

// The forms.
const (
	ByDo Form = iota
	ByContext
	ByFresh
	ByChan
	ByTry
	ByMulti
	forms // the number of forms
)

// A Storm is a load. The zero of each field is the gentlest.
type Storm struct {
	Clients, Calls int // calls of each client
	Keys           int
	Forms          []Form // all if nil
	Cancel         int    // percentage of contexts that end during the call
	Forget         int    // percentage of calls that come with a Forget of some form
	Calm           bool   // no fn panics, exits or fails
	Nest           bool   // some fns call the group for the next key
	Lives          bool   // the LingerFor of the group is that of this package
	UntilClosed    bool   // a client stops when it gets ErrClosed
	Seed           uint64

	// Runs counts the executions of each key, without any synchronization: where nothing
	// is forgotten, the group must order them, and the race detector must see that it
	// does.
	Runs []int
}

// A Client is one goroutine of a storm with its part of the history.
type Client struct {
	*Storm
	G       Subject
	ID      int
	rng     *rand.Rand
	Calls   []history.Call
	Forgets []history.Forget
	Notes   []string        // about states that it saw and should not have
	seen    map[uint64]bool // the flights that its last look has seen, by ID
	pending []pendingChan
	extra   sync.WaitGroup // goroutines that cancel contexts
}

// A pendingChan is a DoChan call whose channel has not been received from.
type pendingChan struct {
	call *history.Call
	ctx  context.Context
	end  context.CancelFunc
	ch   <-chan coalesce.Result[history.Token]
}

// Start runs s on g. The returned function waits until all its calls have been answered
// and returns the history; fns of calls that left may still be running then.
func (s *Storm) Start(g Subject) (wait func() *history.History) {
	clients := make([]*Client, s.Clients)
	var wg sync.WaitGroup
	for i := range clients {
		c := &Client{Storm: s, G: g, ID: i, rng: rand.New(rand.NewPCG(s.Seed, uint64(i)))}
		clients[i] = c
		wg.Go(c.run)
	}
	return func() *history.History {
		wg.Wait()
		h := &history.History{Closing: history.Never}
		for _, c := range clients {
			h.Calls = append(h.Calls, c.Calls)
			h.Forgets = append(h.Forgets, c.Forgets)
			h.Notes = append(h.Notes, c.Notes...)
		}
		return h
	}
}

// run makes the client's calls.
func (c *Client) run() {
	c.Calls = make([]history.Call, 0, c.Storm.Calls) // never moved: fns write to it
	for len(c.Calls) < cap(c.Calls) {
		key := c.rng.IntN(c.Keys)
		r := c.NewRecord(key)
		c.one(r)
		if c.rng.IntN(100) < c.Forget {
			c.forgetOne(c.rng.IntN(c.Keys))
		}
		if c.rng.IntN(50) == 0 {
			c.look()
		}
		if len(c.pending) > 0 && (len(c.pending) > 3 || c.rng.IntN(3) == 0) {
			c.receive()
		}
		if c.UntilClosed && r.Got == history.GotClosed {
			break
		}
	}
	for len(c.pending) > 0 {
		c.receive()
	}
	c.extra.Wait()
}

// NewRecord returns a record for a call for key, which c is going to make.
func (c *Client) NewRecord(key int) *history.Call {
	c.Calls = append(c.Calls, history.Call{Token: history.Token{Key: key, Client: c.ID, Call: len(c.Calls) + 1}})
	return &c.Calls[len(c.Calls)-1]
}

// A plan is the course of an fn. The client draws it, as an fn may run on another
// goroutine.
type plan struct {
	yields, spins int
	sleep         time.Duration
	honors        bool // waits for the end of its context, but not forever
	nested        bool // calls the group for the next key; so there is no cycle
	holds         hold
	how           history.Exit
	partly        bool // if it fails and is that of a DoMulti: not for all keys
}

// A hold is the time at which an fn holds its flight.
type hold uint8

const (
	never hold = iota
	atFirst
	atLast
)

// hold holds the flight of fn, which has got ctx, if it is time to, and reports whether
// the flight is held.
func (p plan) hold(ctx context.Context, now hold) bool {
	return p.holds == now && coalesce.Hold(ctx)
}

func (c *Client) plan() plan {
	p := plan{honors: c.rng.IntN(4) == 0}
	switch c.rng.IntN(10) {
	case 0, 1:
		p.holds = atFirst
	case 2:
		p.holds = atLast
	}
	switch c.rng.IntN(8) {
	case 0, 1, 2, 3:
		p.yields = c.rng.IntN(8)
	case 4, 5:
		p.spins = c.rng.IntN(2000)
	case 6:
		if c.rng.IntN(8) == 0 {
			p.sleep = time.Duration(c.rng.IntN(100)) * time.Microsecond
		}
	}
	if !c.Calm {
		switch c.rng.IntN(20) {
		case 0:
			p.how = history.ExitError
		case 1:
			p.how = history.ExitPanic
		case 2:
			p.how = history.ExitGoexit
		case 3:
			p.how, p.partly = history.ExitError, true
		}
	}
	return p
}

// work is the work of an fn before it ends.
func (p plan) work(ctx context.Context) {
	for range p.yields {
		runtime.Gosched()
	}
	for i := range p.spins {
		_ = i
	}
	if p.sleep > 0 {
		time.Sleep(p.sleep)
	}
	if p.honors && ctx.Done() != nil {
		for i := 0; i < 50 && ctx.Err() == nil; i++ {
			runtime.Gosched()
		}
	}
}

// lives are the times for which outcomes linger in a storm with Lives.
var lives = []time.Duration{0, 50 * time.Microsecond, time.Millisecond, 20 * time.Millisecond, coalesce.Forever}

// otherLife is the life of outcomes that name no execution of a key: the error of a whole
// batch, and absence.
const otherLife = 300 * time.Microsecond

// lifeOf returns the time for which the outcome of an execution lingers.
func lifeOf(of history.Token) time.Duration {
	return lives[(of.Key+3*of.Client+of.Call)%len(lives)]
}

// LingerFor is that of the group in a storm with Lives. Values, errors and absence
// linger, each for a time of its own.
func LingerFor(v history.Token, err error) time.Duration {
	var failed *history.FnError
	switch {
	case err == nil:
		return lifeOf(v)
	case errors.As(err, &failed):
		return lifeOf(failed.Of)
	}
	return otherLife
}

// fn returns the fn of the call r.
func (c *Client) fn(r *history.Call, p plan) func(context.Context) (history.Token, error) {
	me, e := r.Token, &r.Exec
	e.How = p.how
	var nested *history.Call
	var nestedFn func(context.Context) (history.Token, error)
	if p.nested {
		q := c.plan()
		q.nested = false
		if q.how == history.ExitGoexit {
			q.how = history.ExitReturn // it would exit the outer fn as well
		}
		nested = c.NewRecord(r.Key + 1)
		nestedFn = c.fn(nested, q)
	}
	return func(ctx context.Context) (history.Token, error) {
		e.Start, e.Ctx = history.Now(), ctx
		e.Runs++
		if c.Runs != nil {
			c.Runs[me.Key]++
		}
		if c.Lives {
			e.Life = history.Stamp(lifeOf(me))
		}
		e.Held = p.hold(ctx, atFirst)
		p.work(ctx)
		if nested != nil {
			c.Block(ByContext, context.Background(), nested, nestedFn)
		}
		e.Held = e.Held || p.hold(ctx, atLast)
		e.Canceled = ctx.Err() != nil
		e.End = history.Now()
		switch p.how {
		case history.ExitError:
			return history.Token{}, &history.FnError{Of: me}
		case history.ExitPanic:
			panic(history.FnPanic{Of: me})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		return me, nil
	}
}

// one makes one call of the group.
func (c *Client) one(r *history.Call) {
	f := Form(c.rng.IntN(int(forms)))
	if c.Forms != nil {
		f = c.Forms[c.rng.IntN(len(c.Forms))]
	}
	r.Fresh, r.Try = f == ByFresh, f == ByTry
	p := c.plan()
	p.nested = c.Nest && r.Key+1 < c.Keys && len(c.Calls) < cap(c.Calls) && c.rng.IntN(4) == 0
	fn := c.fn(r, p)
	ctx, end := context.Background(), context.CancelFunc(func() {})
	if f == ByContext || f == ByFresh || f == ByChan || f == ByMulti {
		ctx, end = c.context()
	}
	if f == ByMulti {
		p.nested = false
		c.many(ctx, r, p)
		end()
		return
	}
	if f == ByChan {
		r.Inv = history.Now()
		c.pending = append(c.pending, pendingChan{r, ctx, end, c.G.DoChan(ctx, r.Key, fn)})
		return
	}
	if p.how == history.ExitGoexit && !r.Fresh && ctx.Done() == nil {
		// The goroutine that calls is going to exit if the call leads.
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			c.Block(f, ctx, r, fn)
		}()
		<-gone
	} else {
		c.Block(f, ctx, r, fn)
	}
	end()
}

// Block makes a call of one of the forms that block and records its answer.
func (c *Client) Block(f Form, ctx context.Context, r *history.Call, fn func(context.Context) (history.Token, error)) {
	var v history.Token
	var err error
	returned := false
	defer func() {
		switch p := recover(); {
		case returned:
			r.Record(ctx, v, err)
		case p == nil:
			r.Record(ctx, history.Token{}, coalesce.ErrGoexit)
		default:
			r.Mute = true
			r.RecordPanic(p)
		}
	}()
	r.Inv = history.Now()
	switch f {
	case ByDo:
		v, r.Shared, err = c.G.Do(r.Key, func() (history.Token, error) { return fn(ctx) })
	case ByTry:
		v, err = c.G.TryDo(r.Key, func() (history.Token, error) { return fn(ctx) })
	case ByContext:
		v, r.Shared, err = c.G.DoContext(ctx, r.Key, fn)
	case ByFresh:
		v, r.Shared, err = c.G.DoFresh(ctx, r.Key, fn)
	}
	r.Ret = history.Now()
	returned = true
}

// receive receives from one of the pending channels.
func (c *Client) receive() {
	i := c.rng.IntN(len(c.pending))
	p := c.pending[i]
	last := len(c.pending) - 1
	c.pending[i] = c.pending[last]
	c.pending = c.pending[:last]
	res := <-p.ch
	p.call.Ret = history.Now()
	p.call.Shared = res.Shared
	if pe, ok := res.Err.(*coalesce.PanicError); ok {
		p.call.RecordPanic(pe)
	} else {
		p.call.Record(p.ctx, res.Val, res.Err)
	}
	if len(p.ch) != 0 {
		p.call.Got, p.call.Note = history.GotNonsense, "a second Result"
	}
	p.end()
}

// context returns a context for a call, and a function that ends it when the call is
// over.
func (c *Client) context() (context.Context, context.CancelFunc) {
	if c.rng.IntN(4) == 0 {
		return context.Background(), func() {}
	}
	ctx, end := context.WithCancel(context.Background())
	if c.rng.IntN(100) >= c.Cancel {
		return ctx, end
	}
	switch c.rng.IntN(4) {
	case 0:
		end() // on entry
	case 1:
		end()
		return context.WithTimeout(context.Background(), time.Duration(1+c.rng.IntN(60))*time.Microsecond)
	default:
		yields := c.rng.IntN(12)
		c.extra.Go(func() {
			for range yields {
				runtime.Gosched()
			}
			end()
		})
	}
	return ctx, end
}
