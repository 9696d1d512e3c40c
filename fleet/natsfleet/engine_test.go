package natsfleet

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
	"github.com/seed342dcb2d/coalesce/fleet/internal/enginetest"
)

func (b *bench) tools() fleettest.Options {
	return fleettest.Options{
		Delete: b.remove, Lose: b.lose, Disconnect: b.disconnect, Held: b.held, Spreads: len(b.servers) > 1,
	}
}

// TestEngine: a stream on one server passes, with the permissions of the package comment.
func TestEngine(t *testing.T) {
	b := restricted(t, permissions())
	fleettest.Engine(t, b.open, b.tools())
}

// TestEngine_Replicas: a stream on three servers of a cluster passes.
func TestEngine_Replicas(t *testing.T) {
	b := three(t)
	fleettest.Engine(t, b.open, b.tools())
}

// TestGroup: processes share executions, also while connections break, after the stream has
// been lost, and where a process leads a thousand keys.
func TestGroup(t *testing.T) {
	b := restricted(t, permissions())
	enginetest.Group(t, b.open, b.tools())
}
