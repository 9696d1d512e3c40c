package fleet

import "sync"

// This file holds what is pushed to a run.

// A watch keeps the records that were pushed until the run takes them.
type watch struct {
	stop func()        // nil if nothing is pushed
	bell chan struct{} // rings when there is something to take

	mu      sync.Mutex
	pending []Record
}

// mostPending bounds the records that are kept: the oldest go first. A run that misses
// one will read.
const mostPending = 32

func newWatch() *watch { return &watch{bell: make(chan struct{}, 1)} }

// push adds a record. It does not block.
func (w *watch) push(r Record) {
	w.mu.Lock()
	if len(w.pending) == mostPending {
		w.pending = w.pending[1:]
	}
	w.pending = append(w.pending, r)
	w.mu.Unlock()
	w.ring()
}

func (w *watch) ring() {
	select {
	case w.bell <- struct{}{}:
	default: // it has been heard
	}
}

// pop takes the oldest record.
func (w *watch) pop() (r Record, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return Record{}, false
	}
	r, w.pending = w.pending[0], w.pending[1:]
	if len(w.pending) > 0 {
		w.ring()
	}
	return r, true
}
