package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestWaiter_Blocks: no more than perCompletion wait on one channel (W1), and
// blocks that all have left are dropped (W2).
func TestWaiter_Blocks(t *testing.T) {
	f := new(flight[int, int])
	var ws []waiter
	on := map[any]int{}
	for range 10 * perCompletion {
		w := f.wait()
		ws = append(ws, w)
		if on[w.done]++; on[w.done] > perCompletion {
			t.Fatalf("%d wait on one completion", on[w.done])
		}
	}
	if len(on) != 10 || blocks(f) != 9 {
		t.Errorf("%d completions, %d blocks", len(on), blocks(f))
	}
	// All but the first of each block leave.
	kept := map[any]bool{}
	for _, w := range ws {
		if !kept[w.done] {
			kept[w.done] = true
		} else {
			f.unwait(w)
		}
	}
	for _, w := range ws[:perCompletion] {
		if kept[w.done] {
			delete(kept, w.done) // the first block's one leaves too
			f.unwait(w)
		}
	}
	if f.seated != 0 {
		t.Errorf("%d in the first block", f.seated)
	}
	// Waves that fill the first block, and the newest, and leave again.
	for range 1000 {
		var wave []waiter
		for range 2*perCompletion + 1 {
			wave = append(wave, f.wait())
		}
		for _, w := range wave {
			f.unwait(w)
		}
	}
	if n := blocks(f); n > 12 {
		t.Errorf("%d blocks for 9 waiters", n)
	}
}

func blocks[K comparable, V any](f *flight[K, V]) (n int) {
	for b := f.extra().blocks; b != nil; b = b.next {
		n++
	}
	return n
}

// TestWaiter_LeaveGivesBackTheSeat: waves of callers that join a flight and leave
// it take no more blocks than one wave does (W2).
func TestWaiter_LeaveGivesBackTheSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			for range perCompletion {
				go g.DoContext(ctx, 1, nothing)
				go g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { return nil, nil })
			}
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		tab := g.use()
		h, _ := tab.hash(1)
		f := tab.shard(h).lookup(h, 1, true)
		if n := blocks(f); f.seated != 0 || n > 2 || f.callers != 1 {
			t.Errorf("%d seats taken, %d blocks, %d callers", f.seated, n, f.callers)
		}
		close(release)
	})
}

func nothing(context.Context) (int, error) { return 0, nil }

// TestEntry_List: entries can be added and removed anywhere.
func TestEntry_List(t *testing.T) {
	type rec = entry[int, int]
	for _, remove := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 2, 0, 3}, {2, 0, 3, 1}} {
		var m extra[int, int]
		var rs [4]*rec
		for i := range rs {
			rs[i] = new(rec)
			m.addEntry(rs[i])
		}
		left := map[*rec]bool{rs[0]: true, rs[1]: true, rs[2]: true, rs[3]: true}
		for _, i := range remove {
			m.removeEntry(rs[i])
			delete(left, rs[i])
			n := 0
			var prev *rec
			for r := m.first; r != nil; prev, r = r, r.next {
				if n++; !left[r] || r.prev != prev {
					t.Fatalf("order %v, after %d: broken", remove, i)
				}
			}
			if n != len(left) || m.last != prev {
				t.Fatalf("order %v, after %d: %d in the list", remove, i, n)
			}
		}
	}
}
