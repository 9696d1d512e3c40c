//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A run that is interrupted, be it while workers wait for their arrival, removes
// its files and exits 130.
func TestInterrupt_RemovesFiles(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-arrivals", "poisson", "-rate", "0.1")
			cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+temp)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// The last module of the list has been written: soon, the workers wait.
			last := filepath.Join(temp, "bootstorm-*", "kernel", "virt", "lib", "irqbypass.ko")
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if found, _ := filepath.Glob(last); len(found) > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("no files in 10 s; stderr %q", stderr.String())
				}
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the status is looked at below
			if status := cmd.ProcessState.ExitCode(); status != exitInterrupted {
				t.Errorf("status %d (%v), want 130; stderr %q", status, cmd.ProcessState, stderr.String())
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout %q", stdout.String())
			}
		})
	}
}
