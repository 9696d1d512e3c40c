//go:build coalesceexplore

package sched

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
)

// This file holds the explorer: threads, of which one runs at a time, and strategies,
// which decide which one.
//
//	thread 0   ──●───────●                    ●──▶
//	thread 1             └──▶●            ┌───┘       ● a point: the strategy picks the
//	thread 2                 └──▶●────────┘             thread that goes on
//
// A thread is a goroutine that waits on a channel of its own while another runs. To let
// another go on, a thread sends on that one's channel and then receives from its own.

// An Explorer runs a program again and again, each time in another order. The program
// must do the same whenever it is run in the same order.
type Explorer struct {
	// Preemptions bounds how often in a run another thread goes on although the running
	// thread could. Within that bound, every order is tried once: there is no bound to
	// the choices at points where the running thread waits or yields.
	Preemptions int

	// Delays, if it is not 0, is a bound in place of Preemptions. The threads form a
	// ring. By default the running thread goes on or, if it cannot, the next one in the
	// ring that can; each thread that could but is skipped costs a delay. The number of
	// runs then grows with the number of points, not with that of threads (Emmi, Qadeer
	// and Rakamarić, Delay-bounded Scheduling, 2011).
	Delays int

	// Releases makes the release of a lock a point, too. It serves for programs that may
	// access the data of a lock without holding it.
	Releases bool

	// Limit is the number of runs after which the exploration ends. 0 means no limit.
	Limit int

	// Random, if it is not 0, is the number of runs of another kind, which take the
	// place of the exploration: each thread has a random priority, and at Changes random
	// points of a run the running thread falls behind all others (PCT: Burckhardt et
	// al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, 2010).
	// The random numbers depend on Seed alone.
	Random, Changes int
	Seed            uint64
}

// A Report is the result of an exploration.
type Report struct {
	Runs, Points int  // sums over all runs
	Complete     bool // every order within the bounds was tried

	// Err is the failure of the last run: the program's error, a panic, a deadlock, or a
	// run without end. It is nil if no run failed. Replay repeats the run from
	// Decisions. Trace has a line for each point of the run: the thread, the operation
	// and the place in the code.
	Err       error
	Decisions []int
	Trace     string
}

// Explore runs program until a run fails or the bounds are reached. The program starts on
// the first thread, thread 0, and a run ends when it returns; it starts the other threads
// with [Go].
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

// Replay repeats the run of an Explorer from its decisions, and returns its trace and its
// error. Releases must be the same as then.
func (x Explorer) Replay(decisions []int, program func() error) (trace string, err error) {
	r := x.execute(&replay{decisions: decisions}, program, true)
	return r.log.String(), r.err
}

// current is the run that is being explored, or nil. It changes only while no thread
// runs.
var current *run

// point is a point of the current run, if there is one, for a thread that can go on.
func point(what string) {
	if r := current; r != nil {
		r.point(what, nil)
	}
}

// A thread is a goroutine that runs when it is resumed.
type thread struct {
	id      int           // its index in run.threads
	resume  chan struct{} // receives when the thread is to go on
	ready   func() bool   // reports whether it can go on; nil: it can
	what    string        // the operation that it is about to do
	daemon  bool          // a timer or an AfterFunc that waits: it need not end
	watches bool          // an AfterFunc that waits for its context
	begun   bool          // it has been resumed
	done    bool          // it has ended or was stopped: it is not picked again
}

// A decision is one choice: picked, out of the numbers from 0 to of-1. It is the index of
// the thread that went on, or a result of choose.
type decision struct{ picked, of int }

// A run is one execution of a program. All its fields belong to the thread that is
// running, and pass to the next with the send on resume.
type run struct {
	by          strategy
	releases    bool      // Explorer.Releases
	threads     []*thread // in the order in which they were started; the ring
	cur         *thread   // the thread that is running
	decisions   []decision
	preemptions int   // how many have been made, for depthFirst
	delays      int   // how many have been made, for depthFirst
	points      int   // how many have been passed
	clock, now  int64 // of Now and After; of Step
	err         error // the first failure
	settled     bool  // by Settle: no more decisions
	over        bool
	ended       chan struct{} // closed when over is set

	verbose bool            // log is wanted
	log     strings.Builder // the trace
}

// maxPoints bounds the points of a run, so that a run without end fails.
const maxPoints = 100_000

// execute makes one run, and returns when it is over. If verbose is set, it is traced.
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
				t.resume <- struct{}{} // it finds that the run is over, and exits
			}
		}
	}
	return r // after a failure, the other threads block forever
}

// spawn makes a thread that runs fn. It does not start before it is picked, which may be
// as soon as ready returns true; a nil ready always does.
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

// exit ends t, which is running and returns, panics or calls Goexit. A panic fails the
// run. The end of thread 0 ends the run; any other thread lets the next one go on.
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

// fail ends the run with err, unless it has failed before.
func (r *run) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.end()
}

// end ends the run. It may be called again.
func (r *run) end() {
	if !r.over {
		r.over = true
		close(r.ended)
	}
}

// point lets the strategy decide which thread goes on. It returns when the calling thread
// is picked, which is possible only if ready returns true; a nil ready always does. what
// names the operation that follows.
func (r *run) point(what string, ready func() bool) { r.pause(what, ready, false) }

// pause is point for a thread that yields, if yields is set: to let another thread go on
// is then no preemption.
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
		select {} // the run is over: this thread must not change anything
	}
	t.ready = nil
}

// next picks the thread that goes on, resumes it unless it is t, the running one, and
// returns it. If several can go on, the strategy decides: it gets t first, if t can go
// on, and then the others in the order of the ring, beginning behind t. If no thread can
// go on, the run fails with a deadlock, and next returns nil.
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
	switch {
	case len(enabled) == 0:
		r.fail(r.deadlock())
		return nil
	case len(enabled) > 1 && !r.settled:
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

// deadlock returns an error that names the operation that each thread waits in.
func (r *run) deadlock() error {
	var waits []string
	for _, t := range r.threads {
		if !t.done && !t.daemon {
			waits = append(waits, fmt.Sprintf("thread %d: %s", t.id, t.what))
		}
	}
	return fmt.Errorf("deadlock; %s", strings.Join(waits, ", "))
}

// decide records a decision, and returns picked.
func (r *run) decide(picked, of int) int {
	r.decisions = append(r.decisions, decision{picked, of})
	return picked
}

// A strategy makes the decisions of a run. It records each with decide.
type strategy interface {
	// pick returns the index in enabled of the thread that goes on. If free is not set,
	// the first of them is the running thread, and to pick another preempts it.
	pick(r *run, enabled []*thread, free bool) int

	// choose returns a number below n.
	choose(r *run, n int) int
}

// depthFirst tries every sequence of decisions within the bounds, in lexical order. It
// repeats a prefix of the last run, whose last decision next has raised by one, and picks
// the first of all choices from there on.
type depthFirst struct {
	bound  int        // Explorer.Preemptions
	delays int        // Explorer.Delays
	prefix []decision // with which the next run begins
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

// next sets the prefix of the run after r, and reports whether there is one.
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

// priorities picks the thread that has the highest priority.
type priorities struct {
	rng     *rand.Rand
	changes int // Explorer.Changes
	length  int // the points of the longest run so far

	of     []int        // the priority of each thread, by id
	at     map[int]bool // the points at which the running thread falls behind
	lowest int          // the lowest priority so far; 0 at first, and others are positive
	timers int          // how many daemons the run has
}

// prompt is the number of daemons, most of them timers, that get a random priority in a
// run. Later ones fall behind all other threads. Otherwise a timer that is set again and
// again, until another thread has done something, could keep that thread from running
// forever.
const prompt = 4

// begin draws the points of a new run at which priorities change.
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

// replay repeats recorded decisions. After the last, it picks the first of all choices.
type replay struct{ decisions []int }

func (p *replay) pick(r *run, enabled []*thread, _ bool) int { return p.choose(r, len(enabled)) }

func (p *replay) choose(r *run, n int) int {
	i := len(r.decisions)
	if i >= len(p.decisions) || p.decisions[i] >= n {
		return r.decide(0, n)
	}
	return r.decide(p.decisions[i], n)
}

// The functions below are for programs that are explored.

// Advance moves the clock forward by d nanoseconds.
func Advance(d int64) {
	point("advance")
	current.clock += d
}

// Point is a point: the strategy decides which thread goes on.
func Point() { point("point") }

// Await blocks until ready returns true. ready is called often, on any thread, and must
// not change anything. Without an explorer Await returns at once.
func Await(what string, ready func() bool) {
	if r := current; r != nil {
		r.point(what, ready)
	}
}

// Choose returns a number below n. The exploration tries each of them.
func Choose(n int) int { return current.by.choose(current, n) }

// Step returns a greater number each time. It serves as the clock of a history.
func Step() int64 {
	current.now++
	return current.now
}

// Thread returns the number of the running thread. No other thread of the run has it.
func Thread() int { return current.cur.id }

// Join blocks until all other threads have ended. It does not wait for timers that have
// not fired, nor for AfterFuncs whose context has not ended. It must be called on the
// first thread.
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

// Settle ends the decisions of a run: from here on, a thread goes on for as long as it
// can, and then the next one in the ring. It serves for the checks at the end of a
// program, whose order makes no difference.
func Settle() { current.settled = true }

// FireTimers blocks until all timers have fired or were stopped, those as well that are
// set meanwhile, and all other threads have ended but AfterFuncs whose context has not
// ended. It must be called on the first thread.
func FireTimers() {
	r := current
	Await("timers", func() bool {
		for _, t := range r.threads[1:] {
			if !t.done && (!t.watches || t.ready()) {
				return false
			}
		}
		return true
	})
}

// Timers returns the number of timers that have neither fired nor been stopped.
func Timers() int {
	n := 0
	for _, t := range current.threads {
		if t.daemon && !t.watches && !t.done {
			n++
		}
	}
	return n
}

// Watches returns the number of AfterFuncs that are neither called nor stopped.
func Watches() int {
	n := 0
	for _, t := range current.threads {
		if t.watches && !t.done {
			n++
		}
	}
	return n
}

// caller returns the file and the line of the first caller outside this package.
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
