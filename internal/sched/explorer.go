//go:build coalesceexplore

package sched

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
)

// This file holds the explorer: threads, of which one runs at a time, and the
// strategies that decide which.

// An Explorer runs a program again and again, each time in another order. The
// program must do the same whenever it is run in the same order.
type Explorer struct {
	// Preemptions bounds how often in a run a thread is kept from going on that
	// could: with all choices that are left, every order is tried, once each.
	Preemptions int

	// Delays, if it is not 0, bounds something else instead: by how many places in
	// all, the order of the threads taken as a ring, what goes on is away from the
	// thread that was running. The number of runs then grows with the points only,
	// however many threads there are (Emmi, Qadeer and Rakamarić, Delay-bounded
	// Scheduling, 2011).
	Delays int

	// Releases makes a point after each release of a lock, too, for programs that may
	// do outside of a lock what belongs into it.
	Releases bool

	// Limit ends the exploration after so many runs. 0 means that there is none.
	Limit int

	// Random, if it is not 0, is how many runs are made instead in which each
	// thread has a random priority, and Changes times in a run the one that is
	// running falls behind all others (the algorithm is PCT: Burckhardt et al.,
	// A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, 2010).
	Random, Changes int
	Seed            uint64
}

// A Report says what an exploration has come to.
type Report struct {
	Runs, Points int
	Complete     bool // everything within the bounds was tried

	// Err is what went wrong in the last run: what the program returned, a panic,
	// or that everybody waits. Decisions repeats that run, and Trace says, for
	// each point of it, which thread came there and where that is.
	Err       error
	Decisions []int
	Trace     string
}

// Explore runs program until it fails or the bounds are reached. It is called on
// the first thread; the others are those that it starts with [Go].
func (x Explorer) Explore(program func() error) Report {
	var rep Report
	d := &depthFirst{bound: x.Preemptions, delays: x.Delays}
	p := &priorities{rng: rand.New(rand.NewPCG(x.Seed, 1)), changes: x.Changes, length: 50}
	for {
		var by strategy = d
		if x.Random > 0 {
			p.begin()
			by = p
		}
		r := x.execute(by, program, false)
		rep.Runs++
		rep.Points += r.points
		if r.err != nil {
			for _, c := range r.decisions {
				rep.Decisions = append(rep.Decisions, c.picked)
			}
			rep.Trace, rep.Err = x.Replay(rep.Decisions, program)
			if rep.Err == nil {
				rep.Err = fmt.Errorf("%w (and not when repeated: the program is not deterministic)", r.err)
			}
			return rep
		}
		switch {
		case x.Random > 0:
			if rep.Runs == x.Random {
				return rep
			}
			p.length = max(p.length, r.points)
		case !d.next(r):
			rep.Complete = true
			return rep
		case rep.Runs == x.Limit:
			return rep
		}
	}
}

// Replay repeats a run of an Explorer that has the same Releases, and returns its
// trace, and how it ended.
func (x Explorer) Replay(decisions []int, program func() error) (trace string, err error) {
	r := x.execute(&replay{decisions: decisions}, program, true)
	return r.log.String(), r.err
}

// current is the run that is being explored. It changes only where no thread is
// running but the one that changes it.
var current *run

func point(what string) {
	if r := current; r != nil {
		r.point(what, nil)
	}
}

// A thread is a goroutine that runs when it is resumed.
type thread struct {
	id      int
	resume  chan struct{}
	ready   func() bool // whether it could; nil: always
	what    string      // what it is about to do
	daemon  bool        // the run does not wait for it
	watches bool        // it is that of an AfterFunc
	begun   bool
	done    bool
}

// A decision is which of several threads went on, or which number was chosen.
type decision struct{ picked, of int }

// A run is one execution of a program. All of it belongs to the thread that is
// running.
type run struct {
	by          strategy
	releases    bool
	threads     []*thread
	cur         *thread
	decisions   []decision
	preemptions int
	delays      int
	points      int
	clock, now  int64
	err         error
	over        bool
	ended       chan struct{} // closed when it is over

	verbose bool
	log     strings.Builder
}

// maxPoints bounds a run, as one that never ends would otherwise not be told.
const maxPoints = 100_000

// execute makes one run.
func (x Explorer) execute(by strategy, program func() error, verbose bool) *run {
	r := &run{by: by, releases: x.Releases, clock: 1, ended: make(chan struct{}), verbose: verbose}
	first := r.spawn(func() {
		if err := program(); err != nil {
			r.fail(err)
		}
	}, nil, false)
	current, r.cur = r, first
	first.resume <- struct{}{}
	<-r.ended
	current = nil
	if r.err == nil {
		for _, t := range r.threads {
			if !t.begun {
				t.resume <- struct{}{} // it sees that it is over
			}
		}
	}
	return r // after a failure, threads stay where they are for ever
}

// spawn makes a thread that is enabled if ready says so.
func (r *run) spawn(fn func(), ready func() bool, daemon bool) *thread {
	t := &thread{id: len(r.threads), resume: make(chan struct{}), ready: ready, what: "begin", daemon: daemon}
	r.threads = append(r.threads, t)
	go func() {
		<-t.resume
		t.begun = true
		if r.over {
			return
		}
		defer r.exit(t)
		fn()
	}()
	return t
}

// exit is what a thread does last, however it ends.
func (r *run) exit(t *thread) {
	if p := recover(); p != nil {
		buf := make([]byte, 16<<10)
		r.fail(fmt.Errorf("thread %d panicked: %v\n%s", t.id, p, buf[:runtime.Stack(buf, false)]))
	}
	t.done = true
	if t.id == 0 {
		r.end()
	}
	if !r.over {
		r.next(t, true)
	}
}

func (r *run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.end()
}

func (r *run) end() {
	if !r.over {
		r.over = true
		close(r.ended)
	}
}

// point is where the running thread lets the strategy decide, and goes on when
// ready says that it can.
func (r *run) point(what string, ready func() bool) { r.pause(what, ready, false) }

// pause is point for a thread that may give way by itself.
func (r *run) pause(what string, ready func() bool, yields bool) {
	t := r.cur
	t.what, t.ready = what, ready
	if r.points++; r.points == maxPoints {
		r.fail(fmt.Errorf("%d points, and no end", maxPoints))
	}
	if r.verbose {
		fmt.Fprintf(&r.log, "%3d  %-17s %s\n", t.id, what, caller())
	}
	if !r.over && r.next(t, yields) != t {
		<-t.resume
	}
	if r.over {
		select {} // nothing may happen any more
	}
	t.ready = nil
}

// next lets a thread go on, t if that can and the strategy wants it, and returns
// it, or nil if there is none.
func (r *run) next(t *thread, yields bool) *thread {
	var buf [16]*thread
	enabled := buf[:0]
	can := !t.done && (t.ready == nil || t.ready())
	if can {
		enabled = append(enabled, t)
	}
	for i := range r.threads {
		o := r.threads[(t.id+1+i)%len(r.threads)]
		if o != t && !o.done && (o.ready == nil || o.ready()) {
			enabled = append(enabled, o)
		}
	}
	i := 0
	switch len(enabled) {
	case 0:
		r.fail(r.deadlock())
		return nil
	case 1:
	default:
		i = r.by.pick(r, enabled, !can || yields)
	}
	n := enabled[i]
	if can && n != t && !yields {
		r.preemptions++
	}
	if n != t {
		r.cur = n
		n.resume <- struct{}{}
	}
	return n
}

// deadlock says who waits for what.
func (r *run) deadlock() error {
	var waits []string
	for _, t := range r.threads {
		if !t.done && !t.daemon {
			waits = append(waits, fmt.Sprintf("thread %d: %s", t.id, t.what))
		}
	}
	return fmt.Errorf("deadlock; %s", strings.Join(waits, ", "))
}

// decide notes a decision.
func (r *run) decide(picked, of int) int {
	r.decisions = append(r.decisions, decision{picked, of})
	return picked
}

// A strategy decides. What it decides it notes by decide.
type strategy interface {
	// pick returns the index of the thread that goes on. If free is not set, the
	// first is running, and to pick another preempts it.
	pick(r *run, enabled []*thread, free bool) int

	// choose returns a number below n.
	choose(r *run, n int) int
}

// depthFirst tries everything, a run after the other.
type depthFirst struct {
	bound  int
	delays int
	prefix []decision // of the run to come
}

func (d *depthFirst) pick(r *run, enabled []*thread, free bool) int {
	if d.delays > 0 {
		i := d.choose(r, min(len(enabled), 1+d.delays-r.delays))
		r.delays += i
		return i
	}
	if !free && r.preemptions >= d.bound {
		return r.decide(0, 1)
	}
	return d.choose(r, len(enabled))
}

func (d *depthFirst) choose(r *run, n int) int {
	i := len(r.decisions)
	if i >= len(d.prefix) {
		return r.decide(0, n)
	}
	if d.prefix[i].of != n {
		r.fail(fmt.Errorf("decision %d was one of %d, and is now one of %d: the program is not deterministic", i, d.prefix[i].of, n))
		return 0
	}
	return r.decide(d.prefix[i].picked, n)
}

// next prepares the run after r, and reports whether there is one.
func (d *depthFirst) next(r *run) bool {
	d.prefix = append(d.prefix[:0], r.decisions...)
	for i := len(d.prefix) - 1; i >= 0; i-- {
		if d.prefix[i].picked+1 < d.prefix[i].of {
			d.prefix[i].picked++
			d.prefix = d.prefix[:i+1]
			return true
		}
	}
	return false
}

// priorities lets the thread go on that has the highest.
type priorities struct {
	rng     *rand.Rand
	changes int
	length  int // of a run, in points, as far as is known

	of     []int // by thread
	at     map[int]bool
	lowest int
	timers int // that have been set
}

// prompt is how many timers of a run may fire before others go on. Those that come
// later are behind all others: who sets one again and again until somebody else
// has done something would otherwise keep that from being done for ever.
const prompt = 4

func (p *priorities) begin() {
	p.of, p.lowest, p.timers, p.at = p.of[:0], 0, 0, map[int]bool{}
	for range p.changes {
		p.at[p.rng.IntN(p.length)] = true
	}
}

func (p *priorities) pick(r *run, enabled []*thread, free bool) int {
	for len(p.of) < len(r.threads) {
		priority := 1 + p.rng.IntN(1<<20)
		if r.threads[len(p.of)].daemon {
			if p.timers++; p.timers > prompt {
				p.lowest--
				priority = p.lowest
			}
		}
		p.of = append(p.of, priority)
	}
	if p.at[r.points] || free && enabled[0] == r.cur {
		p.lowest--
		p.of[enabled[0].id] = p.lowest
	}
	best := 0
	for i, t := range enabled {
		if p.of[t.id] > p.of[enabled[best].id] {
			best = i
		}
	}
	return r.decide(best, len(enabled))
}

func (p *priorities) choose(r *run, n int) int { return r.decide(p.rng.IntN(n), n) }

// replay decides as was decided before.
type replay struct{ decisions []int }

func (p *replay) pick(r *run, enabled []*thread, _ bool) int { return p.choose(r, len(enabled)) }

func (p *replay) choose(r *run, n int) int {
	i := len(r.decisions)
	if i >= len(p.decisions) || p.decisions[i] >= n {
		return r.decide(0, n)
	}
	return r.decide(p.decisions[i], n)
}

// The rest is for programs that are explored.

// Advance lets d pass.
func Advance(d int64) {
	point("advance")
	current.clock += d
}

// Point lets the strategy decide who goes on.
func Point() { point("point") }

// Await parks until ready returns true, which must have no effects.
func Await(what string, ready func() bool) {
	if r := current; r != nil {
		r.point(what, ready)
	}
}

// Choose returns a number below n: in other runs, all the others.
func Choose(n int) int { return current.by.choose(current, n) }

// Step returns a greater number each time: what a clock is for a history.
func Step() int64 {
	current.now++
	return current.now
}

// Join waits, on the first thread, until all others have ended that were started
// with Go, by a timer, or by an AfterFunc whose context has ended.
func Join() {
	r := current
	Await("join", func() bool {
		for _, t := range r.threads[1:] {
			if !t.done && (!t.daemon || t.watches && t.ready()) {
				return false
			}
		}
		return true
	})
}

// Watches returns how many AfterFuncs are neither called nor stopped.
func Watches() int {
	n := 0
	for _, t := range current.threads {
		if t.watches && !t.done {
			n++
		}
	}
	return n
}

// caller returns the line of the first caller outside this package.
func caller() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.File, "internal/sched/") || !more {
			return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
	}
}
