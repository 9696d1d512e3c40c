package coalesce_test

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/verify/fuzz"
)

// The targets are here because go test looks for their inputs in testdata/fuzz beside
// them. Their code is in internal/verify/fuzz.

// FuzzGroup checks that a Group behaves like a sequential model of the contract.
func FuzzGroup(f *testing.F) { fuzz.Group(f) }

// FuzzKeys checks that == alone decides whether two calls share a flight, for all keys.
func FuzzKeys(f *testing.F) { fuzz.Keys(f) }
