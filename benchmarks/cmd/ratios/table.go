package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// A row is coalesce beside one peer, in one unit of one workload.
type row struct {
	title, against, unit string

	ours, theirs float64 // medians
	least, most  float64 // ratios within one round

	allocs                 bool    // whether the next two say something
	ourAllocs, theirAllocs float64 // for each operation
}

// ratio is what coalesce takes in proportion to the peer.
func (r row) ratio() float64 { return r.ours / r.theirs }

// compare makes the rows of w. results are in the order of w.Runs.
func compare(w benchmarks.Workload, results [][]testing.BenchmarkResult) []row {
	var rows []row
	for i := 1; i < len(w.Runs); i++ {
		for _, unit := range w.Units {
			ours, theirs := values(results[0], unit), values(results[i], unit)
			ratios := make([]float64, len(ours))
			for j := range ours {
				ratios[j] = ours[j] / theirs[j]
			}
			rows = append(rows, row{
				title:       w.Title,
				against:     name(w.Runs[i].Impl),
				unit:        unit,
				ours:        median(ours),
				theirs:      median(theirs),
				least:       slices.Min(ratios),
				most:        slices.Max(ratios),
				allocs:      unit == "ns/op",
				ourAllocs:   median(values(results[0], "allocs/op")),
				theirAllocs: median(values(results[i], "allocs/op")),
			})
		}
	}
	return rows
}

// name is what a reader knows an implementation by.
func name(impl string) string {
	if impl == benchmarks.XSync {
		return "x/sync" // in a benchmark's name the slash would part it
	}
	return impl
}

// values takes what was measured in the given unit from the results.
func values(results []testing.BenchmarkResult, unit string) []float64 {
	vs := make([]float64, len(results))
	for i, r := range results {
		switch unit {
		case "ns/op":
			vs[i] = float64(r.T.Nanoseconds()) / float64(r.N)
		case "allocs/op":
			vs[i] = float64(r.MemAllocs) / float64(r.N)
		default:
			vs[i] = r.Extra[unit]
		}
	}
	return vs
}

// median returns the middle one of vs, the upper one if there are two.
func median(vs []float64) float64 {
	return slices.Sorted(slices.Values(vs))[len(vs)/2]
}

// table writes the rows in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| workload | against | ratio | coalesce | peer | allocs/op |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|\n")
	for _, r := range rows {
		allocs := "–"
		if r.allocs {
			allocs = fmt.Sprintf("%s : %s", formatAllocs(r.ourAllocs), formatAllocs(r.theirAllocs))
		}
		fmt.Fprintf(&b, "| %s | %s | **%s** (%s–%s) | %s | %s | %s |\n",
			r.title, r.against,
			formatRatio(r.ratio()), formatRatio(r.least), formatRatio(r.most),
			formatValue(r.ours, r.unit), formatValue(r.theirs, r.unit), allocs)
	}
	return b.String()
}

// formatRatio writes two decimals, or as many more as make two digits that say
// something.
func formatRatio(r float64) string {
	decimals := 2
	for limit := 0.095; r < limit && decimals < 6; limit /= 10 {
		decimals++
	}
	return strconv.FormatFloat(r, 'f', decimals, 64)
}

// formatAllocs writes a mean, which is not a whole number where a table grows
// now and then.
func formatAllocs(n float64) string {
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// formatValue writes v with its unit, times in the unit that suits their size.
func formatValue(v float64, unit string) string {
	switch {
	case !strings.HasPrefix(unit, "ns/"):
		return fmt.Sprintf("%.0f %s", v, unit)
	case v < 100:
		return fmt.Sprintf("%.1f ns", v)
	case v < 10_000:
		return fmt.Sprintf("%.0f ns", v)
	case v < 1_000_000:
		return fmt.Sprintf("%.0f µs", v/1000)
	default:
		return fmt.Sprintf("%.1f ms", v/1_000_000)
	}
}
