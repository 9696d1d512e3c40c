package fleettest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file checks that swaps are linearizable: it records a history of concurrent ones,
// some of which are cut off, and asks porcupine whether there is an order in which each
// could have had its answer.
//
// A swap that was not answered may have been made, at any time from then on. Its value
// tells it from others, as a nonce does in a Group. So where a read or a push has shown
// the value, the swap was made with that revision; where nothing has, it may have been
// made with any revision that somebody has met and that no other swap accounts for.

// An attempt is a Swap of the history.
type attempt struct {
	key      int
	val      uint64
	prev     uint64
	answer   answer
	rev      uint64 // made: the revision of its record; conflict: the one it has found
	from, to time.Duration
}

type answer uint8

const (
	made answer = iota
	conflict
	unnamed // a conflict
	unanswered
)

func (a attempt) String() string {
	return fmt.Sprintf("%v to %v: for %d: %s %d", a.from, a.to, a.prev,
		[...]string{"made", "conflict with", "conflict", "no answer"}[a.answer], a.rev)
}

// A historian records a history.
type historian struct {
	begin time.Time

	mu       sync.Mutex
	attempts []attempt
	seen     map[uint64]uint64 // the revisions of values, as reads and pushes have shown them
	bad      []string
}

// show notes a record that was read or pushed.
func (h *historian) show(how string, rec fleet.Record) {
	if rec.Rev == 0 || rec.Val == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(rec.Val) != 8 {
		h.bad = append(h.bad, fmt.Sprintf("%s: got revision %d with %s, which no swap has", how, rec.Rev, short(rec.Val)))
		return
	}
	val := binary.BigEndian.Uint64(rec.Val)
	if rev, ok := h.seen[val]; ok && rev != rec.Rev {
		h.bad = append(h.bad, fmt.Sprintf("%s: got the value of revision %d with revision %d", how, rev, rec.Rev))
	}
	h.seen[val] = rec.Rev
}

func (s suite) history(t *testing.T) {
	const keys, clients, swaps = 3, 6, 60
	engines := []fleet.Engine{s.open(t), s.open(t), s.open(t)}
	h := &historian{begin: time.Now(), seen: map[uint64]uint64{}}
	var names [keys]string
	for i := range names {
		names[i] = newKey()
		for _, e := range engines {
			stop, err := e.Notify(within(t), names[i], func(rec fleet.Record) { h.show("push", rec) })
			if err != nil {
				t.Fatalf("Notify: %v", err)
			}
			defer stop()
		}
	}
	// How long an operation takes, so that about half of those that are to be cut off are.
	begin := time.Now()
	for range 10 {
		mustSwap(t, engines[0], newKey(), 0, []byte("v"), ttl)
	}
	usual := time.Since(begin) / 10

	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 7))
			var knows [keys]uint64
			for i := range swaps {
				k := r.IntN(keys)
				e := engines[(c+r.IntN(2))%len(engines)]
				a := attempt{key: k, prev: knows[k], val: uint64(c)<<32 | uint64(i)}
				if r.IntN(20) == 0 {
					a.prev = 0
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if r.IntN(5) == 0 {
					cancel()
					ctx, cancel = context.WithTimeout(context.Background(), time.Duration(r.Int64N(int64(2*usual)+1)))
				}
				h.swap(ctx, e, names[k], a, &knows[k])
				cancel()
			}
		})
	}
	wg.Wait()
	for _, name := range names { // what the last swaps have left, if they were cut off
		for range 3 {
			time.Sleep(readAfter)
			if rec, err := engines[0].Load(within(t), name); err == nil {
				h.show("read", rec)
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.bad {
		t.Error(text)
	}
	h.judge(t)
}

// swap makes an attempt, and finds out what it may, as a Group would. knows is what the
// client has last met.
func (h *historian) swap(ctx context.Context, e fleet.Engine, name string, a attempt, knows *uint64) {
	val := binary.BigEndian.AppendUint64(nil, a.val)
	a.from = time.Since(h.begin)
	rec, err := e.Swap(ctx, name, a.prev, val, ttl)
	a.to = time.Since(h.begin)
	c, isConflict := conflictOf(err)
	switch {
	case err == nil:
		a.answer, a.rev, *knows = made, rec.Rev, rec.Rev
	case !isConflict:
		a.answer = unanswered
	case c.Unnamed:
		a.answer = unnamed
	default:
		a.answer, a.rev, *knows = conflict, c.Record.Rev, c.Record.Rev
		h.show("conflict", c.Record)
	}
	h.mu.Lock()
	h.attempts = append(h.attempts, a)
	h.mu.Unlock()
	if a.answer == made || a.answer == conflict && c.Record.Val != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if rec, err := e.Load(ctx, name); err == nil {
		h.show("read", rec)
		*knows = max(*knows, rec.Rev)
	}
}

// judge asks porcupine about each key.
func (h *historian) judge(t *testing.T) {
	t.Helper()
	count := map[answer]int{}
	cutOff, settled := 0, 0
	for key := range slices.Max(keysOf(h.attempts)) + 1 {
		var all []attempt
		revs := map[uint64]bool{} // met, and not accounted for
		for _, a := range h.attempts {
			if a.key != key {
				continue
			}
			count[a.answer]++
			if rev, ok := h.seen[a.val]; ok {
				switch a.answer {
				case unanswered:
					settled++
					a.answer, a.rev = made, rev
					a.to = math.MaxInt64
				case made:
					if rev != a.rev {
						t.Errorf("a swap that has returned revision %d: got its value with %d", a.rev, rev)
					}
				default:
					t.Errorf("a swap that has returned a conflict: got its value with revision %d", rev)
				}
			}
			all = append(all, a)
			revs[a.prev] = true
			if a.answer == conflict {
				revs[a.rev] = true
			}
		}
		delete(revs, 0)
		for _, a := range all {
			if a.answer == made {
				delete(revs, a.rev)
			}
		}
		cutOff += len(revs)
		result := porcupine.CheckOperationsTimeout(model(revs), operations(all, len(revs) > 0), patience)
		if result == porcupine.Illegal {
			var text strings.Builder
			for _, a := range all {
				fmt.Fprintf(&text, "\n%v", a)
			}
			t.Errorf("a history of %d swaps of a key: got one that is not linearizable:%s", len(all), text.String())
		}
		if result == porcupine.Unknown {
			t.Logf("a history of %d swaps of a key: not judged within %v", len(all), patience)
		}
	}
	t.Logf("%d made, %d conflicts and %d unnamed, %d unanswered, of which %d were seen to be made and %d perhaps",
		count[made], count[conflict], count[unnamed], count[unanswered], settled, cutOff)
	if count[made] == 0 || count[conflict]+count[unnamed] == 0 {
		t.Errorf("a history: got %v, want swaps that were made and conflicts", count)
	}
}

func keysOf(all []attempt) (keys []int) {
	for _, a := range all {
		keys = append(keys, a.key)
	}
	return keys
}

// operations returns the operations of a history. Swaps that were not answered take part if
// any of them may have been made and seen.
func operations(all []attempt, maybe bool) (ops []porcupine.Operation) {
	for i, a := range all {
		if a.answer == unanswered {
			if !maybe {
				continue
			}
			a.to = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: a, Call: int64(a.from), Return: int64(a.to)})
	}
	return ops
}

// model returns what a key is: a revision, 0 at first. A swap that was not answered may
// have been made with one of the given revisions.
func model(revs map[uint64]bool) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{uint64(0)} },
		Step: func(state, input, _ any) []any {
			now, a := state.(uint64), input.(attempt)
			switch a.answer {
			case made:
				if a.prev == now && a.rev > now {
					return []any{a.rev}
				}
			case conflict:
				if a.prev != now && a.rev == now {
					return []any{now}
				}
			case unnamed:
				if a.prev != now {
					return []any{now}
				}
			case unanswered:
				next := []any{now}
				for rev := range revs {
					if a.prev == now && rev > now {
						next = append(next, rev)
					}
				}
				return next
			}
			return nil
		},
	}
	return m.ToModel()
}
