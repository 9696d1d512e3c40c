package coalesce

// This file holds the hash table of a shard.
//
// The table is a linear hash (W. Litwin, "Linear hashing: a new tool for file and table
// addressing", VLDB 1980). It grows by one bucket at a time and shrinks by a few, so that
// no call has to rehash a million flights under the lock. Only the slice of the buckets
// is copied as a whole, when it has no room left or too much.
//
// With ten buckets, for example, mask is 15. Buckets 0 and 1 have been split, into 0 and
// 8 and into 1 and 9. The next is bucket 2, which will be split into 2 and 10.
//
//	bucket        0    1    2     3   …   7     8    9
//	hash & mask   0    1   2,10  3,11 …  7,15   8    9
//
// Invariants, true whenever the shard's lock is not held:
//  B1. There are at least as many buckets as flights, so chains are short.
//  B2. A flight with hash h is in bucket index(h).
//  B3. mask is the least 2ⁿ-1 that is not less than the index of the last bucket.

const (
	// firstBuckets is the number of buckets that a table starts with. A table does not
	// shrink below keptBuckets, 512 bytes on 64-bit machines, so that a group with a
	// steady load allocates nothing. Both are powers of two.
	firstBuckets = 8
	keptBuckets  = 64
)

// A table maps keys to flights. The zero table is empty. The shard's lock guards its
// fields, and must be held when a method is called.
type table[K comparable, V any] struct {
	count  int32           // flights in the table
	mask   uint32          // see B3
	chains []*flight[K, V] // the buckets: the first flight of each, linked by next
}

// index returns the index of the bucket for hash h. There must be buckets.
func (t *table[K, V]) index(h uint32) uint32 {
	i := h & t.mask
	if i >= uint32(len(t.chains)) {
		i &= t.mask >> 1 // that bucket does not exist: the one it splits off from has h
	}
	return i
}

// find returns the flight for key, whose hash is h, or nil. There must be buckets.
func (t *table[K, V]) find(h uint64, key K) *flight[K, V] {
	for f := t.chains[t.index(uint32(h))]; f != nil; f = f.next {
		if f.hash == uint32(h) && f.key == key {
			return f
		}
	}
	return nil
}

// link adds f, whose key and hash are set, to its bucket. It may grow the table.
func (t *table[K, V]) link(f *flight[K, V]) {
	if int(t.count) == len(t.chains) {
		t.grow()
	}
	c := &t.chains[t.index(f.hash)]
	f.next = *c
	*c = f
	t.count++
}

// unlink takes f, which must be there, out of its bucket. It looks for f itself, not for
// its key, which may not equal itself. It leaves f.next as it is, and may shrink the
// table.
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

// grow adds a bucket, and moves to it the flights that belong there from the bucket that
// it splits. The first time it makes firstBuckets buckets instead.
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

// shrink merges up to eight buckets, from the last one down, into those that they were
// split from, but leaves keptBuckets. As it merges several for each flight that is
// removed, a table is small by the time it is empty.
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
