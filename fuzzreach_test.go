package coalesce_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/model"
)

// This file holds the check that the programs that each go test runs, which are FuzzGroup's
// seeds and testdata, come to what they are meant for. They would still pass if an op or
// an argument got another meaning, and find nothing.

// reach notes that a program has come to something, and in which state f is, which may be
// nil.
func (d *driver) reach(what string, f *model.Flight) {
	if d.reached == nil || d.m == nil {
		return
	}
	d.reached[what] = true
	if f == nil {
		return
	}
	for tag, is := range map[string]bool{
		"abandoned": f.State == model.Abandoned,
		"queued":    f.State == model.Queued,
		"promoted":  f.State == model.Promoted,
		"finished":  f.State == model.Finished,
		"forgotten": f.Forgotten,
		"held":      f.Held,
		"deserted":  len(f.Callers) == 0,
		"succeeded": f.Queue != nil,
		"turned":    f.Leader != nil && f.Leader.Follows,
		"batch":     len(f.Batch) > 1,
		"NaN":       f.Key == model.NaN,
		"closed":    d.m.Closed,
		"overdue":   d.is(fuzzAge) && f.Leader != nil && d.m.Age(f) >= fuzzMaxAge,
		"hooks":     d.is(fuzzHooks),
		"clone":     d.is(fuzzClone),
		"lingers":   d.lingers(),
	} {
		if is {
			d.reached[what+": "+tag] = true
		}
	}
}

// reachEnd notes that r is about to end, with the flights of the model before that.
func (d *driver) reachEnd(r *fuzzRun, end fuzzEnd) {
	for _, c := range r.calls {
		f, how := c.Flight, end.of(r)
		switch {
		case end.keyErrors && !r.multi():
			d.reach("a KeyErrors of no DoMulti", f)
		case end.keyErrors && how == model.Error:
			d.reach("an empty KeyErrors, wrapped", f)
		case end.keyErrors && end.fails(c.Key):
			d.reach("a key fails", f)
		case end.keyErrors:
			d.reach("a key does not fail", f)
		}
		if f.Held {
			d.reach("a held flight ends by "+exitNames[how], f)
		}
		if end.late(r) {
			d.reach("LingerFor ends by "+exitNames[how], f)
		} else if d.is(fuzzLingerFor) {
			d.reach("LingerFor is asked after "+exitNames[how], f)
		}
	}
}

// reachKept notes which outcomes of r, which has ended, linger.
func (d *driver) reachKept(r *fuzzRun) {
	if d.is(fuzzLingerFor) && d.m.Stats.Evicted > 0 {
		d.reach("one of different lives is evicted", nil)
	}
	for _, c := range r.calls {
		switch f := c.Flight; {
		case !f.Kept:
		case f.Exit == model.Error:
			d.reach("an error lingers", f)
		case f.Leader.Absent:
			d.reach("an absence lingers", f)
		default:
			d.reach("a value lingers", f)
		}
	}
}

// reachEvents notes which events c is to have by now, but not Join and Leave.
func (d *driver) reachEvents(c *fuzzCall, want fuzzEvents) {
	if want.joins > 0 && want.starts > 0 {
		d.reach("Start after Join", c.Flight)
	}
	switch f := c.Flight; {
	case want.receives == 0:
	case c.Reply() == model.Closed:
		d.reach("Receive of ErrClosed", f)
	default:
		d.reach("Receive after "+exitNames[f.Exit], f)
	}
}

// exitNames are what the names of reachable say of the ends of an fn.
var exitNames = map[model.Exit]string{
	model.Return: "return", model.Error: "error", model.Panic: "panic", model.Goexit: "exit",
}

// reachable is what the programs come to, and in which states.
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

// TestFuzz_SeedsReach checks that the programs come to all that is reachable.
func TestFuzz_SeedsReach(t *testing.T) {
	silenceLog(t)
	reached := map[string]bool{}
	for _, program := range append(fuzzPrograms(), committedPrograms(t)...) {
		synctest.Test(t, func(t *testing.T) { runProgram(t, program, reached) })
	}
	for what, tags := range reachable {
		if !reached[what] {
			t.Errorf("no program comes to %q", what)
			continue
		}
		for _, tag := range strings.Fields(tags) {
			if !reached[what+": "+tag] {
				t.Errorf("no program comes to %q with a flight that is %q", what, tag)
			}
		}
	}
}

// committedPrograms returns the programs in testdata.
func committedPrograms(t *testing.T) (programs [][]byte) {
	names, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzGroup", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("got %d files, %v; want the committed inputs", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, quoted, _ := strings.Cut(string(text), "[]byte(")
		program, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		programs = append(programs, []byte(program))
	}
	return programs
}
