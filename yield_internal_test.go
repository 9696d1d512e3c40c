package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestYield_OneTriesAgain: where giving way took long, nobody does until many
// times that has passed; then one does, and all do when it has paid.
func TestYield_OneTriesAgain(t *testing.T) {
	var y yielding
	due := func(now int64, want way) {
		t.Helper()
		if got := y.due(now); got != want {
			t.Fatalf("due(%d) = %v, after %d", now, got, y.after.Load())
		}
	}
	const took = yieldPause // so that the share of it is longer than the pause
	due(1, yields)
	y.note(1, 1+took, true) // over, but it took long
	due(2, yields)          // which can happen once
	y.note(2, 3, true)
	y.note(1, 1+took, true)
	due(2, yields)
	y.note(1, 1+took, true)
	next := 1 + took + yieldShare*took
	due(next-1, parks)
	due(next, tries)
	due(next, parks) // as one tries
	y.note(2, 3, true)
	due(next+1, parks) // that was another
	y.note(next, next+2*took, false)
	next += (1 + yieldShare) * 2 * took
	due(next-1, parks)
	due(next, tries)
	y.note(next, next+1, true)
	due(next+2, yields)
	due(next+3, yields)
}

// TestYield_Misses: an fn that is not over now and then is no reason to stop
// trying; one that never is, is.
func TestYield_Misses(t *testing.T) {
	var y yielding
	for range 10 {
		for range yieldMisses - 1 {
			y.note(1, 2, false)
		}
		y.note(1, 2, true)
	}
	if y.due(3) != yields {
		t.Fatal("given up, though it has paid")
	}
	for range yieldMisses {
		y.note(1, 2, false)
	}
	if y.due(1+yieldPause) != parks || y.due(2+yieldPause) != tries {
		t.Error("not given up for a pause")
	}
}

// TestYield_ShortFn: a leader whose fn is over at once needs no channel.
func TestYield_ShortFn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fn := func(context.Context) (int, error) { return 7, nil }
	for try := 1; ; try++ {
		var g Group[int, int]
		y := &g.use().yields
		n := testing.AllocsPerRun(100, func() { // on one P, so that nobody else runs the leader
			y.after.Store(0) // whatever the calls before have taught
			if v, shared, err := g.DoContext(ctx, 1, fn); v != 7 || shared || err != nil {
				t.Errorf("got %d, %v, %v", v, shared, err)
			}
		})
		if n <= 1 {
			return
		}
		if try == 20 { // on a busy machine giving way can take long
			t.Fatalf("%v allocations", n)
		}
	}
}

// TestYield_Outcomes: a leader gets what its fn comes to, whether that is over
// when the leader goes on or not, and leaves at once when its context ends.
func TestYield_Outcomes(t *testing.T) {
	failure := errors.New("fn failed")
	for _, long := range []bool{false, true} {
		for _, procs := range []int{1, 4} {
			t.Run(fmt.Sprintf("long=%v procs=%d", long, procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				synctest.Test(t, func(t *testing.T) {
					var g Group[int, int]
					do := func(end func(cancel func()) (int, error)) (v int, err error) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						defer func() {
							if e, ok := recover().(*PanicError); ok {
								err = e
							}
						}()
						v, _, err = g.DoContext(ctx, 1, func(context.Context) (int, error) {
							if long {
								time.Sleep(time.Second)
							}
							return end(cancel)
						})
						return v, err
					}
					if v, err := do(func(func()) (int, error) { return 1, nil }); v != 1 || err != nil {
						t.Errorf("got %d, %v", v, err)
					}
					if v, err := do(func(func()) (int, error) { return 2, failure }); v != 2 || err != failure {
						t.Errorf("got %d, %v", v, err)
					}
					var e *PanicError
					if _, err := do(func(func()) (int, error) { panic(failure) }); !errors.As(err, &e) || e.Value != failure {
						t.Errorf("got %v", err)
					}
					if _, err := do(func(func()) (int, error) { runtime.Goexit(); return 0, nil }); err != ErrGoexit {
						t.Errorf("got %v", err)
					}
					began := time.Now()
					_, err := do(func(cancel func()) (int, error) {
						cancel()
						time.Sleep(time.Hour)
						return 0, nil
					})
					if err != context.Canceled || time.Since(began) > 2*time.Second {
						t.Errorf("got %v after %v", err, time.Since(began))
					}
					time.Sleep(2 * time.Hour) // fn goes on
				})
			})
		}
	}
}

// TestYield_KeepsItsSeat: a leader that gives way is woken with the first, though
// hundreds have joined meanwhile.
func TestYield_KeepsItsSeat(t *testing.T) {
	s := &shard[int, int]{group: newGroupState(config[int, int]{}, Hooks[int]{})}
	f := s.takeOwn(nil)
	s.leadOwn(f, 1, 1)
	f.seated = 1
	var c call[int, int]
	for range 2 * perCompletion {
		s.join(f)
		f.wait()
	}
	if s.yield(&c, f, yields) || c.w.done != f.done || c.w.block != nil || f.seated != perCompletion {
		t.Errorf("%+v, %d seats taken", c.w, f.seated)
	}
}

// TestYield_LongFn: a leader whose fn goes on waits for it, and no longer gives
// way when that has happened too often.
func TestYield_LongFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		y := &g.use().yields
		y.after.Store(0) // it has paid so far
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range yieldMisses {
			if y.after.Load() > 0 {
				t.Fatalf("given up after %d calls", i)
			}
			v, shared, err := g.DoContext(ctx, i, func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return i, nil
			})
			if v != i || shared || err != nil {
				t.Errorf("got %d, %v, %v", v, shared, err)
			}
		}
		if y.after.Load() == 0 {
			t.Error("it would go on")
		}
	})
}

// TestYield_NotWithHooks: a leader whose goroutine a hook ends leaves, and has to
// have a seat to give back.
func TestYield_NotWithHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, Hooks: Hooks[int]{Start: func(Event[int]) { runtime.Goexit() }}}
		s := g.use().shards[0]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { time.Sleep(time.Second); return 1, nil })
		synctest.Wait()
		s.mu.Lock()
		for f := range s.all() {
			if f.seated != 0 {
				t.Errorf("%d seats taken, by nobody", f.seated)
			}
		}
		s.mu.Unlock()
		time.Sleep(time.Minute) // fn has ended
	})
}

// TestYield_NotInACrowd: where goroutines compute on all Ps, a leader would wait for
// a turn of each of them. The first one parks, and so do those that look again.
func TestYield_NotInACrowd(t *testing.T) {
	var (
		g    Group[int, int]
		stop atomic.Bool
		wg   sync.WaitGroup
	)
	for range 8 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	for !sched.Crowded() {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	y := &g.use().yields
	for i := range 20 {
		y.after.Store(1) // it is time to try
		if v, _, err := g.DoContext(ctx, i, func(context.Context) (int, error) { return i, nil }); v != i || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
		if after, misses := y.after.Load(), y.misses.Load(); after <= 1 || misses != 0 {
			t.Fatalf("call %d gave way: after %d, %d misses", i, after, misses)
		}
	}
}

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
		s := &shard[int, int]{group: newGroupState(config[int, int]{}, Hooks[int]{})}
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
