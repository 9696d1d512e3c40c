package model

import (
	"errors"
	"fmt"
	"testing"
)

// The states that a key can be in, each with how it gets there.
var states = []struct {
	name  string
	enter func(g *Group)
}{
	{"none", func(*Group) {}},
	{"running", func(g *Group) { begin(g, Do) }},
	{"shared", func(g *Group) { begin(g, Do); begin(g, Do) }},
	{"abandoned", func(g *Group) { g.Cancel(begin(g, DoContext)) }},
	{"promoted", func(g *Group) {
		begin(g, Do)
		slow := &Call{Form: DoFresh, Cause: errEnd, Slow: true}
		g.Begin(slow)
		g.Finish(g.registered[0], Return)
	}},
	{"forgotten", func(g *Group) { begin(g, Do); g.Forget(0) }},
	{"closed", func(g *Group) { g.Shutdown() }},
}

var errEnd = errors.New("end")

// begin makes a call of key 0, with a context that can end if the form has one.
func begin(g *Group, form Form) *Call {
	c := &Call{Form: form}
	if form != Do && form != TryDo {
		c.Cause = errEnd
	}
	g.Begin(c)
	return c
}

// outcome describes what became of c.
func outcome(g *Group, c *Call) string {
	switch c.Reply() {
	case Closed:
		return "ErrClosed"
	case InFlight:
		return "ErrInFlight"
	}
	switch f := c.Flight; {
	case f.Leader == c:
		return "lead"
	case f.State == Queued:
		return "queue"
	case f == g.registered[0] && len(f.Callers) > 1:
		return "join"
	}
	return "?"
}

// TestGroup_StateTable checks the state table of the contract, cell by cell.
func TestGroup_StateTable(t *testing.T) {
	want := map[string][]string{
		//            Do, DoContext, DoChan, DoFresh, TryDo, Forget, ForgetUnshared
		"none":      {"lead", "lead", "lead", "lead", "lead", "false", "true"},
		"running":   {"join", "join", "join", "queue", "ErrInFlight", "true", "true"},
		"shared":    {"join", "join", "join", "queue", "ErrInFlight", "true", "false"},
		"abandoned": {"queue", "queue", "queue", "queue", "ErrInFlight", "true", "true"},
		"promoted":  {"join", "join", "join", "queue", "ErrInFlight", "true", "true"},
		"forgotten": {"lead", "lead", "lead", "lead", "lead", "false", "true"},
		"closed":    {"ErrClosed", "ErrClosed", "ErrClosed", "ErrClosed", "ErrClosed", "false", "true"},
	}
	for _, s := range states {
		for i, w := range want[s.name] {
			var g Group
			s.enter(&g)
			var got string
			switch form := Form(i); form {
			case Forms:
				got = fmt.Sprint(g.Forget(0))
			case Forms + 1:
				got = fmt.Sprint(g.ForgetUnshared(0))
			default:
				got = outcome(&g, begin(&g, form))
			}
			if got != w {
				t.Errorf("%s, column %d: %s, want %s", s.name, i, got, w)
			}
		}
	}
}

// TestGroup_Queue checks that a successor starts when its predecessor finishes
// or is forgotten, led by the first that has not left, and evaporates when all
// have.
func TestGroup_Queue(t *testing.T) {
	for _, forget := range []bool{false, true} {
		for leavers := range 4 {
			var g Group
			first := begin(&g, Do)
			queue := []*Call{begin(&g, DoFresh), begin(&g, DoFresh), begin(&g, DoFresh)}
			for _, c := range queue[:leavers] {
				g.Cancel(c)
			}
			if forget {
				g.Forget(0)
			} else {
				g.Finish(first.Flight, Return)
			}
			f := g.registered[0]
			if leavers == len(queue) {
				if f != nil {
					t.Errorf("a successor that all have left is there: %+v", f)
				}
				continue
			}
			if f == nil || f.State != Running || f.Leader != queue[leavers] || f.Waiters() != len(queue)-leavers-1 {
				t.Errorf("forget %t, %d leavers: the key has %+v", forget, leavers, f)
			}
		}
	}
}

// TestGroup_Slow checks that a call whose context is slow to answer holds up the
// flight that it is to lead until it answers, or leaves.
func TestGroup_Slow(t *testing.T) {
	for _, leave := range []bool{false, true} {
		var g Group
		first := begin(&g, Do)
		slow := &Call{Form: DoFresh, Cause: errEnd, Slow: true}
		g.Begin(slow)
		next := begin(&g, DoFresh)
		g.Finish(first.Flight, Return)
		if f := g.registered[0]; f.State != Promoted || f.Picked != slow {
			t.Errorf("the key has %+v, want it promoted", f)
		}
		want := slow
		if leave {
			g.Cancel(slow)
			want = next
		}
		g.Resume(slow)
		if f := g.registered[0]; f.State != Running || f.Leader != want {
			t.Errorf("leave %t: the key has %+v", leave, f)
		}
		if left := slow.Reply() == Left; left != leave {
			t.Errorf("leave %t: the slow call has reply %d", leave, slow.Reply())
		}
	}
}
