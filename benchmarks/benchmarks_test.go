package benchmarks

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// tiny are the smallest sizes that run every line.
var tiny = sizes{
	procs:          []int{1, 2},
	yieldProcs:     []int{2},
	firstProcs:     []int{64},
	zipfKeys:       []int{10, 100},
	zipfGoroutines: []int{4, 16},
	fanIn:          []int{1, 20},
	stop:           100,
	bystanders:     100,
	inFlight:       100,
	nests:          10,
	leave:          40,
	batch:          20,
	cancelStorm:    20,
}

// once makes testing.Benchmark run a benchmark once.
func once(t *testing.T) {
	f := flag.Lookup("test.benchtime")
	before := f.Value.String()
	if err := f.Value.Set("1x"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Value.Set(before); err != nil {
			t.Error(err)
		}
	})
}

// TestWorkloads: each run of each workload succeeds, and reports all that it is
// to be compared by.
func TestWorkloads(t *testing.T) {
	once(t)
	all, out := workloads(tiny, 0)
	if len(out) > 0 {
		t.Errorf("left out: %q", out)
	}
	for _, w := range all {
		for _, r := range w.Runs {
			name := w.Name + "/impl=" + r.Impl
			res := testing.Benchmark(r.Bench)
			if res.N == 0 {
				t.Errorf("%s failed", name)
				continue
			}
			for _, unit := range w.Units {
				if _, ok := res.Extra[unit]; !ok && unit != nsPerOp && !r.Floor {
					t.Errorf("%s has no %s", name, unit)
				}
			}
		}
	}
}

// TestWorkloads_Form: what the report relies on.
func TestWorkloads_Form(t *testing.T) {
	all, out := workloads(sizesFor(false), ^uint64(0))
	if len(out) > 0 {
		t.Errorf("left out: %q", out)
	}
	quick := 0
	names := map[string]bool{}
	for _, w := range all {
		if names[w.Name] || !strings.HasPrefix(w.Name, "work=") || !strings.Contains(w.Name, "/keys=") {
			t.Errorf("%q is no name, or not the only one", w.Name)
		}
		names[w.Name] = true
		if w.Quick {
			quick++
		}
		if w.Title == "" || len(w.Units) == 0 || (w.Series == "") != (w.XLabel == "") {
			t.Errorf("%s is incomplete: %+v", w.Name, w)
		}
		if w.Runs[0].Impl != Coalesce || w.Runs[0].Floor {
			t.Errorf("%s: %s comes first", w.Name, w.Runs[0].Impl)
		}
		impls := map[string]bool{}
		for i, r := range w.Runs {
			if impls[r.Impl] || r.Floor != strings.HasPrefix(r.Impl, "floor-") || i > 0 && w.Runs[i-1].Floor && !r.Floor {
				t.Errorf("%s: run %d, %s, is out of place", w.Name, i, r.Impl)
			}
			impls[r.Impl] = true
		}
	}
	if quick != 12 {
		t.Errorf("%d quick workloads", quick)
	}
}

// TestLeftOut: what needs more memory than there is is named.
func TestLeftOut(t *testing.T) {
	all, out := workloads(sizesFor(false), 4<<30)
	some, _ := workloads(sizesFor(false), 1<<30)
	if len(out) != 1 || !strings.Contains(out[0], "waiters=1000000: needs 6.0 GiB") || len(some) != len(all)-1 {
		t.Errorf("%q; %d workloads with 4 GiB, %d with one", out, len(all), len(some))
	}
	if availableMemory() == 0 {
		t.Error("no memory at all")
	}
}

// TestShares: while a call is at work, all others for its key wait for it and
// get its result.
func TestShares(t *testing.T) {
	for _, impl := range implementations[string](nil) {
		do := impl.newCall()
		for _, n := range []int{1, 100, 2_000} {
			if _, err := raise(do, n, nil); err != nil {
				t.Errorf("%s: %d waiters: %v", impl.name, n, err)
			}
		}
	}
	for _, impl := range contextImplementations() {
		do := impl.newCall()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		call := func(key string, t *task) (*page, error) { return do(ctx, key, t) }
		if _, err := raise(call, 100, nil); err != nil {
			t.Errorf("%s: %v", impl.name, err)
		}
	}
	if _, err := raise(newFloorClose(), 100, nil); err != nil {
		t.Errorf("%s: %v", floorClose, err)
	}
}

// TestErrors: an error of fn's is handed on.
func TestErrors(t *testing.T) {
	want := errors.New("wanted")
	fails := &task{fn: func() (*page, error) { return nil, want }}
	for _, impl := range implementations[string](nil) {
		if _, err := impl.newCall()("key", fails); !errors.Is(err, want) {
			t.Errorf("%s: %v", impl.name, err)
		}
	}
	for _, impl := range contextImplementations() {
		if _, err := impl.newCall()(t.Context(), "key", fails); !errors.Is(err, want) {
			t.Errorf("%s: %v", impl.name, err)
		}
	}
}

// TestKeys: keys that differ have flights that do, whatever their type.
func TestKeys(t *testing.T) {
	tasks := makeTasks(nkeys)
	for _, impl := range implementations(func(k structKey) string { return fmt.Sprint(k) }) {
		do := impl.newCall()
		for i := range tasks {
			if p, err := do(structKey{uint64(i), "path"}, &tasks[i]); p != tasks[i].page || err != nil {
				t.Fatalf("%s: key %d: %v, %v", impl.name, i, p, err)
			}
		}
	}
	seen := map[string]bool{}
	for owner := range 20 {
		for _, key := range makeKeys(owner, 2_000) {
			if len(key) != keyLen || seen[key] {
				t.Fatalf("key %q", key)
			}
			seen[key] = true
		}
	}
	if keys := makeKeys(12, 34567); keys[34566] != "key-12-000034566" {
		t.Errorf("%q", keys[34566])
	}
}

// TestHot: under load on one key no implementation answers with what was over
// before, save for resenje and groupcache, and none runs two executions at once,
// save for msync.
func TestHot(t *testing.T) {
	const calls = 3_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, impl := range implementations[string](nil) {
		var (
			do             = impl.newCall()
			now            clock
			running        atomic.Int64
			stale, overlap atomic.Int64
			wg             sync.WaitGroup
		)
		job := &task{fn: func() (*page, error) {
			if running.Add(1) > 1 {
				overlap.Add(1)
			}
			runtime.Gosched()
			p := work()
			running.Add(-1)
			return p, nil
		}}
		for range 16 {
			wg.Go(func() {
				for range calls {
					began := now.Load()
					p, err := do("key", job)
					if err != nil {
						t.Errorf("%s: %v", impl.name, err)
						return
					}
					if now.stale(p, began) {
						stale.Add(1)
					}
				}
			})
		}
		wg.Wait()
		t.Logf("%s: of %d calls, %d stale; %d executions began while another ran",
			impl.name, 16*calls, stale.Load(), overlap.Load())
		switch impl.name {
		case Resenje:
			if stale.Load() == 0 {
				t.Error("the stale results that resenje is known for are not found")
			}
		case Groupcache:
		default:
			if stale.Load() > 0 {
				t.Errorf("%s: stale", impl.name)
			}
		}
		if overlap.Load() > 0 && impl.name != Msync {
			t.Errorf("%s: overlap", impl.name)
		}
	}
}

// TestClock: a result is stale if a call returned it before the other began.
func TestClock(t *testing.T) {
	var now clock
	first, second := new(page), new(page)
	before := now.Load()
	for range 2 {
		if now.stale(first, before) {
			t.Error("of two calls that began before and shared, one is stale")
		}
	}
	after := now.Load()
	if !now.stale(first, after) || now.stale(second, after) {
		t.Error("the call that began after it: the old one is stale, and the new one is not")
	}
}

// TestAllocs: what goes through the adapter costs no allocation more than a
// direct call of the package does.
func TestAllocs(t *testing.T) {
	keys, tasks := makeKeys(0, 2), makeTasks(2)
	for _, impl := range implementations[string](nil) {
		want, known := map[string]float64{Coalesce: 0, XSync: 1, Resenje: 7}[impl.name]
		do := impl.newCall()
		do(keys[0], &tasks[0])
		if got := testing.AllocsPerRun(500, func() { do(keys[0], &tasks[0]) }); known && got > want {
			t.Errorf("%s: %v allocations, want %v", impl.name, got, want)
		}
	}
}

// TestLeave: a call whose context ends returns its error, and those who joined
// with it do, too.
func TestLeave(t *testing.T) {
	for _, impl := range contextImplementations() {
		do := impl.newCall()
		release := getStuck(do)
		if _, err := depart(do, 100); err != nil {
			t.Errorf("%s: %v", impl.name, err)
		}
		release()
	}
}

// TestCaches: the caches keep what they have loaded.
func TestCaches(t *testing.T) {
	otter, stopOtter := newOtterCache()
	defer stopOtter()
	theine, stopTheine := newTheineCache(t)
	defer stopTheine()
	for name, do := range map[string]call[string]{Coalesce: newLingering(), Otter: otter, Theine: theine} {
		loads := 0
		job := &task{fn: func() (*page, error) { loads++; return aPage, nil }}
		for range 3 {
			if p, err := do("key", job); p != aPage || err != nil {
				t.Errorf("%s: %v, %v", name, p, err)
			}
		}
		if loads != 1 {
			t.Errorf("%s: %d loads", name, loads)
		}
	}
}
