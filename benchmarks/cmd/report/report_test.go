package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

func gomaxprocs() int { return runtime.GOMAXPROCS(0) }

// All workloads, with real runs in real processes: a failure is reported and left out,
// and the rest is in the report.
func TestReport_EndToEnd(t *testing.T) {
	var stderr bytes.Buffer
	p := program{
		workloads: tinyWorkloads(), surroundings: here, measure: inChild, now: time.Now,
		stdout: t.Output(), stderr: &stderr,
	}
	out := t.TempDir()
	if code := p.main(t.Context(), []string{"-count", "2", "-benchtime", "10x", "-out", out}); code != exitFailed {
		t.Errorf("got exit code %d, want %d since some fail", code, exitFailed)
	}
	for _, want := range []string{
		"round 1 of 2", "tiny/keys=1, failing, round 1: exit status 1: the benchmark failed",
		"tiny/keys=1, panicking, round 1: exit status 2: panic: on purpose",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("got stderr\n%s\nwant %q in it", &stderr, want)
		}
	}
	sessions, results, err := readJournal(filepath.Join(out, "benchmarks", "report.jsonl"))
	if err != nil || len(sessions) != 1 || len(results) != 6 {
		t.Fatalf("got %d sessions, %d results, %v, want 1, 6, nil", len(sessions), len(results), err)
	}
	for _, r := range results {
		if r.Workload == "work=procs/keys=1/procs=3" && r.Metrics["procs"] != 3 {
			t.Errorf("got GOMAXPROCS %v, want 3", r.Metrics["procs"])
		}
		if r.Seconds <= 0 || r.N < 1 || r.At.IsZero() || r.Machine == "" || r.Code == "" {
			t.Errorf("got %+v, want a complete result", r)
		}
	}
	text, err := os.ReadFile(filepath.Join(out, "BENCHMARKS.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := os.ReadFile(filepath.Join(out, tablesFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| **coalesce** | ", "| failing | – | – | – | no result |"} {
		if !strings.Contains(string(tables), want) {
			t.Errorf("%s: got\n%s\nwant %q in it", tablesFile, tables, want)
		}
	}
	for _, want := range []string{
		runtime.Version(), sessions[0].Conditions.Code,
		"`go run ./cmd/report -count 2 -benchtime 10x -out ",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("BENCHMARKS.md: got\n%s\nwant %q in it", text, want)
		}
	}
}

// Within a round each implementation runs, and another one begins.
func TestCampaign_Order(t *testing.T) {
	p := fakeProgram(t.Output())
	var order []string
	inner := p.measure
	p.measure = func(ctx context.Context, s spec) (measurement, error) {
		order = append(order, s.Impl)
		return inner(ctx, s)
	}
	out := t.TempDir()
	if code := p.main(t.Context(), []string{"-count", "3", "-run", "work=cancellable/", "-out", out}); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	want := "coalesce resenje floor-cancellable resenje floor-cancellable coalesce floor-cancellable coalesce resenje"
	if got := strings.Join(order, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A further round is only one more, and yet another one begins.
	order = nil
	if code := p.main(t.Context(), []string{"-count", "4", "-run", "work=cancellable/", "-out", out}); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	if got, want := strings.Join(order, " "), "coalesce resenje floor-cancellable"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Heavy workloads are measured in few rounds.
func TestCampaign_Heavy(t *testing.T) {
	out := t.TempDir()
	p := fakeProgram(t.Output())
	if code := p.main(t.Context(), []string{"-count", "9", "-run", "serial|in-flight", "-out", out}); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	counts := countResults(t, filepath.Join(out, "benchmarks", "report.jsonl"))
	if counts["work=serial/keys=string16 coalesce"] != 9 || counts["work=in-flight/keys=1000000 x-sync"] != heavyRounds {
		t.Errorf("got %v, want 9 rounds of serial and %d of in-flight", counts, heavyRounds)
	}
}

// countResults returns the number of results of each.
func countResults(t *testing.T, name string) map[string]int {
	t.Helper()
	_, results, err := readJournal(name)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, r := range results {
		counts[r.Workload+" "+r.Impl]++
	}
	return counts
}

// An interrupted run goes on from there, and gives the same result in the end.
func TestCampaign_Resume(t *testing.T) {
	out := t.TempDir()
	file := filepath.Join(out, "r.jsonl")
	args := []string{"-count", "2", "-out", out, "-resume", file}
	for _, n := range []int{0, 1, 30} {
		var stderr bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		p := fakeProgram(&stderr)
		p.measure = failingAfter(n, p.measure, cancel)
		if code := p.main(ctx, append(args, "-fresh")); code != exitInterrupted {
			t.Fatalf("after %d: got exit code %d, want %d", n, code, exitInterrupted)
		}
		hint := "to go on:           go run ./cmd/report " + strings.Join(args, " ") + "\n"
		if !strings.Contains(stderr.String(), hint) {
			t.Errorf("got stderr\n%s\nwant %q in it", &stderr, hint)
		}
		if _, err := os.Stat(filepath.Join(out, "BENCHMARKS.md")); err == nil {
			t.Error("got a report of an interrupted run, want none")
		}
		if got := len(must(readResults(file))); got != n {
			t.Errorf("got %d results, want %d", got, n)
		}
	}
	// A crash may leave a part of a line.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"workload":"work=ser`)
	f.Close()

	for range 2 { // the second time there is nothing to do
		if code := fakeProgram(t.Output()).main(t.Context(), args); code != exitOK {
			t.Fatalf("got exit code %d, want 0", code)
		}
		counts := countResults(t, file)
		n := 0
		for _, w := range fakeWorkloads() {
			n += len(w.Runs)
		}
		for _, each := range counts {
			if each != 2 {
				t.Errorf("got %v, want 2 results of each", counts)
				break
			}
		}
		if len(counts) != n {
			t.Errorf("got %v, want results of %d", counts, n)
		}
	}
}

func readResults(name string) ([]result, error) {
	_, results, err := readJournal(name)
	return results, err
}

func must[T any](v T, err error) T {
	succeed(err)
	return v
}

func succeed(err error) {
	if err != nil {
		panic(err)
	}
}

// A run that failed is reported, left out, and tried again by the next command.
func TestCampaign_Failure(t *testing.T) {
	out := t.TempDir()
	args := []string{"-count", "3", "-run", "work=serial/", "-out", out}
	p := fakeProgram(t.Output())
	calls := 0
	inner := p.measure
	p.measure = func(ctx context.Context, s spec) (measurement, error) {
		if s.Impl == "resenje" {
			calls++
			return measurement{}, os.ErrClosed
		}
		return inner(ctx, s)
	}
	if code := p.main(t.Context(), args); code != exitFailed || calls != 1 {
		t.Errorf("got exit code %d after %d tries, want %d after 1", code, calls, exitFailed)
	}
	p.measure = inner
	if code := p.main(t.Context(), args); code != exitOK {
		t.Errorf("got exit code %d, want 0", code)
	}
	counts := countResults(t, filepath.Join(out, "benchmarks", "report.jsonl"))
	if len(counts) != 5 || counts["work=serial/keys=string16 resenje"] != 3 {
		t.Errorf("got %v, want 3 results of all five", counts)
	}
}

// The quick set stays within its time, however long a run takes.
func TestCampaign_Budget(t *testing.T) {
	out := t.TempDir()
	var stderr bytes.Buffer
	p := fakeProgram(&stderr)
	now := p.now()
	p.now = func() time.Time { now = now.Add(5 * time.Second); return now }
	if code := p.main(t.Context(), []string{"-quick", "-out", out}); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	sum, names := 0.0, map[string]bool{}
	for _, r := range must(readResults(filepath.Join(out, "benchmarks", "report-quick.jsonl"))) {
		sum += r.Seconds
		names[r.Workload] = true
	}
	if limit := quickBudget.Seconds(); sum > limit || sum < limit*0.7 {
		t.Errorf("got measurements of %v s, want some %v", sum, limit)
	}
	if len(names) != 2 {
		t.Errorf("got measurements of %v, want the quick ones", names)
	}
	if !strings.Contains(stderr.String(), "the time was up") {
		t.Errorf("got stderr\n%s\nwant that the time was up", &stderr)
	}
}

func TestQuickBenchtime(t *testing.T) {
	var ws []benchmarks.Workload
	for range 2000 {
		d := quickBenchtime(ws)
		if d < 10*time.Millisecond || d > 100*time.Millisecond {
			t.Fatalf("got %v for %d workloads, want 10ms to 100ms", d, len(ws))
		}
		ws = append(ws, benchmarks.Workload{Quick: true, Runs: make([]benchmarks.Run, 3)})
	}
}

// Results of another machine, another Go, other code or another length of the
// runs are not mixed.
func TestJournal_Refuses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.jsonl")
	j, err := openJournal(name, fakeConditions(), false)
	if err != nil {
		t.Fatal(err)
	}
	succeed(j.begin(session{Conditions: fakeConditions(), Command: "x"}))
	succeed(j.add(result{Workload: "w", Impl: "i", Round: 1, Metrics: map[string]float64{"ns/op": 1}}))
	succeed(j.close())
	before := must(os.ReadFile(name))

	for what, change := range map[string]func(*conditions){
		"CPU":            func(c *conditions) { c.CPU = "Slide rule" },
		"cores":          func(c *conditions) { c.Cores++ },
		"kernel":         func(c *conditions) { c.Kernel = "Plan 10" },
		"machine":        func(c *conditions) { c.Machine = "other" },
		"Go version":     func(c *conditions) { c.Go = "go1.27" },
		"build settings": func(c *conditions) { c.Build = map[string]string{"-race": "true"} },
		"code":           func(c *conditions) { c.Code = "ba9876543210" },
		"benchtime":      func(c *conditions) { c.Benchtime = "1s" },
	} {
		cond := fakeConditions()
		change(&cond)
		_, err := openJournal(name, cond, false)
		if err == nil {
			t.Errorf("another %s: got no error, want one", what)
			continue
		}
		for _, want := range []string{what + ": ", " there, ", "-fresh"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("another %s: got %v, want %q in it", what, err, want)
			}
		}
		if after := must(os.ReadFile(name)); !bytes.Equal(before, after) {
			t.Fatalf("another %s: got a changed file, want it as before", what)
		}

		// A file that was put together by hand does not pass either.
		if what == "benchtime" {
			continue // not in a result
		}
		line := must(os.ReadFile(name))
		other := &journal{name: name, machine: cond.machine(), code: cond.Code}
		f := must(os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0))
		other.file = f
		succeed(other.add(result{Workload: "w", Impl: "i", Round: 2}))
		succeed(other.close())
		if _, _, err := readJournal(name); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("a result of another %s: got %v, want an error in line 3", what, err)
		}
		succeed(os.WriteFile(name, line, 0o644))
	}

	// The version for readers may change, as when the report is committed.
	cond := fakeConditions()
	cond.Version = "v1.2.3-1-g0000000"
	j, err = openJournal(name, cond, false)
	if err != nil || len(j.results) != 1 {
		t.Fatalf("got %v, %d results, want nil, 1", err, len(j.results))
	}
	succeed(j.close())

	// -fresh takes anything.
	succeed(os.WriteFile(name, []byte("no journal\n"), 0o644))
	if _, err := openJournal(name, cond, false); err == nil {
		t.Error("a file that is no journal: got no error, want one")
	}
	j, err = openJournal(name, cond, true)
	if err != nil || len(j.results) != 0 {
		t.Errorf("-fresh: got %v, %d results, want nil, 0", err, len(j.results))
	}
	succeed(j.close())
	if text := must(os.ReadFile(name)); len(text) > 0 {
		t.Errorf("-fresh: got %q, want an empty file", text)
	}
}

func TestParseJournal_Errors(t *testing.T) {
	for _, text := range []string{
		"x\n", "{}\n", `{"nosuch":1}` + "\n", `{"workload":"w","impl":"i","round":1}` + "\n",
		`{"session":{"conditions":{}}}` + "\n{}\n",
		`{"session":{"conditions":{"cpu":"a"}}}` + "\n" + `{"session":{"conditions":{"cpu":"b"}}}` + "\n",
	} {
		if _, _, _, err := parseJournal([]byte(text)); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%q: got %v, want an error with the line", text, err)
		}
	}
	if _, _, whole, err := parseJournal([]byte(`{"session"`)); err != nil || whole != 0 {
		t.Errorf("a part of a line: got %d, %v, want 0, nil", whole, err)
	}
}

// The conditions of this process are the same each time.
func TestHere(t *testing.T) {
	a, b := must(here()), must(here())
	if diff := a.diff(b); diff != "" || a.machine() != b.machine() {
		t.Errorf("got other conditions, want the same:\n%s", diff)
	}
	if a.CPU == "" || a.Cores < 1 || a.Go != runtime.Version() || len(a.Code) != 12 || a.Version == "" {
		t.Errorf("got %+v, want complete conditions", a)
	}
	if a.Modules["golang.org/x/sync"] == "" {
		t.Errorf("got %v, want a version of golang.org/x/sync", a.Modules)
	}
}

func TestChildEnviron(t *testing.T) {
	environ := []string{"A=1", "GOGC=off", "GOMAXPROCS=7", "GOMEMLIMIT=1GiB", "GODEBUG=x=1", childEnv + "=x"}
	if got := strings.Join(childEnviron(environ, 0), " "); got != "A=1 GOMAXPROCS=7" {
		t.Errorf("got %s, want A=1 GOMAXPROCS=7", got)
	}
	if got := strings.Join(childEnviron(environ, 3), " "); got != "A=1 GOMAXPROCS=3" {
		t.Errorf("got %s, want A=1 GOMAXPROCS=3", got)
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	p := newProgress(&b, func() time.Time { return now })
	p.show("one")
	now = now.Add(progressEvery - 1)
	p.show("two")
	now = now.Add(1)
	p.show("three")
	p.end()
	if got, want := b.String(), "report: one\nreport: three\n"; got != want {
		t.Errorf("no terminal: got %q, want %q", got, want)
	}
	b.Reset()
	p.terminal = true
	p.show(strings.Repeat("ä", 100))
	p.end()
	if got, want := b.String(), "\r\x1b[K"+strings.Repeat("ä", 78)+"…\r\x1b[K"; got != want {
		t.Errorf("terminal: got %q, want %q", got, want)
	}
	for d, want := range map[time.Duration]string{
		1500 * time.Millisecond: "2 s", 89 * time.Second: "1 min", 100 * time.Minute: "1 h 40 min",
	} {
		if got := formatLeft(d); got != want {
			t.Errorf("formatLeft(%v): got %q, want %q", d, got, want)
		}
	}
}

func TestList(t *testing.T) {
	var b bytes.Buffer
	p := fakeProgram(t.Output())
	p.stdout = &b
	if code := p.main(t.Context(), []string{"-list", "-run", "in-flight|serial|procs=4"}); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	want := "work=serial/keys=string16 quick\n\tns/op\n\tcoalesce x-sync resenje samber floor-locks\n" +
		"work=parallel/keys=string16/procs=4 GOMAXPROCS=4\n\tns/op\n\tcoalesce x-sync resenje\n" +
		"work=in-flight/keys=1000000 heavy\n\tns/call B/key\n\tcoalesce x-sync\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range []string{
		"-count 0", "-count x", "-nosuch", "more", "-run [", "-run nosuch", "-benchtime x", "-benchtime 0x",
		"-benchtime -1s", "-benchtime 2562047h", "-benchtime 1000000001x", "-benchtime NaNx", "-count 1001",
		"-fresh -render",
	} {
		var stdout, stderr bytes.Buffer
		p := fakeProgram(&stderr)
		p.stdout = &stdout
		if code := p.main(t.Context(), strings.Fields(args)); code != exitUsage {
			t.Errorf("report %s: got exit code %d, want %d", args, code, exitUsage)
		}
		if stderr.Len() == 0 || stdout.Len() != 0 {
			t.Errorf("report %s: got stdout %q, stderr %q, want a message on stderr", args, &stdout, &stderr)
		}
	}
	var stderr bytes.Buffer
	args := []string{"-render", "-out", t.TempDir()}
	if code := fakeProgram(&stderr).main(t.Context(), args); code != exitFailed ||
		!strings.Contains(stderr.String(), "nothing has been measured") {
		t.Errorf("-render without results: got exit code %d, %s, want an error", code, &stderr)
	}
}

func TestCommand(t *testing.T) {
	args := []string{"-fresh", "-run", "a|b's", "--fresh=true", "-freshness", ""}
	if got, want := command(without(args, "fresh")), `go run ./cmd/report -run 'a|b'\''s' -freshness ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A workload that needs more memory than the machine has is reported, and listed in the
// report, as long as it has no results; and so are results of an unknown workload.
func TestReport_LeftOut(t *testing.T) {
	out := t.TempDir()
	var stderr bytes.Buffer
	p := fakeProgram(&stderr)
	p.leftOut = []string{"work=huge/keys=1: needs 6 GiB", "work=hot/keys=1: needs 7 GiB"}
	args := []string{"-count", "1", "-out", out}
	if code := p.main(t.Context(), args); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	if want := "left out: work=huge/keys=1: needs 6 GiB\n"; !strings.Contains(stderr.String(), want) {
		t.Errorf("got stderr\n%s\nwant %q in it", &stderr, want)
	}
	text := string(must(os.ReadFile(filepath.Join(out, tablesFile))))
	if !strings.Contains(text, "- huge/keys=1: needs 6 GiB\n") || strings.Contains(text, "needs 7 GiB") {
		t.Errorf("%s: got\n%s\nwant the workload that needs 6 GiB alone", tablesFile, text)
	}

	stderr.Reset()
	p.workloads = p.workloads[1:]
	if code := p.main(t.Context(), append(args, "-render")); code != exitOK {
		t.Fatalf("got exit code %d, want 0", code)
	}
	if want := "work=serial/keys=string16 is not drawn"; !strings.Contains(stderr.String(), want) {
		t.Errorf("got stderr\n%s\nwant %q in it", &stderr, want)
	}
	p.workloads = []benchmarks.Workload{{Name: "other"}}
	if code := p.main(t.Context(), append(args, "-render")); code != exitFailed {
		t.Errorf("no known workload: got exit code %d, want %d", code, exitFailed)
	}
}
