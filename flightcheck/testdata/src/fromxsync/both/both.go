// Package both compares.
package both

import (
	"github.com/seed342dcb2d/coalesce"
	"golang.org/x/sync/singleflight"
)

var (
	ours   coalesce.Group[string, int]
	theirs singleflight.Group
)
