package mutate

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file holds the tests of the mutator, on a small package.

// want has the fate of the fixture's mutants, by function, kind and text.
var want = map[string]string{
	"Box.Put delete b.mu.Lock()":                    "killed", // unlock of unlocked mutex
	"Box.Put delete defer b.mu.Unlock()":            "killed", // deadlock
	"Box.Put undefer defer b.mu.Unlock()":           "survived",
	"Box.Put delete b.n++":                          "killed",
	"Box.Put delete b.spare = 1":                    "survived",
	"Box.Put boundary b.n >= limit":                 "killed",
	"Box.Put plus-one b.n >= limit":                 "killed",
	"Box.Drop window b.n-- ; b.mu.Unlock()":         "killed",
	"Either ignore a":                               "killed",
	"Either ignore b":                               "survived",
	"All ignore a":                                  "killed",
	"All ignore b":                                  "survived",
	"All ignore (c && d)":                           "killed",
	"All ignore c":                                  "survived",
	"All ignore d":                                  "killed",
	"Half delete half = x/2":                        "killed",
	"Half delete err = nil":                         "survived",
	"Half nil errOdd":                               "killed",
	"Same equality a == b":                          "killed",
	"Small boundary x < 5":                          "survived",
	"Small plus-one x < 5":                          "survived",
	"Small minus-one x < 5":                         "killed",
	"Count true i < n":                              "hang",
	"Count delete continue":                         "killed",
	"Count plus-one i == 2":                         "survived",
	"Count delete sum /= 1":                         "survived",
	"Kind negate x > 0":                             "killed",
	"Kind true x > 0":                               "killed",
	"Kind false x > 0":                              "killed",
	"Must true x > 0":                               "survived",
	"Order swap tell(\"first\") ; tell(\"second\")": "killed",
	"Order delete tell(\"second\")":                 "killed",
	"one.ask delete n = 1":                          "killed", // before main
}

func TestFixture(t *testing.T) {
	dir, err := filepath.Abs("testdata/fixture")
	if err != nil {
		t.Fatal(err)
	}
	stages := []Stage{{Name: "only", Timeout: time.Minute, Stall: 2 * time.Second}}
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Compile(t.TempDir(), p.Mutants, stages)
	if err != nil {
		t.Fatal(err)
	}
	if death := b.Run(0, stages); death != nil {
		t.Fatalf("without a mutant: got %s, want no failure", death)
	}
	kinds := map[Kind]bool{}
	left := maps.Clone(want)
	for _, m := range b.Mutants {
		kinds[m.Kind] = true
		name := fmt.Sprint(m.Func, " ", m.Kind, " ", m.Text)
		want, ok := left[name]
		if !ok {
			continue
		}
		delete(left, name)
		got := "killed"
		death := b.Run(m.ID, stages)
		switch {
		case death == nil:
			got = "survived"
		case death.Stage == "only" && strings.HasPrefix(death.By, "Test") && strings.HasSuffix(death.By, ", a hang"):
			got = "hang"
		}
		if got != want {
			t.Errorf("%s: got %s (%s), want %s", m, got, death, want)
		}
	}
	for key := range left {
		t.Errorf("got no mutant %s, want one", key)
	}
	for _, kind := range Kinds {
		if !kinds[kind] {
			t.Errorf("got no mutant of kind %s, want one", kind)
		}
	}
	if len(b.Dropped) != 1 || b.Dropped[0].Text != `panic("not positive")` {
		t.Errorf("got %d mutants that do not compile, want one: the panic at the end of Must", len(b.Dropped))
	}
	if p.Skipped["return"] == 0 {
		t.Error("got no count of skipped returns, want one")
	}
}

// TestKeys: keys depend on the order in the source, and of all names there only on that
// of the function.
func TestKeys(t *testing.T) {
	const before = `package p
func F(x int) {
	if x > 0 { x++ }
	x--
}
func (b *Box[T]) G() { b.n++ }
`
	renamed := strings.NewReplacer("F(x", "F(size", "x >", "size >", "x++", "size++", "x--", "size--", "b.n", "b.count").Replace(before)
	longer := strings.Replace(before, "x--", "x--; x *= 2", 1)
	keys := func(text string) (deletes []string) {
		t.Helper()
		sources, err := parse([]string{"f.go"}, func(string) (string, error) { return text, nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sources[0].mutants {
			if m.Kind == Delete {
				deletes = append(deletes, m.Key()+": "+m.Text)
			}
		}
		return deletes
	}
	for text, want := range map[string][]string{
		before:  {"F delete 1/2: x++", "F delete 2/2: x--", "Box.G delete 1/1: b.n++"},
		renamed: {"F delete 1/2: size++", "F delete 2/2: size--", "Box.G delete 1/1: b.count++"},
		longer:  {"F delete 1/3: x++", "F delete 2/3: x--", "F delete 3/3: x *= 2", "Box.G delete 1/1: b.n++"},
	} {
		if got := keys(text); !slices.Equal(got, want) {
			t.Errorf("keys of %s: got %q, want %q", text, got, want)
		}
	}
}

// TestIndependentStatementsAreNotSwapped: no test could find such a swap.
func TestIndependentStatementsAreNotSwapped(t *testing.T) {
	for body, want := range map[string]int{
		"mu.Lock(); defer mu.Unlock()":    0,
		"mu.RLock(); defer mu.RUnlock()":  0,
		"mu.Lock(); defer other.Unlock()": 1,
		"mu.Lock(); defer mu.RUnlock()":   1,
		"mu.Lock(); mu.Unlock()":          1,
		"defer mu.Unlock(); x = 1":        0,
		"defer mu.Unlock(); x++":          0,
		"defer mu.Unlock(); f()":          1,
		"defer f(x); x = 1":               1,
		"defer f(g()); x = 1":             1,
		"defer g().f(); x = 1":            1,
		"defer func() { f() }(); x = 1":   0,
		"defer func() { f(x) }(); x = 1":  1,
		"x = 1; defer mu.Unlock()":        0,
		"defer f(); defer g()":            1,
		"x = 1; y = 2":                    0,
		"x = 1; y = x":                    1,
		"x = 1; y = f()":                  1,
		"x = 1; y++":                      0,
		"x = len(s); y = uint64(x)":       1,
		"x = len(s); z = uint64(y)":       0,
	} {
		sources, err := parse([]string{"f.go"}, func(string) (string, error) { return "package p\nfunc F() { " + body + " }", nil })
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, m := range sources[0].mutants {
			if m.Kind == Swap {
				got++
			}
		}
		if got != want || sources[0].skipped["swap of independent statements"] != 1-want {
			t.Errorf("%s: got %d swaps and %v, want %d", body, got, sources[0].skipped, want)
		}
	}
}

// TestWindow: a window is opened where statements run under the lock, not in a section that
// has none.
func TestWindow(t *testing.T) {
	for body, want := range map[string]int{
		"mu.Lock(); x = f(); mu.Unlock()":       1,
		"x = f(); mu.Unlock()":                  1,
		"if x > 0 { f() }; mu.Unlock()":         1,
		"mu.Lock(); mu.Unlock()":                0,
		"mu.Unlock()":                           0,
		"x = f(); mu.RUnlock()":                 0,
		"mu.Lock(); defer mu.Unlock(); x = f()": 0,
		"x = f(); defer mu.Unlock()":            0,
	} {
		sources, err := parse([]string{"f.go"}, func(string) (string, error) { return "package p\nfunc F() { " + body + " }", nil })
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, m := range sources[0].mutants {
			if m.Kind == Window {
				got++
			}
		}
		if got != want {
			t.Errorf("%s: got %d windows, want %d", body, got, want)
		}
	}
}

func TestString(t *testing.T) {
	m := &Mutant{File: "f.go", Line: 7, Func: "Box.Put", Kind: Delete, Nth: 2, Of: 4, Text: "b.n++"}
	if got, want := m.String(), "f.go:7 Box.Put delete 2/4: b.n++"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.Text = strings.Repeat("ö", 101)
	if got, want := m.String(), "f.go:7 Box.Put delete 2/4: "+strings.Repeat("ö", 100)+"…"; got != want {
		t.Errorf("of a long text: got %q, want %q", got, want)
	}
}

func TestReportHoldsSurvivorsAgainstTheList(t *testing.T) {
	m := func(nth int, text string) *Mutant {
		return &Mutant{File: "f.go", Func: "F", Kind: Delete, Nth: nth, Of: 4, Text: text}
	}
	killed, stale, listed, survivor := m(1, "killed"), m(2, "stale"), m(3, "listed"), m(4, "survivor")
	results := map[string]string{killed.Key(): "T", stale.Key(): "T"}
	list := List{stale.Key(): "why", listed.Key(): "why"}
	r := NewReport([]*Mutant{killed, stale, listed, survivor}, results, list)
	if !slices.Equal(r.Stale, []*Mutant{stale}) || !slices.Equal(r.Unlisted, []*Mutant{survivor}) || r.OK() {
		t.Errorf("got stale %v, unlisted %v, OK %v, want %v, %v, false", r.Stale, r.Unlisted, r.OK(), stale, survivor)
	}
	if row := "| all | 4 | 2 | 1 | 1 | 66.7 % |"; !strings.Contains(r.Summary(), row) {
		t.Errorf("got %s, want a row %q", r.Summary(), row)
	}
	if line := "killed     f.go:0 F delete 1/4: killed (T)\n"; !strings.Contains(r.String(), line) {
		t.Errorf("got %s, want a line %q", r, line)
	}
	if r := NewReport([]*Mutant{killed, listed}, results, list); !r.OK() {
		t.Error("a report without wrong entries: got false from OK, want true")
	}
}

func TestJournalGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	killed := &Mutant{File: "f.go", Func: "F", Kind: Delete, Nth: 1, Of: 2}
	survivor := &Mutant{File: "f.go", Func: "F", Kind: Delete, Nth: 2, Of: 2}
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
		t.Errorf("got killed by %q, %v, want T, true", by, ok)
	}
	if _, ok := j.Killed(survivor); ok {
		t.Error("a survivor: got a result, want it to run again")
	}
	if _, ok := open("two").Killed(killed); ok {
		t.Error("other sources: got a result, want none")
	}
}

func TestListNeedsAReason(t *testing.T) {
	read := func(text string) (List, error) {
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadList(path)
	}
	got, err := read("# comment\n\nF delete 1/2\nBox.G plus-one 2/2\n\tnothing\n\treads x\nH swap 10/12\n\tnor y\n")
	want := List{"F delete 1/2": "nothing reads x", "Box.G plus-one 2/2": "nothing reads x", "H swap 10/12": "nor y"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{
		"F delete 1/2\n",
		"\twhy\n",
		"F delete 1/2\n\twhy\n\n\twhy else\n",
		"F delete 1/2\n\twhy\nF delete 1/2\n\twhy\n",
		"F delete\n\twhy\n",
		"F delete 1\n\twhy\n",
		"F delete 0/2\n\twhy\n",
		"F forget 1/2\n\twhy\n",
		"f.go F delete 1/2\n\twhy\n",
	} {
		if got, err := read(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestStrangersAreNoMutants(t *testing.T) {
	all := []*Mutant{
		{Func: "F", Kind: Delete, Nth: 1, Of: 2},
		{Func: "F", Kind: Delete, Nth: 2, Of: 2},
		{Func: "F", Kind: Swap, Nth: 1, Of: 1},
	}
	list := List{"F delete 2/2": "", "F swap 1/1": "", "F delete 1/3": "", "F negate 1/1": "", "Old.F delete 1/1": ""}
	got := list.Strangers(all)
	want := []string{"F delete 1/3 (there are 2)", "F negate 1/1 (there are 0)", "Old.F delete 1/1 (there are 0)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := List(nil).Strangers(all); got != nil {
		t.Errorf("of no list: got %q, want none", got)
	}
}

// TestFind: for a key that is no longer one, the error shows what may replace it.
func TestFind(t *testing.T) {
	p := &Package{Mutants: []*Mutant{
		{File: "f.go", Line: 3, Func: "F", Kind: Delete, Nth: 1, Of: 2, Text: "x++"},
		{File: "f.go", Line: 4, Func: "F", Kind: Swap, Nth: 1, Of: 1, Text: "x++ ; f()"},
		{File: "f.go", Line: 4, Func: "F", Kind: Delete, Nth: 2, Of: 2, Text: "f()"},
		{File: "f.go", Line: 8, Func: "G", Kind: Delete, Nth: 1, Of: 3, Text: "y++"},
	}}
	if m, err := p.Find("F delete 2/2"); err != nil || m != p.Mutants[2] {
		t.Errorf("got %v, %v, want %v, nil", m, err, p.Mutants[2])
	}
	for key, want := range map[string]string{
		"F delete 1/3":   "there is no mutant \"F delete 1/3\"; of its kind in its function there are:\n\tf.go:3 F delete 1/2: x++\n\tf.go:4 F delete 2/2: f()",
		"F negate 1/1":   "there is no mutant \"F negate 1/1\", and none of its kind in its function",
		"Old delete 1/1": "there is no mutant \"Old delete 1/1\", and none of its kind in its function",
		"F":              "there is no mutant \"F\", and none of its kind in its function",
	} {
		if m, err := p.Find(key); m != nil || err == nil || err.Error() != want {
			t.Errorf("%s: got %v, %v, want nil, %s", key, m, err, want)
		}
	}
}

// TestRender: of all mutants, the source that is compiled has those that were chosen.
func TestRender(t *testing.T) {
	const text = "package p\n\nfunc F(x int) bool {\n\tx++\n\treturn x == 1 && !(x < 0)\n}\n"
	sources, err := parse([]string{"f.go"}, func(string) (string, error) { return text, nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := sources[0].render(nil); got != text {
		t.Errorf("without a mutant: got %s, want %s", got, text)
	}
	in := map[int]bool{}
	for _, m := range sources[0].mutants {
		if m.Kind == Delete || m.Kind == Boundary {
			in[m.ID] = true
		}
	}
	got := sources[0].render(in)
	want := "package p\n\nfunc F(x int) bool {\n\tif !mutated(1) { x++ }\n\t" +
		"return x == 1 && !((!mutated(7) && (x < 0) || mutated(7) && (x <= 0)))\n}\n"
	if got != want {
		t.Errorf("with two of them: got %s, want %s", got, want)
	}
}

func TestBlameFindsTheGuardBefore(t *testing.T) {
	text := "if mutated(1) { a }\nif mutated(2) || x > (5-1) && mutated(3) || x > (0-1) {\nunmutated(4, p) = err\n"
	for _, c := range []struct {
		line, column int
		message      string
		want         int
	}{
		{1, 17, "undefined: a", 1},
		{2, 1, "missing return", 1},
		{2, 0, "5 - 1 (constant 4 of type T) overflows T", 2},
		{2, 0, "0 - 1 (constant -1 of type T) overflows T", 3},
		{3, 14, "cannot use p as error value in argument to unmutated", 4},
		{9, 1, "beyond the end", 0},
	} {
		if got := blame(text, c.line, c.column, c.message); got != c.want {
			t.Errorf("line %d, column %d, %q: got %d, want %d", c.line, c.column, c.message, got, c.want)
		}
	}
}

func TestCauseNamesTheFirstTest(t *testing.T) {
	for out, want := range map[string]string{
		"ok\n    --- FAIL: TestA/b (0.00s)\n--- FAIL: TestB (0.00s)\n":               "TestA/b",
		"=== RUN   TestA\n=== RUN   TestB\npanic: boom\n\ngoroutine 1\n":             "TestB, a panic",
		"=== RUN   TestA\nfatal error: all goroutines are asleep - deadlock!\n":      "TestA, a crash",
		"=== RUN   TestA\nfatal error: concurrent map writes\npanic: and this one\n": "TestA, a crash",
		"exit status 3":                          "no test, an exit",
		"panic: boom\n--- FAIL: TestC (0.00s)\n": "TestC",
	} {
		if got := cause(out); got != want {
			t.Errorf("cause(%q): got %q, want %q", out, got, want)
		}
	}
}

func TestOutputEndsAtTheFirstFailure(t *testing.T) {
	ended := 0
	o := &watched{end: func() { ended++ }}
	for i, part := range []string{"=== RUN   TestA\n    a_test.go:1: wrong\n--- FA", "IL: TestA (0.00s)\n", "--- FAIL: TestB (0.00s)\n"} {
		if _, err := o.Write([]byte(part)); err != nil || o.failed != (i > 0) || ended != min(i, 1) {
			t.Errorf("after part %d: got %v, failed %v, ended %d times, want nil, %v, %d", i, err, o.failed, ended, i > 0, min(i, 1))
		}
	}
	if got := cause(o.text.String()); got != "TestA" {
		t.Errorf("got the cause %q, want TestA", got)
	}
}
