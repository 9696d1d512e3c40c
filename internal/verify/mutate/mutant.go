// Package mutate tests the tests of a package: it changes one statement or
// condition at a time and sees whether a test fails.
//
// All changes are compiled at once. Each is guarded by a call of mutated with
// its number, and an environment variable says which one a run of the test
// binary has: mutant schemata.
package mutate

import (
	"fmt"
	"strings"
)

// This file holds mutants and their names.

// A Kind is the way in which a mutant differs from the source.
type Kind string

// The kinds of mutants.
const (
	Delete   Kind = "delete"    // a statement, or one of several that an assignment joins, is left out
	Undefer  Kind = "undefer"   // a deferred call is made at once
	Swap     Kind = "swap"      // a statement comes before the one that precedes it
	Window   Kind = "window"    // a lock is released and taken again before the last statement under it
	Negate   Kind = "negate"    // a condition is negated
	True     Kind = "true"      // a condition always holds
	False    Kind = "false"     // a condition never holds
	Ignore   Kind = "ignore"    // an operand of && or || makes no difference
	Boundary Kind = "boundary"  // <= for <, and the like
	Equality Kind = "equality"  // != for == or the reverse
	PlusOne  Kind = "plus-one"  // a constant in a comparison is one more
	MinusOne Kind = "minus-one" // a constant in a comparison is one less
	Nil      Kind = "nil"       // one of the package's errors is nil
)

// Kinds lists all kinds.
var Kinds = []Kind{Delete, Undefer, Swap, Window, Negate, True, False, Ignore, Boundary, Equality, PlusOne, MinusOne, Nil}

// A Mutant is one change to the source of a package.
type Mutant struct {
	ID   int // the argument of mutated; from 1
	File string
	Line int
	Func string // Type.Method or Func
	Kind Kind
	Nth  int    // it is the nth of its kind in Func; from 1
	Of   int    // the number of mutants of its kind in Func
	Text string // the source that is changed, on one line

	offset int // of that source, in the file
}

// Key identifies the mutant by its function, its kind, and its place among those of its
// kind in the function, as in "Box.Put delete 2/4". So neither the name of a variable nor
// a change elsewhere changes the key of a mutant. If its function gets another statement
// or condition, the key of no mutant of that kind remains, and none is taken for another.
func (m Mutant) Key() string {
	return fmt.Sprintf("%s %s %d/%d", m.Func, m.Kind, m.Nth, m.Of)
}

// String returns the place of the mutant, its key, and the beginning of its source.
func (m Mutant) String() string {
	const most = 100
	text := []rune(m.Text)
	if len(text) > most {
		text = append(text[:most:most], '…')
	}
	return fmt.Sprintf("%s:%d %s: %s", m.File, m.Line, m.Key(), string(text))
}

// number sets the places of the mutants of a package, which must be in the order of the
// source.
func number(mutants []*Mutant) {
	type place struct {
		fn   string
		kind Kind
	}
	n := map[place]int{}
	for _, m := range mutants {
		at := place{m.Func, m.Kind}
		n[at]++
		m.Nth = n[at]
	}
	for _, m := range mutants {
		m.Of = n[place{m.Func, m.Kind}]
	}
}

// oneLine returns source text with every run of white space replaced by a space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
