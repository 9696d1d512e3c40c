package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file decides which charts there are, and their content.

// chartDir is where the charts are, from the report.
const chartDir = "docs/charts"

// A chart is one that has been drawn.
type chart struct {
	file     string // in chartDir
	title    string
	sentence string // the message of the chart, Markdown
	svg      string
}

// The values of Workload.XLabel that matter here.
const procsLabel = "GOMAXPROCS"

// stackUnit is in the tables only: a waiter's stack has about the same size with all
// implementations, however many wait.
const stackUnit = "B/waiter-stack"

// charts draws all charts that there are results for.
func (d *data) charts() []chart {
	var cs []chart
	if c, ok := d.ratioChart(); ok {
		cs = append(cs, c)
	}
	return append(cs, d.seriesCharts()...)
}

// ratioChart compares all with x/sync in every workload that has both, by its first unit.
// A workload that differs from another in GOMAXPROCS only has a chart of its own, and the
// worst case of a run is not drawn.
func (d *data) ratioChart() (chart, bool) {
	dots := dotChart{
		title:   "Cost in proportion to x/sync",
		legend:  styles(d.implNames()),
		valueOf: benchmarks.Coalesce,
	}
	faster := 0
	var worst []string
	for i := range d.workloads {
		w := &d.workloads[i]
		x := w.impl(benchmarks.XSync)
		if x == nil || w.impl(benchmarks.Coalesce) == nil || w.XLabel == procsLabel && w.Procs > 0 {
			continue
		}
		if w.Worst {
			worst = append(worst, "`"+shortName(w.Name)+"`")
			continue
		}
		row := dotRow{label: shortName(w.Name)}
		for j := range w.impls {
			p := &w.impls[j]
			c, ok := compare(p, x, w.Units[0])
			if !ok || c.ratio <= 0 || p == x {
				continue
			}
			row.dots = append(row.dots, dot{name: p.name, at: c.ratio, low: c.low, high: c.high, hollow: p.wrong()})
			if p.name == benchmarks.Coalesce && c.ratio < 1 {
				faster++
			}
		}
		if len(row.dots) > 0 {
			dots.rows = append(dots.rows, row)
		}
	}
	if len(dots.rows) == 0 {
		return chart{}, false
	}
	sentence := fmt.Sprintf("A row is a workload, and 1 is what x/sync takes: coalesce takes less in %d of %d."+
		" The figures on the right are coalesce's, and the thin line behind its dot goes from quartile to quartile.",
		faster, len(dots.rows))
	if worst != nil {
		sentence += " The worst of a run does not repeat, so " + strings.Join(worst, ", ") + " is in the tables only."
	}
	return chart{file: "ratios.svg", title: dots.title, sentence: sentence, svg: dots.draw()}, true
}

// seriesCharts draws a chart for each unit of each series of workloads.
func (d *data) seriesCharts() []chart {
	var names []string
	series := map[string][]*workload{}
	for i := range d.workloads {
		w := &d.workloads[i]
		if w.Series == "" {
			continue
		}
		if series[w.Series] == nil {
			names = append(names, w.Series)
		}
		series[w.Series] = append(series[w.Series], w)
	}
	var cs []chart
	for _, name := range names {
		ws := series[name]
		slices.SortStableFunc(ws, func(a, b *workload) int { return int(a.X - b.X) })
		if ws[0].X == ws[len(ws)-1].X {
			continue // a single point is no curve
		}
		for _, unit := range ws[0].Units {
			if unit == stackUnit {
				continue
			}
			if c, ok := d.seriesChart(name, unit, ws); ok {
				cs = append(cs, c)
			}
		}
	}
	return cs
}

// seriesChart draws one unit of a series, whose workloads are sorted by X.
func (d *data) seriesChart(name, unit string, ws []*workload) (chart, bool) {
	lines := lineChart{
		title:  fmt.Sprintf("%s: %s", shortName(name), unitTitle(unit)),
		unit:   unit,
		xLabel: ws[0].XLabel,
	}
	if lines.xLabel == procsLabel {
		lines.mark, lines.markLabel = float64(d.conditions.Cores), plural(d.conditions.Cores, "core")
	}
	for _, w := range ws {
		if !slices.Contains(lines.xs, w.X) {
			lines.xs = append(lines.xs, w.X)
		}
	}
	for _, s := range styles(d.implNames()) {
		c := curve{style: s}
		for _, w := range ws {
			p := w.impl(s.name)
			if p == nil {
				continue
			}
			v, ok := p.median(unit)
			if ok && v < 1 && strings.HasPrefix(unit, "B/") {
				v, lines.clamped = 1, true
			}
			if ok && v > 0 {
				c.points = append(c.points, point{w.X, v})
				c.wrong = c.wrong || p.wrong()
			}
		}
		if len(c.points) > 0 {
			lines.curves = append(lines.curves, c)
		}
	}
	if len(lines.curves) == 0 {
		return chart{}, false
	}
	return chart{
		file:     fileName(name, unit),
		title:    lines.title,
		sentence: lines.sentence(),
		svg:      lines.draw(),
	}, true
}

// fileName makes a file's name of a series and a unit.
func fileName(series, unit string) string {
	_, of, _ := strings.Cut(unit, "/")
	name := series
	switch {
	case strings.HasPrefix(unit, "B/"):
		name += "-memory-" + of
	case of != "op":
		name += "-" + of
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, shortName(name))
	return clean + ".svg"
}

// sentence describes how the cost changes from one end to the other, of coalesce and of
// x/sync or, where it is not among them, of the next.
func (c lineChart) sentence() string {
	shown := []curve{c.curves[0]}
	for i, other := range c.curves {
		if i > 0 && (len(shown) < 2 || other.style.name == benchmarks.XSync) {
			shown = append(shown[:1], other)
		}
	}
	var parts []string
	for _, s := range shown {
		first, last := s.points[0], s.points[len(s.points)-1]
		where := formatX(first.x) + " " + c.xLabel // "10 waiters"
		if c.xLabel == procsLabel {
			where = c.xLabel + " " + formatX(first.x)
		}
		parts = append(parts, fmt.Sprintf("%s takes %s with %s and %s with %s", display(s.style.name),
			formatValue(first.y, c.unit), where, formatValue(last.y, c.unit), formatX(last.x)))
	}
	text := strings.Join(parts, "; ") + "."
	if c.mark > 0 && c.xs[len(c.xs)-1] > c.mark {
		text += " The machine has " + c.markLabel + ": to the right of the dotted line they are shared."
	}
	if c.clamped {
		text += " Less than a byte is drawn as one."
	}
	return text
}

// formatX writes a number of waiters, or a GOMAXPROCS.
func formatX(x float64) string { return formatCount(int(x)) }

// signature is in every chart that this command has drawn.
const signature = "<!-- drawn by benchmarks/cmd/report -->"

// writeCharts writes the charts to dir, and removes those that are there from before and
// are no longer drawn.
func writeCharts(dir string, charts []chart) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if slices.ContainsFunc(charts, func(c chart) bool { return c.file == filepath.Base(name) }) {
			continue
		}
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte(signature)) {
			err = os.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, c := range charts {
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}
