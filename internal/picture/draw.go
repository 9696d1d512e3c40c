package main

import (
	"fmt"
	"strings"
)

// This file draws the lanes. The drawing has no background, since the page that
// shows it may be white or nearly black; so all colors have a contrast of at least
// 3 : 1 on either.

const (
	ink      = "#737b85"
	running  = "#e0482f" // fn
	waiting  = "#2878d8" // a caller
	left     = 130.0     // where the lanes begin
	perTenth = 46.0
	perLane  = 52.0
	bar      = 16.0
	top      = 34.0
)

// draw returns the drawing of the lanes, those of fns first.
func draw(lanes []lane) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	x := func(tenth int) float64 { return left + perTenth*float64(tenth) }
	y := func(i int) float64 { return top + perLane*float64(i) }

	fns, end := 0, 0
	for _, l := range lanes {
		if l.isFn {
			fns++
		}
		end = max(end, l.to)
	}
	width, height := x(end)+150, y(len(lanes))-8
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img"`+
		` font-family="-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13">`,
		width, height, width, height)
	line(`<title>%s</title>`, title(lanes))
	line(`<g fill="%s">`, ink)
	for i, l := range lanes {
		line(`<text x="%g" y="%g" text-anchor="end">%s</text>`, left-12, y(i)+bar-4, l.name)
	}
	line(`</g>`)

	// The lines of the joins and of the results come first, so that bars cover them. One that
	// leaves has joined the first fn.
	line(`<g stroke="%s" stroke-width="1.2" stroke-dasharray="3 3">`, ink)
	last := make([]int, fns)
	for i, l := range lanes[fns:] {
		of := max(l.fn, 0)
		if at := max(l.from, lanes[of].from); at < lanes[of].to {
			line(`<path d="M%g %gV%g"/>`, x(at), y(of)+bar, y(fns+i))
		}
		if l.fn >= 0 {
			last[l.fn] = fns + i
		}
	}
	for i := range fns {
		if last[i] > 0 {
			line(`<path d="M%g %gV%g"/>`, x(lanes[i].to), y(i)+bar, y(last[i]))
		}
	}
	line(`</g>`)

	for i, l := range lanes {
		color := waiting
		if l.isFn {
			color = running
		}
		line(`<rect x="%g" y="%g" width="%g" height="%g" rx="3" fill="%s"/>`, x(l.from), y(i), x(l.to)-x(l.from), bar, color)
		if l.left {
			line(`<path d="M%g %gl8 8m0 -8l-8 8" transform="translate(2 4)" stroke="%s" stroke-width="2" fill="none"/>`, x(l.to), y(i), ink)
		}
		line(`<text x="%g" y="%g" fill="%s">%s</text>`, x(l.from)+5, y(i)-6, color, l.began)
		at := x(l.to) + 8
		if l.left {
			at += 10
		}
		line(`<text x="%g" y="%g" fill="%s">%s</text>`, at, y(i)+bar-4, color, l.ended)
	}
	line(`</svg>`)
	return b.String()
}

// title describes the drawing to readers that cannot see it.
func title(lanes []lane) string {
	parts := make([]string, len(lanes))
	for i, l := range lanes {
		parts[i] = fmt.Sprintf("%s %s at %d and %s at %d", l.name, l.began, l.from, l.ended, l.to)
	}
	return strings.Join(parts, "; ")
}
