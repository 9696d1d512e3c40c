package fuzz

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the check that the programs that each go test runs, which are
// FuzzGroup's seeds and testdata, reach the states that they are meant for. If an op or
// an argument got another meaning, they would still pass, and find nothing.

// reachable are the situations that the programs must reach, and the states of the flight
// in them.
var reachable = map[string]string{
	"Hold is true":  "batch forgotten held deserted succeeded turned NaN closed overdue hooks clone lingers",
	"Hold is false": "batch abandoned finished forgotten turned NaN closed",

	"a held flight ends by return": "batch forgotten deserted succeeded turned NaN closed hooks clone lingers",
	"a held flight ends by error":  "deserted lingers",
	"a held flight ends by panic":  "batch deserted hooks",
	"a held flight ends by exit":   "batch deserted hooks",

	"a key fails":                       "batch abandoned forgotten held turned succeeded closed hooks clone lingers",
	"a key does not fail":               "batch abandoned forgotten held turned NaN hooks clone lingers",
	"an empty KeyErrors, wrapped":       "batch turned hooks clone",
	"a KeyErrors of no DoMulti":         "hooks clone lingers",
	"an error lingers":                  "batch hooks clone",
	"an absence lingers":                "batch turned hooks clone",
	"a value lingers":                   "batch held hooks clone",
	"one of different lives is evicted": "",
	"LingerFor is asked after return":   "batch abandoned forgotten held succeeded turned NaN closed overdue",
	"LingerFor is asked after error":    "batch abandoned forgotten succeeded NaN",
	"LingerFor ends by panic":           "batch abandoned held",
	"LingerFor ends by exit":            "batch hooks",

	"ForgetFunc forgets":    "abandoned promoted held deserted succeeded batch NaN closed overdue hooks lingers",
	"ForgetFunc drops":      "",
	"ForgetFlight is true":  "abandoned promoted held deserted succeeded batch NaN closed overdue hooks lingers",
	"ForgetFlight is false": "queued forgotten finished NaN closed hooks",

	"Receive after return": "batch turned held forgotten clone lingers",
	"Receive after error":  "batch",
	"Receive after panic":  "batch turned",
	"Receive after exit":   "batch turned",
	"Receive of ErrClosed": "",
	"Start after Join":     "turned",
}

// TestFuzz_SeedsReach checks that the programs reach everything that is reachable.
func TestFuzz_SeedsReach(t *testing.T) {
	storm.SilenceLog(t)
	reached := map[string]bool{}
	for _, program := range append(fuzzPrograms(), committedPrograms(t)...) {
		synctest.Test(t, func(t *testing.T) { runProgram(t, program, reached) })
	}
	for what, tags := range reachable {
		if !reached[what] {
			t.Errorf("got no program that reaches %q, want one", what)
			continue
		}
		for _, tag := range strings.Fields(tags) {
			if !reached[what+": "+tag] {
				t.Errorf("got no program that reaches %q with a flight that is %q, want one", what, tag)
			}
		}
	}
}

// committedPrograms returns the programs in testdata.
func committedPrograms(t *testing.T) (programs [][]byte) {
	names, err := filepath.Glob(filepath.Join("..", "..", "..", "testdata", "fuzz", "FuzzGroup", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("got %d files, %v, want the committed inputs", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, quoted, _ := strings.Cut(string(text), "[]byte(")
		program, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		if err != nil {
			t.Fatalf("%s: got %v, want a program", name, err)
		}
		programs = append(programs, []byte(program))
	}
	return programs
}
