package costs_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the time for which other calls can keep a call from its work.

// TestG16_LeaderDoesNotWaitForWaking: the leader of a flight with ten thousand waiters
// returns in at most five times the time that it takes with a hundred.
func TestG16_LeaderDoesNotWaitForWaking(t *testing.T) {
	for try := 1; ; try++ {
		few, many := leaderReturn(t, 100), leaderReturn(t, 10_000)
		t.Logf("leader's return: %v with 100 waiters, %v with 10000", few, many)
		limit := 5 * max(few, 5*time.Microsecond)
		if many <= limit {
			return
		}
		if try == 3 { // a busy machine can do that once
			t.Fatalf("got %v with 10000 waiters, want %v at most", many, limit)
		}
	}
}

// leaderReturn returns the median time from the end of fn to the return of Do.
func leaderReturn(t *testing.T, waiters int) time.Duration {
	var took []time.Duration
	for range 15 {
		var g kit.Group
		var end time.Time
		var wg sync.WaitGroup
		g.Do("k", func() (int, error) {
			for range waiters {
				wg.Go(func() { g.Do("k", kit.Value(0)) })
			}
			for kit.WaitersOf(&g, "k") < waiters {
				runtime.Gosched()
			}
			time.Sleep(time.Millisecond) // all are parked by now
			end = time.Now()
			return 1, nil
		})
		took = append(took, time.Since(end))
		wg.Wait()
	}
	return kit.Median(took)
}

// TestG16_OtherKeysWhileWaking: while ten thousand waiters of one key are woken, a call
// for another key of the same shard goes through.
func TestG16_OtherKeysWhileWaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1}
		h := kit.Hold()
		go g.Do("hot", h.Fn(1))
		<-h.Started
		for range 10_000 {
			go func() {
				g.Do("hot", kit.Value(0))
				g.Do("cold", kit.Value(0)) // from inside the waking, so to speak
			}()
		}
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		if st := g.Stats(); st.Calls != 20_001 || g.Len() != 0 {
			t.Errorf("got %+v, Len %d, want 20,001 calls, 0", st, g.Len())
		}
	})
}

// TestG16_WakingGoesOnWhereOthersWork: goroutines that never block, two for each P, do
// not keep the waker from going on. If it yielded to them after every block, the last of
// ten thousand would return after more than a second.
func TestG16_WakingGoesOnWhereOthersWork(t *testing.T) {
	if kit.RaceEnabled {
		t.Log("no such bound holds for the slower code under the race detector")
		return
	}
	kit.SetProcs(t, 2)
	for try := 1; ; try++ {
		took := lastReturnAmongHogs(10_000, 4)
		t.Logf("the last returned after %v", took)
		if took < 700*time.Millisecond {
			return
		}
		if try == 3 {
			t.Fatalf("got the last return after %v, want less than 700ms", took)
		}
	}
}

// lastReturnAmongHogs returns the time from the end of fn to the return of the last
// waiter, while so many goroutines use the processors.
func lastReturnAmongHogs(waiters, hogs int) time.Duration {
	var g kit.Group
	var calls, work sync.WaitGroup
	var enough atomic.Bool
	var end time.Time
	g.Do("k", func() (int, error) {
		for range waiters {
			calls.Go(func() { g.Do("k", kit.Value(0)) })
		}
		for kit.WaitersOf(&g, "k") < waiters {
			runtime.Gosched()
		}
		for range hogs {
			work.Go(func() {
				for !enough.Load() {
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		end = time.Now()
		return 1, nil
	})
	calls.Wait()
	took := time.Since(end)
	enough.Store(true)
	work.Wait()
	return took
}

// TestG16_KeysOfABatchDoNotDisturbEachOther: ten thousand waiters of one key delay
// neither the return of the DoMulti nor the waiter of another key by more than five times
// the delay of a hundred. (On a single P the goroutine that wakes them may run before the
// other key's waiter does.)
func TestG16_KeysOfABatchDoNotDisturbEachOther(t *testing.T) {
	kit.SetProcs(t, max(2, runtime.GOMAXPROCS(0)))
	for try := 1; ; try++ {
		few, fewOther := batchReturn(t, 100)
		many, manyOther := batchReturn(t, 10_000)
		t.Logf("DoMulti's return: %v with 100 waiters, %v with 10000; another key's waiter: %v, %v", few, many, fewOther, manyOther)
		limit, limitOther := 5*max(few, 20*time.Microsecond), 5*max(fewOther, 20*time.Microsecond)
		if many <= limit && manyOther <= limitOther {
			return
		}
		if try == 6 { // a busy machine can do that now and then
			t.Fatalf("got %v and %v with 10000 waiters, want %v and %v at most", many, manyOther, limit, limitOther)
		}
	}
}

// batchReturn returns the median time from the end of fn to the return of DoMulti, and to
// that of a Do that waits for the last key.
func batchReturn(t *testing.T, waiters int) (many, other time.Duration) {
	var took, tookOther []time.Duration
	for range 9 {
		var g kit.Group
		var end, otherEnd time.Time
		var wg sync.WaitGroup
		g.DoMulti(t.Context(), []string{"hot", "cold"}, func(context.Context, []string) (map[string]int, error) {
			for range waiters {
				wg.Go(func() { g.Do("hot", kit.Value(0)) })
			}
			wg.Go(func() {
				g.Do("cold", kit.Value(0))
				otherEnd = time.Now()
			})
			kit.Await(t, func() bool { return g.Stats().Joined == uint64(waiters+1) })
			time.Sleep(time.Millisecond) // all are parked by now
			end = time.Now()
			return nil, nil
		})
		took = append(took, time.Since(end))
		wg.Wait()
		tookOther = append(tookOther, otherEnd.Sub(end))
	}
	return kit.Median(took), kit.Median(tookOther)
}

// TestG4_LeaderInACrowd: a leader whose context ends returns at once, even if many
// goroutines compute: it does not wait for its turn among them. Quick calls come first,
// because a group that learned from them to let fn run before its leader parks returned
// half a second late here. Hooks for the start and the leaving of the call do not make it
// wait until fn's goroutine has a turn either.
func TestG4_LeaderInACrowd(t *testing.T) {
	if kit.RaceEnabled {
		t.Skip("in a race build, the runtime puts a woken goroutine behind the others at random")
	}
	start := func(context.Context, coalesce.Event[int]) context.Context { return nil }
	leave := func(context.Context, coalesce.Event[int]) {}
	for name, hooks := range map[string]coalesce.Hooks[int]{"plain": {}, "hooks": {Start: start, Leave: leave}} {
		const tries, limit = 5, 200 * time.Millisecond
		var took []time.Duration
		for range tries {
			took = append(took, leadInACrowd(t, &coalesce.Group[int, int]{Hooks: hooks}))
		}
		slices.Sort(took)
		if median := took[tries/2]; median > limit {
			t.Errorf("%s: got returns after %v for a deadline of 5ms, want half of them within %v", name, took, limit)
		}
	}
}

// leadInACrowd returns the time that a DoContext with a deadline of 5ms takes, with an fn
// that waits for its context to end, while 64 goroutines compute.
func leadInACrowd(t *testing.T, g *coalesce.Group[int, int]) time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3000 {
		_, _, _ = g.DoContext(ctx, 1, func(context.Context) (int, error) { return 1, nil })
	}
	var crowd sync.WaitGroup
	var over atomic.Bool
	for range 64 {
		crowd.Go(func() {
			for !over.Load() {
			}
		})
	}
	short, stop := context.WithTimeout(ctx, 5*time.Millisecond)
	defer stop()
	began := time.Now()
	_, _, err := g.DoContext(short, 1, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, nil
	})
	took := time.Since(began)
	over.Store(true)
	crowd.Wait()
	if err != context.DeadlineExceeded {
		t.Fatalf("got %v, want the deadline's error", err)
	}
	return took
}

// TestG16_GrowthOfTheIndex: while outcomes begin to linger by the million, no call for
// another key waits long for the index to grow.
//
// The delay of a busy machine differs from one try to the next, that of the index does
// not: each try makes it grow in the same way. So the shortest of a few tries counts.
func TestG16_GrowthOfTheIndex(t *testing.T) {
	outcomes, limit := 2_000_000, 60*time.Millisecond
	if kit.RaceEnabled {
		t.Skip("the race detector takes more time than the growth of the index")
	}
	if testing.Short() {
		outcomes /= 2 // with one index for the group, that took half a second
	}
	var slowest time.Duration
	for try := range 8 {
		if slowest = slowestBesideGrowth(outcomes); slowest <= limit {
			t.Logf("try %d: %v", try, slowest)
			return
		}
	}
	t.Errorf("got %v for the slowest call, want at most %v", slowest, limit)
}

// slowestBesideGrowth makes so many outcomes linger, and returns the time that the
// slowest of the calls for 1,000 other keys took meanwhile.
func slowestBesideGrowth(outcomes int) (slowest time.Duration) {
	g := coalesce.Group[int, int]{Linger: coalesce.Forever, Shards: 64}
	one := func() (int, error) { return 1, nil }
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-done:
				return
			default:
			}
			key := -1 - r.IntN(1000)
			began := time.Now()
			g.Do(key, one)
			g.Forget(key)
			slowest = max(slowest, time.Since(began))
			time.Sleep(50 * time.Microsecond)
		}
	})
	for key := range outcomes {
		g.Do(key, one)
	}
	close(done)
	wg.Wait()
	return slowest
}

// TestG16_CancelOfManyNestedCalls: the end of the context of an fn that has made a
// hundred thousand calls, which all leave then, does not keep calls for other keys
// waiting. When the Done channel was closed under the lock that these calls take to
// leave, they waited for a third of a second and more.
func TestG16_CancelOfManyNestedCalls(t *testing.T) {
	if kit.RaceEnabled {
		t.Skip("the race detector takes more time than the limit")
	}
	itself := func(ctx context.Context) context.Context { return ctx }
	var slowest, limit time.Duration
	for try := range 5 { // as in TestG16_GrowthOfTheIndex
		// Calls that are not nested leave one by one as well, and wake as many goroutines.
		limit = max(200*time.Millisecond, 4*slowestBesideCancel(t, 100_000, coalesce.Detach))
		if slowest = slowestBesideCancel(t, 100_000, itself); slowest <= limit {
			t.Logf("try %d: %v", try, slowest)
			return
		}
	}
	t.Errorf("got %v for the slowest call, want at most %v", slowest, limit)
}

// slowestBesideCancel cancels the context of an fn that has made so many calls, and
// returns the time that the slowest call for another key takes until they have left.
func slowestBesideCancel(t *testing.T, calls int, nested func(context.Context) context.Context) (slowest time.Duration) {
	var g coalesce.Group[int, int]
	untilEnd := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil }
	ctx, leave := context.WithCancel(t.Context())
	var made, left sync.WaitGroup
	made.Add(calls)
	left.Go(func() {
		_, _, _ = g.DoContext(ctx, -1, func(ctx context.Context) (int, error) {
			for key := range calls {
				left.Go(func() {
					_, _, _ = g.DoContext(nested(ctx), key, func(ctx context.Context) (int, error) {
						made.Done()
						return untilEnd(ctx)
					})
				})
			}
			return untilEnd(ctx)
		})
	})
	made.Wait()
	time.Sleep(50 * time.Millisecond) // all are parked by now
	over := make(chan struct{})
	go func() {
		defer close(over)
		left.Wait()
	}()
	leave()
	for key := -2; ; key-- {
		select {
		case <-over:
			return slowest
		default:
		}
		began := time.Now()
		g.Do(key, kit.Value(0))
		slowest = max(slowest, time.Since(began))
		time.Sleep(20 * time.Microsecond)
	}
}
