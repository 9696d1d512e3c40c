package fleettest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file checks Notify.

// notify: each swap by any engine is pushed to subscriptions that are a while old, by
// however many engines, and those of other keys are not.
func (s suite) notify(t *testing.T) {
	engines := []fleet.Engine{s.open(t), s.open(t), s.open(t)}
	if !engines[0].Caps().Push {
		t.Skip("Caps().Push is false")
	}
	key := newKey()
	other := key[:len(key)-1] + "_" // differs in one letter
	var boxes []*mailbox
	for i := range 2 * len(engines) { // twice by each
		box := newMailbox()
		stop, err := engines[i%len(engines)].Notify(within(t), key, box.push)
		if err != nil {
			t.Fatalf("Notify: %v", err)
		}
		t.Cleanup(stop)
		boxes = append(boxes, box)
	}
	time.Sleep(1100 * time.Millisecond)
	vals := map[uint64]string{}
	var rev, otherRev uint64
	for i := range 10 {
		e := engines[i%len(engines)]
		val := fmt.Sprint("swap ", i)
		otherRev = mustSwap(t, e, other, otherRev, []byte("of another key"), ttl)
		rev = mustSwap(t, e, key, rev, []byte(val), ttl)
		vals[rev] = val
		mustConflict(t, e, key, 0, rev, []byte(val)) // which pushes nothing
		for n, box := range boxes {
			if !box.await(patience, of(rev)) {
				t.Fatalf("swap %d: got no push to subscription %d within %v", i, n, patience)
			}
		}
	}
	for n, box := range boxes {
		for _, rec := range box.all() {
			if val, ok := vals[rec.Rev]; rec.Rev != 0 && (!ok || rec.Val != nil && string(rec.Val) != val) {
				t.Errorf("push to subscription %d: got revision %d, %s, want one of %v", n, rec.Rev, short(rec.Val), vals)
			}
		}
	}
}

// notifyEarly: a swap that is made right after Notify has returned is pushed, or is found
// by a Load by the same engine a moment later, and by one at once if it was made before
// that. So it goes unseen for no longer.
func (s suite) notifyEarly(t *testing.T) {
	a, b := s.open(t), s.open(t)
	pushed := 0
	const rounds = 100
	for i := range rounds {
		key := newKey()
		rev := mustSwap(t, a, key, 0, []byte("one"), ttl)
		box := newMailbox()
		stop, err := b.Notify(within(t), key, box.push)
		if err != nil {
			t.Fatalf("Notify: %v", err)
		}
		next := mustSwap(t, a, key, rev, []byte("two"), ttl)
		if box.await(readAfter, of(next)) {
			pushed++
		} else if rec, err := b.Load(within(t), key); err != nil || rec.Rev != next || !bytes.Equal(rec.Val, []byte("two")) {
			t.Errorf("round %d, no push, Load %v after Notify: got %d, %v, want revision %d", i, readAfter, rec.Rev, err, next)
		}
		stop()
	}
	t.Logf("%d of %d swaps right after Notify were pushed", pushed, rounds)
}

// stop: a watch that was stopped gets nothing more, pushes may come meanwhile, and one that
// is stopped does not stop another of its key.
func (s suite) stop(t *testing.T) {
	a, b := s.open(t), s.open(t)
	key := newKey()
	stays := newMailbox()
	stop, err := b.Notify(within(t), key, stays.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	defer stop()

	var writer, watchers sync.WaitGroup
	var last uint64
	end := make(chan struct{})
	writer.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			rec, err := a.Swap(within(t), key, last, []byte("v"), ttl)
			if err != nil {
				t.Errorf("Swap: %v", err)
				return
			}
			last = rec.Rev
		}
	})
	for range 8 {
		watchers.Go(func() {
			for range 25 {
				box := newMailbox()
				stop, err := b.Notify(within(t), key, box.push)
				if err != nil {
					t.Errorf("Notify: %v", err)
					return
				}
				box.await(time.Millisecond, func(fleet.Record) bool { return true })
				stop()
			}
		})
	}
	watchers.Wait()
	box := newMailbox()
	stopLast, err := b.Notify(within(t), key, box.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	box.await(readAfter, func(fleet.Record) bool { return true })
	stopLast()
	close(end)
	writer.Wait()
	if t.Failed() || !a.Caps().Push {
		return
	}

	time.Sleep(readAfter)
	n := len(box.all())
	last = mustSwap(t, a, key, last, []byte("after the stop"), ttl)
	if !stays.await(patience, of(last)) {
		t.Errorf("a watch beside those that were stopped: got no push within %v", patience)
	}
	time.Sleep(readAfter)
	if got := box.all()[n:]; len(got) > 0 {
		t.Errorf("a watch that was stopped: got %d pushes after that", len(got))
	}
}

// disconnected: a watch outlives its connection. Once the subscription is back, a record of
// no revision says that something may have been left out, and what is swapped after that is
// pushed.
func (s suite) disconnected(t *testing.T) {
	if s.o.Disconnect == nil {
		t.Skip("Options.Disconnect is nil")
	}
	a, b := s.open(t), s.open(t)
	key := newKey()
	rev := mustSwap(t, a, key, 0, []byte("v"), ttl)
	watched := newMailbox()
	stop, err := b.Notify(within(t), key, watched.push)
	if err != nil {
		t.Fatalf("Notify: %v", err)
	}
	defer stop()
	for round := range 3 {
		before := len(watched.all())
		s.o.Disconnect(t, b)
		isBack := func(rec fleet.Record) bool { return rec.Rev == 0 }
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			after := watched.all()[before:]
			if len(after) > 0 && isBack(after[len(after)-1]) {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("round %d, Notify over a broken connection: got %v, want a record of revision 0 within %v", round, after, patience)
			}
		}
		awaitReady(t, a)
		rev = swapAgain(t, a, key, rev)
		for i := 0; !watched.await(time.Second, of(rev)); i++ {
			if !s.o.Spreads || i == 20 {
				t.Fatalf("round %d: got no push of revision %d, want one, as the subscription is back", round, rev)
			}
			rev = swapAgain(t, a, key, rev)
		}
		rev = swapAgain(t, b, key, rev)
	}
}

// swapAgain swaps until it has been answered: the connection of e may break, too.
func swapAgain(t testing.TB, e fleet.Engine, key string, rev uint64) uint64 {
	t.Helper()
	for ctx := within(t); ; {
		rec, err := e.Swap(ctx, key, rev, []byte("w"), ttl)
		if err == nil {
			return rec.Rev
		}
		if ctx.Err() != nil {
			t.Fatalf("Swap: got %v, want an answer within %v", err, patience)
		}
		if rec, err := e.Load(ctx, key); err == nil {
			rev = rec.Rev
		} else if !errors.Is(err, fleet.ErrAbsent) {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
