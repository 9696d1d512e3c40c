//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processLimit is the time within which the command has to end, with any input. It takes
// hundredths of a second.
const processLimit = 20 * time.Second

// asNobody in the environment of the command makes root give up its rights.
const asNobody = "BOOTSTORM_TEST_AS_NOBODY"

// An init, as it has to come before TestMain, which does not return.
func init() {
	const nobody = 65534
	if os.Getenv(asNobody) != "" && os.Geteuid() == 0 {
		if err := syscall.Setuid(nobody); err != nil {
			panic(err)
		}
	}
}

// A process is the command in a process of its own, with the test binary in the
// place of the command.
type process struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
	timer          *time.Timer
}

// startProcess starts the command with a directory for temporary files of its
// own, which is temp. It is killed after processLimit.
func startProcess(t *testing.T, temp string, args ...string) *process {
	t.Helper()
	p := newProcess(temp, os.Args[0], args...)
	p.start(t)
	return p
}

// newProcess returns the program, which is the command or starts it.
func newProcess(temp, program string, args ...string) *process {
	p := &process{Cmd: exec.Command(program, args...)}
	p.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+temp)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.timer = time.AfterFunc(processLimit, func() { _ = p.Process.Kill() })
}

// wait returns the exit status, -1 if a signal ended the process.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	err := p.Wait()
	if !p.timer.Stop() {
		t.Errorf("got a command that runs for %v, want it to end", processLimit)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	return p.ProcessState.ExitCode()
}

// refused runs the command, and checks that it ends with status 2, one line on
// stderr with want in it, nothing on stdout and no file left.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	temp := t.TempDir()
	p := startProcess(t, temp, args...)
	wantRefused(t, p, p.wait(t), want)
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("got %v left behind, %v, want no file, nil", left, err)
	}
}

// wantRefused checks the output of a process that ended with that status.
func wantRefused(t *testing.T, p *process, status int, want string) {
	t.Helper()
	stderr := p.stderr.String()
	if status != exitUsage || !strings.Contains(stderr, want) {
		t.Errorf("got status %d, stderr %q; want status 2 and %q in stderr", status, stderr, want)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
		t.Errorf("got %d lines on stderr, want 1: %q", strings.Count(stderr, "\n"), stderr)
	}
	if p.stdout.Len() > 0 {
		t.Errorf("got stdout %q, want none", p.stdout.String())
	}
}

// mkfifo makes a named pipe.
func mkfifo(t *testing.T, name string) {
	t.Helper()
	if text, err := exec.Command("mkfifo", name).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: got %v, want nil: %s", err, text)
	}
}
