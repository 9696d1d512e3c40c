package fleet

import (
	"testing"
	"time"
)

// This file tests what a run makes of what it sees.

// seeing returns a run that has met the revision 10 and joined the lease of token 8.
func seeing(t *testing.T) *run[string, string] {
	t.Helper()
	g, _ := processes(1, nil)
	r := g[0].use().bystander("k")
	r.activity = &activity[string]{}
	r.floor, r.hasFloor = 10, true
	if n := r.judge(sight{rev: 10, read: true, rec: record{kind: lease, token: 8, lease: time.Second}}); n.step != stepWait || r.joined != 8 {
		t.Fatalf("got %+v, joined %d, want to wait for 8", n, r.joined)
	}
	return r
}

// TestJudge: what follows from a sight, whatever has come late, twice or out of order.
func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		seen   sight
		step   step
		expiry bool // whether the lease counts from that sight on
	}{
		"same again":           {sight{rev: 10, read: true, rec: record{kind: lease, token: 8, lease: time.Second}}, stepWait, false},
		"renewed":              {sight{rev: 11, read: true, rec: record{kind: lease, token: 8, lease: time.Second}}, stepWait, true},
		"renewed, not read":    {sight{rev: 11}, stepWait, true},
		"result":               {sight{rev: 11, read: true, rec: record{kind: result, token: 8}}, stepAnswer, true},
		"failure":              {sight{rev: 11, read: true, rec: record{kind: failed, failure: failedError, token: 8}}, stepAnswer, true},
		"later result":         {sight{rev: 20, read: true, rec: record{kind: result, token: 15}}, stepAnswer, true},
		"older result":         {sight{rev: 9, read: true, rec: record{kind: result, token: 8}}, stepWait, false},
		"older lease":          {sight{rev: 9, read: true, rec: record{kind: lease, token: 8, lease: time.Second}}, stepWait, false},
		"older Released":       {sight{rev: 9, read: true, rec: record{kind: released, token: 8}}, stepWait, false},
		"old result, replayed": {sight{rev: 11, read: true, rec: record{kind: result, token: 7}}, stepWait, true},
		"Released":             {sight{rev: 11, read: true, rec: record{kind: released, token: 8}}, stepSwap, true},
		"absent":               {sight{}, stepWait, false},
		"unreadable":           {sight{rev: 11, read: true, rec: record{kind: unreadable, token: 11}}, stepWait, true},
	} {
		r := seeing(t)
		before := r.expiry
		test.seen.at = time.Minute
		n := r.judge(test.seen)
		if n.step != test.step || n.step == stepSwap && n.prev != test.seen.rev {
			t.Errorf("%s: got %+v, want step %d", name, n, test.step)
		}
		if moved := r.expiry != before; moved != test.expiry {
			t.Errorf("%s: the expiry has moved: %t, want %t", name, moved, test.expiry)
		}
	}
}
