package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

// interruptible returns a context that ends with the first signal to end the process, so
// that its files are removed; the second one ends the process at once. After release, the
// first does, as there is nothing left to remove.
//
// A signal that is ignored from the start, as SIGHUP under nohup, stays so.
func interruptible() (ctx context.Context, release func()) {
	ctx, end := context.WithCancelCause(context.Background())
	received := make(chan os.Signal, 2)
	for _, sig := range endSignals {
		if !signal.Ignored(sig) {
			signal.Notify(received, sig)
		}
	}
	go func() {
		end(fmt.Errorf("%v signal received", <-received))
		<-received
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { signal.Stop(received) }
}
