package coalesce

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestYield_BacksOff: what does not pay is tried again after 64 calls, then after
// twice as many each time, up to a bound, and sooner when it has paid.
func TestYield_BacksOff(t *testing.T) {
	var y yielding
	skipped := func() (n int) {
		for ; !y.due(); n++ {
		}
		return n
	}
	if n := skipped(); n != 0 {
		t.Errorf("%d calls do not try at first", n)
	}
	for _, want := range []int{64, 128, 256} {
		y.note(longYield, true) // over, but it took long
		if n := skipped(); n != want {
			t.Errorf("tried again after %d calls, want %d", n, want)
		}
	}
	y.note(1, true)
	y.note(1, true)
	y.note(longYield, false)
	if n := skipped(); n != 128 {
		t.Errorf("tried again after %d calls, want 128", n)
	}
	for range 100 {
		y.note(longYield, true)
	}
	if n := skipped(); n != 1<<maxYieldLog {
		t.Errorf("tried again after %d calls, want %d", n, 1<<maxYieldLog)
	}
	for range 100 {
		y.note(1, true)
	}
	y.note(longYield, true)
	if n := skipped(); n != 64 {
		t.Errorf("tried again after %d calls, want 64", n)
	}
}

// TestYield_Misses: an fn that is not over now and then is no reason to stop
// trying; one that never is, is.
func TestYield_Misses(t *testing.T) {
	var y yielding
	for range 10 {
		for range yieldMisses - 1 {
			y.note(1, false)
		}
		y.note(1, true)
	}
	if !y.due() {
		t.Fatal("given up, though it has paid")
	}
	for range yieldMisses {
		y.note(1, false)
	}
	if y.due() {
		t.Error("not given up")
	}
}

// TestYield_ShortFn: a leader whose fn is over at once needs no channel, whether
// the outcome is a value, an error or an exit.
func TestYield_ShortFn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // or another P may run the leader meanwhile
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g Group[int, int]
	fn := func(context.Context) (int, error) { return 7, nil }
	n := testing.AllocsPerRun(100, func() {
		if v, shared, err := g.DoContext(ctx, 1, fn); v != 7 || shared || err != nil {
			t.Errorf("got %d, %v, %v", v, shared, err)
		}
	})
	if n > 2 {
		t.Errorf("%v allocations", n)
	}
	_, _, err := g.DoContext(ctx, 1, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
	if err != ErrGoexit {
		t.Errorf("got %v", err)
	}
}

// TestYield_LongFn: a leader whose fn goes on waits for it, and no longer gives
// way when that has happened too often.
func TestYield_LongFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		s := g.use().shards[0]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range yieldMisses {
			if s.yields.skip > 0 {
				t.Fatalf("after %d calls: %+v", i, s.yields)
			}
			v, shared, err := g.DoContext(ctx, 1, func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return i, nil
			})
			if v != i || shared || err != nil {
				t.Errorf("got %d, %v, %v", v, shared, err)
			}
		}
		if s.yields.skip == 0 {
			t.Errorf("it would go on: %+v", s.yields)
		}
	})
}
