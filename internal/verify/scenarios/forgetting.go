package scenarios

import (
	"context"
	"testing"
	"testing/synctest"
)

// This file holds the scenarios about Forget.

var forgetting = []Scenario{
	{
		Name: "14",
		Requires: "Forget while an execution runs; a second one starts; the first ends: a third call joins the second, " +
			"and all get the results of their own.",
		Run: forgottenEnds,
	},
	{
		Name:     "15",
		Requires: "Forget, and then the last caller of the forgotten execution leaves while a second one runs: that one is not disturbed.",
		Needs:    Contexts,
		Run:      forgottenIsLeft,
	},
	{
		Name:     "16",
		Requires: "Forget from inside fn, twice, and of a key without calls: nothing hangs, and the call gets its result.",
		Run:      forgetInsideFn,
	},
}

func forgottenEnds(_ *testing.T, p *Peer) error {
	g, h1, h2 := p.New(), newGate(), newGate()
	first := g.do("k", h1.then(value(1)))
	synctest.Wait()
	g.Forget("k")
	second := g.do("k", h2.then(value(2)))
	synctest.Wait()
	close(h1.open)
	synctest.Wait()
	third := g.do("k", value(3))
	synctest.Wait()
	var f faults
	if !first.got(1) {
		f.add("the caller of the forgotten execution does not get its result")
	}
	if third.over() {
		f.add("the third call does not join the second")
	}
	close(h2.open)
	synctest.Wait()
	if !second.got(2) || !third.got(2) {
		f.add("the second and third call do not get the second result")
	}
	f.usable(g, "k")
	return f.err()
}

func forgottenIsLeft(_ *testing.T, p *Peer) error {
	g, h := p.New(), newGate()
	ctx, cancel := context.WithCancel(context.Background())
	first := g.doContext(ctx, "k", func(ctx context.Context) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	synctest.Wait()
	g.Forget("k")
	second := g.doContext(context.Background(), "k", func(ctx context.Context) (any, error) {
		<-h.open
		return 2, ctx.Err()
	})
	synctest.Wait()
	cancel()
	synctest.Wait()
	third := g.doContext(context.Background(), "k", ctxValue(3))
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	var f faults
	if !first.gave(context.Canceled) {
		f.add("the caller that left gets %v and %v", first.v, first.err)
	}
	if !second.got(2) || !third.got(2) {
		f.add("the second execution is disturbed")
	}
	return f.err()
}

func forgetInsideFn(_ *testing.T, p *Peer) error {
	g := p.New()
	c := g.do("k", func() (any, error) {
		g.Forget("k")
		g.Forget("k")
		g.Forget("unused")
		return 1, nil
	})
	<-c.done
	var f faults
	if !c.got(1) {
		f.add("the call gets %v and %v", c.v, c.err)
	}
	f.usable(g, "k")
	return f.err()
}
