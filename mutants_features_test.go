package coalesce

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// This file holds tests of promises about what lingers, shutting down, hooks and
// deadlocks that a mutant of the code broke and no other test saw (see
// internal/mutate).

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

// TestShutdown_RejectedIsNotKept: a successor that Shutdown has rejected is not behind
// another any more, nor does a timer keep it (G12).
func TestShutdown_RejectedIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, MaxAge: time.Hour}
		release := make(chan struct{})
		go g.DoContext(t.Context(), 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		go g.DoFresh(t.Context(), 1, nothing)
		synctest.Wait()
		s := g.use().shards[0]
		var q *flight[int, int]
		s.mu.Lock()
		for f := range s.all() {
			q = f.queue()
		}
		s.mu.Unlock()
		x := q.more.extra
		if x.timer == nil || x.before == nil || q.more.ctx.ahead.Load() == nil {
			t.Fatal("nothing is queued behind the flight")
		}
		go g.Shutdown(t.Context())
		synctest.Wait()
		if q.state != finished {
			t.Error("the successor has not been rejected")
		}
		if x.timer != nil || x.before != nil || q.more.ctx.ahead.Load() != nil {
			t.Error("the successor keeps its timer, or what it was queued behind")
		}
		close(release)
	})
}

// TestShutdown_BusyAtAnyMoment: a shard that always has a flight, be it in the slot or
// in the table, is always busy. The race detector judges, too.
func TestShutdown_BusyAtAnyMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	tab := g.use()
	s := tab.shards[0]
	s.count = 1
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			s.solo.taken, s.count = !s.solo.taken, 1-s.count
			s.mu.Unlock()
		}
	})
	for range 20_000 {
		if !tab.busy() {
			t.Error("it is not busy")
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestYield_MissesInARow: one that is over in between begins the count anew.
func TestYield_MissesInARow(t *testing.T) {
	var y yielding
	y.note(1, 2, false)
	y.note(1, 2, true)
	for range yieldMisses - 1 {
		y.note(1, 2, false)
	}
	if y.due(3) != yields {
		t.Error("given up too early")
	}
}

// TestYield_GivesNoTurnToACrowd: a leader that tries, and finds a crowd, goes on at
// once: nobody else has run.
func TestYield_GivesNoTurnToACrowd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 20
	turns := 0
	for range rounds {
		s := &shard[int, int]{table: newTable(config[int, int]{}, Hooks[int]{})}
		f := s.takeOwn(nil)
		s.leadOwn(f, 1, 1)
		f.seated = 1
		var ran atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { ran.Add(1) }) // all on one P
		}
		var c call[int, int]
		s.yield(&c, f, tries)
		if ran.Load() > 0 {
			turns++
		}
		wg.Wait()
	}
	// The scheduler may interrupt it.
	if turns > rounds/2 {
		t.Errorf("others had a turn in %d of %d tries", turns, rounds)
	}
}

// untilLocked waits until a goroutine that has called the function of the given name
// waits for a lock.
func untilLocked(t *testing.T, name string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			state, calls, _ := strings.Cut(g, "\n")
			if strings.Contains(state, "[sync.Mutex.Lock") && strings.Contains(calls, name) {
				return
			}
		}
	}
	t.Fatalf("nobody waits for a lock in %s", name)
}

// TestStats_ReadUnderTheLock: Stats and Len look at nothing before they have the lock.
func TestStats_ReadUnderTheLock(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s, l := g.use().shards[0], g.use().lingering
	stats, length := make(chan Stats), make(chan int)

	s.mu.Lock()
	go func() { stats <- g.Stats() }()
	untilLocked(t, ").Stats(")
	s.led++
	s.mu.Unlock()
	if st := <-stats; st.Led != 1 {
		t.Errorf("Led is %d, want 1", st.Led)
	}

	l.mu.Lock()
	go func() { stats <- g.Stats() }()
	untilLocked(t, ").Stats(")
	l.evicted++
	l.mu.Unlock()
	if st := <-stats; st.Evicted != 1 {
		t.Errorf("Evicted is %d, want 1", st.Evicted)
	}

	s.mu.Lock()
	go func() { length <- g.Len() }()
	untilLocked(t, ").Len(")
	s.count++
	s.mu.Unlock()
	if n := <-length; n != 1 {
		t.Errorf("Len is %d, want 1", n)
	}
}

// TestStats_OfAMoment: the counters of one shard are those of one moment. Where that
// cannot be seen, the race detector judges.
func TestStats_OfAMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s, l := g.use().shards[0], g.use().lingering
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			s.rare = rareCounts{n, n, n, n, n, n, n, n}
			s.led, s.joined = n, n
			s.mu.Unlock()
			l.mu.Lock()
			l.evicted++
			l.mu.Unlock()
		}
	})
	for range 20_000 {
		st := g.Stats()
		n := st.Led
		st.Evicted = 0
		if want := (Stats{3 * n, n, n, 0, n, 0, n, n, n, n, n, n, n, 0, 0}); st != want {
			t.Errorf("%+v", st)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestFlights_OfAMoment: the flights of one shard are those of one moment: one that
// goes from the first bucket to the last and back is there once.
func TestFlights_OfAMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	s := g.use().shards[0]
	const last = 99
	flights := make([]flight[int, int], last+2)
	for i := range flights {
		f := &flights[i]
		f.key, f.hash = i, uint32(i%last)
		s.link(f)
	}
	one := &flights[0]
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			s.unlink(one)
			one.hash = last - one.hash
			s.link(one)
			s.mu.Unlock()
		}
	})
	var seen []Flight[int]
	for range 2_000 {
		seen = s.appendFlights(seen[:0])
		if len(seen) != len(flights) {
			t.Errorf("%d flights, want %d", len(seen), len(flights))
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestDeadlock_DroppedUnderTheLock: an edge is not removed before graph is held.
func TestDeadlock_DroppedUnderTheLock(t *testing.T) {
	from, to := new(flightContext), &flight[int, int]{more: &more[int, int]{ctx: new(flightContext)}}
	e := &edge{from: from}
	graph.Lock()
	point(e, to)
	dropped := make(chan struct{})
	go func() {
		e.drop()
		close(dropped)
	}()
	untilLocked(t, ".(*edge).drop(")
	if from.edges != e {
		t.Error("the edge has been removed")
	}
	graph.Unlock()
	<-dropped
	if from.edges != nil {
		t.Error("the edge has not been removed")
	}
}

// TestDeadlock_DroppedTogether: calls of one fn that return at the same time leave no
// edge. The race detector judges, too.
func TestDeadlock_DroppedTogether(t *testing.T) {
	const each = 5_000
	from, to := new(flightContext), &flight[int, int]{more: &more[int, int]{ctx: new(flightContext)}}
	var wg sync.WaitGroup
	for range 4 {
		edges := make([]*edge, each)
		graph.Lock()
		for i := range edges {
			edges[i] = &edge{from: from}
			point(edges[i], to)
		}
		graph.Unlock()
		wg.Go(func() {
			for _, e := range edges {
				e.drop()
			}
		})
	}
	wg.Wait()
	if n := edgesOf(t, from); n != 0 || to.more.ctx.waited != 0 {
		t.Errorf("%d edges, %d are counted, want none", n, to.more.ctx.waited)
	}
}

// TestDeadlock_OthersNeedNoGraph: a call that was not made by an fn does not wait for
// the graph's lock, be it queued, or leaving (D1).
func TestDeadlock_OthersNeedNoGraph(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	release := make(chan struct{})
	held := func(context.Context) (int, error) { <-release; return 1, nil }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	graph.Lock()
	wg.Go(func() { _, _, _ = g.DoContext(ctx, 1, held) })
	wg.Go(func() { _, _, _ = g.DoFresh(ctx, 1, held) })
	wg.Go(func() { <-g.DoChan(ctx, 1, held) })
	for g.Stats().Led+g.Stats().Joined < 3 {
		runtime.Gosched()
	}
	cancel()
	returned := make(chan struct{})
	go func() {
		wg.Wait()
		close(returned)
	}()
	select {
	case <-returned:
	case <-time.After(3 * time.Second): // whatever waits for the lock never returns
		t.Error("a call waits for the graph's lock")
	}
	graph.Unlock()
	close(release)
	<-returned
}
