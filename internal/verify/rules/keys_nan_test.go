package rules_test

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// TestG11_NaNWithEverything: with every option set, calls of all forms for a key that
// does not equal itself have a flight each, in spite of all other calls. Their values are
// neither cloned nor kept, and no call waits for another. ForgetFunc and ForgetFlight
// find the flights. A flight that is held ends fn's context if it finishes without a
// caller.
func TestG11_NaNWithEverything(t *testing.T) {
	const flights = 7 // of six calls, two of them of a DoMulti
	type nanGroup = coalesce.Group[float64, int]
	for name, happen := range map[string]func(t *testing.T, g *nanGroup){
		"undisturbed": func(*testing.T, *nanGroup) {},
		"ForgetFunc": func(t *testing.T, g *nanGroup) {
			if n := g.ForgetFunc(kit.All); n != flights || g.Len() != 0 {
				t.Errorf("got %d keys forgotten, Len %d, want %d, 0", n, g.Len(), flights)
			}
		},
		"ForgetFlight": func(t *testing.T, g *nanGroup) {
			for f := range g.Flights() {
				if !g.ForgetFlight(f.ID) || g.ForgetFlight(f.ID) {
					t.Errorf("ForgetFlight of %+v: got a wrong answer, want true once", f)
				}
			}
			if g.Len() != 0 {
				t.Errorf("got %d flights, want none", g.Len())
			}
		},
		"the age is reached": func(t *testing.T, g *nanGroup) {
			time.Sleep(2 * time.Hour)
			if v, err := g.TryDo(math.NaN(), kit.Value(1)); v != 1 || err != nil {
				t.Errorf("TryDo: got %d, %v, want 1, nil", v, err)
			}
		},
		"Shutdown": func(t *testing.T, g *nanGroup) { go func() { _ = g.Shutdown(t.Context()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				heard := map[string]int{}
				hook := func(name string) func(context.Context, coalesce.Event[float64]) {
					return func(context.Context, coalesce.Event[float64]) {
						mu.Lock()
						defer mu.Unlock()
						heard[name]++
					}
				}
				g := nanGroup{
					Clone:     func(v int) int { return v + cloned },
					LingerFor: livesFor(60, 60), LingerMax: 1, MaxWaiters: 1, MaxAge: time.Hour,
					Hooks: coalesce.Hooks[float64]{
						Start: func(ctx context.Context, e coalesce.Event[float64]) context.Context {
							hook("start")(ctx, e)
							return ctx
						},
						Join: hook("join"), Receive: hook("receive"), Leave: hook("leave"), Finish: hook("finish"),
					},
				}
				nan, release := math.NaN(), make(chan struct{})
				fn := func(context.Context) (int, error) { <-release; return 5, kit.ErrTest }
				want := func(form string, v int, shared bool, err error) {
					if v != 5 || shared || err != kit.ErrTest {
						t.Errorf("%s: got %d, %v, %v, want 5, not shared, %v", form, v, shared, err, kit.ErrTest)
					}
				}
				go func() {
					v, shared, err := g.Do(nan, func() (int, error) { return fn(context.Background()) })
					want("Do", v, shared, err)
				}()
				go func() {
					v, shared, err := g.DoContext(t.Context(), nan, fn)
					want("DoContext", v, shared, err)
				}()
				go func() {
					r := <-g.DoChan(t.Context(), nan, fn)
					want("DoChan", r.Val, r.Shared, r.Err)
				}()
				go func() {
					v, shared, err := g.DoFresh(t.Context(), nan, fn)
					want("DoFresh", v, shared, err)
				}()
				go func() {
					r := g.DoMulti(t.Context(), []float64{nan, nan}, func(context.Context, []float64) (map[float64]int, error) {
						<-release
						return map[float64]int{nan: 5}, coalesce.KeyErrors[float64]{nan: kit.ErrTest}
					})
					for _, r := range r {
						if r != (coalesce.Result[int]{Err: coalesce.ErrAbsent}) {
							t.Errorf("DoMulti: got %+v, want ErrAbsent", r)
						}
					}
				}()
				ctx, leave := context.WithCancel(t.Context())
				var given context.Context
				go g.DoContext(ctx, nan, func(ctx context.Context) (int, error) {
					given = ctx
					coalesce.Hold(ctx)
					return fn(ctx)
				})
				synctest.Wait()
				leave()
				synctest.Wait()
				if g.Len() != flights {
					t.Errorf("got %d flights, want %d", g.Len(), flights)
				}
				happen(t, &g)
				synctest.Wait()
				wantEnd(t, given, nil)
				close(release)
				synctest.Wait()
				wantEnd(t, given, context.Canceled)

				st, later := g.Stats(), 0
				if name == "the age is reached" {
					later = 1
				}
				if st.Led != uint64(flights+later) || st.Joined+st.Lingered+st.Rejected+st.TakenOver+st.Lingering+st.Evicted+st.Abandoned != 0 || st.Left != 1 {
					t.Errorf("got %+v, want %d led, 1 left and nothing else", st, flights+later)
				}
				mu.Lock()
				defer mu.Unlock()
				// There is one Start for a batch.
				if heard["start"] != flights-1+later || heard["finish"] != flights+later || heard["leave"] != 1 || heard["join"]+heard["receive"] != 0 {
					t.Errorf("got the hooks %v, want %d starts, %d finishes and 1 leave", heard, flights-1+later, flights+later)
				}
				if err := storm.AtRest(&g); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestG11_UnhashableBehindNaN: the comparison of such a key with itself stops at the NaN;
// the key still panics, also with a custom Hash.
func TestG11_UnhashableBehindNaN(t *testing.T) {
	type key struct {
		f float64
		v any
	}
	for name, hash := range map[string]func(key) uint64{"default": nil, "constant": func(key) uint64 { return 0 }} {
		g := coalesce.Group[key, int]{Hash: hash}
		r, _ := panicOf(func() { g.Do(key{math.NaN(), []int{1}}, kit.Value(1)) }).(error)
		if r == nil || !strings.Contains(r.Error(), "[]int") {
			t.Errorf("%s hash: got the panic %v, want one that names []int", name, r)
		}
	}
}
