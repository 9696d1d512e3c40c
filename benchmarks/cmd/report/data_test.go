package main

import (
	"math"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// fakeImpl is one that took vs, in rounds 1 and on.
func fakeImpl(name string, vs ...float64) impl {
	p := impl{name: name, floor: strings.HasPrefix(name, floorPrefix), results: map[int]result{}}
	for i, v := range vs {
		p.results[i+1] = result{Round: i + 1, Metrics: map[string]float64{"ns/op": v}}
	}
	return p
}

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		vs   []float64
		q    float64
		want float64
	}{
		{[]float64{7}, 0.25, 7},
		{[]float64{1, 2}, 0.5, 1.5},
		{[]float64{1, 2, 30}, 0.5, 2},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{1, 2, 3, 4, 5}, 0.75, 4},
		{[]float64{1, 2, 3, 4}, 0.75, 3.25},
		{[]float64{1, 2, 3, 4}, 1, 4},
	} {
		if got, ok := quantile(tt.vs, tt.q); got != tt.want || !ok {
			t.Errorf("quantile(%v, %v): got %v, %v, want %v, true", tt.vs, tt.q, got, ok, tt.want)
		}
	}
	if _, ok := quantile(nil, 0.5); ok {
		t.Error("a quantile of nothing: got true, want false")
	}
}

// The ratio is that of the medians, which is not thrown off by a round in which
// the machine was slow for one of the two.
func TestCompare(t *testing.T) {
	a := fakeImpl("a", 30, 32, 900)
	b := fakeImpl("b", 100, 98, 90)
	c, ok := compare(&a, &b, "ns/op")
	if !ok || c.ours != 32 || c.theirs != 98 || c.ratio != 32.0/98 || c.rounds != 3 {
		t.Errorf("got %+v, %v, want 32, 98 and their ratio in 3 rounds", c, ok)
	}
	if low, high := (0.3+32.0/98)/2, (32.0/98+10)/2; math.Abs(c.low-low) > 1e-9 || math.Abs(c.high-high) > 1e-9 {
		t.Errorf("got quartiles %v and %v, want %v and %v", c.low, c.high, low, high)
	}

	short := fakeImpl("short", 100)
	if c, ok := compare(&a, &short, "ns/op"); !ok || c.rounds != 1 || c.low != 0.3 || c.high != 0.3 {
		t.Errorf("one round of b's: got %+v, %v, want 0.3 in 1 round", c, ok)
	}
	zero := fakeImpl("zero", 0, 0, 0)
	none := fakeImpl("none")
	for _, other := range []*impl{&zero, &none, nil} {
		if c, ok := compare(&a, other, "ns/op"); ok {
			t.Errorf("got %+v, want no ratio", c)
		}
	}
	if _, ok := compare(&a, &b, "B/op"); ok {
		t.Error("a unit that was not measured: got a ratio, want none")
	}
}

func TestFastestCorrect(t *testing.T) {
	wrong := fakeImpl("wrong", 1)
	wrong.results[1].Metrics[stale] = 0.01
	right := fakeImpl("right", 5)
	right.results[1].Metrics[stale] = 0
	w := workload{impls: []impl{
		fakeImpl(benchmarks.Coalesce, 2), wrong, fakeImpl("slow", 9), right, fakeImpl("unmeasured"), fakeImpl("floor-x", 1),
	}}
	if p := w.fastestCorrect("ns/op"); p == nil || p.name != "right" {
		t.Errorf("got %v, want right", p)
	}
	if p := w.fastestCorrect("B/op"); p != nil {
		t.Errorf("a unit that was not measured: got %v, want nil", p)
	}
}

func TestBase(t *testing.T) {
	floor, other, x := fakeImpl("floor-x", 1), fakeImpl("other", 1), fakeImpl(benchmarks.XSync, 1)
	for want, impls := range map[string][]impl{
		benchmarks.XSync: {other, floor, x},
		"floor-x":        {other, floor},
		"other":          {other},
	} {
		if got := (&workload{impls: impls}).base().name; got != want {
			t.Errorf("base of %v: got %s, want %s", impls, got, want)
		}
	}
}

// Zero has a place on a logarithmic axis: that of one byte.
func TestSeriesChart_Zero(t *testing.T) {
	var ws []*workload
	for x, v := range []float64{100, 0} {
		p := fakeImpl(benchmarks.Coalesce)
		p.results[1] = result{Metrics: map[string]float64{"B/waiter": v}}
		ws = append(ws, &workload{Workload: benchmarks.Workload{X: float64(x + 1), XLabel: "waiters"}, impls: []impl{p}})
	}
	d := &data{workloads: []workload{*ws[0], *ws[1]}}
	c, ok := d.seriesChart("series", "B/waiter", ws)
	if want := "coalesce takes 100 B with 1 waiters and 1.00 B with 2. Less than a byte is drawn as one."; !ok ||
		c.sentence != want {
		t.Errorf("got %q, want %q", c.sentence, want)
	}
	checkSVG(t, "series", c.svg)
}

func TestOutcome(t *testing.T) {
	work := func(name string, impls ...impl) workload {
		return workload{Workload: benchmarks.Workload{Name: name}, impls: impls}
	}
	bad := fakeImpl(benchmarks.Coalesce, 1)
	bad.results[1].Metrics[stale] = 1
	d := &data{workloads: []workload{
		work("a", fakeImpl(benchmarks.Coalesce, 10, 14, 12), fakeImpl("peer", 20, 20, 20), fakeImpl("floor-x", 10, 10, 10)),
		work("b", fakeImpl(benchmarks.Coalesce, 5)),
		work("c", bad, fakeImpl("peer", 20)),
	}}
	for _, tt := range []struct {
		goal    goal
		state   state
		against string
		verdict string
	}{
		{goal{workload: "a", against: "peer", most: 0.6}, reached, "peer", "reached, within the spread"},
		{goal{workload: "a", against: "peer", most: 0.9}, reached, "peer", "reached"},
		{goal{workload: "a", against: "peer", most: 0.5}, missed, "peer", "**missed**"},
		{goal{workload: "a", against: fastestCorrect, most: 0.5}, missed, fastestCorrect + ": peer", "**missed**"},
		{goal{workload: "a", against: "floor-x", most: 1.5}, reached, "floor-x", "reached"},
		{goal{workload: "a", against: "absent", most: 1}, notMeasured, "absent", "not measured"},
		{goal{workload: "b", against: fastestCorrect, most: 1}, notMeasured, fastestCorrect, "not measured"},
		{goal{workload: "d", against: "peer", most: 1}, notMeasured, "peer", "not measured"},
		{goal{workload: "c", against: "peer", most: 1}, wrongResults, "peer", "**wrong results**"},
		{
			goal{workload: "a", against: benchmarks.Coalesce, versus: "b", most: 3},
			reached, "itself at `b`", "reached",
		},
	} {
		tt.goal.unit = "ns/op"
		o := d.outcome(tt.goal)
		if o.state != tt.state || o.againstWhom() != tt.against || o.verdict() != tt.verdict {
			t.Errorf("%+v: got state %d, against %q, verdict %q, want %d, %q, %q", tt.goal, o.state, o.againstWhom(), o.verdict(), tt.state, tt.against, tt.verdict)
		}
	}
}

// A goal or a row of the README without a possible measurement is a misprint.
func TestGoals(t *testing.T) {
	seen := map[goal]bool{}
	for _, g := range goals {
		if g.most <= 0 {
			t.Errorf("%+v: got no bound, want one", g)
		}
		if seen[g] {
			t.Errorf("%+v: got it twice, want it once", g)
		}
		seen[g] = true
	}
	for _, g := range append(goals, readme...) {
		if !strings.HasPrefix(g.workload, "work=") || !strings.Contains(g.unit, "/") || g.against == "" {
			t.Errorf("got %+v, want a workload, a unit and a peer", g)
		}
	}
}

func TestFormat(t *testing.T) {
	for r, want := range map[float64]string{
		1.234: "1.23", 0.333: "0.33", 0.0951: "0.10", 0.05: "0.050", 0.00211: "0.0021", 12.34: "12.3", 123.4: "123",
	} {
		if got := formatRatio(r); got != want {
			t.Errorf("formatRatio(%v): got %q, want %q", r, got, want)
		}
	}
	for _, tt := range []struct {
		v    float64
		unit string
		want string
	}{
		{43.21, "ns/op", "43.2 ns"},
		{0, "ns/op", "0 ns"},
		{999.4, "ns/op", "999 ns"},
		{999.6, "ns/op", "1.00 µs"},
		{1234, "ns/leader-return", "1.23 µs"},
		{22_400, "ns/op", "22.4 µs"},
		{3_210_000, "ns/op", "3.21 ms"},
		{12_000_000_000, "ns/op", "12.0 s"},
		{106.4, "B/key", "106 B"},
		{1536, "B/waiter", "1.50 KiB"},
		{0.0123, "stale/op", "0.012"},
	} {
		if got := formatValue(tt.v, tt.unit); got != tt.want {
			t.Errorf("formatValue(%v, %q): got %q, want %q", tt.v, tt.unit, got, tt.want)
		}
	}
	for v, want := range map[float64]string{100: "100 ns", 1000: "1 µs", 20_000: "20 µs", 1_500_000: "1.5 ms"} {
		if got := formatTick(v, "ns/op"); got != want {
			t.Errorf("formatTick(%v): got %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{100: "100 B", 1000: "1 kB", 200_000: "200 kB"} {
		if got := formatTick(v, "B/key"); got != want {
			t.Errorf("formatTick(%v): got %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0.001: "0.001", 0.1: "0.1", 1: "1", 10: "10", 1000: "1000"} {
		if got := formatTick(v, ""); got != want {
			t.Errorf("formatTick(%v): got %q, want %q", v, got, want)
		}
	}
	for n, want := range map[int]string{1: "1", 999: "999", 1000: "1,000", 1_000_000: "1,000,000"} {
		if got := formatCount(n); got != want {
			t.Errorf("formatCount(%d): got %q, want %q", n, got, want)
		}
	}
	for s, want := range map[float64]string{12.34: "12.3 s", 125: "2 min", 7260: "2 h 1 min"} {
		if got := formatSeconds(s); got != want {
			t.Errorf("formatSeconds(%v): got %q, want %q", s, got, want)
		}
	}
}
