package coalesce

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

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
