package coalesce

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecord_UsedAgain: the record of a flight that nobody joined is given back by
// its leader, and holds nothing but what makes it a record.
func TestRecord_UsedAgain(t *testing.T) {
	for name, lead := range map[string]func(ctx context.Context, g *Group[int, *int]){
		"DoContext": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (*int, error) {
				ctx.Done()
				return new(int), errors.New("failed")
			})
		},
		"DoContext, for long": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoContext(ctx, 1, func(context.Context) (*int, error) {
				time.Sleep(time.Millisecond)
				return new(int), nil
			})
		},
		"DoFresh": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoFresh(ctx, 1, func(context.Context) (*int, error) { return new(int), nil })
		},
		"DoMulti": func(ctx context.Context, g *Group[int, *int]) {
			g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]*int, error) {
				return map[int]*int{1: new(int)}, nil
			})
		},
		"refused": func(ctx context.Context, g *Group[int, *int]) {
			g.MaxWaiters = 1
			_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (*int, error) {
				_, _, err := g.DoContext(ctx, 1, func(context.Context) (*int, error) { return nil, nil })
				if !errors.Is(err, ErrDeadlock) {
					t.Error(err)
				}
				_, err = g.TryDo(1, func() (*int, error) { return nil, nil })
				if err != ErrInFlight {
					t.Error(err)
				}
				for range g.Flights() {
				}
				return new(int), nil
			})
		},
	} {
		for try := range 100 { // the race detector has a pool lose some
			var g Group[int, *int]
			ctx, cancel := context.WithCancel(t.Context())
			lead(ctx, &g)
			cancel()
			f, _ := g.use().records.Get().(*flight[int, *int])
			if f == nil {
				if try == 99 {
					t.Errorf("%s: there is no record", name)
				}
				continue
			}
			c := f.cold
			if run := c.run; run != nil {
				c.run = nil
			} else if name != "DoMulti" {
				t.Errorf("%s: its goroutine is not kept", name)
			}
			if *f != (flight[int, *int]{cold: c}) || !reflect.ValueOf(*c).IsZero() {
				t.Errorf("%s: %+v, %+v", name, f, c)
			}
			break
		}
	}
}

// TestRecord_LeftToOthers: a record that another call may have a pointer to, though
// it has left, is not given back (R1).
func TestRecord_LeftToOthers(t *testing.T) {
	for name, other := range map[string]func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)){
		"joined and left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { _, _, _ = g.DoContext(ctx, 1, again) }()
			synctest.Wait()
		},
		"queued and left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { _, _, _ = g.DoFresh(ctx, 1, again) }()
			synctest.Wait()
		},
		"a receiver that left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			g.DoChan(ctx, 1, again)
		},
		"one of many keys": func(ctx context.Context, g *Group[int, int], _ func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { return nil, nil })
			synctest.Wait()
		},
		"forgotten": func(_ context.Context, g *Group[int, int], _ func(context.Context) (int, error)) { g.Forget(1) },
	} {
		synctest.Test(t, func(t *testing.T) {
			var g Group[int, int]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			started, release := make(chan struct{}), make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _, err := g.DoContext(ctx, 1, func(context.Context) (int, error) {
					close(started)
					<-release
					return 1, nil
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
			<-started
			other(t.Context(), &g, func(context.Context) (int, error) { return 2, nil })
			synctest.Wait()
			close(release)
			<-done
			synctest.Wait()
			if f := g.use().records.Get(); f != nil {
				t.Errorf("%s: its record is used again", name)
			}
		})
	}
}
