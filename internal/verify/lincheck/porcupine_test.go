package lincheck

import (
	"math/rand/v2"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file holds the proof that the checker is exact: on random histories, good and bad
// ones, it decides like porcupine, which searches for an order.

// An op is a step of the sequential coalescer that porcupine knows. run is the
// number of an execution, from 1.
type op struct {
	kind opKind
	run  int
}

type opKind uint8

const (
	lead     opKind = iota // registers: between the leader's beginning and fn's start
	join                   // between a follower's beginning and its return
	complete               // unregisters: between fn's end and the first return
)

// coalescer is the sequential specification for one key. Its state is the
// execution that can be joined, or 0.
var coalescer = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		o := input.(op)
		switch o.kind {
		case lead:
			return state == 0, o.run
		case join:
			return state == o.run, state
		default:
			return state == o.run, 0
		}
	},
}

// linearizable decides about the calls of one key by porcupine.
func linearizable(calls []history.Call) bool {
	number, firstRet := map[history.Token]int{}, firstReturns(calls)
	for i, c := range calls {
		if c.Exec.Runs > 0 {
			number[c.Token] = i + 1
		}
	}
	var ops []porcupine.Operation
	possible := true
	add := func(o op, from, to history.Stamp) {
		possible = possible && from <= to
		ops = append(ops, porcupine.Operation{Input: o, Call: int64(from), Return: int64(to)})
	}
	for _, c := range calls {
		run := number[c.From]
		if c.Exec.Runs == 0 {
			add(op{join, run}, c.Inv, c.Ret)
			continue
		}
		add(op{lead, run}, c.Inv, c.Exec.Start)
		add(op{complete, run}, c.Exec.End, firstRet[c.Token])
	}
	return possible && porcupine.CheckOperations(coalescer, ops)
}

// randomHistory returns the calls of one key that a correct coalescer could have
// produced, with the instants of its steps chosen at random. Ties are common.
func randomHistory(rng *rand.Rand) []history.Call {
	var calls []history.Call
	upTo := func(n int) history.Stamp { return history.Stamp(rng.IntN(n + 1)) }
	at := history.Stamp(100)
	for range 1 + rng.IntN(4) {
		registered := at + upTo(4)
		start := registered + upTo(3)
		end := start + upTo(8)
		finish := end + upTo(4)
		leader := len(calls)
		token := func() history.Token { return history.Token{Key: 1, Call: len(calls) + 1} }
		calls = append(calls, history.Call{
			Token: token(), Inv: registered - upTo(6), Ret: finish + upTo(6), Got: history.GotResult, From: token(),
			Exec: history.Execution{Runs: 1, Start: start, End: end},
		})
		for range rng.IntN(4) {
			joined := registered + upTo(int(finish-registered))
			calls = append(calls, history.Call{
				Token: token(), Inv: joined - upTo(6), Ret: finish + upTo(6), Got: history.GotResult, From: calls[leader].Token,
			})
		}
		at = finish
	}
	return calls
}

// perturb changes a few of the instants, or the execution whose result a follower got.
func perturb(rng *rand.Rand, calls []history.Call) {
	for range 2 + rng.IntN(8) {
		c := &calls[rng.IntN(len(calls))]
		by := history.Stamp(rng.IntN(33) - 16)
		switch led := c.Exec.Runs > 0; {
		case led && rng.IntN(2) == 0:
			c.Exec.Start += by
			c.Exec.End = max(c.Exec.End, c.Exec.Start)
		case led && rng.IntN(2) == 0:
			c.Exec.End = max(c.Exec.Start, c.Exec.End+by)
		case !led && rng.IntN(6) == 0:
			if other := calls[rng.IntN(len(calls))]; other.Exec.Runs > 0 {
				c.From = other.Token
			}
		case rng.IntN(2) == 0:
			c.Inv = min(c.Ret, c.Inv+by)
		default:
			c.Ret = max(c.Inv, c.Ret+by)
		}
	}
}

// repair makes most histories that were perturbed keep rule 2, which is the easiest to
// break, so that the other rules have something to decide.
func repair(calls []history.Call) {
	firstRet := firstReturns(calls)
	for i := range calls {
		if c := &calls[i]; c.Exec.Runs > 0 {
			c.Exec.Start = min(c.Exec.Start, firstRet[c.Token])
			c.Exec.End = min(c.Exec.End, firstRet[c.Token])
			c.Inv = min(c.Inv, c.Exec.Start)
		}
	}
}

// firstReturns returns the time at which each execution's first receiver returned.
func firstReturns(calls []history.Call) map[history.Token]history.Stamp {
	first := map[history.Token]history.Stamp{}
	for _, c := range calls {
		if ret, ok := first[c.From]; !ok || c.Ret < ret {
			first[c.From] = c.Ret
		}
	}
	return first
}

// setShared makes the shared results of the calls consistent.
func setShared(calls []history.Call) {
	receivers := map[history.Token]int{}
	for _, c := range calls {
		receivers[c.From]++
	}
	for i := range calls {
		calls[i].Shared = receivers[calls[i].From] > 1
	}
}

// TestPorcupine checks that the checker and porcupine agree.
func TestPorcupine(t *testing.T) {
	const n = 40_000
	rng := rand.New(rand.NewPCG(1, 2))
	good, refusedBy := 0, map[int]int{}
	for i := range n {
		calls := randomHistory(rng)
		perturbed := rng.IntN(8) != 0
		if perturbed {
			perturb(rng, calls)
			if rng.IntN(8) != 0 {
				repair(calls)
			}
		}
		setShared(calls)
		h := history.History{Calls: [][]history.Call{calls}, Closing: history.Never}
		err, want := h.Check(), linearizable(calls)
		if (err == nil) != want {
			t.Fatalf("history %d: got %v, want the answer of porcupine, %v\n%+v", i, err, want, calls)
		}
		if !want && !perturbed {
			t.Fatalf("history %d: got %v from both, want nil by construction\n%+v", i, err, calls)
		}
		if want {
			good++
		} else {
			refusedBy[err.(*history.Violation).Rule]++
		}
	}
	t.Logf("%d histories: %d good, %d bad, refused by rule: %v", n, good, n-good, refusedBy)
	if good < n/5 || n-good < n/5 {
		t.Errorf("got %d good of %d histories, want at least a fifth of either kind", good, n)
	}
	for rule := 2; rule <= 4; rule++ {
		if refusedBy[rule] < n/50 {
			t.Errorf("got %d histories refused by rule %d, want more", refusedBy[rule], rule)
		}
	}
}
