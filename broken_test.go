package coalesce_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/history"
	"github.com/seed342dcb2d/coalesce/internal/storm"
)

// This file holds the negative controls of the storms: coalescers that break the
// contract on purpose, which the checker must refuse.

// A breakage is what is wrong with a brokenGroup.
type breakage uint8

const (
	intact         breakage = iota
	wakesFirst              // wakes followers before it unlinks the flight
	forgetsToCheck          // looks, unlocks, and registers without another look
	unlinksAny              // unlinks what its key has, be it its own or not
	staysJoinable           // the flight can be joined until all have their result
	claimsAlone             // tells followers that they do not share
	mixesKeys               // looks up by a hash only
)

// A brokenGroup is a coalescer with one lock, of which Do and Forget are meant
// to work.
type brokenGroup struct {
	*stormGroup // for the other methods, which are not used
	how         breakage

	mu      sync.Mutex
	flights map[int]*brokenFlight
}

type brokenFlight struct {
	done    chan struct{}
	callers int // guarded by mu
	joined  bool
	v       history.Token
	err     error
}

func (g *brokenGroup) Do(key int, fn func() (history.Token, error)) (history.Token, bool, error) {
	if g.how == mixesKeys {
		key &= 1
	}
	g.mu.Lock()
	if f := g.flights[key]; f != nil {
		f.joined = true
		f.callers++
		g.mu.Unlock()
		<-f.done
		g.leave(key, f)
		return f.v, g.how != claimsAlone, f.err
	}
	if g.how == forgetsToCheck {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	f := &brokenFlight{done: make(chan struct{}), callers: 1}
	g.flights[key] = f
	g.mu.Unlock()
	f.v, f.err = fn()
	if g.how == wakesFirst {
		close(f.done)
		runtime.Gosched()
	}
	g.mu.Lock()
	if g.how != staysJoinable && (g.flights[key] == f || g.how == unlinksAny) {
		delete(g.flights, key)
	}
	joined := f.joined
	g.mu.Unlock()
	if g.how != wakesFirst {
		close(f.done)
	}
	g.leave(key, f)
	return f.v, joined, f.err
}

// leave unlinks f when its last caller has its result.
func (g *brokenGroup) leave(key int, f *brokenFlight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.callers--
	if g.how == staysJoinable && f.callers == 0 && g.flights[key] == f {
		delete(g.flights, key)
	}
}

func (g *brokenGroup) Forget(key int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.flights[key] != nil
	delete(g.flights, key)
	return found
}

func (g *brokenGroup) ForgetUnshared(int) bool { return false }

// TestStorm_Broken checks that the storms find a coalescer that is broken, and
// accept the same one when it is not.
func TestStorm_Broken(t *testing.T) {
	tests := []struct {
		name   string
		how    breakage
		rule   int
		keys   int
		forget int
	}{
		{"intact", intact, 0, 1, 5},
		{"wakes followers before it unlinks", wakesFirst, 3, 1, 0},
		{"two leaders", forgetsToCheck, 4, 1, 0},
		{"unlinks a replacement", unlinksAny, 4, 1, 1},
		{"finished flights stay joinable", staysJoinable, 3, 1, 0},
		{"shared is false", claimsAlone, 7, 1, 0},
		{"mixes keys", mixesKeys, 1, 4, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var err error
			for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
				g := &brokenGroup{stormGroup: new(coalesce.Group[int, history.Token]), how: test.how, flights: map[int]*brokenFlight{}}
				s := storm.Storm{
					Clients: 8, Calls: scaled(t, 20), Keys: test.keys, Forget: test.forget,
					Forms: []storm.Form{storm.ByDo}, Calm: true, Seed: rand.Uint64(),
				}
				err = s.Start(g)().Check()
				if test.how == intact {
					break
				}
			}
			var v *history.Violation
			if test.rule == 0 && err != nil || test.rule != 0 && (!errors.As(err, &v) || v.Rule != test.rule) {
				t.Errorf("check() = %v, want rule %d", err, test.rule)
			}
		})
	}
}
