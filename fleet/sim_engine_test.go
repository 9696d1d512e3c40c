package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// This file holds the engine of a simulation and its faults. Everything is in one
// testing/synctest bubble: time is exact, and nothing waits for it.
//
// A world is what the processes share: the records with their past, and who is notified.
// A process sees it through faults of its own, at the rates and times that a plan gives.

// A plan is what goes wrong in a simulation.
type plan struct {
	// Rates of operations and pushes, from 0 to 1.
	refused      float64 // an operation is not made, and fails at once
	lostRequest  float64 // is not made, and is not answered
	failedAfter  float64 // is made, and fails
	lostAnswer   float64 // is made, and is not answered
	lateSwap     float64 // is not answered, and made later, up to two leases
	staleRead    float64 // returns what was there up to a second ago
	lostPush     float64
	doublePush   float64
	latePush     float64 // up to three seconds
	hint         float64 // a push is without its value
	spreading    float64 // a new subscription is in force only after up to 40 ms
	foreign      float64 // for each second, that a record of an unknown format is written
	dataLoss     []time.Duration
	free         bool // a conflict comes with the value
	unnamed      float64
	latency      time.Duration // of an operation or a push, at most
	trouble      []trouble     // by time
	clockSpread  float64
	standsStill  bool // the clock of a frozen process
	lease, grace time.Duration
}

// A trouble is one of a process for some time.
type trouble struct {
	process  int
	kind     troubleKind
	from, to time.Duration
}

type troubleKind uint8

const (
	cutOff    troubleKind = iota // nothing gets out or in
	cutAnswer                    // requests get out, and nothing gets in
	frozen                       // it does nothing
	dead                         // from then on
)

func (k troubleKind) String() string {
	return [...]string{"cut off", "answers cut", "frozen", "dead"}[k]
}

// A write is one that the world has made.
type write struct {
	key      string
	rev      uint64
	rec, old record // old is zero if there was none
	oldRev   uint64
	oldAt    time.Duration
	at       time.Duration
	process  int // -1 for a foreign one
}

type version struct {
	Record
	at, expires time.Duration
}

type world struct {
	plan  *plan
	begin time.Time

	mu      sync.Mutex
	rev     uint64
	past    map[string][]version // the last is what is there; Rev 0 for nothing
	writes  []write
	watches map[string]map[*listener]struct{}
	lost    []time.Duration // when data was lost
	late    map[uint64]bool // revisions that were written after their time-out
}

type listener struct {
	p     *process
	since time.Duration // from when on it is in force
	f     func(Record)
}

func newWorld(p *plan) *world {
	return &world{plan: p, begin: time.Now(), past: map[string][]version{}, watches: map[string]map[*listener]struct{}{}, late: map[uint64]bool{}}
}

func (w *world) now() time.Duration { return time.Since(w.begin) }

// get returns what is there. w.mu must be held.
func (w *world) get(key string) version {
	past := w.past[key]
	if len(past) == 0 {
		return version{}
	}
	v := past[len(past)-1]
	if v.Rev != 0 && w.now() >= v.expires {
		v = version{at: v.expires}
		w.past[key] = append(past, v)
	}
	return v
}

// swap is the operation itself.
func (w *world) swap(p int, key string, prev uint64, val []byte, ttl time.Duration) (Record, *Conflict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.get(key)
	if old.Rev != prev {
		c := &Conflict{Record: Record{Rev: old.Rev, Age: -1}}
		if w.plan.free && old.Rev != 0 {
			c.Record.Val, c.Record.Age = old.Val, w.now()-old.at
		}
		return Record{}, c
	}
	w.rev++
	now := w.now()
	v := version{Record{Rev: w.rev, Val: append([]byte{}, val...), Age: -1}, now, now + ttl}
	w.past[key] = append(w.past[key], v)
	entry := write{key: key, rev: v.Rev, at: now, process: p, oldRev: old.Rev, oldAt: old.at}
	entry.rec, _ = box{}.decode(v.Val, v.Rev)
	if old.Rev != 0 {
		entry.old, _ = box{}.decode(old.Val, old.Rev)
	}
	w.writes = append(w.writes, entry)
	for l := range w.watches[key] {
		l.p.deliver(l, v.Record)
	}
	return Record{Rev: v.Rev, Age: -1}, nil
}

// load returns what was there some time ago.
func (w *world) load(key string, ago time.Duration) (Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.get(key)
	now := w.now()
	for i := len(w.past[key]) - 1; ago > 0 && i >= 0; i-- {
		v = w.past[key][i]
		if v.at <= now-ago {
			break
		}
		if i == 0 {
			v = version{}
		}
	}
	if v.Rev == 0 {
		return Record{}, ErrAbsent
	}
	r := v.Record
	r.Age = now - v.at
	return r, nil
}

// lose removes all records.
func (w *world) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = append(w.lost, w.now())
	for key := range w.past {
		w.past[key] = append(w.past[key], version{at: w.now()})
	}
}

// A process is one of the fleet: the Engine of its Group, and its clock.
type process struct {
	*world
	index int
	rate  float64
	fails []miss                           // guarded by draw
	ops   struct{ swaps, loads, arms int } // guarded by mu of draw

	draw struct {
		sync.Mutex
		*rand.Rand
	}
}

// A miss is an operation that was not answered.
type miss struct {
	key string
	at  time.Duration
}

// note notes the miss of an operation that returns err.
func (p *process) note(key string, err error) error {
	if err != nil {
		p.draw.Lock()
		defer p.draw.Unlock()
		p.fails = append(p.fails, miss{key, p.world.now()})
	}
	return err
}

// misses returns how often operations for a key were not answered in some time.
func (p *process) misses(key string, from, to time.Duration) (n int) {
	p.draw.Lock()
	defer p.draw.Unlock()
	for _, m := range p.fails {
		if m.key == key && m.at >= from && m.at <= to {
			n++
		}
	}
	return n
}

func (p *process) chance(rate float64) bool {
	if rate == 0 {
		return false
	}
	p.draw.Lock()
	defer p.draw.Unlock()
	return p.draw.Float64() < rate
}

func (p *process) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	p.draw.Lock()
	defer p.draw.Unlock()
	return time.Duration(p.draw.Int64N(int64(d)))
}

// in returns the end of a trouble of a kind that the process has now, or 0.
func (p *process) in(kind troubleKind) time.Duration {
	now := p.world.now()
	for _, t := range p.plan.trouble {
		if t.process == p.index && t.kind == kind && t.from <= now && now < t.to {
			return t.to
		}
	}
	return 0
}

// thaw waits until the process is not frozen.
func (p *process) thaw() {
	for end := p.in(frozen); end > 0; end = p.in(frozen) {
		time.Sleep(end - p.world.now())
	}
}

var (
	errRefused = errors.New("the connection was refused")
	errSilence = errors.New("no answer")
)

// silent waits for the end of ctx, and then for that of a freeze.
func (p *process) silent(ctx context.Context) error {
	<-ctx.Done()
	p.thaw()
	return errSilence
}

// request waits as long as a request takes, and reports whether it arrives.
func (p *process) request(ctx context.Context) error {
	p.thaw()
	if p.in(cutOff) > 0 || p.in(dead) > 0 || p.chance(p.plan.lostRequest) {
		return p.silent(ctx)
	}
	if p.chance(p.plan.refused) {
		return errRefused
	}
	time.Sleep(p.upTo(p.plan.latency))
	if ctx.Err() != nil {
		return p.silent(ctx)
	}
	return nil
}

// response waits as long as an answer takes, and reports whether it arrives.
func (p *process) response(ctx context.Context) error {
	if p.in(cutOff) > 0 || p.in(cutAnswer) > 0 || p.in(dead) > 0 || p.chance(p.plan.lostAnswer) {
		return p.silent(ctx)
	}
	time.Sleep(p.upTo(p.plan.latency))
	p.thaw()
	if ctx.Err() != nil {
		return errSilence
	}
	if p.chance(p.plan.failedAfter) {
		return errRefused
	}
	return nil
}

func (p *process) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (Record, error) {
	p.draw.Lock()
	p.ops.swaps++
	p.draw.Unlock()
	if err := p.note(key, p.request(ctx)); err != nil {
		return Record{}, err
	}
	if p.chance(p.plan.lateSwap) {
		time.AfterFunc(p.upTo(2*p.plan.lease), func() {
			if rec, c := p.swap(p.index, key, prev, val, ttl); c == nil {
				p.mu.Lock()
				p.late[rec.Rev] = true
				p.mu.Unlock()
			}
		})
		return Record{}, p.note(key, p.silent(ctx))
	}
	rec, c := p.swap(p.index, key, prev, val, ttl)
	if err := p.note(key, p.response(ctx)); err != nil {
		return Record{}, err
	}
	if c != nil {
		if p.chance(p.plan.unnamed) {
			return Record{}, &Conflict{Unnamed: true}
		}
		return Record{}, c
	}
	return rec, nil
}

func (p *process) Load(ctx context.Context, key string) (Record, error) {
	p.draw.Lock()
	p.ops.loads++
	p.draw.Unlock()
	if err := p.note(key, p.request(ctx)); err != nil {
		return Record{}, err
	}
	ago := time.Duration(0)
	if p.chance(p.plan.staleRead) {
		ago = p.upTo(time.Second)
	}
	rec, err := p.load(key, ago)
	if err := p.note(key, p.response(ctx)); err != nil {
		return Record{}, err
	}
	return rec, err
}

func (p *process) Notify(_ context.Context, key string, f func(Record)) (stop func(), err error) {
	p.draw.Lock()
	p.ops.arms++
	p.draw.Unlock()
	time.Sleep(p.upTo(p.plan.latency))
	p.thaw()
	l := &listener{p, p.world.now(), f}
	if p.chance(p.plan.spreading) {
		l.since += p.upTo(40 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watches[key] == nil {
		p.watches[key] = map[*listener]struct{}{}
	}
	p.watches[key][l] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watches[key], l)
		if len(p.watches[key]) == 0 {
			delete(p.watches, key)
		}
	}, nil
}

// deliver pushes a record. p.mu must be held.
func (p *process) deliver(l *listener, rec Record) {
	if p.world.now() < l.since || p.chance(p.plan.lostPush) {
		return
	}
	times := 1
	if p.chance(p.plan.doublePush) {
		times = 2
	}
	for range times {
		delay := p.upTo(p.plan.latency)
		if p.chance(p.plan.latePush) {
			delay = p.upTo(3 * time.Second)
		}
		rec := rec
		if p.chance(p.plan.hint) {
			rec = Record{Rev: rec.Rev, Age: -1}
		}
		time.AfterFunc(delay, func() {
			if p.in(cutOff) > 0 || p.in(cutAnswer) > 0 || p.in(dead) > 0 {
				return
			}
			p.thaw()
			l.f(rec)
		})
	}
}

// reconnect is what a client does when it is connected again.
func (p *process) reconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, watches := range p.watches {
		for l := range watches {
			if l.p == p {
				go l.f(Record{})
			}
		}
	}
}

func (p *process) Caps() Caps { return Caps{Name: "simulated", MaxValue: 1 << 20, Push: true} }

// A localClock is the clock of a process.
type localClock struct{ p *process }

func (c localClock) now() time.Duration {
	at := c.p.world.now()
	now := at
	if c.p.plan.standsStill {
		for _, t := range c.p.plan.trouble {
			if t.process == c.p.index && t.kind == frozen {
				now -= max(0, min(at, t.to)-t.from)
			}
		}
	}
	return time.Duration(float64(now) * c.p.rate)
}

func (c localClock) wall() time.Time { return time.Now() }

func (c localClock) after(d time.Duration, f func()) func() bool {
	// A clock that stands still has a timer fire too early, and it is set again.
	return time.AfterFunc(time.Duration(float64(d)/c.p.rate)+2, func() {
		c.p.thaw()
		f()
	}).Stop
}

func (c localClock) random(d time.Duration) time.Duration { return c.p.upTo(d) }
