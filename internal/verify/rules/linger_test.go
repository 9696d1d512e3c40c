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

// errLinger is what an fn returns.
var errLinger = errors.New("fn failed")

// lingering is for how long successes linger in most of these tests.
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
					t.Fatalf("leader: %d, %t, %v", v, shared, err)
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
					t.Errorf("while it lingers: %+v", a)
				}
				if got := g.Stats(); got != st {
					t.Errorf("%+v", got)
				}
				if form.Name == "DoFresh" {
					return
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				a, done = kit.Go(ctx, form, &g, "k", kit.CtxValue(3))
				<-done
				if a.V != 3 || a.Shared || a.Err != nil {
					t.Errorf("after: %+v", a)
				}
			})
		})
	}
}

// TestLinger_TryDo: it is answered, too.
func TestLinger_TryDo(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	if v, err := g.TryDo("k", kit.Value(1)); v != 1 || err != nil {
		t.Errorf("first: %d, %v", v, err)
	}
	if v, err := g.TryDo("k", kit.Value(2)); v != 1 || err != nil {
		t.Errorf("second: %d, %v", v, err)
	}
}

// TestLinger_Forever: a keyed once that retries errors, from many goroutines.
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
							t.Errorf("%d: %d", k, v)
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
			t.Errorf("fn for %d ran %d times", k, n)
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
			t.Errorf("%s: %+v", name, st)
		}
	}
	nan := math.NaN()
	for i := range 3 {
		if v, _, err := g.Do(nan, func() (int, error) { return i, nil }); v != i || err != nil {
			t.Errorf("NaN: %d, %v, want %d", v, err, i)
		}
	}
	if v, _, err := g.Do(1, func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("after all: %d, %v", v, err)
	}
	if st := g.Stats(); st.Lingered != 0 || st.Led != 7 {
		t.Errorf("%+v", st)
	}
}

// TestLinger_NotWhatNobodyMayHave: the success of a flight that was forgotten,
// taken over, abandoned or that somebody queues behind does not linger.
func TestLinger_NotWhatNobodyMayHave(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, g *kit.Group)
		next int // what the next call gets; 0: what it returns itself
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
				t.Errorf("replacement: %d", v)
			}
			close(h.Release)
		}, 5},
		{"taken over", func(t *testing.T, g *kit.Group) {
			h := kit.Lead(t, g)
			time.Sleep(time.Second)
			synctest.Wait()
			if v, _, _ := g.Do("k", kit.Value(5)); v != 5 {
				t.Errorf("takeover: %d", v)
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
				t.Errorf("%+v", st)
			}
			b, doneB := kit.Go(t.Context(), kit.Forms[0], g, "k", kit.CtxValue(0))
			synctest.Wait()
			close(h2.Release)
			<-done
			<-doneB
			if a.V != 6 || b.V != 6 {
				t.Errorf("%+v, %+v", a, b)
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
					t.Errorf("%d, %v, want %d", v, err, want)
				}
			})
		})
	}
}

// TestLinger_Fresh: while DoFresh runs, others are answered by what lingers; its
// end drops that, and its success takes the place.
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
				t.Errorf("meanwhile: %d, %t, %v", v, shared, err)
			}
			close(h.Release)
			<-done
			if a.V != 2 || a.Err != end || a.Shared {
				t.Errorf("DoFresh: %+v", a)
			}
			want := 2
			if end != nil {
				want = 3
			}
			if v, _, err := g.Do("k", kit.Value(3)); v != want || err != nil {
				t.Errorf("then: %d, %v", v, err)
			}
		})
	}
}

// TestLinger_TakenOver: when a DoFresh has returned, no call is answered by what
// lingered before it, be its flight taken over by the next DoFresh.
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
			t.Errorf("DoFresh got %d, and a Do after it %d", a.V, b.V)
		}
	})
}

// TestLinger_Forget: it drops a success at once, and says so; an expired one is
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
					t.Error("nothing was dropped")
				}
				if got := forget(&g, "k"); got != (name == "ForgetUnshared") {
					t.Errorf("second: %t", got)
				}
				if v, _, _ := g.Do("k", kit.Value(2)); v != 2 {
					t.Errorf("then: %d", v)
				}
				time.Sleep(lingering)
				if got := forget(&g, "k"); got != (name == "ForgetUnshared") {
					t.Errorf("expired: %t", got)
				}
				if st := g.Stats(); st.Forgotten != 1 || st.Led != 2 || st.Lingered != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestLinger_ForgetUnsharedKeeps: a flight that is shared.
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
			t.Error("forgotten")
		}
		if !g.Forget("k") {
			t.Error("not forgotten")
		}
		if v, _, _ := g.Do("k", kit.Value(4)); v != 4 {
			t.Errorf("afresh: %d", v)
		}
		close(h.Release)
		close(h2.Release)
		<-done
		<-done2
		<-done3
		if v, _, _ := g.Do("k", kit.Value(0)); v != 4 {
			t.Errorf("a forgotten one came back: %d", v)
		}
	})
}

// TestLinger_ForgetRacesStore: what a flight returns that began before a Forget
// cannot answer a call that came after it.
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
			t.Fatalf("version %d after a Forget at version %d", v, want)
		}
	}
	close(stop)
	wg.Wait()
}

// TestLinger_Max: it is exact, and the oldest goes first.
func TestLinger_Max(t *testing.T) {
	g := coalesce.Group[int, int]{Linger: coalesce.Forever, LingerMax: 3}
	for k := range 5 {
		g.Do(k, func() (int, error) { return k, nil })
	}
	for _, k := range []int{2, 3, 4} {
		if v, shared, _ := g.Do(k, func() (int, error) { return -1, nil }); v != k || !shared {
			t.Errorf("%d does not linger: %d", k, v)
		}
	}
	if _, shared, _ := g.Do(0, func() (int, error) { return 0, nil }); shared {
		t.Error("0 lingers")
	}
	g.Forget(4)
	g.Do(5, func() (int, error) { return 5, nil }) // there is room: nothing goes
	if _, shared, _ := g.Do(3, func() (int, error) { return -1, nil }); !shared {
		t.Error("3 does not linger any more")
	}
	if st := g.Stats(); st.Evicted != 3 || st.Lingered != 4 {
		t.Errorf("%+v", st)
	}
}

// TestLinger_Clone: the original stays in the group; everybody gets a clone,
// the leader too, and a receiver.
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
				t.Errorf("%s: %p of %v", form.Name, v, seen)
			}
			seen[v] = true
		}
		cancel()
	}
}

// TestLinger_ClonePanics: that call alone is told.
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
		t.Errorf("receiver: %+v", r)
	}
	func() {
		defer func() {
			if e, ok := recover().(*coalesce.PanicError); !ok || e.Value != "clone" {
				t.Errorf("Do: %v", e)
			}
		}()
		g.Do("k", kit.Value(0))
	}()
	bad = false
	if v, shared, err := g.Do("k", kit.Value(0)); v != 1 || !shared || err != nil {
		t.Errorf("then: %d, %t, %v", v, shared, err)
	}
}

// TestLinger_EndedContext: it is answered by its own error.
func TestLinger_EndedContext(t *testing.T) {
	g := kit.Group{Linger: coalesce.Forever}
	g.Do("k", kit.Value(1))
	if v, _, err := g.DoContext(kit.EndedContext, "k", kit.CtxValue(0)); v != 0 || err != context.Canceled {
		t.Errorf("DoContext: %d, %v", v, err)
	}
	if r := <-g.DoChan(kit.EndedContext, "k", kit.CtxValue(0)); r.Val != 0 || r.Err != context.Canceled {
		t.Errorf("DoChan: %+v", r)
	}
	if st := g.Stats(); st.EndedOnEntry != 2 || st.Lingered != 0 {
		t.Errorf("%+v", st)
	}
}

// TestLinger_Shutdown: it drops what lingers, and what finishes later does not
// linger.
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
				t.Errorf("%s: %v", k, err)
			}
		}
	})
}

// TestLinger_NothingIsKept: when a success has expired, or was dropped, the
// group does not refer to it any more, though nobody calls; nor does it refer,
// while it lingers, to fn or to the leader's context.
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
				t.Error("the context is kept")
			}
			if !collected(wfn) {
				t.Error("fn is kept")
			}
			test.drop(&g, key)
			key, val = nil, nil
			if !collected(wkey) || !collected(wval) {
				t.Error("the success is kept")
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
	t.Error("the group, or what lingered in it, is kept")
}

// TestLinger_Bubbles: a group of a package's may be used in one bubble after
// another and outside: each has a clock of its own, and a timer that is lost
// with its bubble is made again.
func TestLinger_Bubbles(t *testing.T) {
	g := kit.Group{Linger: 50 * time.Millisecond}
	use := func(t *testing.T) {
		g.Do("k", kit.Value(1))
		if _, shared, _ := g.Do("k", kit.Value(0)); !shared {
			t.Error("it does not linger")
		}
	}
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			use(t)
			time.Sleep(50 * time.Millisecond)
			if v, shared, _ := g.Do("k", kit.Value(2)); v != 2 || shared {
				t.Errorf("in a bubble: %d, %t", v, shared)
			}
		})
		use(t)
	}
	time.Sleep(60 * time.Millisecond)
	if v, shared, _ := g.Do("k", kit.Value(2)); v != 2 || shared {
		t.Errorf("outside: %d, %t", v, shared)
	}
}

// TestLinger_Misuse: what makes no sense panics at first use.
func TestLinger_Misuse(t *testing.T) {
	for want, g := range map[string]*kit.Group{
		"coalesce: Group.Linger is -1, and must not be negative":    {Linger: -1},
		"coalesce: Group.LingerMax is -1, and must not be negative": {LingerMax: -1},
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("%v, want %s", got, want)
				}
			}()
			g.Len()
		}()
	}
}
