package coalesce_test

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/verify/fuzz"
)

// The targets are here because go test looks for their inputs in testdata/fuzz beside
// them. What they do is in internal/verify/fuzz.

// FuzzGroup checks that a Group does what a sequential model of the contract does.
func FuzzGroup(f *testing.F) { fuzz.Group(f) }

// FuzzKeys checks that == decides whether two calls share a flight, whatever the keys.
func FuzzKeys(f *testing.F) { fuzz.Keys(f) }
