//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asStuck in the environment makes the test binary behave like a command that has noticed
// its first signal, and then hangs.
const asStuck = "BOOTSTORM_TEST_AS_STUCK"

func init() {
	if os.Getenv(asStuck) != "" {
		ctx, _ := interruptible()
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stopping")
		select {}
	}
}

// until waits until happened returns true for p.
func (p *process) until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(processLimit / 2); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got no %s in %v, stderr %q, want it", what, processLimit/2, p.stderr.String())
		}
	}
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// untilWaiting starts the command with workers that wait for their arrival, and
// returns when it has written its last module.
func untilWaiting(t *testing.T, temp string) *process {
	t.Helper()
	p := startProcess(t, temp, "-arrivals", "poisson", "-rate", "0.1")
	last := filepath.Join(temp, "bootstorm-*", "kernel", "virt", "lib", "irqbypass.ko")
	p.until(t, "files", func() bool {
		found, _ := filepath.Glob(last)
		return len(found) > 0
	})
	return p
}

// A run that is interrupted, even while workers wait for their arrival, removes its files
// and exits 130.
func TestInterrupt_RemovesFiles(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			p := untilWaiting(t, temp)
			p.signal(t, sig)
			if status := p.wait(t); status != exitInterrupted {
				t.Errorf("got status %d (%v), want 130", status, p.ProcessState)
			}
			want := "bootstorm: stopped: " + sig.String() + " signal received\n"
			if p.stderr.String() != want || p.stdout.Len() > 0 {
				t.Errorf("got stderr %q, stdout %q; want stderr %q", p.stderr.String(), p.stdout.String(), want)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("got %v left behind, %v, want no file, nil", left, err)
			}
		})
	}
}

// A signal that is ignored when the command starts does not end it: nohup does that with
// SIGHUP, a shell with SIGINT for background commands.
func TestInterrupt_IgnoredSignalsStaySo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p := newProcess(temp, "sh", "-c", `trap "" HUP INT; exec "$0" "$@"`,
		os.Args[0], "-arrivals", "burst", "-init", "20ms", "-policy", "coalesce")
	p.start(t)
	p.until(t, "files", func() bool {
		found, _ := os.ReadDir(temp)
		return len(found) > 0
	})
	p.signal(t, syscall.SIGHUP)
	p.signal(t, syscall.SIGINT)
	if status := p.wait(t); status != exitOK {
		t.Errorf("got status %d (%v), want 0; stderr %q", status, p.ProcessState, p.stderr.String())
	}
}

// The second signal ends the command, even if it hangs after the first.
func TestInterrupt_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := newProcess(t.TempDir(), os.Args[0])
	p.Env = append(p.Env, asStuck+"=1")
	p.Stdout = nil
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start(t)
	for _, line := range []string{"ready", "stopping"} {
		var got string
		if _, err := fmt.Fscanln(out, &got); err != nil || got != line {
			t.Fatalf("got %q, %v, want %q", got, err, line)
		}
		p.signal(t, syscall.SIGINT)
	}
	if status := p.wait(t); status != exitInterrupted {
		t.Errorf("got status %d (%v), want 130", status, p.ProcessState)
	}
}

// When the report waits for a reader who does not read, nothing is left to
// remove: the first signal ends the process.
func TestInterrupt_WhileTheReportWaits(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	// So full that nothing fits in, which takes a pipe that does not block.
	if err := write.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Skip(err)
	}
	for _, err = write.WriteString(strings.Repeat("x", 1<<16)); err == nil; {
		_, err = write.WriteString("x")
	}
	temp := t.TempDir()
	p := newProcess(temp, os.Args[0], "-workers", "2", "-policy", "none")
	p.Stdout = write
	p.start(t)
	write.Close()
	var written bool
	p.until(t, "report", func() bool {
		found, _ := os.ReadDir(temp)
		written = written || len(found) > 0
		return written && len(found) == 0
	})
	time.Sleep(50 * time.Millisecond)
	p.signal(t, syscall.SIGINT)
	p.wait(t)
}
