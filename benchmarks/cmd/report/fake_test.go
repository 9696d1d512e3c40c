package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file holds workloads without work, results without a measurement, and a TestMain
// that lets the test binary be the child of a report.

func TestMain(m *testing.M) {
	if spec, ok := os.LookupEnv(childEnv); ok {
		os.Exit(child(spec, tinyWorkloads(), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// tinyWorkloads really run, in next to no time.
func tinyWorkloads() []benchmarks.Workload {
	return []benchmarks.Workload{{
		Name:  "work=tiny/keys=1",
		Title: "next to nothing",
		Units: []string{"ns/op"},
		Quick: true,
		Runs: []benchmarks.Run{
			{Impl: benchmarks.Coalesce, Bench: func(b *testing.B) {
				for b.Loop() {
				}
			}},
			{Impl: benchmarks.XSync, Bench: func(b *testing.B) {
				for b.Loop() {
				}
			}},
			{Impl: "failing", Bench: func(b *testing.B) { b.Fatal("on purpose") }},
			{Impl: "panicking", Bench: func(*testing.B) { panic("on purpose") }},
		},
	}, {
		Name:  "work=procs/keys=1/procs=3",
		Title: "what GOMAXPROCS is",
		Units: []string{"procs"},
		Heavy: true,
		Procs: 3,
		Runs: []benchmarks.Run{{Impl: benchmarks.Coalesce, Bench: func(b *testing.B) {
			for b.Loop() {
			}
			b.ReportMetric(float64(gomaxprocs()), "procs")
			b.ReportMetric(0, "ns/op")
		}}},
	}}
}

// fakeWorkloads are of all kinds that there are. Their Bench functions are nil.
func fakeWorkloads() []benchmarks.Workload {
	runs := func(impls ...string) []benchmarks.Run {
		var rs []benchmarks.Run
		for _, impl := range impls {
			r := benchmarks.Run{Impl: impl, Floor: strings.HasPrefix(impl, floorPrefix)}
			if impl == "samber" {
				r.Note = "keys are copied | hashed twice; values are boxed"
			}
			rs = append(rs, r)
		}
		return rs
	}
	ns := []string{"ns/op"}
	ws := []benchmarks.Workload{{
		Name: "work=serial/keys=string16", Title: "`Do`, one goroutine", Units: ns, Quick: true,
		Runs: runs("coalesce", "x-sync", "resenje", "samber", "floor-locks"),
	}, {
		Name: "work=hot/keys=1", Title: "one hot key", Units: ns,
		Runs: runs("coalesce", "x-sync", "resenje", "samber"),
	}, {
		Name: "work=cancellable/keys=string16", Title: "`DoContext`", Units: ns, Quick: true,
		Runs: runs("coalesce", "resenje", "floor-cancellable"),
	}, {
		Name: "work=leave/keys=1/calls=100000", Title: "join and leave", Units: []string{"ns/call", "B/call"},
		Runs: runs("coalesce", "resenje"),
	}}
	for _, procs := range []int{1, 2, 4, 8} {
		ws = append(ws, benchmarks.Workload{
			Name:  fmt.Sprintf("work=parallel/keys=string16/procs=%d", procs),
			Title: fmt.Sprintf("`Do`, a goroutine on each of %d Ps", procs),
			Units: ns, Procs: procs, Series: "parallel", X: float64(procs), XLabel: "GOMAXPROCS",
			Runs: runs("coalesce", "x-sync", "resenje"),
		})
	}
	for _, n := range []int{10, 100, 10_000, 100_000} {
		ws = append(ws, benchmarks.Workload{
			Name:   fmt.Sprintf("work=fan-in/keys=1/waiters=%d", n),
			Title:  fmt.Sprintf("%s waiters", formatCount(n)),
			Units:  []string{"ns/leader-return", "ns/last-return"},
			Series: "fan-in", X: float64(n), XLabel: "waiters",
			Runs: runs("coalesce", "x-sync", "resenje", "floor-close"),
		})
	}
	return append(ws, benchmarks.Workload{
		Name: "work=in-flight/keys=1000000", Title: "many keys in flight at once", Heavy: true,
		Units: []string{"ns/call", "B/key"},
		Runs:  runs("coalesce", "x-sync"),
	})
}

// fakeConditions are those of no machine.
func fakeConditions() conditions {
	return conditions{
		OS: "plan9/mips", CPU: "Abacus", Cores: 4, Procs: 4, MemoryGiB: 1, Kernel: "Plan 9", Go: "go1.26",
		Code: "0123456789ab", Benchtime: "10ms", Version: "v1.2.3",
		Modules: map[string]string{
			"golang.org/x/sync": "v0.24.0", "resenje.org/singleflight": "v0.4.3", "github.com/someone/else": "v1.0.0",
		},
	}
}

// fakeMeasure returns the measurement of a run: a figure that depends on the
// implementation and the workload, with some noise that depends on the number of its
// calls. A resenje is wrong on the hot key.
func fakeMeasure(workloads []benchmarks.Workload) measureFunc {
	calls := 0
	factors := map[string]float64{
		"coalesce": 40, "x-sync": 200, "resenje": 1500, "samber": 260, "floor-locks": 30,
		"floor-cancellable": 900, "floor-close": 25,
	}
	return func(ctx context.Context, s spec) (measurement, error) {
		calls++
		w, r, err := find(workloads, s.Workload, s.Impl)
		if err != nil {
			return measurement{}, err
		}
		m := measurement{N: 1000, Metrics: map[string]float64{}}
		for i, unit := range w.Units {
			v := factors[r.Impl] * (1 + 0.2*math.Sin(float64(calls))) * float64(i+1)
			switch {
			case w.XLabel == "waiters" && (r.Impl != benchmarks.Coalesce || i > 0):
				v *= w.X
			case w.XLabel == procsLabel && r.Impl == benchmarks.Coalesce:
				v /= w.X
			}
			m.Metrics[unit] = math.Round(v)
			if unit == "ns/op" {
				m.Metrics["allocs/op"] = float64(len(r.Impl) % 3)
			}
		}
		if r.Impl == "resenje" && strings.HasPrefix(w.Name, "work=hot/") {
			m.Metrics[stale] = 0.25
		}
		return m, ctx.Err()
	}
}

// fakeProgram is a report of fake workloads, with a clock of its own.
func fakeProgram(stderr io.Writer) program {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return program{
		workloads:    fakeWorkloads(),
		surroundings: func() (conditions, error) { return fakeConditions(), nil },
		measure:      fakeMeasure(fakeWorkloads()),
		now: func() time.Time {
			clock = clock.Add(125 * time.Millisecond)
			return clock
		},
		stdout: io.Discard,
		stderr: stderr,
	}
}

// failingAfter makes n runs and then fails, or calls stop.
func failingAfter(n int, measure measureFunc, stop func()) measureFunc {
	return func(ctx context.Context, s spec) (measurement, error) {
		if n--; n < 0 {
			if stop != nil {
				stop()
				return measurement{}, ctx.Err()
			}
			return measurement{}, errors.New("broken")
		}
		return measure(ctx, s)
	}
}
