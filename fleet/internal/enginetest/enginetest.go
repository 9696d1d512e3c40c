// Package enginetest checks a Group on a real engine: what the engine's part in it is, and the
// engine's own suite, fleettest, does not show.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
)

// An opener opens an engine, as that of another process.
type opener = func(t testing.TB) fleet.Engine

// Group runs all checks.
func Group(t *testing.T, open opener, o fleettest.Options) {
	t.Run("Check", func(t *testing.T) { check(t, open) })
	t.Run("OneForAll", func(t *testing.T) { oneForAll(t, open) })
	t.Run("Reconnects", func(t *testing.T) { reconnects(t, open, o) })
	t.Run("Lost", func(t *testing.T) { lost(t, open, o) })
	t.Run("ManyLeads", func(t *testing.T) { manyLeads(t, open) })
}

func group(e fleet.Engine, process string, lease time.Duration) *fleet.Group[int, string] {
	return &fleet.Group[int, string]{Engine: e, Name: "enginetest", Process: process, Lease: lease, Grace: 10 * time.Second}
}

func check(t *testing.T, open opener) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := group(open(t), "a", 0).Check(ctx); err != nil {
		t.Errorf("Check: got %v, want no error", err)
	}
}

// oneForAll: the calls of three processes share one execution.
func oneForAll(t *testing.T, open opener) {
	var executions atomic.Int32
	share(t, open, 3, 300*time.Millisecond, &executions, nil)
	if n := executions.Load(); n != 1 {
		t.Errorf("got %d executions, want 1", n)
	}
}

// share makes n processes call at once, and does meanwhile while fn runs.
func share(t *testing.T, open opener, n int, d time.Duration, executions *atomic.Int32, meanwhile func(engines []fleet.Engine)) {
	t.Helper()
	var wg sync.WaitGroup
	var engines []fleet.Engine
	started := make(chan struct{}, n)
	for i := range n {
		e := open(t)
		engines = append(engines, e)
		g := group(e, fmt.Sprint("p", i), time.Second)
		wg.Go(func() {
			v, info, err := g.DoInfo(t.Context(), 1, func(context.Context) (string, error) {
				executions.Add(1)
				started <- struct{}{}
				time.Sleep(d)
				return "v", nil
			})
			if v != "v" || err != nil || info.Stale || info.Unpublished {
				t.Errorf("process %d: got %q, %v, %+v, want v", i, v, err, info)
			}
		})
	}
	<-started
	if meanwhile != nil {
		meanwhile(engines)
	}
	wg.Wait()
}

// reconnects: renewing and waiting go on over connections that break again and again, as no
// state is in a session.
func reconnects(t *testing.T, open opener, o fleettest.Options) {
	var executions atomic.Int32
	share(t, open, 2, 1800*time.Millisecond, &executions, func(engines []fleet.Engine) {
		for range 6 {
			for _, e := range engines {
				o.Disconnect(t, e)
			}
			time.Sleep(250 * time.Millisecond)
		}
	})
	if n := executions.Load(); n != 1 {
		t.Errorf("connections that break while fn runs: got %d executions, want 1", n)
	}
}

// lost: after the store has lost its records and its connections, each process can lead, and
// each can follow.
func lost(t *testing.T, open opener, o fleettest.Options) {
	var groups []*fleet.Group[int, string]
	for i := range 3 {
		groups = append(groups, group(open(t), fmt.Sprint("p", i), time.Second))
	}
	value := func(context.Context) (string, error) { return "v", nil }
	for i, g := range groups {
		if _, _, err := g.DoContext(t.Context(), i, value); err != nil {
			t.Fatal(err)
		}
	}
	o.Lose(t)
	o.Disconnect(t, groups[0].Engine)
	for i, leader := range groups {
		for _, follower := range groups {
			if follower == leader {
				continue
			}
			begun, end := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				_, info, err := leader.DoInfo(t.Context(), i, func(context.Context) (string, error) {
					close(begun)
					<-end
					return "v", nil
				})
				if err != nil || info.Role != fleet.Led {
					t.Errorf("process %d after a loss: got %v, %v, want %v", i, info.Role, err, fleet.Led)
				}
			})
			<-begun
			wg.Go(func() {
				_, info, err := follower.DoInfo(t.Context(), i, func(context.Context) (string, error) {
					return "", errors.New("it leads, too")
				})
				if err != nil || info.Role != fleet.Followed {
					t.Errorf("beside process %d after a loss: got %v, %v, want %v", i, info.Role, err, fleet.Followed)
				}
			})
			for begin := time.Now(); !follows(follower) && time.Since(begin) < 5*time.Second; {
				time.Sleep(time.Millisecond)
			}
			close(end)
			wg.Wait()
		}
	}
}

// follows reports whether a run of g waits for another process.
func follows(g *fleet.Group[int, string]) bool {
	for f := range g.Flights() {
		if f.State == fleet.Following {
			return true
		}
	}
	return false
}

// manyLeads: 1,000 leads of a process are renewed in time though its processors are busy.
func manyLeads(t *testing.T, open opener) {
	const leads = 1000
	stop := keepBusy()
	defer stop()
	g := group(open(t), "a", 3*time.Second)
	var (
		wg  sync.WaitGroup
		bad atomic.Int32
	)
	for k := range leads {
		wg.Go(func() {
			_, info, err := g.DoInfo(t.Context(), k, func(context.Context) (string, error) {
				time.Sleep(3200 * time.Millisecond) // longer than a lease
				return "v", nil
			})
			if (err != nil || info.Role != fleet.Led || info.Stale || info.Unpublished) && bad.Add(1) <= 5 {
				t.Errorf("lead %d: got %v, %+v, want that it leads to the end", k, err, info)
			}
		})
	}
	wg.Wait()
	s := g.Stats()
	t.Logf("%d renewals, %d errors of the engine", s.Renewals, s.EngineErrors)
	if s.Renewals < 2*leads || s.Lost > 0 || bad.Load() > 0 {
		t.Errorf("%d leads: got %d renewals, %d lost, %d that did not lead to the end, want %d at least and none",
			leads, s.Renewals, s.Lost, bad.Load(), 2*leads)
	}
}

// keepBusy keeps all processors busy, in slices of a millisecond, until stop is called.
func keepBusy() (stop func()) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				for begin := time.Now(); time.Since(begin) < time.Millisecond; {
				}
				runtime.Gosched()
			}
		})
	}
	return func() {
		close(over)
		wg.Wait()
	}
}
