package scenarios

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds the scenarios about callers' contexts and the one of fn.

var contexts = []Scenario{
	{
		Name: "1",
		Requires: "A follower's context ends in the instant in which fn returns (2,000 times): the follower gets " +
			"the result or its context's error, never both or neither, and nothing of it is left for the next call.",
		Needs: Contexts,
		Run:   sameInstant,
	},
	{
		Name:     "20",
		Requires: "A context that has ended on entry starts nothing and joins nothing: the call returns its error.",
		Needs:    Contexts,
		Run:      endedOnEntry,
		Fails:    map[string]string{Resenje: "fn is started"},
	},
	{
		Name: "21",
		Requires: "The leader's context ends: the leader returns at once, a follower gets its result; fn's context " +
			"has the values of the leader's, but not its deadline.",
		Needs: Contexts,
		Run:   leaderLeaves,
	},
	{
		Name:     "22",
		Requires: "A caller leaves with a cause: it gets ctx.Err(), and context.Cause of fn's context is the caller's.",
		Needs:    Contexts,
		Run:      causeIsCallers,
		Fails:    map[string]string{Resenje: "the cause of fn's context is not the caller's"},
	},
	{
		Name:     "28",
		Requires: "fn hangs, and all callers have deadlines: each returns at its own, to the nanosecond.",
		Needs:    Contexts,
		Run:      fnHangs,
	},
	{
		Name:     "29",
		Requires: "GOMAXPROCS is 1 and fn spins: a follower's deadline fires all the same.",
		Needs:    Contexts,
		Outside:  true,
		Run:      fnSpins,
	},
	{
		Name: "B15",
		Requires: "fn's context does not end because fn has returned: objects that depend on it, as an " +
			"http.Response.Body does, can still be used by their callers.",
		Needs: Contexts,
		Run:   contextOutlivesCall,
		Fails: map[string]string{Resenje: "fn's context has ended when the call returns"},
	},
	{
		Name: "B17",
		Requires: "A follower's context ends while fn runs, and the execution is over before the follower has been " +
			"scheduled to see it: the follower gets the result.",
		Needs: Contexts,
		Run:   resultFirst,
		Fails: map[string]string{Resenje: "a follower gets its context's error for the result that is there"},
	},
}

func sameInstant(_ *testing.T, p *Peer) error {
	g := p.New()
	for i := range 2000 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		leader := g.do("k", func() (any, error) {
			time.Sleep(time.Second)
			return i, nil
		})
		synctest.Wait()
		follower := g.doContext(ctx, "k", ctxValue("not to be run"))
		time.Sleep(2 * time.Second)
		cancel()
		var f faults
		if !leader.got(i) {
			f.add("the leader does not get its result")
		}
		if !follower.got(i) && !follower.gave(context.DeadlineExceeded) {
			f.add("the follower gets %v and %v", follower.v, follower.err)
		}
		f.usable(g, "k")
		if err := f.err(); err != nil {
			return err
		}
	}
	return nil
}

func endedOnEntry(_ *testing.T, p *Peer) error {
	var f faults
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fn := func(context.Context) (any, error) {
		f.add("fn is started")
		return 1, nil
	}
	for range 100 {
		g, h := p.New(), newGate()
		v, _, err := g.DoContext(ctx, "k", fn)
		synctest.Wait()
		if f.err() != nil {
			break // and the result of the call may be a matter of chance
		}
		if v != nil || err != context.Canceled {
			f.add("a call that finds none running gets %v and %v", v, err)
		}
		leader := g.do("busy", h.then(value(1)))
		synctest.Wait()
		if v, _, err := g.DoContext(ctx, "busy", fn); v != nil || err != context.Canceled {
			f.add("a call that finds one running gets %v and %v", v, err)
		}
		close(h.open)
		synctest.Wait()
		if !leader.got(1) {
			f.add("the leader does not get its result")
		}
	}
	return f.err()
}

func leaderLeaves(_ *testing.T, p *Peer) error {
	type tag struct{}
	var f faults
	g, h, begin := p.New(), newGate(), time.Now()
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), tag{}, "leader's"), time.Second)
	defer cancel()
	leader := start(func() (any, bool, error) {
		v, shared, err := g.DoContext(ctx, "k", func(ctx context.Context) (any, error) {
			if ctx.Value(tag{}) != "leader's" {
				f.add("fn's context lacks the values of the leader's")
			}
			if _, ok := ctx.Deadline(); ok {
				f.add("fn's context has a deadline")
			}
			<-h.open
			return 1, ctx.Err()
		})
		if time.Since(begin) != time.Second {
			f.add("the leader does not return when its context ends")
		}
		return v, shared, err
	})
	synctest.Wait()
	follower := g.doContext(context.Background(), "k", ctxValue("not to be run"))
	time.Sleep(time.Minute)
	if !leader.gave(context.DeadlineExceeded) {
		f.add("the leader does not get its context's error")
	}
	close(h.open)
	synctest.Wait()
	if !follower.got(1) {
		f.add("the follower does not get the result")
	}
	return f.err()
}

func causeIsCallers(_ *testing.T, p *Peer) error {
	var f faults
	g := p.New()
	ctx, cancel := context.WithCancelCause(context.Background())
	c := g.doContext(ctx, "k", func(ctx context.Context) (any, error) {
		<-ctx.Done()
		if context.Cause(ctx) != errTest {
			f.add("the cause of fn's context is not the caller's")
		}
		return nil, nil
	})
	synctest.Wait()
	cancel(errTest)
	synctest.Wait()
	if !c.gave(context.Canceled) {
		f.add("the caller does not get its context's error")
	}
	return f.err()
}

func fnHangs(_ *testing.T, p *Peer) error {
	var f faults
	g, h, begin := p.New(), newGate(), time.Now()
	for i := range 10 {
		limit := time.Duration(i+1) * time.Second
		start(func() (any, bool, error) {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			v, _, err := g.DoContext(ctx, "k", h.ctxThen(value(1)))
			if v != nil || err != context.DeadlineExceeded {
				f.add("a caller gets %v and %v", v, err)
			}
			if time.Since(begin) != limit {
				f.add("a caller does not return at its deadline")
			}
			return nil, false, nil
		})
		synctest.Wait()
	}
	time.Sleep(time.Minute)
	if h.runs.Load() != 1 {
		f.add("%d executions", h.runs.Load())
	}
	close(h.open)
	synctest.Wait()
	f.usable(g, "k")
	return f.err()
}

func fnSpins(_ *testing.T, p *Peer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g := p.New()
	var spinning, stop, timely atomic.Bool
	leader := g.do("k", func() (any, error) {
		spinning.Store(true)
		for begin := time.Now(); !stop.Load() && time.Since(begin) < 20*time.Second; {
		}
		timely.Store(stop.Load())
		return 1, nil
	})
	for !spinning.Load() {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	v, _, err := g.DoContext(ctx, "k", ctxValue("not to be run"))
	stop.Store(true)
	<-leader.done
	if v != nil || err != context.DeadlineExceeded || !timely.Load() {
		return errors.New("a follower waits for fn although its deadline has come")
	}
	return nil
}

func contextOutlivesCall(_ *testing.T, p *Peer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	v, _, err := p.New().DoContext(ctx, "k", func(ctx context.Context) (any, error) { return ctx, nil })
	if err != nil {
		return err
	}
	if v.(context.Context).Err() != nil {
		return errors.New("fn's context has ended when the call returns")
	}
	return nil
}

func resultFirst(_ *testing.T, p *Peer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const n = 1000
	g, missed := p.New(), 0
	for range n {
		h := newGate()
		ctx, cancel := context.WithCancel(context.Background())
		g.do("k", h.then(func() (any, error) {
			cancel() // the follower is ready, but has to wait for the only P
			return 1, nil
		}))
		synctest.Wait()
		follower := g.doContext(ctx, "k", ctxValue("not to be run"))
		synctest.Wait()
		close(h.open)
		synctest.Wait()
		if !follower.got(1) {
			missed++
		}
	}
	if missed > n/10 { // where the machine is busy, the leader may lose its P in between
		return errors.New("a follower gets its context's error for the result that is there")
	}
	return nil
}
