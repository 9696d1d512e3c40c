package coalesce

// This file holds the hash table of a shard.
//
// It is a linear hash (W. Litwin, "Linear hashing: a new tool for file and
// table addressing", VLDB 1980): it grows and shrinks by one bucket at a time,
// so that no call pays for rehashing a million flights under the lock.
//
// Invariants, true whenever the shard's lock is not held:
//  B1. There is at least one bucket for each flight, so chains are short.
//  B2. The flight with hash h is in bucket index(h).
//  B3. mask is the least 2ⁿ-1 that is not below the last bucket's number.

const (
	// firstBuckets is how many buckets a table starts with. keptBuckets is the
	// size below which it does not shrink, so that a group with a steady load
	// allocates nothing: 512 bytes on 64-bit machines. Both are powers of two.
	firstBuckets = 8
	keptBuckets  = 64
)

// A table is chains of flights. The shard's lock must be held for all of it.
type table[K comparable, V any] struct {
	count  int32 // flights in the table
	mask   uint32
	chains []*flight[K, V] // linked by next
}

// index returns the bucket for hash h. There must be buckets.
func (t *table[K, V]) index(h uint32) uint32 {
	i := h & t.mask
	if i >= uint32(len(t.chains)) {
		i &= t.mask >> 1 // not split yet
	}
	return i
}

// find returns the flight for key, or nil. There must be buckets.
func (t *table[K, V]) find(h uint64, key K) *flight[K, V] {
	for f := t.chains[t.index(uint32(h))]; f != nil; f = f.next {
		if f.hash == uint32(h) && f.key == key {
			return f
		}
	}
	return nil
}

// link puts f in its bucket.
func (t *table[K, V]) link(f *flight[K, V]) {
	if int(t.count) == len(t.chains) {
		t.grow()
	}
	c := &t.chains[t.index(f.hash)]
	f.next = *c
	*c = f
	t.count++
}

// unlink takes f out of its bucket, by identity: a key that does not equal
// itself can be removed too. It leaves f.next to the caller.
func (t *table[K, V]) unlink(f *flight[K, V]) {
	p := &t.chains[t.index(f.hash)]
	for *p != f {
		p = &(*p).next
	}
	*p = f.next
	t.count--
	if len(t.chains) > keptBuckets && len(t.chains) > 4*int(t.count) {
		t.shrink()
	}
}

// grow adds a bucket and moves to it what belongs there from the one that it
// splits.
func (t *table[K, V]) grow() {
	n := uint32(len(t.chains))
	if n == 0 {
		t.chains = make([]*flight[K, V], firstBuckets)
		t.mask = firstBuckets - 1
		return
	}
	t.chains = append(t.chains, nil)
	if n > t.mask {
		t.mask = t.mask<<1 | 1
	}
	to := &t.chains[n]
	for p := &t.chains[n&(t.mask>>1)]; *p != nil; {
		if f := *p; f.hash&t.mask == n {
			*p = f.next
			f.next = *to
			*to = f
		} else {
			p = &f.next
		}
	}
}

// shrink merges a few buckets into those that they were split from: several
// for each flight that leaves, so that an emptying table is small when it is
// empty.
func (t *table[K, V]) shrink() {
	for range 8 {
		n := len(t.chains) - 1
		if n < keptBuckets {
			break
		}
		p := &t.chains[uint32(n)&(t.mask>>1)]
		for *p != nil {
			p = &(*p).next
		}
		*p = t.chains[n]
		t.chains[n] = nil
		t.chains = t.chains[:n]
		if uint32(n) == t.mask>>1+1 {
			t.mask >>= 1
		}
	}
	if cap(t.chains) > 4*len(t.chains) {
		t.chains = append(make([]*flight[K, V], 0, 2*len(t.chains)), t.chains...)
	}
}
