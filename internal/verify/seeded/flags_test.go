package main

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/commandtest"
)

func init() { commandtest.Init(main) }

// TestFlags_AbsurdExits2: a value that makes no sense is not replaced by another, and one
// line reports the error.
func TestFlags_AbsurdExits2(t *testing.T) {
	commandtest.Absurd(t,
		"-parallel 0",
		"-parallel -1",
		"-parallel 1000000000",
		"more",
	)
}
