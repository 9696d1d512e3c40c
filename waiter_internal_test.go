package coalesce

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestWaiter_Blocks: no more than perCompletion callers wait on one channel (W1), and
// blocks that all have left are dropped (W2).
func TestWaiter_Blocks(t *testing.T) {
	f := new(flight[int, int])
	var ws []seat
	on := map[any]int{}
	for range 10 * perCompletion {
		w := f.sit()
		ws = append(ws, w)
		if on[w.done]++; on[w.done] > perCompletion {
			t.Fatalf("got %d waiters on one completion, want %d at most", on[w.done], perCompletion)
		}
	}
	if len(on) != 10 || blocks(f) != 9 {
		t.Errorf("got %d completions and %d blocks, want 10 and 9", len(on), blocks(f))
	}
	// All but the first of each block leave.
	kept := map[any]bool{}
	for _, w := range ws {
		if !kept[w.done] {
			kept[w.done] = true
		} else {
			f.rise(w)
		}
	}
	for _, w := range ws[:perCompletion] {
		if kept[w.done] {
			delete(kept, w.done) // the one of the first block leaves as well
			f.rise(w)
		}
	}
	if f.seated != 0 {
		t.Errorf("got %d in the first block, want none", f.seated)
	}
	// Waves that fill the first block, and the newest, and leave again.
	for range 1000 {
		var wave []seat
		for range 2*perCompletion + 1 {
			wave = append(wave, f.sit())
		}
		for _, w := range wave {
			f.rise(w)
		}
	}
	if n := blocks(f); n > 12 {
		t.Errorf("got %d blocks for 9 waiters, want 12 at most", n)
	}
}

// TestWaiter_BlocksEmptyInAnyOrder: in whichever order the blocks become empty, the list
// holds those with waiters, linked in both directions, and no other but the last (W2).
func TestWaiter_BlocksEmptyInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 1, 3, 0, 4}, {2, 3, 1, 4, 0}, {1, 3, 2, 0, 4}} {
		f := new(flight[int, int])
		for range perCompletion {
			f.sit()
		}
		var in [5][]seat // by age
		for i := range in {
			for range perCompletion {
				in[i] = append(in[i], f.sit())
			}
		}
		waiting := len(in) * perCompletion
		for _, i := range order {
			for _, w := range in[i] {
				f.rise(w)
				waiting--
			}
			n := 0
			var prev *block
			for b := f.cold.blocks.first; b != nil; prev, b = b, b.next {
				n += int(b.n)
				if b.prev != prev || b.n == 0 && b.next != nil {
					t.Fatalf("order %v, after %d: got %d in a block, or wrong links, want it linked and in use", order, i, b.n)
				}
			}
			if n != waiting {
				t.Errorf("order %v, after %d: got %d in the blocks, want %d", order, i, n, waiting)
			}
		}
	}
}

// TestWaking_Yields: on one P, waiters in a block, or listed in as large a number, have
// run before the next are woken, unless a leader wakes them, which goes on.
func TestWaking_Yields(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f := new(flight[int, int])
	inBlocks := func() (w ending[int, int], first, last sched.Completion) {
		w = ending[int, int]{flight: f, done: sched.NewCompletion(), n: 2}
		w.blocks = &block{done: sched.NewCompletion(), n: 1}
		return w, w.done, w.blocks.done
	}
	listed := func() (w ending[int, int], first, last sched.Completion) {
		f := new(flight[int, int])
		for range perCompletion {
			c := &caller[int, int]{flight: f, answered: sched.NewCompletion()}
			c.list()
		}
		w = ending[int, int]{flight: f, first: f.cold.callers.first, n: perCompletion}
		return w, f.cold.callers.first.answered, f.cold.callers.last.answered
	}
	for _, c := range []struct {
		name   string
		make   func() (w ending[int, int], first, last sched.Completion)
		leader bool
	}{{"blocks", inBlocks, false}, {"listed", listed, false}, {"a leader", inBlocks, true}} {
		const tries = 100 // the scheduler may decide otherwise now and then
		gave := 0
		for range tries {
			w, first, last := c.make()
			var between atomic.Bool
			var waiter sync.WaitGroup
			waiter.Go(func() {
				sched.Wait(first)
				between.Store(!sched.IsComplete(last))
			})
			runtime.Gosched()
			w.wake(nil, c.leader)
			waiter.Wait()
			if between.Load() {
				gave++
			}
		}
		if (gave > tries/2) == c.leader {
			t.Errorf("%s: got %d yields in %d tries, want most only without a leader", c.name, gave, tries)
		}
	}
}

// TestWaking_LeaderReturns: a leader has woken few waiters when it returns, and leaves
// many to a goroutine.
func TestWaking_LeaderReturns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	woken := func(waiters int) bool {
		g := Group[int, int]{Shards: 1}
		var calls sync.WaitGroup
		var done sched.Completion
		g.Do(1, func() (int, error) {
			for range waiters {
				calls.Go(func() { g.Do(1, func() (int, error) { return 0, nil }) })
			}
			s := g.use().at(0)
			for joined := uint64(0); joined < uint64(waiters); runtime.Gosched() {
				joined = g.Stats().Joined
			}
			done = s.lone.done
			return 0, nil
		})
		b := sched.IsComplete(done)
		calls.Wait()
		return b
	}
	for n := 1; n <= wakeInline; n++ {
		if !woken(n) {
			t.Errorf("got %d waiters not all woken, want all", n)
		}
	}
	for _, n := range []int{wakeInline + 1, perCompletion} {
		for try := 1; woken(n); try++ { // the goroutine may have been faster
			if try == 100 {
				t.Errorf("got %d waiters woken, want some left to the goroutine", n)
				break
			}
		}
	}
}

func blocks[K comparable, V any](f *flight[K, V]) (n int) {
	for b := f.cold.blocks.first; b != nil; b = b.next {
		n++
	}
	return n
}

// TestWaiter_LeaveGivesBackTheSeat: waves of callers that join a flight and leave it take
// no more blocks than one wave does (W2).
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
			t.Errorf("got %d seats taken, %d blocks, %d callers, want 0, 2 at most, 1", f.seated, n, f.callers)
		}
		close(release)
	})
}

func nothing(context.Context) (int, error) { return 0, nil }

// TestCaller_List: callers can be added, and removed anywhere.
func TestCaller_List(t *testing.T) {
	type rec = caller[int, int]
	for _, remove := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 2, 0, 3}, {2, 0, 3, 1}} {
		var f flight[int, int]
		var rs [4]*rec
		for i := range rs {
			rs[i] = &rec{flight: &f}
			rs[i].list()
		}
		m := &f.cold.callers
		left := map[*rec]bool{rs[0]: true, rs[1]: true, rs[2]: true, rs[3]: true}
		for _, i := range remove {
			rs[i].unlist()
			delete(left, rs[i])
			n := 0
			var prev *rec
			for r := m.first; r != nil; prev, r = r, r.next {
				if n++; !left[r] || r.prev != prev {
					t.Fatalf("order %v, after %d: got a broken list, want it linked", remove, i)
				}
			}
			if n != len(left) || m.last != prev {
				t.Fatalf("order %v, after %d: got %d in the list, want %d", remove, i, n, len(left))
			}
		}
	}
}

// TestWaiter_LastOfItsBlockIsWoken: a block of waiters that all but one have left still
// has one to wake.
func TestWaiter_LastOfItsBlockIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		leaving, leave := context.WithCancel(t.Context())
		answered := make(chan int, 3*perCompletion)
		follow := func(ctx context.Context, n int) {
			for range n {
				go func() {
					if v, _, err := g.DoContext(ctx, 1, nothing); err == nil {
						answered <- v
					}
				}()
			}
			synctest.Wait()
		}
		follow(t.Context(), perCompletion) // on the flight's own completion
		follow(leaving, perCompletion-1)   // in a block
		follow(t.Context(), 1)             // the last in it
		follow(t.Context(), perCompletion) // in the next block, which is now the first
		leave()
		synctest.Wait()
		close(release)
		synctest.Wait()
		if n, want := len(answered), 2*perCompletion+1; n != want {
			t.Errorf("got %d callers answered, want %d", n, want)
		}
	})
}

// TestWaiter_BatchLeaderHasNoSeat: a DoMulti that leaves a key which it leads returns no
// seat, as it has none: it waits for the batch (W2).
func TestWaiter_BatchLeaderHasNoSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { <-release; return nil, nil })
		synctest.Wait()
		go g.DoContext(t.Context(), 1, nothing)
		synctest.Wait()
		cancel()
		synctest.Wait()
		s := g.use().at(0)
		s.mu.Lock()
		for f := range s.all() {
			if f.seated != 1 || f.callers != 1 {
				t.Errorf("got %d of %d calls with a seat, want the follower", f.seated, f.callers)
			}
		}
		s.mu.Unlock()
		close(release)
	})
}
