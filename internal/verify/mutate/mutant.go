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

// This file holds what a mutant is and how it is named.

// A Kind says how a mutant differs from the source.
type Kind string

// The kinds of mutants.
const (
	Delete   Kind = "delete"    // a statement is left out
	Undefer  Kind = "undefer"   // a deferred call is made at once
	Swap     Kind = "swap"      // a statement comes before the one that precedes it
	Negate   Kind = "negate"    // a condition is negated
	True     Kind = "true"      // a condition always holds
	False    Kind = "false"     // a condition never holds
	Logic    Kind = "logic"     // || for && or the reverse
	Boundary Kind = "boundary"  // <= for <, and the like
	Equality Kind = "equality"  // != for == or the reverse
	PlusOne  Kind = "plus-one"  // a constant in a comparison is one more
	MinusOne Kind = "minus-one" // a constant in a comparison is one less
)

// Kinds lists all kinds.
var Kinds = []Kind{Delete, Undefer, Swap, Negate, True, False, Logic, Boundary, Equality, PlusOne, MinusOne}

// A Mutant is one change to the source of a package.
type Mutant struct {
	ID   int // what mutated is called with; from 1
	File string
	Line int
	Func string // Type.Method or Func
	Kind Kind
	Text string // what is changed, on one line; " #2" follows the second of its kind in Func
}

// Key identifies the mutant across changes elsewhere in its file.
func (m Mutant) Key() string {
	return fmt.Sprintf("%s %s %s %s", m.File, m.Func, m.Kind, m.Text)
}

// number gives mutants with the same key different ones.
func number(mutants []*Mutant) {
	seen := map[string]int{}
	for _, m := range mutants {
		key := m.Key()
		if seen[key]++; seen[key] > 1 {
			m.Text = fmt.Sprintf("%s #%d", m.Text, seen[key])
		}
	}
}

// oneLine returns source text with every run of white space replaced by a space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
