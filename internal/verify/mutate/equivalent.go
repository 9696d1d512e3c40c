package mutate

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// This file holds the list of the mutants that no test can find, or should.

// A List has, for mutants by key, the reason why each of them is no fault.
type List map[string]string

// entry is the form of an entry of a List: a key, as Mutant.Key returns it.
var entry = regexp.MustCompile(`^(\S+) (\S+) ([1-9]\d*)/([1-9]\d*)$`)

// ReadList reads a list of mutants and why each is no fault. A mutant's key stands on a
// line of its own, one or several of them before the reason, which is indented; an empty
// line ends it, and # begins a comment. A file that does not exist is empty.
func ReadList(path string) (List, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := List{}
	var keys []string // of the entry that is being read
	complete := true
	for i, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case trimmed == "":
			if complete {
				keys = nil
			}
		case trimmed == line:
			if complete {
				keys = nil
			}
			if found := entry.FindStringSubmatch(line); found == nil || !slices.Contains(Kinds, Kind(found[2])) {
				return nil, fmt.Errorf("%s:%d: got %q, want a function, a kind, and a place such as 1/2", path, i+1, line)
			}
			if _, ok := list[line]; ok {
				return nil, fmt.Errorf("%s:%d: listed twice: %s", path, i+1, line)
			}
			list[line] = ""
			keys = append(keys, line)
			complete = false
		default:
			if len(keys) == 0 {
				return nil, fmt.Errorf("%s:%d: a reason without a mutant", path, i+1)
			}
			for _, key := range keys {
				list[key] = strings.TrimSpace(list[key] + " " + trimmed)
			}
			complete = true
		}
	}
	if !complete {
		return nil, fmt.Errorf("%s: no reason for %s", path, keys[0])
	}
	return list, nil
}

// Strangers returns the keys in l that belong to no mutant, sorted, each with the mutants
// in its place: another number of such mutants of its function, or none. all are the
// mutants of the package, whether they compile or not.
func (l List) Strangers(all []*Mutant) []string {
	known := map[string]bool{}
	of := map[string]int{} // by function and kind
	for _, m := range all {
		known[m.Key()] = true
		of[fmt.Sprint(m.Func, " ", m.Kind)] = m.Of
	}
	var strangers []string
	for key := range l {
		if !known[key] {
			such, _, _ := strings.Cut(key, "/")
			such = such[:strings.LastIndex(such, " ")]
			strangers = append(strangers, fmt.Sprintf("%s (there are %d)", key, of[such]))
		}
	}
	slices.Sort(strangers)
	return strangers
}
