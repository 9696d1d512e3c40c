package scenarios

import (
	"io/fs"
	"testing"
	"testing/synctest"
)

// This file holds the scenarios about the results of the callers of one execution.

var answers = []Scenario{
	{
		Name: "23",
		Requires: "shared is true for leader and follower when both get the result, and false for a call that was " +
			"alone. (Its value after the follower has left is a matter of definition.)",
		Run: sharedFlag,
	},
	{
		Name:     "24",
		Requires: "A caller that is slow to take its result, while a thousand later calls of other keys are done, gets its own.",
		Run:      slowReader,
	},
	{
		Name:     "32",
		Requires: "All callers get the same error by ==, beside a value too, and of a type that hides a nil pointer too.",
		Run:      errorIdentity,
	},
	{
		Name:     "33",
		Requires: "A value is not copied deeply: all callers get the same pointer.",
		Run:      samePointer,
	},
}

// together returns calls of one execution that ends as given: a leader and three
// followers.
func together(g *Group, end func() (any, error)) []*call {
	h := newGate()
	var calls []*call
	for range 4 {
		calls = append(calls, g.do("k", h.then(end)))
		synctest.Wait()
	}
	close(h.open)
	synctest.Wait()
	return calls
}

func sharedFlag(_ *testing.T, p *Peer) error {
	var f faults
	g := p.New()
	for _, c := range together(g, value(1)) {
		if !c.got(1) || !c.shared {
			f.add("a caller of a shared execution gets shared false")
		}
	}
	if _, shared, _ := g.Do("k", value(2)); shared {
		f.add("a caller that was alone gets shared true")
	}
	return f.err()
}

func slowReader(_ *testing.T, p *Peer) error {
	const n = 1000
	var f faults
	g, h := p.New(), newGate()
	slow := make([]func() (any, bool, error), n)
	for i := range slow {
		if p.Has&Channels != 0 {
			g.do(name(i), h.then(value(i)))
			synctest.Wait()
			slow[i] = g.DoChan(name(i), value("not to be run"))
		} else {
			g.do(name(i), h.then(value(i)))
			c := g.do(name(i), h.then(value(i)))
			slow[i] = func() (any, bool, error) { <-c.done; return c.v, c.shared, c.err }
		}
	}
	synctest.Wait()
	close(h.open)
	for i := range n {
		if v, _, err := g.Do(name(n+i), value(n+i)); v != n+i || err != nil {
			f.add("a later call gets another result than its own")
		}
	}
	for i, receive := range slow {
		if v, _, err := receive(); v != i || err != nil {
			f.add("a slow caller gets another result than its own")
		}
	}
	return f.err()
}

func errorIdentity(_ *testing.T, p *Peer) error {
	var f faults
	for _, want := range []error{errTest, (*fs.PathError)(nil)} {
		for _, v := range []any{nil, 1} {
			for _, c := range together(p.New(), func() (any, error) { return v, want }) {
				if !c.over() || c.v != v || c.err != want {
					f.add("a caller gets %v and another error", c.v)
				}
			}
		}
	}
	return f.err()
}

func samePointer(_ *testing.T, p *Peer) error {
	calls := together(p.New(), func() (any, error) { return new(int), nil })
	var f faults
	for _, c := range calls {
		if v, ok := c.v.(*int); !ok || v != calls[0].v {
			f.add("a caller gets another pointer")
		}
	}
	return f.err()
}
