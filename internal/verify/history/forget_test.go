package history

import "testing"

// This file holds planted histories about ForgetFunc and ForgetFlight.

// TestHistory_ForgetFunc: after a ForgetFunc that matched a key, with any result, no
// execution begun before it answers a call for that key.
func TestHistory_ForgetFunc(t *testing.T) {
	lead := ran(plantedA, 10, 12, 20, 30)
	leadShared := lead.with(setShared)
	beside := ran(plantedB, 11, 15, 25, 30)
	for _, test := range []struct {
		name   string
		rule   int
		calls  []Call
		forget Forget
	}{
		{"joined after it", 5, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, Forget{Key: 1, Inv: 14, Ret: 16, Done: true}},
		{"joined after it, and it forgot no key", 5, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, Forget{Key: 1, Inv: 14, Ret: 16}},
		{"joined meanwhile", 0, []Call{leadShared, got(plantedB, plantedA, 15, 35)}, Forget{Key: 1, Inv: 14, Ret: 16, Done: true}},
		{"joined one that began meanwhile", 0, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, Forget{Key: 1, Inv: 11, Ret: 16, Done: true}},
		{"it matched another key", 0, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, Forget{Key: 2, Inv: 14, Ret: 16, Done: true}},
		{"two leaders", 0, []Call{lead, beside}, Forget{Key: 1, Inv: 13, Ret: 14, Done: true}},
		{"two leaders, and it forgot no key", 4, []Call{lead, beside}, Forget{Key: 1, Inv: 13, Ret: 14}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.forget.Func = true
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Forgets: [][]Forget{{test.forget}}, Closing: Never})
		})
	}
}

// TestHistory_ForgetFlight: after a ForgetFlight that returned true, no call joins an
// execution begun before it; one that returned false has no effect; and no flight is
// forgotten twice.
func TestHistory_ForgetFlight(t *testing.T) {
	lead := ran(plantedA, 10, 12, 20, 30)
	leadShared := lead.with(setShared)
	beside := ran(plantedB, 11, 15, 25, 30)
	late := got(plantedB, plantedA, 18, 35)
	for _, test := range []struct {
		name    string
		rule    int
		calls   []Call
		forgets []Forget
	}{
		{"joined after it", 5, []Call{leadShared, late}, []Forget{{Key: 1, Flight: 9, Inv: 14, Ret: 16, Done: true}}},
		{"joined after it had no effect", 0, []Call{leadShared, late}, []Forget{{Key: 1, Flight: 9, Inv: 14, Ret: 16}}},
		{"two leaders", 0, []Call{lead, beside}, []Forget{{Key: 1, Flight: 9, Inv: 13, Ret: 14, Done: true}}},
		{"two leaders, and it had no effect", 4, []Call{lead, beside}, []Forget{{Key: 1, Flight: 9, Inv: 13, Ret: 14}}},
		{"twice", 11, []Call{lead}, []Forget{
			{Key: 1, Flight: 9, Inv: 13, Ret: 14, Done: true}, {Key: 1, Flight: 9, Inv: 13, Ret: 15, Done: true},
		}},
		{"once, and once without effect", 0, []Call{lead}, []Forget{
			{Key: 1, Flight: 9, Inv: 13, Ret: 14, Done: true}, {Key: 1, Flight: 9, Inv: 13, Ret: 15},
		}},
		{"two flights", 0, []Call{lead}, []Forget{
			{Key: 1, Flight: 9, Inv: 13, Ret: 14, Done: true}, {Key: 1, Flight: 17, Inv: 13, Ret: 15, Done: true},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Forgets: [][]Forget{test.forgets}, Closing: Never})
		})
	}
}
