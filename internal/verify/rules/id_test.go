package rules_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the ID and the age that Flights yields for a flight.

// only returns the only flight of g that Flights yields.
func only[K comparable, V any](t *testing.T, g *coalesce.Group[K, V]) coalesce.Flight[K] {
	t.Helper()
	all := slices.Collect(g.Flights())
	if len(all) != 1 {
		t.Fatalf("got %d flights, want 1: %+v", len(all), all)
	}
	return all[0]
}

// TestFlightID_Unique: no flight has the ID 0, no two have the same, and each keeps its
// own while it lives, in one shard and in many, also with keys that share a hash.
func TestFlightID_Unique(t *testing.T) {
	for name, g := range map[string]*coalesce.Group[int, int]{
		"default":     {},
		"one shard":   {Shards: 1},
		"many shards": {Shards: 1024},
		"one hash":    {Hash: func(int) uint64 { return 7 }},
		"hooks":       {Hooks: coalesce.Hooks[int]{Finish: func(context.Context, coalesce.Event[int]) {}}},
		"MaxAge":      {MaxAge: time.Hour},
		"Linger":      {Linger: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				seen := map[uint64]int{0: -1} // the key of each ID
				for range 3 {
					release := make(chan struct{})
					var wg sync.WaitGroup
					for key := range 600 {
						wg.Go(func() {
							if key%2 == 0 {
								g.Do(key, func() (int, error) { <-release; return 0, context.Canceled })
							} else {
								g.DoContext(ctx, key, func(context.Context) (int, error) { <-release; return 0, context.Canceled })
							}
						})
					}
					synctest.Wait()
					first := map[int]uint64{}
					for f := range g.Flights() {
						if key, is := seen[f.ID]; is {
							t.Fatalf("keys %d and %d: got the ID %d for both, want two", f.Key, key, f.ID)
						}
						seen[f.ID], first[f.Key] = f.Key, f.ID
					}
					for f := range g.Flights() {
						if f.ID != first[f.Key] {
							t.Errorf("key %d: got the ID %d, want %d", f.Key, f.ID, first[f.Key])
						}
					}
					if len(first) != 600 {
						t.Errorf("got %d flights, want 600", len(first))
					}
					close(release)
					wg.Wait()
				}
			})
		})
	}
}

// TestFlightID_Kept: a flight that is queued has the same ID when it is promoted, when
// it runs and when it is forgotten, in every form, with hooks and without.
func TestFlightID_Kept(t *testing.T) {
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"plain": {}, "hooks": {Join: func(context.Context, coalesce.Event[string]) {}},
	} {
		for _, f := range kit.Forms {
			t.Run(name+"/"+f.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := kit.Group{Hooks: hooks}
					old, next := kit.Abandon(t, &g, "k"), kit.Hold()
					kit.Go(t.Context(), f, &g, "k", next.CtxFn(2))
					synctest.Wait()
					var ids [2]uint64 // of the abandoned one and of the queued one
					for f := range g.Flights() {
						ids[f.State-coalesce.StateAbandoned] = f.ID
					}
					if ids[0] == ids[1] || ids[0] == 0 || ids[1] == 0 {
						t.Fatalf("got the IDs %d, want two", ids)
					}
					close(old.Release)
					synctest.Wait()
					if got := only(t, &g); got.ID != ids[1] || got.State != coalesce.StateRunning {
						t.Errorf("got %+v, want ID %d, running", got, ids[1])
					}
					g.Forget("k")
					if got := only(t, &g); got.ID != ids[1] || !got.Forgotten {
						t.Errorf("got %+v, want ID %d, forgotten", got, ids[1])
					}
					close(next.Release)
					synctest.Wait()
				})
			})
		}
	}
}

// TestFlightID_IsThatOfEvents: the events of a flight have the ID that Flights yields.
func TestFlightID_IsThatOfEvents(t *testing.T) {
	for _, f := range kit.Forms {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var got []uint64
			saw := func(_ context.Context, e coalesce.Event[string]) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, e.FlightID)
			}
			start := func(ctx context.Context, e coalesce.Event[string]) context.Context { saw(ctx, e); return nil }
			g := kit.Group{Hooks: coalesce.Hooks[string]{Start: start, Join: saw, Receive: saw, Leave: saw, Finish: saw}}
			h := kit.Hold()
			kit.Go(t.Context(), f, &g, "k", h.CtxFn(1))
			synctest.Wait()
			kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(0))
			synctest.Wait()
			id := only(t, &g).ID
			close(h.Release)
			synctest.Wait()
			if want := []uint64{id, id, id, id}; !slices.Equal(got, want) {
				t.Errorf("%s: got events of the flights %d, want %d", f.Name, got, want)
			}
		})
	}
}

// TestFlightID_UsedAgain: the next flight in a record that is used again has an ID of its
// own, and the group has no flight with the old one.
func TestFlightID_UsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := map[uint64]bool{}
		for range 100 {
			g.DoContext(ctx, "k", func(context.Context) (int, error) {
				id := only(t, &g).ID
				if seen[id] {
					t.Errorf("got the ID %d again, want a new one", id)
				}
				seen[id] = true
				return 0, nil
			})
		}
	})
}

// TestFlightID_NaN: every flight of a key that does not equal itself has an ID of its
// own.
func TestFlightID_NaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[float64, int]{Shards: 1, Hash: func(float64) uint64 { return 0 }}
		release := make(chan struct{})
		for range 10 {
			go g.Do(math.NaN(), func() (int, error) { <-release; return 0, nil })
		}
		synctest.Wait()
		seen := map[uint64]bool{0: true}
		for f := range g.Flights() {
			if seen[f.ID] {
				t.Errorf("got the ID %d, want one that is not 0, once", f.ID)
			}
			seen[f.ID] = true
		}
		if len(seen) != 11 {
			t.Errorf("got %d flights, want 10", len(seen)-1)
		}
		close(release)
	})
}

// TestFlights_AtLeast: the age of a flight that runs on its leader's goroutine counts
// from the first look or the first join, and is marked as a lower bound. All other ages
// count from the start, and are exact.
func TestFlights_AtLeast(t *testing.T) {
	never := func(_ context.Context, g *kit.Group, h *kit.Held) {
		g.DoContext(context.Background(), "k", h.CtxFn(1))
	}
	do := func(_ context.Context, g *kit.Group, h *kit.Held) { g.Do("k", h.Fn(1)) }
	for _, tt := range []struct {
		name    string
		group   *kit.Group
		call    func(ctx context.Context, g *kit.Group, h *kit.Held)
		atLeast bool
	}{
		{"Do", new(kit.Group), do, true},
		{"Do, which may linger", &kit.Group{Linger: time.Hour}, do, true},
		{"TryDo", new(kit.Group), func(_ context.Context, g *kit.Group, h *kit.Held) { g.TryDo("k", h.Fn(1)) }, true},
		{"DoContext that cannot end", new(kit.Group), never, true},
		{"Do, MaxAge", &kit.Group{MaxAge: time.Hour}, do, false},
		{"Do, Hooks", &kit.Group{Hooks: coalesce.Hooks[string]{Finish: func(context.Context, coalesce.Event[string]) {}}}, do, false},
		{"DoContext", new(kit.Group), func(ctx context.Context, g *kit.Group, h *kit.Held) { g.DoContext(ctx, "k", h.CtxFn(1)) }, false},
		{"DoFresh", new(kit.Group), func(_ context.Context, g *kit.Group, h *kit.Held) { g.DoFresh(context.Background(), "k", h.CtxFn(1)) }, false},
		{"DoChan", new(kit.Group), func(_ context.Context, g *kit.Group, h *kit.Held) { g.DoChan(context.Background(), "k", h.CtxFn(1)) }, false},
		{"DoMulti", new(kit.Group), func(_ context.Context, g *kit.Group, h *kit.Held) {
			g.DoMulti(context.Background(), []string{"k"}, func(ctx context.Context, _ []string) (map[string]int, error) {
				h.CtxFn(1)(ctx)
				return nil, nil
			})
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, h := tt.group, kit.Hold()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go tt.call(ctx, g, h)
				look := func(age time.Duration) {
					t.Helper()
					if f := only(t, g); f.Age != age || f.AtLeast != tt.atLeast {
						t.Errorf("got Age %v, AtLeast %v, want %v, %v", f.Age, f.AtLeast, age, tt.atLeast)
					}
				}
				time.Sleep(300 * time.Millisecond)
				from := 300 * time.Millisecond
				if tt.atLeast {
					from = 0
				}
				look(from)
				time.Sleep(time.Second)
				look(from + time.Second)
				g.Forget("k")
				look(from + time.Second)
				close(h.Release)
				synctest.Wait()
			})
		})
	}
	t.Run("joined", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			h := kit.Hold()
			go g.Do("k", h.Fn(1))
			time.Sleep(time.Second)
			go g.Do("k", h.Fn(1))
			time.Sleep(time.Second)
			if f := only(t, &g); f.Age != time.Second || !f.AtLeast {
				t.Errorf("got Age %v, AtLeast %v, want 1s, true", f.Age, f.AtLeast)
			}
			close(h.Release)
		})
	})
	t.Run("queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			old, next := kit.Abandon(t, &g, "k"), kit.Hold()
			go g.Do("k", next.Fn(1))
			time.Sleep(time.Second)
			for f := range g.Flights() {
				if f.State == coalesce.StateQueued && (f.Age != time.Second || f.AtLeast) {
					t.Errorf("queued: got Age %v, AtLeast %v, want 1s, false", f.Age, f.AtLeast)
				}
			}
			close(old.Release)
			time.Sleep(time.Minute)
			if f := only(t, &g); f.Age != time.Minute || f.AtLeast {
				t.Errorf("led by a Do that was queued: got Age %v, AtLeast %v, want 1m, false", f.Age, f.AtLeast)
			}
			close(next.Release)
		})
	})
}

// TestFlights_AgeCountsFromStart: the age of a successor that runs does not
// include its time in the queue.
func TestFlights_AgeCountsFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		h, next := kit.Lead(t, &g), kit.Hold()
		kit.Go(t.Context(), kit.Forms[4], &g, "k", next.CtxFn(2))
		time.Sleep(10 * time.Minute)
		close(h.Release)
		<-next.Started
		time.Sleep(time.Second)
		for f := range g.Flights() {
			if f.Age != time.Second {
				t.Errorf("got %+v, want age 1s", f)
			}
		}
		close(next.Release)
	})
}
