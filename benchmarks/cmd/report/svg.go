package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// This file writes SVG: the parts of both kinds of chart.

// A canvas is a drawing. The same calls make the same text.
type canvas struct {
	b strings.Builder
}

// fontSize is that of all text except titles, and charWidth about the width of a
// character of it, rather too much than too little.
const (
	fontSize  = 12.0
	charWidth = 7.2
)

// textWidth estimates the width of s.
func textWidth(s string) float64 { return charWidth * float64(len([]rune(s))) }

// newCanvas begins a drawing. The title is for readers that cannot see it.
func newCanvas(width, height float64, title string) *canvas {
	c := new(canvas)
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img"`+
		` font-family="-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="%s">`,
		num(width), num(height), num(width), num(height), num(fontSize))
	c.printf("%s", signature)
	c.printf("<title>%s</title>", escape(title))
	return c
}

// end returns the drawing.
func (c *canvas) end() string {
	c.printf("</svg>")
	return c.b.String()
}

func (c *canvas) printf(format string, args ...any) {
	fmt.Fprintf(&c.b, format, args...)
	c.b.WriteByte('\n')
}

// num writes a coordinate.
func num(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func escape(s string) string { return escaper.Replace(s) }

// text writes s at x, y: the baseline. anchor is start, middle or end; attrs
// are more attributes.
func (c *canvas) text(x, y float64, anchor, color, s string, attrs ...string) {
	c.printf(`<text x="%s" y="%s" text-anchor="%s" fill="%s"%s>%s</text>`,
		num(x), num(y), anchor, color, joined(attrs), escape(s))
}

// line draws one from x1, y1 to x2, y2.
func (c *canvas) line(x1, y1, x2, y2 float64, color string, width float64, attrs ...string) {
	c.printf(`<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="%s"%s/>`,
		num(x1), num(y1), num(x2), num(y2), color, num(width), joined(attrs))
}

// polyline draws one through all points.
func (c *canvas) polyline(points []point, s style) {
	var at []string
	for _, p := range points {
		at = append(at, num(p.x)+","+num(p.y))
	}
	dash := ""
	if s.dash != "" {
		dash = fmt.Sprintf(` stroke-dasharray="%s"`, s.dash)
	}
	c.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="%s" stroke-linejoin="round"%s/>`,
		strings.Join(at, " "), s.color, num(s.width), dash)
}

// marker draws the point of a style. Filled or not, it has the same outline.
func (c *canvas) marker(x, y float64, s style, hollow bool) {
	r := 3.5
	if s.width > 2 {
		r = 5
	}
	fill := s.color
	if hollow {
		fill = "none"
	}
	look := fmt.Sprintf(`fill="%s" stroke="%s" stroke-width="1.5"`, fill, s.color)
	path := func(d string, args ...float64) {
		var at []any
		for _, a := range args {
			at = append(at, num(a))
		}
		c.printf(`<path d="%s" %s/>`, fmt.Sprintf(d, at...), look)
	}
	const polygon3, polygon4 = "M%s %sL%s %sL%s %sZ", "M%s %sL%s %sL%s %sL%s %sZ"
	switch s.shape {
	case circle:
		c.printf(`<circle cx="%s" cy="%s" r="%s" %s/>`, num(x), num(y), num(r), look)
	case square:
		q := r * 0.9
		path(polygon4, x-q, y-q, x+q, y-q, x+q, y+q, x-q, y+q)
	case diamond:
		q := r * 1.25
		path(polygon4, x, y-q, x+q, y, x, y+q, x-q, y)
	case triangle:
		path(polygon3, x, y-r*1.1, x+r*1.1, y+r*0.9, x-r*1.1, y+r*0.9)
	case pointDown:
		path(polygon3, x, y+r*1.1, x+r*1.1, y-r*0.9, x-r*1.1, y-r*0.9)
	case cross:
		path("M%s %sL%s %sM%s %sL%s %s", x-r, y-r, x+r, y+r, x-r, y+r, x+r, y-r)
	case plus:
		path("M%s %sL%s %sM%s %sL%s %s", x-r*1.2, y, x+r*1.2, y, x, y-r*1.2, x, y+r*1.2)
	}
}

func joined(attrs []string) string {
	if len(attrs) == 0 {
		return ""
	}
	return " " + strings.Join(attrs, " ")
}

// The attributes that are used more than once.
const (
	bold   = `font-weight="bold"`
	large  = `font-size="15"`
	faint  = `stroke-opacity="0.25"`
	dotted = `stroke-dasharray="2 4"`
)

// A point is one of a curve, in its units or on the canvas.
type point struct{ x, y float64 }

// A logAxis maps values to places on the canvas.
type logAxis struct {
	least, most float64 // values
	from, to    float64 // where they are drawn
}

// newLogAxis makes an axis that has room for all values, with some at the ends.
func newLogAxis(values []float64, from, to float64) logAxis {
	least, most := slices.Min(values), slices.Max(values)
	pad := max(math.Log10(most/least)*0.05, 0.08)
	return logAxis{least * math.Pow(10, -pad), most * math.Pow(10, pad), from, to}
}

// at returns the place of v.
func (a logAxis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.least)/math.Log(a.most/a.least)
}

// ticks returns round values on the axis: the powers of ten if there are some, or else
// their doubles and halves as well, or else any that make three.
func (a logAxis) ticks() []float64 {
	var ts []float64
	for _, steps := range [][]float64{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 8}} {
		ts = nil
		for e := math.Floor(math.Log10(a.least)); e <= math.Ceil(math.Log10(a.most)); e++ {
			for _, s := range steps {
				if t := s * math.Pow(10, e); t >= a.least && t <= a.most {
					ts = append(ts, t)
				}
			}
		}
		if len(ts) >= 3 {
			return ts
		}
	}
	return ts
}
