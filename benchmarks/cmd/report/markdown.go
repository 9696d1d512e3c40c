package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file writes BENCHMARKS.md and the tables of all results.

// madeBy is the first line of both.
const madeBy = "<!-- Made by benchmarks/cmd/report; changes by hand are lost. -->\n\n"

// tables returns the page with the results of all workloads.
func (d *data) tables() string {
	var b strings.Builder
	b.WriteString(madeBy + "# Results\n\n")
	fmt.Fprintf(&b, "The results from which [BENCHMARKS.md](../BENCHMARKS.md) is drawn, which names the machine and the\n"+
		"way of measuring. Less is better throughout. The peers: %s.\n\n", d.peerVersions())
	d.writeTables(&b)
	return b.String()
}

// markdown returns the report.
func (d *data) markdown(charts []chart) string {
	var b strings.Builder
	b.WriteString(madeBy + "# Benchmarks\n\n")
	b.WriteString("Package coalesce beside other packages that coalesce calls, all doing the same work.\n" +
		"Less is better throughout. [All results](" + tablesFile + ") are in tables of their own.\n\n")
	d.writeHeading(&b)
	d.writeGoals(&b)
	writeChartLinks(&b, charts)
	d.writeNotes(&b)
	return b.String()
}

// writeHeading writes the conditions of the measurements.
func (d *data) writeHeading(b *strings.Builder) {
	c := d.conditions
	row := func(what, is string) { fmt.Fprintf(b, "| %s | %s |\n", what, cell(is)) }
	b.WriteString("| | |\n|---|---|\n")
	row("CPU", c.CPU)
	row("cores", fmt.Sprintf("%d (GOMAXPROCS %d, where the workload does not set it)", c.Cores, c.Procs))
	row("memory", fmt.Sprintf("%d GiB", c.MemoryGiB))
	row("system", c.OS+", "+c.Kernel)
	row("Go", c.Go)
	row("coalesce", fmt.Sprintf("%s, sources %s", c.Version, c.Code))
	row("peers", d.peerVersions())
	row("measured", d.dates())
	row("command", d.commands())
	row("rounds", d.roundsSentence())
	row("took", formatSeconds(d.seconds()))
	b.WriteString("\n")
	b.WriteString("In each round all implementations of a workload ran in turn, each in a process of its own, and\n" +
		"another one began. A ratio is that of the medians of all rounds; in brackets are the quartiles of\n" +
		"the ratios within one round. Where these lie far apart the machine was busy, and a single figure\n" +
		"means little.\n\n")
}

// peerVersions lists the modules of the peers that were measured.
func (d *data) peerVersions() string {
	var found []string
	for _, name := range d.implNames() {
		m := benchmarks.Modules[name]
		version := m + " " + d.conditions.Modules[m]
		if d.conditions.Modules[m] != "" && !slices.Contains(found, version) {
			found = append(found, version)
		}
	}
	if found == nil {
		return "unknown"
	}
	return strings.Join(found, ", ")
}

// dates returns the first and the last date of the results.
func (d *data) dates() string {
	first, last := d.results[0].At, d.results[0].At
	for _, r := range d.results {
		if r.At.Before(first) {
			first = r.At
		}
		if r.At.After(last) {
			last = r.At
		}
	}
	from, to := first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly)
	if from == to {
		return from
	}
	return from + " to " + to
}

// commands lists the commands that measured, in benchmarks/.
func (d *data) commands() string {
	var cs []string
	for _, s := range d.sessions {
		if c := "`" + s.Command + "`"; !slices.Contains(cs, c) {
			cs = append(cs, c)
		}
	}
	return strings.Join(cs, ", then ") + " in `benchmarks/`"
}

// roundsSentence returns the number of rounds and the length of a run.
func (d *data) roundsSentence() string {
	var light, heavy []int
	for _, w := range d.workloads {
		if w.Heavy {
			heavy = append(heavy, w.rounds())
		} else {
			light = append(light, w.rounds())
		}
	}
	var parts []string
	if light != nil {
		parts = append(parts, fmt.Sprintf("%s, each run of %s", fromTo(light), d.conditions.Benchtime))
	}
	if heavy != nil {
		parts = append(parts, fmt.Sprintf("%s of workloads whose single run is its own average", fromTo(heavy)))
	}
	return strings.Join(parts, "; ")
}

// fromTo writes the least and the largest of ns.
func fromTo(ns []int) string {
	if least, most := slices.Min(ns), slices.Max(ns); least != most {
		return fmt.Sprintf("%d to %d", least, most)
	}
	return fmt.Sprint(ns[0])
}

// writeGoals writes the table of the goals.
func (d *data) writeGoals(b *strings.Builder) {
	b.WriteString("## Goals\n\n")
	b.WriteString("The cost of coalesce in proportion to another, and the most that it may be. Allocations are not\n" +
		"among these, since tests hold them.\n\n")
	b.WriteString("| workload | against | ratio | at most | |\n|---|---|--:|--:|---|\n")
	for _, g := range goals {
		o := d.outcome(g)
		ratio := "–"
		if o.state != notMeasured {
			ratio = formatComparison(o.measure)
		}
		fmt.Fprintf(b, "| `%s`: %s | %s | %s | %s | %s |\n",
			shortName(g.workload), unitName(g.unit), o.againstWhom(), ratio, formatRatio(g.most), o.verdict())
	}
	b.WriteString("\n")
	d.writeLimits(b)
}

// writeLimits writes the causes of the time where goals are missed.
func (d *data) writeLimits(b *strings.Builder) {
	listed := map[string]bool{}
	for _, g := range goals {
		if g.limit == "" || listed[g.limit] || d.outcome(g).state != missed {
			continue
		}
		if len(listed) == 0 {
			b.WriteString("The causes of the time where a goal is missed:\n\n")
		}
		listed[g.limit] = true
		fmt.Fprintf(b, "- `%s` against %s: %s\n", shortName(g.workload), d.outcome(g).againstWhom(), g.limit)
	}
	if len(listed) > 0 {
		b.WriteString("\n")
	}
}

// formatComparison writes a ratio and its spread.
func formatComparison(c comparison) string {
	text := "**" + formatRatio(c.ratio) + "**"
	if c.rounds > 1 {
		text += " (" + formatSpread(c) + ")"
	}
	return text
}

// againstWhom names the one that coalesce was compared with.
func (o outcome) againstWhom() string {
	switch {
	case o.versus != "":
		return fmt.Sprintf("%s at `%s`", ourselves(o.against), shortName(o.versus))
	case o.against == fastestCorrect && o.peer != nil:
		return fastestCorrect + ": " + display(o.peer.name)
	case o.peer != nil && o.peer.wrong():
		return display(o.against) + ", whose results are wrong"
	}
	return display(o.against)
}

// ourselves is display for an implementation that is compared with itself.
func ourselves(impl string) string {
	if impl == benchmarks.Coalesce {
		return "itself"
	}
	return display(impl)
}

// verdict returns the state of the goal in words.
func (o outcome) verdict() string {
	var text string
	switch o.state {
	case notMeasured:
		return "not measured"
	case wrongResults:
		return "**wrong results**"
	case reached:
		text = "reached"
	case missed:
		text = "**missed**"
	}
	if c := o.measure; c.rounds > 1 && c.low <= o.most && o.most <= c.high {
		text += ", within the spread"
	}
	return text
}

// writeTables writes a table for each workload.
func (d *data) writeTables(b *strings.Builder) {
	for i := range d.workloads {
		w := &d.workloads[i]
		fmt.Fprintf(b, "## `%s`\n\n%s. %s", shortName(w.Name),
			strings.TrimSuffix(w.Title, "."), plural(w.rounds(), "round"))
		if w.Procs > 0 {
			fmt.Fprintf(b, " with GOMAXPROCS=%d", w.Procs)
		}
		b.WriteString(".")
		if w.Without != "" {
			b.WriteString(" " + w.Without)
		}
		b.WriteString("\n\n")
		w.writeTable(b)
		b.WriteString("\n")
	}
	if out := d.leftOut(); out != nil {
		b.WriteString("Left out:\n\n")
		for _, line := range out {
			fmt.Fprintf(b, "- %s\n", shortName(line))
		}
		b.WriteString("\n")
	}
}

// leftOut returns the workloads that were left out for want of memory and have no results
// of another time.
func (d *data) leftOut() []string {
	var out []string
	for _, s := range d.sessions {
		for _, line := range s.LeftOut {
			name, _, _ := strings.Cut(line, ":")
			if d.workload(name) == nil && !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

// plural writes n things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// writeTable writes the table of one workload.
func (w *workload) writeTable(b *strings.Builder) {
	base := w.base()
	withAllocs := slices.Contains(w.Units, "ns/op")
	b.WriteString("| implementation ")
	for _, unit := range w.Units {
		fmt.Fprintf(b, "| %s | ÷ %s ", unitName(unit), display(base.name))
	}
	if withAllocs {
		b.WriteString("| allocs/op ")
	}
	b.WriteString("| notes |\n|---" + strings.Repeat("|--:|--:", len(w.Units)))
	if withAllocs {
		b.WriteString("|--:")
	}
	b.WriteString("|---|\n")

	for _, r := range w.Runs {
		p := w.impl(r.Impl)
		fmt.Fprintf(b, "| %s ", implCell(r))
		for _, unit := range w.Units {
			fmt.Fprintf(b, "| %s | %s ", valueCell(p, unit), ratioCell(p, base, unit))
		}
		if withAllocs {
			fmt.Fprintf(b, "| %s ", allocsCell(p))
		}
		fmt.Fprintf(b, "| %s |\n", cell(notes(r, p)))
	}
}

func implCell(r benchmarks.Run) string {
	switch {
	case r.Impl == benchmarks.Coalesce:
		return "**coalesce**"
	case r.Floor:
		return "*" + r.Impl + "*"
	}
	return display(r.Impl)
}

func valueCell(p *impl, unit string) string {
	if p != nil {
		if v, ok := p.median(unit); ok {
			return formatValue(v, unit)
		}
	}
	return "–"
}

func ratioCell(p, base *impl, unit string) string {
	if c, ok := compare(p, base, unit); ok {
		if p == base {
			return "1"
		}
		return formatComparison(c)
	}
	return "–"
}

// allocsCell writes a mean as a whole number, which it is not where a table
// grows now and then.
func allocsCell(p *impl) string {
	if p != nil {
		if v, ok := p.median("allocs/op"); ok {
			return fmt.Sprintf("%.0f", v)
		}
	}
	return "–"
}

// notes returns the notes on a run; p is nil if it has no results.
func notes(r benchmarks.Run, p *impl) string {
	var parts []string
	if p == nil {
		parts = append(parts, "no result")
	} else if each, rounds := p.staleness(); rounds > 0 {
		parts = append(parts, fmt.Sprintf("**wrong**: %s stale answers for each call, in %d of %s",
			digits(each), rounds, plural(len(p.results), "round")))
	}
	if p != nil {
		if v, ok := p.median(executions); ok && digits(v) != "1.00" {
			parts = append(parts, digits(v)+" executions for each call")
		}
	}
	if r.Note != "" {
		parts = append(parts, r.Note)
	}
	return strings.Join(parts, "; ")
}

// cell makes a cell of a table of text.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text)
}

// writeChartLinks shows the charts.
func writeChartLinks(b *strings.Builder, charts []chart) {
	if len(charts) == 0 {
		return
	}
	b.WriteString("## Charts\n\n")
	for _, c := range charts {
		fmt.Fprintf(b, "**%s.** %s\n\n![%s](%s/%s)\n\n", c.title, c.sentence, c.title, chartDir, c.file)
	}
}

// writeNotes writes the caveats, with the notes of the runs.
func (d *data) writeNotes(b *strings.Builder) {
	b.WriteString("## What is not fair\n\n")
	b.WriteString("- The functions that are called do next to nothing. The measurements show overhead, and beside a\n" +
		"  function that reads a file most of the differences do not matter.\n")
	b.WriteString("- A floor is the cheapest known way to do the work of a workload. It promises nothing else.\n")

	var wrong []string
	for _, name := range d.implNames() {
		if works := d.works(name, (*impl).wrong); works != nil {
			wrong = append(wrong, fmt.Sprintf("%s (%s)", display(name), strings.Join(works, ", ")))
		}
	}
	if wrong != nil {
		fmt.Fprintf(b, "- Wrong results, answers of an execution that was over before the call began, save work. With\n"+
			"  any of them a peer does not count as the fastest correct one: %s.\n", strings.Join(wrong, "; "))
	}
	for _, name := range d.implNames() {
		d.writeNotesOf(b, name)
	}
}

// writeNotesOf writes the notes of one implementation, each once, in one item.
func (d *data) writeNotesOf(b *strings.Builder, name string) {
	var notes []string
	for i := range d.workloads {
		if p := d.workloads[i].impl(name); p != nil {
			for _, note := range p.notes() {
				if !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
			}
		}
	}
	if notes == nil {
		return
	}
	everywhere := len(d.works(name, func(*impl) bool { return true }))
	for i, note := range notes {
		works := d.works(name, func(p *impl) bool { return slices.Contains(p.notes(), note) })
		if len(works) < everywhere {
			notes[i] += " (" + strings.Join(works, ", ") + ")"
		}
	}
	fmt.Fprintf(b, "- %s: %s.\n", display(name), strings.Join(notes, "; "))
}

// notes returns the parts of p's note.
func (p *impl) notes() []string {
	if p.note == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(p.note, "."), "; ")
}

// works returns the kinds of work, each once and in Markdown, in which the
// implementation of that name is one that holds is true of.
func (d *data) works(name string, holds func(*impl) bool) []string {
	var works []string
	for i := range d.workloads {
		w := &d.workloads[i]
		if p := w.impl(name); p == nil || !holds(p) {
			continue
		}
		work, _, _ := strings.Cut(shortName(w.Name), "/")
		if work = "`" + work + "`"; !slices.Contains(works, work) {
			works = append(works, work)
		}
	}
	return works
}
