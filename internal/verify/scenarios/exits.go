package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// This file holds the scenarios about fns that do not return: panics and Goexit.

var exits = []Scenario{
	{
		Name: "2",
		Requires: "fn panics with 1,000 callers waiting: each panics with an error that wraps the value and shows " +
			"fn's stack, and the key works afterwards.",
		Run: panicReachesAll,
	},
	{
		Name: "3",
		Requires: "fn calls runtime.Goexit, as t.FailNow does, with ten callers waiting: each gets an error or " +
			"exits, and none a nil error.",
		Run:   goexitReachesAll,
		Fails: map[string]string{Resenje: "10 of 10 callers get the zero value and a nil error"},
	},
	{
		Name:     "4",
		Requires: "fn calls runtime.Goexit with three receivers waiting on channels: each gets an error.",
		Needs:    Channels,
		Run:      goexitOnChannels,
		Fails:    map[string]string{XSync: "3 of 3 receivers wait forever"},
	},
	{
		Name:     "5",
		Requires: "fn panics with receivers waiting on channels: each gets an error that wraps the value.",
		Needs:    Channels,
		Run:      panicOnChannels,
		Fails:    map[string]string{XSync: crashes},
	},
	{
		Name:     "6",
		Requires: "fn panics when all callers have left: that is not silent.",
		Needs:    Contexts,
		Run:      unreceivedPanic,
		Fails:    map[string]string{Resenje: "the panic is silent"},
	},
	{
		Name:     "7",
		Requires: "Callers can distinguish panic(nil), an error and a runtime.Error by errors.Is and errors.As.",
		Run:      panicValues,
	},
	{
		Name:     "B27",
		Requires: "fn returns, as an error, the panic that it has recovered from another group: the call returns it and does not panic.",
		Run:      returnedPanic,
		Fails:    map[string]string{XSync: "the error that fn returned is thrown"},
	},
}

func panicReachesAll(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	calls := make([]*call, 1000)
	for i := range calls {
		calls[i] = g.do("k", h.then(func() (any, error) { panic(errTest) }))
	}
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	var f faults
	for _, c := range calls {
		err, _ := c.panic.(error)
		if !c.over() || !errors.Is(err, errTest) || !strings.Contains(fmt.Sprintf("%+v", err), "exits.go") {
			f.add("a caller gets %v", c.panic)
		}
	}
	if h.runs.Load() != 1 {
		f.add("%d executions", h.runs.Load())
	}
	f.usable(g, "k")
	return f.err()
}

func exit() (any, error) {
	runtime.Goexit()
	return "not to be seen", nil
}

func goexitReachesAll(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	calls := make([]*call, 10)
	for i := range calls {
		calls[i] = g.do("k", h.then(exit))
	}
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	var f faults
	hang, fooled := 0, 0
	for _, c := range calls {
		switch {
		case !c.over():
			hang++
		case !c.exited && c.err == nil && c.panic == nil:
			fooled++
		}
	}
	if hang > 0 {
		f.add("%d of 10 callers wait forever", hang)
	}
	if fooled > 0 {
		f.add("%d of 10 callers get the zero value and a nil error", fooled)
	}
	if h.runs.Load() != 1 {
		f.add("%d executions", h.runs.Load())
	}
	f.usable(g, "k")
	return f.err()
}

func goexitOnChannels(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	hang := 0
	var receivers []*call
	for range 3 {
		receivers = append(receivers, start(g.DoChan("k", h.then(exit))))
	}
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	var f faults
	for _, c := range receivers {
		if !c.over() {
			hang++
		} else if c.err == nil {
			f.add("a receiver gets %v and a nil error", c.v)
		}
	}
	if hang > 0 {
		f.add("%d of 3 receivers wait forever", hang)
	}
	return f.err()
}

func panicOnChannels(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	var receivers []*call
	for range 3 {
		receivers = append(receivers, start(g.DoChan("k", h.then(func() (any, error) { panic(errTest) }))))
	}
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	var f faults
	for _, c := range receivers {
		if !c.over() || !errors.Is(c.err, errTest) {
			f.add("a receiver gets %v", c.err)
		}
	}
	f.usable(g, "k")
	return f.err()
}

func unreceivedPanic(_ *testing.T, p *Peer) error {
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	g := p.New()
	ctx, cancel := context.WithCancel(context.Background())
	c := g.doContext(ctx, "k", func(ctx context.Context) (any, error) {
		<-ctx.Done()
		panic("no caller listens")
	})
	synctest.Wait()
	cancel()
	synctest.Wait()
	var f faults
	if !c.gave(context.Canceled) {
		f.add("the caller gets %v", c.err)
	}
	if !strings.Contains(log.String(), "no caller listens") {
		f.add("the panic is silent")
	}
	f.usable(g, "k")
	return f.err()
}

func panicValues(_ *testing.T, p *Peer) error {
	var f faults
	panicOfCall := func(fn func()) error {
		g := p.New()
		c := g.do("k", func() (any, error) { fn(); return nil, nil })
		<-c.done
		f.usable(g, "k")
		err, _ := c.panic.(error)
		return err
	}
	if err := panicOfCall(func() { panic(nil) }); !errors.As(err, new(*runtime.PanicNilError)) {
		f.add("panic(nil) becomes %v", err)
	}
	if err := panicOfCall(func() { panic(errTest) }); !errors.Is(err, errTest) {
		f.add("an error becomes %v", err)
	}
	if err := panicOfCall(func() { var none []int; none[len(none)]++ }); !errors.As(err, new(runtime.Error)) {
		f.add("a runtime.Error becomes %v", err)
	}
	return f.err()
}

func returnedPanic(_ *testing.T, p *Peer) error {
	inner, outer := p.New(), p.New()
	c := outer.do("k", func() (v any, err error) {
		defer func() { err, _ = recover().(error) }()
		v, _, err = inner.Do("k", func() (any, error) { panic(errTest) })
		return v, err
	})
	<-c.done
	var f faults
	if c.panic != nil {
		f.add("the error that fn returned is thrown")
	} else if !errors.Is(c.err, errTest) {
		f.add("the caller gets %v", c.err)
	}
	return f.err()
}
