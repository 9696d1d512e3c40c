package kit

import (
	"context"
	"sync/atomic"
)

// StrangeContext answers Err with StrangeErr while Strange is set, independent of its
// Done.
type StrangeContext struct {
	context.Context
	Strange    atomic.Bool
	StrangeErr func() error
}

// Err returns the result of StrangeErr or of the context beneath.
func (c *StrangeContext) Err() error {
	if c.Strange.Load() {
		return c.StrangeErr()
	}
	return c.Context.Err()
}
