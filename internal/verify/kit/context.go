package kit

import (
	"context"
	"sync/atomic"
)

// StrangeContext answers Err with StrangeErr while Strange is set, whatever its Done does.
type StrangeContext struct {
	context.Context
	Strange    atomic.Bool
	StrangeErr func() error
}

// Err returns what StrangeErr or the context beneath returns.
func (c *StrangeContext) Err() error {
	if c.Strange.Load() {
		return c.StrangeErr()
	}
	return c.Context.Err()
}
