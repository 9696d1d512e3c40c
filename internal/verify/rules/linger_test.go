package rules_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// errLinger is the error of an fn that fails.
var errLinger = errors.New("fn failed")

// lingering is the time for which successes linger in most of these tests.
const lingering = time.Minute

// TestLinger_Answers: a success answers each form but DoFresh for as long as it
// lingers, and not a nanosecond longer.
func TestLinger_Answers(t *testing.T) {
	for _, form := range kit.Forms {
		t.Run(form.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: lingering}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if v, shared, err := g.DoContext(ctx, "k", kit.CtxValue(1)); v != 1 || shared || err != nil {
					t.Fatalf("leader: got %d, %t, %v, want 1, false, nil", v, shared, err)
				}
				time.Sleep(lingering - 1)
				synctest.Wait()
				want := kit.Answer{V: 1, Shared: true}
				st := coalesce.Stats{Calls: 2, Led: 1, Lingered: 1, Lingering: 1}
				if form.Name == "DoFresh" {
					want, st = kit.Answer{V: 2}, coalesce.Stats{Calls: 2, Led: 2, Lingering: 1}
				}
				a, done := kit.Go(ctx, form, &g, "k", kit.CtxValue(2))
				<-done
				if a.V != want.V || a.Shared != want.Shared || a.Err != nil {
					t.Errorf("while it lingers: got %+v, want %+v", a, want)
				}
				if got := g.Stats(); got != st {
					t.Errorf("got %+v, want %+v", got, st)
				}
				if form.Name == "DoFresh" {
					return
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				a, done = kit.Go(ctx, form, &g, "k", kit.CtxValue(3))
				<-done
				if a.V != 3 || a.Shared || a.Err != nil {
					t.Errorf("after: got %+v, want 3, not shared", a)
				}
			})
		})
	}
}

// TestLinger_TryDo: a lingering success answers a TryDo.
func TestLinger_TryDo(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	if v, err := g.TryDo("k", kit.Value(1)); v != 1 || err != nil {
		t.Errorf("first: got %d, %v, want 1, nil", v, err)
	}
	if v, err := g.TryDo("k", kit.Value(2)); v != 1 || err != nil {
		t.Errorf("second: got %d, %v, want 1, nil", v, err)
	}
}

// TestLinger_Forever: a sync.Once for each key that retries after errors, from many
// goroutines.
func TestLinger_Forever(t *testing.T) {
	g := coalesce.Group[int, int]{Linger: coalesce.Forever}
	var runs [100]atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for k := range runs {
				for {
					v, _, err := g.Do(k, func() (int, error) {
						if runs[k].Add(1) < 3 {
							return 0, errLinger
						}
						return -k, nil
					})
					if err == nil {
						if v != -k {
							t.Errorf("%d: got %d, want %d", k, v, -k)
						}
						break
					}
				}
			}
		})
	}
	wg.Wait()
	for k := range runs {
		if n := runs[k].Load(); n != 3 {
			t.Errorf("fn for %d: got %d executions, want 3", k, n)
		}
	}
}

// TestLinger_OnlySuccesses: errors, panics, Goexit and NaN do not linger.
func TestLinger_OnlySuccesses(t *testing.T) {
	g := coalesce.Group[float64, int]{Linger: coalesce.Forever}
	fns := map[string]func() (int, error){
		"error":  func() (int, error) { return 1, errLinger },
		"panic":  func() (int, error) { panic("p") },
		"Goexit": func() (int, error) { runtime.Goexit(); return 1, nil },
	}
	for name, fn := range fns {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			_, _, _ = g.Do(1, fn)
		})
		wg.Wait()
		if st := g.Stats(); st.Lingered != 0 {
			t.Errorf("%s: got %+v, want none lingered", name, st)
		}
	}
	nan := math.NaN()
	for i := range 3 {
		if v, _, err := g.Do(nan, func() (int, error) { return i, nil }); v != i || err != nil {
			t.Errorf("NaN: got %d, %v, want %d, nil", v, err, i)
		}
	}
	if v, _, err := g.Do(1, func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("after all: got %d, %v, want 7, nil", v, err)
	}
	if st := g.Stats(); st.Lingered != 0 || st.Led != 7 {
		t.Errorf("got %+v, want 7 led and none lingered", st)
	}
}

// TestLinger_NotOfAReplacedFlight: the success of a flight does not linger if the flight
// was forgotten, taken over or abandoned, or if a call is queued behind it.
func TestLinger_NotOfAReplacedFlight(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, g *kit.Group)
		next int // the result of the next call; 0: its own fn's
	}{
		{"forgotten", func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			g.Forget("k")
			close(h.Release)
		}, 0},
		{"forgotten, and replaced", func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			g.Forget("k")
			if v, _, _ := g.Do("k", kit.Value(5)); v != 5 {
				t.Errorf("replacement: got %d, want 5", v)
			}
			close(h.Release)
		}, 5},
		{"taken over", func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			time.Sleep(time.Second)
			synctest.Wait()
			if v, _, _ := g.Do("k", kit.Value(5)); v != 5 {
				t.Errorf("takeover: got %d, want 5", v)
			}
			close(h.Release)
		}, 5},
		{"abandoned", func(t *testing.T, g *kit.Group) {
			h := kit.Abandon(t, g, "k")
			close(h.Release)
		}, 0},
		{"queued behind", func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			h2 := kit.Hold()
			a, done := kit.Go(t.Context(), kit.Forms[4], g, "k", h2.CtxFn(6))
			synctest.Wait()
			close(h.Release)
			<-h2.Started
			if st := g.Stats(); st.Lingered != 0 {
				t.Errorf("got %+v, want none lingered", st)
			}
			b, doneB := kit.Go(t.Context(), kit.Forms[0], g, "k", kit.CtxValue(0))
			synctest.Wait()
			close(h2.Release)
			<-done
			<-doneB
			if a.V != 6 || b.V != 6 {
				t.Errorf("got %+v and %+v, want 6 for both", a, b)
			}
		}, 6},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: coalesce.Forever, MaxAge: time.Second}
				test.do(t, &g)
				synctest.Wait()
				want := test.next
				if want == 0 {
					want = 9
				}
				if v, _, err := g.Do("k", kit.Value(9)); v != want || err != nil {
					t.Errorf("got %d, %v, want %d, nil", v, err, want)
				}
			})
		})
	}
}

// TestLinger_Fresh: while a DoFresh runs, the lingering success answers other calls; the
// end of the DoFresh drops it, and a success of the DoFresh takes its place.
func TestLinger_Fresh(t *testing.T) {
	for _, end := range []error{nil, errLinger} {
		synctest.Test(t, func(t *testing.T) {
			g := kit.Group{Linger: coalesce.Forever}
			g.Do("k", kit.Value(1))
			h := kit.Hold()
			a, done := kit.Go(t.Context(), kit.Forms[4], &g, "k", func(ctx context.Context) (int, error) {
				v, _ := h.CtxFn(2)(ctx)
				return v, end
			})
			<-h.Started
			if v, shared, err := g.Do("k", kit.Value(0)); v != 1 || !shared || err != nil {
				t.Errorf("meanwhile: got %d, %t, %v, want 1, true, nil", v, shared, err)
			}
			close(h.Release)
			<-done
			if a.V != 2 || a.Err != end || a.Shared {
				t.Errorf("DoFresh: got %+v, want 2, not shared, %v", a, end)
			}
			want := 2
			if end != nil {
				want = 3
			}
			if v, _, err := g.Do("k", kit.Value(3)); v != want || err != nil {
				t.Errorf("then: got %d, %v, want %d, nil", v, err, want)
			}
		})
	}
}

// TestLinger_TakenOver: after a DoFresh has returned, a success that lingered before it
// answers no call, even if the next DoFresh has taken over its flight.
func TestLinger_TakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever, MaxAge: time.Second}
		g.Do("k", kit.Value(1))
		h, h2 := kit.Hold(), kit.Hold()
		a, done := kit.Go(t.Context(), kit.Forms[4], &g, "k", h.CtxFn(2))
		<-h.Started
		kit.Go(t.Context(), kit.Forms[4], &g, "k", h2.CtxFn(3))
		<-h2.Started
		close(h.Release)
		<-done
		b, doneB := kit.Go(t.Context(), kit.Forms[0], &g, "k", kit.CtxValue(4))
		synctest.Wait()
		close(h2.Release)
		<-doneB
		if a.V != 2 || b.V != 3 {
			t.Errorf("got %d from DoFresh and %d from a later Do, want 2 and 3", a.V, b.V)
		}
	})
}

// TestLinger_Forget: it drops a success at once, and reports that; an expired success is
// nothing to forget.
func TestLinger_Forget(t *testing.T) {
	for name, forget := range map[string]func(*kit.Group, string) bool{
		"Forget": (*kit.Group).Forget, "ForgetUnshared": (*kit.Group).ForgetUnshared,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := kit.Group{Linger: lingering}
				g.Do("k", kit.Value(1))
				g.Do("k", kit.Value(0))
				if !forget(&g, "k") {
					t.Error("got false, want true")
				}
				if got := forget(&g, "k"); got != (name == "ForgetUnshared") {
					t.Errorf("second: got %t, want %t", got, !got)
				}
				if v, _, _ := g.Do("k", kit.Value(2)); v != 2 {
					t.Errorf("then: got %d, want 2", v)
				}
				time.Sleep(lingering)
				if got := forget(&g, "k"); got != (name == "ForgetUnshared") {
					t.Errorf("expired: got %t, want %t", got, !got)
				}
				if st := g.Stats(); st.Forgotten != 1 || st.Led != 2 || st.Lingered != 1 {
					t.Errorf("got %+v, want 1 forgotten, 2 led, 1 lingered", st)
				}
			})
		})
	}
}

// TestLinger_ForgetUnsharedKeeps: ForgetUnshared does not forget a shared flight.
func TestLinger_ForgetUnsharedKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever, MaxAge: time.Second}
		g.Do("k", kit.Value(1))
		h, h2 := kit.Hold(), kit.Hold()
		_, done := kit.Go(t.Context(), kit.Forms[4], &g, "k", h.CtxFn(2))
		<-h.Started
		_, done2 := kit.Go(t.Context(), kit.Forms[4], &g, "k", h2.CtxFn(3))
		_, done3 := kit.Go(t.Context(), kit.Forms[4], &g, "k", h2.CtxFn(3))
		time.Sleep(time.Second)
		<-h2.Started // the successor, which two calls share
		if g.ForgetUnshared("k") {
			t.Error("ForgetUnshared: got true, want false")
		}
		if !g.Forget("k") {
			t.Error("Forget: got false, want true")
		}
		if v, _, _ := g.Do("k", kit.Value(4)); v != 4 {
			t.Errorf("a new flight: got %d, want 4", v)
		}
		close(h.Release)
		close(h2.Release)
		<-done
		<-done2
		<-done3
		if v, _, _ := g.Do("k", kit.Value(0)); v != 4 {
			t.Errorf("after the forgotten flight: got %d, want 4", v)
		}
	})
}

// TestLinger_ForgetRacesStore: the result of a flight that began before a Forget cannot
// answer a call that came after it.
func TestLinger_ForgetRacesStore(t *testing.T) {
	g := coalesce.Group[int, int64]{Linger: coalesce.Forever, Shards: 1}
	var version atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = g.Do(1, func() (int64, error) { return version.Load(), nil })
				}
			}
		})
	}
	for range 2_000 {
		want := version.Add(1)
		g.Forget(1)
		if v, _, _ := g.Do(1, func() (int64, error) { return version.Load(), nil }); v < want {
			t.Fatalf("got version %d after a Forget at version %d, want it at least", v, want)
		}
	}
	close(stop)
	wg.Wait()
}

// TestLinger_Max: the limit is exact, and the oldest success is evicted first.
func TestLinger_Max(t *testing.T) {
	g := coalesce.Group[int, int]{Linger: coalesce.Forever, LingerMax: 3}
	for k := range 5 {
		g.Do(k, func() (int, error) { return k, nil })
	}
	for _, k := range []int{2, 3, 4} {
		if v, shared, _ := g.Do(k, func() (int, error) { return -1, nil }); v != k || !shared {
			t.Errorf("%d: got %d, want its lingering value", k, v)
		}
	}
	if _, shared, _ := g.Do(0, func() (int, error) { return 0, nil }); shared {
		t.Error("0: got a lingering value, want none")
	}
	g.Forget(4)
	g.Do(5, func() (int, error) { return 5, nil }) // there is room: none is evicted
	if _, shared, _ := g.Do(3, func() (int, error) { return -1, nil }); !shared {
		t.Error("3: got no lingering value, want one")
	}
	if st := g.Stats(); st.Evicted != 3 || st.Lingered != 4 {
		t.Errorf("got %+v, want 3 evicted, 4 lingered", st)
	}
}

// TestLinger_Clone: the original stays in the group; each caller gets a clone, including
// the leader and a receiver.
func TestLinger_Clone(t *testing.T) {
	for _, form := range kit.Forms {
		g := coalesce.Group[string, *int]{
			Linger: coalesce.Forever,
			Clone:  func(p *int) *int { q := *p; return &q },
		}
		original := new(int)
		seen := map[*int]bool{original: true}
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			var v *int
			fn := func(context.Context) (*int, error) { return original, nil }
			switch form.Name {
			case "Do":
				v, _, _ = g.Do("k", func() (*int, error) { return fn(ctx) })
			case "DoChan":
				v = (<-g.DoChan(ctx, "k", fn)).Val
			case "DoFresh":
				v, _, _ = g.DoFresh(ctx, "k", fn)
			default:
				v, _, _ = g.DoContext(ctx, "k", fn)
			}
			if v == nil || seen[v] {
				t.Errorf("%s: got %p, want a clone that is none of %v", form.Name, v, seen)
			}
			seen[v] = true
		}
		cancel()
	}
}

// TestLinger_ClonePanics: only the call that the clone was for gets the panic.
func TestLinger_ClonePanics(t *testing.T) {
	bad := false
	g := kit.Group{Linger: coalesce.Forever, Clone: func(v int) int {
		if bad {
			panic("clone")
		}
		return v
	}}
	g.Do("k", kit.Value(1))
	bad = true
	r := <-g.DoChan(t.Context(), "k", kit.CtxValue(0))
	var e *coalesce.PanicError
	if !errors.As(r.Err, &e) || e.Value != "clone" {
		t.Errorf("receiver: got %+v, want the panic of Clone", r)
	}
	func() {
		defer func() {
			if e, ok := recover().(*coalesce.PanicError); !ok || e.Value != "clone" {
				t.Errorf("Do: got the panic %v, want that of Clone", e)
			}
		}()
		g.Do("k", kit.Value(0))
	}()
	bad = false
	if v, shared, err := g.Do("k", kit.Value(0)); v != 1 || !shared || err != nil {
		t.Errorf("then: got %d, %t, %v, want 1, true, nil", v, shared, err)
	}
}

// TestLinger_EndedContext: a call whose context has ended gets that context's error.
func TestLinger_EndedContext(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	g.Do("k", kit.Value(1))
	if v, _, err := g.DoContext(kit.EndedContext, "k", kit.CtxValue(0)); v != 0 || err != context.Canceled {
		t.Errorf("DoContext: got %d, %v, want 0, %v", v, err, context.Canceled)
	}
	if r := <-g.DoChan(kit.EndedContext, "k", kit.CtxValue(0)); r.Val != 0 || r.Err != context.Canceled {
		t.Errorf("DoChan: got %+v, want 0, %v", r, context.Canceled)
	}
	if st := g.Stats(); st.EndedOnEntry != 2 || st.Lingered != 0 {
		t.Errorf("got %+v, want 2 ended on entry, none lingered", st)
	}
}

// TestLinger_Shutdown: Shutdown drops all lingering outcomes, and a flight that finishes
// later does not linger.
func TestLinger_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever}
		g.Do("other", kit.Value(1))
		h := kit.Lead(t, &g)
		down := make(chan error)
		go func() { down <- g.Shutdown(t.Context()) }()
		synctest.Wait()
		close(h.Release)
		if err := <-down; err != nil {
			t.Error(err)
		}
		for _, k := range []string{"k", "other"} {
			if _, _, err := g.Do(k, kit.Value(0)); err != coalesce.ErrClosed {
				t.Errorf("%s: got %v, want %v", k, err, coalesce.ErrClosed)
			}
		}
	})
}

// TestLinger_NothingIsKept: when a success has expired, or was dropped, the group no
// longer refers to it, even if no call comes; while it lingers, the group refers neither
// to fn nor to the leader's context.
func TestLinger_NothingIsKept(t *testing.T) {
	type box struct{ _ [64]byte }
	tests := map[string]struct {
		linger time.Duration
		drop   func(g *coalesce.Group[*box, *box], key *box)
	}{
		"expired":   {20 * time.Millisecond, func(*coalesce.Group[*box, *box], *box) {}},
		"forgotten": {coalesce.Forever, func(g *coalesce.Group[*box, *box], key *box) { g.Forget(key) }},
		"evicted": {coalesce.Forever, func(g *coalesce.Group[*box, *box], _ *box) {
			g.Do(nil, func() (*box, error) { return nil, nil })
		}},
		"shutdown": {coalesce.Forever, func(g *coalesce.Group[*box, *box], _ *box) { _ = g.Shutdown(context.Background()) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := coalesce.Group[*box, *box]{Linger: test.linger, LingerMax: 1}
			key, val, captured := new(box), new(box), new(box)
			wkey, wval, wctx, wfn := weak.Make(key), weak.Make(val), weak.Make(new(box)), weak.Make(captured)
			func() {
				inCtx := new(box)
				wctx = weak.Make(inCtx)
				ctx, cancel := context.WithCancel(context.WithValue(t.Context(), &wctx, inCtx))
				defer cancel()
				_, _, _ = g.DoContext(ctx, key, func(context.Context) (*box, error) {
					runtime.KeepAlive(captured)
					return val, nil
				})
			}()
			captured = nil
			collected := func(p weak.Pointer[box]) bool {
				for end := time.Now().Add(5 * time.Second); p.Value() != nil; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						return false
					}
					runtime.GC()
				}
				return true
			}
			if !collected(wctx) {
				t.Error("the context: got it kept, want it collected")
			}
			if !collected(wfn) {
				t.Error("fn: got it kept, want it collected")
			}
			test.drop(&g, key)
			key, val = nil, nil
			if !collected(wkey) || !collected(wval) {
				t.Error("the success: got it kept, want it collected")
			}
			runtime.KeepAlive(&g)
		})
	}
}

// TestLinger_GroupIsCollected: a sweep to come does not keep a group alive.
func TestLinger_GroupIsCollected(t *testing.T) {
	val := new([64]byte)
	w := weak.Make(val)
	func() {
		g := coalesce.Group[int, *[64]byte]{Linger: time.Hour}
		g.Do(1, func() (*[64]byte, error) { return val, nil })
	}()
	val = nil
	for range 100 {
		if runtime.GC(); w.Value() == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("the group or its lingering success: got it kept, want it collected")
}

// TestLinger_Bubbles: a group in a package variable may be used in one bubble after
// another and outside: each has a clock of its own, and a timer that is lost with its
// bubble is made again.
func TestLinger_Bubbles(t *testing.T) {
	g := kit.Group{Linger: 50 * time.Millisecond}
	use := func(t *testing.T) {
		g.Do("k", kit.Value(1))
		if _, shared, _ := g.Do("k", kit.Value(0)); !shared {
			t.Error("got a new execution, want the lingering value")
		}
	}
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			use(t)
			time.Sleep(50 * time.Millisecond)
			if v, shared, _ := g.Do("k", kit.Value(2)); v != 2 || shared {
				t.Errorf("in a bubble: got %d, %t, want 2, false", v, shared)
			}
		})
		use(t)
	}
	time.Sleep(60 * time.Millisecond)
	if v, shared, _ := g.Do("k", kit.Value(2)); v != 2 || shared {
		t.Errorf("outside: got %d, %t, want 2, false", v, shared)
	}
}

// TestLinger_Misuse: settings that make no sense panic at first use.
func TestLinger_Misuse(t *testing.T) {
	for want, g := range map[string]*kit.Group{
		"coalesce: Group.Linger is -1, and must not be negative":    {Linger: -1},
		"coalesce: Group.LingerMax is -1, and must not be negative": {LingerMax: -1},
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("got the panic %v, want %s", got, want)
				}
			}()
			g.Len()
		}()
	}
}
