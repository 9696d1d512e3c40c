package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file holds the single run and the process that it has for itself: the command
// starts itself again, with the run in a variable of its environment, and the child
// prints its measurement.

// childEnv is the variable. In a process that has it, main runs child.
const childEnv = "COALESCE_REPORT_RUN"

// runTimeout is the time that a single run may take before it counts as hanging.
const runTimeout = 5 * time.Minute

// A spec names the run of a child.
type spec struct {
	Workload  string `json:"workload"`
	Impl      string `json:"impl"`
	Benchtime string `json:"benchtime"`
	Procs     int    `json:"procs"`
}

// A measurement is the result of a single run.
type measurement struct {
	N       int                `json:"n"` // operations
	Metrics map[string]float64 `json:"metrics"`
}

// A measureFunc makes a single run.
type measureFunc func(context.Context, spec) (measurement, error)

// inChild makes a single run in a child process.
func inChild(ctx context.Context, s spec) (measurement, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return measurement{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return measurement{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("not done after %v", runTimeout))
	defer cancel()
	var stdout strings.Builder
	stderr := head{left: 2000}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(childEnviron(os.Environ(), s.Procs), childEnv+"="+string(text))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if said := strings.TrimSpace(stderr.text.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return measurement{}, err
	}
	var m measurement
	if err := json.Unmarshal([]byte(stdout.String()), &m); err != nil {
		return m, fmt.Errorf("a child's answer: %w", err)
	}
	return m, nil
}

// childEnviron returns environ without the settings that change how fast a Go
// program is, and with the GOMAXPROCS of the workload, if it has one.
func childEnviron(environ []string, procs int) []string {
	var env []string
	for _, e := range environ {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", childEnv:
			continue
		case "GOMAXPROCS":
			if procs > 0 {
				continue
			}
		}
		env = append(env, e)
	}
	if procs > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(procs))
	}
	return env
}

// A head keeps the beginning of its input. The first message of a crashed process
// matters; the stacks of a million goroutines do not.
type head struct {
	text strings.Builder
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.text.Write(p[:n])
	h.left -= n
	return len(p), nil
}

// child is the main of a child process.
func child(text string, workloads []benchmarks.Workload, stdout, stderr io.Writer) int {
	signal.Ignore(os.Interrupt) // the parent gets it as well, and decides
	m, err := measureHere(text, workloads)
	if err == nil {
		err = json.NewEncoder(stdout).Encode(m)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

// measureHere makes a single run in this process.
func measureHere(text string, workloads []benchmarks.Workload) (m measurement, err error) {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return m, err
	}
	w, r, err := find(workloads, s.Workload, s.Impl)
	if err != nil {
		return m, err
	}
	testing.Init() // the flags that testing.Benchmark uses
	if err := flag.Set("test.benchtime", s.Benchtime); err != nil {
		return m, err
	}
	res := testing.Benchmark(r.Bench)
	if res.N == 0 { // and testing.Benchmark keeps the reason to itself
		name := w.Name + "/impl=" + r.Impl
		return m, fmt.Errorf("the benchmark failed; go test -run '^$' -bench '/^%s$' . says why",
			strings.ReplaceAll(name, "/", "$/^"))
	}
	m = measurement{N: res.N, Metrics: metrics(res)}
	if !slices.ContainsFunc(w.Units, func(unit string) bool { _, ok := m.Metrics[unit]; return ok }) {
		return m, fmt.Errorf("the benchmark reported none of %s", strings.Join(w.Units, ", "))
	}
	return m, nil // a floor need not have all
}

// find returns a workload and a run of it by their names.
func find(workloads []benchmarks.Workload, workload, impl string) (
	w benchmarks.Workload, r benchmarks.Run, err error,
) {
	for _, w := range workloads {
		if w.Name != workload {
			continue
		}
		for _, r := range w.Runs {
			if r.Impl == impl {
				return w, r, nil
			}
		}
		return w, r, fmt.Errorf("%s has no %s", workload, impl)
	}
	return w, r, errors.New("there is no workload " + workload)
}

// metrics takes everything that was measured from res, by the unit. A
// benchmark that has a better measure than the time of its loop reports 0 ns/op
// to be rid of that.
func metrics(res testing.BenchmarkResult) map[string]float64 {
	n := float64(res.N)
	ms := map[string]float64{
		"ns/op":     float64(res.T.Nanoseconds()) / n,
		"allocs/op": float64(res.MemAllocs) / n,
		"B/op":      float64(res.MemBytes) / n,
	}
	for unit, v := range res.Extra {
		ms[unit] = v
	}
	if ms["ns/op"] == 0 {
		delete(ms, "ns/op")
		delete(ms, "allocs/op")
		delete(ms, "B/op")
	}
	return ms
}
