package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the soak: storms on the same groups, one after the other, and the
// checks after each of them.

// A group is a group under soak.
type group = coalesce.Group[int, history.Token]

// A configuration is a group, configured, and the consequences for histories.
type configuration struct {
	name      string
	g         *group
	lingering bool // values answer calls that begin later
	lives     bool // outcomes do, each for a time of its own
	aging     bool // flights are taken over
	closing   bool // each storm has a group of its own, and a Shutdown in the middle
}

func configurations() []*configuration {
	start := func(context.Context, coalesce.Event[int]) context.Context { return nil }
	hook := func(context.Context, coalesce.Event[int]) {}
	return []*configuration{
		{name: "plain", g: &group{}},
		{name: "one shard", g: &group{Shards: 1, Hash: func(int) uint64 { return 0 }}},
		{name: "Clone", g: &group{Clone: func(v history.Token) history.Token { return v }}},
		{name: "MaxWaiters", g: &group{MaxWaiters: 2}},
		{name: "MaxAge", g: &group{MaxAge: 200 * time.Microsecond}, aging: true},
		{name: "Linger", g: &group{Linger: coalesce.Forever, LingerMax: 1000}, lingering: true},
		{name: "LingerFor", g: &group{LingerFor: storm.LingerFor, LingerMax: 10}, lives: true},
		{name: "Hooks", g: &group{Hooks: coalesce.Hooks[int]{
			Start: start, Join: hook, Receive: hook, Leave: hook, Finish: hook,
		}}},
		{name: "Shutdown", g: &group{}, closing: true},
	}
}

const (
	keys    = 16
	clients = 8
	calls   = 250 // of each client, in one storm

	// slack is how much the heap may have grown between the first quarter of the
	// rounds and the last, by their medians.
	slack = 1 << 20

	// settleTime is the time in which goroutines that are left must end.
	settleTime = 20 * time.Second
)

// A soak is one run of the command.
type soak struct {
	configurations []*configuration
	wrap           func(storm.Subject) storm.Subject // makes the target of a storm; nil: the group
	after          func()                            // called after each storm; may be nil
	out            io.Writer                         // progress
	every          time.Duration                     // the time between reports
	settle         time.Duration                     // the time in which goroutines that are left must end
	seed           uint64

	began      time.Time
	goroutines int       // before the first storm
	heaps      []uint64  // after each round
	reported   time.Time // the time of the last report

	storms, calls, joined, lingered, left, rejected, panics, goexits uint64
}

// run soaks until ctx ends, eight rounds at least, and returns the first violation.
func (s *soak) run(ctx context.Context) error {
	s.began, s.goroutines = time.Now(), runtime.NumGoroutine()
	s.reported = s.began
	for len(s.heaps) < 8 || ctx.Err() == nil {
		for _, c := range s.configurations {
			if err := s.storm(c); err != nil {
				return fmt.Errorf("storm %d, on %q, seed %d: %w", s.storms, c.name, s.seed, err)
			}
			if now := time.Now(); now.Sub(s.reported) >= s.every {
				s.reported = now
				s.report()
			}
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return s.flat()
			}
		}
		s.heaps = append(s.heaps, heap())
	}
	return s.flat()
}

// errInterrupted is the cause of the context's end if the user wants it to.
var errInterrupted = errors.New("interrupted")

// storm runs a storm on one group, and checks its remains.
func (s *soak) storm(c *configuration) error {
	if c.closing {
		c.g = &group{}
	}
	c.g.ForgetFunc(func(int) bool { return true }) // lingering outcomes belong to another history
	before := c.g.Stats()
	load := storm.Storm{
		Clients: clients, Calls: calls, Keys: []int{1, 4, keys}[s.storms%3],
		Cancel: 20 * int(s.storms%2), Forget: int(s.storms % 5), Seed: s.seed + s.storms,
		UntilClosed: c.closing, Lives: c.lives,
	}
	s.storms++
	var subject storm.Subject = c.g
	if s.wrap != nil {
		subject = s.wrap(subject)
	}
	wait, closing := load.Start(subject), history.Never
	if c.closing {
		var err error
		if closing, err = shutdown(c.g, load.Seed); err != nil {
			return err
		}
	}
	h := wait()
	h.Lingering, h.Aging, h.Closing = c.lingering, c.aging, closing

	// An fn whose callers have all left may still run.
	if !s.eventually(func() bool { return c.g.Len() == 0 && none(c.g.Flights()) }) {
		return fmt.Errorf("%d keys in flight at rest", c.g.Len())
	}
	if !s.eventually(func() bool { return runtime.NumGoroutine() <= s.goroutines }) {
		buf := make([]byte, 1<<16)
		return fmt.Errorf("%d goroutines at rest, %d at first:\n%s", runtime.NumGoroutine(), s.goroutines, buf[:runtime.Stack(buf, true)])
	}
	if err := storm.AtRest(c.g); err != nil {
		return err
	}
	if err := h.Check(); err != nil {
		return err
	}
	st := c.g.Stats()
	s.calls += st.Calls - before.Calls
	s.joined += st.Joined - before.Joined
	s.lingered += st.Lingered - before.Lingered
	s.left += st.Left - before.Left
	s.rejected += st.Rejected - before.Rejected
	s.panics += st.Panics - before.Panics
	s.goexits += st.Goexits - before.Goexits
	if s.after != nil {
		s.after()
	}
	return nil
}

// shutdown shuts g down in the middle of a storm, sometimes with too little time at
// first, and returns when that began.
func shutdown(g *group, seed uint64) (closing history.Stamp, err error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Millisecond))))
	closing = history.Now()
	if rng.IntN(2) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Microsecond)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil && err != context.DeadlineExceeded {
			return 0, fmt.Errorf("the Shutdown that runs out of time: %w", err)
		}
	}
	if err := g.Shutdown(context.Background()); err != nil {
		return 0, fmt.Errorf("the last Shutdown: %w", err)
	}
	if g.Len() != 0 || !none(g.Flights()) {
		return 0, fmt.Errorf("%d keys in flight after Shutdown", g.Len())
	}
	return closing, nil
}

// flat compares the heap of the first rounds with that of the last ones.
func (s *soak) flat() error {
	quarter := len(s.heaps) / 4
	if quarter == 0 {
		return nil
	}
	first, last := median(s.heaps[1:1+quarter]), median(s.heaps[len(s.heaps)-quarter:]) // the first one warms up
	if last > first+slack {
		return fmt.Errorf("the heap at rest grew from %d to %d KiB in %d rounds", first>>10, last>>10, len(s.heaps))
	}
	return nil
}

func median(heaps []uint64) uint64 {
	heaps = slices.Sorted(slices.Values(heaps))
	return heaps[len(heaps)/2]
}

// report prints the progress.
func (s *soak) report() {
	fmt.Fprintf(s.out, "%8s  %d storms, %d calls: %d joined, %d lingered, %d left, %d rejected, %d panics, %d exits; heap %d KiB, %d goroutines\n",
		time.Since(s.began).Round(time.Second), s.storms, s.calls, s.joined, s.lingered, s.left, s.rejected, s.panics, s.goexits,
		heap()>>10, runtime.NumGoroutine())
}

// heap returns the bytes of the objects that are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // frees the memory of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func none(flights iter.Seq[coalesce.Flight[int]]) bool {
	for range flights {
		return false
	}
	return true
}

func (s *soak) eventually(cond func() bool) bool {
	for deadline := time.Now().Add(s.settle); !cond(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true
}
