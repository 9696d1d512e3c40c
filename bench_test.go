package coalesce_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed342dcb2d/coalesce"
)

func BenchmarkDo(b *testing.B) {
	b.Run("keys=distinct/goroutines=1", func(b *testing.B) {
		var g coalesce.Group[string, int]
		keys := makeKeys(1024)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			k := i & 1023
			g.Do(keys[k], func() (int, error) { return k, nil })
			i++
		}
	})
	b.Run("keys=distinct/goroutines=procs", func(b *testing.B) {
		var g coalesce.Group[string, int]
		keys := makeKeys(1024)
		var id atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i := int(id.Add(1)) * 331
			for pb.Next() {
				k := i & 1023
				g.Do(keys[k], func() (int, error) { return k, nil })
				i++
			}
		})
	})
	b.Run("keys=int/goroutines=1", func(b *testing.B) {
		var g coalesce.Group[int, int]
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			k := i & 1023
			g.Do(k, func() (int, error) { return k, nil })
			i++
		}
	})
}

func BenchmarkDoContext(b *testing.B) {
	var g coalesce.Group[string, int]
	keys := makeKeys(1024)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fn := func(context.Context) (int, error) { return 1, nil }
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		g.DoContext(ctx, keys[i&1023], fn)
		i++
	}
}

func makeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(100000+i)
	}
	return keys
}

var (
	_ = fmt.Sprint
	_ sync.Mutex
)
