package benchmarks

import (
	"hash/maphash"
	"sync"
)

// This file holds the seed: the kernel's patch "modules: catch concurrent module loads,
// treat them as idempotent" (9b9879fc0327), with keys of any type and a result beside the
// error. As there, one lock protects 256 lists, every call has an entry on one of them
// and a completion of its own, and the call that finishes walks the list and wakes one
// after the other under the lock.

const seedBuckets = 256

// A seedTable is the policy.
type seedTable[K comparable] struct {
	hash  maphash.Seed
	mu    sync.Mutex // protects all lists
	heads [seedBuckets]*seedEntry[K]
}

// A seedEntry is a call, which leads or waits.
type seedEntry[K comparable] struct {
	key  K
	done chan struct{} // closed when page and err are there
	page *page
	err  error

	next *seedEntry[K]
	link **seedEntry[K] // what points here
}

func newSeed[K comparable]() call[K] {
	s := &seedTable[K]{hash: maphash.MakeSeed()}
	return func(key K, t *task) (*page, error) {
		e := &seedEntry[K]{key: key, done: make(chan struct{})}
		if s.enter(e) {
			<-e.done
			return e.page, e.err
		}
		p, err := t.do()
		s.finish(e, p, err)
		return p, err
	}
}

func (s *seedTable[K]) head(key K) **seedEntry[K] {
	return &s.heads[maphash.Comparable(s.hash, key)%seedBuckets]
}

// enter puts e on its list, and reports whether the key is being loaded.
func (s *seedTable[K]) enter(e *seedEntry[K]) (loading bool) {
	head := s.head(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := *head; other != nil && !loading; other = other.next {
		loading = other.key == e.key
	}
	e.next, e.link = *head, head
	if e.next != nil {
		e.next.link = &e.next
	}
	*head = e
	return loading
}

// finish takes all entries with the key of e off the list and wakes them.
func (s *seedTable[K]) finish(e *seedEntry[K], p *page, err error) {
	head := s.head(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := *head; other != nil; other = other.next {
		if other.key != e.key {
			continue
		}
		*other.link = other.next
		if other.next != nil {
			other.next.link = other.link
		}
		other.page, other.err = p, err
		close(other.done)
	}
}
