package history

import (
	"context"
	"testing"
)

// This file holds planted histories about the end of fn's context and about Hold, which
// keeps it from ending.

// TestHistory_Context: fn's context ends if no call receives the result, at once or, if the
// flight is held, after fn; and it does not end otherwise.
func TestHistory_Context(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	given := func(ctx context.Context) func(*Call) { return func(r *Call) { r.Exec.Ctx = ctx } }
	hold := func(r *Call) { r.Exec.Held = true }
	canceled := func(r *Call) { r.Exec.Canceled = true }
	batch := func(r *Call) { r.Exec.Batch = plantedA }
	leavesEarly := func(r *Call) { leaveCalled(r); r.Ret = 14 }
	exits := func(r *Call) { r.Exec.How = ExitGoexit }
	lingers := func(r *Call) { r.Exec.Life = 1 }

	lead := ran(plantedA, 10, 12, 20, 30)
	left := lead.with(leavesEarly)
	held := left.with(hold)
	newcomer := got(plantedB, plantedA, 15, 35)
	otherKey := ran(Token{2, 0, 1}, 10, 12, 20, 30).with(batch)
	for _, test := range []struct {
		name    string
		rule    int
		calls   []Call
		closing Stamp
	}{
		{"held, and a newcomer joins", 0, []Call{held.with(given(t.Context())), newcomer}, Never},
		{"held, and a newcomer leads beside it", 4, []Call{held, ran(plantedB, 15, 16, 25, 30)}, Never},
		{"held, and a newcomer waits behind it", 0, []Call{held.with(given(ended)), ran(plantedB, 15, 21, 25, 30)}, Never},
		{"held, and the newcomer's result had before", 3, []Call{held, newcomer, got(plantedC, plantedA, 36, 40)}, Never},
		{"held, and ended nevertheless", 6, []Call{held.with(canceled)}, Never},
		{"held, and ended by Shutdown", 0, []Call{held.with(canceled)}, 15},
		{"held, without a caller, and not ended", 6, []Call{held.with(given(t.Context()))}, Never},
		{"held, without a caller, and ended", 0, []Call{held.with(given(ended))}, Never},
		{"held, a newcomer joins, and it is ended", 6, []Call{held.with(given(ended)), newcomer}, Never},
		{"abandoned, and not ended", 6, []Call{left.with(given(t.Context()))}, Never},
		{"abandoned, and ended", 0, []Call{left.with(given(ended)).with(canceled)}, Never},
		{"received, and ended after fn", 6, []Call{lead.with(given(ended))}, Never},
		{"received, and ended by Shutdown before that", 0, []Call{lead.with(given(ended))}, 25},
		{"received before Shutdown, and ended", 6, []Call{lead.with(given(ended))}, 31},
		{"exited, and perhaps received", 0, []Call{left.with(exits).with(given(t.Context()))}, Never},
		{"held, and may linger", 0, []Call{held.with(given(t.Context())).with(lingers)}, Never},
		{"a batch, of which one key is received", 0, []Call{held.with(batch).with(given(t.Context())), otherKey.with(given(t.Context()))}, Never},
		{"a batch of which no key is received", 6, []Call{held.with(batch).with(given(t.Context())), otherKey.with(leaveCalled)}, Never},
		{"another batch", 6, []Call{
			held.with(batch).with(given(t.Context())), otherKey.with(func(r *Call) { r.Exec.Batch = r.Token }),
		}, Never},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Closing: test.closing})
		})
	}
}
