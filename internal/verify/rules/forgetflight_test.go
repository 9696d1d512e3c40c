package rules_test

import (
	"context"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestForgetFlight_Promoted: a flight that was promoted and has not started can be
// forgotten; the call that is to start it does so.
func TestForgetFlight_Promoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		ctx := &lookedAt{Context: t.Context()}
		ctx.ended = make(chan struct{})
		var id uint64
		next := kit.Hold()
		a, _ := kit.Go(ctx, kit.Forms[2], &g, "k", next.CtxFn(2))
		synctest.Wait()
		for f := range g.Flights() {
			if f.State == coalesce.StateQueued {
				id = f.ID
			}
		}
		if g.ForgetFlight(id) {
			t.Error("a queued flight: got true, want false")
		}
		// takeTurn asks the context whether it has ended, and by then the flight has
		// been promoted.
		asked := false
		ctx.look = func() {
			if asked {
				return
			}
			asked = true
			if f := only(t, &g); f.State != coalesce.StateQueued || f.ID != id {
				t.Errorf("got %+v, want a promoted flight with ID %d", f, id)
			}
			if !g.ForgetFlight(id) || g.ForgetFlight(id) || g.Len() != 0 {
				t.Error("got false or true twice, want true once")
			}
		}
		close(old.Release)
		synctest.Wait()
		if !asked {
			t.Fatal("got no call of the context's Err, want one")
		}
		if f := only(t, &g); f.State != coalesce.StateRunning || !f.Forgotten {
			t.Errorf("got %+v, want it running and forgotten", f)
		}
		if v, _, _ := g.Do("k", kit.Value(3)); v != 3 {
			t.Errorf("got %d, want 3", v)
		}
		close(next.Release)
		synctest.Wait()
		if a.V != 2 || a.Err != nil {
			t.Errorf("got %+v, want 2", a)
		}
	})
}

// A lookedAt is a context that calls a function whenever it is asked for its error. It
// never ends.
type lookedAt struct {
	context.Context
	ended chan struct{}
	look  func()
}

func (c *lookedAt) Done() <-chan struct{} { return c.ended }

func (c *lookedAt) Err() error {
	if c.look != nil {
		c.look()
	}
	return nil
}

// TestForgetFlight_NotRegistered: for 0, an unknown ID, or that of a flight that has
// finished, was forgotten or was taken over, nothing happens, and a later flight of the
// key stays.
func TestForgetFlight_NotRegistered(t *testing.T) {
	for name, g := range map[string]*kit.Group{
		"default": {}, "hooks": {Hooks: coalesce.Hooks[string]{Join: func(context.Context, coalesce.Event[string]) {}}}, "MaxAge": {MaxAge: time.Second},
	} {
		for _, f := range kit.Forms {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h := kit.Hold()
				kit.Go(ctx, f, g, "k", h.CtxFn(1))
				synctest.Wait()
				finished := kit.IDOf(t, g, "k")
				close(h.Release)
				synctest.Wait()
				h = kit.Hold()
				kit.Go(ctx, f, g, "k", h.CtxFn(1))
				synctest.Wait()
				forgotten := kit.IDOf(t, g, "k")
				if name == "MaxAge" {
					time.Sleep(time.Second)
				} else {
					g.Forget("k")
				}
				last := kit.Hold()
				kit.Go(ctx, kit.Forms[0], g, "k", last.CtxFn(1))
				synctest.Wait()
				id, before := kit.IDOf(t, g, "k"), g.Stats().Forgotten
				ids := []uint64{0, finished, forgotten, id + 1, id << 1, 1, math.MaxUint64, ^id, id - 1, 1 << 63}
				for _, other := range ids {
					if g.ForgetFlight(other) {
						t.Errorf("%s, %s: got true for %d, want false", name, f.Name, other)
					}
				}
				if got := kit.IDOf(t, g, "k"); got != id || g.Stats().Forgotten != before {
					t.Errorf("%s, %s: got flight %d, %+v, want %d and no change", name, f.Name, got, g.Stats(), id)
				}
				if !g.ForgetFlight(id) {
					t.Errorf("%s, %s: got false for %d, want true", name, f.Name, id)
				}
				close(h.Release)
				close(last.Release)
				synctest.Wait()
				if g.Len() != 0 {
					t.Errorf("%s, %s: got Len %d, want 0", name, f.Name, g.Len())
				}
			})
		}
	}
}

// TestForgetFlight_Zero: 0 is the ID of no flight, not even of one that has no ID yet.
func TestForgetFlight_Zero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		release := make(chan struct{})
		defer close(release)
		for range 20 {
			g := coalesce.Group[int, int]{Shards: 1}
			for key := range 20 {
				g.DoChan(ctx, key, func(context.Context) (int, error) { <-release; return 0, nil })
			}
			if g.ForgetFlight(0) || g.Len() != 20 {
				t.Fatalf("got true or Len %d, want false, 20", g.Len())
			}
		}
	})
}

// TestForgetFlight_LeavesLingering: the lingering outcome is that of another flight,
// and goes on answering calls.
func TestForgetFlight_LeavesLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: time.Hour}
		g.Do("k", kit.Value(1))
		h := kit.Hold()
		a, _ := kit.Go(t.Context(), kit.Forms[4], &g, "k", h.CtxFn(2))
		synctest.Wait()
		if !g.ForgetFlight(kit.IDOf(t, &g, "k")) {
			t.Error("got false, want true")
		}
		close(h.Release)
		synctest.Wait()
		if v, shared, _ := g.Do("k", kit.Value(3)); v != 1 || !shared || a.V != 2 {
			t.Errorf("got %d, %v after %+v, want 1, true after 2", v, shared, a)
		}
	})
}

// TestForgetFlight_AmongMany: of many flights of one shard, each is found by its ID, in
// tables of every size, as they grow and shrink, and with one hash for all.
func TestForgetFlight_AmongMany(t *testing.T) {
	for name, hash := range map[string]func(int) uint64{
		"default": nil, "identity": func(k int) uint64 { return uint64(k) }, "one hash": func(int) uint64 { return 3 },
	} {
		for _, shards := range []int{1, 8} {
			for _, n := range []int{1, 2, 7, 8, 9, 63, 200, 255, 256, 257, 300, 511, 512, 600, 1500} {
				if hash != nil && n > 600 {
					continue // one chain
				}
				synctest.Test(t, func(t *testing.T) {
					g := coalesce.Group[int, int]{Shards: shards, Hash: hash}
					release := make(chan struct{})
					for key := range n {
						go g.Do(key, func() (int, error) { <-release; return 0, nil })
					}
					synctest.Wait()
					for i, f := range slices.Collect(g.Flights()) {
						if !g.ForgetFlight(f.ID) || g.ForgetFlight(f.ID) || g.Len() != n-i-1 {
							t.Fatalf("%s, %d shards, %d flights: %+v: got Len %d, want true once and %d", name, shards, n, f, g.Len(), n-i-1)
						}
					}
					if st := g.Stats(); st.Forgotten != uint64(n) {
						t.Errorf("got %d in Stats.Forgotten, want %d", st.Forgotten, n)
					}
					close(release)
				})
			}
		}
	}
}
