package coalesce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// TestLinger_TakesNoLock: a call that a success answers does not wait for its
// shard's lock.
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
		case <-time.After(2 * time.Second): // whatever waits for the lock never returns
			t.Errorf("%s waits for the shard's lock", name)
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

// keepKey makes the key's own value linger.
func keepKey(g *Group[int, int], key int) {
	_, _, _ = g.Do(key, func() (int, error) { return key, nil })
}

// TestLinger_FromTheFuture: a success that seems to come from the future has expired,
// be it from the next nanosecond; one of this moment has not.
func TestLinger_FromTheFuture(t *testing.T) {
	l := successes[int, int]{linger: time.Second}
	for since, want := range map[int64]time.Duration{2: 0, 1: time.Second} {
		if got := l.remaining(&success[int, int]{since: since}, 1); got != want {
			t.Errorf("since %d: %v remain at 1, want %v", since, got, want)
		}
	}
}

// TestLinger_ForEverSinceNever: what lingers for ever has no beginning.
func TestLinger_ForEverSinceNever(t *testing.T) {
	g := Group[int, int]{Linger: Forever}
	keepKey(&g, 1)
	if since := g.use().lingering.list.first.since; since != 0 {
		t.Errorf("it lingers since %d", since)
	}
}

// TestLinger_MaxOfOne: the least LingerMax is one, too.
func TestLinger_MaxOfOne(t *testing.T) {
	g := Group[int, int]{Linger: Forever, LingerMax: 1}
	keepKey(&g, 1)
	keepKey(&g, 2)
	if n, err := g.use().lingering.check(); n != 1 || err != nil {
		t.Errorf("%d linger, %v", n, err)
	}
}

// TestLinger_LastNanosecond: a success that has a nanosecond left is dropped by Forget
// and by LingerMax, and says so; a sweep leaves it.
func TestLinger_LastNanosecond(t *testing.T) {
	const linger = 16 * time.Second
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger}
		keepKey(&g, 1)
		time.Sleep(linger - 1)
		if !g.Forget(1) {
			t.Error("Forget found nothing")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger, LingerMax: 1}
		keepKey(&g, 1)
		time.Sleep(linger - 1)
		keepKey(&g, 2)
		if n := g.Stats().Evicted; n != 1 {
			t.Errorf("%d were dropped because of LingerMax, want 1", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: linger}
		keepKey(&g, 1)
		time.Sleep(time.Nanosecond)
		keepKey(&g, 2)
		time.Sleep(linger - 1)
		synctest.Wait() // the sweep has come
		if n, err := g.use().lingering.check(); n != 1 || err != nil {
			t.Errorf("%d linger, want the second; %v", n, err)
		}
	})
}

// TestLinger_DroppedKeepsNoNeighbor: a success that was dropped, and that a call has
// found before, does not keep others (G12).
func TestLinger_DroppedKeepsNoNeighbor(t *testing.T) {
	g := Group[int, int]{Linger: Forever}
	for key := range 3 {
		keepKey(&g, key)
	}
	p := g.use().lingering.get(1)
	g.Forget(1)
	if p.prev != nil || p.next != nil {
		t.Error("it keeps its neighbors")
	}
}

// TestLinger_ClearedAsAWhole: whoever looks while Shutdown drops what lingers sees
// all of it, or nothing (L1). The race detector judges.
func TestLinger_ClearedAsAWhole(t *testing.T) {
	g := Group[int, int]{Linger: Forever}
	l := g.use().lingering
	const many = 1_000
	for key := range many {
		l.keep(key, key)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Shutdown(t.Context())
	}()
	for {
		n, err := l.check()
		if err != nil || n != 0 && n != many {
			t.Errorf("%d linger, %v", n, err)
		}
		if n == 0 || t.Failed() {
			break
		}
	}
	<-done
}

// check returns how many successes linger, and what of L1 to L3 does not hold.
func (l *successes[K, V]) check() (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := l.list.first; p != nil; p = p.next {
		n++
		if q, _ := l.index.Load(p.key); q != p {
			return n, fmt.Errorf("%v: %p is in the list, %p in the index", p.key, p, q)
		}
		if p.next == nil && l.list.last != p || p.next != nil && p.next.prev != p {
			return n, fmt.Errorf("%v is linked in one direction", p.key)
		}
		if p.next != nil && p.next.since < p.since {
			return n, fmt.Errorf("%v lingers since %d, the next one since %d", p.key, p.since, p.next.since)
		}
	}
	if n != l.n || n != l.index.Size() || n == 0 && l.list.last != nil || l.max > 0 && n > l.max {
		return n, fmt.Errorf("%d in the list, %d in the index, counted %d of %d", n, l.index.Size(), l.n, l.max)
	}
	if n > 0 && l.linger != Forever && l.due == 0 {
		return n, fmt.Errorf("%d linger and no sweep is due", n)
	}
	return n, nil
}

// TestLinger_ListAndIndex: L1 to L3 hold at any moment of a storm of calls that
// lead, forget and expire.
func TestLinger_ListAndIndex(t *testing.T) {
	for _, linger := range []time.Duration{Forever, 50 * time.Microsecond} {
		g := Group[int, int]{Linger: linger, LingerMax: 12, Shards: 8}
		l := g.use().lingering
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
						if _, err := l.check(); err != nil {
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
		_ = g.Shutdown(t.Context())
		if n, err := l.check(); n != 0 || err != nil {
			t.Errorf("after Shutdown: %d linger, %v", n, err)
		}
	}
}

// TestLinger_Sweep: what has expired is freed at that moment, or not later than
// a sixteenth of Linger after it, however much it is, and again after the list
// has been empty.
func TestLinger_Sweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: 16 * time.Second}
		l := g.use().lingering
		do := func(key int) { _, _, _ = g.Do(key, func() (int, error) { return key, nil }) }
		want := func(want int) {
			t.Helper()
			synctest.Wait()
			if n, err := l.check(); n != want || err != nil {
				t.Errorf("%d linger, want %d; %v", n, want, err)
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

// TestLinger_SweepIsMadeAgain: a sweep that was lost with its bubble, or is due on
// another clock, is made again by the next success.
func TestLinger_SweepIsMadeAgain(t *testing.T) {
	g := Group[int, int]{Linger: 20 * time.Millisecond}
	l := g.use().lingering
	do := func(key int) { _, _, _ = g.Do(key, func() (int, error) { return key, nil }) }
	size := func() int {
		n, _ := l.check() // which assumes one clock
		return n
	}
	do(1)
	synctest.Test(t, func(*testing.T) {
		do(2)
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if n := size(); n != 0 {
			t.Errorf("in the bubble: %d linger", n)
		}
		do(3)
	})
	do(4)
	for end := time.Now().Add(5 * time.Second); size() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("outside: %d linger", size())
		}
	}
}

// A watchedContext tells what is asked of it, and ends when the test says so.
type watchedContext struct {
	context.Context
	done    chan struct{}
	watched chan func() // what is to be called at its end
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

// TestLinger_AnswersAReceiverInTheMoment: a receiver that finds a success only
// under the lock gets one Result, be its context about to end, and watches that
// no more.
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
		tab.lingering.keep(1, 1)
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
			t.Fatalf("%+v", r)
		}
		runtime.Gosched()
		if st := g.Stats(); st.EndedOnEntry+st.Lingered != 1 || st.Led != 0 {
			t.Fatalf("%+v, %+v", r, st)
		}
		select {
		case r := <-ch:
			t.Fatalf("a second Result: %+v", r)
		default:
		}
	}
}

// TestLinger_SweepOfThisMoment: a success that is stored in the moment of a sweep
// does not put off the next one.
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
		if n, err := g.use().lingering.check(); n != 1 || err != nil {
			t.Errorf("%d linger, want the third; %v", n, err)
		}
	})
}

// TestLinger_SweepThatWasReplaced: a sweep in whose place another was armed does
// nothing, and arms none.
func TestLinger_SweepThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: 16 * time.Second}
		keepKey(&g, 1)
		l := g.use().lingering
		armed, due := l.armed, l.due
		time.Sleep(time.Second)
		l.sweep(due - 1)
		if l.armed != armed || l.due != due {
			t.Errorf("a sweep is due at %d since %d, want %d since %d", l.due, l.armed, due, armed)
		}
	})
}

// TestLinger_SweepOfACollectedGroup: a sweep that is due when its group has been
// collected does nothing.
func TestLinger_SweepOfACollectedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w weak.Pointer[successes[int, int]]
		func() {
			g := Group[int, int]{Linger: time.Second}
			keepKey(&g, 1)
			w = weak.Make(g.use().lingering)
		}()
		for try := 0; w.Value() != nil; try++ {
			if try == 100 {
				t.Fatal("the group is kept")
			}
			runtime.GC()
		}
		time.Sleep(time.Second)
	})
}

// TestLinger_FinishingBatchIsNotAbandoned: a batch whose last caller leaves one of its
// flights while another, in a different shard, is finishing is not abandoned: what that
// returned lingers, and may need its context.
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
	untilLocked(t, ").keep(")
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
		t.Errorf("%d flights were abandoned, and the context's error is %v", st.Abandoned, ctx.Err())
	}
	if tab.lingering.get(keys[0]) == nil {
		t.Error("the success does not linger")
	}
}
