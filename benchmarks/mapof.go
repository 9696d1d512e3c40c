package benchmarks

import "github.com/puzpuzpuz/xsync/v3"

// This file holds the design that package coalesce rejected: all flights in one
// concurrent map. It is right, and it is short; its cost is measured here. An entry is
// deleted before its waiters are woken, so that no call finds a flight that is over.

// A mapOfFlight is a flight: one execution, and the channel that its followers wait on.
type mapOfFlight struct {
	done chan struct{} // closed when page and err are there
	page *page
	err  error
}

func newMapOfFlight() *mapOfFlight { return &mapOfFlight{done: make(chan struct{})} }

func newMapOf[K comparable]() call[K] {
	m := xsync.NewMapOf[K, *mapOfFlight]()
	return func(key K, t *task) (*page, error) {
		c, joined := m.LoadOrCompute(key, newMapOfFlight)
		if joined {
			<-c.done
			return c.page, c.err
		}
		defer func() {
			m.Delete(key)
			close(c.done)
		}()
		c.page, c.err = t.do()
		return c.page, c.err
	}
}
