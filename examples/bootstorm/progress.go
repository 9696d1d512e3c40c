package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// A progress shows a person at a terminal how far the run is, on one line that is
// rewritten and, in the end, erased. A nil progress shows nothing.
type progress struct {
	w    io.Writer
	done atomic.Int64 // steps of the current stage
}

// begin starts a stage of that many steps and returns the function that ends it.
func (p *progress) begin(stage string, total int) (end func()) {
	if p == nil {
		return func() {}
	}
	const period = 100 * time.Millisecond
	p.done.Store(0)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(p.w, "\r\x1b[K%s: %s of %s", stage, grouped(p.done.Load()), grouped(int64(total)))
			case <-stop:
				fmt.Fprint(p.w, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// step counts one step of the current stage.
func (p *progress) step() { p.steps(1) }

// steps counts n steps of the current stage.
func (p *progress) steps(n int) {
	if p != nil {
		p.done.Add(int64(n))
	}
}

// isTerminal reports whether f is a terminal, so far as the standard library can see: it
// is a character device.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
