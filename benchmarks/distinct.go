package benchmarks

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the workloads in which no call ever meets another: what a
// call costs that needed no coalescing. The loops are the same for all
// implementations, and are written out for each (see peer for the reason). The
// closures capture, as those of real callers do.
//
// The serial ones make the call in a function of its own: b.Loop keeps every
// variable of its body alive, and with it a captured k on the heap, for which
// a real caller does not pay.

// nkeys is how many distinct keys a goroutine goes through, over and over. It
// is a power of two.
const nkeys = 1024

// makeKeys returns n distinct keys, which differ from those of other owners.
func makeKeys(owner, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%02d-%07d", owner, i)
	}
	return keys
}

func serialCoalesce(b *testing.B) {
	var g coalesce.Group[string, *page]
	keys, pages := makeKeys(0, nkeys), make([]page, nkeys)
	call := func(k int) {
		g.Do(keys[k], func() (*page, error) { return &pages[k], nil })
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		call(i & (nkeys - 1))
		i++
	}
}

func serialXSync(b *testing.B) {
	var g singleflight.Group
	keys, pages := makeKeys(0, nkeys), make([]page, nkeys)
	call := func(k int) {
		g.Do(keys[k], func() (any, error) { return &pages[k], nil })
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		call(i & (nkeys - 1))
		i++
	}
}

func serialResenje(b *testing.B) {
	var g resenje.Group[string, *page]
	keys, pages := makeKeys(0, nkeys), make([]page, nkeys)
	ctx := context.Background()
	call := func(k int) {
		g.Do(ctx, keys[k], func(context.Context) (*page, error) { return &pages[k], nil })
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		call(i & (nkeys - 1))
		i++
	}
}

// ownKeys returns keys for each of the goroutines that RunParallel starts, and
// a function that gives each its own.
func ownKeys() (next func() []string) {
	sets := make([][]string, runtime.GOMAXPROCS(0))
	for i := range sets {
		sets[i] = makeKeys(i, nkeys)
	}
	var taken atomic.Int64
	return func() []string { return sets[taken.Add(1)-1] }
}

func parallelCoalesce(b *testing.B) {
	var g coalesce.Group[string, *page]
	next, pages := ownKeys(), make([]page, nkeys)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		keys, i := next(), 0
		for pb.Next() {
			k := i & (nkeys - 1)
			g.Do(keys[k], func() (*page, error) { return &pages[k], nil })
			i++
		}
	})
}

func parallelXSync(b *testing.B) {
	var g singleflight.Group
	next, pages := ownKeys(), make([]page, nkeys)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		keys, i := next(), 0
		for pb.Next() {
			k := i & (nkeys - 1)
			g.Do(keys[k], func() (any, error) { return &pages[k], nil })
			i++
		}
	})
}

func parallelResenje(b *testing.B) {
	var g resenje.Group[string, *page]
	next, pages := ownKeys(), make([]page, nkeys)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		keys, i := next(), 0
		for pb.Next() {
			k := i & (nkeys - 1)
			g.Do(ctx, keys[k], func(context.Context) (*page, error) { return &pages[k], nil })
			i++
		}
	})
}

func cancellableCoalesce(b *testing.B) {
	var g coalesce.Group[string, *page]
	keys, pages := makeKeys(0, nkeys), make([]page, nkeys)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call := func(k int) {
		g.DoContext(ctx, keys[k], func(context.Context) (*page, error) { return &pages[k], nil })
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		call(i & (nkeys - 1))
		i++
	}
}

func cancellableResenje(b *testing.B) {
	var g resenje.Group[string, *page]
	keys, pages := makeKeys(0, nkeys), make([]page, nkeys)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call := func(k int) {
		g.Do(ctx, keys[k], func(context.Context) (*page, error) { return &pages[k], nil })
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		call(i & (nkeys - 1))
		i++
	}
}
