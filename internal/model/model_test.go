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
	{"overdue", func(g *Group) { g.MaxAge = 1; begin(g, Do); g.Tick() }},
	{"full", func(g *Group) { g.MaxWaiters = 1; begin(g, Do); begin(g, Do) }},
	{"lingers", func(g *Group) { g.Linger = 2; g.Finish(begin(g, Do).Flight, Return); g.Tick() }},
	{"expired", func(g *Group) { g.Linger = 1; g.Finish(begin(g, Do).Flight, Return); g.Tick() }},
	{"one of a batch has callers", func(g *Group) {
		cs := beginMulti(g)
		begin(g, Do, 1)
		g.Cancel(cs[0])
	}},
	{"the batch is abandoned", func(g *Group) { g.Cancel(beginMulti(g)[0]) }},
	{"forgotten", func(g *Group) { begin(g, Do); g.Forget(0) }},
	{"closed", func(g *Group) { g.Shutdown() }},
}

var errEnd = errors.New("end")

// begin makes a call of key 0, or the one given, with a context that can end if
// the form has one.
func begin(g *Group, form Form, key ...int) *Call {
	c := newCall(form, append(key, 0)[0])
	g.Begin(c)
	return c
}

// beginMulti makes a DoMulti of keys 0 and 1.
func beginMulti(g *Group) []*Call {
	cs := []*Call{newCall(DoMulti, 0), newCall(DoMulti, 1)}
	g.Begin(cs...)
	return cs
}

func newCall(form Form, key int) *Call {
	c := &Call{Key: key, Form: form}
	if form != Do && form != TryDo {
		c.Cause = errEnd
	}
	return c
}

// outcome describes what became of c.
func outcome(g *Group, c *Call) string {
	switch c.Reply() {
	case Closed:
		return "ErrClosed"
	case InFlight:
		return "ErrInFlight"
	case Saturated:
		return "ErrSaturated"
	case Result:
		return "answer"
	}
	switch f := c.Flight; {
	case f.Leader == c:
		return "lead"
	case f.State == Queued:
		return "queue"
	case f == g.registered[0] && f.Joined:
		return "join"
	}
	return "?"
}

// TestGroup_StateTable checks the state table of the contract, cell by cell.
func TestGroup_StateTable(t *testing.T) {
	want := map[string][]string{
		//           Do, DoContext, DoChan, DoFresh, DoMulti, TryDo, Forget, ForgetUnshared
		"none":                       {"lead", "lead", "lead", "lead", "lead", "lead", "false", "true"},
		"running":                    {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "true"},
		"shared":                     {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "false"},
		"abandoned":                  {"queue", "queue", "queue", "queue", "queue", "ErrInFlight", "true", "true"},
		"promoted":                   {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "true"},
		"overdue":                    {"lead", "lead", "lead", "lead", "lead", "lead", "true", "true"},
		"full":                       {"ErrSaturated", "ErrSaturated", "ErrSaturated", "queue", "ErrSaturated", "ErrInFlight", "true", "false"},
		"lingers":                    {"answer", "answer", "answer", "lead", "answer", "answer", "true", "true"},
		"expired":                    {"lead", "lead", "lead", "lead", "lead", "lead", "false", "true"},
		"one of a batch has callers": {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "true"},
		"the batch is abandoned":     {"queue", "queue", "queue", "queue", "queue", "ErrInFlight", "true", "true"},
		"forgotten":                  {"lead", "lead", "lead", "lead", "lead", "lead", "false", "true"},
		"closed":                     {"ErrClosed", "ErrClosed", "ErrClosed", "ErrClosed", "ErrClosed", "ErrClosed", "false", "true"},
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

// TestGroup_Limits checks when a queue is full, and when it starts.
func TestGroup_Limits(t *testing.T) {
	g := Group{MaxWaiters: 1, MaxAge: 2}
	old := begin(&g, Do)
	g.Tick()
	var queue []*Call
	for range 3 {
		queue = append(queue, begin(&g, DoFresh))
	}
	// One that is to lead, one that waits for it.
	if queue[1].Reply() != Pending || queue[2].Reply() != Saturated {
		t.Errorf("the queue's replies are %d and %d", queue[1].Reply(), queue[2].Reply())
	}
	if g.registered[0] != old.Flight {
		t.Errorf("the key has %+v", g.registered[0])
	}
	g.Tick()
	if f := g.registered[0]; f.Leader != queue[0] || f.Since != 2 || !old.Flight.Forgotten || g.Stats.TakenOver != 1 {
		t.Errorf("at MaxAge the key has %+v", f)
	}
	g.Tick()
	g.Tick()
	if f := begin(&g, DoFresh).Flight; f.State != Running || f.Since != 4 {
		t.Errorf("what is queued behind an overdue flight is %+v", f)
	}
}

// TestGroup_Linger checks what begins to linger, and what ends that.
func TestGroup_Linger(t *testing.T) {
	for _, test := range []struct {
		name  string
		do    func(g *Group)
		lasts bool
	}{
		{"nothing", func(*Group) {}, true},
		{"an error", func(g *Group) { g.Finish(begin(g, DoFresh).Flight, Error) }, false},
		{"a forgotten flight", func(g *Group) {
			g.Forget(0)
			f := begin(g, Do).Flight
			g.Finish(begin(g, DoFresh, 1).Flight, Return)
			g.Forget(0)
			g.Finish(f, Return)
		}, false},
		{"an abandoned flight", func(g *Group) {
			c := begin(g, DoFresh)
			g.Cancel(c)
			g.Finish(c.Flight, Return)
		}, false},
		{"a queue", func(g *Group) {
			f := begin(g, DoFresh).Flight
			begin(g, DoFresh)
			g.Finish(f, Return)
		}, false},
		{"one more than LingerMax", func(g *Group) {
			for key := 1; key <= g.LingerMax; key++ {
				g.Finish(begin(g, Do, key).Flight, Return)
			}
		}, false},
		{"one that lingered again", func(g *Group) {
			g.Finish(begin(g, Do, 1).Flight, Return)
			g.Finish(begin(g, DoFresh).Flight, Return)
			g.Finish(begin(g, Do, 2).Flight, Return)
		}, true},
		{"an absent key", func(g *Group) {
			g.Forget(0)
			c := newCall(DoMulti, 0)
			c.Absent = true
			g.Begin(c)
			g.Finish(c.Flight, Return)
		}, false},
		{"Shutdown", func(g *Group) { g.Shutdown() }, false},
	} {
		g := Group{Linger: Forever, LingerMax: 2}
		g.Finish(begin(&g, Do).Flight, Return)
		test.do(&g)
		if lasts := g.lingering(0) != nil; lasts != test.lasts {
			t.Errorf("after %s a success lingers: %t", test.name, lasts)
		}
	}
}

// TestGroup_Multi checks that the flights of a batch end together, and that a
// DoMulti returns when all its keys have been answered.
func TestGroup_Multi(t *testing.T) {
	var g Group
	running := begin(&g, Do, 1)
	abandoned := begin(&g, DoContext, 2)
	g.Cancel(abandoned)
	cs := []*Call{newCall(DoMulti, 0), newCall(DoMulti, 1), newCall(DoMulti, 2), newCall(DoMulti, 3)}
	g.Begin(cs...)
	if batch := cs[0].Flight.Batch; len(batch) != 2 || batch[1] != cs[3].Flight {
		t.Errorf("the batch is %+v", batch)
	}
	g.Finish(cs[3].Flight, Return)
	g.Finish(abandoned.Flight, Return)
	if f := cs[2].Flight; cs[0].Flight.State != Finished || f.Leader != cs[2] || len(f.Batch) != 1 {
		t.Errorf("the key that was queued has %+v", f)
	}
	g.Finish(cs[2].Flight, Error)
	if cs[0].Reply() != Pending {
		t.Error("a DoMulti has returned before all its keys are there")
	}
	g.Cancel(cs[0])
	if cs[0].Reply() != Result || cs[1].Reply() != Left || cs[2].Reply() != Result || running.Reply() != Pending {
		t.Errorf("replies %d, %d, %d, %d", cs[0].Reply(), cs[1].Reply(), cs[2].Reply(), running.Reply())
	}
}
