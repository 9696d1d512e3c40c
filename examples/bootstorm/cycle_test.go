package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The text is for people: it must name the cycle, and the form of call that does not see
// it.
func TestCycle_Text(t *testing.T) {
	status, stdout, stderr := command(t, "-cycle")
	if status != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, want 0 and none", status, stderr)
	}
	// The wall times differ from run to run.
	got := regexp.MustCompile(`(\d/\d   )[\d.]+(µs|ms|s)\n`).ReplaceAllString(stdout, "${1}WALL\n")
	want := `Two modules that need each other: a.ko needs b.ko, b.ko needs a.ko. A worker loads b.ko.

policy    outcome   files read  live  wall
none      endless   64          0/2   WALL
etxtbsy   busy      2           0/2   WALL
seed      hung      2           0/2   WALL
coalesce  reported  2           0/2   WALL

none: each load made another one; stopped when 64 ran inside one another.
etxtbsy: the worker was sent away (b.ko: a.ko: b.ko: text file busy: another caller is loading it). That would never have helped.
seed: each load waited for the other, forever; the demonstration freed them after 250ms.
coalesce: the cycle was reported instead of entered: a.ko → b.ko → a.ko.
    The worker got: b.ko: a.ko: b.ko: coalesce: deadlock: a.ko → b.ko → a.ko
    (Group.DoContext, given the context of the load that needs the file; Group.Do has
    no context to show it, and would hang like the seed.)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCycle_JSON(t *testing.T) {
	status, stdout, stderr := command(t, "-cycle", "-json", "-policy", "coalesce,etxtbsy")
	if status != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, want 0 and none", status, stderr)
	}
	var rep cycleReport
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if rep.Storm != "cycle" || len(rep.Results) != 2 ||
		!slices.Equal(rep.Needs, [][2]string{{"a.ko", "b.ko"}, {"b.ko", "a.ko"}}) {
		t.Errorf("got %+v, want two results of the cycle", rep)
	}
	r := rep.Results[0]
	if r.Outcome != "reported" || !slices.Equal(r.Cycle, []string{"a.ko", "b.ko", "a.ko"}) || r.Loads != 2 {
		t.Errorf("got %+v, want the cycle reported after 2 loads", r)
	}
	if r := rep.Results[1]; r.Outcome != "busy" || r.Cycle != nil {
		t.Errorf("got %+v, want busy and no cycle", r)
	}
}

// Only the seed hangs, and its loads are freed: the bubble would not end otherwise.
func TestCycle_OnlyTheSeedHangs(t *testing.T) {
	for _, name := range policyNames {
		synctest.Test(t, func(t *testing.T) {
			set, err := writeCycle(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			want := time.Duration(0)
			switch name {
			case "seed":
				want = cyclePatience
			case "coalesce":
				want = 10 * time.Millisecond // a call without an answer looks for a cycle then
			}
			res := set.loadCycle(t.Context(), name)
			if res.Outcome != cycleOutcomes[name] || res.WallSeconds != want.Seconds() {
				t.Errorf("got %+v, want %s after %v", res, cycleOutcomes[name], want)
			}
		})
	}
}

// A load whose context ends is no cycle.
func TestCycle_Canceled(t *testing.T) {
	set, err := writeCycle(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res := set.loadCycle(ctx, "coalesce"); res.Outcome != cycleFailed || res.Loads != 0 {
		t.Errorf("got %+v, want a failure and no load", res)
	}
}

// Without a cycle, the same loader makes both modules live.
func TestCycle_NoCycle(t *testing.T) {
	for _, name := range policyNames {
		set, err := writeCycle(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		set.modules[set.byPath["a.ko"]].prereqs = nil
		res := set.loadCycle(t.Context(), name)
		if res.Error != "" || res.LiveModules != 2 || res.Loads != 2 {
			t.Errorf("%s: got %+v, want 2 loads and no error", name, res)
		}
		rep := cycleReport{Results: []cycleResult{res}}
		if n := len(rep.problems()); n != 2 {
			t.Errorf("%s: got %d problems, want 2: %v", name, n, rep.problems())
		}
	}
}

// A cycle is one of files, independent of the paths: a file that is not known appears as
// it is.
func TestCycle_UnknownFile(t *testing.T) {
	set := &moduleSet{modules: []module{{path: "a.ko", id: fileID{1, 2}}}}
	if got, want := arrows(set.pathsOf([]any{fileID{1, 2}, "x", fileID{3, 4}})), "a.ko → x → {3 4}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// link refuses the very cycle of the demonstration.
func TestCycle_LinkRefusesIt(t *testing.T) {
	entries, err := parseDep(depFile, cycleDep)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := link(depFile, entries); err == nil || !strings.Contains(err.Error(), "cycle") {
		t.Errorf("link: got %v, want an error about the cycle", err)
	}
}
