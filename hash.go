package coalesce

import (
	"hash/maphash"

	"github.com/cespare/xxhash/v2"
)

// This file turns a key into 64 bits that determine its place. The high bits
// select the shard and the low 32 bits select the bucket within it, so that the
// two choices do not depend on the same bits.

// HashString is a ready-made [Group.Hash] for keys that are strings: the xxHash
// of their bytes (XXH64, seed 0). It gives the same value in every process and
// on every run.
//
// Use it for short keys that the program chooses itself. An outsider who can
// choose keys can craft many that have the same hash, which all fall into one
// bucket; the default hash is seeded for each group and has no such weakness.
// HashString is faster than the default for short keys and slower for long
// ones: go test -run - -bench Hash shows the length at which they are equal on a
// machine.
func HashString(key string) uint64 {
	return xxhash.Sum64String(key)
}

// hash returns the bits that place key, and whether key equals itself.
//
// It panics if key holds a dynamic type that is not hashable, so it must be
// called before any lock is taken. It compares key with itself even if there is
// a custom Hash, which may not read the part of the key that is not comparable.
func (gs *groupState[K, V]) hash(key K) (h uint64, reflexive bool) {
	reflexive = equal(key, key)
	if gs.userHash == nil {
		return maphash.Comparable(gs.seed, key), reflexive
	}
	// Mixing with the group's secret spreads hashes that differ in few bits, such
	// as those of the identity function, and hides the place of a key. A cheaper
	// mix, which folds the two halves of one product, leaves the low bits of some
	// inputs unmixed.
	if !reflexive {
		// The comparison stopped at a NaN, and a later part of the key may not be
		// hashable. Only a hash of the whole key detects that.
		maphash.Comparable(gs.seed, key)
	}
	h = (gs.userHash(key) ^ gs.mix) * mixer
	h = (h ^ h>>32) * mixer
	return h ^ h>>32, reflexive
}

// mixer is 2⁶⁴ divided by the golden ratio, made odd.
const mixer = 0x9e3779b97f4a7c15

// equal reports whether a and b are equal. It is a function because an
// expression that is compared with itself looks like a mistake.
func equal[K comparable](a, b K) bool { return a == b }
