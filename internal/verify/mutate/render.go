package mutate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// This file holds the output of the source of all mutants.

// Variable is the environment variable that holds the number of the mutant to
// run; without it, or with 0, the package is as it was.
const Variable = "MUTANT"

// guard returns the call that reports whether mutant id is chosen.
func guard(id int) string { return "mutated(" + strconv.Itoa(id) + ")" }

// support returns the source of the functions that the mutants of a package call.
func support(pkg string) string {
	return fmt.Sprintf(`package %s

import (
	mutantos "os"
	mutantruntime "runtime"
	mutantconv "strconv"
)

var mutant, _ = mutantconv.Atoi(mutantos.Getenv(%q))

func mutated(n int) bool { return mutant == n }

// unlocked is called in the window of a mutant.
func unlocked() { mutantruntime.Gosched() }

// unmutated returns v, or nil for mutant n.
func unmutated(n int, v error) error {
	if mutated(n) {
		return nil
	}
	return v
}
`, pkg, Variable)
}

// render returns the source with the edits of the mutants in in.
func (s *source) render(in map[int]bool) string {
	edits := slices.DeleteFunc(slices.Clone(s.edits), func(e edit) bool { return !in[e.id] })
	// Outer before inner; of one range, in the order in which they apply.
	slices.SortStableFunc(edits, func(a, b edit) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return b.to - a.to
	})
	text, _ := s.renderRange(edits, 0, len(s.text))
	return text
}

// renderRange returns the text of a range with its edits, which come first in edits, and
// their number.
func (s *source) renderRange(edits []edit, from, to int) (string, int) {
	var b strings.Builder
	at, i := from, 0
	for i < len(edits) && edits[i].to <= to && edits[i].from < to {
		first := i
		for i < len(edits) && edits[i].from == edits[first].from && edits[i].to == edits[first].to {
			i++
		}
		same := edits[first:i]
		inner, n := s.renderRange(edits[i:], same[0].from, same[0].to)
		i += n
		for _, e := range same {
			inner = e.apply(inner)
		}
		b.WriteString(s.text[at:same[0].from])
		b.WriteString(inner)
		at = same[0].to
	}
	b.WriteString(s.text[at:to])
	return b.String(), i
}
