package main

import (
	"hash/fnv"
	"strings"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// This file gives each implementation its look, the same in all charts.
//
// A chart has no background. The page that shows it may be white or nearly black, and a
// chart cannot know which: a browser reports to an image which scheme the system prefers,
// not which one the page has. So all colors are of a medium luminance, with a contrast of
// at least 3 : 1 on either.

const (
	inkColor  = "#737b85" // of text and axes
	gridColor = "#808080" // drawn thin
)

// A style is the look of an implementation.
type style struct {
	name  string
	color string
	shape shape
	width float64 // of a line
	dash  string  // of a line; "" for none
}

// A shape is that of a point.
type shape int

const (
	circle shape = iota
	square
	triangle
	diamond
	cross
	plus
	pointDown
)

// known are the known looks. Where two colors are near each other the shapes differ.
var known = map[string]style{
	benchmarks.Coalesce: {color: "#e0482f", shape: circle, width: 3},
	benchmarks.XSync:    {color: "#2878d8", shape: square},
	benchmarks.Resenje:  {color: "#2d8f4e", shape: triangle},
	"samber":            {color: "#9a62d6", shape: diamond},
	"samber-sharded":    {color: "#9a62d6", shape: pointDown},
	"msync":             {color: "#b3741a", shape: cross},
	"go-zero":           {color: "#18909c", shape: plus},
	"groupcache":        {color: "#d3509b", shape: square},
	"tailscale":         {color: "#7c8420", shape: triangle},
	"otter":             {color: "#a5694f", shape: diamond},
	"theine":            {color: "#5f74d9", shape: pointDown},
	"seed":              {color: "#4a8a2a", shape: cross},
	"mapof":             {color: "#c0508a", shape: plus},
	"floor-locks":       {color: inkColor, shape: circle, dash: "6 3"},
	"floor-park":        {color: inkColor, shape: square, dash: "2 3"},
	"floor-cancellable": {color: inkColor, shape: triangle, dash: "8 3 2 3"},
	"floor-close":       {color: inkColor, shape: diamond, dash: "4 4"},
}

// spare are the colors for other implementations.
var spare = []string{"#3f86c8", "#a8641f", "#8a6fd0", "#3d8f6a", "#c4567a", "#6f8326"}

// styles returns the looks of those of the given names.
func styles(names []string) []style {
	all := make([]style, len(names))
	for i, name := range names {
		all[i] = styleOf(name)
	}
	return all
}

// styleOf depends on the name only, so that a new implementation does not change the
// looks of others.
func styleOf(name string) style {
	s, ok := known[name]
	if !ok {
		h := fnv.New32a()
		h.Write([]byte(name))
		n := h.Sum32()
		s = style{color: spare[n%uint32(len(spare))], shape: shape(n / 8 % 7)}
		if strings.HasPrefix(name, floorPrefix) {
			s.color, s.dash = inkColor, "5 3"
		}
	}
	s.name = name
	if s.width == 0 {
		s.width = 1.5
	}
	return s
}
