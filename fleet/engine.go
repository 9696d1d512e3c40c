package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// This file holds what a Group needs of a store that the processes share.

// An Engine is a store of small records that all processes of a fleet share. Its methods
// may be called concurrently, and return when their context has ended. A Group needs
// three operations: a swap that compares revisions, a read that may be stale, and a push
// that may be lost. Nothing depends on the moment at which a record expires.
//
// Package fleettest checks an Engine.
type Engine interface {
	// Swap replaces the record of key by one with the value val, if the revision of
	// that record is prev; 0 stands for no record, whether there never was one, it has
	// expired, or the engine has lost it. It returns the new record. The engine may
	// remove a record when ttl has passed, and does so within a minute.
	//
	// If there is another revision, Swap returns a [*Conflict]. Swaps of a key are
	// linearizable, and the revision of a record is greater than those of all earlier
	// ones of its key. After any other error, the swap may have been made, or may be
	// made later. A val of more than Caps().MaxValue bytes is refused.
	//
	// Swap must not keep val.
	Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (Record, error)

	// Load returns the record of key, or ErrAbsent. It may return what was there some
	// time ago.
	Load(ctx context.Context, key string) (Record, error)

	// Notify calls f with each record that is swapped in for key from now on, until
	// stop is called. It may leave out some, repeat them and change their order. A
	// record without a value says that f should Load it; one without a revision, that
	// some may have been left out, as after a reconnect. f does not block. Notify
	// returns an error if it is known that nothing can come. ctx is for the call of
	// Notify alone, and stop does not block.
	Notify(ctx context.Context, key string, f func(Record)) (stop func(), err error)

	// Caps returns what the engine can do. It does not change.
	Caps() Caps
}

// A Record is a value and its revision.
type Record struct {
	Rev uint64 // greater than 0
	Val []byte // not to be changed; nil from Swap, and if it is not known

	// Age is how long ago the record was written, by the one clock of the engine. It is
	// negative if that is not known. Swap and Notify need not set it.
	Age time.Duration
}

// Caps is what an engine can do.
type Caps struct {
	Name     string        // of the kind of engine, for messages
	MaxValue int           // the most bytes of a value
	TTLGrain time.Duration // a ttl is rounded up to a multiple of it; 0 for none
	Push     bool          // whether Notify calls f at all
}

// ErrAbsent is the error of a Load that finds no record.
var ErrAbsent = errors.New("fleet: no record")

// A Conflict is the error of a Swap that has found another revision, and has changed
// nothing.
type Conflict struct {
	// Record is the one that Swap has found. Its Rev is 0 if there was none, and its Val
	// may be nil though there is one.
	Record Record

	// Unnamed is set if the engine has not said which revision it has found.
	Unnamed bool
}

// Error returns a text with the revision.
func (c *Conflict) Error() string {
	switch {
	case c.Unnamed:
		return "fleet: conflict with another revision"
	case c.Record.Rev == 0:
		return "fleet: conflict: there is no record"
	default:
		return fmt.Sprintf("fleet: conflict with revision %d", c.Record.Rev)
	}
}
