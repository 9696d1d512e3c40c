package mutate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This file holds the report of a run.

// A Report has the results of a run, compared with the list of equivalents.
type Report struct {
	mutants  []*Mutant
	results  map[string]string // the test that killed a mutant, by key
	list     List              // the mutants that are equivalent
	Unlisted []*Mutant         // survivors that are not listed as equivalent
	Stale    []*Mutant         // killed, but listed
}

// NewReport returns the report of a run.
func NewReport(mutants []*Mutant, results map[string]string, list List) *Report {
	r := &Report{mutants: mutants, results: results, list: list}
	for _, m := range mutants {
		_, listed := list[m.Key()]
		killed := results[m.Key()] != ""
		switch {
		case killed && listed:
			r.Stale = append(r.Stale, m)
		case !killed && !listed:
			r.Unlisted = append(r.Unlisted, m)
		}
	}
	return r
}

// OK reports whether every survivor is listed as equivalent, and no other.
func (r *Report) OK() bool { return len(r.Unlisted) == 0 && len(r.Stale) == 0 }

// String returns the result of every mutant, one a line, and the test that killed it.
func (r *Report) String() string {
	var b strings.Builder
	for _, m := range r.mutants {
		result, by := "survived", r.results[m.Key()]
		if by != "" {
			result, by = "killed", " ("+by+")"
		} else if _, ok := r.list[m.Key()]; ok {
			result = "equivalent"
		}
		fmt.Fprintf(&b, "%-10s %s%s\n", result, m, by)
	}
	return b.String()
}

// A score counts mutants.
type score struct{ all, killed, equivalent int }

// Summary returns a table of the scores by file, and the mutants that are listed wrongly.
func (r *Report) Summary() string {
	var total score
	files := map[string]score{}
	for _, m := range r.mutants {
		one := score{all: 1}
		if r.results[m.Key()] != "" {
			one.killed = 1
		} else if _, ok := r.list[m.Key()]; ok {
			one.equivalent = 1
		}
		f := files[m.File]
		files[m.File] = score{f.all + one.all, f.killed + one.killed, f.equivalent + one.equivalent}
		total = score{total.all + one.all, total.killed + one.killed, total.equivalent + one.equivalent}
	}
	var b strings.Builder
	fmt.Fprintln(&b, "| file | mutants | killed | equivalent | survived | killed of non-equivalent |")
	fmt.Fprintln(&b, "|---|--:|--:|--:|--:|--:|")
	row := func(name string, s score) {
		rest := s.all - s.equivalent
		percent := 100 * float64(s.killed) / float64(max(rest, 1))
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %.1f %% |\n", name, s.all, s.killed, s.equivalent, rest-s.killed, percent)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		row(name, files[name])
	}
	row("all", total)
	for _, m := range slices.SortedFunc(slices.Values(r.Unlisted), byPlace) {
		fmt.Fprintf(&b, "survived: %s\n", m)
	}
	for _, m := range slices.SortedFunc(slices.Values(r.Stale), byPlace) {
		fmt.Fprintf(&b, "listed as equivalent, but killed (%s): %s\n", r.results[m.Key()], m)
	}
	return b.String()
}

func byPlace(a, b *Mutant) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID))
}
