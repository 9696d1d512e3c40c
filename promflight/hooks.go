package promflight

import (
	"context"

	"github.com/seed342dcb2d/coalesce"
)

// Hooks returns hooks that fill the histograms of c, and that call those of next:
//
//	thumbnails.Hooks = promflight.Hooks(c, thumbnails.Hooks)
//
// Set them before the group is used, which means before c is registered, too.
// Use them for the group of c alone. The fields of next may be nil. Its hooks
// have the effects that they have without c, even if they panic or exit, and the
// observation is made all the same. Hooks panics if c is nil.
//
// coalesce_wait_seconds observes, by the Receive hook, each call that followed
// and got a result, or the error of a Shutdown. A call that left got none, and a
// call that an outcome answered which lingers did not wait. coalesce_flight_seconds
// observes, by the Finish hook, each flight that ran; a DoMulti leads one for
// each of its keys.
//
// The hooks allocate nothing. A group that has any hooks allocates 2 to 5 times
// for each flight, and once for each call that joins, and reads the clock: see
// “Cost” in the documentation of [coalesce].
func Hooks[K comparable](c *Collector, next coalesce.Hooks[K]) coalesce.Hooks[K] {
	c.hooked.Store(true)
	h := next
	h.Receive = func(ctx context.Context, e coalesce.Event[K]) {
		c.wait.Observe(e.Wait.Seconds())
		if next.Receive != nil {
			next.Receive(ctx, e)
		}
	}
	h.Finish = func(ctx context.Context, e coalesce.Event[K]) {
		if e.Outcome != coalesce.OutcomeClosed { // else fn has not run
			c.flight.Observe(e.Run.Seconds())
		}
		if next.Finish != nil {
			next.Finish(ctx, e)
		}
	}
	return h
}
