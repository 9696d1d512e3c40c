package history

import (
	"errors"
	"testing"
)

// This file holds planted histories, which the checker must accept or refuse.

// The calls of a planted history, by the names of their executions.
var (
	plantedA = Token{1, 0, 1}
	plantedB = Token{1, 1, 1}
	plantedC = Token{1, 2, 1}
)

// ran returns the record of a call that began at inv, whose fn ran in [start,
// end], and which returned at ret with the result.
func ran(of Token, inv, start, end, ret Stamp) Call {
	return Call{
		Token: of, Inv: inv, Ret: ret, Got: GotResult, From: of,
		Exec: Execution{Runs: 1, Start: start, End: end},
	}
}

// got returns the record of a call that got the result of another in [inv,
// ret].
func got(of, from Token, inv, ret Stamp) Call {
	return Call{Token: of, Inv: inv, Ret: ret, Got: GotResult, From: from, Shared: true}
}

// with returns r after changes.
func (r Call) with(change func(*Call)) Call {
	change(&r)
	return r
}

func setShared(r *Call)   { r.Shared = true }
func leaveCalled(r *Call) { r.Got, r.From = GotOwnEnd, Token{} }
func exitByGoexit(r *Call) {
	r.Got, r.From, r.Exec.How = GotGoexit, Token{}, ExitGoexit
}

// TestHistory checks that the checker accepts histories that a group can produce, and
// refuses those that it cannot, by the rule in question.
func TestHistory(t *testing.T) {
	lead := ran(plantedA, 10, 12, 20, 30)
	leadShared := lead.with(setShared)
	later := ran(plantedB, 22, 25, 40, 42)
	fresh := func(r *Call) { r.Fresh = true }
	tests := []struct {
		name    string
		rule    int // 0 if the history is fine
		calls   []Call
		forgets []Forget
		closing Stamp
	}{
		{"nothing", 0, nil, nil, Never},
		{"one call", 0, []Call{lead}, nil, Never},
		{"a follower", 0, []Call{leadShared, got(plantedB, plantedA, 15, 35)}, nil, Never},
		{"joined after fn's end and before the finish", 0, []Call{leadShared, got(plantedB, plantedA, 25, 35)}, nil, Never},
		{"one after the other", 0, []Call{lead, later}, nil, Never},
		{"a stale result", 3, []Call{leadShared, got(plantedB, plantedA, 31, 35)}, nil, Never},
		{"a stale result, had by a follower", 3, []Call{
			leadShared.with(func(r *Call) { r.Ret = 60 }),
			got(plantedB, plantedA, 15, 25), got(plantedC, plantedA, 26, 70),
		}, nil, Never},
		{"two leaders", 4, []Call{lead, ran(plantedB, 11, 15, 25, 30)}, nil, Never},
		{"the next one leads before the last follower has come", 4, []Call{
			leadShared, got(plantedC, plantedA, 26, 35), later,
		}, nil, Never},
		{"two leaders and a Forget", 0, []Call{lead, ran(plantedB, 11, 15, 25, 30)}, []Forget{{Key: 1, Inv: 13, Ret: 14, Done: true}}, Never},
		{"two leaders and a Forget that found nothing", 4, []Call{lead, ran(plantedB, 11, 15, 25, 30)}, []Forget{{Key: 1, Inv: 13, Ret: 14}}, Never},
		{"two leaders and a Forget of another key", 4, []Call{lead, ran(plantedB, 11, 15, 25, 30)}, []Forget{{Key: 2, Inv: 13, Ret: 14, Done: true}}, Never},
		{"two leaders and an earlier Forget", 4, []Call{lead, ran(plantedB, 11, 15, 25, 30)}, []Forget{{Key: 1, Inv: 8, Ret: 9, Done: true}}, Never},
		{"two leaders, the first abandoned", 4, []Call{
			lead.with(leaveCalled).with(func(r *Call) { r.Ret = 14 }), ran(plantedB, 15, 16, 25, 30),
		}, nil, Never},
		{"joined after a Forget", 5, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, []Forget{{Key: 1, Inv: 14, Ret: 16, Done: true}}, Never},
		{"joined during a Forget", 0, []Call{leadShared, got(plantedB, plantedA, 15, 35)}, []Forget{{Key: 1, Inv: 14, Ret: 16, Done: true}}, Never},
		{"joined after a ForgetUnshared that was refused", 0, []Call{leadShared, got(plantedB, plantedA, 18, 35)}, []Forget{{Key: 1, Inv: 14, Ret: 16, Unshared: true}}, Never},
		{"another key's result", 1, []Call{lead, got(Token{2, 1, 1}, plantedA, 15, 35)}, nil, Never},
		{"the result of no execution", 1, []Call{got(plantedB, plantedC, 15, 35)}, nil, Never},
		{"led and got another's result", 1, []Call{leadShared, later.with(func(r *Call) { r.From = plantedA })}, nil, Never},
		{"fn ran twice", 1, []Call{lead.with(func(r *Call) { r.Exec.Runs = 2 })}, nil, Never},
		{"a value for an error", 1, []Call{lead.with(func(r *Call) { r.Exec.How = ExitError })}, nil, Never},
		{"returned before fn did", 2, []Call{leadShared, got(plantedB, plantedA, 15, 18)}, nil, Never},
		{"the leader returned before fn did", 2, []Call{lead.with(func(r *Call) { r.Ret = 19 })}, nil, Never},
		{"fn started before the call", 2, []Call{lead.with(func(r *Call) { r.Inv = 13 })}, nil, Never},
		{"a canceled context and a receiver", 6, []Call{lead.with(func(r *Call) { r.Exec.Canceled = true })}, nil, Never},
		{"a canceled context and a receiver, before Shutdown", 6, []Call{lead.with(func(r *Call) { r.Exec.Canceled = true })}, nil, 21},
		{"a canceled context and a receiver, after Shutdown", 0, []Call{lead.with(func(r *Call) { r.Exec.Canceled = true })}, nil, 20},
		{"a canceled context and no caller left", 0, []Call{lead.with(leaveCalled).with(func(r *Call) { r.Exec.Canceled = true })}, nil, Never},
		{"the leader does not get that it shared", 7, []Call{lead, got(plantedB, plantedA, 15, 35)}, nil, Never},
		{"the follower does not get that it shared", 7, []Call{leadShared, got(plantedB, plantedA, 15, 35).with(func(r *Call) { r.Shared = false })}, nil, Never},
		{"a TryDo cannot get that it shared", 0, []Call{lead.with(func(r *Call) { r.Try = true }), got(plantedB, plantedA, 15, 35)}, nil, Never},
		{"shared with no call", 7, []Call{leadShared}, nil, Never},
		{"shared with one who left", 0, []Call{leadShared, got(plantedB, plantedA, 15, 18).with(leaveCalled)}, nil, Never},
		{"shared with the leader, who left", 0, []Call{lead.with(leaveCalled), got(plantedB, plantedA, 15, 35)}, nil, Never},
		{"shared with one who led and left", 7, []Call{leadShared, later.with(leaveCalled)}, nil, Never},
		{"a DoFresh got an older execution", 8, []Call{leadShared, got(plantedB, plantedA, 15, 35).with(fresh)}, nil, Never},
		{"a DoFresh got one that started later", 0, []Call{leadShared, got(plantedB, plantedA, 11, 35).with(fresh)}, nil, Never},
		{"ErrGoexit for a result", 1, []Call{lead.with(func(r *Call) { r.Got = GotGoexit })}, nil, Never},
		{"ErrGoexit, led", 0, []Call{lead.with(exitByGoexit)}, nil, Never},
		{"ErrGoexit, followed", 0, []Call{lead.with(exitByGoexit), got(plantedB, Token{}, 15, 35).with(exitByGoexit)}, nil, Never},
		{"ErrGoexit, stale", 1, []Call{lead.with(exitByGoexit), got(plantedB, Token{}, 31, 35).with(exitByGoexit)}, nil, Never},
		{"ErrInFlight", 0, []Call{lead, {Token: plantedB, Try: true, Inv: 15, Ret: 16, Got: GotInFlight}}, nil, Never},
		{"ErrInFlight and nothing there", 9, []Call{lead, {Token: plantedB, Try: true, Inv: 31, Ret: 32, Got: GotInFlight}}, nil, Never},
		{"ErrInFlight to a Do", 9, []Call{lead, {Token: plantedB, Inv: 15, Ret: 16, Got: GotInFlight}}, nil, Never},
		{"ErrClosed in an open group", 9, []Call{{Token: plantedB, Inv: 15, Ret: 16, Got: GotClosed}}, nil, Never},
		{"ErrClosed", 0, []Call{{Token: plantedB, Inv: 15, Ret: 16, Got: GotClosed}}, nil, 16},
		{"ErrSaturated and no call there", 9, []Call{{Token: plantedB, Inv: 15, Ret: 16, Got: GotFull}}, nil, Never},
		{"ErrSaturated after all was over", 9, []Call{lead, {Token: plantedB, Inv: 31, Ret: 32, Got: GotFull}}, nil, Never},
		{"ErrSaturated by calls that left", 0, []Call{
			{Token: plantedA, Inv: 14, Ret: 17, Got: GotOwnEnd}, {Token: plantedB, Inv: 15, Ret: 16, Got: GotFull},
		}, nil, Never},
		{"ErrSaturated", 0, []Call{lead, {Token: plantedB, Inv: 15, Ret: 16, Got: GotFull}}, nil, Never},
		{"ErrSaturated, and fn ran", 1, []Call{ran(plantedA, 10, 12, 20, 30).with(func(r *Call) { r.Got = GotFull })}, nil, Never},
		{"a call leads after another had ErrClosed", 9, []Call{
			{Token: Token{2, 1, 1}, Inv: 2, Ret: 3, Got: GotClosed}, lead,
		}, nil, 1},
		{"a call leads while another gets ErrClosed", 0, []Call{{Token: plantedB, Inv: 2, Ret: 10, Got: GotClosed}, lead}, nil, 1},
		{"no answer", 9, []Call{{Token: plantedB, Inv: 15}}, nil, Never},
		{"the cancellation of another call", 9, []Call{{Token: plantedB, Inv: 15, Ret: 16, Got: GotNonsense}}, nil, Never},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Forgets: [][]Forget{test.forgets}, Closing: test.closing})
		})
	}
	wantRule(t, 10, History{Notes: []string{"two flights of one key"}, Closing: Never})
}

// wantRule checks that h is refused by a rule, or accepted if that is 0.
func wantRule(t *testing.T, rule int, h History) {
	t.Helper()
	err := h.Check()
	var v *Violation
	if rule == 0 && err != nil || rule != 0 && (!errors.As(err, &v) || v.Rule != rule) {
		t.Errorf("got %v, want rule %d", err, rule)
	}
}

// TestHistory_SameInstant checks that one flight may begin at the instant at which
// another has begun and finished, in whichever order the checker meets them.
func TestHistory_SameInstant(t *testing.T) {
	calls := []Call{ran(plantedA, 10, 25, 25, 25), ran(plantedB, 22, 25, 40, 42)}
	for range 64 { // the order is that of a map
		h := History{Calls: [][]Call{calls}, Closing: Never}
		if err := h.Check(); err != nil {
			t.Fatalf("got %v, want nil", err)
		}
	}
}
