package coalesce_test

import (
	"cmp"
	"slices"
)

// median returns the middle one of some measurements.
func median[T cmp.Ordered](x []T) T {
	slices.Sort(x)
	return x[len(x)/2]
}
