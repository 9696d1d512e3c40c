package coalesce

// Forget makes the group forget the flight of key and drop the success that
// lingers for it, so that the next call starts a fresh flight, and reports
// whether there was anything to forget. The
// forgotten flight runs on and answers the calls that have joined it; it has no
// effect on the flights that come after. If a successor is queued behind it,
// that one is promoted at once and becomes the key's flight.
//
// Forget may be called from anywhere, from inside fn and after
// [Group.Shutdown] too. It does not block, and panics if key holds a dynamic
// type that cannot be compared. A key that does not equal itself, such as NaN,
// cannot be forgotten.
func (g *Group[K, V]) Forget(key K) bool {
	_, forgotten := g.forget(key, true)
	return forgotten
}

// ForgetUnshared is like [Group.Forget], but forgets a flight only if no other
// call has joined it, and reports whether the next call starts a fresh one:
// false means that the flight was joined and stays. It is true if the key has no
// flight, and if all callers of its flight have left. Calls that are queued
// behind a flight do not share it.
func (g *Group[K, V]) ForgetUnshared(key K) bool {
	found, forgotten := g.forget(key, false)
	return forgotten || !found
}

// forget detaches the flight of key and drops what lingers for it. It does
// nothing if the flight is shared and shared ones are not to be forgotten.
func (g *Group[K, V]) forget(key K, shared bool) (found, forgotten bool) {
	gs := g.use()
	h, reflexive := gs.hash(key)
	s := gs.shard(h)
	s.mu.Lock()
	f := s.lookup(h, key, reflexive)
	if f != nil && f.joined && !shared && !f.abandoned() {
		s.mu.Unlock()
		return true, false
	}
	forgotten = f != nil
	if l := s.group.lingering; l != nil && l.drop(key) {
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

// detach moves f, which is registered, from the table to the list of the
// forgotten, promotes its successor into its place, and returns the caller to
// notify, as remove does. s.mu must be held.
func (s *shard[K, V]) detach(f *flight[K, V]) *caller[K, V] {
	s.unregister(f)
	f.extend()
	f.detached = true
	s.detached.push(f)
	return s.promote(f)
}
