// Package both compares.
package both

import (
	"github.com/seed342dcb2d/coalesce"
	"resenje.org/singleflight"
)

var (
	ours   coalesce.Group[string, int]
	theirs singleflight.Group[string, int]
)
