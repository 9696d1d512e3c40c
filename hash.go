package coalesce

import (
	"hash/maphash"

	"github.com/cespare/xxhash/v2"
)

// This file turns a key into the 64 bits that place it: the high bits pick the
// shard, the low 32 the bucket in it, so that the two do not repeat each other.

// HashString is a ready-made [Group.Hash] for keys that are strings: the xxHash
// of their bytes (XXH64, seed 0). It gives the same value in every process and
// on every run.
//
// It is for short keys that the program chooses itself. An outsider who may
// choose keys can craft many with one hash and pile them up in one bucket; the
// default hash is seeded for each group and has no such weakness. For short
// keys HashString is the faster of the two, for long ones the slower:
// go test -run - -bench Hash shows where they cross on a machine.
func HashString(key string) uint64 {
	return xxhash.Sum64String(key)
}

// hash returns the bits that place key, and whether key equals itself.
//
// It panics on a key that holds an unhashable dynamic type, which is why it
// must be called before any lock is taken. The comparison is made for a custom
// Hash too, because that one may not look at the part that cannot be compared.
func (gs *groupState[K, V]) hash(key K) (h uint64, reflexive bool) {
	reflexive = equal(key, key)
	if gs.userHash == nil {
		return maphash.Comparable(gs.seed, key), reflexive
	}
	// Mixing with the group's secret spreads hashes that differ in few bits,
	// the identity for one, and hides where a key is placed. Folding the two
	// halves of one product, the cheaper mix, leaves some inputs' low bits
	// unmixed.
	if !reflexive {
		// The comparison has stopped at a NaN, and what comes after it may be
		// unhashable. Only a hash of the whole key finds that.
		maphash.Comparable(gs.seed, key)
	}
	h = (gs.userHash(key) ^ gs.mix) * mixer
	h = (h ^ h>>32) * mixer
	return h ^ h>>32, reflexive
}

// mixer is 2⁶⁴ divided by the golden ratio, made odd.
const mixer = 0x9e3779b97f4a7c15

// equal reports whether a and b are equal. It is a function because a
// comparison of an expression with itself reads like a slip of the pen.
func equal[K comparable](a, b K) bool { return a == b }
