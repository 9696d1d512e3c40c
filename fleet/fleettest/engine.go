package fleettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the suite for engines, and what its parts share. Each other file holds
// a part.

// Options say what the test of an engine can do besides opening it. A part of the suite
// that needs a function which is nil is skipped.
type Options struct {
	// Delete removes the record of a key as an administrator would, and not by a Swap.
	Delete func(t testing.TB, key string)

	// Lose makes the store lose all its records: it is deleted and made again. Nothing
	// else uses the store meanwhile.
	Lose func(t testing.TB)

	// Disconnect breaks the connection of an engine, or those of all. They come back by
	// themselves.
	Disconnect func(t testing.TB, e fleet.Engine)

	// Held returns how many connections and how many subscriptions the server of the
	// store has.
	Held func(t testing.TB) (connections, subscriptions int)

	// Spreads is set if a subscription that is confirmed may be in force somewhat later
	// for the writes of others, as in a cluster of NATS.
	Spreads bool
}

// Engine checks the engines that open returns: whether they keep the contract of
// [fleet.Engine]. They share their records, and each is as that of another process, with a
// connection of its own. open registers with t.Cleanup whatever closes them.
//
// The records that are written have the names "fleettest/v1/" and 32 letters.
func Engine(t *testing.T, open func(t testing.TB) fleet.Engine, o Options) {
	t.Helper()
	s := suite{open, o}
	t.Run("Shared", func(t *testing.T) { // the parts of which several run at a time
		for _, p := range []part{
			{"Swap", s.swap},
			{"Keeps", s.keeps},
			{"OneWins", s.winner},
			{"History", s.history},
			{"Limit", s.limit},
			{"Expired", s.expired},
			{"ExpiredOdd", s.expiredOdd},
			{"Deleted", s.deleted},
			{"Age", s.age},
			{"Context", s.context},
			{"Notify", s.notify},
			{"NotifyEarly", s.notifyEarly},
			{"Stop", s.stop},
		} {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.run(t)
			})
		}
	})
	t.Run("Disconnected", s.disconnected)
	t.Run("Held", s.held)
	t.Run("Closed", s.closed)
	t.Run("Lost", s.lost)
}

type part struct {
	name string
	run  func(t *testing.T)
}

type suite struct {
	open func(t testing.TB) fleet.Engine
	o    Options
}

// patience is how long an engine may take for anything. It bounds a test that fails.
var patience = 20 * time.Second

const (
	// ttl is that of records which do not expire while a part runs.
	ttl = 5 * time.Minute

	// readAfter is when a Group reads once more after it has subscribed.
	readAfter = 50 * time.Millisecond
)

// newKey returns one that nothing has used.
func newKey() string { return "fleettest/v1/" + (rand.Text() + rand.Text())[:32] }

// within returns a context that ends after patience.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// mustSwap swaps, and fails the test if that fails.
func mustSwap(t testing.TB, e fleet.Engine, key string, prev uint64, val []byte, ttl time.Duration) uint64 {
	t.Helper()
	rec, err := e.Swap(within(t), key, prev, val, ttl)
	if err != nil {
		t.Fatalf("Swap for revision %d: got %v, want no error", prev, err)
	}
	if rec.Rev <= prev {
		t.Fatalf("Swap for revision %d: got revision %d, want a greater one", prev, rec.Rev)
	}
	return rec.Rev
}

// mustConflict swaps, and fails the test if that does not conflict with the revision rev,
// 0 for no record.
func mustConflict(t testing.TB, e fleet.Engine, key string, prev, rev uint64, val []byte) {
	t.Helper()
	_, err := e.Swap(within(t), key, prev, []byte("not to be stored"), ttl)
	c, ok := conflictOf(err)
	switch {
	case !ok:
		t.Fatalf("Swap for revision %d where there is %d: got %v, want a *fleet.Conflict", prev, rev, err)
	case c.Unnamed:
	case c.Record.Rev != rev:
		t.Fatalf("Swap for revision %d: got a conflict with revision %d, want %d", prev, c.Record.Rev, rev)
	case c.Record.Val != nil && !bytes.Equal(c.Record.Val, val):
		t.Fatalf("Swap for revision %d: got a conflict with the value %s, want %s", prev, short(c.Record.Val), short(val))
	}
}

// conflictOf returns err if it is a conflict.
func conflictOf(err error) (c *fleet.Conflict, ok bool) {
	ok = errors.As(err, &c)
	return c, ok
}

// mustLoad waits until e loads revision rev, with the value val. An engine may read what
// was there some time ago.
func mustLoad(t testing.TB, e fleet.Engine, key string, rev uint64, val []byte) fleet.Record {
	t.Helper()
	for ctx := within(t); ; time.Sleep(5 * time.Millisecond) {
		rec, err := e.Load(ctx, key)
		switch {
		case errors.Is(err, fleet.ErrAbsent) || err == nil && rec.Rev < rev:
		case err != nil:
			t.Fatalf("Load: got %v, want revision %d", err, rev)
		case rec.Rev > rev:
			t.Fatalf("Load: got revision %d, want %d", rec.Rev, rev)
		case rec.Val == nil || !bytes.Equal(rec.Val, val):
			t.Fatalf("Load: got the value %s, want %s", short(rec.Val), short(val))
		default:
			return rec
		}
		if ctx.Err() != nil {
			t.Fatalf("Load: got %d, %v, want revision %d within %v", rec.Rev, err, rev, patience)
		}
	}
}

// awaitAbsent waits until e loads nothing.
func awaitAbsent(t testing.TB, e fleet.Engine, key string, limit time.Duration) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, err := e.Load(within(t), key)
		if errors.Is(err, fleet.ErrAbsent) {
			return
		}
		if time.Since(begin) > limit {
			t.Fatalf("Load: got %v, want ErrAbsent within %v", err, limit)
		}
	}
}

// short returns the text of a value, or what it is.
func short(val []byte) string {
	if val == nil {
		return "nil"
	}
	if len(val) > 40 {
		return fmt.Sprintf("%q and so on, %d bytes", val[:40], len(val))
	}
	return fmt.Sprintf("%q", val)
}

// A mailbox keeps the records that an engine pushes.
type mailbox struct {
	mu   sync.Mutex
	got  []fleet.Record
	bell chan struct{}
}

func newMailbox() *mailbox { return &mailbox{bell: make(chan struct{}, 1)} }

func (m *mailbox) push(rec fleet.Record) {
	m.mu.Lock()
	m.got = append(m.got, rec)
	m.mu.Unlock()
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

func (m *mailbox) all() []fleet.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]fleet.Record(nil), m.got...)
}

// await waits until a record is there for which ok returns true, and reports whether one
// was within the limit.
func (m *mailbox) await(limit time.Duration, ok func(fleet.Record) bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for next := 0; ; {
		all := m.all()
		for ; next < len(all); next++ {
			if ok(all[next]) {
				return true
			}
		}
		select {
		case <-m.bell:
		case <-timer.C:
			return false
		}
	}
}

// of returns whether a record is of a revision, or a hint that there may be one.
func of(rev uint64) func(fleet.Record) bool {
	return func(rec fleet.Record) bool { return rec.Rev == rev }
}
