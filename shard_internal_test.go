package coalesce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// TestShard_Size: the fields that the fast path writes are in a shard's first cache line;
// the shard ends in padding; and with short keys it has, on 64-bit machines, two whole
// pairs of lines, which the allocator aligns.
func TestShard_Size(t *testing.T) {
	var ints shard[int, string]
	var strs shard[string, string]
	if end := unsafe.Offsetof(strs.counts) + 8; end > 64 {
		t.Errorf("got the fields that a Do writes end at %d, want 64 at most", end)
	}
	if end := unsafe.Offsetof(strs.drained) + unsafe.Sizeof(strs.drained); unsafe.Sizeof(strs)-end < shardPadding {
		t.Errorf("got the fields end at %d of %d, want a padding of %d", end, unsafe.Sizeof(strs), shardPadding)
	}
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // pointers are half as long, and so is the padding between two shards
	}
	if a, b := unsafe.Sizeof(ints), unsafe.Sizeof(strs); a <= 240 || a > 256 || b != 256 {
		t.Errorf("got shards of %d and %d bytes, want 241 to 256 and 256", a, b)
	}
	tab := newGroupState(&Group[string, string]{Shards: 16})
	for i := range tab.shards {
		if a := uintptr(unsafe.Pointer(tab.at(i))); a%128 != 0 {
			t.Errorf("got a shard at %#x, want it aligned to 128", a)
		}
	}
}

// TestFlight_Size: a record is small, as there may be a million.
func TestFlight_Size(t *testing.T) {
	if n := unsafe.Sizeof(flight[string, any]{}); unsafe.Sizeof(uintptr(0)) == 8 && n > 96 {
		t.Errorf("got a flight of %d bytes, want 96 at most", n)
	}
}

// at returns the shard with index i. It makes the shard if there is none.
func (gs *groupState[K, V]) at(i int) *shard[K, V] { return gs.shard(uint64(i) << gs.shift) }

// check returns an error if one of S1, S2, S4 and the counts does not hold.
func (s *shard[K, V]) check() error {
	n, size := 0, len(s.chains)
	if f := s.lone; s.alone && f == nil || !s.alone && f != nil && (f.cold != nil || f.known || f.done != nil || f.born != 0) {
		return fmt.Errorf("alone %v: the lone flight is %+v", s.alone, f)
	}
	if size > 0 && (s.mask&(s.mask+1) != 0 || uint32(size-1) > s.mask || uint32(size-1) <= s.mask>>1) {
		return fmt.Errorf("%d buckets with mask %b", size, s.mask)
	}
	for i, f := range s.chains {
		for ; f != nil; f = f.next {
			n++
			if int(s.index(f.hash)) != i {
				return fmt.Errorf("hash %x is in bucket %d of %d", f.hash, i, size)
			}
			if f.state == finished || f.state == queued || f.detached {
				return fmt.Errorf("registered in state %d, detached %v", f.state, f.detached)
			}
		}
	}
	if n != int(s.count) || n > size {
		return fmt.Errorf("%d flights in %d buckets, counted %d", n, size, s.count)
	}
	free := 0
	for f := s.free; f != nil; f = f.next {
		free++
		if f.cold != nil || f.known || f.done != nil || f.born != 0 {
			return fmt.Errorf("a used flight is free: %+v", f)
		}
	}
	if free != int(s.nfree) || free > maxKept {
		return fmt.Errorf("%d free flights, counted %d", free, s.nfree)
	}
	return nil
}

// add registers a flight with a record for the key that is its own hash.
func (s *shard[K, V]) add(h uint64) *flight[uint64, V] {
	u := any(s).(*shard[uint64, V])
	f := u.take()
	f.key, f.hash = h, uint32(h)
	u.link(f)
	return f
}

// TestShard_LinearHash grows and shrinks a table at random, and checks it all
// the way.
func TestShard_LinearHash(t *testing.T) {
	s := new(shard[uint64, int])
	in := map[uint64]*flight[uint64, int]{}
	r := rand.New(rand.NewPCG(1, 2))
	largest := 0
	for round := range 40 {
		for range r.IntN(2000) {
			h := r.Uint64()
			if round%2 == 0 {
				in[h] = s.add(h)
			} else {
				for k, f := range in {
					s.retire(f)
					delete(in, k)
					break
				}
			}
			if r.IntN(50) == 0 {
				if err := s.check(); err != nil {
					t.Fatal(err)
				}
			}
		}
		largest = max(largest, len(s.chains))
		for k, f := range in {
			if s.lookup(k, k, true) != f {
				t.Fatalf("key %x: got another flight, want its own", k)
			}
		}
		if len(in) != int(s.count) {
			t.Fatalf("got count %d, want %d", s.count, len(in))
		}
	}
	for k, f := range in {
		s.retire(f)
		delete(in, k)
	}
	if largest < 1000 || len(s.chains) > keptBuckets || cap(s.chains) > 8*keptBuckets {
		t.Errorf("got %d buckets with room for %d after %d, want them shrunk", len(s.chains), cap(s.chains), largest)
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// TestShard_CheckReportsBroken: check reports every kind of damage.
func TestShard_CheckReportsBroken(t *testing.T) {
	for name, damage := range map[string]func(s *shard[uint64, int], f *flight[uint64, int]){
		"bucket": func(_ *shard[uint64, int], f *flight[uint64, int]) { f.hash++ },
		"count":  func(s *shard[uint64, int], _ *flight[uint64, int]) { s.count++ },
		"state":  func(_ *shard[uint64, int], f *flight[uint64, int]) { f.state = finished },
		"mask":   func(s *shard[uint64, int], _ *flight[uint64, int]) { s.mask = 5 },
		"free":   func(s *shard[uint64, int], _ *flight[uint64, int]) { s.free.known = true },
	} {
		s := new(shard[uint64, int])
		f, extra := s.add(1), s.add(2)
		s.retire(extra)
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if damage(s, f); s.check() == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}

// TestShard_MillionKeys: with a million keys in flight at once, no chain is long, in any
// shard, and each key takes little memory, which is logged.
func TestShard_MillionKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second and 100 MB")
	}
	const n = 1_000_000
	var g Group[uint64, int]
	tab := g.use()
	flights := make([]*flight[uint64, int], n)
	before := heapInUse()
	for k := range flights {
		h, _ := tab.hash(uint64(k))
		flights[k] = tab.shard(h).add(h)
	}
	perKey := float64(heapInUse()-before) / n
	longest, used := 0, 0
	for i := range tab.shards {
		s := tab.at(i)
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if share := float64(s.count) * float64(len(tab.shards)) / n; share < 0.9 || share > 1.1 {
			t.Errorf("shard %d: got %.2f of its share, want 0.9 to 1.1", i, share)
		}
		for _, f := range s.chains {
			chain := 0
			for ; f != nil; f = f.next {
				chain++
			}
			longest = max(longest, chain)
			if chain > 0 {
				used++
			}
		}
	}
	t.Logf("%.0f bytes for each key in flight; longest chain %d", perKey, longest)
	if longest > 16 {
		t.Errorf("got a chain of %d, want 16 at most", longest)
	}
	if perKey > 120 {
		t.Errorf("got %.0f bytes for each key, want 120 at most", perKey)
	}
	for _, f := range flights {
		tab.shard(f.key).unlink(f)
	}
	runtime.KeepAlive(flights)
	if g.Len() != 0 {
		t.Errorf("got Len %d, want 0", g.Len())
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestGroupState_Shards: any number is rounded up to a power of two.
func TestGroupState_Shards(t *testing.T) {
	for in, want := range map[int]int{1: 1, 2: 2, 3: 4, 64: 64, 100: 128} {
		tab := newGroupState(&Group[int, int]{Shards: in})
		if got := len(tab.shards); got != want {
			t.Errorf("%d shards: got %d, want %d", in, got, want)
		}
		for _, h := range []uint64{0, 1, 1 << 63, ^uint64(0)} {
			tab.shard(h) // within bounds
		}
	}
	if got := len(newGroupState(&Group[int, int]{}).shards); got < runtime.GOMAXPROCS(0) {
		t.Errorf("default: got %d shards, want %d at least", got, runtime.GOMAXPROCS(0))
	}
}

// TestGroupState_HashMixesUserHash: a user's hash that varies in a few bits only still
// uses all shards and buckets.
func TestGroupState_HashMixesUserHash(t *testing.T) {
	for shift := range 60 {
		tab := newGroupState(&Group[int, int]{Shards: 64, Hash: func(k int) uint64 { return uint64(k) << shift }})
		shards, low := map[*shard[int, int]]bool{}, map[uint64]bool{}
		n := min(1024, 1<<(64-shift)-1)
		for k := range n {
			h, _ := tab.hash(k)
			shards[tab.shard(h)] = true
			low[h&1023] = true
		}
		if len(shards) < min(n, 64)/3 || len(low) < n/3 {
			t.Errorf("shift %d: got %d keys in %d shards and %d buckets, want them spread", shift, n, len(shards), len(low))
		}
	}
}

// TestTable_Sizes: a table begins with firstBuckets, grows by one bucket for each flight
// beyond that, and shrinks, not below keptBuckets, when three of four are empty.
func TestTable_Sizes(t *testing.T) {
	var b table[int, int]
	flights := make([]flight[int, int], keptBuckets+4)
	for i := range flights {
		f := &flights[i]
		f.key, f.hash = i, uint32(i)
		b.link(f)
		if n, want := len(b.chains), max(firstBuckets, i+1); n != want {
			t.Fatalf("%d flights: got %d buckets, want %d", i+1, n, want)
		}
	}
	quarter := len(flights) / 4
	for i := range flights[quarter:] {
		b.unlink(&flights[quarter+i])
	}
	if n := len(b.chains); n != len(flights) {
		t.Errorf("a quarter of the flights: got %d buckets, want all %d", n, len(flights))
	}
	b.unlink(&flights[0])
	if n := len(b.chains); n != keptBuckets {
		t.Errorf("less than a quarter: got %d buckets, want %d", n, keptBuckets)
	}

	b = table[int, int]{}
	flights = flights[:keptBuckets+1]
	for i := range flights {
		b.link(&flights[i])
	}
	for i := range flights {
		b.unlink(&flights[i])
	}
	if n := len(b.chains); n != keptBuckets {
		t.Errorf("no flight after %d: got %d buckets, want %d", len(flights), n, keptBuckets)
	}
}

// TestTable_ShrunkKeepNothing: no flight is kept in the place of former buckets (G12).
func TestTable_ShrunkKeepNothing(t *testing.T) {
	var b table[int, int]
	flights := make([]flight[int, int], 2*keptBuckets)
	for i := range flights {
		flights[i].hash = uint32(i)
		b.link(&flights[i])
	}
	for i := range flights {
		if b.unlink(&flights[i]); len(b.chains) < len(flights) {
			break
		}
	}
	if b.count == 0 {
		t.Fatal("got a table that shrinks only when it is empty, want it earlier")
	}
	for i, f := range b.chains[len(b.chains):cap(b.chains)] {
		if f != nil {
			t.Errorf("got a flight kept %d beyond the end, want none", i)
		}
	}
}

// TestFirstUse_LooksMakeNoShard: a call makes the shard of its key and no other; code
// that only looks, and a call whose context has ended, make none.
func TestFirstUse_LooksMakeNoShard(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var g Group[int, int]
	count := func() (n int) {
		for range g.use().all() {
			n++
		}
		return n
	}
	for name, look := range map[string]func(){
		"Stats":          func() { g.Stats() },
		"Len":            func() { g.Len() },
		"Flights":        func() { g.Flights()(func(Flight[int]) bool { return true }) },
		"Forget":         func() { wantForgot(t, "Forget", g.Forget(1), false) },
		"ForgetUnshared": func() { wantForgot(t, "ForgetUnshared", g.ForgetUnshared(1), true) },
		"ForgetFlight":   func() { wantForgot(t, "ForgetFlight", g.ForgetFlight(1), false) },
		"ForgetFunc": func() {
			wantForgot(t, "ForgetFunc", g.ForgetFunc(func(int) bool { return true }) > 0, false)
		},
		"ended on entry": func() { _, _, _ = g.DoContext(ended, 1, nothing) },
		"ended, DoMulti": func() {
			g.DoMulti(ended, []int{1}, func(context.Context, []int) (map[int]int, error) { return nil, nil })
		},
	} {
		if look(); count() != 0 {
			t.Fatalf("%s: got %d shards, want none", name, count())
		}
	}
	for range 2 {
		if _, _, _ = g.DoContext(t.Context(), 1, nothing); count() != 1 {
			t.Errorf("got %d shards after calls for one key, want 1", count())
		}
	}
	if st := g.Stats(); st.EndedOnEntry != 2 || st.Led != 2 || st.Calls != 4 {
		t.Errorf("got %+v, want 2 ended on entry and 2 led", st)
	}
}

func wantForgot(t *testing.T, form string, got, want bool) {
	t.Helper()
	if got != want {
		t.Errorf("%s of a key without a shard: got %v, want %v", form, got, want)
	}
}

// TestFirstUse_Shutdown: a call for a key whose shard had not been made before Shutdown
// is refused, and counted once.
func TestFirstUse_Shutdown(t *testing.T) {
	g := Group[int, int]{Shards: 64}
	_, _, _ = g.Do(0, func() (int, error) { return 0, nil })
	for range 2 {
		if err := g.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const n = 1000 // keys in all shards
	for key := range n {
		if _, _, err := g.Do(key, func() (int, error) { return 0, nil }); err != ErrClosed {
			t.Fatalf("key %d: got error %v, want ErrClosed", key, err)
		}
	}
	shards := 0
	for s := range g.use().all() {
		shards++
		if !s.closed || s.plain {
			t.Error("got an open shard, want all closed")
		}
	}
	if st := g.Stats(); shards != 2 || st.Rejected != n || st.Led != 1 {
		t.Errorf("got %d shards and %+v, want 2, the used one and the stand-in, and %d rejected calls", shards, st, n)
	}
	if g.Forget(1) || g.Len() != 0 {
		t.Error("got a flight in the stand-in, want none")
	}
}

// TestFirstUse_ShutdownMeanwhile: of a Shutdown and a call that makes a shard at the same
// moment, one is first: either the call leads, and Shutdown waits for it, or it is
// refused.
func TestFirstUse_ShutdownMeanwhile(t *testing.T) {
	for range 500 {
		g := Group[int, int]{Shards: 4}
		var led atomic.Int64
		var wg sync.WaitGroup
		for key := range 8 {
			wg.Go(func() {
				_, _, err := g.Do(key, func() (int, error) { led.Add(1); return 0, nil })
				if err != nil && err != ErrClosed {
					t.Errorf("got error %v, want none or ErrClosed", err)
				}
			})
		}
		if err := g.Shutdown(context.Background()); err != nil {
			t.Errorf("got error %v, want none", err)
		}
		before := led.Load()
		wg.Wait()
		if st := g.Stats(); led.Load() != before || st.Led != uint64(before) || st.Calls != 8 {
			t.Fatalf("got %d executions, %d of them after Shutdown, and %+v, want none after it", led.Load(), led.Load()-before, st)
		}
	}
}

// TestFirstUse_Numbers: no two flights and no two events have the same number, at
// whichever time their shards were made.
func TestFirstUse_Numbers(t *testing.T) {
	seen := map[uint64]bool{}
	note := func(_ context.Context, e Event[int]) {
		if seen[e.Seq] {
			t.Errorf("got the number %d twice, want each once", e.Seq)
		}
		seen[e.Seq] = true
	}
	start := func(ctx context.Context, e Event[int]) context.Context { note(ctx, e); return nil }
	g := Group[int, int]{Shards: 8, Hooks: Hooks[int]{Start: start, Finish: note}}
	for key := range 200 {
		_, _, _ = g.Do(key%(key/10+1), func() (int, error) { return 0, nil })
	}
	if len(seen) != 400 {
		t.Errorf("got %d numbers, want 400", len(seen))
	}
}
