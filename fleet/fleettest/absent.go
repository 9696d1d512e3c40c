package fleettest

import (
	"errors"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file checks that revision 0 stands for no record, whatever has become of it.

// expired: a record that has expired is none. Of many swaps that create it, one is made.
func (s suite) expired(t *testing.T) {
	engines := []fleet.Engine{s.open(t), s.open(t), s.open(t)}
	e := engines[0]
	key := newKey()
	life := max(200*time.Millisecond, e.Caps().TTLGrain)
	begin := time.Now()
	first := mustSwap(t, e, key, 0, []byte("one"), 2*life)
	kept := mustSwap(t, e, key, first, []byte("two"), life)
	if rec, err := e.Load(within(t), key); time.Since(begin) < life && (err != nil || rec.Rev != kept && rec.Rev != first) {
		t.Errorf("Load before the record has expired: got %v, %v, want revision %d", rec, err, kept)
	}
	awaitAbsent(t, e, key, time.Minute)
	if d := time.Since(begin); d < life {
		t.Errorf("a record with a ttl of %v: got absent after %v", life, d)
	}
	mustConflict(t, e, key, kept, 0, nil)
	rev := s.oneWins(t, engines, key, 0, 100)
	if rev <= kept {
		t.Errorf("a record after one that has expired: got revision %d, want more than %d", rev, kept)
	}
}

// expiredOdd: a ttl is not rounded down.
func (s suite) expiredOdd(t *testing.T) {
	e := s.open(t)
	life := max(200*time.Millisecond, e.Caps().TTLGrain)
	ttl := life + 3*e.Caps().TTLGrain/4
	key := newKey()
	begin := time.Now()
	mustSwap(t, e, key, 0, []byte("v"), ttl)
	awaitAbsent(t, e, key, time.Minute)
	if d := time.Since(begin); d < ttl {
		t.Errorf("a record with a ttl of %v: got absent after %v", ttl, d)
	}
}

// deleted: a record that an administrator has deleted is none.
func (s suite) deleted(t *testing.T) {
	if s.o.Delete == nil {
		t.Skip("Options.Delete is nil")
	}
	engines := []fleet.Engine{s.open(t), s.open(t), s.open(t)}
	key := newKey()
	rev := uint64(0)
	for range 3 {
		next := s.oneWins(t, engines, key, 0, 100)
		if next <= rev {
			t.Errorf("a record after one that was deleted: got revision %d, want more than %d", next, rev)
		}
		rev = next
		s.o.Delete(t, key)
		awaitAbsent(t, engines[0], key, patience)
		mustConflict(t, engines[1], key, rev, 0, nil)
	}
}

// lost: where the store has lost its records there are none, and revisions go on rising.
func (s suite) lost(t *testing.T) {
	if s.o.Lose == nil {
		t.Skip("Options.Lose is nil")
	}
	a, b := s.open(t), s.open(t)
	key := newKey()
	box := newMailbox()
	stop, err := b.Notify(within(t), key, box.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	defer stop()
	rev := mustSwap(t, a, key, 0, []byte("v"), ttl)
	for range 3 {
		s.o.Lose(t)
		awaitReady(t, a)
		awaitReady(t, b)
		if rec, err := b.Load(within(t), key); !errors.Is(err, fleet.ErrAbsent) {
			t.Fatalf("Load after a loss: got %v, %v, want ErrAbsent", rec, err)
		}
		mustConflict(t, a, key, rev, 0, nil)
		next := mustSwap(t, a, key, 0, []byte("w"), ttl)
		if next <= rev {
			t.Fatalf("a record after a loss: got revision %d, want more than %d", next, rev)
		}
		mustConflict(t, a, key, rev, next, []byte("w"))
		// A watch from before goes on. Something may be left out at first.
		for i := 0; a.Caps().Push && !box.await(200*time.Millisecond, of(next)); i++ {
			if i == 50 {
				t.Fatal("Notify from before a loss: got no push of a swap after it")
			}
			next = mustSwap(t, a, key, next, []byte("w"), ttl)
		}
		rev = next
	}
}

// awaitReady waits until an engine answers.
func awaitReady(t testing.TB, e fleet.Engine) {
	t.Helper()
	for ctx := within(t); ; time.Sleep(20 * time.Millisecond) {
		_, err := e.Load(ctx, newKey())
		if errors.Is(err, fleet.ErrAbsent) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("Load: got %v, want an answer within %v", err, patience)
		}
	}
}
