package scenarios

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// This file holds peers that every scenario must be able to refuse.

// A broken group has the defects of its peer in brokenPeers.
type broken struct {
	alone, keeps, garbles, cancels, pools, locks bool

	mu   sync.Mutex
	m    map[any]*running
	free *running
}

type running struct {
	done   chan struct{}
	v      any
	err    error
	panic  any
	shared bool
	cancel context.CancelFunc
}

func brokenPeers() []*Peer {
	group := func(fill func(b *broken)) func() *Group {
		return func() *Group {
			b := &broken{m: make(map[any]*running)}
			fill(b)
			return &Group{Do: b.do, DoContext: b.doContext, DoChan: b.doChan, Forget: b.forget}
		}
	}
	const has = Contexts | Channels | AnyKeys
	return []*Peer{
		{"lets who leaves cancel", has, group(func(b *broken) { b.cancels = true }), nil},
		{"garbles errors", has, group(func(b *broken) { b.garbles = true }), nil},
		{"keeps everything", has, group(func(b *broken) { b.keeps = true }), nil},
		{"uses records again at once", has, group(func(b *broken) { b.pools = true }), nil},
		{"runs every call alone", has, group(func(b *broken) { b.alone = true }), nil},
		{"runs fn under its lock", has, group(func(b *broken) { b.locks = true }), nil},
	}
}

func withoutContext(fn func() (any, error)) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return fn() }
}

func (b *broken) do(key any, fn func() (any, error)) (any, bool, error) {
	return b.doContext(context.Background(), key, withoutContext(fn))
}

func (b *broken) doChan(key any, fn func() (any, error)) func() (any, bool, error) {
	r := b.join(context.Background(), key, withoutContext(fn))
	return func() (any, bool, error) { return b.wait(context.Background(), key, r) }
}

func (b *broken) doContext(ctx context.Context, key any, fn func(context.Context) (any, error)) (any, bool, error) {
	if b.alone {
		v, err := fn(ctx)
		return v, false, err
	}
	return b.wait(ctx, key, b.join(ctx, key, fn))
}

func (b *broken) join(ctx context.Context, key any, fn func(context.Context) (any, error)) *running {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.m[key]
	if r != nil {
		r.shared = true
		return r
	}
	flight, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if r = b.free; r == nil {
		r = new(running)
	}
	b.free = nil
	*r = running{done: make(chan struct{}), cancel: cancel}
	b.m[key] = r
	go b.run(flight, key, r, fn)
	return r
}

func (b *broken) wait(ctx context.Context, key any, r *running) (any, bool, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		if now := b.m[key]; b.cancels && now != nil {
			now.cancel()
		}
		return nil, r.shared, ctx.Err()
	}
	if r.panic != nil {
		panic(r.panic)
	}
	return r.v, r.shared, r.err
}

func (b *broken) run(ctx context.Context, key any, r *running, fn func(context.Context) (any, error)) {
	defer close(r.done)
	defer func() {
		if r.panic = recover(); r.panic != nil && b.garbles {
			r.panic = fmt.Sprint(r.panic)
		}
		if r.err != nil && b.garbles {
			r.err = errors.New("garbled")
		}
		if !b.locks {
			b.mu.Lock()
		}
		defer b.mu.Unlock()
		if !b.keeps && b.m[key] == r {
			delete(b.m, key)
		}
		if b.pools {
			b.free = r
		}
	}()
	if b.locks {
		b.mu.Lock()
	}
	r.v, r.err = fn(ctx)
}

func (b *broken) forget(key any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, key)
}

// TestScenariosCanFail checks that no scenario passes for every group: if both peers
// pass, a broken one does not.
func TestScenariosCanFail(t *testing.T) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	dir := t.TempDir()
	for _, s := range All() {
		if len(s.Fails) > 0 {
			continue // TestOutcomes shows that it can
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var passes []string
			for _, p := range brokenPeers() {
				how, err := runPair(dir, &s, p, impatience)
				if err != nil {
					t.Error(err)
				}
				if how != "" {
					t.Logf("%s: who %s fails: %s", s.Name, p.Name, how)
					return
				}
				passes = append(passes, p.Name)
			}
			t.Errorf("%s: got passes for all groups, %q, want a failure", s.Name, passes)
		})
	}
	wg.Wait()
}
