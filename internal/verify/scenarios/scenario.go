// Package scenarios runs situations in which a library that coalesces calls can go wrong
// against this one and its two best known peers. Most were found in the field, in one of
// the peers or in a similar library.
//
// The tests check that the outcomes that are recorded here for each library, including
// its failures, are the real ones. The command in cmd/table writes them down for readers.
package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The record for a library that does not come to an answer.
const (
	stuck   = "stuck forever"
	leaks   = "leaves goroutines that are blocked forever"
	crashes = "the process crashes"
)

// A Scenario is one situation and its requirement.
type Scenario struct {
	Name     string // 1 to 33; or that of a bug in the Catalog, as B15
	Requires string
	Needs    Feature
	Outside  bool // run it outside of a synctest bubble

	// Run returns nil if p meets the requirement, and otherwise an error that says what p
	// does instead, in the same words every time. It need not return if p hangs or
	// crashes.
	Run func(t *testing.T, p *Peer) error

	// Fails has the failures of libraries, by their names. The others pass.
	Fails map[string]string
}

// Applies reports whether p has the features that the scenario needs.
func (s *Scenario) Applies(p *Peer) bool { return p.Has&s.Needs == s.Needs }

// All returns the scenarios in their order.
func All() []Scenario {
	all := slices.Concat(freshness, contexts, exits, keys, forgetting, deadlocks, answers, memory, surroundings)
	slices.SortStableFunc(all, func(a, b Scenario) int { return number(a.Name) - number(b.Name) })
	return all
}

// number returns the place of a scenario: those of the catalog come last.
func number(name string) int {
	var n int
	if rest, ok := strings.CutPrefix(name, "B"); ok {
		_, _ = fmt.Sscan(rest, &n)
		return 1000 + n
	}
	_, _ = fmt.Sscan(name, &n)
	return n
}
