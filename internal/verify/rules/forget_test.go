package rules_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestForgetFunc_Prefix: all keys that begin with a prefix are forgotten, whether they
// have a flight, an outcome that lingers or both, and no others. All calls of forgotten
// flights get their results.
func TestForgetFunc_Prefix(t *testing.T) {
	for name, shards := range map[string]int{"default": 0, "one shard": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Hour, Shards: shards}
				var holds []*kit.Held
				var answers []*kit.Answer
				for i := range 300 {
					for _, prefix := range []string{"user/", "page/"} {
						flight, lingers := fmt.Sprint(prefix, "runs/", i), fmt.Sprint(prefix, "lingers/", i)
						h := kit.Hold()
						a, _ := kit.Go(t.Context(), kit.Forms[i%len(kit.Forms)], &g, flight, h.CtxFn(1))
						g.Do(lingers, kit.Value(1))
						holds, answers = append(holds, h), append(answers, a)
						if i%2 == 0 { // both
							h := kit.Hold()
							a, _ := kit.Go(t.Context(), kit.Forms[4], &g, lingers, h.CtxFn(1))
							holds, answers = append(holds, h), append(answers, a)
						}
					}
				}
				synctest.Wait()
				if n := g.ForgetFunc(func(key string) bool { return strings.HasPrefix(key, "user/") }); n != 600 {
					t.Errorf("got %d keys, want 600", n)
				}
				if n := g.Stats().Forgotten; n != 600 {
					t.Errorf("got %d keys in Stats.Forgotten, want 600", n)
				}
				for f := range g.Flights() {
					if user := strings.HasPrefix(f.Key, "user/"); f.Forgotten != user {
						t.Errorf("got %+v", f)
					}
				}
				for i := range 300 {
					if v, _, _ := g.Do(fmt.Sprint("user/lingers/", i), kit.Value(2)); v != 2 {
						t.Fatalf("got %d for a user, want 2", v)
					}
					if v, _, _ := g.Do(fmt.Sprint("page/lingers/", i), kit.Value(2)); v != 1 {
						t.Fatalf("got %d for a page, want 1, which lingers", v)
					}
				}
				for _, h := range holds {
					close(h.Release)
				}
				synctest.Wait()
				for _, a := range answers {
					if a.V != 1 || a.Err != nil {
						t.Errorf("got %+v, want 1", a)
					}
				}
				if n := g.ForgetFunc(kit.All); n != 900 || g.ForgetFunc(kit.All) != 0 {
					t.Errorf("got %d keys, want 900, all but those of the forgotten flights, and then none", n)
				}
			})
		})
	}
}

// TestForgetFunc_CountsAKeyOnce: a key of which a flight and an outcome are dropped
// counts once. What a later execution for it returns meanwhile stays.
func TestForgetFunc_CountsAKeyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: time.Hour, Shards: 1}
		h := kit.Hold()
		for _, key := range []string{"a", "b"} {
			g.Do(key, kit.Value(1))
			kit.Go(t.Context(), kit.Forms[4], &g, key, h.CtxFn(2))
		}
		synctest.Wait()
		first := ""
		n := g.ForgetFunc(func(key string) bool {
			if first == "" {
				first = key
			} else { // the first has been forgotten by now
				g.Do(first, kit.Value(3))
			}
			return true
		})
		if st := g.Stats(); n != 2 || st.Forgotten != 2 {
			t.Errorf("got %d keys and %d in Stats, want 2", n, st.Forgotten)
		}
		if v, _, _ := g.Do(first, kit.Value(4)); v != 3 {
			t.Errorf("got %d, want 3", v)
		}
		close(h.Release)
		synctest.Wait()
	})
}

// TestForgetFunc_LingerFor: errors and absent keys that linger are dropped like values,
// and outcomes that have expired do not count.
func TestForgetFunc_LingerFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{LingerFor: func(v int, _ error) time.Duration { return time.Minute + time.Duration(v) }}
		load := func() {
			g.Do("value", kit.Value(1))
			g.Do("error", func() (int, error) { return 0, kit.ErrTest })
			g.DoMulti(t.Context(), []string{"absent"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
		}
		load()
		if n := g.ForgetFunc(func(key string) bool { return key != "value" }); n != 2 {
			t.Errorf("got %d keys, want 2", n)
		}
		load()
		if st := g.Stats(); st.Led != 5 || st.Lingered != 1 {
			t.Errorf("got %+v, want two more flights, and one call that was answered by what lingers", st)
		}
		time.Sleep(time.Minute)
		if n := g.ForgetFunc(kit.All); n != 1 { // the value has a nanosecond left
			t.Errorf("got %d keys, want 1", n)
		}
	})
}

// TestForgetFunc_MatchAsked: match is called at least once and at most twice for each
// key, with no other; and that of a key that is forgotten in its flight not again.
func TestForgetFunc_MatchAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: time.Hour}
		h := kit.Hold()
		g.Do("lingers", kit.Value(1))
		g.Do("both", kit.Value(1))
		for _, key := range []string{"runs", "both"} {
			kit.Go(t.Context(), kit.Forms[4], &g, key, h.CtxFn(1))
		}
		synctest.Wait()
		kit.Go(t.Context(), kit.Forms[4], &g, "runs", h.CtxFn(1)) // queued
		kit.Go(t.Context(), kit.Forms[4], &g, "forgotten", h.CtxFn(1))
		synctest.Wait()
		g.Forget("forgotten")
		synctest.Wait()
		for _, matches := range []bool{false, true} {
			asked := map[string]int{}
			g.ForgetFunc(func(key string) bool { asked[key]++; return matches })
			want := map[string]int{"lingers": 1, "both": 2, "runs": 1}
			if matches {
				want["both"] = 1
			}
			if !maps.Equal(asked, want) {
				t.Errorf("matches %v: asked %v, want %v", matches, asked, want)
			}
		}
		close(h.Release)
		synctest.Wait()
	})
}

// TestForgetFunc_UsesTheGroup: match runs outside all locks: it may make calls, forget
// what it is asked about, look, and call ForgetFunc.
func TestForgetFunc_UsesTheGroup(t *testing.T) {
	for name, shards := range map[string]int{"default": 0, "one shard": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Hour, Shards: shards}
				release := make(chan struct{})
				for i := range 50 {
					g.Do(fmt.Sprint("lingers", i), kit.Value(1))
					kit.Go(t.Context(), kit.Forms[i%len(kit.Forms)], &g, fmt.Sprint("runs", i), func(context.Context) (int, error) {
						<-release
						return 1, nil
					})
				}
				synctest.Wait()
				n := g.ForgetFunc(func(key string) bool {
					if strings.HasPrefix(key, "new") {
						return false
					}
					g.Do("new"+key, kit.Value(1))
					g.Len()
					g.Stats()
					for range g.Flights() {
					}
					g.ForgetFunc(func(string) bool { return false })
					if strings.HasSuffix(key, "7") {
						g.Forget(key)
					}
					return true
				})
				// The ten that end in 7 had nothing left to drop.
				if n != 90 || g.Stats().Forgotten != 100 {
					t.Errorf("got %d keys, %d in Stats, want 90, 100", n, g.Stats().Forgotten)
				}
				close(release)
				synctest.Wait()
			})
		})
	}
}

// TestForgetFunc_MatchFails: a panic of match and a Goexit go to the caller, and leave
// the group usable. A nil match panics.
func TestForgetFunc_MatchFails(t *testing.T) {
	for name, linger := range map[string]bool{"flight": false, "outcome": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Hour}
				h := kit.Hold()
				if linger {
					g.Do("k", kit.Value(1))
				} else {
					kit.Go(t.Context(), kit.Forms[0], &g, "k", h.CtxFn(1))
					synctest.Wait()
				}
				if r := panicOf(func() { g.ForgetFunc(func(string) bool { panic(kit.ErrTest) }) }); r != kit.ErrTest {
					t.Errorf("got the panic %v, want %v", r, kit.ErrTest)
				}
				exited := make(chan bool)
				go func() {
					defer close(exited)
					g.ForgetFunc(func(string) bool { runtime.Goexit(); return true })
					t.Error("ForgetFunc returned, want Goexit")
				}()
				<-exited
				if n := g.ForgetFunc(kit.All); n != 1 || g.Len() != 0 {
					t.Errorf("got %d keys, Len %d, want 1, 0", n, g.Len())
				}
				close(h.Release)
			})
		})
	}
	var g kit.Group
	if r := panicOf(func() { g.ForgetFunc(nil) }); r != "coalesce: nil match" {
		t.Errorf("got the panic %v", r)
	}
	if n := g.ForgetFunc(kit.All); n != 0 || g.ForgetFlight(0) || g.ForgetFlight(12345) {
		t.Errorf("an empty group had something to forget")
	}
}

// TestForgetFunc_LooksAtFlightsFirst: what finishes while ForgetFunc is on its way is
// dropped: it is among the flights when these are looked at, or lingers before what
// lingers is.
func TestForgetFunc_LooksAtFlightsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: time.Hour, Shards: 1}
		g.Do("lingers", kit.Value(1))
		var holds []*kit.Held
		for i := range 20 {
			h := kit.Hold()
			kit.Go(t.Context(), kit.Forms[i%len(kit.Forms)], &g, fmt.Sprint(i), h.CtxFn(1))
			holds = append(holds, h)
		}
		synctest.Wait()
		var once sync.Once
		n := g.ForgetFunc(func(string) bool {
			once.Do(func() {
				for _, h := range holds { // All begin to linger
					close(h.Release)
				}
				time.Sleep(time.Second)
			})
			return true
		})
		if n != 21 {
			t.Errorf("got %d keys, want 21", n)
		}
		for i := range 20 {
			if v, _, _ := g.Do(fmt.Sprint(i), kit.Value(2)); v != 2 {
				t.Errorf("got %d for key %d, want 2", v, i)
			}
		}
	})
}

// TestForgetFunc_RacesFinish: no execution that began before a ForgetFunc answers a call
// that begins after it, while flights of many keys finish, linger and are forgotten.
func TestForgetFunc_RacesFinish(t *testing.T) {
	g := coalesce.Group[int, int64]{Linger: coalesce.Forever, Shards: 4}
	const keys = 64
	var version atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			for key := i; ; key++ {
				select {
				case <-stop:
					return
				default:
				}
				load := func(context.Context) (int64, error) { return version.Load(), nil }
				if key%3 == 0 {
					g.DoFresh(context.Background(), key%keys, load)
				} else {
					g.Do(key%keys, func() (int64, error) { return load(nil) })
				}
			}
		})
	}
	for range 300 {
		v := version.Add(1)
		g.ForgetFunc(func(key int) bool { return key%2 == 0 })
		for key := 0; key < keys; key += 2 {
			got, _, err := g.Do(key, func() (int64, error) { return version.Load(), nil })
			if got < v || err != nil {
				t.Fatalf("got version %d, %v, want %d at least", got, err, v)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// TestForget_Forms: in every form of call, ForgetFlight and ForgetFunc detach a running
// flight as Forget does: it answers its own callers, the next call leads, and what has
// been queued behind it starts at once.
func TestForget_Forms(t *testing.T) {
	for name, forget := range kit.Forgets {
		for _, f := range kit.Forms {
			for _, queue := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s queue=%v", name, f.Name, queue), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var g kit.Group
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						first, second := kit.Hold(), kit.Hold()
						a, _ := kit.Go(ctx, f, &g, "k", first.CtxFn(1))
						<-first.Started
						b, _ := kit.Go(ctx, kit.Forms[0], &g, "k", kit.CtxValue(0))
						synctest.Wait()
						next := f
						if queue {
							next = kit.Forms[4]
							kit.Go(ctx, next, &g, "k", second.CtxFn(2))
							synctest.Wait()
						}
						if !forget(&g, "k") {
							t.Error("got false, want true")
						}
						if !queue {
							kit.Go(ctx, next, &g, "k", second.CtxFn(2))
						}
						synctest.Wait()
						if second.Runs.Load() != 1 || g.Len() != 1 || g.Stats().Forgotten != 1 {
							t.Errorf("got %d executions, Len %d, %+v, want 1 of each", second.Runs.Load(), g.Len(), g.Stats())
						}
						close(first.Release)
						synctest.Wait()
						if a.V != 1 || b.V != 1 || a.Err != nil || b.Err != nil || !b.Shared {
							t.Errorf("got %+v and %+v, want 1 for both", a, b)
						}
						c, _ := kit.Go(ctx, kit.Forms[0], &g, "k", kit.CtxValue(3))
						synctest.Wait()
						close(second.Release)
						synctest.Wait()
						if c.V != 2 || !c.Shared {
							t.Errorf("got %+v, want 2: the forgotten flight disturbed its replacement", c)
						}
					})
				})
			}
		}
	}
}

// TestForget_Abandoned: an abandoned flight can be forgotten by all forms, and the calls
// that wait behind it start at once.
func TestForget_Abandoned(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old, next := kit.Abandon(t, &g, "k"), kit.Hold()
				kit.Go(t.Context(), kit.Forms[0], &g, "k", next.CtxFn(2))
				synctest.Wait()
				if next.Runs.Load() != 0 {
					t.Fatal("the call did not wait")
				}
				if !forget(&g, "k") {
					t.Error("got false, want true")
				}
				synctest.Wait()
				if next.Runs.Load() != 1 {
					t.Error("the successor has not started")
				}
				close(next.Release)
				close(old.Release)
				synctest.Wait()
			})
		})
	}
}

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
				t.Error("got false or twice true, want true once")
			}
		}
		close(old.Release)
		synctest.Wait()
		if !asked {
			t.Fatal("the context was not asked")
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

// TestForgetFlight_NotRegistered: 0, an unknown ID, that of a flight that has finished,
// was forgotten, or was taken over from: nothing happens, and a later flight of the key
// stays.
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
					t.Errorf("%s, %s: Len is %d, want 0", name, f.Name, g.Len())
				}
			})
		}
	}
}

// TestForgetFlight_Zero: 0 is the ID of no flight, not of those that nothing has looked
// at either.
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

// TestForgetFlight_LeavesWhatLingers: the outcome is that of another flight, and goes on
// answering.
func TestForgetFlight_LeavesWhatLingers(t *testing.T) {
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
							t.Fatalf("%s, %d shards, %d flights: got a wrong answer for %+v, Len %d", name, shards, n, f, g.Len())
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

// TestForget_NaN: the flights of a key that does not equal itself are forgotten one by
// one, by ID, and all by ForgetFunc; each counts as a key.
func TestForget_NaN(t *testing.T) {
	for name, g := range map[string]*coalesce.Group[float64, int]{
		"default":  {},
		"one hash": {Hash: func(float64) uint64 { return 7 }},
		"lingers":  {Linger: time.Hour, Shards: 1},
		"hooks":    {Hooks: coalesce.Hooks[float64]{Join: func(context.Context, coalesce.Event[float64]) {}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				release := make(chan struct{})
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() {
						var v int
						if i%2 == 0 {
							v, _, _ = g.Do(math.NaN(), func() (int, error) { <-release; return i, nil })
						} else {
							v, _, _ = g.DoContext(ctx, math.NaN(), func(context.Context) (int, error) { <-release; return i, nil })
						}
						if v != i {
							t.Errorf("got %d, want %d", v, i)
						}
					})
				}
				go g.Do(1, func() (int, error) { <-release; return 1, nil })
				synctest.Wait()
				n := 0
				for f := range g.Flights() {
					if f.Key != 1 && n < 3 {
						n++
						if !g.ForgetFlight(f.ID) || g.ForgetFlight(f.ID) || g.Len() != 11-n {
							t.Errorf("got a wrong answer for %+v, Len %d", f, g.Len())
						}
					}
				}
				if n := g.ForgetFunc(func(key float64) bool { return key != 1 }); n != 7 || g.Len() != 1 {
					t.Errorf("got %d keys, Len %d, want 7, 1", n, g.Len())
				}
				if n := g.ForgetFunc(math.IsNaN); n != 0 || g.Stats().Forgotten != 10 {
					t.Errorf("got %d keys, %d in Stats, want 0, 10", n, g.Stats().Forgotten)
				}
				close(release)
				wg.Wait()
				synctest.Wait()
				for f := range g.Flights() {
					t.Errorf("left behind: %+v", f)
				}
			})
		})
	}
}

// TestForget_Batch: one flight of a batch is forgotten, by ID or by its key; the batch
// goes on, and answers for all its keys.
func TestForget_Batch(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h := kit.Hold()
				var got map[string]coalesce.Result[int]
				go func() {
					got = g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(ctx context.Context, _ []string) (map[string]int, error) {
						v, err := h.CtxFn(1)(ctx)
						return map[string]int{"a": v, "b": v, "c": v}, err
					})
				}()
				<-h.Started
				if !forget(&g, "b") || g.Len() != 2 {
					t.Errorf("got false or Len %d, want true, 2", g.Len())
				}
				if v, _, _ := g.Do("b", kit.Value(2)); v != 2 {
					t.Errorf("got %d for b, want 2", v)
				}
				close(h.Release)
				synctest.Wait()
				one := coalesce.Result[int]{Val: 1}
				if want := map[string]coalesce.Result[int]{"a": one, "b": one, "c": one}; !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // All keys at once
		var g kit.Group
		h := kit.Hold()
		go g.DoMulti(t.Context(), []string{"a", "b", "c"}, func(ctx context.Context, _ []string) (map[string]int, error) {
			_, err := h.CtxFn(1)(ctx)
			return nil, err
		})
		<-h.Started
		if n := g.ForgetFunc(kit.All); n != 3 || g.Len() != 0 {
			t.Errorf("got %d keys, Len %d, want 3, 0", n, g.Len())
		}
		close(h.Release)
	})
}

// TestForget_Shutdown: all forms work after Shutdown has begun, and Shutdown waits for
// what they forget.
func TestForget_Shutdown(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: time.Hour}
				h := kit.Hold()
				a, _ := kit.Go(t.Context(), kit.Forms[2], &g, "k", h.CtxFn(1))
				<-h.Started
				down := make(chan error, 1)
				go func() { down <- g.Shutdown(context.Background()) }()
				synctest.Wait()
				if !forget(&g, "k") || forget(&g, "k") || g.Len() != 0 {
					t.Error("got a wrong answer, want true once")
				}
				synctest.Wait()
				if len(down) > 0 {
					t.Error("Shutdown did not wait for the forgotten flight")
				}
				close(h.Release)
				if err := <-down; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if a.V != 1 || forget(&g, "k") {
					t.Errorf("got %+v, want 1 and then nothing to forget", a)
				}
			})
		})
	}
}

// TestForget_MaxAge: a flight that is past MaxAge can be forgotten; what is queued
// behind it does not wait for the timer.
func TestForget_MaxAge(t *testing.T) {
	for name, forget := range kit.Forgets {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{MaxAge: time.Minute}
				first, second := kit.Hold(), kit.Hold()
				kit.Go(t.Context(), kit.Forms[0], &g, "k", first.CtxFn(1))
				synctest.Wait()
				kit.Go(t.Context(), kit.Forms[4], &g, "k", second.CtxFn(2))
				time.Sleep(time.Second)
				if !forget(&g, "k") {
					t.Error("got false, want true")
				}
				synctest.Wait()
				if second.Runs.Load() != 1 {
					t.Error("the successor has not started")
				}
				time.Sleep(2 * time.Minute) // overdue, and nothing has taken over
				if !forget(&g, "k") || g.Len() != 0 || g.Stats().TakenOver != 0 {
					t.Errorf("Len %d, %+v: want it forgotten", g.Len(), g.Stats())
				}
				close(first.Release)
				close(second.Release)
				synctest.Wait()
			})
		})
	}
}

// TestForget_FromInside: fn, hooks and Clone may forget, by all forms, their own key
// too.
func TestForget_FromInside(t *testing.T) {
	for name, forget := range kit.Forgets {
		var g kit.Group
		v, shared, err := g.Do("k", func() (int, error) {
			if !forget(&g, "k") || forget(&g, "k") {
				t.Errorf("%s in fn: got a wrong answer, want true once", name)
			}
			v, _, err := g.Do("k", kit.Value(2)) // no recursion: the key is free
			return v + 1, err
		})
		if v != 3 || shared || err != nil || g.Len() != 0 {
			t.Errorf("%s in fn: got %v, %v, %v, Len %d", name, v, shared, err, g.Len())
		}

		var hooked kit.Group
		var forgotten atomic.Int64
		hook := func(context.Context, coalesce.Event[string]) {
			if forget(&hooked, "k") {
				forgotten.Add(1)
			}
		}
		hooked.Hooks = coalesce.Hooks[string]{Join: hook, Finish: hook}
		h := kit.Hold()
		_, first := kit.Go(t.Context(), kit.Forms[0], &hooked, "k", h.CtxFn(1))
		<-h.Started
		_, second := kit.Go(t.Context(), kit.Forms[0], &hooked, "k", h.CtxFn(1))
		for forgotten.Load() == 0 {
			runtime.Gosched()
		}
		close(h.Release)
		<-first
		<-second
		if n := forgotten.Load(); n != 1 { // by Join; Finish finds nothing
			t.Errorf("%s in hooks: got true %d times, want once", name, n)
		}
	}
}

// TestForget_AtOnce: of many that forget the same flights at once, each flight is
// forgotten by exactly one, whatever their forms.
func TestForget_AtOnce(t *testing.T) {
	g := coalesce.Group[int, int]{Shards: 2}
	for range 50 {
		const keys = 40
		release := make(chan struct{})
		var calls, wg sync.WaitGroup
		for key := range keys {
			calls.Go(func() { g.Do(key, func() (int, error) { <-release; return key, nil }) })
		}
		for g.Len() < keys {
			runtime.Gosched()
		}
		ids := slices.Collect(g.Flights())
		var forgotten atomic.Int64
		before := g.Stats().Forgotten
		for i := range 6 {
			wg.Go(func() {
				n := 0
				switch i % 3 {
				case 0:
					n = g.ForgetFunc(kit.All)
				case 1:
					for _, f := range ids {
						if g.ForgetFlight(f.ID) {
							n++
						}
					}
				default:
					for key := range keys {
						if g.Forget(key) {
							n++
						}
					}
				}
				forgotten.Add(int64(n))
			})
		}
		wg.Wait()
		if n := forgotten.Load(); n != keys || g.Len() != 0 || g.Stats().Forgotten != before+keys {
			t.Fatalf("got %d keys, Len %d, %d in Stats, want %d", n, g.Len(), g.Stats().Forgotten-before, keys)
		}
		close(release)
		calls.Wait()
	}
}

// TestForgetFunc_DoesNotStall: while a match takes its time, calls for every key go on.
func TestForgetFunc_DoesNotStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1, Linger: time.Hour}
		h := kit.Hold()
		g.Do("lingers", kit.Value(1))
		kit.Go(t.Context(), kit.Forms[0], &g, "runs", h.CtxFn(1))
		synctest.Wait()
		go g.ForgetFunc(func(string) bool { time.Sleep(time.Hour); return false })
		for range 3 {
			synctest.Wait()
			begin := time.Now()
			g.Forget("lingers")
			g.Do("lingers", kit.Value(1))
			g.Do("other", kit.Value(1))
			if took := time.Since(begin); took != 0 {
				t.Errorf("calls took %v beside match, want 0", took)
			}
			time.Sleep(40 * time.Minute)
		}
		close(h.Release)
		time.Sleep(5 * time.Hour)
	})
}
