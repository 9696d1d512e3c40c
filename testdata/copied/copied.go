// Package copied copies a Group, for go vet to find.
package copied

import "github.com/seed342dcb2d/coalesce"

// Use takes a Group by value.
func Use(g coalesce.Group[string, int]) int { return g.Len() }
