package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinger_TakesNoLock: a call that a success answers does not wait for its
// shard's lock.
func TestLinger_TakesNoLock(t *testing.T) {
	g := Group[string, int]{Shards: 1, Linger: Forever}
	fn := func() (int, error) { return 1, nil }
	withContext := func(context.Context) (int, error) { return 1, nil }
	_, _, _ = g.Do("k", fn)
	s := g.use().shards[0]
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
	if since := g.use().lingering.first.since; since != 0 {
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
