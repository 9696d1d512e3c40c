package coalesce

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestDistinct: each key occurs once, at its first place, with its hash, however many
// there are and whichever their hashes; a key that does not equal itself occurs each
// time.
func TestDistinct(t *testing.T) {
	for name, hash := range map[string]func(float64) uint64{
		"default":  nil,
		"constant": func(float64) uint64 { return 7 },
	} {
		for _, n := range []int{0, 1, 2, fewKeys - 1, fewKeys, fewKeys + 1, 4 * fewKeys, 4*fewKeys + 1, 3000} {
			for _, times := range []int{1, 3} {
				g := Group[float64, int]{Hash: hash}
				var keys []float64
				for i := range n {
					for range times {
						keys = append(keys, float64(i))
					}
				}
				rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
				nans := 0
				for i := range keys {
					if i%7 == 3 {
						keys = slices.Insert(keys, i, math.NaN())
						nans++
					}
				}
				var want []float64
				seen := map[float64]bool{}
				for _, k := range keys {
					if !seen[k] { // never, if it is NaN
						want = append(want, k)
					}
					seen[k] = true
				}
				parts := g.use().distinct(keys)
				if len(parts) != len(want) {
					t.Fatalf("%s hash, %d keys %d times and %d NaNs: got %d parts, want %d", name, n, times, nans, len(parts), len(want))
				}
				for i := range parts {
					p := &parts[i]
					h, reflexive := g.use().hash(want[i])
					if p.key != want[i] && reflexive || p.reflexive != reflexive || reflexive && p.hash != h {
						t.Fatalf("%s hash, part %d of %d: got %+v, want key %v, hash %d, reflexive %v", name, i, len(parts), p, want[i], h, reflexive)
					}
				}
			}
		}
	}
}

// TestDoMulti_LeavesWhileItsBatchFinishes: the context ends when the first flight of the
// batch has finished, and the second has not. The call gets the result of the first,
// which is only in the load, and for the second its result or the error.
func TestDoMulti_LeavesWhileItsBatchFinishes(t *testing.T) {
	for range 20 {
		g := Group[int, int]{Shards: 2}
		gs := g.use()
		var keys [2]int // one for each shard
		for k := range 1000 {
			h, _ := gs.hash(k)
			keys[h>>gs.shift] = k
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		results := make(chan map[int]Result[int])
		go func() {
			results <- g.DoMulti(ctx, keys[:], func(context.Context, []int) (map[int]int, error) {
				<-ended
				return map[int]int{keys[0]: 1, keys[1]: 2}, nil
			})
		}()
		first, second := gs.shard(0), gs.shard(1<<63)
		await := func(s *shard[int, int], busy bool) {
			for is := !busy; is != busy; time.Sleep(time.Microsecond) {
				s.mu.Lock()
				is = s.busy()
				s.mu.Unlock()
			}
		}
		await(second, true)
		second.mu.Lock() // finish has to wait here
		close(ended)
		await(first, false)
		cancel()
		time.Sleep(time.Millisecond)
		second.mu.Unlock()
		r := <-results
		if want := (Result[int]{Val: 1}); r[keys[0]] != want {
			t.Errorf("got %+v for the key whose flight has finished, want %+v", r[keys[0]], want)
		}
		if got := r[keys[1]]; got != (Result[int]{Val: 2}) && got != (Result[int]{Err: context.Canceled}) {
			t.Errorf("got %+v for the other key, want its value or the error of the context", got)
		}
		await(second, false)
		if st := g.Stats(); st.Led != 2 || st.Abandoned != 0 {
			t.Errorf("got %+v, want 2 led and none abandoned", st)
		}
	}
}

// TestBatch_RecordsAreUsedAgain: the record of a flight of a batch that no other call has
// a pointer to returns to its shard, and holds only the fields of an unused record,
// however fn ends, and even if its value lingers. A record that another call has a
// pointer to does not return.
func TestBatch_RecordsAreUsedAgain(t *testing.T) {
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(log)
	for name, g := range map[string]*Group[int, *int]{
		"plain":  {Shards: 1},
		"linger": {Shards: 1, Linger: Forever},
		"age":    {Shards: 1, MaxAge: time.Hour},
	} {
		for how, fn := range map[string]func() (map[int]*int, error){
			"returns": func() (map[int]*int, error) { return map[int]*int{1: new(int), 2: new(int)}, nil },
			"errs":    func() (map[int]*int, error) { return map[int]*int{1: new(int)}, ErrClosed },
			"absent":  func() (map[int]*int, error) { return nil, nil },
			"panics":  func() (map[int]*int, error) { panic("fn") },
		} {
			s := g.use().at(0)
			s.mu.Lock()
			s.free, s.nfree = nil, 0
			s.mu.Unlock()
			g.Forget(1)
			g.Forget(2)
			g.DoMulti(t.Context(), []int{1, 2}, func(context.Context, []int) (map[int]*int, error) {
				g.Forget(2)
				return fn()
			})
			f := s.free
			if f == nil || f.next != nil {
				t.Fatalf("%s, %s: got records %v, want one", name, how, f)
			}
			if want := (flight[int, *int]{callers: 1, leading: true, hash: f.hash}); *f != want {
				t.Errorf("%s, %s: got record %+v, want %+v", name, how, *f, want)
			}
		}
	}
}

// TestBatch_CommonPartDoesNotChange: the cold part that the flights of a batch have in
// common stays as it is, through all events of these flights (M5).
func TestBatch_CommonPartDoesNotChange(t *testing.T) {
	for name, hooks := range map[string]Hooks[int]{
		"without hooks": {}, "with hooks": {Join: func(context.Context, Event[int]) {}},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := Group[int, int]{Shards: 1, MaxAge: time.Hour, Linger: time.Hour, Hooks: hooks, Clone: func(v int) int { return v }}
			s := g.use().at(0)
			release := make(chan struct{})
			var nest context.Context
			load := func(context.Context, []int) (map[int]int, error) {
				<-release
				return map[int]int{0: 1, 1: 1, 2: 1, 3: 1}, nil
			}
			go g.DoMulti(t.Context(), []int{0, 1, 2, 3, 4, 5, 6}, load)
			go func() {
				_, _, _ = g.DoContext(t.Context(), 10, func(ctx context.Context) (int, error) {
					nest = ctx
					<-release
					return 0, nil
				})
			}()
			synctest.Wait()
			h, _ := g.use().hash(0)
			b := s.find(h, 0).batch()
			check := func(when string) {
				synctest.Wait()
				if want := (cold[int, int]{ctx: &b.ctx, batch: b, common: true}); !reflect.DeepEqual(b.cold, want) {
					t.Errorf("%s, %s: got common part %+v, want %+v", name, when, b.cold, want)
				}
			}
			check("led")
			for range 2 * perCompletion { // so that some have no room on done
				go g.Do(0, func() (int, error) { return 0, nil })
			}
			check("joined")
			g.DoChan(t.Context(), 1, nothing)
			check("joined by a receiver")
			go func() { _, _, _ = g.DoFresh(t.Context(), 2, nothing) }()
			check("queued behind")
			g.Forget(3)
			check("forgotten")
			go func() { _, _, _ = g.DoContext(nest, 5, nothing) }()
			check("joined by a nested call")
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _, _, _ = g.DoContext(ctx, 4, nothing) }()
			check("joined by a call that leaves")
			cancel()
			check("left")
			for range g.Flights() {
			}
			check("seen")
			close(release)
			check("finished")
		})
	}
}

// TestBatch_ConcludedIsNotAbandoned: once fn has returned, a batch that all callers leave
// before its last flight has finished is not abandoned: its context does not end, a new
// call joins, and values linger.
func TestBatch_ConcludedIsNotAbandoned(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s := g.use().at(0)
	ctx := context.Background()
	l := newLoad[int, int](ctx, func(context.Context, []int) (map[int]int, error) { return nil, nil }, 1)
	b := l.batch
	c := caller[int, int]{shard: s, ctx: ctx, leads: true}
	h, _ := g.use().hash(1)
	s.mu.Lock()
	s.note(callLed, l.add(s, h, 1), &c)
	s.mu.Unlock()
	b.counted(1)
	c.flight = l.share(0)
	b.conclude()
	if !c.withdraw(ctx) {
		t.Fatal("withdraw: got false, want true")
	}
	if st := g.Stats(); c.flight.abandoned() || b.ctx.Err() != nil || st.Left != 1 || st.Abandoned != 0 {
		t.Errorf("got abandoned %v, context %v, %+v, want a live batch that one call has left", c.flight.abandoned(), b.ctx.Err(), st)
	}
	late := caller[int, int]{ctx: ctx, fn: nothing}
	if v := late.arrive(g.use(), 1, anything); v != joins {
		t.Errorf("a late call: got verdict %d, want %d", v, joins)
	}
	s.mu.Unlock()
	l.answers = answers[int, int]{how: returned, values: map[int]int{1: 1}}
	l.ask()
	l.finish()
	if v, shared, err := g.Do(1, func() (int, error) { return 2, nil }); v != 1 || !shared || err != nil {
		t.Errorf("got %d, %v, %v, want 1, true, nil", v, shared, err)
	}
}

// TestDeadlock_LooksOfOneDoMulti: the looks for the keys of a DoMulti, which wait for
// different flights that all wait for the same one, pass the edges of that one once,
// whether there is a path back or not. When each look passed them, a DoMulti for 5,000
// keys took a processor for a minute. A path that is over by then is searched for again.
func TestDeadlock_LooksOfOneDoMulti(t *testing.T) {
	node := func() *flight[int, int] { return &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}} }
	lead := func(from, to *flight[int, int]) *edge {
		e := &edge{from: from.cold.ctx}
		point(e, to)
		return e
	}
	for _, back := range []bool{false, true} {
		from, hub := node(), node()
		lead(node(), from)
		var keys, far []*edge
		for range 10 {
			between := node()
			keys = append(keys, lead(from, between))
			lead(between, hub)
			far = append(far, lead(hub, node()))
		}
		way := far[0]
		if back {
			way = lead(hub, from)
		}
		found := map[*flightContext][]hop{}
		for i, e := range keys[:9] {
			if err := e.search(found); (err != nil) != back {
				t.Errorf("way back %v: key %d: got %v, want an error only for a path back", back, i, err)
			}
			if n := far[5].look; n != far[0].look || i > 0 && n >= looks {
				t.Errorf("way back %v: key %d: got the edges passed by look %d, want by the first of %d", back, i, n, looks)
			}
		}
		way.drop()
		if err := keys[9].search(found); err != nil {
			t.Errorf("way back %v, but over: got %v, want nil", back, err)
		}
		if !back {
			continue
		}
		other := node()
		lead(hub, other)
		lead(other, from)
		found = map[*flightContext][]hop{hub.cold.ctx: {{edge: way, from: hub.cold.ctx, to: from.cold.ctx}}}
		if err := keys[9].search(found); err == nil {
			t.Error("another way back: got no error, want a *DeadlockError")
		}
	}
}
