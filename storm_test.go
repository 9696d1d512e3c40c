package coalesce_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the load of the storms: clients that call a group in every
// way and keep a history of it.

// A subject is what a storm is let loose on: a Group, or one that is broken on
// purpose.
type subject interface {
	Do(key int, fn func() (token, error)) (token, bool, error)
	DoContext(ctx context.Context, key int, fn func(context.Context) (token, error)) (token, bool, error)
	DoFresh(ctx context.Context, key int, fn func(context.Context) (token, error)) (token, bool, error)
	DoChan(ctx context.Context, key int, fn func(context.Context) (token, error)) <-chan coalesce.Result[token]
	DoMulti(ctx context.Context, keys []int, fn func(context.Context, []int) (map[int]token, error)) map[int]coalesce.Result[token]
	TryDo(key int, fn func() (token, error)) (token, error)
	Forget(key int) bool
	ForgetUnshared(key int) bool
	Len() int
	Flights() iter.Seq[coalesce.Flight[int]]
	Stats() coalesce.Stats
}

// A callForm is a way to call a group.
type callForm uint8

const (
	byDo callForm = iota
	byContext
	byFresh
	byChan
	byTry
	byMulti
	callForms
)

// A storm is a load. The zero of each field is the gentlest.
type storm struct {
	clients, calls int // calls of each client
	keys           int
	forms          []callForm // all if nil
	cancel         int        // percentage of contexts that end during the call
	forget         int        // percentage of calls that come with a Forget
	calm           bool       // no fn panics, exits or fails
	nest           bool       // some fns call the group for the next key
	untilClosed    bool       // a client stops when it is told ErrClosed
	seed           uint64

	// runs counts the executions of each key, without any synchronization:
	// where nothing is forgotten, the group is to order them, and the race
	// detector is to see that it does.
	runs []int
}

// stormScale returns how many times longer than usual the storms are to last.
// The environment variable COALESCE_STORM says so.
func stormScale(t testing.TB) int {
	s := os.Getenv("COALESCE_STORM")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("COALESCE_STORM = %q, want a positive number", s)
	}
	return n
}

// scaled returns n calls in a short test, and ten times as many otherwise.
func scaled(t testing.TB, n int) int {
	if testing.Short() {
		return n
	}
	return 10 * n * stormScale(t)
}

// silenceLog discards what is logged through slog until the test is over: a
// panic that nobody is left to be told of is logged.
func silenceLog(t testing.TB) {
	l, w, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		slog.SetDefault(l)
		log.SetOutput(w)
		log.SetFlags(flags)
	})
}

// A client is one goroutine of a storm with its part of the history.
type client struct {
	*storm
	g       subject
	id      int
	rng     *rand.Rand
	calls   []callRecord
	forgets []forgetRecord
	notes   []string // about what it saw and should not have
	pending []pendingChan
	extra   sync.WaitGroup // goroutines that cancel contexts
}

// A pendingChan is a DoChan call that has not been received from.
type pendingChan struct {
	call *callRecord
	ctx  context.Context
	end  context.CancelFunc
	ch   <-chan coalesce.Result[token]
}

// start lets s loose on g. The returned function waits until all its calls
// have been answered and returns the history; fns of calls that left may still
// be running then.
func (s *storm) start(g subject) (wait func() *history) {
	clients := make([]*client, s.clients)
	var wg sync.WaitGroup
	for i := range clients {
		c := &client{storm: s, g: g, id: i, rng: rand.New(rand.NewPCG(s.seed, uint64(i)))}
		clients[i] = c
		wg.Go(c.run)
	}
	return func() *history {
		wg.Wait()
		h := &history{closing: never}
		for _, c := range clients {
			h.calls = append(h.calls, c.calls)
			h.forgets = append(h.forgets, c.forgets)
			h.notes = append(h.notes, c.notes...)
		}
		return h
	}
}

// run makes the client's calls.
func (c *client) run() {
	c.calls = make([]callRecord, 0, c.storm.calls) // never moved: fns write to it
	for len(c.calls) < cap(c.calls) {
		key := c.rng.IntN(c.keys)
		r := c.newRecord(key)
		c.one(r)
		if c.rng.IntN(100) < c.forget {
			c.forgetOne(c.rng.IntN(c.keys))
		}
		if c.rng.IntN(50) == 0 {
			c.look()
		}
		if len(c.pending) > 0 && (len(c.pending) > 3 || c.rng.IntN(3) == 0) {
			c.receive()
		}
		if c.untilClosed && r.got == gotClosed {
			break
		}
	}
	for len(c.pending) > 0 {
		c.receive()
	}
	c.extra.Wait()
}

// look reads all that can be read of the group, and notes what makes no sense.
// What it sees is past already, but it sees a shard, and so a key, as a whole.
func (c *client) look() {
	note := func(format string, args ...any) {
		c.notes = append(c.notes, fmt.Sprintf(format, args...))
	}
	ran := map[int]int{}
	for f := range c.g.Flights() {
		if !f.Forgotten && f.State != coalesce.StateQueued {
			ran[f.Key]++
		}
	}
	for key, n := range ran {
		if n > 1 {
			note("%d flights of key %d", n, key)
		}
	}
	if n := c.g.Len(); n < 0 || n > c.keys {
		note("%d of %d keys in flight", n, c.keys)
	}
	if st := c.g.Stats(); st.Calls != st.Led+st.Joined+st.Rejected+st.Ended {
		note("%+v", st)
	}
}

func (c *client) newRecord(key int) *callRecord {
	c.calls = append(c.calls, callRecord{token: token{key, c.id, len(c.calls) + 1}})
	return &c.calls[len(c.calls)-1]
}

// A plan is what an fn is going to do. It is drawn by the client, as an fn may
// run on another goroutine.
type plan struct {
	yields, spins int
	sleep         time.Duration
	honors        bool // waits for the end of its context, but not for ever
	nested        bool // calls the group for the next key; so there is no cycle
	how           exit
}

func (c *client) plan() plan {
	p := plan{honors: c.rng.IntN(4) == 0}
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
	if !c.calm {
		switch c.rng.IntN(20) {
		case 0:
			p.how = exitError
		case 1:
			p.how = exitPanic
		case 2:
			p.how = exitGoexit
		}
	}
	return p
}

// work is what an fn does before it ends.
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

// fn returns the fn of the call r.
func (c *client) fn(r *callRecord, p plan) func(context.Context) (token, error) {
	me, e := r.token, &r.exec
	e.how = p.how
	var nested *callRecord
	var nestedFn func(context.Context) (token, error)
	if p.nested {
		q := c.plan()
		q.nested = false
		if q.how == exitGoexit {
			q.how = exitReturn // it would take the outer fn with it
		}
		nested = c.newRecord(r.key + 1)
		nestedFn = c.fn(nested, q)
	}
	return func(ctx context.Context) (token, error) {
		e.start = now()
		e.runs++
		if c.runs != nil {
			c.runs[me.key]++
		}
		p.work(ctx)
		if nested != nil {
			c.block(byContext, context.Background(), nested, nestedFn)
		}
		e.canceled = ctx.Err() != nil
		e.end = now()
		switch p.how {
		case exitError:
			return token{}, &fnError{me}
		case exitPanic:
			panic(fnPanic{me})
		case exitGoexit:
			runtime.Goexit()
		}
		return me, nil
	}
}

// one makes one call of the group.
func (c *client) one(r *callRecord) {
	f := callForm(c.rng.IntN(int(callForms)))
	if c.forms != nil {
		f = c.forms[c.rng.IntN(len(c.forms))]
	}
	r.fresh, r.try = f == byFresh, f == byTry
	p := c.plan()
	p.nested = c.nest && r.key+1 < c.keys && len(c.calls) < cap(c.calls) && c.rng.IntN(4) == 0
	fn := c.fn(r, p)
	ctx, end := context.Background(), context.CancelFunc(func() {})
	if f == byContext || f == byFresh || f == byChan || f == byMulti {
		ctx, end = c.context()
	}
	if f == byMulti {
		p.nested = false
		c.many(ctx, r, p)
		end()
		return
	}
	if f == byChan {
		r.inv = now()
		c.pending = append(c.pending, pendingChan{r, ctx, end, c.g.DoChan(ctx, r.key, fn)})
		return
	}
	if p.how == exitGoexit && !r.fresh && ctx.Done() == nil {
		// The goroutine that calls is going to exit if the call leads.
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			c.block(f, ctx, r, fn)
		}()
		<-gone
	} else {
		c.block(f, ctx, r, fn)
	}
	end()
}

// many makes a DoMulti for the key of r and others, with a record for each key.
func (c *client) many(ctx context.Context, r *callRecord, p plan) {
	records := map[int]*callRecord{r.key: r}
	keys := []int{r.key}
	for n := 1 << c.rng.IntN(5); n > 1 && len(c.calls) < cap(c.calls); n-- {
		key := c.rng.IntN(c.keys)
		keys = append(keys, key)
		if records[key] == nil {
			records[key] = c.newRecord(key)
		}
	}
	c.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, r := range records {
		r.inv = now()
	}
	results := c.g.DoMulti(ctx, keys, c.manyFn(records, p))
	ret := now()
	for key, r := range records {
		res := results[key]
		r.ret, r.shared = ret, res.Shared
		if pe, ok := res.Err.(*coalesce.PanicError); ok {
			r.recordPanic(pe)
		} else {
			r.record(ctx, res.Val, res.Err)
		}
		if len(results) != len(records) {
			r.got, r.note = gotNonsense, fmt.Sprintf("%d results for %d keys", len(results), len(records))
		}
	}
}

// manyFn returns the fn of a DoMulti for which there are the given records. It
// may run more than once, but once for each key.
func (c *client) manyFn(records map[int]*callRecord, p plan) func(context.Context, []int) (map[int]token, error) {
	return func(ctx context.Context, keys []int) (map[int]token, error) {
		of := make(map[int]token, len(keys))
		for _, key := range keys {
			e := &records[key].exec
			e.start, e.how, e.batch = now(), p.how, records[keys[0]].token
			e.runs++
			if c.runs != nil {
				c.runs[key]++
			}
			of[key] = records[key].token
		}
		p.work(ctx)
		for _, key := range keys {
			e := &records[key].exec
			e.canceled = ctx.Err() != nil
			e.end = now()
		}
		switch p.how {
		case exitError:
			return nil, &batchError{of}
		case exitPanic:
			panic(batchPanic{of})
		case exitGoexit:
			runtime.Goexit()
		}
		return of, nil
	}
}

// block makes a call of one of the forms that block and records what it got.
func (c *client) block(f callForm, ctx context.Context, r *callRecord, fn func(context.Context) (token, error)) {
	var v token
	var err error
	returned := false
	defer func() {
		switch p := recover(); {
		case returned:
			r.record(ctx, v, err)
		case p == nil:
			r.record(ctx, token{}, coalesce.ErrGoexit)
		default:
			r.untold = true
			r.recordPanic(p)
		}
	}()
	r.inv = now()
	switch f {
	case byDo:
		v, r.shared, err = c.g.Do(r.key, func() (token, error) { return fn(ctx) })
	case byTry:
		v, err = c.g.TryDo(r.key, func() (token, error) { return fn(ctx) })
	case byContext:
		v, r.shared, err = c.g.DoContext(ctx, r.key, fn)
	case byFresh:
		v, r.shared, err = c.g.DoFresh(ctx, r.key, fn)
	}
	r.ret = now()
	returned = true
}

// receive receives from one of the pending channels.
func (c *client) receive() {
	i := c.rng.IntN(len(c.pending))
	p := c.pending[i]
	last := len(c.pending) - 1
	c.pending[i] = c.pending[last]
	c.pending = c.pending[:last]
	res := <-p.ch
	p.call.ret = now()
	p.call.shared = res.Shared
	if pe, ok := res.Err.(*coalesce.PanicError); ok {
		p.call.recordPanic(pe)
	} else {
		p.call.record(p.ctx, res.Val, res.Err)
	}
	if len(p.ch) != 0 {
		p.call.got, p.call.note = gotNonsense, "a second Result"
	}
	p.end()
}

// context returns a context for a call, and what ends it when the call is over.
func (c *client) context() (context.Context, context.CancelFunc) {
	if c.rng.IntN(4) == 0 {
		return context.Background(), func() {}
	}
	ctx, end := context.WithCancel(context.Background())
	if c.rng.IntN(100) >= c.cancel {
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

func (c *client) forgetOne(key int) {
	f := forgetRecord{key: key, unshared: c.rng.IntN(3) == 0, inv: now()}
	if f.unshared {
		f.done = c.g.ForgetUnshared(key)
	} else {
		f.done = c.g.Forget(key)
	}
	f.ret = now()
	c.forgets = append(c.forgets, f)
}
