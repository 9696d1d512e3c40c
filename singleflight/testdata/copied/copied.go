// Package copied copies a Group, for go vet to find.
package copied

import "github.com/seed342dcb2d/coalesce/singleflight"

// Use takes a Group by value.
func Use(g singleflight.Group) { g.Forget("k") }
