package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file writes numbers and names for readers.

// formatRatio writes two decimals, or as many more as make two significant digits, or
// fewer where there are enough digits without.
func formatRatio(r float64) string {
	decimals := 2
	switch {
	case r >= 99.5:
		decimals = 0
	case r >= 9.95:
		decimals = 1
	}
	for limit := 0.095; r < limit && decimals < 6; limit /= 10 {
		decimals++
	}
	return strconv.FormatFloat(r, 'f', decimals, 64)
}

// formatSpread writes the ends of the spread of a ratio, "–" if there was but one.
func formatSpread(c comparison) string {
	if c.rounds < 2 {
		return "–"
	}
	return formatRatio(c.low) + "–" + formatRatio(c.high)
}

// formatValue writes v, which is in that unit, with three digits and the multiple of the
// unit that suits it. The "/op" of the unit is left out.
func formatValue(v float64, unit string) string {
	kind, _, _ := strings.Cut(unit, "/")
	switch kind {
	case "ns":
		return scaled(v, 1000, "ns", "µs", "ms", "s")
	case "B":
		return scaled(v, 1024, "B", "KiB", "MiB", "GiB")
	}
	return digits(v)
}

// scaled writes v in the largest of units of which it is at least one.
func scaled(v, step float64, units ...string) string {
	i := 0
	for i+1 < len(units) && math.Abs(v) >= step*(1-0.0005) { // 999.6 would be written as 1000
		v /= step
		i++
	}
	return digits(v) + " " + units[i]
}

// digits writes v with three significant digits, or more if it is large.
func digits(v float64) string {
	a := math.Abs(v)
	switch {
	case a == 0:
		return "0"
	case a >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// formatTick writes v, which is a round number, without superfluous decimals. It stays
// one, so bytes are counted in thousands.
func formatTick(v float64, unit string) string {
	text := formatValue(v, unit)
	if strings.HasPrefix(unit, "B/") {
		text = scaled(v, 1000, "B", "kB", "MB", "GB")
	}
	number, rest, _ := strings.Cut(text, " ")
	if strings.Contains(number, ".") {
		number = strings.TrimSuffix(strings.TrimRight(number, "0"), ".")
	}
	return strings.TrimSpace(number + " " + rest)
}

// formatCount writes n with a comma between thousands.
func formatCount(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatSeconds writes how long something took.
func formatSeconds(s float64) string {
	switch {
	case s < 60:
		return digits(s) + " s"
	case s < 5400:
		return fmt.Sprintf("%.0f min", s/60)
	}
	m := int(s/60 + 0.5)
	return fmt.Sprintf("%d h %d min", m/60, m%60)
}

// display is the name of an implementation for a reader.
func display(impl string) string {
	if impl == benchmarks.XSync {
		return "x/sync" // in a benchmark's name the slash would part it
	}
	return impl
}

// shortName is the name of a workload without the beginning that all of them have.
func shortName(workload string) string {
	return strings.TrimPrefix(workload, "work=")
}

// unitName is the name of a unit for a reader.
func unitName(unit string) string {
	switch kind, of, _ := strings.Cut(unit, "/"); kind {
	case "ns":
		return "time/" + of
	case "B":
		return "memory/" + of
	}
	return unit
}

// unitTitle is unitName in words, where there is room for them.
func unitTitle(unit string) string {
	switch unit {
	case "ns/leader-return":
		return "time until the leader has returned"
	case "ns/first-return":
		return "time until the first waiter has returned"
	case "ns/last-return":
		return "time until the last waiter has returned"
	}
	return unitName(unit)
}
