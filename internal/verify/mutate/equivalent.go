package mutate

import (
	"fmt"
	"os"
	"strings"
)

// This file holds the list of the mutants that no test can find, or should.

// ReadEquivalent reads a list of mutants and why each is no fault. A mutant's
// key stands on a line of its own, one or several of them before the reason,
// which is indented; an empty line ends it, and # begins a comment. A file that does
// not exist is empty.
func ReadEquivalent(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
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
			if _, ok := reasons[line]; ok {
				return nil, fmt.Errorf("%s:%d: listed twice: %s", path, i+1, line)
			}
			reasons[line] = ""
			keys = append(keys, line)
			complete = false
		default:
			if len(keys) == 0 {
				return nil, fmt.Errorf("%s:%d: a reason without a mutant", path, i+1)
			}
			for _, key := range keys {
				reasons[key] = strings.TrimSpace(reasons[key] + " " + trimmed)
			}
			complete = true
		}
	}
	if !complete {
		return nil, fmt.Errorf("%s: no reason for %s", path, keys[0])
	}
	return reasons, nil
}
