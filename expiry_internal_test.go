package coalesce

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// TestOrder_FirstToExpire: after any sequence of insertions and removals, the first
// element is the one that ends first and, of equals, the one that was put in first; and
// no element moves when the order grows, apart from those in its first chunk.
func TestOrder_FirstToExpire(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var o order[int, int]
	var in []*lingerer[int, int] // sorted like the order
	take := func(i int) {
		p := in[i]
		heap.Remove(&o, int(p.place))
		in = slices.Delete(in, i, i+1)
		if p.place != -1 {
			t.Fatalf("a removed element: got the place %d, want -1", p.place)
		}
	}
	check := func() {
		t.Helper()
		if o.n != len(in) || o.n > 0 && o.first() != in[0] || o.n == 0 && (o.first() != nil || o.chunks != nil) {
			t.Fatalf("got %d in the order, first %+v, want %d, first %+v", o.n, o.first(), len(in), in[0])
		}
		if spare := len(o.chunks)*orderChunk - o.n; spare > 2*orderChunk {
			t.Fatalf("got %d chunks for %d elements, want two more than needed at most", len(o.chunks), o.n)
		}
		for _, chunk := range o.chunks[len(o.chunks):cap(o.chunks)] {
			if chunk != nil {
				t.Fatalf("got a chunk behind the last of %d, want none kept", len(o.chunks))
			}
		}
	}
	for _, want := range []int{10, 0, 3*orderChunk + 7, orderChunk - 1, 2*orderChunk + 1, 1, 0} {
		for len(in) != want {
			switch {
			case len(in) > want || r.IntN(5) == 0 && len(in) > 0:
				take(r.IntN(len(in)))
			default:
				p := &lingerer[int, int]{end: r.Int64N(50)}
				heap.Push(&o, p)
				i, _ := slices.BinarySearchFunc(in, p, func(q, p *lingerer[int, int]) int {
					return cmp.Or(cmp.Compare(q.end, p.end), -1) // after its equals
				})
				in = slices.Insert(in, i, p)
			}
			check()
		}
	}
	var second *element[int, int] // of the second chunk, the first
	for range 3 * orderChunk {
		p := &lingerer[int, int]{end: r.Int64N(50)}
		heap.Push(&o, p)
		if o.n == orderChunk+1 {
			second = o.at(orderChunk)
		}
	}
	if o.at(orderChunk) != second {
		t.Error("got an element that has moved, want it in its place")
	}
}

// TestOrder_KeepsAnEmptyChunk: an order that changes by a few elements allocates nothing,
// even if that removes the last element of a chunk and puts it back.
func TestOrder_KeepsAnEmptyChunk(t *testing.T) {
	var o order[int, int]
	for range 2*orderChunk + 1 {
		heap.Push(&o, new(lingerer[int, int]))
	}
	if n := testing.AllocsPerRun(10, func() {
		p, q := o.first(), o.at(1).lingerer
		heap.Remove(&o, int(p.place))
		heap.Remove(&o, int(q.place))
		heap.Push(&o, p)
		heap.Push(&o, q)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// TestOrder_BeginsSmall: a group with a few outcomes does not allocate room for a chunk of them.
func TestOrder_BeginsSmall(t *testing.T) {
	var o order[int, int]
	heap.Push(&o, new(lingerer[int, int]))
	if room := cap(o.chunks[0]); room > 8 {
		t.Errorf("got room for %d elements, want 8 at most", room)
	}
}

// keepFor makes the outcome of key linger for the time life.
func keepFor(g *Group[int, time.Duration], key int, life time.Duration) {
	_, _, _ = g.Do(key, func() (time.Duration, error) { return life, nil })
}

func lifeIsTheValue(life time.Duration, _ error) time.Duration { return life }

// TestSweep_FewTimers: outcomes that linger for a moment, one after another, beside one
// that lingers long, do not start a timer for the long one each time; nor do many that
// expire one after another have a sweep each.
func TestSweep_FewTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, time.Duration]{LingerFor: lifeIsTheValue}
		l := g.use().lingering
		keepFor(&g, 0, time.Hour)
		due := func() []int64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.sweeps)
		}
		first := due()[0]
		for range 1000 {
			keepFor(&g, 1, time.Millisecond)
			if now := due(); len(now) > 2 || now[0] != first {
				t.Fatalf("got sweeps due at %v, want one at %d and one more", now, first)
			}
			time.Sleep(3 * time.Millisecond)
			synctest.Wait()
		}
		sweeps := map[int64]bool{}
		for key := range 1600 {
			keepFor(&g, key+2, 16*time.Second)
			sweeps[slices.Min(due())] = true
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		for range 1600 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			sweeps[slices.Min(due())] = true
		}
		if n, err := g.use().check(false); n != 1 || err != nil || len(sweeps) > 2*sweepFraction+2 {
			t.Errorf("got %d lingering, %v, after %d sweeps, want 1, nil, after at most %d", n, err, len(sweeps), 2*sweepFraction+2)
		}
	})
}

// TestSweep_SoonEnough: an outcome gets no sweep of its own if the next one comes soon after
// its end, that is after a sixteenth of its life at most.
func TestSweep_SoonEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, time.Duration]{LingerFor: lifeIsTheValue}
		l, start := g.use().lingering, sched.Now()
		for i, c := range []struct {
			life time.Duration
			want []time.Duration // when sweeps are due
		}{
			{1600, []time.Duration{1600}},
			{1550, []time.Duration{1600}},
			{1500, []time.Duration{1600, 1500}},
			{1480, []time.Duration{1600, 1500}},
			{160, []time.Duration{1600, 1500, 160}},
		} {
			keepFor(&g, i, c.life*time.Millisecond)
			l.mu.Lock()
			var got []time.Duration
			for _, due := range l.sweeps {
				got = append(got, time.Duration(due-start)/time.Millisecond)
			}
			l.mu.Unlock()
			if !slices.Equal(got, c.want) {
				t.Errorf("after a life of %d ms: got sweeps due at %d, want %d", c.life, got, c.want)
			}
		}
	})
}

// TestSweep_EarlierOne: an outcome that expires before all others gets a sweep of its own,
// and the later ones are not lost.
func TestSweep_EarlierOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, time.Duration]{LingerFor: lifeIsTheValue}
		for key, life := range []time.Duration{time.Hour, time.Minute, time.Second, 10 * time.Second} {
			keepFor(&g, key, life)
			if n, err := g.use().check(false); n != key+1 || err != nil {
				t.Errorf("got %d lingering, %v, want %d, nil", n, err, key+1)
			}
		}
		for i, wait := range []time.Duration{time.Second, 9 * time.Second, 50 * time.Second, 59 * time.Minute} {
			time.Sleep(wait)
			synctest.Wait()
			if n, err := g.use().check(false); n != 3-i || err != nil {
				t.Errorf("after %d have expired: got %d lingering, %v, want %d, nil", i+1, n, err, 3-i)
			}
		}
	})
}

// TestSweep_Strays: an outcome that was kept by another clock is freed when the next
// outcome begins to linger, even if by its own clock it does not expire for long; an
// outcome that never expires stays.
func TestSweep_Strays(t *testing.T) {
	testStrays(t, time.Hour)
	testStrays(t, time.Nanosecond)
}

// testStrays is TestSweep_Strays for a clock that was so far ahead.
func testStrays(t *testing.T, ahead time.Duration) {
	t.Helper()
	g := Group[int, time.Duration]{LingerFor: lifeIsTheValue, LingerMax: 3000}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(ahead)
		for key := range 2*orderChunk + 10 {
			keepFor(&g, key, time.Hour)
		}
		keepFor(&g, -1, Forever)
	})
	synctest.Test(t, func(t *testing.T) { // its clock begins before that
		keepFor(&g, -2, time.Minute)
		synctest.Wait()
		if n, err := g.use().check(false); n != 2 || err != nil {
			t.Errorf("got %d lingering, %v, want 2, nil", n, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, err := g.use().check(false); n != 1 || err != nil {
			t.Errorf("got %d lingering, %v, want 1, nil", n, err)
		}
	})
}

// TestSweep_BeforeTheEnd: a sweep removes the index entries of expired outcomes, but not
// an outcome that has come to the same key since.
func TestSweep_BeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, time.Duration]{LingerFor: lifeIsTheValue}
		l := g.use().lingering
		keepFor(&g, 1, time.Second)
		p := lingererOf(&g, 1)
		l.mu.Lock()
		l.remove(p) // as a sweep does, which then releases the lock
		l.mu.Unlock()
		keepFor(&g, 1, time.Hour)
		p.unindex()
		if n, err := g.use().check(false); n != 1 || err != nil {
			t.Errorf("got %d lingering, %v, want 1, nil", n, err)
		}
		if !g.Forget(1) {
			t.Error("Forget: got false, want true")
		}
	})
}
