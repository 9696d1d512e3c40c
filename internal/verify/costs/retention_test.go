package costs_test

import (
	"context"
	"runtime"
	"testing"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds tests that calls and flights that go on keep nothing of another flight
// that is over.

// TestCollected: Collected reports false for an object that is still referred to, and
// true for one that is not.
func TestCollected(t *testing.T) {
	kept := new(kit.Payload)
	if kit.Collected(weak.Make(kept)) {
		t.Error("an object that is kept: got true, want false")
	}
	runtime.KeepAlive(kept)
	if !kit.Collected(weak.Make(new(kit.Payload))) {
		t.Error("an object that is not kept: got false, want true")
	}
}

// TestG12_EdgeKeepsNoPredecessor: a call made by an fn that was queued behind a flight
// does not keep that flight when it is over.
func TestG12_EdgeKeepsNoPredecessor(t *testing.T) {
	var g coalesce.Group[string, *kit.Payload]
	release := make(chan struct{})
	started := make(chan struct{})
	nested := make(chan struct{})
	fresh := make(chan struct{})
	firstDone := make(chan struct{})
	first := func() weak.Pointer[kit.Payload] {
		v := new(kit.Payload)
		w := weak.Make(v)
		go func() {
			defer close(firstDone)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			hand := make(chan *kit.Payload, 1)
			hand <- v
			g.DoContext(ctx, "k", func(context.Context) (*kit.Payload, error) {
				close(started)
				<-nested
				return <-hand, nil
			})
		}()
		<-started
		return w
	}()
	outer := g.DoChan(context.Background(), "outer", func(ctx context.Context) (*kit.Payload, error) {
		g.DoFresh(ctx, "k", func(context.Context) (*kit.Payload, error) {
			close(fresh)
			<-release
			return nil, nil
		})
		return nil, nil
	})
	kit.Await(t, func() bool { return kit.Waiting(&g) == 1 })
	close(nested)
	<-firstDone
	<-fresh
	if !kit.Collected(first) {
		t.Error("a value whose flight is over: got it kept by a call that was queued behind it, want it collected")
	}
	close(release)
	<-outer
	runtime.KeepAlive(&g)
}

// TestG12_ChildKeepsNoParent: a flight that the fn of another started, without waiting
// for it, keeps the context of that fn, but not its value.
func TestG12_ChildKeepsNoParent(t *testing.T) {
	var g coalesce.Group[string, *kit.Payload]
	release := make(chan struct{})
	var child <-chan coalesce.Result[*kit.Payload]
	parent := func() weak.Pointer[kit.Payload] {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v, _, _ := g.DoContext(ctx, "parent", func(ctx context.Context) (*kit.Payload, error) {
			child = g.DoChan(coalesce.Detach(ctx), "child", func(context.Context) (*kit.Payload, error) {
				<-release
				return nil, nil
			})
			return new(kit.Payload), nil
		})
		return weak.Make(v)
	}()
	if !kit.Collected(parent) {
		t.Error("a value whose flight is over: got it kept by a flight that its fn started, want it collected")
	}
	close(release)
	<-child
	runtime.KeepAlive(&g)
}

// TestG12_CanceledChildKeepsNoSibling: a context derived from fn's that has been
// canceled does not keep the flight that a call with fn's context followed, whether
// the call came before or after.
func TestG12_CanceledChildKeepsNoSibling(t *testing.T) {
	for _, before := range []bool{false, true} {
		var g coalesce.Group[string, *kit.Payload]
		var child context.Context
		var value weak.Pointer[kit.Payload]
		ctx, cancel := context.WithCancel(t.Context())
		g.DoContext(ctx, "outer", func(ctx context.Context) (*kit.Payload, error) {
			derive := func() (end context.CancelFunc) {
				child, end = context.WithCancel(ctx)
				return end
			}
			var end context.CancelFunc
			if before {
				end = derive()
			}
			release := make(chan struct{})
			inner := g.DoChan(ctx, "inner", func(context.Context) (*kit.Payload, error) {
				<-release
				return new(kit.Payload), nil
			})
			if !before {
				end = derive()
			}
			end()
			close(release)
			value = weak.Make((<-inner).Val)
			return nil, nil
		})
		cancel()
		if !kit.Collected(value) {
			t.Errorf("derived before the call %v: got the value kept by a canceled context, want it collected", before)
		}
		runtime.KeepAlive(child)
		runtime.KeepAlive(&g)
	}
}

// TestG12_EndedChildKeepsNoSibling: the same for a context that ended with fn's.
func TestG12_EndedChildKeepsNoSibling(t *testing.T) {
	for _, before := range []bool{false, true} {
		var g coalesce.Group[string, *kit.Payload]
		started, release := make(chan struct{}), make(chan struct{})
		children := make(chan context.Context, 1)
		values := make(chan weak.Pointer[kit.Payload], 1)
		ctx, cancel := context.WithCancel(t.Context())
		g.DoContext(ctx, "outer", func(ctx context.Context) (*kit.Payload, error) {
			var child context.Context
			derive := func() {
				var end context.CancelFunc
				child, end = context.WithCancel(ctx)
				t.Cleanup(end)
			}
			if before {
				derive()
			}
			g.DoChan(ctx, "inner", func(context.Context) (*kit.Payload, error) {
				close(started)
				<-release
				v := new(kit.Payload)
				values <- weak.Make(v)
				return v, nil
			})
			<-started
			if !before {
				derive()
			}
			cancel()
			<-child.Done()
			children <- child
			return nil, nil
		})
		child := <-children
		kit.Await(t, func() bool { return g.Stats().Left == 2 })
		close(release)
		value := <-values
		kit.Await(t, func() bool { return g.Len() == 0 })
		if !kit.Collected(value) {
			t.Errorf("derived before the call %v: got the value kept by a context that has ended, want it collected", before)
		}
		runtime.KeepAlive(child)
		runtime.KeepAlive(&g)
	}
}

// TestG12_FollowerOfABatchKeepsNoOther: a call that has joined one flight of a batch,
// which is over, and goes on waiting for another flight, does not keep the values of the
// other keys of the batch.
func TestG12_FollowerOfABatchKeepsNoOther(t *testing.T) {
	var g coalesce.Group[string, *kit.Payload]
	release, started := make(chan struct{}), make(chan struct{})
	slow := make(chan struct{})
	slowDone := g.DoChan(context.Background(), "slow", func(context.Context) (*kit.Payload, error) { <-slow; return nil, nil })
	batchDone := make(chan weak.Pointer[kit.Payload])
	go func() {
		m := g.DoMulti(context.Background(), []string{"a", "b"}, func(context.Context, []string) (map[string]*kit.Payload, error) {
			close(started)
			<-release
			return map[string]*kit.Payload{"a": nil, "b": new(kit.Payload)}, nil
		})
		batchDone <- weak.Make(m["b"].Val)
	}()
	<-started
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		g.DoMulti(context.Background(), []string{"a", "slow"}, nothing)
	}()
	kit.Await(t, func() bool { return g.Stats().Joined == 2 })
	close(release)
	b := <-batchDone
	if !kit.Collected(b) {
		t.Error("the value of key b: got it kept by a call for a, want it collected")
	}
	close(slow)
	<-followed
	<-slowDone
	runtime.KeepAlive(&g)
}

func nothing(context.Context, []string) (map[string]*kit.Payload, error) { return nil, nil }

// TestG12_ExitingHookKeepsNoWatch: a DoChan that leaves because a hook exits stops
// watching its context, which would keep the flight with its value.
func TestG12_ExitingHookKeepsNoWatch(t *testing.T) {
	g := coalesce.Group[string, *kit.Payload]{Hooks: coalesce.Hooks[string]{
		Join: func(context.Context, coalesce.Event[string]) { runtime.Goexit() },
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	release := make(chan struct{})
	values := make(chan weak.Pointer[kit.Payload], 1)
	go g.Do("k", func() (*kit.Payload, error) {
		<-release
		v := new(kit.Payload)
		values <- weak.Make(v)
		return v, nil
	})
	for g.Len() == 0 {
		runtime.Gosched()
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		g.DoChan(ctx, "k", func(context.Context) (*kit.Payload, error) { return nil, nil })
	}()
	<-gone
	close(release)
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !kit.Collected(<-values) {
		t.Error("the value: got it kept, want it collected")
	}
	runtime.KeepAlive(&g)
}
