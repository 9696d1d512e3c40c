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

// TestWorkloads: each run of each workload succeeds, and reports all units of its
// comparison.
func TestWorkloads(t *testing.T) {
	once(t)
	all, out := workloads(tiny, 0)
	if len(out) > 0 {
		t.Errorf("got %q left out, want none", out)
	}
	for _, w := range all {
		for _, r := range w.Runs {
			name := w.Name + "/impl=" + r.Impl
			res := testing.Benchmark(r.Bench)
			if res.N == 0 {
				t.Errorf("%s: got a failure, want a result", name)
				continue
			}
			for _, unit := range w.Units {
				if _, ok := res.Extra[unit]; !ok && unit != nsPerOp && !r.Floor {
					t.Errorf("%s: got no %s, want it", name, unit)
				}
			}
		}
	}
}

// TestWorkloads_Form: the properties on which the report relies.
func TestWorkloads_Form(t *testing.T) {
	all, out := workloads(sizesFor(false), ^uint64(0))
	if len(out) > 0 {
		t.Errorf("got %q left out, want none", out)
	}
	quick := 0
	names := map[string]bool{}
	for _, w := range all {
		if names[w.Name] || !strings.HasPrefix(w.Name, "work=") || !strings.Contains(w.Name, "/keys=") {
			t.Errorf("got %q, want a name, once", w.Name)
		}
		names[w.Name] = true
		if w.Quick {
			quick++
		}
		if w.Title == "" || len(w.Units) == 0 || (w.Series == "") != (w.XLabel == "") {
			t.Errorf("%s: got %+v, want it complete", w.Name, w)
		}
		if w.Runs[0].Impl != Coalesce || w.Runs[0].Floor {
			t.Errorf("%s: got %s first, want %s", w.Name, w.Runs[0].Impl, Coalesce)
		}
		impls := map[string]bool{}
		for i, r := range w.Runs {
			if impls[r.Impl] || r.Floor != strings.HasPrefix(r.Impl, "floor-") || i > 0 && w.Runs[i-1].Floor && !r.Floor {
				t.Errorf("%s: got run %d, %s, out of place, want each once and floors last", w.Name, i, r.Impl)
			}
			impls[r.Impl] = true
		}
	}
	if quick != 12 {
		t.Errorf("got %d quick workloads, want 12", quick)
	}
}

// TestLeftOut: workloads that need more memory than there is are named.
func TestLeftOut(t *testing.T) {
	all, out := workloads(sizesFor(false), 4<<30)
	some, _ := workloads(sizesFor(false), 1<<30)
	if len(out) != 1 || !strings.Contains(out[0], "waiters=1000000: needs 6.0 GiB") || len(some) != len(all)-1 {
		t.Errorf("got %q, %d workloads with 4 GiB and %d with one, want one fewer and its name", out, len(all), len(some))
	}
	if availableMemory() == 0 {
		t.Error("got no memory, want some")
	}
}

// TestShares: while a call is at work, all others for its key wait for it and
// get its result.
func TestShares(t *testing.T) {
	for _, impl := range implementations[string](nil) {
		do := impl.newCall()
		for _, n := range []int{1, 100, 2_000} {
			if _, err := raise(do, n, nil); err != nil {
				t.Errorf("%s: %d waiters: got %v, want nil", impl.name, n, err)
			}
		}
	}
	for _, impl := range contextImplementations() {
		do := impl.newCall()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		call := func(key string, t *task) (*page, error) { return do(ctx, key, t) }
		if _, err := raise(call, 100, nil); err != nil {
			t.Errorf("%s: got %v, want nil", impl.name, err)
		}
	}
	if _, err := raise(newFloorClose(), 100, nil); err != nil {
		t.Errorf("%s: got %v, want nil", floorClose, err)
	}
}

// TestErrors: an error of fn is passed on.
func TestErrors(t *testing.T) {
	want := errors.New("wanted")
	fails := &task{fn: func() (*page, error) { return nil, want }}
	for _, impl := range implementations[string](nil) {
		if _, err := impl.newCall()("key", fails); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", impl.name, err, want)
		}
	}
	for _, impl := range contextImplementations() {
		if _, err := impl.newCall()(t.Context(), "key", fails); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", impl.name, err, want)
		}
	}
}

// TestKeys: different keys of any type have different flights.
func TestKeys(t *testing.T) {
	tasks := makeTasks(nkeys)
	for _, impl := range implementations(func(k structKey) string { return fmt.Sprint(k) }) {
		do := impl.newCall()
		for i := range tasks {
			if p, err := do(structKey{uint64(i), "path"}, &tasks[i]); p != tasks[i].page || err != nil {
				t.Fatalf("%s: key %d: got %v, %v, want its page, nil", impl.name, i, p, err)
			}
		}
	}
	seen := map[string]bool{}
	for owner := range 20 {
		for _, key := range makeKeys(owner, 2_000) {
			if len(key) != keyLen || seen[key] {
				t.Fatalf("got key %q, want one of %d bytes, once", key, keyLen)
			}
			seen[key] = true
		}
	}
	if keys := makeKeys(12, 34567); keys[34566] != "key-12-000034566" {
		t.Errorf("got %q, want key-12-000034566", keys[34566])
	}
}

// TestHot: under load on one key no implementation answers with a result that was over
// before, except resenje and groupcache, and none runs two executions at once, except
// msync.
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
						t.Errorf("%s: got %v, want nil", impl.name, err)
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
				t.Error("resenje: got no stale result, want the known ones")
			}
		case Groupcache:
		default:
			if stale.Load() > 0 {
				t.Errorf("%s: got stale results, want none", impl.name)
			}
		}
		if overlap.Load() > 0 && impl.name != Msync {
			t.Errorf("%s: got executions at once, want none", impl.name)
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
			t.Error("two calls that began before and shared: got a stale one, want none")
		}
	}
	after := now.Load()
	if !now.stale(first, after) || now.stale(second, after) {
		t.Error("a call that began after it: got other answers, want the old result stale and the new one not")
	}
}

// TestAllocs: a call through the adapter costs no allocation more than a direct call of
// the package.
func TestAllocs(t *testing.T) {
	keys, tasks := makeKeys(0, 2), makeTasks(2)
	for _, impl := range implementations[string](nil) {
		want, known := map[string]float64{Coalesce: 0, XSync: 1, Resenje: 7}[impl.name]
		do := impl.newCall()
		do(keys[0], &tasks[0])
		if got := testing.AllocsPerRun(500, func() { do(keys[0], &tasks[0]) }); known && got > want {
			t.Errorf("%s: got %v allocations, want %v", impl.name, got, want)
		}
	}
}

// TestLeave: a call whose context ends returns its error, and so do the calls that joined
// with it.
func TestLeave(t *testing.T) {
	for _, impl := range contextImplementations() {
		do := impl.newCall()
		release := getStuck(do)
		if _, err := depart(do, 100); err != nil {
			t.Errorf("%s: got %v, want nil", impl.name, err)
		}
		release()
	}
}

// TestCaches: the caches keep the values that they have loaded.
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
				t.Errorf("%s: got %v, %v, want the page, nil", name, p, err)
			}
		}
		if loads != 1 {
			t.Errorf("%s: got %d loads, want 1", name, loads)
		}
	}
}
