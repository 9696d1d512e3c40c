package main

import (
	"cmp"
	"slices"
)

// This file draws cost against something, on two logarithmic axes.

// A lineChart is one with a curve for each implementation.
type lineChart struct {
	title  string
	unit   string    // of y
	xLabel string    // the name of x
	xs     []float64 // the ticks, in their order
	curves []curve   // the first is drawn last, above the others

	mark      float64 // an x with a line of its own; 0 for none
	markLabel string

	clamped bool // zeros, for which a logarithmic axis has no place, are drawn as 1
}

// A curve is the costs of one implementation, in the order of x.
type curve struct {
	style  style
	points []point
	wrong  bool
}

const (
	chartWidth = 880.0
	lineHeight = 440.0
	labelGap   = 15.0 // between labels, at least
)

// draw returns the chart as SVG.
func (c lineChart) draw() string {
	cv := newCanvas(chartWidth, lineHeight, c.title)
	var ys []float64
	labels := make([]string, len(c.curves))
	widest := 0.0
	for i, cu := range c.curves {
		for _, p := range cu.points {
			ys = append(ys, p.y)
		}
		labels[i] = display(cu.style.name)
		if cu.wrong {
			labels[i] += " (wrong)"
		}
		widest = max(widest, textWidth(labels[i]))
	}
	left, right := 76.0, chartWidth-widest-36
	top, bottom := 44.0, lineHeight-50
	xAxis := newLogAxis(c.xs, left, right)
	yAxis := newLogAxis(ys, bottom, top)

	cv.text(left, 22, "start", inkColor, c.title, bold, large)
	for _, t := range yAxis.ticks() {
		y := yAxis.at(t)
		cv.line(left, y, right, y, gridColor, 1, faint)
		cv.text(left-8, y+4, "end", inkColor, formatTick(t, c.unit))
	}
	for _, x := range c.xs {
		at := xAxis.at(x)
		cv.line(at, top, at, bottom, gridColor, 1, faint)
		cv.text(at, bottom+18, "middle", inkColor, formatX(x))
	}
	cv.line(left, bottom, right, bottom, inkColor, 1)
	cv.line(left, top, left, bottom, inkColor, 1)
	cv.text((left+right)/2, bottom+38, "middle", inkColor, c.xLabel)
	if c.mark > xAxis.least && c.mark < xAxis.most {
		at := xAxis.at(c.mark)
		cv.line(at, top, at, bottom, inkColor, 1.5, dotted)
		cv.text(at+5, top-5, "start", inkColor, c.markLabel)
	}

	ends := make([]float64, len(c.curves))
	for i, cu := range c.curves {
		ends[i] = yAxis.at(cu.points[len(cu.points)-1].y)
	}
	places := spread(ends, top, bottom)
	for i := len(c.curves) - 1; i >= 0; i-- {
		cu := c.curves[i]
		var at []point
		for _, p := range cu.points {
			at = append(at, point{xAxis.at(p.x), yAxis.at(p.y)})
		}
		end := at[len(at)-1]
		cv.line(end.x+6, end.y, right+10, places[i], cu.style.color, 0.8, `stroke-opacity="0.6"`)
		cv.polyline(at, cu.style)
		for _, p := range at {
			cv.marker(p.x, p.y, cu.style, cu.wrong)
		}
		cv.marker(right+18, places[i], cu.style, cu.wrong)
		attrs := []string{}
		if i == 0 {
			attrs = append(attrs, bold)
		}
		cv.text(right+28, places[i]+4, "start", cu.style.color, labels[i], attrs...)
	}
	return cv.end()
}

// spread moves places that are too near to their neighbors, so that there is labelGap
// between all, and returns the places: in the same order, as near as possible to the old
// ones, and between top and bottom if there is room.
func spread(places []float64, top, bottom float64) []float64 {
	order := make([]int, len(places))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(places[i], places[j]) })

	// A group is labels that touch. It is centered on where its members
	// would be, and grows as it meets others.
	type group struct {
		sum  float64 // of the places of the members, each less its offset
		n    int
		from float64
	}
	var groups []group
	for _, i := range order {
		g := group{sum: places[i], n: 1}
		for {
			g.from = g.sum / float64(g.n)
			g.from = max(min(g.from, bottom-labelGap*float64(g.n-1)), top)
			if len(groups) == 0 {
				break
			}
			last := groups[len(groups)-1]
			if last.from+labelGap*float64(last.n) <= g.from {
				break
			}
			groups = groups[:len(groups)-1]
			g = group{sum: last.sum + g.sum - labelGap*float64(last.n*g.n), n: last.n + g.n}
		}
		groups = append(groups, g)
	}
	result := make([]float64, len(places))
	k := 0
	for _, g := range groups {
		for n := range g.n {
			result[order[k]] = g.from + labelGap*float64(n)
			k++
		}
	}
	return result
}
