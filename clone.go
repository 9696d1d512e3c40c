package coalesce

// This file holds the clones of values that several calls get. Clone is user code and runs
// without a lock, on the goroutine of the call that gets the clone, or of that which
// answers it.

// clones reports whether a call that stayed to the end of f gets a clone: the value is
// shared with other calls, or with those that it answers as it lingers. f must be
// finished.
func (f *flight[K, V]) clones(clone func(V) V) bool {
	return clone != nil && (f.outcome == kept || f.outcome == returned && f.joined)
}

// mustClone is cloned for a call that blocks: it panics if clone has panicked.
func mustClone[V any](clone func(V) V, r Result[V]) (v V, shared bool, err error) {
	r, panicked := cloned(clone, r)
	if panicked != nil {
		panic(panicked)
	}
	return r.Val, r.Shared, r.Err
}

// cloned returns r with a clone of its value. If clone panics, cloned returns the
// *PanicError, and a Result without a value whose Err it is. If clone calls Goexit, the
// goroutine exits. No lock may be held.
func cloned[V any](clone func(V) V, r Result[V]) (c Result[V], panicked *PanicError) {
	c = Result[V]{Err: ErrGoexit, Shared: r.Shared} // for panic(nil), as in runInline
	defer func() {
		if v := recover(); v != nil {
			panicked = newPanicError(v)
			c.Err = panicked
		}
	}()
	c.Val = clone(r.Val)
	c.Err = r.Err
	return c, nil
}

// cloned returns r, the result for the key of p, with a clone of its value. If Clone
// panics, that is logged. No lock may be held.
func (m *multi[K, V]) cloned(p *part[K, V], r Result[V]) Result[V] {
	r, e := cloned(m.group.clone, r)
	if e != nil {
		m.group.shard(p.hash).logClone(e, p.key)
	}
	return r
}

// logClone counts and logs a panic of Clone that a receiver or a key of a DoMulti gets.
// key belongs to s. No lock may be held.
func (s *shard[K, V]) logClone(e *PanicError, key K) {
	s.mu.Lock()
	s.note(panicLogged, nil, nil)
	s.mu.Unlock()
	logPanic(e, key)
}
