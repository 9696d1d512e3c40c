package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// This file writes the table of a README, between two markers.

const (
	readmeBegin = "<!-- report:begin -->"
	readmeEnd   = "<!-- report:end -->"
)

// readmeTable returns the comparisons of the README that were measured.
func (d *data) readmeTable() string {
	c := d.conditions
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s on %s (%d cores), %s, %s; less is better; in brackets the quartiles\nof the ratios within one round.\n\n",
		d.dates(), c.CPU, c.Cores, c.OS, c.Go)
	b.WriteString("| workload | against | ratio | this package | the peer |\n|---|---|--:|--:|--:|\n")
	type row struct{ workload, unit, peer string }
	seen := map[row]bool{}
	for _, g := range readme {
		o := d.outcome(g)
		if o.state == notMeasured || seen[row{g.workload, g.unit, o.peer.name}] {
			continue // the fastest may be one that has a row already
		}
		seen[row{g.workload, g.unit, o.peer.name}] = true
		w := d.workload(g.workload)
		title := w.Title
		if len(w.Units) > 1 {
			title += ": " + unitTitle(g.unit)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(title), o.againstWhom(),
			formatComparison(o.measure), formatValue(o.measure.ours, g.unit), formatValue(o.measure.theirs, g.unit))
	}
	return b.String()
}

// rewriteReadme puts the table between the markers in the file of that name.
func rewriteReadme(name, table string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	begin := bytes.Index(text, []byte(readmeBegin))
	end := bytes.Index(text, []byte(readmeEnd))
	if begin < 0 || end < begin {
		return fmt.Errorf("%s has no table to rewrite: no %s and after it %s", name, readmeBegin, readmeEnd)
	}
	var out []byte
	out = append(out, text[:begin+len(readmeBegin)]...)
	out = append(out, "\n"+table...)
	out = append(out, text[end:]...)
	if bytes.Equal(out, text) {
		return nil
	}
	return os.WriteFile(name, out, 0o644)
}
