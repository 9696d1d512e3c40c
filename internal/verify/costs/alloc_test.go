//go:build !race

package costs_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// The race detector allocates for itself, so these tests are not part of a
// build with it.

// TestAllocs_Do: a call that no other call joins allocates nothing, although its closure
// captures, for every type of key.
func TestAllocs_Do(t *testing.T) {
	type wide struct {
		s string
		b [128]byte
	}
	var (
		ints    coalesce.Group[int, int]
		nested  = coalesce.Group[int, int]{Shards: 1 << 12} // no shard has more flights than it keeps records
		strs    coalesce.Group[string, []byte]
		structs coalesce.Group[wide, int]
		anys    coalesce.Group[any, int]
		hashed  = coalesce.Group[string, int]{Hash: coalesce.HashString}
	)
	n, buf, key := 0, []byte("x"), any("key")
	for name, call := range map[string]func(){
		"int":    func() { ints.Do(n&63, func() (int, error) { n++; return n, nil }) },
		"string": func() { strs.Do("key", func() ([]byte, error) { n++; return buf, nil }) },
		"struct": func() { structs.Do(wide{s: "a", b: [128]byte{1}}, func() (int, error) { n++; return n, nil }) },
		"any":    func() { anys.Do(key, func() (int, error) { n++; return n, nil }) },
		"hashed": func() { hashed.Do("key", func() (int, error) { n++; return n, nil }) },
		"TryDo":  func() { hashed.TryDo("key", func() (int, error) { n++; return n, nil }) },
		"nested": func() {
			for range 2 {
				nest(&nested, 0, 32, func() { n++ })
			}
		},
	} {
		call()
		want := 0.0
		if name == "nested" {
			// The recursion's own closures.
			want = testing.AllocsPerRun(200, func() {
				for range 2 {
					nestNothing(0, 32, func() { n++ })
				}
			})
		}
		if got := testing.AllocsPerRun(200, call); got > want {
			t.Errorf("%s: got %v allocations, want %v", name, got, want)
		}
	}
}

// TestFirstUse: the first call of a group that has no option set allocates little,
// however many shards the group may make later.
func TestFirstUse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, procs := range []int{2, 64, 128} {
		bytes := uint64(1536 + 9*16*procs)
		for _, tt := range []struct {
			name  string
			most  uint64 // allocations
			first func(g *kit.Group)
		}{
			{"Do", 5, func(g *kit.Group) { g.Do("k", kit.Value(1)) }},
			{"DoContext", 10, func(g *kit.Group) { g.DoContext(ctx, "k", ctxNothing) }},
			{"ended on entry", 4, func(g *kit.Group) { g.DoContext(kit.EndedContext, "k", ctxNothing) }},
			{"Forget", 3, func(g *kit.Group) { g.Forget("k") }},
			{"Stats", 3, func(g *kit.Group) { g.Stats() }},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				least := runtime.MemStats{Mallocs: math.MaxUint64, TotalAlloc: math.MaxUint64}
				for range 20 { // other goroutines allocate as well
					var before, after runtime.MemStats
					g := new(kit.Group)
					runtime.ReadMemStats(&before)
					tt.first(g)
					runtime.ReadMemStats(&after)
					least.Mallocs = min(least.Mallocs, after.Mallocs-before.Mallocs)
					least.TotalAlloc = min(least.TotalAlloc, after.TotalAlloc-before.TotalAlloc)
				}
				t.Logf("%d allocations, %d bytes", least.Mallocs, least.TotalAlloc)
				if least.Mallocs > tt.most || least.TotalAlloc > bytes {
					t.Errorf("got %d allocations and %d bytes, want at most %d and %d", least.Mallocs, least.TotalAlloc, tt.most, bytes)
				}
			})
		}
	}
}

// nestNothing is nest without a group.
func nestNothing(from, to int, inner func()) {
	if from == to {
		inner()
		return
	}
	func() { nestNothing(from+1, to, inner) }()
}

// TestAllocs_DoContext: a leader whose ctx can end makes two allocations, fn's context
// and the channel that it waits on, and fn's Done one more; a leader whose ctx cannot end
// makes none. A DoChan allocates the caller, the flight, fn's context, the goroutine, the
// channel and, because of the runtime, the channel's buffer.
func TestAllocs_DoContext(t *testing.T) {
	var g kit.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	plain := kit.CtxValue(1)
	asks := func(ctx context.Context) (int, error) { ctx.Done(); return 1, nil }
	for name, tt := range map[string]struct {
		want float64
		call func()
	}{
		"can end":           {2, func() { g.DoContext(ctx, "k", plain) }},
		"can end, Done":     {3, func() { g.DoContext(ctx, "k", asks) }},
		"cannot end":        {0, func() { g.DoContext(context.Background(), "k", plain) }},
		"fresh":             {2, func() { g.DoFresh(ctx, "k", plain) }},
		"channel":           {6, func() { <-g.DoChan(context.Background(), "k", plain) }},
		"ended on entry":    {0, func() { g.DoContext(kit.EndedContext, "k", plain) }},
		"forget, no flight": {0, func() { g.Forget("k") }},
	} {
		tt.call()
		if got := testing.AllocsPerRun(500, tt.call); got > tt.want {
			t.Errorf("%s: got %v allocations, want %v", name, got, tt.want)
		}
	}
}

// TestAllocs_DoMulti: beside the map that it returns, a DoMulti makes seven allocations,
// for any number of keys: its parts, the batch, the load, the claims, the channel, the
// goroutine and the keys for fn. There are so many shards here that hardly two keys share
// one: the shards keep a record for each key.
func TestAllocs_DoMulti(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, n := range []int{1, 10, 100} {
		g := coalesce.Group[int, int]{Shards: 1 << 16}
		keys, loaded := make([]int, n), map[int]int{}
		for i := range keys {
			keys[i], loaded[i] = i, i
		}
		fn := func(context.Context, []int) (map[int]int, error) { return loaded, nil }
		g.DoMulti(ctx, keys, fn)
		var r map[int]coalesce.Result[int]
		want := 7 + testing.AllocsPerRun(200, func() {
			r = make(map[int]coalesce.Result[int], n)
			for i := range keys {
				r[i] = coalesce.Result[int]{}
			}
		})
		if got := testing.AllocsPerRun(200, func() { r = g.DoMulti(ctx, keys, fn) }); got > want || len(r) != n {
			t.Errorf("%d keys: got %v allocations, want %v", n, got, want)
		}
	}
}

// TestAllocs_Lingers: a call that a lingering outcome answers does not ask its context
// for a Done channel, which would allocate it.
func TestAllocs_Lingers(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	keys := []string{"a", "b", "c", "d"}
	for _, k := range keys {
		g.Do(k, kit.Value(1))
	}
	contexts := testing.AllocsPerRun(200, func() {
		_, cancel := context.WithCancel(context.Background())
		cancel()
	})
	none := func(context.Context, []string) (map[string]int, error) { return nil, nil }
	results := testing.AllocsPerRun(200, func() { g.DoMulti(context.Background(), keys, none) })
	for name, tt := range map[string]struct {
		want float64
		call func(ctx context.Context)
	}{
		"DoContext": {contexts, func(ctx context.Context) { g.DoContext(ctx, "a", ctxNothing) }},
		"DoMulti":   {contexts + results, func(ctx context.Context) { g.DoMulti(ctx, keys, none) }},
	} {
		if got := testing.AllocsPerRun(200, func() {
			ctx, cancel := context.WithCancel(context.Background())
			tt.call(ctx)
			cancel()
		}); got > tt.want {
			t.Errorf("%s: got %v allocations, want %v", name, got, tt.want)
		}
	}
	if results > 6 {
		t.Errorf("got %v allocations for a DoMulti that is answered at once, want at most 6", results)
	}
}

// TestAllocs_DoMultiDuplicates: a key costs memory once, however often it occurs, in a
// call that starts a flight and in one that does not.
func TestAllocs_DoMultiDuplicates(t *testing.T) {
	for _, different := range []int{1, 10, 1000} {
		var g coalesce.Group[int, int]
		few, many := make([]int, different), make([]int, 1_000_000)
		for i := range many {
			many[i] = i % different
			few[i%different] = i % different
		}
		none := func(context.Context, []int) (map[int]int, error) { return nil, nil }
		for name, ctx := range map[string]context.Context{"led": t.Context(), "ended on entry": kit.EndedContext} {
			g.DoMulti(ctx, few, none)
			want := 2*bytesPerRun(10, func() { g.DoMulti(ctx, few, none) }) + 20_000
			if got := bytesPerRun(3, func() { g.DoMulti(ctx, many, none) }); got > want {
				t.Errorf("%s, %d different keys of %d: got %d bytes, want at most %d", name, different, len(many), got, want)
			}
		}
	}
}

// TestAllocs_DoMultiJoins: the callers of keys that a DoMulti joins share allocations.
func TestAllocs_DoMultiJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 64
		var g coalesce.Group[int, int]
		keys := make([]int, n)
		release := make(chan struct{})
		for i := range keys {
			keys[i] = i
			go g.Do(i, func() (int, error) { <-release; return i, nil })
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancelJoin := func() { // joins all and leaves them at once
			ctx, cancel := context.WithCancel(ctx)
			go func() { synctest.Wait(); cancel() }()
			g.DoMulti(ctx, keys, func(context.Context, []int) (map[int]int, error) { return nil, nil })
		}
		cancelJoin() // the flights get their completions
		if got := testing.AllocsPerRun(1, cancelJoin); got > n/2 {
			t.Errorf("got %v allocations for %d keys, want at most %d", got, n, n/2)
		}
		cancel()
		close(release)
	})
}

// TestAllocs_Bytes: the allocations of a call are small as well. The sizes are those of
// 64-bit machines; elsewhere they are smaller.
func TestAllocs_Bytes(t *testing.T) {
	g, many := kit.Group{}, kit.Group{Shards: 64} // they keep nearly a hundred records
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keys, loaded := make([]string, 100), map[string]int{}
	for i := range keys {
		keys[i] = "key " + strconv.Itoa(i)
		loaded[keys[i]] = i
	}
	fn := func(context.Context, []string) (map[string]int, error) { return loaded, nil }
	for name, tt := range map[string]struct {
		most uint64
		call func()
	}{
		"Do":                  {0, func() { g.Do("k", kit.Value(1)) }},
		"DoContext":           {224, func() { g.DoContext(ctx, "k", ctxNothing) }},
		"DoMulti of 100 keys": {17_000, func() { many.DoMulti(ctx, keys, fn) }},
	} {
		tt.call()
		if got := bytesPerRun(500, tt.call); got > tt.most {
			t.Errorf("%s: got %d bytes allocated, want at most %d", name, got, tt.most)
		}
	}
}

// bytesPerRun returns the average number of bytes that fn allocates, as
// [testing.AllocsPerRun] does the number of allocations.
func bytesPerRun(runs int, fn func()) uint64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		fn()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / uint64(runs)
}

// TestAllocs_Hooks: hooks cost a flight of a Do four allocations, and one more if a Leave
// has to follow a Start, and they cost a call that joins one, its event; Receive costs
// nothing in addition, nor does the context that Start returns, unless a DoContext runs
// fn itself.
func TestAllocs_Hooks(t *testing.T) {
	hook := func(context.Context, coalesce.Event[string]) {}
	none := func(context.Context, coalesce.Event[string]) context.Context { return nil }
	same := func(ctx context.Context, _ coalesce.Event[string]) context.Context { return ctx }
	for name, tt := range map[string]struct {
		hooks                   coalesce.Hooks[string]
		do, inline, own, follow float64
	}{
		"none":               {coalesce.Hooks[string]{}, 0, 0, 2, 0},
		"Receive":            {coalesce.Hooks[string]{Receive: hook}, 4, 4, 6, 1},
		"Start, nil":         {coalesce.Hooks[string]{Start: none}, 4, 4, 6, 1},
		"Start":              {coalesce.Hooks[string]{Start: same}, 4, 5, 6, 1},
		"all":                {coalesce.Hooks[string]{Start: same, Join: hook, Receive: hook, Leave: hook, Finish: hook}, 5, 6, 7, 1},
		"all, without Start": {coalesce.Hooks[string]{Join: hook, Receive: hook, Leave: hook, Finish: hook}, 4, 4, 6, 1},
	} {
		g := kit.Group{Hooks: tt.hooks}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		check := func(what string, want float64, call func()) {
			t.Helper()
			call()
			if got := testing.AllocsPerRun(200, call); got > want {
				t.Errorf("%s, %s: got %v allocations, want %v", name, what, got, want)
			}
		}
		check("Do", tt.do, func() { g.Do("k", func() (int, error) { n++; return n, nil }) })
		check("TryDo", tt.do, func() { g.TryDo("k", func() (int, error) { n++; return n, nil }) })
		check("DoContext inline", tt.inline, func() { g.DoContext(context.Background(), "k", ctxNothing) })
		check("DoContext", tt.own, func() { g.DoContext(ctx, "k", ctxNothing) })
		synctest.Test(t, func(t *testing.T) {
			follower := func() { g.Do("k", doNothing) }
			with := func(followers int) float64 {
				return testing.AllocsPerRun(20, func() {
					release := make(chan struct{})
					go g.Do("k", func() (int, error) { <-release; return 1, nil })
					synctest.Wait()
					for range followers {
						go follower()
					}
					synctest.Wait()
					close(release)
					synctest.Wait()
				})
			}
			if got := (with(50) - with(10)) / 40; got > tt.follow+0.5 {
				t.Errorf("%s: got %v allocations for a follower, want %v", name, got, tt.follow)
			}
		})
	}
}

func doNothing() (int, error) { return 0, nil }

// TestAllocs_Nested: the search for the flight whose fn makes a call costs no allocation,
// in any context, and a Do inside an fn is as cheap as outside. Only a call that has to
// be watched makes more: the edge, and the key in it.
func TestAllocs_Nested(t *testing.T) {
	var g kit.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 5 {
		ctx = context.WithValue(ctx, new(int), 1)
	}
	n := 0
	check := func(name string, want float64, call func()) {
		t.Helper()
		call()
		if got := testing.AllocsPerRun(500, call); got > want {
			t.Errorf("%s: got %v allocations, want %v", name, got, want)
		}
	}
	check("deep", 2, func() { g.DoContext(ctx, "k", ctxNothing) })
	never := context.WithValue(context.Background(), new(int), 1)
	check("never ends", 0, func() { g.DoContext(never, "k", ctxNothing) })
	detached := coalesce.Detach(ctx)
	check("detached", 2, func() { g.DoContext(detached, "k", ctxNothing) })
	if _, _, err := g.DoContext(ctx, "outer", func(ctx context.Context) (int, error) {
		ctx.Done()
		check("Do", 0, func() { g.Do("k", func() (int, error) { n++; return n, nil }) })
		check("cannot end", 0, func() { g.DoContext(context.Background(), "k", ctxNothing) })
		detached := coalesce.Detach(ctx)
		check("detached inside", 2, func() { g.DoContext(detached, "k", ctxNothing) })
		check("nested", 4, func() { g.DoContext(ctx, "k", ctxNothing) })
		return 0, nil
	}); err != nil {
		t.Error(err)
	}
}

// TestAllocs_Joined: a flight that was joined costs two allocations, its record and the
// channel, and its followers none, up to the number that the leader wakes by itself. The
// cost of the goroutines is not counted: they exist before.
func TestAllocs_Joined(t *testing.T) {
	for _, followers := range []int{1, 2, 8} {
		for name, follow := range map[string]func(g *kit.Group){
			"Do":        func(g *kit.Group) { g.Do("k", kit.Value(0)) },
			"DoContext": func(g *kit.Group) { g.DoContext(context.Background(), "k", ctxNothing) },
		} {
			var g kit.Group
			start, done := make(chan struct{}), make(chan struct{})
			for range followers {
				go func() {
					for range start {
						follow(&g)
						done <- struct{}{}
					}
				}()
			}
			flight := func() {
				before := g.Stats().Joined
				g.Do("k", func() (int, error) {
					for range followers {
						start <- struct{}{}
					}
					for g.Stats().Joined < before+uint64(followers) {
						runtime.Gosched()
					}
					return 1, nil
				})
				for range followers {
					<-done
				}
			}
			flight()
			if got := testing.AllocsPerRun(200, flight); got > 2 {
				t.Errorf("%s, %d followers: got %v allocations, want 2", name, followers, got)
			}
			close(start)
		}
	}
}

func ctxNothing(context.Context) (int, error) { return 0, nil }
