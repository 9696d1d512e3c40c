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
	"github.com/seed342dcb2d/coalesce/internal/history"
)

// This file holds the load of the storms: clients that call a group in every
// way and keep a history of it.

// A subject is what a storm is let loose on: a Group, or one that is broken on
// purpose.
type subject interface {
	Do(key int, fn func() (history.Token, error)) (history.Token, bool, error)
	DoContext(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error)
	DoFresh(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error)
	DoChan(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) <-chan coalesce.Result[history.Token]
	DoMulti(ctx context.Context, keys []int, fn func(context.Context, []int) (map[int]history.Token, error)) map[int]coalesce.Result[history.Token]
	TryDo(key int, fn func() (history.Token, error)) (history.Token, error)
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
	calls   []history.Call
	forgets []history.Forget
	notes   []string // about what it saw and should not have
	pending []pendingChan
	extra   sync.WaitGroup // goroutines that cancel contexts
}

// A pendingChan is a DoChan call that has not been received from.
type pendingChan struct {
	call *history.Call
	ctx  context.Context
	end  context.CancelFunc
	ch   <-chan coalesce.Result[history.Token]
}

// start lets s loose on g. The returned function waits until all its calls
// have been answered and returns the history; fns of calls that left may still
// be running then.
func (s *storm) start(g subject) (wait func() *history.History) {
	clients := make([]*client, s.clients)
	var wg sync.WaitGroup
	for i := range clients {
		c := &client{storm: s, g: g, id: i, rng: rand.New(rand.NewPCG(s.seed, uint64(i)))}
		clients[i] = c
		wg.Go(c.run)
	}
	return func() *history.History {
		wg.Wait()
		h := &history.History{Closing: history.Never}
		for _, c := range clients {
			h.Calls = append(h.Calls, c.calls)
			h.Forgets = append(h.Forgets, c.forgets)
			h.Notes = append(h.Notes, c.notes...)
		}
		return h
	}
}

// run makes the client's calls.
func (c *client) run() {
	c.calls = make([]history.Call, 0, c.storm.calls) // never moved: fns write to it
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
		if c.untilClosed && r.Got == history.GotClosed {
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

func (c *client) newRecord(key int) *history.Call {
	c.calls = append(c.calls, history.Call{Token: history.Token{Key: key, Client: c.id, Call: len(c.calls) + 1}})
	return &c.calls[len(c.calls)-1]
}

// A plan is what an fn is going to do. It is drawn by the client, as an fn may
// run on another goroutine.
type plan struct {
	yields, spins int
	sleep         time.Duration
	honors        bool // waits for the end of its context, but not for ever
	nested        bool // calls the group for the next key; so there is no cycle
	how           history.Exit
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
			p.how = history.ExitError
		case 1:
			p.how = history.ExitPanic
		case 2:
			p.how = history.ExitGoexit
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
func (c *client) fn(r *history.Call, p plan) func(context.Context) (history.Token, error) {
	me, e := r.Token, &r.Exec
	e.How = p.how
	var nested *history.Call
	var nestedFn func(context.Context) (history.Token, error)
	if p.nested {
		q := c.plan()
		q.nested = false
		if q.how == history.ExitGoexit {
			q.how = history.ExitReturn // it would take the outer fn with it
		}
		nested = c.newRecord(r.Key + 1)
		nestedFn = c.fn(nested, q)
	}
	return func(ctx context.Context) (history.Token, error) {
		e.Start = history.Now()
		e.Runs++
		if c.runs != nil {
			c.runs[me.Key]++
		}
		p.work(ctx)
		if nested != nil {
			c.block(byContext, context.Background(), nested, nestedFn)
		}
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
func (c *client) one(r *history.Call) {
	f := callForm(c.rng.IntN(int(callForms)))
	if c.forms != nil {
		f = c.forms[c.rng.IntN(len(c.forms))]
	}
	r.Fresh, r.Try = f == byFresh, f == byTry
	p := c.plan()
	p.nested = c.nest && r.Key+1 < c.keys && len(c.calls) < cap(c.calls) && c.rng.IntN(4) == 0
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
		r.Inv = history.Now()
		c.pending = append(c.pending, pendingChan{r, ctx, end, c.g.DoChan(ctx, r.Key, fn)})
		return
	}
	if p.how == history.ExitGoexit && !r.Fresh && ctx.Done() == nil {
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
func (c *client) many(ctx context.Context, r *history.Call, p plan) {
	records := map[int]*history.Call{r.Key: r}
	keys := []int{r.Key}
	for n := 1 << c.rng.IntN(5); n > 1 && len(c.calls) < cap(c.calls); n-- {
		key := c.rng.IntN(c.keys)
		keys = append(keys, key)
		if records[key] == nil {
			records[key] = c.newRecord(key)
		}
	}
	c.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, r := range records {
		r.Inv = history.Now()
	}
	results := c.g.DoMulti(ctx, keys, c.manyFn(records, p))
	ret := history.Now()
	for key, r := range records {
		res := results[key]
		r.Ret, r.Shared = ret, res.Shared
		if pe, ok := res.Err.(*coalesce.PanicError); ok {
			r.RecordPanic(pe)
		} else {
			r.Record(ctx, res.Val, res.Err)
		}
		if len(results) != len(records) {
			r.Got, r.Note = history.GotNonsense, fmt.Sprintf("%d results for %d keys", len(results), len(records))
		}
	}
}

// manyFn returns the fn of a DoMulti for which there are the given records. It
// may run more than once, but once for each key.
func (c *client) manyFn(records map[int]*history.Call, p plan) func(context.Context, []int) (map[int]history.Token, error) {
	return func(ctx context.Context, keys []int) (map[int]history.Token, error) {
		of := make(map[int]history.Token, len(keys))
		for _, key := range keys {
			e := &records[key].Exec
			e.Start, e.How, e.Batch = history.Now(), p.how, records[keys[0]].Token
			e.Runs++
			if c.runs != nil {
				c.runs[key]++
			}
			of[key] = records[key].Token
		}
		p.work(ctx)
		for _, key := range keys {
			e := &records[key].Exec
			e.Canceled = ctx.Err() != nil
			e.End = history.Now()
		}
		switch p.how {
		case history.ExitError:
			return nil, &history.BatchError{Of: of}
		case history.ExitPanic:
			panic(history.BatchPanic{Of: of})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		return of, nil
	}
}

// block makes a call of one of the forms that block and records what it got.
func (c *client) block(f callForm, ctx context.Context, r *history.Call, fn func(context.Context) (history.Token, error)) {
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
			r.Untold = true
			r.RecordPanic(p)
		}
	}()
	r.Inv = history.Now()
	switch f {
	case byDo:
		v, r.Shared, err = c.g.Do(r.Key, func() (history.Token, error) { return fn(ctx) })
	case byTry:
		v, err = c.g.TryDo(r.Key, func() (history.Token, error) { return fn(ctx) })
	case byContext:
		v, r.Shared, err = c.g.DoContext(ctx, r.Key, fn)
	case byFresh:
		v, r.Shared, err = c.g.DoFresh(ctx, r.Key, fn)
	}
	r.Ret = history.Now()
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
	f := history.Forget{Key: key, Unshared: c.rng.IntN(3) == 0, Inv: history.Now()}
	if f.Unshared {
		f.Done = c.g.ForgetUnshared(key)
	} else {
		f.Done = c.g.Forget(key)
	}
	f.Ret = history.Now()
	c.forgets = append(c.forgets, f)
}
