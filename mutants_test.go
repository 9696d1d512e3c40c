package coalesce

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds tests of promises that a mutant of the code broke and no other
// test saw (see internal/mutate).

// TestYield_NewGroupTries: in a new group one leader tries whether to give way
// pays, and the others do not give way meanwhile.
func TestYield_NewGroupTries(t *testing.T) {
	var g Group[int, int]
	y := &g.use().yields
	now := sched.Now()
	if first, second := y.due(now), y.due(now); first != tries || second != parks {
		t.Errorf("the first leader is told %d, the second %d; want %d and %d", first, second, tries, parks)
	}
}

// TestMaxAge_OfOneNanosecond: the least MaxAge is one, too.
func TestMaxAge_OfOneNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{MaxAge: 1}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		time.Sleep(1 * time.Nanosecond)
		if v, shared, err := g.Do(1, func() (int, error) { return 2, nil }); v != 2 || shared || err != nil {
			t.Errorf("got %d, %v, %v; want 2 from a call that took over", v, shared, err)
		}
		close(release)
	})
}

// TestWaiter_LastOfItsBlockIsWoken: a block of waiters that all but one have left
// is still one to wake.
func TestWaiter_LastOfItsBlockIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		leaving, leave := context.WithCancel(t.Context())
		told := make(chan int, 3*perCompletion)
		follow := func(ctx context.Context, n int) {
			for range n {
				go func() {
					if v, _, err := g.DoContext(ctx, 1, nothing); err == nil {
						told <- v
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
		if n, want := len(told), 2*perCompletion+1; n != want {
			t.Errorf("%d callers were told, want %d", n, want)
		}
	})
}

// TestFlight_EndedKeepsNoEntries: a flight that has finished keeps no receiver,
// nor does one receiver keep the next (G12).
func TestFlight_EndedKeepsNoEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		for range 3 {
			g.DoChan(t.Context(), 1, nothing)
		}
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		f := s.lookup(h, 1, reflexive)
		var entries []*entry[int, int]
		for r := f.extra().first; r != nil; r = r.next {
			entries = append(entries, r)
		}
		s.mu.Unlock()
		if len(entries) != 3 {
			t.Fatalf("%d entries, want 3", len(entries))
		}
		close(release)
		synctest.Wait()
		if x := f.extra(); x.first != nil || x.last != nil || x.blocks != nil {
			t.Error("the flight keeps its entries")
		}
		for i, r := range entries {
			if r.prev != nil || r.next != nil {
				t.Errorf("entry %d keeps its neighbors", i)
			}
		}
	})
}

// TestFlight_RetiredKeepsNoKey: a record that is kept to be used again does not
// keep the key (G12).
func TestFlight_RetiredKeepsNoKey(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	g.Do(1, func() (int, error) {
		// The slot for one flight is taken, so this one has a record.
		v, _, err := g.Do(2, func() (int, error) { return 2, nil })
		return v, err
	})
	f := g.use().shards[0].free
	if f == nil {
		t.Fatal("no record is kept")
	}
	if f.key != 0 {
		t.Errorf("the record keeps the key %d", f.key)
	}
}

// TestBuckets_Sizes: a table begins with firstBuckets, grows by one bucket for
// each flight beyond that, and shrinks, not below keptBuckets, when three of
// four are empty.
func TestBuckets_Sizes(t *testing.T) {
	var b buckets[int, int]
	flights := make([]flight[int, int], keptBuckets+4)
	for i := range flights {
		f := &flights[i]
		f.key, f.hash = i, uint32(i)
		b.link(f)
		if n, want := len(b.chains), max(firstBuckets, i+1); n != want {
			t.Fatalf("%d buckets for %d flights, want %d", n, i+1, want)
		}
	}
	quarter := len(flights) / 4
	for i := range flights[quarter:] {
		b.unlink(&flights[quarter+i])
	}
	if n := len(b.chains); n != len(flights) {
		t.Errorf("%d buckets for a quarter of the flights, want all %d", n, len(flights))
	}
	b.unlink(&flights[0])
	if n := len(b.chains); n != keptBuckets {
		t.Errorf("%d buckets for less than a quarter, want %d", n, keptBuckets)
	}

	b = buckets[int, int]{}
	flights = flights[:keptBuckets+1]
	for i := range flights {
		b.link(&flights[i])
	}
	for i := range flights {
		b.unlink(&flights[i])
	}
	if n := len(b.chains); n != keptBuckets {
		t.Errorf("%d buckets for no flight after %d, want %d", n, len(flights), keptBuckets)
	}
}

// TestMaxAge_TimerOfOneThatEvaporated: the timer of a successor that all its
// calls have left is stopped, and does no harm if it has gone off already.
func TestMaxAge_TimerOfOneThatEvaporated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{MaxAge: time.Hour}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoFresh(ctx, 1, nothing)
		synctest.Wait()
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		q := s.lookup(h, 1, reflexive).queue()
		s.mu.Unlock()
		cancel()
		synctest.Wait()
		if x := q.more.extra; x.timer != nil || x.before != nil {
			t.Error("the successor keeps its timer, or what it was queued behind")
		}
		s.expire(q)
		if n := g.Stats().Overdue; n != 0 {
			t.Errorf("%d flights were overdue, want none", n)
		}
		close(release)
	})
}

// TestForget_EndedKeepsNoNeighbor: a forgotten flight that has ended does not keep
// another that was forgotten (G12).
func TestForget_EndedKeepsNoNeighbor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		var release [3]chan struct{}
		for i := range release {
			release[i] = make(chan struct{})
			go g.Do(1, func() (int, error) { <-release[i]; return 1, nil })
			synctest.Wait()
			g.Forget(1)
		}
		middle := g.use().shards[0].detached.first.next
		close(release[1])
		synctest.Wait()
		if middle.state != finished {
			t.Fatal("the middle one of the forgotten flights has not ended")
		}
		if middle.next != nil || middle.extra().before != nil {
			t.Error("the flight keeps its neighbors")
		}
		close(release[0])
		close(release[2])
	})
}

// TestFlight_WithEntriesKeepsNoNeighbor: a flight that had receivers does not keep
// the next in its bucket when it has ended (G12).
func TestFlight_WithEntriesKeepsNoNeighbor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, Hash: func(int) uint64 { return 1 }}
		tab := g.use()
		s := tab.shards[0]
		var release [2]chan struct{}
		var f *flight[int, int]
		for key := range release {
			release[key] = make(chan struct{})
			go g.Do(key, func() (int, error) { <-release[key]; return 1, nil })
			synctest.Wait()
			g.DoChan(t.Context(), key, nothing)
			h, reflexive := tab.hash(key)
			s.mu.Lock()
			f = s.lookup(h, key, reflexive)
			s.mu.Unlock()
		}
		if f.next == nil {
			t.Fatal("the two are not in one bucket")
		}
		close(release[1])
		synctest.Wait()
		if f.next != nil {
			t.Error("the flight keeps its neighbor")
		}
		close(release[0])
	})
}

// TestBuckets_ShrunkKeepNothing: where buckets were, no flight is kept (G12).
func TestBuckets_ShrunkKeepNothing(t *testing.T) {
	var b buckets[int, int]
	flights := make([]flight[int, int], 2*keptBuckets)
	for i := range flights {
		flights[i].hash = uint32(i)
		b.link(&flights[i])
	}
	for i := range flights {
		if b.unlink(&flights[i]); len(b.chains) < len(flights) {
			break
		}
	}
	if b.count == 0 {
		t.Fatal("the table has shrunk only when it was empty")
	}
	for i, f := range b.chains[len(b.chains):cap(b.chains)] {
		if f != nil {
			t.Errorf("a flight is kept %d beyond the end", i)
		}
	}
}

// A lateContext calls found when a call asks it for a value, which is after that
// call has looked for a success without the lock.
type lateContext struct {
	context.Context
	found func()
}

func (c lateContext) Value(key any) any {
	c.found()
	return c.Context.Value(key)
}

// TestLinger_FoundUnderTheLock: a call that looks for a success in vain, and then
// waits for the lock while a flight ends whose success lingers, is answered by
// that, in each form; the lock is free then, and when the Clone is made.
func TestLinger_FoundUnderTheLock(t *testing.T) {
	forms := map[string]func(*Group[int, int], context.Context) (int, bool, error){
		"Do": func(g *Group[int, int], _ context.Context) (int, bool, error) {
			return g.Do(1, func() (int, error) { return 2, nil })
		},
		"TryDo": func(g *Group[int, int], _ context.Context) (int, bool, error) {
			v, err := g.TryDo(1, func() (int, error) { return 2, nil })
			return v, true, err // TryDo does not tell
		},
		"DoContext": func(g *Group[int, int], ctx context.Context) (int, bool, error) {
			return g.DoContext(ctx, 1, nothing)
		},
	}
	for name, form := range forms {
		g := &Group[int, int]{Linger: Forever, Shards: 1}
		g.Clone = func(v int) int { g.Len(); return v }
		met := 0
		succeed := func() {
			if met++; met == 1 {
				g.Do(1, func() (int, error) { return 1, nil })
			}
		}
		ctx := context.Context(context.Background())
		if name == "DoContext" {
			ctx = lateContext{ctx, succeed}
		} else {
			g.Hash = func(int) uint64 { succeed(); return 0 }
		}
		if v, shared, err := form(g, ctx); v != 1 || !shared || err != nil {
			t.Errorf("%s: got %d, %v, %v; want 1, true, nil", name, v, shared, err)
		}
		if met == 0 {
			t.Errorf("%s: no flight ended between", name)
		}
		if !g.Forget(1) { // it waits for the lock
			t.Errorf("%s: nothing lingers", name)
		}
		if st := g.Stats(); st.Led != 1 || st.Lingered != 1 {
			t.Errorf("%s: %d led and %d lingered, want one each", name, st.Led, st.Lingered)
		}
	}
}

// TestDeadlock_LeaverHasNoEdge: a call that has left waits for nothing by the time
// the hook is told of it (D4).
func TestDeadlock_LeaverHasNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var node *flightContext
		left := 0
		inner := Group[int, int]{Hooks: Hooks[int]{Leave: func(Event[int]) {
			left++
			if n := edgesOf(t, node); n != 0 {
				t.Errorf("the call that has left has %d edges", n)
			}
		}}}
		release := make(chan struct{})
		go inner.DoContext(ctx, 2, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		var outer Group[int, int]
		_, _, _ = outer.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
			node = ctx.(*flightContext)
			nested, cancel := context.WithCancel(ctx)
			defer cancel()
			go inner.DoContext(nested, 2, nothing)
			synctest.Wait()
			if n := edgesOf(t, node); n != 1 {
				t.Errorf("the call that waits has %d edges, want 1", n)
			}
			cancel()
			synctest.Wait()
			return 0, nil
		})
		if left != 1 {
			t.Errorf("%d calls have left, want 1", left)
		}
		close(release)
	})
}

// TestHooks_JoinOfAQueuedDo: the hook is told of a Do that is queued when no lock is
// held: it may use the group.
func TestHooks_JoinOfAQueuedDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		told := 0
		g.Hooks.Join = func(Event[int]) { told++; g.Len() }
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		go g.Do(1, func() (int, error) { return 2, nil })
		synctest.Wait()
		if told != 1 {
			t.Errorf("the hook was told of %d calls, want 1", told)
		}
		close(release)
	})
}

// TestYield_HooksTeachNothing: where there are hooks, a leader parks: the time that they
// take says nothing of fn.
func TestYield_HooksTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Hooks: Hooks[int]{Start: func(Event[int]) { time.Sleep(time.Second) }}}
		y := &g.use().yields
		y.after.Store(0) // all leaders give way
		_, _, _ = g.DoContext(t.Context(), 1, nothing)
		if after, misses := y.after.Load(), y.misses.Load(); after != 0 || misses != 0 {
			t.Errorf("a leader has given way: after is %d, misses are %d", after, misses)
		}
	})
}

// TestWaiter_LeaderThatGaveWayHasASeat: a leader that waits for its fn, having given
// way to it, is counted among those on the first completion (W2), once.
func TestWaiter_LeaderThatGaveWayHasASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		table := g.use()
		table.yields.after.Store(0) // all leaders give way
		s := table.shards[0]
		release := make(chan struct{})
		fn := func(context.Context) (int, error) { <-release; return 1, nil }
		ctx, cancel := context.WithCancel(t.Context())
		go g.DoContext(ctx, 1, fn)
		synctest.Wait()
		seated := func() uint8 {
			s.mu.Lock()
			defer s.mu.Unlock()
			for f := range s.all() {
				return f.seated
			}
			return 0
		}
		if n := seated(); n != 1 {
			t.Errorf("%d have a seat, want the leader", n)
		}
		go g.DoContext(t.Context(), 1, fn)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if n := seated(); n != 1 {
			t.Errorf("%d have a seat, want the follower", n)
		}
		close(release)
	})
}

// TestHooks_LeaveThatExits: a Leave hook that ends the caller's goroutine does not
// keep the flight from being canceled, be it that the context has ended or that the
// Start hook has ended the goroutine before. Each leave is told of.
func TestHooks_LeaveThatExits(t *testing.T) {
	for _, start := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var g Group[int, int]
			left, canceled := 0, false
			g.Hooks.Leave = func(Event[int]) { left++; runtime.Goexit() }
			if start {
				g.Hooks.Start = func(Event[int]) { runtime.Goexit() }
			}
			ctx, cancel := context.WithCancel(t.Context())
			go g.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
				select {
				case <-ctx.Done():
					canceled = true
				case <-time.After(time.Hour):
				}
				return 1, nil
			})
			synctest.Wait()
			if !start {
				cancel()
				synctest.Wait()
			}
			if left != 1 || !canceled {
				t.Errorf("Start exits %v: the hook was told of %d leaves, want 1; fn is canceled: %v", start, left, canceled)
			}
			cancel()
			time.Sleep(2 * time.Hour)
		})
	}
}

// A brokenContext panics when it is asked whether it has ended.
type brokenContext struct {
	context.Context
	broken bool
}

func (c *brokenContext) Err() error {
	if c.broken {
		panic("broken")
	}
	return nil
}

// TestQueue_RejectedAndBroken: a queued call that Shutdown has rejected does not leave
// as well when its context panics.
func TestQueue_RejectedAndBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		alive, end := context.WithCancel(t.Context())
		defer end()
		queued := &brokenContext{Context: alive}
		go func() {
			defer func() { _ = recover() }()
			_, _, _ = g.DoContext(queued, 1, nothing)
		}()
		synctest.Wait()
		queued.broken = true
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown() = %v", err)
		}
		synctest.Wait()
		if st := g.Stats(); st.Left != 1 || st.Rejected != 1 {
			t.Errorf("%d have left, %d were rejected; want the first call and the second", st.Left, st.Rejected)
		}
		close(release)
	})
}

// TestQueue_RemovedEntryKeepsNoNeighbor: the entry of a call that leads, or has
// left, does not keep those beside it.
func TestQueue_RemovedEntryKeepsNoNeighbor(t *testing.T) {
	var x extra[int, int]
	var r [3]entry[int, int]
	for i := range r {
		x.addEntry(&r[i])
	}
	x.removeEntry(&r[1])
	if r[1].prev != nil || r[1].next != nil {
		t.Error("the entry that was removed keeps its neighbors")
	}
	if x.first != &r[0] || r[0].next != &r[2] || r[2].prev != &r[0] || x.last != &r[2] {
		t.Error("the others are not linked")
	}
}
