package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds the frequency with which a storm finds a bug, by the way in which its
// binary is built: whether a mode is worth its time.

// A mode is a way to build and run the storms.
type mode struct {
	name  string
	build []string // flags of go test -c
	run   []string // flags of the binary
}

const preempted = "-gcflags=all=-d=maymorestack=runtime.mayMoreStackPreempt"

var modes = []mode{
	{"plain", nil, nil},
	{"-cpu 8", nil, []string{"-test.cpu=8"}},
	{"preempt", []string{preempted}, nil},
	{"-race", []string{"-race"}, nil},
	{"-race, preempt", []string{"-race", preempted}, nil},
}

const (
	// load is a small storm with a bit of everything.
	load = "cancel=20 forget=5 keys=2 hash=default calls=60"

	// stuck is the time that one may take. A storm that takes longer hangs.
	stuck = 5 * time.Second
)

// runModes runs runs storms in each mode on each bug of the chosen names, and returns the
// table of how many have found it.
func runModes(overlay, temp string, chosen *regexp.Regexp, runs, parallel int) (string, error) {
	var out strings.Builder
	out.WriteString("| bug |")
	for _, m := range modes {
		out.WriteString(" " + m.name + " |")
	}
	out.WriteString("\n|---|" + strings.Repeat("--:|", len(modes)) + "\n")

	binaries := make([]string, len(modes))
	for i, m := range modes {
		binaries[i] = filepath.Join(temp, fmt.Sprintf("mode%d.test", i))
		if err := compile(overlay, binaries[i], append(m.build, "./internal/verify/storm")...); err != nil {
			return "", err
		}
	}
	for _, b := range append([]bug{{}}, bugs...) {
		name := b.name
		switch {
		case name == "":
			name = "none"
		case !chosen.MatchString(name):
			continue
		}
		row := "| " + name + " |"
		for i, m := range modes {
			n, output := found(b, binaries[i], m.run, runs, parallel)
			if b.name == "" && n > 0 {
				return "", fmt.Errorf("%d of %d storms (%s) find something where there is no bug; one says:\n%s", n, runs, m.name, output)
			}
			row += fmt.Sprintf(" %d |", n)
		}
		fmt.Println(row)
		out.WriteString(row + "\n")
	}
	return out.String(), nil
}

// found returns the number of storms, of runs, that find b, and the output of one of
// those.
func found(b bug, binary string, flags []string, runs, parallel int) (n int, output string) {
	var mu sync.Mutex // guards n and output
	var next atomic.Int64
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for next.Add(1) <= int64(runs) {
				if found, out := storms(b, binary, flags); found {
					mu.Lock()
					n, output = n+1, out
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return n, output
}

// storms reports whether one storm finds b, and returns its output.
func storms(b bug, binary string, flags []string) (found bool, output string) {
	ctx, cancel := context.WithTimeout(context.Background(), stuck)
	defer cancel()
	args := append([]string{"-test.run=^TestStorm_Mode$", "-test.timeout=0"}, flags...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), variable+"="+b.name, "COALESCE_STORM_MODE="+load, "GORACE=halt_on_error=1")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return true, fmt.Sprintf("%snot over after %v", &out, stuck)
	case errors.As(err, &exit):
		return true, fmt.Sprintf("%s%v", &out, exit)
	}
	return false, ""
}
