package coalesce

import "slices"

// This file holds the forgetting of flights. The four forms of Forget and the takeovers
// of MaxAge (see limits.go) all come down to detach.
//
//	the key's flight      | Forget                        | ForgetUnshared
//	----------------------|-------------------------------|---------------------------
//	none                  | false                         | true
//	not joined            | detach, promote its successor | as Forget
//	joined, not abandoned | detach, promote its successor | do nothing: false
//	abandoned             | detach, promote its successor | as Forget
//	an outcome lingers    | drop it as well: true         | as well, unless false
//
// Calls in the successor have not joined the flight. A promoted flight has been joined
// if two calls have been queued in it. A forgotten flight counts as none. One that is held
// and has lost all its callers is not abandoned; it has been joined if a second call ever
// has.
//
// ForgetFunc does what Forget does, for each key that matches. ForgetFlight does it for
// a flight instead of a key: it detaches that flight and promotes its successor, but
// leaves the lingering outcome, which is that of another flight. It returns false if
// the flight with that ID is not registered: queued, forgotten or finished.

// Forget makes the group forget the flight of key and drop the outcome that lingers for
// key, so that calls which begin later are answered by another flight. It reports
// whether there was a flight or an outcome. The forgotten flight runs on and answers the
// calls that have joined it. It has no effect on later flights. If a successor is
// queued behind it, the successor is promoted at once and becomes the key's flight.
//
// Forget may be called from anywhere, including from inside fn, and after
// [Group.Shutdown]. It does not block. It panics if key holds a dynamic type that
// cannot be compared. It does not find the flights of a key that does not equal itself,
// such as NaN, and returns false: use [Group.ForgetFlight] or [Group.ForgetFunc].
func (g *Group[K, V]) Forget(key K) bool {
	_, forgotten := g.forget(key, true)
	return forgotten
}

// ForgetUnshared is like [Group.Forget], but does nothing if another call has joined
// the flight of key. It returns false in that case: the flight stays. Otherwise it
// returns true, even if key has no flight: no execution that has begun will answer a
// later call. It forgets a flight that was joined if all callers have left it. Calls
// that are queued behind a flight have not joined it.
func (g *Group[K, V]) ForgetUnshared(key K) bool {
	found, forgotten := g.forget(key, false)
	return forgotten || !found
}

// forget detaches the flight of key and drops the outcome that lingers for key, unless
// the flight is shared and the argument does not allow that: then it does nothing. A
// shared flight is one that was joined and is not abandoned. found reports whether
// there was a flight, and forgotten whether a flight was detached or an outcome dropped.
// No lock may be held.
func (g *Group[K, V]) forget(key K, shared bool) (found, forgotten bool) {
	gs := g.use()
	h, reflexive := gs.hash(key)
	s := gs.made(h)
	if s == nil {
		return false, false
	}
	s.mu.Lock()
	f := s.lookup(h, key, reflexive)
	if f != nil && f.joined && !shared && !f.abandoned() {
		s.mu.Unlock()
		return true, false
	}
	forgotten = f != nil
	if s.group.lingering != nil && s.drop(uint32(h), key) {
		forgotten = true
	}
	if forgotten {
		s.note(flightForgotten, f, nil)
	}
	var next *caller[K, V]
	if f != nil {
		next = s.detach(f)
	}
	s.mu.Unlock()
	next.notify()
	return f != nil, forgotten
}

// ForgetFlight is like [Group.Forget] for the flight that has the given [Flight.ID],
// instead of for a key. Use it for a flight found with [Group.Flights], whose key may
// have another flight by now, or whose key is unknown or does not equal itself, such as
// NaN. It reports whether the flight was forgotten: false if id is 0 or unknown, if the flight
// is queued or has been forgotten, or if it has finished. An outcome that lingers for the
// key stays, as it is that of another flight.
//
// ForgetFlight may be called from anywhere, including from inside fn, and after
// [Group.Shutdown]. It does not block. It looks at a 256th of the flights of one shard.
func (g *Group[K, V]) ForgetFlight(id uint64) bool {
	s := g.use().shardOf(id)
	if s == nil {
		return false
	}
	s.mu.Lock()
	f := s.withID(id)
	if f == nil {
		s.mu.Unlock()
		return false
	}
	s.note(flightForgotten, f, nil)
	next := s.detach(f)
	s.mu.Unlock()
	next.notify()
	return true
}

// ForgetFunc does what [Group.Forget] does for each key for which match returns true. It
// returns the number of keys that had a flight or an outcome to forget. No execution
// that began before ForgetFunc will answer a call for such a key that begins after
// ForgetFunc has returned. Each flight of a key that does not equal itself, such as NaN,
// is forgotten by itself, and counts as a key. ForgetFunc looks at all keys: where they
// are known, use [Group.Forget].
//
// match is called on the caller's goroutine, outside all locks, at least once for each
// key, and perhaps twice. It may use the group, and take its time: no other call waits
// for it. If it panics or calls [runtime.Goexit], so does ForgetFunc, and some of the
// keys have been forgotten. ForgetFunc panics if match is nil.
//
// ForgetFunc may be called from anywhere, including from inside fn, and after
// [Group.Shutdown]. It does not wait for flights. It takes time in proportion to the
// number of flights and outcomes in the group, and memory in proportion to those of a
// shard. It locks each shard once, while it copies the keys of the flights there, and
// once more for each key that matches.
func (g *Group[K, V]) ForgetFunc(match func(K) bool) int {
	must(match != nil, "match")
	gs := g.use()
	n := 0
	var keys []registeredKey[K]
	for s := range gs.all() {
		// The order matters: a flight that finishes meanwhile moves its outcome from where
		// ForgetFunc looks first to where it looks last.
		keys = s.appendKeys(keys[:0])
		forgot := map[K]bool{}
		for _, k := range keys {
			switch {
			case !match(k.key):
			case k.id != 0:
				if g.ForgetFlight(k.id) {
					n++
				}
			case g.Forget(k.key):
				n++
				if gs.lingering != nil {
					forgot[k.key] = true
				}
			}
		}
		x := s.outcomes.Load()
		if x == nil {
			continue
		}
		x.Range(func(at slot[K], _ *lingerer[K, V]) bool {
			// If its flight has been forgotten, the lingering outcome is of a later
			// execution.
			if !forgot[at.key] && match(at.key) && g.Forget(at.key) {
				n++
			}
			return true
		})
	}
	return n
}

// A registeredKey is a key that had a registered flight. id is the ID of that flight if
// the key does not equal itself, and cannot be looked up, and 0 otherwise.
type registeredKey[K comparable] struct {
	key K
	id  uint64
}

// appendKeys appends the keys of the registered flights of s to a slice, and returns the
// slice. No lock may be held.
func (s *shard[K, V]) appendKeys(to []registeredKey[K]) []registeredKey[K] {
	s.mu.Lock()
	defer s.mu.Unlock()
	to = slices.Grow(to, int(s.count)+1) // and the lone flight
	for f := range s.all() {
		if f.detached {
			break // the forgotten ones come last
		}
		k := registeredKey[K]{key: f.key}
		if !equal(f.key, f.key) {
			k.id = s.idOf(f)
		}
		to = append(to, k)
	}
	return to
}

// detach moves f, which is registered, from the table to the list of forgotten flights,
// where Flights and Shutdown find it, and promotes its successor into its place. It
// returns the caller to notify once the lock is released, or nil. s.mu must be held.
func (s *shard[K, V]) detach(f *flight[K, V]) *caller[K, V] {
	s.unregister(f)
	f.extend() // its links in the list, and a mark that its record is not used again
	f.detached = true
	s.detached.push(f)
	return s.promote(f)
}
