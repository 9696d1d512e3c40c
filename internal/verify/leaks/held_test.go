package leaks

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the scenarios of flights that go on when their callers have left, and
// of objects that outlive flights: outcomes that linger, contexts.

type valueKey struct{}

// watched returns a context derived from ctx that is never canceled by itself. A
// goroutine waits for the end of ctx, because between the two is a context that package
// context does not know.
func watched(ctx context.Context, cancels *cancels) context.Context {
	child, cancel := context.WithCancel(context.WithValue(ctx, valueKey{}, 1))
	cancels.keep(cancel)
	return child
}

// cancels are functions that are never called.
type cancels struct {
	mu  sync.Mutex
	all []context.CancelFunc
}

func (c *cancels) keep(cancel context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, cancel)
}

// heldFlights: all callers leave flights that are held, some after another call has
// joined, and some of which are forgotten. fns return contexts that they have derived
// from theirs and that are never canceled by themselves: those contexts end, as no call
// gets a value.
func heldFlights(t *testing.T) {
	var g coalesce.Group[int, context.Context]
	var kept cancels
	release := make(chan struct{})
	ctx, leave := context.WithCancel(context.Background())
	var started, left sync.WaitGroup
	started.Add(calls)
	fn := func(ctx context.Context) (context.Context, error) {
		if !coalesce.Hold(ctx) {
			t.Error("Hold: got false, want true")
		}
		child := watched(ctx, &kept)
		started.Done()
		<-release
		return child, nil
	}
	for key := range calls {
		left.Go(func() {
			if _, _, err := g.DoContext(ctx, key, fn); !errors.Is(err, context.Canceled) {
				t.Errorf("key %d: got %v, want %v", key, err, context.Canceled)
			}
		})
	}
	started.Wait()
	for key := range calls / 2 {
		ch := g.DoChan(ctx, key, fn)
		left.Go(func() {
			if r := <-ch; !errors.Is(r.Err, context.Canceled) {
				t.Errorf("key %d: got %+v, want %v", key, r, context.Canceled)
			}
		})
	}
	leave()
	left.Wait()
	if n := g.ForgetFunc(func(key int) bool { return key%4 == 0 }); n != calls/4 {
		t.Errorf("got %d flights forgotten, want %d", n, calls/4)
	}
	for f := range g.Flights() {
		if f.Key%4 == 1 && !g.ForgetFlight(f.ID) {
			t.Errorf("flight %d: got false, want it forgotten", f.ID)
		}
	}
	close(release)
	if err := g.Shutdown(context.Background()); err != nil { // waits for the fns
		t.Errorf("Shutdown: got %v, want nil", err)
	}
}

// lingeringOutcomes: outcomes linger, each for a time of its own, and are evicted,
// forgotten, or left behind in a group that nothing refers to any more.
func lingeringOutcomes(t *testing.T) {
	failed := errors.New("failed")
	g := &coalesce.Group[int, int]{LingerMax: calls / 2, LingerFor: func(v int, err error) time.Duration {
		if err != nil {
			return time.Hour
		}
		return time.Duration(v) * time.Minute
	}}
	for key := range calls {
		_, _, _ = g.Do(key, func() (int, error) {
			if key%2 == 0 {
				return 0, failed
			}
			return key, nil
		})
	}
	st := g.Stats()
	if st.Lingering != calls/2 || st.Evicted == 0 {
		t.Errorf("got %+v, want %d outcomes that linger, and others evicted", st, calls/2)
	}
	if n := g.ForgetFunc(func(key int) bool { return key < calls*3/4 }); n == 0 {
		t.Error("got no outcome forgotten, want some")
	}
}

// keyErrors: batches fail for some of their keys, whose callers and followers leave,
// stay, or never receive.
func keyErrors(t *testing.T) {
	var g coalesce.Group[int, int]
	failed := errors.New("failed")
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	var started, done sync.WaitGroup
	release := make(chan struct{})
	started.Add(calls / 4)
	fn := func(_ context.Context, keys []int) (map[int]int, error) {
		started.Done()
		<-release
		values, errs := map[int]int{}, coalesce.KeyErrors[int]{}
		for _, key := range keys {
			switch key % 4 {
			case 0:
				values[key] = key
			case 1:
				errs[key] = failed
			}
		}
		return values, errs
	}
	for i := range calls / 4 {
		done.Go(func() {
			r := g.DoMulti(ctx, []int{4 * i, 4*i + 1, 4*i + 2}, fn)
			if r[4*i].Err != nil || r[4*i+1].Err != failed || r[4*i+2].Err != coalesce.ErrAbsent {
				t.Errorf("got %+v, want a value, an error and an absent key", r)
			}
		})
	}
	started.Wait()
	other := func(context.Context) (int, error) {
		t.Error("got a second execution, want one")
		return 0, nil
	}
	leaving, end := context.WithCancel(ctx)
	for key := range calls {
		if key%4 != 3 {
			g.DoChan(leaving, key, other)
			g.DoChan(context.Background(), key, other)
		}
	}
	end()
	close(release)
	done.Wait()
}

// startContexts: Start returns contexts that Finish cancels, whether fn returns, is canceled or
// is held; fns derive others from theirs, and calls leave.
func startContexts(t *testing.T) {
	type cancelKey struct{}
	var kept cancels
	var open atomic.Int64
	g := coalesce.Group[int, context.Context]{Hooks: coalesce.Hooks[int]{
		Start: func(ctx context.Context, _ coalesce.Event[int]) context.Context {
			open.Add(1)
			ctx, cancel := context.WithCancel(ctx)
			return context.WithValue(ctx, cancelKey{}, cancel)
		},
		Finish: func(ctx context.Context, _ coalesce.Event[int]) {
			open.Add(-1)
			ctx.Value(cancelKey{}).(context.CancelFunc)()
		},
	}}
	ctx, leave := context.WithCancel(context.Background())
	var started, left sync.WaitGroup
	started.Add(calls)
	release := make(chan struct{})
	for key := range calls {
		left.Go(func() {
			_, _, _ = g.DoContext(ctx, key, func(ctx context.Context) (context.Context, error) {
				child := watched(ctx, &kept)
				started.Done()
				if key%2 == 0 && coalesce.Hold(ctx) {
					<-release
				} else {
					<-child.Done()
				}
				return child, nil
			})
		})
	}
	started.Wait()
	leave()
	left.Wait()
	close(release)
	if err := g.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: got %v, want nil", err)
	}
	for deadline := time.Now().Add(10 * time.Second); open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d flights with a Start and no Finish, want none", open.Load())
		}
	}
}
