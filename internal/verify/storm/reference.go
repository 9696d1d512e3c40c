package storm

import (
	"context"
	"runtime"
	"sync"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file holds the reference: a coalescer that is simple enough to be trusted, and the
// same with one defect, which a checker must refuse.

// A Breakage is the defect of a Reference.
type Breakage uint8

// The breakages.
const (
	Intact        Breakage = iota
	WakesFirst             // wakes followers before it unlinks the flight
	LooksOnce              // looks, unlocks, and registers without another look
	UnlinksAny             // unlinks the flight of its key, even one that is not its own
	StaysJoinable          // a flight can be joined until all its callers have their results
	ClaimsAlone            // reports to followers that they do not share
	MixesKeys              // looks at the last bit of a key only
	ForgetsNone            // ForgetFunc counts flights that it should forget, and leaves them
	NeverEnds              // a flight that no caller has waited for leaves its context open
)

// A Reference is a coalescer with one mutex, one map, and a channel for each
// flight. It has Do, DoContext, Forget, ForgetUnshared and ForgetFunc; the other methods
// are those of a Group that is not used. All its flights are held: they go on when their
// callers have left.
type Reference struct {
	Subject
	how Breakage

	mu      sync.Mutex
	flights map[int]*refFlight // guarded by mu
	running int                // flights whose fn has not ended; guarded by mu
}

// A refFlight is a flight of a Reference. Its fields are guarded by the
// Reference's mu.
type refFlight struct {
	done     chan struct{}
	callers  int // the callers that have not got their result, and have not left
	joined   bool
	finished bool
	end      context.CancelFunc // ends fn's context, if it has one
	v        history.Token
	err      error
}

// NewReference returns a Reference that is broken in the given way.
func NewReference(how Breakage) *Reference {
	return &Reference{Subject: new(coalesce.Group[int, history.Token]), how: how, flights: map[int]*refFlight{}}
}

// Idle reports whether no fn runs, forgotten flights included.
func (g *Reference) Idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running == 0
}

// enter returns the flight of key, and whether the caller leads it.
func (g *Reference) enter(key int) (f *refFlight, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flights[key]; f != nil {
		f.joined = true
		f.callers++
		return f, false
	}
	if g.how == LooksOnce {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	f = &refFlight{done: make(chan struct{}), callers: 1}
	g.flights[key] = f
	g.running++
	return f, true
}

// lead runs fn and finishes f.
func (g *Reference) lead(key int, f *refFlight, fn func() (history.Token, error)) {
	v, err := fn()
	if g.how == WakesFirst {
		g.mu.Lock()
		f.v, f.err = v, err
		g.mu.Unlock()
		close(f.done)
		runtime.Gosched()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f.v, f.err, f.finished = v, err, true
	if f.callers == 0 && f.end != nil && g.how != NeverEnds {
		f.end() // no caller gets v
	}
	if g.how != StaysJoinable {
		g.unlink(key, f)
	}
	g.running--
	if g.how != WakesFirst {
		close(f.done)
	}
}

// wait returns the answer of a caller of f, which may leave when ctx ends.
func (g *Reference) wait(ctx context.Context, key int, f *refFlight, leads bool) (history.Token, bool, error) {
	var left error
	select {
	case <-f.done:
	case <-ctx.Done():
		left = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.callers--; f.callers == 0 && g.how == StaysJoinable {
		g.unlink(key, f)
	}
	if left != nil && !f.finished {
		return history.Token{}, false, left
	}
	return f.v, f.joined && (leads || g.how != ClaimsAlone), f.err
}

// unlink takes f out of the map. g.mu is held.
func (g *Reference) unlink(key int, f *refFlight) {
	if g.flights[key] == f || g.how == UnlinksAny {
		delete(g.flights, key)
	}
}

// bucket returns the key under which g files key.
func (g *Reference) bucket(key int) int {
	if g.how == MixesKeys {
		return key & 1
	}
	return key
}

// Do is like coalesce.Group.Do.
func (g *Reference) Do(key int, fn func() (history.Token, error)) (history.Token, bool, error) {
	key = g.bucket(key)
	f, leads := g.enter(key)
	if leads {
		g.lead(key, f, fn)
	}
	return g.wait(context.Background(), key, f, leads)
}

// DoContext is like coalesce.Group.DoContext with an fn that holds its flight.
func (g *Reference) DoContext(ctx context.Context, key int, fn func(context.Context) (history.Token, error)) (history.Token, bool, error) {
	if err := ctx.Err(); err != nil {
		return history.Token{}, false, err
	}
	key = g.bucket(key)
	f, leads := g.enter(key)
	if leads {
		fnCtx, end := context.WithCancel(context.WithoutCancel(ctx))
		f.end = end // only lead reads it
		go g.lead(key, f, func() (history.Token, error) { return fn(fnCtx) })
	}
	return g.wait(ctx, key, f, leads)
}

// Forget is like coalesce.Group.Forget.
func (g *Reference) Forget(key int) bool {
	key = g.bucket(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.flights[key] != nil
	delete(g.flights, key)
	return found
}

// ForgetUnshared is like coalesce.Group.ForgetUnshared.
func (g *Reference) ForgetUnshared(key int) bool {
	key = g.bucket(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.flights[key]; f != nil && f.joined {
		return false
	}
	delete(g.flights, key)
	return true
}

// ForgetFunc is like coalesce.Group.ForgetFunc, but match must not use g.
func (g *Reference) ForgetFunc(match func(int) bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for key := range g.flights {
		if !match(key) {
			continue
		}
		n++
		if g.how != ForgetsNone {
			delete(g.flights, key)
		}
	}
	return n
}
