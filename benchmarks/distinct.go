package benchmarks

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	samber "github.com/samber/go-singleflightx"
	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"
	tailscale "tailscale.com/util/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the workloads in which no call ever meets another: the costs of calls
// that needed no coalescing.

// nkeys is the number of distinct keys that a goroutine goes through, over and over. It
// is a power of two.
const nkeys = 1024

// A structKey is a key with several fields.
type structKey struct {
	tenant uint64
	path   string
}

func serialWorkloads() []Workload {
	// The drop-in is beside the peer that it takes the place of in one workload. In the
	// others it differs from coalesce by the same closure and interface.
	dropIn := Run{Impl: DropIn, Note: "package singleflight here: values are of type any", Bench: func(b *testing.B) {
		serial(b, newDropIn(), makeKeys(0, nkeys))
	}}
	workload := func(keys, of string, runs []Run) Workload {
		return Workload{
			Name:  "work=serial/keys=" + keys,
			Title: "`Do`, one goroutine, distinct keys: " + of,
			Units: []string{nsPerOp},
			Quick: keys == "string16",
			Runs:  runs,
		}
	}
	long := strings.Repeat("/part", 1024)
	return []Workload{
		workload("int", "ints", serialRuns(
			func(i int, _ string) int { return 1_000_000 + i }, strconv.Itoa)),
		workload("string16", "strings of 16 bytes", slices.Insert(serialRuns(
			func(_ int, key string) string { return key }, nil), 1, dropIn)),
		workload("string1k", "strings of 1,024 bytes", serialRuns(
			func(_ int, key string) string { return long[:1024-keyLen] + key }, nil)),
		workload("struct", "structs of an integer and a string", serialRuns(
			func(i int, key string) structKey { return structKey{uint64(i), key} },
			func(k structKey) string { return strconv.FormatUint(k.tenant, 10) + ":" + k.path })),
		workload("string16/closure=plain", "strings of 16 bytes, a closure that captures nothing", plainRuns()),
	}
}

// serialRuns returns the runs for keys that key makes, of a number and a string
// that are distinct.
func serialRuns[K comparable](key func(int, string) K, text func(K) string) []Run {
	keys := make([]K, nkeys)
	for i, s := range makeKeys(0, nkeys) {
		keys[i] = key(i, s)
	}
	var runs []Run
	for _, impl := range implementations(text) {
		runs = append(runs, Run{Impl: impl.name, Note: impl.note, Bench: func(b *testing.B) {
			serial(b, impl.newCall(), keys)
		}})
	}
	return append(runs, floorRun(floorLocks, func(b *testing.B) {
		serial(b, newFloorLocks[K](), keys)
	}))
}

func serial[K comparable](b *testing.B, do call[K], keys []K) {
	tasks := makeTasks(nkeys)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		do(keys[i&(nkeys-1)], &tasks[i&(nkeys-1)])
		i++
	}
}

// aPage is the result of closures that capture nothing.
var aPage = new(page)

// plainRuns returns the runs with closures that capture nothing.
func plainRuns() []Run {
	run := func(name, note string, newCall func() func(key string)) Run {
		return Run{Impl: name, Note: note, Bench: func(b *testing.B) {
			do, keys := newCall(), makeKeys(0, nkeys)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				do(keys[i&(nkeys-1)])
				i++
			}
		}}
	}
	return []Run{
		run(Coalesce, "", func() func(string) {
			g := new(coalesce.Group[string, *page])
			return func(key string) { g.Do(key, func() (*page, error) { return aPage, nil }) }
		}),
		run(XSync, "", func() func(string) {
			g := new(singleflight.Group)
			return func(key string) { g.Do(key, func() (any, error) { return aPage, nil }) }
		}),
		run(Resenje, "runs every fn on a goroutine of its own", func() func(string) {
			g, ctx := new(resenje.Group[string, *page]), context.Background()
			return func(key string) { g.Do(ctx, key, func(context.Context) (*page, error) { return aPage, nil }) }
		}),
		run(Samber, "", func() func(string) {
			g := new(samber.Group[string, *page])
			return func(key string) { g.Do(key, func() (*page, error) { return aPage, nil }) }
		}),
		run(Tailscale, "", func() func(string) {
			g := new(tailscale.Group[string, *page])
			return func(key string) { g.Do(key, func() (*page, error) { return aPage, nil }) }
		}),
	}
}

func parallelWorkloads(s sizes) []Workload {
	w := Workload{
		Name:  "work=parallel/keys=string16",
		Title: "`Do`, a goroutine on each P, distinct keys",
		Units: []string{nsPerOp},
		Quick: true,
		Runs: append(doRuns(parallel), floorRun(floorLocks, func(b *testing.B) {
			parallel(b, newFloorLocks[string]())
		})),
	}
	return append([]Workload{w}, onProcs(w, s.procs)...)
}

func parallel(b *testing.B, do call[string]) {
	next := ownKeys()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		keys, tasks, i := next(), makeTasks(nkeys), 0
		for pb.Next() {
			do(keys[i&(nkeys-1)], &tasks[i&(nkeys-1)])
			i++
		}
	})
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

func cancellableWorkloads(s sizes) []Workload {
	serial := Workload{
		Name:  "work=cancellable/keys=string16",
		Title: "`DoContext`, a context that can end, one goroutine, distinct keys",
		Units: []string{nsPerOp},
		Quick: true,
		Runs: append(contextRuns(cancellable), floorRun(floorCancellable, func(b *testing.B) {
			cancellable(b, newFloorCancellable)
		})),
	}
	parallel := Workload{
		Name:  "work=cancellable-parallel/keys=string16",
		Title: "the same, a goroutine on each P",
		Units: []string{nsPerOp},
		Runs: append(contextRuns(cancellableParallel), floorRun(floorCancellable, func(b *testing.B) {
			cancellableParallel(b, newFloorCancellable)
		})),
	}
	yields := Workload{
		Name:  "work=cancellable/keys=string16/fn=yield",
		Title: "the same on one goroutine, with an fn that yields",
		Units: []string{nsPerOp},
		Runs:  contextRuns(cancellableYield),
	}
	busy := Workload{
		Name:  "work=cancellable/keys=string16/busy=4",
		Title: "the same on one goroutine, while four others compute on each P",
		Units: []string{nsPerOp},
		Runs:  contextRuns(cancellableBusy),
	}
	return append([]Workload{serial, parallel, yields, busy}, onProcs(serial, s.procs)...)
}

func cancellable(b *testing.B, newCall func() contextCall) {
	cancellableTasks(b, newCall, makeTasks(nkeys))
}

// cancellableYield is cancellable with an fn that lets others run once.
func cancellableYield(b *testing.B, newCall func() contextCall) {
	tasks := makeTasks(nkeys)
	for i := range tasks {
		p := tasks[i].page
		tasks[i].fn = func() (*page, error) {
			runtime.Gosched()
			return p, nil
		}
	}
	cancellableTasks(b, newCall, tasks)
}

// busyGoroutines is the number of goroutines that compute on each P beside a caller.
const busyGoroutines = 4

// cancellableBusy is cancellable where the Ps have other things to do, which do
// not block.
func cancellableBusy(b *testing.B, newCall func() contextCall) {
	var (
		wg   sync.WaitGroup
		stop atomic.Bool
	)
	for range busyGoroutines * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				work()
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	cancellable(b, newCall)
}

func cancellableTasks(b *testing.B, newCall func() contextCall, tasks []task) {
	do, keys := newCall(), makeKeys(0, nkeys)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		do(ctx, keys[i&(nkeys-1)], &tasks[i&(nkeys-1)])
		i++
	}
}

func cancellableParallel(b *testing.B, newCall func() contextCall) {
	do, next := newCall(), ownKeys()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		keys, tasks, i := next(), makeTasks(nkeys), 0
		for pb.Next() {
			do(ctx, keys[i&(nkeys-1)], &tasks[i&(nkeys-1)])
			i++
		}
	})
}

// waiters writes a number of waiters for a title.
func waiters(n int) string { return fmt.Sprintf("%s waiters", grouped(n)) }
