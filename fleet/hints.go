package fleet

import (
	"sync"
	"time"
)

// This file holds what a Group remembers of keys that it has seen end: the revision that
// is there unless another process has come since. The next run for the key swaps for
// that, instead of for no record, and so saves a swap. A wrong hint costs what it would
// have saved. A lease is never a hint: that swap would replace it.

const mostHints = 1024

type hint struct {
	rev  uint64
	seen time.Duration
}

// hints is a table of bounded size. It forgets the oldest half when it is full.
type hints struct {
	mu       sync.Mutex
	now, old map[string]hint
}

// put remembers that the record of a name has the revision, and is no lease.
func (h *hints) put(name string, rev uint64, seen time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil || len(h.now) >= mostHints/2 {
		h.old, h.now = h.now, make(map[string]hint)
	}
	h.now[name] = hint{rev, seen}
}

// take returns the hint for a name and forgets it.
func (h *hints) take(name string) (hint, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.now[name]
	if !ok {
		at, ok = h.old[name]
	}
	delete(h.now, name)
	delete(h.old, name)
	return at, ok
}
