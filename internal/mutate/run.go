package mutate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// This file holds how a mutant is run.

// A Stage is one way to run the tests: a mutant that survives a stage meets the
// next.
type Stage struct {
	Name    string
	Race    bool          // run the binary that has the race detector
	Args    []string      // of the test binary
	Timeout time.Duration // a test that hangs has found the mutant
}

// Run runs mutant id through the stages, and returns what killed it: a stage's
// name and the first test that failed, or how the run ended. It returns "" if
// the mutant survived. The number 0 is the package as it was.
func (b *Build) Run(id int, stages []Stage) string {
	for _, s := range stages {
		if by := b.run(id, s); by != "" {
			return s.Name + ": " + by
		}
	}
	return ""
}

func (b *Build) run(id int, s Stage) string {
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	// A mutant may ask for memory without end: the shell limits it, but not with
	// the race detector, which reserves much more than it uses.
	binary, script := b.Binary, `ulimit -v 8000000; exec "$0" "$@"`
	if s.Race {
		binary, script = b.Racy, `exec "$0" "$@"`
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, binary}, s.Args...)...)
	cmd.Dir = b.Dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", Variable, id), "GOTRACEBACK=single")
	// Tests start the binary again: all of them end with the mutant.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "hang"
	case err != nil:
		return reason(string(out))
	}
	return ""
}

// reason returns the first failed test in a test binary's output, or else how
// it crashed.
func reason(out string) string {
	crash := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			return name
		}
		if crash == "" && (strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")) {
			crash = line
		}
	}
	if crash == "" {
		return "failed"
	}
	return crash[:min(len(crash), 100)]
}
