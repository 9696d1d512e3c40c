package costs_test

import (
	"context"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the memory that is left when all calls are over, and the stacks of
// calls that wait.

type payloadError struct{ p *kit.Payload }

func (*payloadError) Error() string { return "payload" }

// TestG12_NothingIsKept: when a flight is over, its key, value, error, fn and context can
// be collected while the group lives, in whichever way the flight ended.
func TestG12_NothingIsKept(t *testing.T) {
	type keyed = coalesce.Group[*kit.Payload, *kit.Payload]
	for _, lead := range []string{"Do", "DoContext", "DoChan", "DoFresh", "DoMulti"} {
		for _, join := range []string{"", "Do", "DoContext", "DoChan", "DoFresh", "DoMulti", "leave", "forget", "abandon"} {
			t.Run(lead+" "+join, func(t *testing.T) {
				g := keyed{Shards: 1}
				ptrs := func() (ptrs [5]weak.Pointer[kit.Payload]) {
					key, val, inErr, inFn, inCtx := new(kit.Payload), new(kit.Payload), new(kit.Payload), new(kit.Payload), new(kit.Payload)
					for i, p := range []*kit.Payload{key, val, inErr, inFn, inCtx} {
						ptrs[i] = weak.Make(p)
					}
					ctx, cancel := context.WithCancel(context.WithValue(t.Context(), kit.CtxKey{}, inCtx))
					defer cancel()
					h := kit.Hold()
					fn := func(context.Context) (*kit.Payload, error) {
						inFn[0]++
						h.Started <- struct{}{}
						<-h.Release
						return val, &payloadError{inErr}
					}
					var wg sync.WaitGroup
					call := func(form string, ctx context.Context) {
						wg.Go(func() { callPayload(&g, form, ctx, key, fn) })
					}
					call(lead, ctx)
					<-h.Started
					// The code below reads the clock or the counters to know when the
					// call has taken part.
					switch join {
					case "":
					case "leave", "abandon":
						left, leave := context.WithCancel(ctx)
						call("DoContext", left)
						kit.Await(t, func() bool { return g.Stats().Joined == 1 })
						leave()
						kit.Await(t, func() bool { return g.Stats().Left == 1 })
						if join == "abandon" && lead != "Do" {
							cancel()
							kit.Await(t, func() bool { return g.Stats().Abandoned == 1 })
						}
					case "forget":
						g.Forget(key)
					default:
						call(join, ctx)
						kit.Await(t, func() bool { return g.Stats().Joined == 1 || join == "DoFresh" && kit.Waiting(&g) == 1 })
					}
					close(h.Release)
					wg.Wait()
					kit.Await(t, func() bool { return quiet(&g) })
					return ptrs
				}()
				if err := storm.AtRest(&g); err != nil {
					t.Error(err)
				}
				names := []string{"key", "value", "error", "fn", "ctx"}
				for i, p := range ptrs {
					for range 20 {
						if runtime.GC(); p.Value() == nil {
							break
						}
						time.Sleep(time.Millisecond)
					}
					if p.Value() != nil {
						t.Errorf("%s: got it kept, want it collected", names[i])
					}
				}
				runtime.KeepAlive(&g)
			})
		}
	}
}

func callPayload(g *coalesce.Group[*kit.Payload, *kit.Payload], form string, ctx context.Context, key *kit.Payload, fn func(context.Context) (*kit.Payload, error)) {
	switch form {
	case "Do":
		g.Do(key, func() (*kit.Payload, error) { return fn(ctx) })
	case "DoContext":
		g.DoContext(ctx, key, fn)
	case "DoChan":
		<-g.DoChan(ctx, key, fn)
	case "DoFresh":
		g.DoFresh(ctx, key, fn)
	case "DoMulti":
		g.DoMulti(ctx, []*kit.Payload{key}, func(ctx context.Context, keys []*kit.Payload) (map[*kit.Payload]*kit.Payload, error) {
			v, err := fn(ctx)
			return map[*kit.Payload]*kit.Payload{keys[0]: v}, err
		})
	}
}

func quiet(g *coalesce.Group[*kit.Payload, *kit.Payload]) bool {
	for range g.Flights() {
		return false
	}
	return true
}

// TestG12_LeaversTakeTheirMemory: calls that join one stuck flight and leave it, or queue
// behind it and leave, beside two thousand others that stay, leave the heap as it was.
//
// The runtime keeps the descriptors of as many goroutines as there were at once, on each P,
// and that number grows for a while. So a hundred thousand calls may be followed by another
// hundred thousand. What each of them left behind would be there each time.
func TestG12_LeaversTakeTheirMemory(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h := kit.Lead(t, &g)
				for range 2000 {
					kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
				}
				wave := func(n int) {
					ctx, cancel := context.WithCancel(t.Context())
					for range n {
						kit.Go(ctx, f, &g, "k", kit.CtxValue(0))
					}
					synctest.Wait()
					cancel()
					synctest.Wait()
				}
				left := uint64(0)
				grown := int64(math.MaxInt64)
				for round := 0; round < 8 && grown > 256<<10; round++ {
					before := kit.Heap()
					for range 50 {
						wave(2000)
					}
					left += 100_000
					grown = kit.Heap() - before
				}
				// Eight bytes for each that left would be 781 KiB.
				if grown > 256<<10 {
					t.Errorf("got a heap that has grown by %d KiB, want 256 at most", grown>>10)
				}
				close(h.Release)
				synctest.Wait()
				if st := g.Stats(); g.Len() != 0 || st.Left != left {
					t.Errorf("got Len %d, %+v, want 0 and %d left", g.Len(), st, left)
				}
			})
		})
	}
}

// TestG12_StormLeavesLittle: after a hundred thousand keys in flight at once, on 64 Ps,
// the tables are small again and few records are kept to be used again.
func TestG12_StormLeavesLittle(t *testing.T) {
	const n = 100_000
	const deep = n / (4 * (64 / strconv.IntSize)) // a stack ends at 250 MB on a 32-bit system
	var ints coalesce.Group[int, int]
	var pages coalesce.Group[int, [1024]byte]
	for name, tt := range map[string]struct {
		limit int64
		storm func()
		len   func() int
	}{
		"Do":                  {2_500_000, func() { nest(&ints, 0, n, func() { wantLen(t, &ints, n) }) }, ints.Len},
		"DoMulti":             {2_500_000, func() { doMany(&ints, n, func() { wantLen(t, &ints, n) }) }, ints.Len},
		"Do, V of 1 KiB":      {7_000_000, func() { nest(&pages, 0, deep, func() { wantLen(t, &pages, deep) }) }, pages.Len},
		"DoMulti, V of 1 KiB": {7_000_000, func() { doMany(&pages, n, func() { wantLen(t, &pages, n) }) }, pages.Len},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.limit > 5_000_000 && testing.Short() {
				t.Skip("takes 400 MB")
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64))
			before := kit.Heap()
			tt.storm()
			if grown := kit.Heap() - before; grown > tt.limit {
				t.Errorf("got %d kB left, want at most %d", grown/1000, tt.limit/1000)
			}
			tt.len() // keeps the group
		})
	}
}

func wantLen[V any](t *testing.T, g *coalesce.Group[int, V], want int) {
	t.Helper()
	if n := g.Len(); n != want {
		t.Errorf("got Len %d, want %d", n, want)
	}
}

// doMany calls DoMulti for n keys, and inner inside its fn.
func doMany[V any](g *coalesce.Group[int, V], n int, inner func()) {
	keys := make([]int, n)
	for i := range keys {
		keys[i] = i
	}
	g.DoMulti(context.Background(), keys, func(context.Context, []int) (map[int]V, error) {
		inner()
		return nil, nil
	})
}

// TestG12_LargeValues: of records with a large value, an idle group keeps one for each
// shard, however many flights there were at once.
func TestG12_LargeValues(t *testing.T) {
	type large = [32 << 10]byte
	const shards, n = 4, 100
	for name, storm := range map[string]func(g *coalesce.Group[int, large]){
		"Do": func(g *coalesce.Group[int, large]) {
			var all sync.WaitGroup
			arrived, end := make(chan struct{}, n), make(chan struct{})
			for i := range n {
				all.Go(func() {
					g.Do(i, func() (v large, err error) {
						arrived <- struct{}{}
						<-end
						return v, nil
					})
				})
			}
			for range n {
				<-arrived
			}
			close(end)
			all.Wait()
		},
		"DoMulti": func(g *coalesce.Group[int, large]) { doMany(g, n, func() {}) },
	} {
		t.Run(name, func(t *testing.T) {
			g := coalesce.Group[int, large]{Shards: shards}
			before := kit.Heap()
			storm(&g)
			limit := int64(shards*(40<<10) + 96<<10) // an object of that size takes 40 KiB
			if grown := kit.Heap() - before; grown > limit {
				t.Errorf("got %d KiB left, want at most %d", grown>>10, limit>>10)
			}
			g.Len() // keeps g
		})
	}
}

// nest calls Do for the keys from…to-1, each inside the fn of the one before, and inner
// inside them all.
func nest[V any](g *coalesce.Group[int, V], from, to int, inner func()) {
	if from == to {
		inner()
		return
	}
	g.Do(from, func() (v V, err error) {
		nest(g, from+1, to, inner)
		return v, nil
	})
}

// TestMemory_StackOfAFollower: a goroutine that only follows, with a context that can end
// or without one, does not outgrow the stack that it began with.
func TestMemory_StackOfAFollower(t *testing.T) {
	if kit.RaceEnabled || testing.CoverMode() != "" {
		t.Skip("frames are larger in such a build")
	}
	const limit = 2200 // 2,048 of them are the stack that each goroutine begins with
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, follow := range map[string]func(g *kit.Group){
		"Do":        func(g *kit.Group) { g.Do("k", kit.Value(0)) },
		"DoContext": func(g *kit.Group) { g.DoContext(ctx, "k", kit.CtxValue(0)) },
	} {
		least := int64(math.MaxInt64)
		for range 10 { // other goroutines have stacks as well
			var g kit.Group
			follower := stackOf(5000, func(all func()) {
				g.Do("k", func() (int, error) { all(); return 1, nil })
			}, func() { follow(&g) })
			if least = min(least, follower); least <= limit {
				break
			}
		}
		t.Logf("%s: %d bytes of stack for each follower", name, least)
		if least > limit {
			t.Errorf("%s: got %d bytes of stack for each follower, want at most %d", name, least, limit)
		}
	}
}

// TestMemory_StackOfAFlight: the goroutine on which fn runs does not outgrow its stack
// either, if fn needs little. No figure of the runtime shows that, but a stack that grows
// takes as long as all the rest of a DoContext. So the time is compared with that of the
// least that a call needs, by the shortest of many rounds each: 1.9 times where this was
// written, and 3.7 with a stack that grew.
func TestMemory_StackOfAFlight(t *testing.T) {
	if kit.RaceEnabled || testing.CoverMode() != "" {
		t.Skip("frames are larger in such a build")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g kit.Group
	call := func() { g.DoContext(ctx, "k", kit.CtxValue(1)) }
	leastCall := func() {
		c := make(chan struct{})
		go func() { close(c) }()
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
	shortest := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	ratio := func() float64 { return float64(shortest[0]) / float64(shortest[1]) }
	for round := range 400 {
		for i, f := range []func(){call, leastCall} {
			began := time.Now()
			for range 200 {
				f()
			}
			shortest[i] = min(shortest[i], time.Since(began))
		}
		if round >= 20 && ratio() < 2.7 {
			break
		}
	}
	t.Logf("%.2f times the least", ratio())
	if ratio() >= 2.7 {
		t.Errorf("got %.2f times the least, want less than 2.7", ratio())
	}
}

// stackOf returns the bytes of stack for each of n goroutines that are blocked in wait.
// lead calls all when they may come, and then releases them.
func stackOf(n int, lead func(all func()), wait func()) int64 {
	var waiting sync.WaitGroup
	var entered atomic.Int64
	var before, parked runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	lead(func() {
		for range n {
			waiting.Go(func() { entered.Add(1); wait() })
		}
		for entered.Load() < int64(n) {
			runtime.Gosched()
		}
		time.Sleep(2 * time.Millisecond)
		runtime.ReadMemStats(&parked)
	})
	waiting.Wait()
	return (int64(parked.StackInuse) - int64(before.StackInuse)) / int64(n)
}

// TestMemory_Receiver: a receiver that joins with a context that cannot end costs its
// channel and one word, and no more than a receiver of golang.org/x/sync/singleflight.
func TestMemory_Receiver(t *testing.T) {
	if kit.RaceEnabled || testing.CoverMode() != "" {
		t.Skip("allocations are larger in such a build")
	}
	const n, limit = 20_000, 169 // x/sync has 169 or more, as its slice of channels grows
	fn := func(context.Context) (any, error) { return 0, nil }
	for _, lead := range []string{"Do", "DoContext", "DoMulti"} {
		least := uint64(math.MaxUint64)
		for range 5 { // other goroutines allocate as well
			var g coalesce.Group[string, any]
			release, done := make(chan struct{}), make(chan struct{})
			held := func() (any, error) { <-release; return 0, nil }
			go func() {
				defer close(done)
				switch lead {
				case "Do":
					g.Do("k", held)
				case "DoContext":
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					g.DoContext(ctx, "k", func(context.Context) (any, error) { return held() })
				case "DoMulti":
					g.DoMulti(context.Background(), []string{"k"}, func(context.Context, []string) (map[string]any, error) {
						_, err := held()
						return nil, err
					})
				}
			}()
			for g.Len() == 0 {
				runtime.Gosched()
			}
			channels := make([]<-chan coalesce.Result[any], n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := range channels {
				channels[i] = g.DoChan(context.Background(), "k", fn)
			}
			runtime.ReadMemStats(&after)
			least = min(least, (after.TotalAlloc-before.TotalAlloc)/n)
			close(release)
			for _, ch := range channels {
				<-ch
			}
			<-done
		}
		t.Logf("%s: %d bytes for each receiver", lead, least)
		if least > limit {
			t.Errorf("%s: got %d bytes allocated for each receiver, want at most %d", lead, least, limit)
		}
	}
}
