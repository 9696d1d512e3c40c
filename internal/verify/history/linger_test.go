package history

import "testing"

// This file holds planted histories about outcomes that linger.

// TestHistory_Linger: values that linger forever answer until a Forget or a later execution.
func TestHistory_Linger(t *testing.T) {
	lead := ran(plantedA, 10, 12, 20, 30)
	later := ran(plantedB, 22, 25, 40, 42)
	fails := func(r *Call) { r.How = ExitError }
	for _, test := range []struct {
		name    string
		rule    int
		calls   []Call
		forgets []Forget
	}{
		{"a value", 0, []Call{lead, got(plantedB, plantedA, 31, 35)}, nil},
		{"an error, which does not", 3, []Call{
			lead.with(setShared).with(fails).with(func(r *Call) { r.Exec.How = ExitError }),
			got(plantedB, plantedA, 31, 35).with(fails),
		}, nil},
		{"one that was forgotten", 5, []Call{lead, got(plantedB, plantedA, 36, 37)}, []Forget{{Key: 1, Inv: 31, Ret: 35, Done: true}}},
		{"the newest", 0, []Call{lead, later, got(plantedC, plantedB, 43, 44)}, nil},
		{"not the newest", 3, []Call{lead, later, got(plantedC, plantedA, 43, 44)}, nil},
		{"not the newest, which has failed", 3, []Call{
			lead, later.with(fails).with(func(r *Call) { r.Exec.How = ExitError }), got(plantedC, plantedA, 43, 44),
		}, nil},
		{"the newest but one that was forgotten", 0, []Call{lead, later, got(plantedC, plantedA, 43, 44)}, []Forget{{Key: 1, Inv: 11, Ret: 24, Done: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Forgets: [][]Forget{test.forgets}, Closing: Never, Lingering: true})
		})
	}
}

// TestHistory_Lives: an outcome, even an error or absence, answers later calls while it
// lingers, and none that begins at or after its end. Its life counts from the moment at
// which a call first had it, at the latest.
func TestHistory_Lives(t *testing.T) {
	lives := func(life Stamp) func(*Call) { return func(r *Call) { r.Exec.Life = life } }
	fails := func(r *Call) { r.How = ExitError }
	failed := func(r *Call) { fails(r); r.Exec.How = ExitError }
	panicked := func(r *Call) { r.How, r.Exec.How = ExitPanic, ExitPanic }
	lead := ran(plantedA, 10, 12, 20, 30)
	absent := lead.with(lacks).with(lives(5))
	for _, test := range []struct {
		name    string
		rule    int
		calls   []Call
		forgets []Forget
	}{
		{"a value, in its time", 0, []Call{lead.with(lives(5)), got(plantedB, plantedA, 34, 38)}, nil},
		{"a value, at its time", 3, []Call{lead.with(lives(5)), got(plantedB, plantedA, 35, 38)}, nil},
		{"a value, after its time", 3, []Call{lead.with(lives(5)), got(plantedB, plantedA, 36, 38)}, nil},
		{"a value without a life", 3, []Call{lead.with(setShared), got(plantedB, plantedA, 31, 38)}, nil},
		{"a value that does not expire", 0, []Call{lead.with(lives(Never)), got(plantedB, plantedA, 1000, 1001)}, nil},
		{"an error, in its time", 0, []Call{lead.with(failed).with(lives(5)), got(plantedB, plantedA, 34, 38).with(fails)}, nil},
		{"an error, at its time", 3, []Call{lead.with(failed).with(lives(5)), got(plantedB, plantedA, 35, 38).with(fails)}, nil},
		{"a panic, with any life", 3, []Call{
			lead.with(panicked).with(setShared).with(lives(5)), got(plantedB, plantedA, 31, 38).with(func(r *Call) { r.How = ExitPanic }),
		}, nil},
		{"a value, followed after a shorter life than the finish took", 0, []Call{lead.with(lives(1)), got(plantedB, plantedA, 29, 38)}, nil},
		{"an absent key, in its time", 0, []Call{absent, gotAbsent(plantedB, 34, 38)}, nil},
		{"an absent key, after its time", 1, []Call{absent, gotAbsent(plantedB, 36, 38)}, nil},
		{"one that a later execution has dropped", 3, []Call{
			lead.with(lives(Never)), ran(plantedB, 32, 33, 40, 42), got(plantedC, plantedA, 43, 44),
		}, nil},
		{"one that a ForgetFunc has dropped", 5, []Call{lead.with(lives(Never)), got(plantedB, plantedA, 36, 38)}, []Forget{{Key: 1, Inv: 31, Ret: 35, Func: true}}},
		{"one that a ForgetFlight leaves", 0, []Call{lead.with(lives(Never)), got(plantedB, plantedA, 36, 38)}, []Forget{{Key: 1, Inv: 31, Ret: 35, Flight: 9, Done: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Forgets: [][]Forget{test.forgets}, Closing: Never})
		})
	}
}
