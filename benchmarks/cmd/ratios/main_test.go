package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

func TestCompare(t *testing.T) {
	w := benchmarks.Workload{
		Title: "work",
		Units: []string{"ns/op", "B/key"},
		Runs:  []benchmarks.Run{{Impl: benchmarks.Coalesce}, {Impl: benchmarks.XSync}},
	}
	result := func(ns time.Duration, allocs uint64, bytes float64) testing.BenchmarkResult {
		return testing.BenchmarkResult{
			N: 10, T: 10 * ns, MemAllocs: 10 * allocs,
			Extra: map[string]float64{"B/key": bytes},
		}
	}
	// The median is not thrown off by the third round, in which the machine
	// was slow for one of the two.
	rows := compare(w, [][]testing.BenchmarkResult{
		{result(30, 0, 100), result(32, 0, 100), result(900, 0, 100)},
		{result(100, 1, 120), result(98, 1, 130), result(90, 1, 125)},
	})
	want := `| workload | against | ratio | coalesce | peer | allocs/op |
|---|---|--:|--:|--:|--:|
| work | x/sync | **0.33** (0.30–10.00) | 32.0 ns | 98.0 ns | 0 : 1 |
| work | x/sync | **0.80** (0.77–0.83) | 100 B/key | 125 B/key | – |
`
	if got := table(rows); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFormat(t *testing.T) {
	for r, want := range map[float64]string{
		1.234: "1.23", 0.333: "0.33", 0.0951: "0.10", 0.05: "0.050", 0.00211: "0.0021",
	} {
		if got := formatRatio(r); got != want {
			t.Errorf("formatRatio(%v) = %q, want %q", r, got, want)
		}
	}
	for v, want := range map[float64]string{
		43.21: "43.2 ns", 1234: "1234 ns", 22_400: "22 µs", 3_210_000: "3.2 ms",
	} {
		if got := formatValue(v, "ns/op"); got != want {
			t.Errorf("formatValue(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, args := range []string{"-count 0", "-count x", "-nosuch", "more"} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(args), &stdout, &stderr); code != 2 {
			t.Errorf("ratios %s: exit code %d, want 2", args, code)
		}
		if stderr.Len() == 0 || stdout.Len() != 0 {
			t.Errorf("ratios %s: stdout %q, stderr %q, want a message on stderr", args, &stdout, &stderr)
		}
	}
}
