package coalesce_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the negative controls of the storms: histories and coalescers
// that break the contract on purpose, which the checker must refuse.

// The calls of a planted history, by the names of their executions.
var (
	plantedA = token{1, 0, 1}
	plantedB = token{1, 1, 1}
	plantedC = token{1, 2, 1}
)

// ran returns the record of a call that began at inv, whose fn ran in [start,
// end], and which returned at ret with the result.
func ran(of token, inv, start, end, ret stamp) callRecord {
	return callRecord{
		token: of, inv: inv, ret: ret, got: gotResult, from: of,
		exec: execution{runs: 1, start: start, end: end},
	}
}

// got returns the record of a call that got somebody else's result in [inv,
// ret].
func got(of, from token, inv, ret stamp) callRecord {
	return callRecord{token: of, inv: inv, ret: ret, got: gotResult, from: from, shared: true}
}

// with returns r after changes.
func (r callRecord) with(change func(*callRecord)) callRecord {
	change(&r)
	return r
}

func tellShared(r *callRecord)   { r.shared = true }
func leaveCalled(r *callRecord)  { r.got, r.from = gotOwnEnd, token{} }
func exitByGoexit(r *callRecord) { r.got, r.from, r.exec.how = gotGoexit, token{}, exitGoexit }

// TestHistory checks that the checker accepts histories that a group can
// produce and refuses, by the rule in question, those that it cannot.
func TestHistory(t *testing.T) {
	lead := ran(plantedA, 10, 12, 20, 30)
	leadShared := lead.with(tellShared)
	later := ran(plantedB, 22, 25, 40, 42)
	fresh := func(r *callRecord) { r.fresh = true }
	tests := []struct {
		name    string
		rule    int // 0 if the history is fine
		calls   []callRecord
		forgets []forgetRecord
		closing stamp
	}{
		{"nothing", 0, nil, nil, never},
		{"one call", 0, []callRecord{lead}, nil, never},
		{"a follower", 0, []callRecord{leadShared, got(plantedB, plantedA, 15, 35)}, nil, never},
		{"joined after fn's end and before the finish", 0, []callRecord{leadShared, got(plantedB, plantedA, 25, 35)}, nil, never},
		{"one after the other", 0, []callRecord{lead, later}, nil, never},
		{"a stale result", 3, []callRecord{leadShared, got(plantedB, plantedA, 31, 35)}, nil, never},
		{"a stale result, had by a follower", 3, []callRecord{
			leadShared.with(func(r *callRecord) { r.ret = 60 }),
			got(plantedB, plantedA, 15, 25), got(plantedC, plantedA, 26, 70),
		}, nil, never},
		{"two leaders", 4, []callRecord{lead, ran(plantedB, 11, 15, 25, 30)}, nil, never},
		{"the next one leads before the last follower has come", 4, []callRecord{
			leadShared, got(plantedC, plantedA, 26, 35), later,
		}, nil, never},
		{"two leaders and a Forget", 0, []callRecord{lead, ran(plantedB, 11, 15, 25, 30)}, []forgetRecord{{key: 1, inv: 13, ret: 14, done: true}}, never},
		{"two leaders and a Forget that found nothing", 4, []callRecord{lead, ran(plantedB, 11, 15, 25, 30)}, []forgetRecord{{key: 1, inv: 13, ret: 14}}, never},
		{"two leaders and a Forget of another key", 4, []callRecord{lead, ran(plantedB, 11, 15, 25, 30)}, []forgetRecord{{key: 2, inv: 13, ret: 14, done: true}}, never},
		{"two leaders and an earlier Forget", 4, []callRecord{lead, ran(plantedB, 11, 15, 25, 30)}, []forgetRecord{{key: 1, inv: 8, ret: 9, done: true}}, never},
		{"two leaders, the first abandoned", 4, []callRecord{
			lead.with(leaveCalled).with(func(r *callRecord) { r.ret = 14 }), ran(plantedB, 15, 16, 25, 30),
		}, nil, never},
		{"joined after a Forget", 5, []callRecord{leadShared, got(plantedB, plantedA, 18, 35)}, []forgetRecord{{key: 1, inv: 14, ret: 16, done: true}}, never},
		{"joined during a Forget", 0, []callRecord{leadShared, got(plantedB, plantedA, 15, 35)}, []forgetRecord{{key: 1, inv: 14, ret: 16, done: true}}, never},
		{"joined after a ForgetUnshared that was refused", 0, []callRecord{leadShared, got(plantedB, plantedA, 18, 35)}, []forgetRecord{{key: 1, inv: 14, ret: 16, unshared: true}}, never},
		{"another key's result", 1, []callRecord{lead, got(token{2, 1, 1}, plantedA, 15, 35)}, nil, never},
		{"nobody's result", 1, []callRecord{got(plantedB, plantedC, 15, 35)}, nil, never},
		{"led and got another's result", 1, []callRecord{leadShared, later.with(func(r *callRecord) { r.from = plantedA })}, nil, never},
		{"fn ran twice", 1, []callRecord{lead.with(func(r *callRecord) { r.exec.runs = 2 })}, nil, never},
		{"a value for an error", 1, []callRecord{lead.with(func(r *callRecord) { r.exec.how = exitError })}, nil, never},
		{"returned before fn did", 2, []callRecord{leadShared, got(plantedB, plantedA, 15, 18)}, nil, never},
		{"the leader returned before fn did", 2, []callRecord{lead.with(func(r *callRecord) { r.ret = 19 })}, nil, never},
		{"fn started before the call", 2, []callRecord{lead.with(func(r *callRecord) { r.inv = 13 })}, nil, never},
		{"a canceled context and a receiver", 6, []callRecord{lead.with(func(r *callRecord) { r.exec.canceled = true })}, nil, never},
		{"a canceled context and nobody left", 0, []callRecord{lead.with(leaveCalled).with(func(r *callRecord) { r.exec.canceled = true })}, nil, never},
		{"the leader is not told that it shared", 7, []callRecord{lead, got(plantedB, plantedA, 15, 35)}, nil, never},
		{"the follower is not told that it shared", 7, []callRecord{leadShared, got(plantedB, plantedA, 15, 35).with(func(r *callRecord) { r.shared = false })}, nil, never},
		{"a TryDo is not told that it shared", 0, []callRecord{lead.with(func(r *callRecord) { r.try = true }), got(plantedB, plantedA, 15, 35)}, nil, never},
		{"shared with nobody", 7, []callRecord{leadShared}, nil, never},
		{"shared with one who left", 0, []callRecord{leadShared, got(plantedB, plantedA, 15, 18).with(leaveCalled)}, nil, never},
		{"a DoFresh got an older execution", 8, []callRecord{leadShared, got(plantedB, plantedA, 15, 35).with(fresh)}, nil, never},
		{"a DoFresh got one that started later", 0, []callRecord{leadShared, got(plantedB, plantedA, 11, 35).with(fresh)}, nil, never},
		{"ErrGoexit for a result", 1, []callRecord{lead.with(func(r *callRecord) { r.got = gotGoexit })}, nil, never},
		{"ErrGoexit, led", 0, []callRecord{lead.with(exitByGoexit)}, nil, never},
		{"ErrGoexit, followed", 0, []callRecord{lead.with(exitByGoexit), got(plantedB, token{}, 15, 35).with(exitByGoexit)}, nil, never},
		{"ErrGoexit, stale", 1, []callRecord{lead.with(exitByGoexit), got(plantedB, token{}, 31, 35).with(exitByGoexit)}, nil, never},
		{"ErrInFlight", 0, []callRecord{lead, {token: plantedB, try: true, inv: 15, ret: 16, got: gotInFlight}}, nil, never},
		{"ErrInFlight and nothing there", 9, []callRecord{lead, {token: plantedB, try: true, inv: 31, ret: 32, got: gotInFlight}}, nil, never},
		{"ErrInFlight to a Do", 9, []callRecord{lead, {token: plantedB, inv: 15, ret: 16, got: gotInFlight}}, nil, never},
		{"ErrClosed in an open group", 9, []callRecord{{token: plantedB, inv: 15, ret: 16, got: gotClosed}}, nil, never},
		{"ErrClosed", 0, []callRecord{{token: plantedB, inv: 15, ret: 16, got: gotClosed}}, nil, 16},
		{"no answer", 9, []callRecord{{token: plantedB, inv: 15}}, nil, never},
		{"somebody else's cancellation", 9, []callRecord{{token: plantedB, inv: 15, ret: 16, got: gotNonsense}}, nil, never},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := history{calls: [][]callRecord{test.calls}, forgets: [][]forgetRecord{test.forgets}, closing: test.closing}
			err := h.check()
			var v *violation
			if test.rule == 0 && err != nil || test.rule != 0 && (!errors.As(err, &v) || v.rule != test.rule) {
				t.Errorf("check() = %v, want rule %d", err, test.rule)
			}
		})
	}
	h := history{notes: []string{"two flights of one key"}, closing: never}
	if err := h.check(); err == nil {
		t.Error("check() = nil although a client saw two flights of one key")
	}
}

// A breakage is what is wrong with a brokenGroup.
type breakage uint8

const (
	intact         breakage = iota
	wakesFirst              // wakes followers before it unlinks the flight
	forgetsToCheck          // looks, unlocks, and registers without another look
	unlinksAny              // unlinks what its key has, be it its own or not
	staysJoinable           // the flight can be joined until all have their result
	claimsAlone             // tells followers that they do not share
	mixesKeys               // looks up by a hash only
)

// A brokenGroup is a coalescer with one lock, of which Do and Forget are meant
// to work.
type brokenGroup struct {
	*stormGroup // for the other methods, which are not used
	how         breakage

	mu      sync.Mutex
	flights map[int]*brokenFlight
}

type brokenFlight struct {
	done    chan struct{}
	callers int // guarded by mu
	joined  bool
	v       token
	err     error
}

func (g *brokenGroup) Do(key int, fn func() (token, error)) (token, bool, error) {
	if g.how == mixesKeys {
		key &= 1
	}
	g.mu.Lock()
	if f := g.flights[key]; f != nil {
		f.joined = true
		f.callers++
		g.mu.Unlock()
		<-f.done
		g.leave(key, f)
		return f.v, g.how != claimsAlone, f.err
	}
	if g.how == forgetsToCheck {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	f := &brokenFlight{done: make(chan struct{}), callers: 1}
	g.flights[key] = f
	g.mu.Unlock()
	f.v, f.err = fn()
	if g.how == wakesFirst {
		close(f.done)
		runtime.Gosched()
	}
	g.mu.Lock()
	if g.how != staysJoinable && (g.flights[key] == f || g.how == unlinksAny) {
		delete(g.flights, key)
	}
	joined := f.joined
	g.mu.Unlock()
	if g.how != wakesFirst {
		close(f.done)
	}
	g.leave(key, f)
	return f.v, joined, f.err
}

// leave unlinks f when its last caller has its result.
func (g *brokenGroup) leave(key int, f *brokenFlight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.callers--
	if g.how == staysJoinable && f.callers == 0 && g.flights[key] == f {
		delete(g.flights, key)
	}
}

func (g *brokenGroup) Forget(key int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.flights[key] != nil
	delete(g.flights, key)
	return found
}

func (g *brokenGroup) ForgetUnshared(int) bool { return false }

// TestStorm_Broken checks that the storms find a coalescer that is broken, and
// accept the same one when it is not.
func TestStorm_Broken(t *testing.T) {
	tests := []struct {
		name   string
		how    breakage
		rule   int
		keys   int
		forget int
	}{
		{"intact", intact, 0, 1, 5},
		{"wakes followers before it unlinks", wakesFirst, 3, 1, 0},
		{"two leaders", forgetsToCheck, 4, 1, 0},
		{"unlinks a replacement", unlinksAny, 4, 1, 1},
		{"finished flights stay joinable", staysJoinable, 3, 1, 0},
		{"shared is false", claimsAlone, 7, 1, 0},
		{"mixes keys", mixesKeys, 1, 4, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var err error
			for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
				g := &brokenGroup{stormGroup: new(coalesce.Group[int, token]), how: test.how, flights: map[int]*brokenFlight{}}
				s := storm{
					clients: 8, calls: scaled(t, 20), keys: test.keys, forget: test.forget,
					forms: []callForm{byDo}, calm: true, seed: rand.Uint64(),
				}
				err = s.start(g)().check()
				if test.how == intact {
					break
				}
			}
			var v *violation
			if test.rule == 0 && err != nil || test.rule != 0 && (!errors.As(err, &v) || v.rule != test.rule) {
				t.Errorf("check() = %v, want rule %d", err, test.rule)
			}
		})
	}
}
