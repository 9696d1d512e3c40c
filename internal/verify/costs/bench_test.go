package costs_test

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// The comparison with the peers is in the module benchmarks.

// makeKeys returns n short strings.
func makeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(100000+i)
	}
	return keys
}

// BenchmarkDo is a whole call for a key without other calls, with a closure that
// captures.
func BenchmarkDo(b *testing.B) {
	b.Run("key=string", func(b *testing.B) {
		var g kit.Group
		keys := makeKeys(1024)
		benchLoop(b, func(i int) {
			g.Do(keys[i&1023], func() (int, error) { return i, nil })
		})
	})
	b.Run("key=int", func(b *testing.B) {
		var g coalesce.Group[int, int]
		benchLoop(b, func(i int) {
			g.Do(i&1023, func() (int, error) { return i, nil })
		})
	})
	b.Run("key=string/hash=xxhash", func(b *testing.B) {
		g := kit.Group{Hash: coalesce.HashString}
		keys := makeKeys(1024)
		benchLoop(b, func(i int) {
			g.Do(keys[i&1023], func() (int, error) { return i, nil })
		})
	})
	b.Run("key=string/shard=shared", func(b *testing.B) {
		g := kit.Group{Shards: 1}
		keys := makeKeys(1024)
		g.Do("another", func() (int, error) {
			benchLoop(b, func(i int) {
				g.Do(keys[i&1023], func() (int, error) { return i, nil })
			})
			return 0, nil
		})
	})
	b.Run("key=string/parallel", func(b *testing.B) {
		var g kit.Group
		keys := makeKeys(1 << 16)
		var id atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			mine := keys[id.Add(1)&63<<10:][:1024]
			for i := 0; pb.Next(); i++ {
				g.Do(mine[i&1023], func() (int, error) { return i, nil })
			}
		})
	})
}

// benchLoop calls fn for 0, 1, 2, … A closure in the body of b.Loop would have
// its variables moved to the heap.
func benchLoop(b *testing.B, fn func(i int)) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		fn(i)
	}
}

// BenchmarkDoContext is a call that leads, with a context that can end, and the least
// that it needs: a channel, a goroutine and a select.
func BenchmarkDoContext(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.Run("impl=coalesce", func(b *testing.B) {
		var g kit.Group
		keys, fn := makeKeys(1024), kit.CtxValue(1)
		benchLoop(b, func(i int) { g.DoContext(ctx, keys[i&1023], fn) })
	})
	b.Run("impl=least", func(b *testing.B) {
		benchLoop(b, func(int) {
			c := make(chan struct{})
			go func() { close(c) }()
			select {
			case <-c:
			case <-ctx.Done():
			}
		})
	})
}

// BenchmarkJoin is one flight with n followers: all goroutines exist before.
func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("followers=%d", n), func(b *testing.B) {
			var g kit.Group
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range n {
				wg.Go(func() {
					for range start {
						g.Do("k", kit.Value(0))
					}
				})
			}
			benchLoop(b, func(int) {
				before := g.Stats().Joined
				g.Do("k", func() (int, error) {
					for range n {
						start <- struct{}{}
					}
					for g.Stats().Joined < before+uint64(n) {
						runtime.Gosched()
					}
					return 1, nil
				})
			})
			close(start)
			wg.Wait()
		})
	}
}

// BenchmarkHash compares the default hash with HashString.
func BenchmarkHash(b *testing.B) {
	seed := maphash.MakeSeed()
	for _, n := range []int{4, 8, 16, 32, 64, 1024} {
		key := strings.Repeat("x", n)
		b.Run(fmt.Sprintf("bytes=%d/hash=default", n), func(b *testing.B) {
			for b.Loop() {
				maphash.Comparable(seed, key)
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/hash=xxhash", n), func(b *testing.B) {
			for b.Loop() {
				coalesce.HashString(key)
			}
		})
	}
}

// BenchmarkFeature measures a Do alone with each of the features on, and the
// calls that they add.
func BenchmarkFeature(b *testing.B) {
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%06d", i)
	}
	events := 0
	start := func(context.Context, coalesce.Event[string]) context.Context { events++; return nil }
	finish := func(context.Context, coalesce.Event[string]) { events++ }
	groups := []struct {
		name string
		g    func() *coalesce.Group[string, int]
	}{
		{"none", func() *kit.Group { return &kit.Group{} }},
		{"MaxWaiters", func() *kit.Group { return &kit.Group{MaxWaiters: 100} }},
		{"Clone", func() *kit.Group { return &kit.Group{Clone: func(v int) int { return v }} }},
		{"MaxAge", func() *kit.Group { return &kit.Group{MaxAge: time.Hour} }},
		{"Hooks", func() *kit.Group { return &kit.Group{Hooks: coalesce.Hooks[string]{Start: start, Finish: finish}} }},
	}
	for _, x := range groups {
		b.Run("Do/with="+x.name, func(b *testing.B) {
			b.ReportAllocs()
			g := x.g()
			for i := range b.N {
				_, _, _ = g.Do(keys[i&1023], func() (int, error) { return i, nil })
			}
		})
	}
	for _, linger := range []time.Duration{time.Hour, coalesce.Forever} {
		b.Run("Do/with=Linger/hit/for="+linger.String(), func(b *testing.B) {
			b.ReportAllocs()
			g := kit.Group{Linger: linger}
			for i := range b.N {
				_, _, _ = g.Do(keys[i&1023], func() (int, error) { return i, nil })
			}
		})
	}
	b.Run("Do/with=Linger/miss", func(b *testing.B) {
		b.ReportAllocs()
		g := kit.Group{Linger: time.Hour}
		for i := range b.N {
			if i&1023 == 0 {
				g = kit.Group{Linger: time.Hour}
			}
			_, _, _ = g.Do(keys[i&1023], func() (int, error) { return i, nil })
		}
	})
	b.Run("DoContext/in=fn", func(b *testing.B) {
		b.ReportAllocs()
		var g, outer kit.Group
		_, _, _ = outer.DoFresh(b.Context(), "outer", func(ctx context.Context) (int, error) {
			for i := range b.N {
				_, _, _ = g.DoContext(ctx, keys[i&1023], func(context.Context) (int, error) { return i, nil })
			}
			return 0, nil
		})
	})
	b.Run("DoMulti/keys=100", func(b *testing.B) { // the time is for all
		b.ReportAllocs()
		var g kit.Group
		for range b.N {
			g.DoMulti(b.Context(), keys[:100], func(_ context.Context, keys []string) (map[string]int, error) {
				m := make(map[string]int, len(keys))
				for i, key := range keys {
					m[key] = i
				}
				return m, nil
			})
		}
	})
	b.Run("map/keys=100", func(b *testing.B) { // the work of fn there, and the result
		b.ReportAllocs()
		for range b.N {
			m := make(map[string]int, 100)
			r := make(map[string]coalesce.Result[int], 100)
			for i, key := range keys[:100] {
				m[key] = i
				r[key] = coalesce.Result[int]{Val: i}
			}
		}
	})
}
