package scenarios

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds the scenarios about which execution may answer a call, and how
// many there may be at once.

const stale = "calls are answered by an execution that had answered others before they began"

var freshness = []Scenario{
	{
		Name:     "8",
		Requires: "A call that begins after an execution has answered another is not answered by that execution.",
		Run:      neverStale,
		Fails:    map[string]string{Resenje: stale},
	},
	{
		Name:     "17",
		Requires: "8,000 calls of one key are one execution, and all get its result; other keys work meanwhile.",
		Run:      hotKey,
	},
	{
		Name: "18",
		Requires: "All callers have left, and fn ignores that its context has ended: a newcomer does not get " +
			"that execution's result, and its own does not begin before that one has ended.",
		Needs: Contexts,
		Run:   newcomerAfterAbandonment,
		Fails: map[string]string{Resenje: "two executions of the key run at once"},
	},
	{
		Name:     "19",
		Requires: "A newcomer comes in the instant in which the last caller leaves: it gets a value, never the other's cancellation.",
		Needs:    Contexts,
		Run:      newcomerAsTheLastLeaves,
	},
	{
		Name: "31",
		Requires: "A storm of calls in all forms on two keys, with callers that leave and then with Forget: no result " +
			"is stale or of another key, and without Forget no key has two executions at once.",
		Run:   storm,
		Fails: map[string]string{Resenje: stale},
	},
	{
		Name:     "B20",
		Requires: "A thousand calls, each of which leaves, come before one that stays: it gets its result.",
		Needs:    Contexts,
		Run:      oneStays,
	},
}

func neverStale(_ *testing.T, p *Peer) error {
	g, h := p.New(), newHistory()
	fn := h.fn("k", func() { time.Sleep(50 * time.Microsecond) })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				h.call("k", func() (any, bool, error) { return g.Do("k", fn) })
			}
		})
	}
	wg.Wait()
	return h.err()
}

func hotKey(_ *testing.T, p *Peer) error {
	const n = 8000 // the race detector can do with 8,128 goroutines
	g, h := p.New(), newGate()
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = g.do("k", h.then(value(1)))
	}
	synctest.Wait()
	var f faults
	f.usable(g, "other")
	close(h.open)
	synctest.Wait()
	for _, c := range calls {
		if !c.got(1) {
			f.add("a caller does not get the result")
		}
	}
	if h.runs.Load() != 1 {
		f.add("%d executions", h.runs.Load())
	}
	return f.err()
}

func newcomerAfterAbandonment(_ *testing.T, p *Peer) error {
	var f faults
	g, h := p.New(), newGate()
	var running, ended atomic.Bool
	ctx, cancel := context.WithCancel(context.Background())
	first := g.doContext(ctx, "k", func(ctx context.Context) (any, error) {
		running.Store(true)
		defer running.Store(false)
		<-h.open
		ended.Store(ctx.Err() != nil)
		return 1, nil
	})
	synctest.Wait()
	cancel()
	synctest.Wait()
	if !first.gave(context.Canceled) {
		f.add("the caller that leaves does not return at once with its context's error")
	}
	second := g.doContext(context.Background(), "k", func(context.Context) (any, error) {
		if running.Load() {
			f.add("two executions of the key run at once")
		}
		return 2, nil
	})
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	if !second.got(2) {
		f.add("the newcomer does not get a result of its own")
	}
	if !ended.Load() {
		f.add("fn's context has not ended")
	}
	f.usable(g, "k")
	return f.err()
}

func newcomerAsTheLastLeaves(_ *testing.T, p *Peer) error {
	g := p.New()
	fn := func(ctx context.Context) (any, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
			return 1, nil
		}
	}
	for range 1000 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		g.doContext(ctx, "k", fn)
		newcomer := start(func() (any, bool, error) {
			time.Sleep(time.Second)
			return g.DoContext(context.Background(), "k", fn)
		})
		time.Sleep(10 * time.Second)
		cancel()
		if !newcomer.got(1) {
			return errors.New("the newcomer gets the other's cancellation")
		}
	}
	return nil
}

func storm(_ *testing.T, p *Peer) error {
	for _, forgets := range []bool{false, true} {
		g, h := p.New(), newHistory()
		keys := []string{"a", "b"}
		pause := func() { time.Sleep(rand.N(100 * time.Microsecond)) }
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 500 {
					key := keys[rand.IntN(2)]
					fn := h.fn(key, pause)
					switch n := rand.IntN(10); {
					case n < 3 && p.Has&Contexts != 0:
						ctx, cancel := context.WithTimeout(context.Background(), rand.N(100*time.Microsecond))
						h.call(key, func() (any, bool, error) {
							return g.DoContext(ctx, key, func(context.Context) (any, error) { return fn() })
						})
						cancel()
					case n < 5 && p.Has&Channels != 0:
						h.call(key, func() (any, bool, error) { return g.DoChan(key, fn)() })
					case n < 6 && forgets:
						g.Forget(key)
					default:
						h.call(key, func() (any, bool, error) { return g.Do(key, fn) })
					}
				}
			})
		}
		wg.Wait()
		h.mayOverlap = forgets
		time.Sleep(time.Second) // for fns that all callers have left
		if err := h.err(); err != nil {
			return err
		}
	}
	return nil
}

func oneStays(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	for range 1000 {
		ctx, cancel := context.WithCancel(context.Background())
		c := g.doContext(ctx, "k", h.ctxThen(value("left")))
		synctest.Wait()
		cancel()
		<-c.done
	}
	stays := g.doContext(context.Background(), "k", ctxValue("stays"))
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	if !stays.got("stays") {
		return errors.New("the call that stays does not get its result")
	}
	return nil
}

// A history is the record of executions and calls of some keys. An execution returns its
// own record, so that each call shows which execution has answered it.
type history struct {
	clock      atomic.Int64 // of events
	running    map[string]*atomic.Int32
	overlapped atomic.Bool
	mayOverlap bool
	stale      atomic.Bool
	foreign    atomic.Bool
}

// An execution is one run of an fn.
type execution struct {
	key   string
	first atomic.Int64 // when it had answered a call; 0 before
}

func newHistory() *history {
	h := &history{running: make(map[string]*atomic.Int32)}
	for _, key := range []string{"k", "a", "b"} {
		h.running[key] = new(atomic.Int32)
	}
	return h
}

// fn returns an fn that does work and yields a new execution.
func (h *history) fn(key string, work func()) func() (any, error) {
	return func() (any, error) {
		if h.running[key].Add(1) > 1 {
			h.overlapped.Store(true)
		}
		defer h.running[key].Add(-1)
		work()
		return &execution{key: key}, nil
	}
}

// call makes a call and judges its answer.
func (h *history) call(key string, do func() (any, bool, error)) {
	began := h.clock.Add(1)
	v, _, err := do()
	e, ok := v.(*execution)
	if err != nil {
		return
	}
	if !ok || e.key != key {
		h.foreign.Store(true)
		return
	}
	if first := e.first.Load(); first != 0 && first < began {
		h.stale.Store(true)
	}
	e.first.CompareAndSwap(0, h.clock.Add(1))
}

// err returns the worst error.
func (h *history) err() error {
	switch {
	case h.foreign.Load():
		return errors.New("calls get results of another key")
	case h.stale.Load():
		return errors.New(stale)
	case h.overlapped.Load() && !h.mayOverlap:
		return errors.New("two executions of the key run at once")
	}
	return nil
}
