package storm_test

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the storms on one hot key: thousands of callers at once.

// theirs is the token of the one execution of these storms.
var theirs = history.Token{Key: 1, Client: 0, Call: 1}

// TestStorm_HotKey checks that of thousands of calls of all forms in one flight, those
// whose contexts end get their own error, all others get the one value and the one error,
// and all of them report that they shared it.
func TestStorm_HotKey(t *testing.T) {
	for _, procs := range []int{1, 2, 8} {
		kit.SetProcs(t, procs)
		n := 12_000
		if testing.Short() {
			n = 4_500 // still several blocks of waiters
		}
		g := new(storm.Group)
		goroutines := runtime.NumGoroutine()
		release := make(chan struct{})
		want := &history.FnError{Of: theirs}
		fn := func() (history.Token, error) {
			<-release
			return theirs, want
		}
		ctxFn := func(context.Context) (history.Token, error) { return fn() }

		type gotten struct {
			v      history.Token
			shared bool
			err    error
		}
		all := make([]gotten, n)
		var calls sync.WaitGroup
		var leave []context.CancelFunc
		start := func(i int) {
			ctx, cancel := context.WithCancel(context.Background())
			if i%4 == 1 {
				leave = append(leave, cancel)
			}
			calls.Go(func() {
				defer cancel()
				r := &all[i]
				switch i % 3 {
				case 0:
					r.v, r.shared, r.err = g.Do(1, fn)
				case 1:
					r.v, r.shared, r.err = g.DoContext(ctx, 1, ctxFn)
				case 2:
					res := <-g.DoChan(ctx, 1, ctxFn)
					r.v, r.shared, r.err = res.Val, res.Shared, res.Err
				}
			})
		}
		start(0) // leads, on its own goroutine
		if !kit.Eventually(func() bool { return g.Len() == 1 }) {
			t.Fatal("got no call that leads, want one")
		}
		for i := 1; i < n; i++ {
			start(i)
		}
		waiters := func() (w int) {
			for f := range g.Flights() {
				w += f.Waiters
			}
			return w
		}
		if !kit.Eventually(func() bool { return waiters() == n-1 }) {
			t.Fatalf("got %d calls that wait, want %d", waiters(), n-1)
		}
		for _, end := range leave {
			end()
		}
		left := 0
		for i := range n {
			if i%4 == 1 && i%3 != 0 {
				left++
			}
		}
		if !kit.Eventually(func() bool { return waiters() == n-1-left }) {
			t.Fatalf("got %d calls that wait, want %d, all but those that left", waiters(), n-1-left)
		}
		close(release)
		calls.Wait()
		for i, r := range all {
			wantV, wantErr := theirs, error(want)
			if i%4 == 1 && i%3 != 0 {
				wantV, wantErr = history.Token{}, context.Canceled
			}
			if r.v != wantV || r.err != wantErr || !r.shared {
				t.Fatalf("call %d of %d: got %+v, want %v, true, %v", i, n, r, wantV, wantErr)
			}
		}
		storm.WantQuiet(t, g, goroutines)
		st := coalesce.Stats{Calls: uint64(n), Led: 1, Joined: uint64(n - 1), Left: uint64(left)}
		if g.Stats() != st {
			t.Errorf("got %+v, want %+v", g.Stats(), st)
		}
	}
}

// TestStorm_JoinAndLeave checks that calls which join one stuck flight or queue behind
// it, and leave again, from several goroutines and more at a time than wait on one
// channel, leave no memory behind and do not disturb the flight.
func TestStorm_JoinAndLeave(t *testing.T) {
	kit.SetProcs(t, 4)
	g := new(storm.Group)
	goroutines := runtime.NumGoroutine()
	release := make(chan struct{})
	leader := g.DoChan(context.Background(), 1, func(context.Context) (history.Token, error) {
		<-release
		return theirs, nil
	})
	never := func(context.Context) (history.Token, error) {
		t.Error("got a second execution, want one")
		return history.Token{}, nil
	}
	wave := func() {
		ctx, cancel := context.WithCancel(context.Background())
		var calls sync.WaitGroup
		for i := range 500 {
			calls.Go(func() {
				var err error
				switch i % 4 {
				case 0, 1:
					_, _, err = g.DoContext(ctx, 1, never)
				case 2:
					err = (<-g.DoChan(ctx, 1, never)).Err
				case 3:
					_, _, err = g.DoFresh(ctx, 1, never)
				}
				if err != context.Canceled {
					t.Errorf("a call that left: got %v, want %v", err, context.Canceled)
				}
			})
		}
		for range 100 {
			runtime.Gosched() // so that some have joined; others find ctx ended
		}
		cancel()
		calls.Wait()
	}
	// Six of these waves at a time are some 1,500 calls of DoContext.
	const workers = 6
	waves := func(n int) {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range n {
					wave()
				}
			})
		}
		wg.Wait()
	}
	waves(3) // by then the runtime keeps its part of so many goroutines
	before := kit.Heap()
	n := storm.Scaled(t, 4)
	waves(n)
	// Eight bytes for each would be too many. The runtime's own descriptors of
	// goroutines may be a few more than in the first waves.
	if grown, calls := kit.Heap()-before, workers*n*500; grown > max(512<<10, 8*int64(calls)) {
		t.Errorf("got a heap that has grown by %d KiB through %d calls that left, want less", grown>>10, calls)
	}
	for f := range g.Flights() {
		if f.State != coalesce.StateRunning || f.Waiters != 0 {
			t.Errorf("got %+v, want a running flight without waiters", f)
		}
	}
	st := g.Stats()
	if st.Led != 1 || st.Left+st.EndedOnEntry != uint64(workers*(n+3)*500) || 10*st.Left < st.EndedOnEntry {
		t.Errorf("got %+v, want 1 led, %d left or ended on entry", st, workers*(n+3)*500)
	}
	close(release)
	if res := <-leader; res.Val != theirs || res.Err != nil || !res.Shared {
		t.Errorf("the leader: got %+v, want its own token, shared", res)
	}
	storm.WantQuiet(t, g, goroutines)
}
