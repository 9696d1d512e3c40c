package history

import (
	"context"
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds planted histories about batches whose keys end in different ways.

// lacks makes a call one for a key that fn had no value for.
func lacks(r *Call) { r.Got, r.From, r.Exec.How = GotAbsent, Token{}, ExitAbsent }

// gotAbsent returns the record of a call that got ErrAbsent in [inv, ret], and whose fn did
// not run.
func gotAbsent(of Token, inv, ret Stamp) Call {
	return Call{Token: of, Inv: inv, Ret: ret, Got: GotAbsent, Shared: true}
}

// TestHistory_KeyErrors: a key of a batch gets its own outcome, a value, an error, or
// absence, and not that of another key.
func TestHistory_KeyErrors(t *testing.T) {
	fails := func(r *Call) { r.How, r.Exec.How = ExitError, ExitError }
	batch := func(r *Call) { r.Exec.Batch = plantedA }
	key1 := ran(plantedA, 10, 12, 20, 30).with(batch)
	key2 := ran(Token{2, 0, 2}, 10, 12, 20, 30).with(batch)
	key3 := ran(Token{3, 0, 3}, 10, 12, 20, 30).with(batch)
	for _, test := range []struct {
		name  string
		rule  int
		calls []Call
	}{
		{"each its own", 0, []Call{key1.with(fails), key2, key3.with(lacks)}},
		{"the error of another key", 1, []Call{key1.with(fails), key2.with(fails).with(func(r *Call) { r.From = plantedA })}},
		{"an error for a value", 1, []Call{key1.with(func(r *Call) { r.How = ExitError }), key2}},
		{"a value for an error", 1, []Call{key1.with(fails).with(func(r *Call) { r.How = ExitReturn }), key2}},
		{"ErrAbsent for a value", 1, []Call{key1.with(func(r *Call) { r.Got, r.From = GotAbsent, Token{} })}},
		{"a value for an absent key", 1, []Call{key1.with(func(r *Call) { r.Exec.How = ExitAbsent })}},
		{"absent, followed", 0, []Call{key1.with(lacks), gotAbsent(plantedB, 15, 35)}},
		{"absent, stale", 1, []Call{key1.with(lacks), gotAbsent(plantedB, 31, 35)}},
		{"ErrAbsent, and nothing was", 1, []Call{key1, gotAbsent(plantedB, 15, 35)}},
		{"ErrAbsent for a Goexit", 1, []Call{key1.with(exitByGoexit), gotAbsent(plantedB, 15, 35)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantRule(t, test.rule, History{Calls: [][]Call{test.calls}, Closing: Never})
		})
	}
}

// TestRecord_Absent: ErrAbsent is a reply of its own, and none if a value comes with it.
func TestRecord_Absent(t *testing.T) {
	var r Call
	r.Record(context.Background(), Token{}, coalesce.ErrAbsent)
	if r.Got != GotAbsent {
		t.Errorf("got reply %d (%s), want %d", r.Got, r.Note, GotAbsent)
	}
	r = Call{}
	if r.Record(context.Background(), plantedA, coalesce.ErrAbsent); r.Got != GotNonsense {
		t.Errorf("with a value: got reply %d, want %d", r.Got, GotNonsense)
	}
}
