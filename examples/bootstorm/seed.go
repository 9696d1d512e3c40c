package main

// This file ports the kernel's patch "modules: catch concurrent module loads,
// treat them as idempotent" (9b9879fc0327, June 2023) to user space, as it is:
// one lock over 256 buckets, an entry per caller on the bucket's list, a
// completion per caller, and a completer that walks the whole bucket under the
// lock. Only two things differ. The completer hands over an image beside the
// error; and the completion has one exit, as a later patch (f1962207150c) had to
// arrange, for the original forgot its waiters when the file could not be read.

import (
	"math/bits"
	"sync"
)

// idemHashBits is the logarithm of the number of buckets.
const idemHashBits = 8

// An idempotent is the entry of one caller, who may lead or wait. The kernel has
// it on the caller's stack.
type idempotent struct {
	cookie   fileID
	complete chan struct{} // closed once img and err are there

	// The links of a list with one pointer in its head, protected by the lock of the
	// table: pprev points at the pointer to this entry.
	next  *idempotent
	pprev **idempotent

	// Written by the completer, before complete is closed.
	img image
	err error
}

// A seedTable is the policy seed. Its zero value is ready to use.
type seedTable struct {
	mu   sync.Mutex // protects all lists
	hash [1 << idemHashBits]*idempotent
}

// idemBucket returns the bucket of a cookie. The kernel hashes the address of
// the inode in the same way.
func idemBucket(cookie fileID) uint64 {
	const goldenRatio = 0x61C8864680B583EB
	return (cookie.ino ^ bits.RotateLeft64(cookie.dev, 32)) * goldenRatio >> (64 - idemHashBits)
}

// enter puts u on the list of its cookie and reports whether another caller is loading
// it, which u's caller must then wait for.
func (t *seedTable) enter(u *idempotent, cookie fileID) bool {
	u.cookie = cookie
	u.complete = make(chan struct{})

	t.mu.Lock()
	defer t.mu.Unlock()
	head := &t.hash[idemBucket(cookie)]
	first := true
	for pos := *head; pos != nil; pos = pos.next {
		if pos.cookie == cookie {
			first = false
			break
		}
	}
	u.next, u.pprev = *head, head
	if u.next != nil {
		u.next.pprev = &u.next
	}
	*head = u
	return !first
}

// finish removes all entries with u's cookie from the list, including u, and gives them
// the result.
func (t *seedTable) finish(u *idempotent, img image, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next *idempotent
	for pos := t.hash[idemBucket(u.cookie)]; pos != nil; pos = next {
		next = pos.next
		if pos.cookie != u.cookie {
			continue
		}
		*pos.pprev = next
		if next != nil {
			next.pprev = pos.pprev
		}
		pos.img, pos.err = img, err
		close(pos.complete)
	}
}

func (t *seedTable) load(id fileID, fn func() (image, error)) (image, error) {
	var u idempotent
	if t.enter(&u, id) {
		<-u.complete
		return u.img, u.err
	}
	img, err := fn()
	t.finish(&u, img, err)
	return img, err
}

func (t *seedTable) followers(id fileID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := -1 // the one that loads is on the list as well
	for pos := t.hash[idemBucket(id)]; pos != nil; pos = pos.next {
		if pos.cookie == id {
			n++
		}
	}
	return max(n, 0)
}
