package mutate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// This file holds the run of a mutant.

// A Stage is one way to run the tests: a mutant that survives a stage meets the
// next.
type Stage struct {
	Name    string
	Flag    string        // of go test -c, such as -race; "" for none
	Package string        // whose tests these are, a path in the module; "" for the mutated one
	Args    []string      // of the test binary, beside those that Run adds
	Timeout time.Duration // of the whole stage: a mutant that takes longer is found
	Stall   time.Duration // likewise of each of its tests; 0 for no such limit
}

// binary returns the name by which the test binary of the stage is known.
func (s Stage) binary() string { return s.Package + " " + s.Flag }

// A Death is the end of a mutant.
type Death struct {
	Stage  string // the name of the stage in which it was found
	By     string // the first test that failed, or else the one that ran, and how the run ended
	Output string // of the test binary, up to there
}

// String returns what a report has of d: "" for a mutant that survived.
func (d *Death) String() string {
	if d == nil {
		return ""
	}
	return d.Stage + ": " + d.By
}

// Run runs mutant id through the stages until one finds it, and returns nil if it
// survives. The number 0 is the package as it was.
func (b *Build) Run(id int, stages []Stage) *Death {
	for _, s := range stages {
		if by, output := b.run(id, s); by != "" {
			return &Death{s.Name, by, output}
		}
	}
	return nil
}

func (b *Build) run(id int, s Stage) (by, output string) {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	// A mutant may allocate memory without end: the shell limits it, but not with the
	// race detector, which reserves much more than it uses.
	script := `ulimit -v 8000000; exec "$0" "$@"`
	if s.Flag == "-race" {
		script = `exec "$0" "$@"`
	}
	args := append([]string{"-c", script, b.binaries[s.binary()], "-test.v", "-test.failfast", "-test.timeout=0"}, s.Args...)
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Dir = filepath.Join(b.dir, s.Package)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", Variable, id), "GOTRACEBACK=single")
	endWhole(cmd)
	cmd.WaitDelay = time.Second
	out := &watched{end: cancel, limit: s.Stall}
	if s.Stall != 0 {
		out.stalled = time.AfterFunc(s.Stall, cancel)
		defer out.stalled.Stop()
	}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	output = out.text.String()
	switch {
	case err == nil:
		return "", output
	case ctx.Err() != nil && !out.failed:
		return running(output) + ", a hang", output
	}
	return cause(output), output
}

// A watched keeps the output of a test binary. It postpones the binary's end as long as
// it prints something, as it does when a test begins or ends, and ends it when a test has
// failed: -test.failfast runs the examples all the same.
type watched struct {
	text    bytes.Buffer
	failed  bool // a test has
	end     func()
	limit   time.Duration
	stalled *time.Timer // nil for no limit
}

// Write implements io.Writer.
func (o *watched) Write(p []byte) (int, error) {
	if o.stalled != nil {
		o.stalled.Reset(o.limit)
	}
	from := max(0, o.text.Len()-len(failure)) // it may come in two parts
	o.text.Write(p)
	if !o.failed && bytes.Contains(o.text.Bytes()[from:], []byte(failure)) {
		o.failed = true
		o.end()
	}
	return len(p), nil
}

// failure is the text that a test binary prints before the name of a test that has
// failed.
const failure = "--- FAIL: "

// running returns the test that began last in a test binary's output.
func running(out string) string {
	name := "no test"
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "=== RUN "); ok {
			name = strings.TrimSpace(rest)
		}
	}
	return name
}

// cause returns the first failed test in a test binary's output, or else the test that
// ran when it ended, and how.
func cause(out string) string {
	how := "an exit"
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, failure); ok {
			name, _, _ = strings.Cut(name, " ")
			return name
		}
		if how != "an exit" {
			continue
		}
		switch {
		case strings.HasPrefix(line, "panic: "):
			how = "a panic"
		case strings.HasPrefix(line, "fatal error: "):
			how = "a crash"
		}
	}
	return running(out) + ", " + how
}
