package promflight_test

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

type ctxKey struct{}

// TestHooks_Compose: the hooks of the user are called as without promflight's, with the
// context that Start has returned.
func TestHooks_Compose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		note := func(name string) func(context.Context, coalesce.Event[string]) {
			return func(ctx context.Context, e coalesce.Event[string]) {
				mu.Lock()
				defer mu.Unlock()
				if v, _ := ctx.Value(ctxKey{}).(string); v != "" {
					name += " with " + v
				}
				got = append(got, name+" "+e.Key)
			}
		}
		g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
			Start: func(ctx context.Context, e coalesce.Event[string]) context.Context {
				note("start")(ctx, e)
				return context.WithValue(ctx, ctxKey{}, "value")
			},
			Join: note("join"), Receive: note("receive"), Leave: note("leave"), Finish: note("finish"),
		}}
		r := hooked(t, "a", &g)
		var wg sync.WaitGroup
		wg.Go(func() {
			g.DoContext(t.Context(), "k", func(ctx context.Context) (int, error) {
				time.Sleep(time.Second)
				if ctx.Value(ctxKey{}) != "value" {
					t.Error("fn's context lacks the value that Start has given")
				}
				return 0, nil
			})
		})
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Go(func() { g.DoContext(short, "k", notCalledWith) })
		wg.Go(func() { g.DoContext(t.Context(), "k", notCalledWith) })
		wg.Wait()
		synctest.Wait()
		slices.Sort(got)
		want := []string{"finish with value k", "join k", "join k", "leave k", "receive k", "start k"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		expect(t, r, map[string]float64{"coalesce_wait_seconds_count{group=a}": 1, "coalesce_flight_seconds_count{group=a}": 1})
	})
}

// notCalledWith is an fn that is not called.
func notCalledWith(context.Context) (int, error) { panic("called") }

// TestHooks_Panic: a hook of the user that panics, or exits, is recovered and counted as
// ever, and its event is observed.
func TestHooks_Panic(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for name, test := range map[string]struct {
		exit   func()
		panics float64
	}{
		"panic":  {func() { panic("hook") }, 2},
		"Goexit": {runtime.Goexit, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hook := func(context.Context, coalesce.Event[string]) { test.exit() }
				g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{Receive: hook, Finish: hook}}
				r := hooked(t, "a", &g)
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() { g.Do("k", func() (int, error) { time.Sleep(time.Second); return 0, nil }) })
				}
				wg.Wait()
				expect(t, r, map[string]float64{
					"coalesce_hook_panics_total{group=a}":  test.panics,
					"coalesce_wait_seconds_count{group=a}": 1, "coalesce_flight_seconds_count{group=a}": 1,
				})
			})
		})
	}
}

// TestHooks_Allocs: the hooks allocate nothing.
func TestHooks_Allocs(t *testing.T) {
	var g coalesce.Group[string, int]
	h := promflight.Hooks(newCollector(t, "a", &g), coalesce.Hooks[string]{})
	e := coalesce.Event[string]{Wait: time.Second, Run: time.Second}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { h.Receive(ctx, e); h.Finish(ctx, e) }); n != 0 {
		t.Errorf("got %v allocations for a Receive and a Finish, want 0", n)
	}
	if h.Start != nil || h.Join != nil || h.Leave != nil {
		t.Error("got a Start, a Join or a Leave, which would cost each call something, want none")
	}
}

// BenchmarkHooks measures what the hooks add to a call that leads.
func BenchmarkHooks(b *testing.B) {
	for _, name := range []string{"none", "empty", "promflight"} {
		b.Run("hooks="+name, func(b *testing.B) {
			var g coalesce.Group[string, int]
			switch name {
			case "empty":
				nothing := func(context.Context, coalesce.Event[string]) {}
				g.Hooks = coalesce.Hooks[string]{Receive: nothing, Finish: nothing}
			case "promflight":
				g.Hooks = promflight.Hooks(newCollector(b, "a", &g), g.Hooks)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.Do("k", func() (int, error) { return 0, nil })
			}
		})
	}
}
