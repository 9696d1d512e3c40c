package main

import (
	"errors"
	"sync"
	"sync/atomic"
)

// errExist is the answer to a load of a module that is live already (EEXIST). A caller
// that only wants the module to be there takes it for success.
var errExist = errors.New("the module is live already")

// A registry holds the names of the modules that are live.
type registry struct {
	mu   sync.RWMutex // protects live
	live map[string]bool
}

// has reports whether the module of that name is live.
func (r *registry) has(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.live[name]
}

// publish makes the module of that name live, or returns errExist.
func (r *registry) publish(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[name] {
		return errExist
	}
	if r.live == nil {
		r.live = make(map[string]bool)
	}
	r.live[name] = true
	return nil
}

// len returns the number of live modules.
func (r *registry) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.live)
}

// A meter counts the acts of the workers of one run. Each field is only added to, by the
// workers, and read when they have ended.
type meter struct {
	skipped  atomic.Int64 // steps whose module was live
	attempts atomic.Int64 // loads asked for: leaders, joined and busy
	leaders  atomic.Int64 // attempts that read the file
	joined   atomic.Int64 // attempts that got the result of another's load
	busy     atomic.Int64 // attempts that were refused
	late     atomic.Int64 // leaders that then found the module live

	bytesRead   atomic.Int64
	bytesLive   atomic.Int64 // read by loads that made their module live
	bytesWasted atomic.Int64 // read by loads that did not

	buffered     atomic.Int64 // bytes in the buffers of loads, now
	peakBuffered atomic.Int64 // and at most, so far
}

// buffer counts a buffer that comes into use.
func (m *meter) buffer(size int64) {
	now := m.buffered.Add(size)
	for peak := m.peakBuffered.Load(); now > peak; peak = m.peakBuffered.Load() {
		if m.peakBuffered.CompareAndSwap(peak, now) {
			return
		}
	}
}

// unbuffer counts a buffer that is out of use.
func (m *meter) unbuffer(size int64) { m.buffered.Add(-size) }
