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
		"-p 0",
		"-p -1",
		"-p 1000000000",
		"-sample -1",
		"-fast 0s",
		"-fast -1s",
		"-stall -1s",
		"-full -1s",
		"-race -1s",
		"-explore -1s",
		"-explore 2562047h",
		"more",
	)
}
