package coalesce_test

// The race tests run without the race detector, too: package sync's files of
// this name carry a build tag, this one does not. Some bugs show only without
// the detector, which slows everything down, and some only with it. More storms
// are in internal/verify/storm.
//
//	go test -run Storm -cpu 1,2,4,8 . ./internal/verify/storm
//	go test -run Storm -race . ./internal/verify/storm
//	go test -run Storm -gcflags=all=-d=maymorestack=runtime.mayMoreStackPreempt . ./internal/verify/storm
//	COALESCE_STORM=100 go test -run Storm -timeout 4h . ./internal/verify/storm

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
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// TestStorm checks that, with callers, contexts and fns at work at once, each call
// gets a result that the contract allows: one of its key, from an execution that it
// overlapped, and the only one of its time unless Forget let in another; and that
// in the end nothing is left and everything is counted.
func TestStorm(t *testing.T) {
	storm.SilenceLog(t)
	var total coalesce.Stats
	calls := 1000
	if testing.Short() {
		calls = 100
	}
	i := 0
	for range storm.Scale(t) {
		for _, keys := range []int{1, 2, 64, 10_000} {
			for _, cancel := range []int{0, 20} {
				for _, forget := range []int{0, 1, 5} {
					// The rest goes round at different speeds, so that few
					// storms meet all pairs.
					procs := []int{2, 8, 1, 4}[(i+i/4)%4]
					hash := (i + i/3) % len(storm.Hashes)
					shards := i / 2 % 2
					i++
					name := fmt.Sprintf("keys=%d/cancel=%d/forget=%d/procs=%d/hash=%s/shards=%d",
						keys, cancel, forget, procs, storm.Hashes[hash].Name, shards)
					t.Run(name, func(t *testing.T) {
						s := storm.Storm{Clients: 8, Calls: calls, Keys: keys, Cancel: cancel, Forget: forget}
						g := &storm.Group{Shards: shards, Hash: storm.Hashes[hash].Hash}
						st := storm.Check(t, &s, g, procs, storm.Hashes[hash].Values)
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
		t.Errorf("got %+v, want each event in some storm", total)
	}
}

// TestStorm_Nested checks that a group may be called from inside its fns.
func TestStorm_Nested(t *testing.T) {
	storm.SilenceLog(t)
	s := storm.Storm{Clients: 8, Calls: storm.Scaled(t, 200), Keys: 4, Cancel: 20, Nest: true}
	storm.Check(t, &s, new(storm.Group), 4, 0)
}

// TestStorm_Shutdown checks that after a nil return of Shutdown no execution runs or
// starts, that their effects are visible, that the callers all return, and that later
// calls get ErrClosed.
func TestStorm_Shutdown(t *testing.T) {
	storm.SilenceLog(t)
	for i := range storm.Scaled(t, 12) {
		kit.SetProcs(t, []int{1, 2, 4, 8}[i%4])
		s := storm.Storm{
			Clients: 8, Calls: 2000, Keys: []int{1, 2, 200}[i%3], Cancel: 10, Nest: true,
			UntilClosed: true, Seed: rand.Uint64(),
		}
		s.Runs = make([]int, s.Keys)
		g := &storm.Group{Shards: i % 2}
		goroutines := runtime.NumGoroutine()
		wait := s.Start(g)
		time.Sleep(rand.N(3 * time.Millisecond))
		closing := history.Now()
		if err := g.Shutdown(context.Background()); err != nil {
			t.Fatalf("Shutdown: got %v, want nil", err)
		}
		closed := history.Now()
		if g.Len() != 0 || storm.CountFlights(g) != 0 {
			t.Errorf("got %d keys and %d flights after Shutdown, want none", g.Len(), storm.CountFlights(g))
		}
		runs := 0
		for _, n := range s.Runs {
			runs += n
		}
		if led := g.Stats().Led; uint64(runs) != led {
			t.Errorf("got %d executions visible after Shutdown, want %d as Stats.Led", runs, led)
		}
		h := wait()
		h.Closing = closing
		wantClosed(t, h, closed)
		storm.WantQuiet(t, g, goroutines)
		if err := h.Check(); err != nil {
			t.Errorf("seed %d: got %v, want nil", s.Seed, err)
		}
		storm.WantStats(t, g, h)
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
				t.Errorf("fn of %v: got a run in [%d, %d], want none after Shutdown had returned at %d", c.Token, c.Exec.Start, c.Exec.End, closed)
			}
			if c.Inv > closed && c.Got != history.GotClosed && c.Got != history.GotOwnEnd {
				t.Errorf("%v: got reply %d after Shutdown had returned, want ErrClosed", c.Token, c.Got)
			}
		}
	}
}

// TestStorm_ShutdownOutOfTime checks that a Shutdown whose context ends cancels the
// flights that it can, with cause ErrClosed, that all callers then return, and that a
// second Shutdown finds no flight running.
func TestStorm_ShutdownOutOfTime(t *testing.T) {
	for i := range storm.Scaled(t, 4) {
		kit.SetProcs(t, []int{1, 2, 4, 8}[i%4])
		g := new(storm.Group)
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
			t.Errorf("Shutdown: got %v, want its context's error", err)
		}
		cancel()
		calls.Wait()
		for _, err := range errs {
			if err != coalesce.ErrClosed {
				t.Fatalf("a call: got %v, want ErrClosed, as its fn's cause or because it came too late", err)
			}
		}
		if err := g.Shutdown(context.Background()); err != nil {
			t.Errorf("second Shutdown: got %v, want nil", err)
		}
		storm.WantQuiet(t, g, goroutines)
	}
}

// TestStorm_OppositeOrders checks that calls of DoMulti for the same keys in opposite
// orders, from many goroutines, wait for each other in no cycle, load no key twice at a
// time, and give each key its own value, never one that an earlier call got.
func TestStorm_OppositeOrders(t *testing.T) {
	const keys = 100
	for _, procs := range []int{2, 8} {
		kit.SetProcs(t, procs)
		var g coalesce.Group[int, [2]int64]
		var running, loads, newest [keys]atomic.Int64
		fn := func(_ context.Context, keys []int) (map[int][2]int64, error) {
			m := make(map[int][2]int64, len(keys))
			for _, k := range keys {
				if running[k].Add(1) > 1 {
					t.Errorf("key %d: got two loads at a time, want one", k)
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
					t.Errorf("key %d: got %+v, want a later load than %d", k, v, had[k])
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
				for n := range storm.Scaled(t, 30) {
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
			t.Fatal("got calls that wait for each other, want all answered")
		}
		st := g.Stats()
		if st.Joined == 0 || st.Calls != st.Led+st.Joined || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want each call led or joined, 0", st, g.Len())
		}
	}
}
