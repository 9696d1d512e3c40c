//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutput_FullDeviceExits1: the report is lost, and one line reports that.
func TestOutput_FullDeviceExits1(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range []string{"-h", "-workers 2", "-workers 2 -json", "-cycle -policy coalesce"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			p := newProcess(temp, os.Args[0], strings.Fields(args)...)
			p.Stdout = full
			p.start(t)
			status, stderr := p.wait(t), p.stderr.String()
			if status != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "cannot write") {
				t.Errorf("got status %d, stderr %q, want 1 and one line", status, stderr)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("got %v left behind, %v, want no file, nil", left, err)
			}
		})
	}
}

// TestOutput_ReaderGone: nothing hangs and no file is left if the reader of the
// report, or of the errors, has gone.
func TestOutput_ReaderGone(t *testing.T) {
	for _, args := range []string{"-h", "-workers 2", "-nonsense"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			read.Close()
			defer write.Close()
			temp := t.TempDir()
			p := newProcess(temp, os.Args[0], strings.Fields(args)...)
			p.Stdout, p.Stderr = write, write
			p.start(t)
			p.wait(t)
			if p.ProcessState.Success() {
				t.Error("got success, want a failure")
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("got %v left behind, %v, want no file, nil", left, err)
			}
		})
	}
}

// TestOutput_NoRoomForModulesExits2: the modules that were written are removed.
func TestOutput_NoRoomForModulesExits2(t *testing.T) {
	for _, args := range []string{"-workers 2", "-cycle"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			shell := []string{"-c", `ulimit -f 4 && exec "$0" "$@"`, os.Args[0]}
			p := newProcess(temp, "sh", append(shell, strings.Fields(args)...)...)
			p.start(t)
			wantRefused(t, p, p.wait(t), "cannot write the modules")
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("got %v left behind, %v, want no file, nil", left, err)
			}
		})
	}
}

// TestOutput_NoDirectoryForModulesExits2: the directory is missing, is not one, or cannot
// be written.
func TestOutput_NoDirectoryForModulesExits2(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, temp := range []string{"/no/such/directory", file, closed} {
		p := newProcess(temp, os.Args[0])
		p.Env = append(p.Env, asNobody+"=1")
		p.start(t)
		wantRefused(t, p, p.wait(t), "cannot make a directory for the modules")
	}
}

// TestOutput_NoStandardStreams: a command without them writes nowhere, and into
// none of its own files.
func TestOutput_NoStandardStreams(t *testing.T) {
	temp := t.TempDir()
	p := newProcess(temp, "sh", "-c", `exec "$0" "$@" <&- >&- 2>&-`, os.Args[0], "-workers", "2", "-policy", "seed")
	p.start(t)
	if status := p.wait(t); status != exitOK {
		t.Errorf("got status %d, want 0", status)
	}
}
