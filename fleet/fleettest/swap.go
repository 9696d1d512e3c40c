package fleettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file checks Swap and Load.

// swap: a swap is made if the revision is that of the record, and a conflict names the
// revision that there is.
func (s suite) swap(t *testing.T) {
	a, b := s.open(t), s.open(t)
	key := newKey()
	if rec, err := a.Load(within(t), key); !errors.Is(err, fleet.ErrAbsent) {
		t.Fatalf("Load of no record: got %v, %v, want ErrAbsent", rec, err)
	}
	mustConflict(t, a, key, 7, 0, nil)
	first := mustSwap(t, a, key, 0, []byte("one"), ttl)
	mustConflict(t, b, key, 0, first, []byte("one"))
	mustConflict(t, b, key, first-1, first, []byte("one"))
	mustConflict(t, b, key, first+1, first, []byte("one"))
	mustLoad(t, b, key, first, []byte("one"))
	second := mustSwap(t, b, key, first, []byte{}, ttl)
	mustConflict(t, a, key, first, second, []byte{})
	mustLoad(t, a, key, second, []byte{})
	third := mustSwap(t, b, key, second, []byte("three\x00\xff\r\n:7"), ttl)
	mustLoad(t, a, key, third, []byte("three\x00\xff\r\n:7"))
	other := newKey()
	mustConflict(t, a, other, third, 0, nil)
	if rec, err := a.Load(within(t), other); !errors.Is(err, fleet.ErrAbsent) {
		t.Errorf("Load of another key: got %v, %v, want ErrAbsent", rec, err)
	}
	for prev := third; prev < third+20; prev++ { // revisions as such say nothing
		if _, err := a.Swap(within(t), key, prev+1, nil, ttl); err == nil {
			t.Fatalf("Swap for revision %d where there is %d: got no error", prev+1, third)
		}
	}
}

// keeps: Swap does not keep the value.
func (s suite) keeps(t *testing.T) {
	e := s.open(t)
	key := newKey()
	val := []byte("value")
	box := newMailbox()
	stop, err := e.Notify(within(t), key, box.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	defer stop()
	rev := mustSwap(t, e, key, 0, val, ttl)
	copy(val, "VALUE")
	mustLoad(t, e, key, rev, []byte("value"))
	box.await(readAfter, of(rev)) // if it comes
	for _, rec := range box.all() {
		if rec.Val != nil && !bytes.Equal(rec.Val, []byte("value")) {
			t.Errorf("push: got %s, want the value as it was in Swap", short(rec.Val))
		}
	}
}

// winner: of many swaps for one revision, one is made.
func (s suite) winner(t *testing.T) {
	engines := []fleet.Engine{s.open(t), s.open(t), s.open(t)}
	key := newKey()
	rev := mustSwap(t, engines[0], key, 0, []byte("first"), ttl)
	s.oneWins(t, engines, key, rev, 500)
}

// oneWins makes n swaps at once, and checks that one of them is made.
func (s suite) oneWins(t *testing.T, engines []fleet.Engine, key string, prev uint64, n int) uint64 {
	t.Helper()
	type won struct {
		rev uint64
		val string
	}
	var (
		mu    sync.Mutex
		wins  []won
		found = map[uint64]bool{}
		wg    sync.WaitGroup
		begin = make(chan struct{})
	)
	ctx := within(t)
	for i := range n {
		wg.Go(func() {
			<-begin
			val := fmt.Sprint("swap ", i)
			rec, err := engines[i%len(engines)].Swap(ctx, key, prev, []byte(val), ttl)
			c, conflict := conflictOf(err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins = append(wins, won{rec.Rev, val})
			case !conflict:
				t.Errorf("Swap %d: got %v, want a *fleet.Conflict", i, err)
			case !c.Unnamed:
				found[c.Record.Rev] = true
			}
		})
	}
	close(begin)
	wg.Wait()
	if len(wins) != 1 {
		t.Fatalf("%d swaps for revision %d: got %d that were made, %v, want 1", n, prev, len(wins), wins)
	}
	delete(found, wins[0].rev)
	if len(found) > 0 {
		t.Errorf("%d swaps for revision %d: got conflicts with %v, want with %d", n, prev, found, wins[0].rev)
	}
	mustLoad(t, engines[0], key, wins[0].rev, []byte(wins[0].val))
	return wins[0].rev
}

// limit: a value of Caps().MaxValue bytes is stored, loaded and pushed, and one of a byte
// more is refused.
func (s suite) limit(t *testing.T) {
	a, b := s.open(t), s.open(t)
	most := a.Caps().MaxValue
	if most < 1024 || a.Caps() != b.Caps() || a.Caps().Name == "" {
		t.Fatalf("Caps: got %+v and %+v, want the same, with a name and a MaxValue of 1024 at least", a.Caps(), b.Caps())
	}
	key := newKey()
	box := newMailbox()
	stop, err := b.Notify(within(t), key, box.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	defer stop()
	time.Sleep(readAfter) // until it is in force
	val := bytes.Repeat([]byte("0123456789abcdef"), most/16+1)
	rev := mustSwap(t, a, key, 0, val[:most], ttl)
	mustLoad(t, b, key, rev, val[:most])
	if a.Caps().Push && !box.await(patience, func(rec fleet.Record) bool {
		return rec.Rev == rev && (rec.Val == nil || bytes.Equal(rec.Val, val[:most]))
	}) {
		t.Errorf("a swap of %d bytes: got no push of it, want one with that value or without", most)
	}
	_, err = a.Swap(within(t), key, rev, val[:most+1], ttl)
	if c, conflict := conflictOf(err); err == nil || conflict {
		t.Errorf("Swap of %d bytes: got %v, %v, want an error that is no conflict", most+1, c, err)
	}
	mustConflict(t, b, key, 0, rev, val[:most])
	next := mustSwap(t, a, key, rev, []byte("small"), ttl) // the connection is as good as before
	mustLoad(t, b, key, next, []byte("small"))
}

// age: the age of a record is about the time since it was written, or is not known.
func (s suite) age(t *testing.T) {
	a, b := s.open(t), s.open(t)
	key := newKey()
	sent := time.Now()
	rev := mustSwap(t, a, key, 0, []byte("v"), ttl)
	answered := time.Now()
	for _, wait := range []time.Duration{0, 300 * time.Millisecond, 500 * time.Millisecond} {
		time.Sleep(wait)
		for _, e := range []fleet.Engine{a, b} {
			least := time.Since(answered)
			rec := mustLoad(t, e, key, rev, []byte("v"))
			most := time.Since(sent)
			// An age that is too low makes an old result pass for a new one. One that is
			// somewhat too high, by a round trip, costs an execution.
			if rec.Age >= 0 && (rec.Age < least-least/20-time.Millisecond || rec.Age > 2*most+time.Second) {
				t.Errorf("Load: got the age %v, want %v to %v, or a negative one", rec.Age, least, most)
			}
		}
	}
}

// context: the operations end with their contexts, and a context that has ended is neither a
// conflict nor the absence of a record.
func (s suite) context(t *testing.T) {
	e := s.open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	key := newKey()
	_, err := e.Swap(ctx, key, 0, []byte("v"), ttl)
	if _, conflict := conflictOf(err); err == nil || conflict {
		t.Errorf("Swap with a context that has ended: got %v, want an error that is no conflict", err)
	}
	if _, err := e.Load(ctx, newKey()); err == nil || errors.Is(err, fleet.ErrAbsent) {
		t.Errorf("Load with a context that has ended: got %v, want another error", err)
	}
	// It may have been made, now or later. Whatever it was, the record can be swapped.
	for within := within(t); ; {
		rec, err := e.Load(within, key)
		if err != nil && !errors.Is(err, fleet.ErrAbsent) {
			t.Fatalf("Load: got %v, want no error", err)
		}
		if _, err := e.Swap(within, key, rec.Rev, []byte("w"), ttl); err == nil {
			return
		}
		if within.Err() != nil {
			t.Fatalf("Swap after one that was cut off: got %v, want no error", err)
		}
	}
}
