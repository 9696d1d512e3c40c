package fleet

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds simulations: a fleet of three to five processes, calls at random times,
// and what goes wrong with them and with the engine. sim_check_test.go says what must hold.

var (
	seeds    = flag.Int("seeds", 300, "how many simulations TestSimulation runs")
	fromSeed = flag.Uint64("seed", 1, "the first seed of TestSimulation")
	tally    = flag.Bool("tally", false, "print of each seed of TestSimulation which invariants do not hold, and go on")
)

// An execution is one of fn.
type execution struct {
	key        string
	process    int
	token      uint64 // 0 if it was local
	begin, end time.Duration
	value      string // "" unless it returned one
	cause      error  // with which its context has ended
}

// A simCall is one call.
type simCall struct {
	key        string
	process    int
	fresh      bool
	begin, end time.Duration
	leaves     time.Duration // after which it leaves; 0 for never
	v          string
	info       Info
	err        error
	panicked   any
	exited     bool
	shutDownAt time.Duration // of its process; 0 for never
}

// A span is a time.
type span struct {
	from, to time.Duration
	done     bool // without an error
}

// A sim is one simulation.
type sim struct {
	*world
	seed      uint64
	procs     []*process
	groups    []*Group[string, string]
	calls     []*simCall
	forgotten map[string][]*span
	linger    time.Duration
	maxAge    time.Duration
	cancels   bool // CancelAbandoned

	exec sync.Mutex
	runs []*execution
}

// newPlan draws a plan. A third of the simulations have no faults.
func newPlan(r *rand.Rand, processes int) *plan {
	p := &plan{lease: time.Second, grace: time.Second, latency: 2 * time.Millisecond, free: r.IntN(2) == 0}
	if r.IntN(3) == 0 {
		return p
	}
	rate := func(most float64) float64 {
		if r.IntN(3) > 0 {
			return 0
		}
		return most * r.Float64()
	}
	p.refused, p.lostRequest, p.failedAfter, p.lostAnswer = rate(0.2), rate(0.1), rate(0.2), rate(0.1)
	p.lateSwap, p.staleRead = rate(0.1), rate(0.5)
	p.lostPush, p.doublePush, p.latePush, p.hint, p.spreading = rate(0.5), rate(0.5), rate(0.3), rate(0.5), rate(1)
	p.unnamed = rate(0.5)
	if r.IntN(4) == 0 {
		p.foreign = 0.3
	}
	if r.IntN(5) == 0 {
		p.dataLoss = append(p.dataLoss, time.Duration(r.Int64N(int64(10*time.Second))))
	}
	if r.IntN(2) == 0 {
		p.clockSpread = 0.04
	}
	p.standsStill = r.IntN(2) == 0
	for range r.IntN(4) {
		from := time.Duration(r.Int64N(int64(10 * time.Second)))
		t := trouble{r.IntN(processes), troubleKind(r.IntN(4)), from, from + time.Duration(r.Int64N(int64(4*time.Second)))}
		if t.kind == dead {
			t.to = time.Hour
		}
		same := func(o trouble) bool { return o.process == t.process && o.from < t.to && t.from < o.to }
		if !slices.ContainsFunc(p.trouble, same) {
			p.trouble = append(p.trouble, t)
		}
	}
	return p
}

// simulate runs one simulation and returns what does not hold.
func simulate(seed uint64) (s *sim, broken []string) {
	r := rand.New(rand.NewPCG(seed, 1))
	n := 3 + r.IntN(3)
	s = &sim{seed: seed, world: newWorld(newPlan(r, n)), forgotten: map[string][]*span{}}
	s.maxAge = 5 * time.Minute
	if r.IntN(4) == 0 {
		s.maxAge = 2500 * time.Millisecond
	}
	if r.IntN(3) == 0 {
		s.linger = 500 * time.Millisecond
	}
	s.cancels = r.IntN(4) == 0
	keys := []string{"x", "y", "z"}[:1+r.IntN(3)]
	var wg sync.WaitGroup
	at := func(d time.Duration, f func()) {
		wg.Go(func() {
			time.Sleep(d)
			f()
		})
	}
	shutDown := make([]time.Duration, n)
	for i := range n {
		p := &process{world: s.world, index: i, rate: 1 + s.plan.clockSpread*(2*r.Float64()-1)}
		p.draw.Rand = rand.New(rand.NewPCG(seed, uint64(i+2)))
		s.procs = append(s.procs, p)
		g := &group{
			Engine: p, Name: "s", Process: fmt.Sprint(i), Lease: s.plan.lease, Grace: s.plan.grace, MaxAge: s.maxAge,
			Linger: s.linger, Strict: r.IntN(4) == 0, CancelAbandoned: s.cancels, clock: localClock{p},
		}
		s.groups = append(s.groups, g)
		if r.IntN(8) == 0 {
			shutDown[i] = time.Duration(r.Int64N(int64(10 * time.Second)))
			patience := time.Duration(r.Int64N(int64(time.Second)))
			at(shutDown[i], func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_ = g.Shutdown(ctx)
			})
		}
	}
	for _, t := range s.plan.trouble {
		if t.kind == cutOff || t.kind == cutAnswer {
			at(t.to, s.procs[t.process].reconnect)
		}
	}
	for _, d := range s.plan.dataLoss {
		at(d, s.lose)
	}
	if s.plan.foreign > 0 {
		for range int(10 * s.plan.foreign) {
			key := s.groups[0].RecordName(keys[r.IntN(len(keys))])
			at(time.Duration(r.Int64N(int64(10*time.Second))), func() { s.intrude(key) })
		}
	}
	for range r.IntN(3) {
		d, i, key := time.Duration(r.Int64N(int64(10*time.Second))), r.IntN(n), keys[r.IntN(len(keys))]
		if r.IntN(3) > 0 {
			continue
		}
		forgotten := &span{from: d, to: time.Hour}
		s.forgotten[key] = append(s.forgotten[key], forgotten)
		at(d, func() {
			_, err := s.groups[i].Forget(context.Background(), key)
			forgotten.to, forgotten.done = s.now(), err == nil
		})
	}
	for range 5 + r.IntN(40) {
		c := &simCall{key: keys[r.IntN(len(keys))], process: r.IntN(n), fresh: r.IntN(5) == 0}
		if r.IntN(6) == 0 {
			c.leaves = time.Duration(r.Int64N(int64(2 * time.Second)))
		}
		c.shutDownAt = shutDown[c.process]
		s.calls = append(s.calls, c)
		took := time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
		if r.IntN(10) == 0 {
			took = time.Duration(r.Int64N(int64(4 * time.Second)))
		}
		how := r.IntN(20)
		obeys := r.IntN(2) == 0
		at(time.Duration(r.Int64N(int64(10*time.Second))), func() { s.call(c, took, how, obeys) })
	}
	wg.Wait()
	for _, g := range s.groups {
		_ = g.Shutdown(context.Background())
	}
	time.Sleep(10 * time.Second) // late swaps and pushes, probes
	return s, s.check()
}

// intrude writes a record that no process understands.
func (s *sim) intrude(key string) {
	for {
		s.mu.Lock()
		rev := s.get(key).Rev
		s.mu.Unlock()
		if _, c := s.swap(-1, key, rev, []byte("\x09unknown"), 5*time.Second); c == nil {
			return
		}
	}
}

// call makes one call, whose fn takes so long and ends in the given way.
func (s *sim) call(c *simCall, took time.Duration, how int, obeys bool) {
	p := s.procs[c.process]
	p.thaw()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.leaves > 0 {
		time.AfterFunc(c.leaves, cancel)
	}
	c.begin = s.now()
	fn := func(ctx context.Context) (string, error) { return s.run(ctx, c, took, how, obeys) }
	over := make(chan struct{})
	go func() { // it may exit
		defer close(over)
		c.exited = true
		defer func() { c.panicked = recover() }()
		if c.fresh {
			var shared bool
			c.v, shared, c.err = s.groups[c.process].DoFresh(ctx, c.key, fn)
			_ = shared
		} else {
			c.v, c.info, c.err = s.groups[c.process].DoInfo(ctx, c.key, fn)
		}
		c.exited = false
	}()
	<-over
	c.end = s.now()
}

// run is fn.
func (s *sim) run(ctx context.Context, c *simCall, took time.Duration, how int, obeys bool) (string, error) {
	p := s.procs[c.process]
	e := &execution{key: c.key, process: c.process, begin: s.now()}
	e.token, _ = Token(ctx)
	s.exec.Lock()
	s.runs = append(s.runs, e)
	value := fmt.Sprintf("%s/%d", c.key, len(s.runs))
	s.exec.Unlock()
	var done <-chan struct{}
	if obeys {
		done = ctx.Done()
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-done:
		err = context.Cause(ctx)
	}
	p.thaw()
	e.end, e.cause = s.now(), context.Cause(ctx)
	switch {
	case err != nil:
		return "", err
	case how == 0:
		return "", errors.New("fn has failed")
	case how == 1:
		panic("fn has panicked")
	case how == 2:
		runtime.Goexit()
	}
	e.value = value
	return value, nil
}

// TestSimulation runs simulations and checks what must hold in each.
func TestSimulation(t *testing.T) {
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // panics that no call gets
	defer slog.SetDefault(log)
	failed := 0
	var total Stats
	for i := range *seeds {
		seed := *fromSeed + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			s, broken := simulate(seed)
			if *tally {
				names := map[string]bool{}
				for _, b := range broken {
					name, _, _ := strings.Cut(b, ":")
					names[name] = true
				}
				fmt.Printf("tally %d %s\n", seed, strings.Join(slices.Sorted(maps.Keys(names)), " "))
				return
			}
			if len(broken) > 0 {
				failed++
				t.Errorf("seed %d:", seed)
				for _, b := range broken {
					t.Errorf("\t%s", b)
				}
				t.Logf("%+v", *s.plan)
				if testing.Verbose() {
					t.Log(s.history())
				}
			}
			for _, g := range s.groups {
				st := g.Stats()
				total.Led += st.Led
				total.Followed += st.Followed
				total.Adopted += st.Adopted
				total.Local += st.Local
				total.Takeovers += st.Takeovers
				total.LocalOutage += st.LocalOutage
				total.LocalMissed += st.LocalMissed
				total.LocalUnread += st.LocalUnread
				total.Stale += st.Stale
				total.Unpublished += st.Unpublished
				total.Lost += st.Lost
			}
		})
		if failed > 5 {
			break
		}
	}
	t.Logf("%+v", total)
}

// history returns all writes, executions and calls, for a person.
func (s *sim) history() string {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	add := func(at time.Duration, format string, args ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, args...)})
	}
	names := map[string]string{}
	for _, key := range []string{"x", "y", "z"} {
		names[s.groups[0].RecordName(key)] = key
	}
	for _, w := range s.writes {
		add(w.at, "%s: process %d writes %d: kind %d token %d attempt %d", names[w.key], w.process, w.rev, w.rec.kind, w.rec.token, w.rec.attempt)
	}
	for _, e := range s.runs {
		add(e.begin, "%s: process %d executes, token %d", e.key, e.process, e.token)
		add(e.end, "%s: process %d, token %d: fn ends with %q", e.key, e.process, e.token, e.value)
	}
	for i, c := range s.calls {
		add(c.begin, "%s: call %d of process %d begins, fresh %t", c.key, i, c.process, c.fresh)
		add(c.end, "%s: call %d of process %d gets %q, %v, %+v", c.key, i, c.process, c.v, c.err, c.info)
	}
	for _, t := range s.plan.trouble {
		add(t.from, "process %d: %v until %v", t.process, t.kind, t.to)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%12v %s\n", l.at, l.text)
	}
	return b.String()
}
