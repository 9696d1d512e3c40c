package main

// This file draws ratios: a row for each workload, a dot for each
// implementation, on one logarithmic axis.

// A dotChart is one with rows of dots.
type dotChart struct {
	title   string
	legend  []style
	rows    []dotRow
	valueOf string // whose values are written at the right
}

// A dotRow is one row.
type dotRow struct {
	label string
	dots  []dot
}

// A dot is a ratio, and the ends of its spread.
type dot struct {
	name      string
	at        float64
	low, high float64
	hollow    bool
}

const rowHeight = 22.0

// draw returns the chart as SVG.
func (c dotChart) draw() string {
	values := []float64{1}
	widest := 0.0
	shown := map[string]bool{}
	hollow := false
	for _, row := range c.rows {
		widest = max(widest, textWidth(row.label))
		for _, d := range row.dots {
			values = append(values, d.at)
			if d.name == c.valueOf && d.low > 0 {
				values = append(values, d.low, d.high)
			}
			shown[d.name] = true
			hollow = hollow || d.hollow
		}
	}
	left, right := widest+22, chartWidth-70

	// The legend comes first: its height decides the places of the rest.
	type entry struct {
		style style
		x, y  float64
	}
	var entries []entry
	x, y := 14.0, 50.0
	for _, s := range c.legend {
		if !shown[s.name] {
			continue
		}
		w := textWidth(display(s.name)) + 30
		if x+w > chartWidth-10 {
			x, y = 14, y+18
		}
		entries = append(entries, entry{s, x, y})
		x += w
	}
	if hollow {
		y += 18
	}
	top := y + 44
	bottom := top + rowHeight*float64(len(c.rows))
	height := bottom + 46

	cv := newCanvas(chartWidth, height, c.title)
	cv.text(8, 22, "start", inkColor, c.title, bold, large)
	for _, e := range entries {
		cv.marker(e.x, e.y-4, e.style, false)
		cv.text(e.x+10, e.y, "start", e.style.color, display(e.style.name))
	}
	if hollow {
		cv.text(8, y, "start", inkColor, "hollow: gave wrong results in this workload")
	}

	axis := newLogAxis(values, left, right)
	for _, t := range axis.ticks() {
		at := axis.at(t)
		cv.line(at, top, at, bottom, gridColor, 1, faint)
		cv.text(at, bottom+18, "middle", inkColor, formatTick(t, ""))
	}
	cv.line(left, bottom, right, bottom, inkColor, 1)
	one := axis.at(1)
	cv.line(one, top-6, one, bottom, inkColor, 2)
	cv.text(one, top-12, "middle", inkColor, "x/sync", bold)
	cv.text(left, bottom+38, "start", inkColor, "← less")
	cv.text(right, bottom+38, "end", inkColor, "more than x/sync →")
	cv.text(chartWidth-8, top-12, "end", styleOf(c.valueOf).color, display(c.valueOf), bold)

	for i, row := range c.rows {
		at := top + rowHeight*(float64(i)+0.5)
		cv.text(left-10, at+4, "end", inkColor, row.label)
		cv.line(left, at, right, at, gridColor, 1, faint)
		for j := len(row.dots) - 1; j >= 0; j-- { // coalesce, the first, above the others
			d := row.dots[j]
			s := styleOf(d.name)
			if d.name == c.valueOf {
				if d.low > 0 {
					cv.line(axis.at(d.low), at, axis.at(d.high), at, s.color, 2, `stroke-opacity="0.7"`)
				}
				cv.text(chartWidth-8, at+4, "end", s.color, formatRatio(d.at))
			}
			cv.marker(axis.at(d.at), at, s, d.hollow)
		}
	}
	return cv.end()
}
