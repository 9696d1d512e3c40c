package fleettest_test

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
)

// TestEngine_Memory: the engine in memory passes.
func TestEngine_Memory(t *testing.T) {
	m := new(fleet.Memory)
	fleettest.Engine(t, func(testing.TB) fleet.Engine { return m }, fleettest.Options{})
}
