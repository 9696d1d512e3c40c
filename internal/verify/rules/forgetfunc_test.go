package rules_test

import (
	"context"
	"fmt"
	"maps"
	"runtime"
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
						t.Errorf("got %+v, want forgotten %v", f, user)
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
// counts once. A result that a later execution for it returns meanwhile stays.
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
			} else { // by now the first has been forgotten
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
			t.Errorf("got %+v, want two more flights, and one call that a lingering outcome answered", st)
		}
		time.Sleep(time.Minute)
		if n := g.ForgetFunc(kit.All); n != 1 { // the value has a nanosecond left
			t.Errorf("got %d keys, want 1", n)
		}
	})
}

// TestForgetFunc_MatchAsked: match is called at least once and at most twice for each
// key, and with no other. For a key whose flight is forgotten it is called once.
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
				t.Errorf("matches %v: got calls of match %v, want %v", matches, asked, want)
			}
		}
		close(h.Release)
		synctest.Wait()
	})
}

// TestForgetFunc_UsesTheGroup: match runs outside all locks: it may make calls, forget
// the key that it is called with, look at flights, and call ForgetFunc.
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

// TestForgetFunc_MatchFails: the caller gets a panic and a Goexit of match, and the group
// stays usable. A nil match panics.
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
					t.Error("got a return of ForgetFunc, want a Goexit")
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
		t.Errorf("got the panic %v, want coalesce: nil match", r)
	}
	if n := g.ForgetFunc(kit.All); n != 0 || g.ForgetFlight(0) || g.ForgetFlight(12345) {
		t.Errorf("an empty group: got %d keys or true, want 0 and false", n)
	}
}

// TestForgetFunc_LooksAtFlightsFirst: an outcome of a flight that finishes while
// ForgetFunc runs is dropped: the flight is among those that ForgetFunc looks at first,
// or the outcome lingers before it looks at lingering outcomes.
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
				t.Fatalf("got version %d, %v, want %d at least, nil", got, err, v)
			}
		}
	}
	close(stop)
	wg.Wait()
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
				t.Errorf("calls beside match: got %v, want 0s", took)
			}
			time.Sleep(40 * time.Minute)
		}
		close(h.Release)
		time.Sleep(5 * time.Hour)
	})
}
