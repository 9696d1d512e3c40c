package coalesce

// This file holds the forgetting of flights. Forget, ForgetUnshared and the takeovers
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
// if two calls have been queued in it. A forgotten flight counts as none.

// Forget makes the group forget the flight of key and drop the outcome that lingers for
// key, so that calls which begin later are answered by another flight. It reports
// whether there was a flight or an outcome. The forgotten flight runs on and answers the
// calls that have joined it. It has no effect on later flights. If a successor is
// queued behind it, the successor is promoted at once and becomes the key's flight.
//
// Forget may be called from anywhere, including from inside fn, and after
// [Group.Shutdown]. It does not block. It panics if key holds a dynamic type that
// cannot be compared. A key that does not equal itself, such as NaN, cannot be
// forgotten: Forget returns false.
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
