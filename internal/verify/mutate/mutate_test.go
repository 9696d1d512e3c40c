package mutate

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file holds the tests of the mutator, on a small package.

// want says what becomes of the fixture's mutants.
var want = map[string]string{
	"fixture.go Box.Put delete b.mu.Lock()":                    "killed", // unlock of unlocked mutex
	"fixture.go Box.Put delete defer b.mu.Unlock()":            "killed", // deadlock
	"fixture.go Box.Put undefer defer b.mu.Unlock()":           "survived",
	"fixture.go Box.Put delete b.n++":                          "killed",
	"fixture.go Box.Put delete b.spare = 1":                    "survived",
	"fixture.go Box.Put boundary b.n >= limit":                 "killed",
	"fixture.go Box.Put plus-one b.n >= limit":                 "killed",
	"fixture.go Either logic a || b":                           "killed",
	"fixture.go Same equality a == b":                          "killed",
	"fixture.go Small boundary x < 5":                          "survived",
	"fixture.go Small plus-one x < 5":                          "survived",
	"fixture.go Small minus-one x < 5":                         "killed",
	"fixture.go Count true i < n":                              "hang",
	"fixture.go Count delete continue":                         "killed",
	"fixture.go Count plus-one i == 2":                         "survived",
	"fixture.go Count delete sum /= 1":                         "survived",
	"fixture.go Kind negate x > 0":                             "killed",
	"fixture.go Kind true x > 0":                               "killed",
	"fixture.go Kind false x > 0":                              "killed",
	"fixture.go Must true x > 0":                               "survived",
	"fixture.go Order swap tell(\"first\") ; tell(\"second\")": "killed",
	"fixture.go Order delete tell(\"second\")":                 "killed",
	"fixture.go one.ask delete n = 1":                          "killed", // before main
}

func TestFixture(t *testing.T) {
	dir, err := filepath.Abs("testdata/fixture")
	if err != nil {
		t.Fatal(err)
	}
	stages := []Stage{{Name: "only", Timeout: time.Minute, Stall: 5 * time.Second}}
	b, err := Compile(dir, t.TempDir(), stages)
	if err != nil {
		t.Fatal(err)
	}
	if by := b.Run(0, stages); by != "" {
		t.Fatalf("without a mutant: %s", by)
	}
	kinds := map[Kind]bool{}
	left := maps.Clone(want)
	for _, m := range b.Mutants {
		kinds[m.Kind] = true
		want, ok := left[m.Key()]
		if !ok {
			continue
		}
		delete(left, m.Key())
		got := "killed"
		by := b.Run(m.ID, stages)
		switch {
		case by == "":
			got = "survived"
		case strings.HasPrefix(by, "only: hang in Test"):
			got = "hang"
		}
		if got != want {
			t.Errorf("%s: %s (%s), want %s", m.Key(), got, by, want)
		}
	}
	for key := range left {
		t.Errorf("no mutant %s", key)
	}
	for _, kind := range Kinds {
		if !kinds[kind] {
			t.Errorf("no mutant of kind %s", kind)
		}
	}
	if len(b.Dropped) != 1 || b.Dropped[0].Text != `panic("not positive")` {
		t.Errorf("%d mutants do not compile, want one: the panic at the end of Must", len(b.Dropped))
	}
	if b.Skipped["return"] == 0 {
		t.Error("skipped returns are not counted")
	}
}

func TestSecondOfItsKindIsNumbered(t *testing.T) {
	a := &Mutant{File: "f.go", Func: "F", Kind: Delete, Text: "x++"}
	b := &Mutant{File: "f.go", Func: "F", Kind: Delete, Text: "x++"}
	c := &Mutant{File: "f.go", Func: "G", Kind: Delete, Text: "x++"}
	number([]*Mutant{a, b, c})
	if got := []string{a.Text, b.Text, c.Text}; !slices.Equal(got, []string{"x++", "x++ #2", "x++"}) {
		t.Errorf("texts are %q", got)
	}
}

func TestReportHoldsSurvivorsAgainstTheList(t *testing.T) {
	m := func(text string) *Mutant { return &Mutant{File: "f.go", Func: "F", Kind: Delete, Text: text} }
	killed, stale, listed, survivor := m("killed"), m("stale"), m("listed"), m("survivor")
	results := map[string]string{killed.Key(): "T", stale.Key(): "T"}
	reasons := map[string]string{stale.Key(): "why", listed.Key(): "why"}
	r := NewReport([]*Mutant{killed, stale, listed, survivor}, results, reasons)
	if !slices.Equal(r.Stale, []*Mutant{stale}) || !slices.Equal(r.Unlisted, []*Mutant{survivor}) || r.OK() {
		t.Errorf("stale %v, unlisted %v, OK %v", r.Stale, r.Unlisted, r.OK())
	}
	if row := "| all | 4 | 2 | 1 | 1 | 66.7 % |"; !strings.Contains(r.Summary(), row) {
		t.Errorf("no row %q in\n%s", row, r.Summary())
	}
	if line := "killed     f.go:0 F delete: killed (T)\n"; !strings.Contains(r.String(), line) {
		t.Errorf("no line %q in\n%s", line, r)
	}
	if r := NewReport([]*Mutant{killed, listed}, results, reasons); !r.OK() {
		t.Error("a report without wrong entries is not OK")
	}
}

func TestJournalGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	killed := &Mutant{File: "f.go", Func: "F", Kind: Delete, Text: "killed"}
	survivor := &Mutant{File: "f.go", Func: "F", Kind: Delete, Text: "survivor"}
	open := func(sum string) *Journal {
		j, err := OpenJournal(path, sum)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { j.Close() })
		return j
	}
	j := open("one")
	if err := j.Record(killed, "T"); err != nil {
		t.Fatal(err)
	}
	if err := j.Record(survivor, ""); err != nil {
		t.Fatal(err)
	}
	j = open("one")
	if by, ok := j.Killed(killed); !ok || by != "T" {
		t.Errorf("killed by %q, %v", by, ok)
	}
	if _, ok := j.Killed(survivor); ok {
		t.Error("a survivor is not run again")
	}
	if _, ok := open("two").Killed(killed); ok {
		t.Error("a result of other sources is used")
	}
}

func TestEquivalentNeedsAReason(t *testing.T) {
	read := func(text string) (map[string]string, error) {
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadEquivalent(path)
	}
	got, err := read("# comment\n\nf.go F delete x++\nf.go G delete x++\n\tnobody\n\treads x\nf.go H delete y++\n\tnor y\n")
	want := map[string]string{"f.go F delete x++": "nobody reads x", "f.go G delete x++": "nobody reads x", "f.go H delete y++": "nor y"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{
		"f.go F delete x++\n",
		"\twhy\n",
		"f.go F delete x++\n\twhy\n\n\twhy else\n",
		"f.go F delete x++\n\twhy\nf.go F delete x++\n\twhy\n",
	} {
		if got, err := read(bad); err == nil {
			t.Errorf("read %q as %v", bad, got)
		}
	}
}

func TestBlameFindsTheGuardBefore(t *testing.T) {
	text := "if mutated(1) { a }\nif mutated(2) || x > (5-1) && mutated(3) || x > (0-1) {\n"
	for _, c := range []struct {
		line, column int
		message      string
		want         int
	}{
		{1, 17, "undefined: a", 1},
		{2, 1, "missing return", 1},
		{2, 0, "5 - 1 (constant 4 of type T) overflows T", 2},
		{2, 0, "0 - 1 (constant -1 of type T) overflows T", 3},
		{9, 1, "beyond the end", 0},
	} {
		if got := blame(text, c.line, c.column, c.message); got != c.want {
			t.Errorf("line %d, column %d, %q: %d, want %d", c.line, c.column, c.message, got, c.want)
		}
	}
}

func TestReasonNamesTheFirstTest(t *testing.T) {
	for out, want := range map[string]string{
		"ok\n    --- FAIL: TestA/b (0.00s)\n--- FAIL: TestB (0.00s)\n": "TestA/b",
		"panic: boom\n\ngoroutine 1\n":                                 "panic: boom",
		"fatal error: all goroutines are asleep - deadlock!\n":         "fatal error: all goroutines are asleep - deadlock!",
		"exit status 3":                          "failed",
		"panic: boom\n--- FAIL: TestC (0.00s)\n": "TestC",
	} {
		if got := reason(out); got != want {
			t.Errorf("reason(%q) = %q, want %q", out, got, want)
		}
	}
}

func TestOutputEndsAtTheFirstFailure(t *testing.T) {
	ended := 0
	o := &output{end: func() { ended++ }}
	for i, part := range []string{"=== RUN   TestA\n    a_test.go:1: wrong\n--- FA", "IL: TestA (0.00s)\n", "--- FAIL: TestB (0.00s)\n"} {
		if _, err := o.Write([]byte(part)); err != nil || o.failed != (i > 0) || ended != min(i, 1) {
			t.Errorf("after part %d: %v, failed %v, ended %d times", i, err, o.failed, ended)
		}
	}
	if got := reason(o.text.String()); got != "TestA" {
		t.Errorf("the reason is %q", got)
	}
}
