package coalesce_test

// The race tests run without the race detector, too: package sync's files of
// this name carry a build tag, this one does not. Some bugs show only without
// the detector, which slows everything down, and some only with it.
//
//	go test -run Storm -cpu 1,2,4,8
//	go test -run Storm -race
//	go test -run Storm -gcflags=all=-d=maymorestack=runtime.mayMoreStackPreempt
//	COALESCE_STORM=100 go test -run Storm -timeout 4h

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
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/history"
	"github.com/seed342dcb2d/coalesce/internal/storm"
)

type stormGroup = coalesce.Group[int, history.Token]

// stormHashes are the placements of keys that the storms try. The degenerate
// ones pile keys up in one bucket, or in sixteen.
var stormHashes = []struct {
	name   string
	hash   func(int) uint64
	values int // how many hashes there are at most, 0 for as many as keys
}{
	{"default", nil, 0},
	{"constant", func(int) uint64 { return 42 }, 1},
	{"and15", func(k int) uint64 { return uint64(k) & 15 }, 16},
}

// setProcs sets GOMAXPROCS until the test is over.
func setProcs(t *testing.T, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// eventually waits until cond holds, and reports whether it does in the end.
func eventually(cond func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Microsecond)
	}
	return true
}

func countFlights(g *stormGroup) (n int) {
	for range g.Flights() {
		n++
	}
	return n
}

// wantQuiet checks that g comes to rest with nothing kept: no flight, no key, no
// record but in the free lists, no goroutine more than there were before.
func wantQuiet(t *testing.T, g *stormGroup, goroutines int) {
	t.Helper()
	if !eventually(func() bool { return countFlights(g) == 0 }) {
		t.Errorf("%d flights are left after the storm", countFlights(g))
	}
	if n := g.Len(); n != 0 {
		t.Errorf("Len() = %d after the storm, want 0", n)
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines after the storm, %d before:\n%s", runtime.NumGoroutine(), goroutines,
			buf[:runtime.Stack(buf, true)])
	}
	if err := storm.AtRest(g); err != nil {
		t.Error(err)
	}
}

// wantStats checks g's counters against the history of all calls that were
// made. g must be quiescent.
func wantStats(t *testing.T, g *stormGroup, h *history.History) {
	t.Helper()
	st := g.Stats()
	var want coalesce.Stats
	received := map[history.Token]int{} // by execution, or batch
	panicked := map[history.Token]int{} // likewise, calls that panicked with it
	batches := map[history.Token]history.Token{}
	for _, client := range h.Calls {
		for _, c := range client {
			if c.Exec.Batch != (history.Token{}) {
				batches[c.Token] = c.Exec.Batch
			}
		}
	}
	name := func(of history.Token) history.Token {
		if b, ok := batches[of]; ok {
			return b
		}
		return of
	}
	var left, nameless uint64
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Inv == 0 {
				continue
			}
			want.Calls++
			if c.Exec.Runs > 0 {
				want.Led++
				switch c.Exec.How {
				case history.ExitPanic:
					want.Panics++
				case history.ExitGoexit:
					want.Goexits++
				}
			}
			switch c.Got {
			case history.GotResult:
				received[name(c.From)]++
				if c.How == history.ExitPanic && c.Mute {
					panicked[name(c.From)]++
				}
			case history.GotGoexit, history.GotAbsent:
				received[name(c.Token)]++
				nameless++
			case history.GotOwnEnd:
				left++
			case history.GotInFlight, history.GotClosed:
				want.Rejected++
			}
		}
	}
	var alone, aloneNameless, aloneBatched uint64 // executions that no call received, and that were not held
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Exec.Runs > 0 && c.Exec.How == history.ExitPanic && panicked[name(c.Token)] == 0 && name(c.Token) == c.Token {
				want.PanicsLogged++ // once for a batch
			}
			if c.Exec.Runs == 0 || received[name(c.Token)] > 0 || c.Exec.Held {
				continue
			}
			alone++
			if c.Exec.Batch != (history.Token{}) {
				aloneBatched++ // its last caller may have left when others had finished
			}
			if c.Exec.How == history.ExitGoexit || c.Exec.How == history.ExitAbsent {
				aloneNameless++ // or received by followers that do not know it
			}
		}
	}
	if st.Calls != st.Led+st.Joined+st.Rejected+st.EndedOnEntry {
		t.Errorf("the classes of %+v do not add up", st)
	}
	if left != st.Left+st.EndedOnEntry {
		t.Errorf("%d calls got their context's error, Stats has Left %d and Ended %d", left, st.Left, st.EndedOnEntry)
	}
	if st.Abandoned > alone || st.Abandoned+aloneBatched+min(aloneNameless, nameless) < alone {
		t.Errorf("no call received %d executions, Stats has Abandoned %d", alone, st.Abandoned)
	}
	var forgets, unshared uint64 // ForgetUnshared does not report what it dropped
	for _, client := range h.Forgets {
		for _, f := range client {
			switch {
			case f.Func:
				forgets += uint64(f.Count)
			case f.Done && f.Unshared:
				unshared++
			case f.Done:
				forgets++
			}
		}
	}
	if st.Forgotten < forgets || st.Forgotten > forgets+unshared {
		t.Errorf("%d flights were forgotten, and up to %d if unshared, Stats has Forgotten %d", forgets, unshared, st.Forgotten)
	}
	want.Joined, want.EndedOnEntry, want.Left = st.Joined, st.EndedOnEntry, st.Left
	want.Abandoned, want.Forgotten = st.Abandoned, st.Forgotten
	if st != want {
		t.Errorf("Stats() = %+v, want %+v", st, want)
	}
}

// TestStorm checks that whatever callers, contexts and fns do at once, each
// call gets what the contract allows: a result of its key, from an execution
// that it overlapped, and the only one of its time unless Forget let in
// another; and that in the end nothing is left and everything is counted.
func TestStorm(t *testing.T) {
	storm.SilenceLog(t)
	var total coalesce.Stats
	calls := 1000
	if testing.Short() {
		calls = 100
	}
	i := 0
	for range stormScale(t) {
		for _, keys := range []int{1, 2, 64, 10_000} {
			for _, cancel := range []int{0, 20} {
				for _, forget := range []int{0, 1, 5} {
					// The rest goes round at different speeds, so that few
					// storms meet all pairs.
					procs := []int{2, 8, 1, 4}[(i+i/4)%4]
					hash := (i + i/3) % len(stormHashes)
					shards := i / 2 % 2
					i++
					name := fmt.Sprintf("keys=%d/cancel=%d/forget=%d/procs=%d/hash=%s/shards=%d",
						keys, cancel, forget, procs, stormHashes[hash].name, shards)
					t.Run(name, func(t *testing.T) {
						s := storm.Storm{Clients: 8, Calls: calls, Keys: keys, Cancel: cancel, Forget: forget}
						g := &stormGroup{Shards: shards, Hash: stormHashes[hash].hash}
						st := testStorm(t, &s, g, procs, stormHashes[hash].values)
						total.Joined += st.Joined
						total.Left += st.Left
						total.EndedOnEntry += st.EndedOnEntry
						total.Abandoned += st.Abandoned
						total.Forgotten += st.Forgotten
						total.Panics += st.Panics
						total.Goexits += st.Goexits
						total.Rejected += st.Rejected
						total.Calls += st.Calls
						total.Led += st.Led
						total.PanicsLogged += st.PanicsLogged
					})
				}
			}
		}
	}
	t.Logf("%+v", total)
	if min(total.Joined, total.Left, total.EndedOnEntry, total.Abandoned, total.Forgotten, total.Panics, total.Goexits, total.Rejected) == 0 {
		t.Error("something never happened in any storm")
	}
}

// testStorm lets s loose on g and checks everything that is known of the
// outcome.
func testStorm(t *testing.T, s *storm.Storm, g *stormGroup, procs, hashes int) coalesce.Stats {
	setProcs(t, procs)
	if g.Hash != nil {
		seen := map[uint64]bool{}
		for k := range s.Keys {
			seen[g.Hash(k)] = true
		}
		if len(seen) > hashes {
			t.Fatalf("%d keys have %d hashes, want at most %d: the storm is not what it is meant to be", s.Keys, len(seen), hashes)
		}
	}
	s.Seed = rand.Uint64()
	if s.Forget == 0 {
		s.Runs = make([]int, s.Keys)
	}
	goroutines := runtime.NumGoroutine()
	h := s.Start(g)()
	wantQuiet(t, g, goroutines)
	if err := h.Check(); err != nil {
		t.Errorf("seed %d: %v", s.Seed, err)
	}
	wantStats(t, g, h)
	if s.Runs != nil {
		n := 0
		for _, r := range s.Runs {
			n += r
		}
		if led := g.Stats().Led; uint64(n) != led {
			t.Errorf("%d executions were counted one after the other, Stats has Led %d", n, led)
		}
	}
	return g.Stats()
}

// TestStorm_Nested checks that a group may be called from inside its fns.
func TestStorm_Nested(t *testing.T) {
	storm.SilenceLog(t)
	s := storm.Storm{Clients: 8, Calls: scaled(t, 200), Keys: 4, Cancel: 20, Nest: true}
	testStorm(t, &s, new(stormGroup), 4, 0)
}

// TestStorm_Shutdown checks that after a nil return of Shutdown no execution
// runs or starts, that what they did is visible, that the callers all return,
// and that those who come later get ErrClosed.
func TestStorm_Shutdown(t *testing.T) {
	storm.SilenceLog(t)
	for i := range scaled(t, 12) {
		setProcs(t, []int{1, 2, 4, 8}[i%4])
		s := storm.Storm{
			Clients: 8, Calls: 2000, Keys: []int{1, 2, 200}[i%3], Cancel: 10, Nest: true,
			UntilClosed: true, Seed: rand.Uint64(),
		}
		s.Runs = make([]int, s.Keys)
		g := &stormGroup{Shards: i % 2}
		goroutines := runtime.NumGoroutine()
		wait := s.Start(g)
		time.Sleep(rand.N(3 * time.Millisecond))
		closing := history.Now()
		if err := g.Shutdown(context.Background()); err != nil {
			t.Fatalf("Shutdown() = %v, want nil", err)
		}
		closed := history.Now()
		if g.Len() != 0 || countFlights(g) != 0 {
			t.Errorf("%d keys and %d flights after Shutdown, want none", g.Len(), countFlights(g))
		}
		runs := 0
		for _, n := range s.Runs {
			runs += n
		}
		if led := g.Stats().Led; uint64(runs) != led {
			t.Errorf("%d executions are visible after Shutdown, Stats has Led %d", runs, led)
		}
		h := wait()
		h.Closing = closing
		wantClosed(t, h, closed)
		wantQuiet(t, g, goroutines)
		if err := h.Check(); err != nil {
			t.Errorf("seed %d: %v", s.Seed, err)
		}
		wantStats(t, g, h)
		if t.Failed() {
			return
		}
	}
}

// wantClosed checks that the calls of h respect that Shutdown had returned nil
// at the instant closed.
func wantClosed(t *testing.T, h *history.History, closed history.Stamp) {
	t.Helper()
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Exec.Runs > 0 && (c.Exec.Start > closed || c.Exec.End > closed) {
				t.Errorf("fn of %v ran in [%d, %d], Shutdown had returned at %d", c.Token, c.Exec.Start, c.Exec.End, closed)
			}
			if c.Inv > closed && c.Got != history.GotClosed && c.Got != history.GotOwnEnd {
				t.Errorf("%v began after Shutdown had returned and got reply %d, want ErrClosed", c.Token, c.Got)
			}
		}
	}
}

// TestStorm_ShutdownOutOfTime checks that a Shutdown whose context ends cancels
// what it can with cause ErrClosed, that all callers then return, and that a
// second Shutdown finds nothing running.
func TestStorm_ShutdownOutOfTime(t *testing.T) {
	for i := range scaled(t, 4) {
		setProcs(t, []int{1, 2, 4, 8}[i%4])
		g := new(stormGroup)
		goroutines := runtime.NumGoroutine()
		const keys = 50
		var started, calls sync.WaitGroup
		started.Add(keys)
		errs := make([]error, 2*keys)
		for k := range keys {
			fn := func(ctx context.Context) (history.Token, error) {
				started.Done()
				<-ctx.Done()
				return history.Token{}, context.Cause(ctx)
			}
			call := func(i int) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				_, _, errs[i] = g.DoContext(ctx, k, fn)
			}
			calls.Go(func() { call(2 * k) })
			calls.Go(func() { call(2*k + 1) })
		}
		started.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%3)*time.Millisecond)
		if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want its context's error", err)
		}
		cancel()
		calls.Wait()
		for _, err := range errs {
			if err != coalesce.ErrClosed {
				t.Fatalf("a call got %v, want ErrClosed: as its fn's cause, or because it came too late", err)
			}
		}
		if err := g.Shutdown(context.Background()); err != nil {
			t.Errorf("second Shutdown() = %v, want nil", err)
		}
		wantQuiet(t, g, goroutines)
	}
}

// TestStorm_OppositeOrders checks that calls of DoMulti for the same keys in
// opposite orders, from many goroutines, wait for each other in no cycle, load
// no key twice at a time, and give each key its own value and never one that
// another had before.
func TestStorm_OppositeOrders(t *testing.T) {
	const keys = 100
	for _, procs := range []int{2, 8} {
		setProcs(t, procs)
		var g coalesce.Group[int, [2]int64]
		var running, loads, newest [keys]atomic.Int64
		fn := func(_ context.Context, keys []int) (map[int][2]int64, error) {
			m := make(map[int][2]int64, len(keys))
			for _, k := range keys {
				if running[k].Add(1) > 1 {
					t.Errorf("key %d is loaded twice at a time", k)
				}
				m[k] = [2]int64{int64(k), loads[k].Add(1)}
			}
			runtime.Gosched()
			for _, k := range keys {
				running[k].Add(-1)
			}
			return m, nil
		}
		call := func(order []int) {
			var had [keys]int64
			for _, k := range order {
				had[k] = newest[k].Load()
			}
			r := g.DoMulti(context.Background(), order, fn)
			for _, k := range order {
				v := r[k]
				if v.Err != nil || v.Val[0] != int64(k) || v.Val[1] <= had[k] {
					t.Errorf("key %d: %+v, load %d was had before", k, v, had[k])
				}
				for n := newest[k].Load(); v.Val[1] > n && !newest[k].CompareAndSwap(n, v.Val[1]); n = newest[k].Load() {
				}
			}
		}
		var calls sync.WaitGroup
		for i := range 8 {
			calls.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 0))
				order := make([]int, keys)
				for k := range order {
					order[k] = k
				}
				if i%2 == 1 {
					slices.Reverse(order)
				}
				for n := range scaled(t, 30) {
					if n%4 == 3 {
						rng.Shuffle(keys, func(i, j int) { order[i], order[j] = order[j], order[i] })
					}
					call(order[:1+rng.IntN(keys)])
				}
			})
		}
		done := make(chan struct{})
		go func() { calls.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("the calls wait for each other")
		}
		st := g.Stats()
		if st.Joined == 0 || st.Calls != st.Led+st.Joined || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
	}
}
