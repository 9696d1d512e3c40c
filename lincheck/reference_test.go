package lincheck

import (
	"context"
	"runtime"
	"sync"

	"github.com/seed342dcb2d/coalesce/internal/history"
	"github.com/seed342dcb2d/coalesce/internal/storm"
)

// This file holds the reference: a coalescer that is simple enough to be trusted,
// and the same with one thing broken.

// A breakage is what is wrong with a reference.
type breakage uint8

const (
	intact      breakage = iota
	wakesFirst           // wakes followers before it unlinks the flight
	looksOnce            // looks, unlocks, and registers without another look
	unlinksAny           // unlinks what its key has, be it its own or not
	claimsAlone          // tells followers that they do not share
)

// A reference is a coalescer with one mutex, one map, and a channel for each
// flight. It has Do, DoContext, Forget and ForgetUnshared; the other methods are
// those of a Group that is not used.
type reference struct {
	storm.Subject
	how breakage

	mu      sync.Mutex
	flights map[int]*refFlight
	running int // flights whose fn has not ended
}

type refFlight struct {
	done   chan struct{}
	joined bool // guarded by mu
	v      history.Token
	err    error
}

func newReference(how breakage) *reference {
	return &reference{Subject: new(group), how: how, flights: map[int]*refFlight{}}
}

func (g *reference) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running == 0
}

// enter returns the flight of key, and whether the caller leads it.
func (g *reference) enter(key int) (f *refFlight, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flights[key]; f != nil {
		f.joined = true
		return f, false
	}
	if g.how == looksOnce {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	f = &refFlight{done: make(chan struct{})}
	g.flights[key] = f
	g.running++
	return f, true
}

// lead runs fn and finishes f.
func (g *reference) lead(key int, f *refFlight, fn func() (history.Token, error)) {
	v, err := fn()
	if g.how == wakesFirst {
		f.v, f.err = v, err
		close(f.done)
		runtime.Gosched()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f.v, f.err = v, err
	if g.flights[key] == f || g.how == unlinksAny {
		delete(g.flights, key)
	}
	g.running--
	if g.how != wakesFirst {
		close(f.done)
	}
}

// wait returns what a caller of f is told, which may leave when ctx ends.
func (g *reference) wait(ctx context.Context, f *refFlight, leads bool) (history.Token, bool, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return history.Token{}, false, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return f.v, f.joined && (leads || g.how != claimsAlone), f.err
}

func (g *reference) Do(key int, fn func() (history.Token, error)) (history.Token, bool, error) {
	f, leads := g.enter(key)
	if leads {
		g.lead(key, f, fn)
	}
	return g.wait(context.Background(), f, leads)
}

func (g *reference) DoContext(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error) {
	if err := ctx.Err(); err != nil {
		return history.Token{}, false, err
	}
	f, leads := g.enter(key)
	if leads {
		go g.lead(key, f, func() (history.Token, error) { return fn(context.WithoutCancel(ctx)) })
	}
	return g.wait(ctx, f, leads)
}

func (g *reference) Forget(key int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.flights[key] != nil
	delete(g.flights, key)
	return found
}

func (g *reference) ForgetUnshared(key int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flights[key]
	if f != nil && f.joined {
		return false
	}
	delete(g.flights, key)
	return true
}
