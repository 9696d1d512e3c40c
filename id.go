package coalesce

// This file holds the IDs of flights: how a flight gets one, and how it is found by it.
//
//	an ID   63                                                   0
//	        ┌───────────────────────┬──────────┬─────────────────┐
//	        │ a count of the shard  │ 8 bits   │ log2(shards)    │
//	        └───────────────────────┴──────────┴─────────────────┘
//	          shard.events           of the     the index of the
//	                                 hash       shard
//
// Invariants, true whenever the shard's lock is not held:
//  I1. cold.id is 0 until the ID of the flight is asked for: by Flights or ForgetFunc,
//      or, with hooks, as soon as the flight is registered or queued. It does not change
//      from then on, until the record is used again. So a flight of which nothing else
//      has the ID pays nothing for it.
//  I2. No two flights of a group have the same ID: the low bits differ if their shards
//      do, and the count is never used twice. It begins with 1, so no ID is 0.
//  I3. The bits in the middle are the low bits of the flight's hash, so only one bucket
//      in 256 can have the flight with a given ID. Without them ForgetFlight would
//      search the whole shard, and a loop over Flights that forgets each would take time
//      in proportion to the square of the number of flights.
//
// Rejected: a field in every flight. The ID is in the cold part, which a flight that
// only its leader knows does without; Flights adds it to those that it looks at. Most of
// these are flights of Do, each with a goroutine that takes many times that memory.

// idHashBits is the number of bits of the hash in an ID. It leaves 45 bits for the count
// of each of 2,048 shards: a year's events, with a million in each second in one shard.
const idHashBits = 8

// idOf returns the ID of f, which gets one if it has none. f must not be a lone flight
// that has not been revealed. s.mu must be held.
func (s *shard[K, V]) idOf(f *flight[K, V]) uint64 {
	if f.cold == nil || f.cold.common {
		f.extend()
	}
	if f.cold.id == 0 {
		n := uint64(len(s.group.shards))
		s.events += n // a residue class of its own for each shard
		index := s.events & (n - 1)
		f.cold.id = (s.events-index)<<idHashBits | uint64(f.hash)%(1<<idHashBits)*n | index
	}
	return f.cold.id
}

// shardOf returns the shard of the flight with the given ID, or nil if that shard has not
// been made: then no flight has the ID.
func (gs *groupState[K, V]) shardOf(id uint64) *shard[K, V] {
	return gs.shards[id&uint64(len(gs.shards)-1)].Load()
}

// withID returns the flight with the given ID if it is registered in s, or nil. s must
// be the shard that shardOf returns. s.mu must be held.
func (s *shard[K, V]) withID(id uint64) *flight[K, V] {
	has := func(f *flight[K, V]) bool { return f.cold != nil && f.cold.id == id }
	switch {
	case id == 0: // that of all flights whose ID has not been asked for
		return nil
	case s.alone && has(s.lone):
		return s.lone
	case s.count == 0:
		return nil
	}
	// The table may have fewer than 256 buckets: then the bits pick one. Otherwise they
	// pick the first, and every 256th after it.
	low := uint32(id / uint64(len(s.group.shards)) % (1 << idHashBits))
	for i := s.index(low); int(i) < len(s.chains); i += 1 << idHashBits {
		for f := s.chains[i]; f != nil; f = f.next {
			if has(f) {
				return f
			}
		}
	}
	return nil
}
