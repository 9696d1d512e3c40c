package model

import (
	"errors"
	"fmt"
	"testing"
)

// The states that a key can be in, each with the steps that lead there.
var states = []struct {
	name  string
	enter func(g *Group)
}{
	{"none", func(*Group) {}},
	{"running", func(g *Group) { begin(g, Do) }},
	{"shared", func(g *Group) { begin(g, Do); begin(g, Do) }},
	{"abandoned", func(g *Group) { g.Cancel(begin(g, DoContext)) }},
	{"held", func(g *Group) { hold(g, begin(g, DoContext)) }},
	{"shared and held", func(g *Group) {
		c := begin(g, DoContext)
		g.Cancel(begin(g, DoContext))
		hold(g, c)
	}},
	{"promoted", func(g *Group) {
		begin(g, Do)
		slow := &Call{Form: DoFresh, Cause: errEnd, Slow: true}
		g.Begin(slow)
		g.Finish(g.lookup(0), Return)
	}},
	{"overdue", func(g *Group) { g.MaxAge = 1; begin(g, Do); g.Tick() }},
	{"full", func(g *Group) { g.MaxWaiters = 1; begin(g, Do); begin(g, Do) }},
	{"lingers", func(g *Group) { g.Linger = 2; g.Finish(begin(g, Do).Flight, Return); g.Tick() }},
	{"an error lingers", func(g *Group) {
		g.LingerFor = true
		c := begin(g, Do)
		c.Life = 2
		g.Finish(c.Flight, Error)
		g.Tick()
	}},
	{"lingers beside a flight", func(g *Group) {
		g.Linger = 2
		g.Finish(begin(g, Do).Flight, Return)
		begin(g, DoFresh)
	}},
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

// hold holds the flight of c, its only caller, and makes c leave.
func hold(g *Group, c *Call) {
	g.Hold(c.Flight)
	g.Cancel(c)
}

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

// became describes the state of c.
func became(g *Group, c *Call) string {
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
	case f == g.lookup(0) && f.Joined:
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
		"held":                       {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "true"},
		"shared and held":            {"join", "join", "join", "queue", "join", "ErrInFlight", "true", "false"},
		"an error lingers":           {"answer", "answer", "answer", "lead", "answer", "answer", "true", "true"},
		"lingers beside a flight":    {"answer", "answer", "answer", "queue", "answer", "answer", "true", "true"},
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
				got = became(&g, begin(&g, form))
			}
			if got != w {
				t.Errorf("%s, column %d: got %s, want %s", s.name, i, got, w)
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
			f := g.lookup(0)
			if leavers == len(queue) {
				if f != nil {
					t.Errorf("got %+v, want no successor after all have left", f)
				}
				continue
			}
			if f == nil || f.State != Running || f.Leader != queue[leavers] || f.Waiters() != len(queue)-leavers-1 {
				t.Errorf("forget %t, %d leavers: got %+v, want it led by the first that stays", forget, leavers, f)
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
		if f := g.lookup(0); f.State != Promoted || f.Picked != slow {
			t.Errorf("got %+v, want it promoted", f)
		}
		want := slow
		if leave {
			g.Cancel(slow)
			want = next
		}
		g.Resume(slow)
		if f := g.lookup(0); f.State != Running || f.Leader != want {
			t.Errorf("leave %t: got %+v, want it running", leave, f)
		}
		if left := slow.Reply() == Left; left != leave {
			t.Errorf("leave %t: the slow call: got reply %d, want Left only if it leaves", leave, slow.Reply())
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
		t.Errorf("got replies %d and %d in the queue, want %d and %d", queue[1].Reply(), queue[2].Reply(), Pending, Saturated)
	}
	if g.lookup(0) != old.Flight {
		t.Errorf("got %+v, want the old flight", g.lookup(0))
	}
	g.Tick()
	if f := g.lookup(0); f.Leader != queue[0] || f.Since != 2 || !old.Flight.Forgotten || g.Stats.TakenOver != 1 {
		t.Errorf("at MaxAge: got %+v, want the flight of the queue", f)
	}
	g.Tick()
	g.Tick()
	if f := begin(&g, DoFresh).Flight; f.State != Running || f.Since != 4 {
		t.Errorf("behind an overdue flight: got %+v, want it running", f)
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
		t.Errorf("got %+v, want the batch of keys 0 and 3", batch)
	}
	g.Finish(cs[3].Flight, Return)
	g.Finish(abandoned.Flight, Return)
	if f := cs[2].Flight; cs[0].Flight.State != Finished || f.Leader != cs[2] || len(f.Batch) != 1 {
		t.Errorf("the queued key: got %+v, want it led alone", f)
	}
	g.Finish(cs[2].Flight, Error)
	if cs[0].Reply() != Pending {
		t.Error("got a DoMulti that returns before all its keys are there, want it to wait")
	}
	g.Cancel(cs[0])
	if cs[0].Reply() != Result || cs[1].Reply() != Left || cs[2].Reply() != Result || running.Reply() != Pending {
		t.Errorf("got replies %d, %d, %d, %d, want %d, %d, %d, %d", cs[0].Reply(), cs[1].Reply(), cs[2].Reply(), running.Reply(), Result, Left, Result, Pending)
	}
}

// TestGroup_Hold checks that a flight that is held is not abandoned, and that its context
// ends with it if no call gets its outcome and that does not linger.
func TestGroup_Hold(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(g *Group)
		want error // the cause of its context's end
	}{
		{"nothing", func(*Group) {}, ErrCanceled},
		{"a call joins", func(g *Group) { begin(g, Do) }, nil},
		{"a call joins and leaves", func(g *Group) { g.Cancel(begin(g, DoContext)) }, ErrCanceled},
		{"a call joins the other flight of the batch", func(g *Group) { begin(g, Do, 1) }, nil},
		{"an outcome lingers", func(g *Group) { g.Linger = 1 }, nil},
		{"one outcome of two lingers", func(g *Group) { g.Linger = 1; g.Forget(0) }, nil},
		{"both are forgotten", func(g *Group) { g.Linger = 1; g.Forget(0); g.Forget(1) }, ErrCanceled},
		{"both have a successor", func(g *Group) { g.Linger = 1; begin(g, DoFresh); begin(g, DoFresh, 1) }, ErrCanceled},
		{"Shutdown", func(g *Group) { g.Linger = 1; g.Shutdown() }, ErrCanceled},
		{"Shutdown is out of time", func(g *Group) { g.Shutdown(); g.OutOfTime() }, ErrClosed},
	} {
		var g Group
		cs := beginMulti(&g)
		if !g.Hold(cs[1].Flight) {
			t.Errorf("%s: got false, want a flight that runs held", test.name)
		}
		g.Cancel(cs[0])
		f := cs[0].Flight
		if f.State != Running || f.Cause != nil || g.Stats.Abandoned != 0 {
			t.Errorf("%s: without callers: got %+v, want it running", test.name, f)
		}
		test.do(&g)
		g.Finish(f, Return)
		if f.Cause != test.want {
			t.Errorf("%s: got the cause %v, want %v", test.name, f.Cause, test.want)
		}
	}
}

// TestGroup_HoldTooLate checks which flights cannot be held.
func TestGroup_HoldTooLate(t *testing.T) {
	var g Group
	abandoned := begin(&g, DoContext).Flight
	g.Cancel(abandoned.Leader)
	over := begin(&g, DoContext, 1).Flight
	g.Finish(over, Return)
	inline := begin(&g, Do, 2).Flight
	for name, f := range map[string]*Flight{"abandoned": abandoned, "finished": over, "of a Do": inline} {
		if g.Hold(f) || f.Held {
			t.Errorf("a flight that is %s: got true, want false", name)
		}
	}
}

// TestGroup_ForgetFlight checks that it forgets that flight only.
func TestGroup_ForgetFlight(t *testing.T) {
	g := Group{Linger: 9}
	g.Finish(begin(&g, Do).Flight, Return)
	f := begin(&g, DoFresh).Flight
	q := begin(&g, DoFresh).Flight
	if g.ForgetFlight(q) {
		t.Error("a queued flight: got true, want false")
	}
	if !g.ForgetFlight(f) || g.lingers(0) == nil || q.State != Running || g.lookup(0) != q {
		t.Errorf("got %+v and its successor %+v, want them forgotten and running", f, q)
	}
	if g.ForgetFlight(f) {
		t.Error("a forgotten flight: got true, want false")
	}
	nan, other := begin(&g, Do, NaN).Flight, begin(&g, Do, NaN).Flight
	if !g.ForgetFlight(nan) || !nan.Forgotten || other.Forgotten || g.Len() != 2 {
		t.Errorf("got %+v beside %+v, want the first forgotten", nan, other)
	}
	g.Finish(nan, Return)
	if g.ForgetFlight(nan) {
		t.Error("a finished flight: got true, want false")
	}
	if g.Stats.Forgotten != 2 {
		t.Errorf("got %d forgotten, want 2", g.Stats.Forgotten)
	}
}

// TestGroup_ForgetFunc checks that it forgets the flights and outcomes of all keys that
// match, and counts keys.
func TestGroup_ForgetFunc(t *testing.T) {
	g := Group{Linger: 9}
	for key := range 3 {
		g.Finish(begin(&g, Do, key).Flight, Return)
	}
	begin(&g, DoFresh, 0)
	q := begin(&g, DoFresh, 0).Flight
	begin(&g, Do, NaN)
	begin(&g, Do, NaN)
	begin(&g, Do, 3)
	// 0 has a flight and an outcome, 1 an outcome.
	n := g.ForgetFunc(func(key int) bool { return key < 2 })
	if n != 4 || g.Stats.Forgotten != 4 {
		t.Errorf("got %d keys, %d counted, want 4", n, g.Stats.Forgotten)
	}
	if g.lookup(0) != q || g.Len() != 2 || g.lingers(0) != nil || g.lingers(1) != nil || g.lingers(2) == nil {
		t.Errorf("got %+v for key 0 and %d flights, want the queued one and 2", g.lookup(0), g.Len())
	}
}

// TestGroup_NaN checks that calls for a key that does not equal itself share nothing.
func TestGroup_NaN(t *testing.T) {
	g := Group{Linger: 9, MaxAge: 1}
	a, b := begin(&g, Do, NaN), begin(&g, DoFresh, NaN)
	g.Tick()
	c := begin(&g, TryDo, NaN)
	if a.Flight.Leader != a || b.Flight.Leader != b || c.Flight.Leader != c || g.Len() != 3 {
		t.Errorf("got %d flights, want each call to lead one", g.Len())
	}
	if g.Forget(NaN) || !g.ForgetUnshared(NaN) {
		t.Error("got a wrong answer for NaN, want false from Forget and true from ForgetUnshared")
	}
	g.Finish(a.Flight, Return)
	if n, _ := g.Lingering(); n != 0 || g.Len() != 2 {
		t.Errorf("got %d outcomes that linger and %d flights, want 0 and 2", n, g.Len())
	}
}

// TestGroup_KeyErrors checks that a key of a batch may have an error of its own.
func TestGroup_KeyErrors(t *testing.T) {
	g := Group{Linger: 9}
	cs := beginMulti(&g)
	cs[1].Fails = true
	g.Finish(cs[0].Flight, Return)
	if a, b := cs[0].Flight, cs[1].Flight; a.Exit != Return || !a.Kept || b.Exit != Error || b.Kept {
		t.Errorf("got exits %d and %d, want a value that lingers and an error that does not", a.Exit, b.Exit)
	}
}

// TestGroup_Follows checks which calls have joined a flight, or were queued in it.
func TestGroup_Follows(t *testing.T) {
	g := Group{Linger: 1}
	leads, joins, queues := begin(&g, Do), begin(&g, Do), begin(&g, DoFresh)
	g.Finish(leads.Flight, Return)
	g.Finish(queues.Flight, Return)
	answered := begin(&g, Do)
	if leads.Follows || !joins.Follows || !queues.Follows || answered.Follows {
		t.Errorf("got %t, %t, %t, %t, want a leader and an answered call not to follow",
			leads.Follows, joins.Follows, queues.Follows, answered.Follows)
	}
}
