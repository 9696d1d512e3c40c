package coalesce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestLinger_TakesNoLock: a call that a success answers does not wait for its shard's
// lock.
func TestLinger_TakesNoLock(t *testing.T) {
	g := Group[string, int]{Shards: 1, Linger: Forever}
	fn := func() (int, error) { return 1, nil }
	withContext := func(context.Context) (int, error) { return 1, nil }
	_, _, _ = g.Do("k", fn)
	s := g.use().at(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, call := range map[string]func(){
		"Do":        func() { _, _, _ = g.Do("k", fn) },
		"TryDo":     func() { _, _ = g.TryDo("k", fn) },
		"DoContext": func() { _, _, _ = g.DoContext(t.Context(), "k", withContext) },
		"DoChan":    func() { <-g.DoChan(t.Context(), "k", withContext) },
		"DoMulti": func() {
			g.DoMulti(t.Context(), []string{"k"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
		},
	} {
		returned := make(chan struct{})
		go func() {
			call()
			close(returned)
		}()
		select {
		case <-returned:
		case <-time.After(2 * time.Second): // a goroutine that waits for the lock never returns
			t.Errorf("%s: got a wait for the shard's lock, want none", name)
		}
	}
}

// TestLinger_FoundUnderTheLock: a call that finds no outcome, and then waits for the lock
// while a flight finishes whose outcome lingers, is answered by that, in each form; the
// lock is free then, and while Clone runs.
func TestLinger_FoundUnderTheLock(t *testing.T) {
	forms := map[string]func(*Group[int, int], context.Context) (int, bool, error){
		"Do": func(g *Group[int, int], _ context.Context) (int, bool, error) {
			return g.Do(1, func() (int, error) { return 2, nil })
		},
		"TryDo": func(g *Group[int, int], _ context.Context) (int, bool, error) {
			v, err := g.TryDo(1, func() (int, error) { return 2, nil })
			return v, true, err // TryDo does not report it
		},
		"DoContext": func(g *Group[int, int], ctx context.Context) (int, bool, error) {
			return g.DoContext(ctx, 1, nothing)
		},
		"DoChan": func(g *Group[int, int], ctx context.Context) (int, bool, error) {
			r := <-g.DoChan(ctx, 1, nothing)
			return r.Val, r.Shared, r.Err
		},
		"DoMulti": func(g *Group[int, int], ctx context.Context) (int, bool, error) {
			r := g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { return nil, nil })[1]
			return r.Val, r.Shared, r.Err
		},
	}
	for name, form := range forms {
		for _, end := range []error{nil, errBad} {
			g := &Group[int, int]{Shards: 1, LingerFor: func(int, error) time.Duration { return Forever }}
			g.Clone = func(v int) int { g.Len(); return v }
			s := g.use().shard(0)
			s.mu.Lock()
			done := make(chan struct{})
			go func() {
				defer close(done)
				if v, shared, err := form(g, t.Context()); v != 1 || !shared || err != end {
					t.Errorf("%s: got %d, %v, %v, want 1, true, %v", name, v, shared, err, end)
				}
			}()
			untilLocked(t, ")."+name+"(")
			s.linger(1, 1, end)
			s.mu.Unlock()
			<-done
			if !g.Forget(1) { // it waits for the lock
				t.Errorf("%s: got no lingering outcome, want one", name)
			}
			if st := g.Stats(); st.Led != 0 || st.Lingered != 1 {
				t.Errorf("%s: got %d led and %d lingered, want 0 and 1", name, st.Led, st.Lingered)
			}
		}
	}
}

// errBad is the error of an fn that fails.
var errBad = errors.New("bad")

// linger makes v and err linger for key, as the end of a flight would. s.mu must be held.
func (s *shard[K, V]) linger(key K, v V, err error) {
	h, _ := s.group.hash(key)
	f := &flight[K, V]{key: key, hash: uint32(h), callers: 1}
	_, gone := s.keep(f, returned, s.ask(f, returned, v, err))
	gone.unindex()
}

// lingererOf returns the lingerer of key in the index, or nil.
func lingererOf[K comparable, V any](g *Group[K, V], key K) *lingerer[K, V] {
	h, _ := g.use().hash(key)
	return g.use().shard(h).indexed(uint32(h), key)
}

// keepKey makes the key's own value linger.
func keepKey(g *Group[int, int], key int) {
	_, _, _ = g.Do(key, func() (int, error) { return key, nil })
}

// TestLinger_FromTheFuture: an outcome that seems to come from the future has expired;
// one of this moment has not.
func TestLinger_FromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := sched.Now()
		for since, want := range map[int64]bool{now: true, now + 1: false} {
			p := &lingerer[int, int]{since: since, end: now + int64(time.Second)}
			p.answers.Store(true)
			if got := p.live(); got != want {
				t.Errorf("%d ns from now: got %v, want %v", since-now, got, want)
			}
		}
	})
}

// TestLinger_ForeverSinceNever: an outcome that lingers forever has no beginning.
func TestLinger_ForeverSinceNever(t *testing.T) {
	for name, g := range map[string]*Group[int, int]{
		"Linger":    {Linger: Forever},
		"LingerFor": {LingerFor: func(int, error) time.Duration { return Forever }},
		"too long":  {LingerFor: func(int, error) time.Duration { return Forever - 1 }},
	} {
		keepKey(g, 1)
		if p := lingererOf(g, 1); p.since != 0 || p.end != never {
			t.Errorf("%s: got lingering from %d to %d, want 0 and never", name, p.since, p.end)
		}
	}
}

// TestLinger_MaxOfOne: the least LingerMax is one.
func TestLinger_MaxOfOne(t *testing.T) {
	g := Group[int, int]{Linger: Forever, LingerMax: 1}
	keepKey(&g, 1)
	keepKey(&g, 2)
	if n, err := g.use().check(false); n != 1 || err != nil {
		t.Errorf("got %d lingering, %v, want 1, nil", n, err)
	}
}

// TestLinger_LastNanosecond: Forget and LingerMax drop a success that has a nanosecond
// left, and report that; a sweep leaves it.
func TestLinger_LastNanosecond(t *testing.T) {
	const linger = 16 * time.Second
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger}
		keepKey(&g, 1)
		time.Sleep(linger - 1)
		if !g.Forget(1) {
			t.Error("Forget: got false, want true")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger, LingerMax: 1}
		keepKey(&g, 1)
		time.Sleep(linger - 1)
		keepKey(&g, 2)
		if n := g.Stats().Evicted; n != 1 {
			t.Errorf("got %d evicted, want 1", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger}
		keepKey(&g, 1)
		time.Sleep(time.Nanosecond)
		keepKey(&g, 2)
		time.Sleep(linger - 1)
		synctest.Wait() // the sweep has run
		if n, err := g.use().check(false); n != 1 || err != nil {
			t.Errorf("got %d lingering, %v, want 1, the second, nil", n, err)
		}
	})
}

// TestLinger_DroppedAnswersNoMore: an outcome that a call has found in the index, and
// that is dropped then, does not answer that call.
func TestLinger_DroppedAnswersNoMore(t *testing.T) {
	for name, drop := range map[string]func(*Group[int, int]){
		"Forget":    func(g *Group[int, int]) { g.Forget(1) },
		"LingerMax": func(g *Group[int, int]) { keepKey(g, 3); keepKey(g, 4) },
		"DoFresh":   func(g *Group[int, int]) { _, _, _ = g.DoFresh(context.Background(), 1, nothing) },
		"Shutdown":  func(g *Group[int, int]) { _ = g.Shutdown(context.Background()) },
	} {
		g := &Group[int, int]{Linger: Forever, LingerMax: 2}
		keepKey(g, 1)
		keepKey(g, 2)
		p := lingererOf(g, 1)
		if !p.live() {
			t.Errorf("before %s: got a dead outcome, want a live one", name)
		}
		drop(g)
		if p.live() {
			t.Errorf("after %s: got a live outcome, want a dead one", name)
		}
		if lingererOf(g, 1) == p {
			t.Errorf("after %s: got it in the index, want it gone", name)
		}
	}
}

// TestLinger_EvictedBeforeItIsOutOfTheIndex: once another outcome begins to linger in its
// place, an outcome answers no call, although it leaves the index only afterwards (L3);
// and when it leaves, an outcome that has come to its key since stays.
func TestLinger_EvictedBeforeItIsOutOfTheIndex(t *testing.T) {
	g := &Group[int, int]{Linger: Forever, LingerMax: 1}
	keepKey(g, 1)
	first := lingererOf(g, 1)
	s, l := first.shard, g.use().lingering
	h, _ := g.use().hash(1)
	f := &flight[int, int]{key: 2, callers: 1}
	p := first.shard.ask(f, returned, 2, nil)
	s.mu.Lock()
	s.makeIndex().Store(slot[int]{2, 0}, p)
	gone := l.begin(p, nil)
	s.mu.Unlock()
	if gone != first || s.indexed(uint32(h), 1) != first || s.hit(h, 1) != nil {
		t.Errorf("got %p evicted, %p in the index, answering %v, want %p, %p, false", gone, s.indexed(uint32(h), 1), s.hit(h, 1) != nil, first, first)
	}
	keepKey(g, 1) // in place of 2
	gone.unindex()
	if v, shared, _ := g.Do(1, func() (int, error) { return 0, nil }); v != 1 || !shared {
		t.Errorf("got %d, %t, want 1, true from the later outcome", v, shared)
	}
}

// check returns the number of outcomes that linger, and an error if one of L1 to L3 and
// E1 to E3 does not hold. No flight may finish meanwhile unless moving is set: then an
// outcome of the order may be missing from the index, or be about to be removed.
func (gs *groupState[K, V]) check(moving bool) (n int, err error) {
	l := gs.lingering
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.order
	for i := range o.n {
		p := o.at(i).lingerer
		switch parent := (i - 1) / 2; {
		case int(p.place) != i || o.at(i).end != p.end || !p.answers.Load():
			return o.n, fmt.Errorf("%v is at %d and says %d; it ends at %d and %d; it answers %v",
				p.key, i, p.place, o.at(i).end, p.end, p.answers.Load())
		case i > 0 && o.Less(i, parent):
			return o.n, fmt.Errorf("%v is before its parent", p.key)
		case !moving && p.shard.indexed(p.hash, p.key) != p:
			return o.n, fmt.Errorf("%v is in the order, and %p in the index", p.key, p.shard.indexed(p.hash, p.key))
		}
	}
	size := 0
	for s := range gs.all() {
		if x := s.outcomes.Load(); x != nil {
			size += x.Size()
		}
	}
	if !moving && size != o.n || o.n > l.max || len(o.chunks)*orderChunk-o.n > 2*orderChunk || o.n == 0 && o.chunks != nil {
		return o.n, fmt.Errorf("%d of %d are in the order, with %d chunks, and %d in the index", o.n, l.max, len(o.chunks), size)
	}
	if p := o.first(); !moving && p != nil && p.end != never { // otherwise a sweep may be under way
		last := len(l.sweeps) - 1
		if last < 0 || l.sweeps[last] > max(p.end, l.read)+max(sweepPause, min(sweepSlack, (p.end-p.since)/sweepFraction)) {
			return o.n, fmt.Errorf("no sweep is due for the first to end, at %d; the sweeps are due at %v", p.end, l.sweeps)
		}
	}
	for i := 1; i < len(l.sweeps); i++ {
		if l.sweeps[i] >= l.sweeps[i-1] {
			return o.n, fmt.Errorf("the sweeps to come are %v", l.sweeps)
		}
	}
	return o.n, nil
}

// TestLinger_OrderAndIndex: the order is sound at any moment of a storm of calls that
// lead, forget and expire, and agrees with the index when the storm is over.
func TestLinger_OrderAndIndex(t *testing.T) {
	for _, life := range []time.Duration{Forever, 50 * time.Microsecond} {
		g := Group[int, int]{LingerMax: 12, Shards: 8}
		g.LingerFor = func(v int, _ error) time.Duration {
			if life == Forever && v%3 > 0 {
				return Forever
			}
			return time.Duration(v+1) * 50 * time.Microsecond
		}
		gs := g.use()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				for range 5_000 {
					switch key := r.IntN(20); r.IntN(8) {
					case 0:
						g.Forget(key)
					case 1:
						_, _, _ = g.DoFresh(context.Background(), key, func(context.Context) (int, error) { return key, nil })
					case 2:
						if _, err := gs.check(true); err != nil {
							t.Error(err)
							return
						}
					default:
						_, _, _ = g.Do(key, func() (int, error) { return key, nil })
					}
				}
			})
		}
		wg.Wait()
		var err error
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err = gs.check(false); err == nil { // a sweep may be under way
				break
			}
		}
		if err != nil {
			t.Errorf("after the storm: got %v, want nil", err)
		}
		_ = g.Shutdown(t.Context())
		if n, err := gs.check(false); n != 0 || err != nil {
			t.Errorf("after Shutdown: got %d lingering, %v, want none, nil", n, err)
		}
	}
}

// TestLinger_Sweep: expired outcomes are freed at that moment, or at most a sixteenth of
// Linger after it, however many they are, and again after the list has been empty.
func TestLinger_Sweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: 16 * time.Second}
		gs := g.use()
		do := func(key int) { _, _, _ = g.Do(key, func() (int, error) { return key, nil }) }
		want := func(want int) {
			t.Helper()
			synctest.Wait()
			if n, err := gs.check(false); n != want || err != nil {
				t.Errorf("got %d lingering, %v, want %d, nil", n, err, want)
			}
		}
		const many = 2*sweepBatch + 10
		for range 2 {
			for key := range many {
				do(key)
			}
			time.Sleep(time.Second / 2)
			do(many)
			time.Sleep(9 * time.Second / 2)
			do(many + 1)
			time.Sleep(11*time.Second - 1)
			want(many + 2)
			time.Sleep(time.Nanosecond) // 16 s
			want(2)
			time.Sleep(time.Second)
			want(1)
			time.Sleep(4 * time.Second) // 21 s
			want(0)
		}
	})
}

// TestLinger_SweepIsMadeAgain: if a sweep was lost with its bubble, or is due on another
// clock, the next success makes it again.
func TestLinger_SweepIsMadeAgain(t *testing.T) {
	g := Group[int, int]{Linger: 20 * time.Millisecond}
	gs := g.use()
	do := func(key int) { _, _, _ = g.Do(key, func() (int, error) { return key, nil }) }
	size := func() int {
		n, _ := gs.check(false) // check assumes one clock
		return n
	}
	do(1)
	synctest.Test(t, func(*testing.T) {
		do(2)
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if n := size(); n != 0 {
			t.Errorf("in the bubble: got %d lingering, want none", n)
		}
		do(3)
	})
	do(4)
	for end := time.Now().Add(5 * time.Second); size() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("outside: got %d lingering, want none", size())
		}
	}
}

// A watchedContext reports the calls of its methods, and ends when the test says so.
type watchedContext struct {
	context.Context
	done    chan struct{}
	watched chan func() // the function to call at its end
	stopped chan struct{}
	ended   atomic.Bool
}

func (c *watchedContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

func (c *watchedContext) Done() <-chan struct{} { return c.done }

func (c *watchedContext) AfterFunc(fn func()) (stop func() bool) {
	c.watched <- fn
	return func() bool { close(c.stopped); return true }
}

// TestLinger_AnswersAReceiverInTheMoment: a receiver that finds a success only under the
// lock gets one Result, even if its context is about to end, and watches that no longer.
func TestLinger_AnswersAReceiverInTheMoment(t *testing.T) {
	for i := range 200 {
		g := Group[int, int]{Linger: Forever, Shards: 1}
		tab := g.use()
		s := tab.at(0)
		w := &watchedContext{
			Context: t.Context(), done: make(chan struct{}), watched: make(chan func(), 1), stopped: make(chan struct{}),
		}
		s.mu.Lock()
		got := make(chan (<-chan Result[int]))
		go func() {
			got <- g.DoChan(w, 1, func(context.Context) (int, error) { return 2, nil })
		}()
		end := <-w.watched
		s.linger(1, 1, nil)
		if i%2 == 0 {
			w.ended.Store(true)
			go end()
		}
		s.mu.Unlock()
		ch := <-got
		r := <-ch
		if i%2 == 1 {
			<-w.stopped
		}
		if answered := r == (Result[int]{Val: 1, Shared: true}); !answered && r.Err != context.Canceled {
			t.Fatalf("got %+v, want 1, shared, or %v", r, context.Canceled)
		}
		runtime.Gosched()
		if st := g.Stats(); st.EndedOnEntry+st.Lingered != 1 || st.Led != 0 {
			t.Fatalf("got %+v with %+v, want one call that lingered or ended on entry", st, r)
		}
		select {
		case r := <-ch:
			t.Fatalf("got a second Result %+v, want one", r)
		default:
		}
	}
}

// TestLinger_SweepOfThisMoment: a success that is stored in the moment of a sweep does
// not postpone the next one.
func TestLinger_SweepOfThisMoment(t *testing.T) {
	const linger = 16 * time.Second
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger}
		keepKey(&g, 1)
		time.Sleep(linger / 2)
		keepKey(&g, 2)
		time.Sleep(linger / 2)
		synctest.Wait() // the first has been swept
		keepKey(&g, 3)
		time.Sleep(linger/2 + linger/sweepFraction)
		synctest.Wait()
		if n, err := g.use().check(false); n != 1 || err != nil {
			t.Errorf("got %d lingering, %v, want 1, the third, nil", n, err)
		}
	})
}

// TestLinger_SweepThatWasReplaced: a sweep that another one has replaced does nothing,
// and starts none.
func TestLinger_SweepThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: 16 * time.Second}
		keepKey(&g, 1)
		l := g.use().lingering
		before := slices.Clone(l.sweeps)
		time.Sleep(time.Second)
		l.sweep(before[0] - 1)
		if !slices.Equal(l.sweeps, before) {
			t.Errorf("got sweeps due at %v, want %v", l.sweeps, before)
		}
	})
}

// TestLinger_SweepOfACollectedGroup: a sweep that is due when its group has been
// collected does nothing.
func TestLinger_SweepOfACollectedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w weak.Pointer[lingerers[int, int]]
		func() {
			g := Group[int, int]{Linger: time.Second}
			keepKey(&g, 1)
			w = weak.Make(g.use().lingering)
		}()
		for try := 0; w.Value() != nil; try++ {
			if try == 100 {
				t.Fatal("got the group kept, want it collected")
			}
			runtime.GC()
		}
		time.Sleep(time.Second)
	})
}

// TestLinger_FinishingBatchIsNotAbandoned: a batch whose last caller leaves one of its
// flights while another, in a different shard, is finishing is not abandoned: the value
// of that one lingers, and may need its context.
func TestLinger_FinishingBatchIsNotAbandoned(t *testing.T) {
	g := Group[int, int]{Linger: Forever, Shards: 2}
	tab := g.use()
	keys := make([]int, 2) // one for each shard
	for key := range 64 {
		h, _ := tab.hash(key)
		keys[h>>tab.shift] = key
	}
	lead, leave := context.WithCancel(t.Context())
	follow, unfollow := context.WithCancel(t.Context())
	begun, release := make(chan context.Context), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		g.DoMulti(lead, keys, func(ctx context.Context, keys []int) (map[int]int, error) {
			begun <- ctx
			<-release
			return map[int]int{keys[0]: 1, keys[1]: 2}, nil
		})
	})
	ctx := <-begun
	wg.Go(func() { g.DoContext(follow, keys[1], nothing) })
	until := func(of func(Stats) uint64, n uint64) {
		for of(g.Stats()) < n {
			runtime.Gosched()
		}
	}
	until(func(st Stats) uint64 { return st.Joined }, 1)
	leave()
	until(func(st Stats) uint64 { return st.Left }, 2)
	tab.lingering.mu.Lock()
	close(release)
	untilLocked(t, ").begin(")
	unfollow()
	// Stats would need the lock of the first flight's shard.
	for left := false; !left; runtime.Gosched() {
		s := tab.at(1)
		s.mu.Lock()
		left = s.counts[callLeft] == 2
		s.mu.Unlock()
	}
	tab.lingering.mu.Unlock()
	wg.Wait()
	if st := g.Stats(); st.Abandoned > 0 || ctx.Err() != nil {
		t.Errorf("got %d flights abandoned, the context's error %v, want none, nil", st.Abandoned, ctx.Err())
	}
	if p := lingererOf(&g, keys[0]); p == nil || !p.live() {
		t.Error("got no lingering outcome, want one")
	}
}
