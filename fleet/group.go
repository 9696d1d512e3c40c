package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds Group: its configuration and its methods. What a call does is in run.go
// and, if its process leads, in lead.go.

// A Group coalesces calls that have equal keys across the processes of a fleet: fn runs
// once, in one of them, and the calls of all get its result. The processes share an
// [Engine], and have Groups with the same Name and Version.
//
// Set the fields before the first use of the Group, which is the first call of any
// method, and do not change them after that. Engine and Name are required. A Group must
// not be copied after first use. Its methods may be called concurrently, also by fn. A
// field with a value that cannot be served panics at first use.
//
// It saves work. It does not exclude: see the package documentation for what is promised.
type Group[K comparable, V any] struct {
	// Engine is what the processes share.
	Engine Engine

	// Name is that of the Group in the engine, the same in all processes. Groups with
	// one Name have one K, one V and one kind of fn. Version separates the processes
	// whose Codec, Key or meaning of V differ, for example during a deployment: each
	// version has executions of its own. Both consist of at most 64 letters, digits,
	// hyphens and underscores. Version may be empty.
	Name    string
	Version string

	// Key appends the bytes of a key to dst. Different keys must have different bytes,
	// and all processes must agree on them. Nil serves strings, integers, arrays of
	// bytes and keys with the method AppendBinary; other types then panic at first use.
	Key func(dst []byte, key K) []byte

	// Codec turns values into bytes. Nil stands for the bytes themselves of strings and
	// []byte, and for encoding/json.
	Codec Codec[V]

	// Errors lets errors of fn cross to other processes. Nil hands on their messages. A
	// call of another process gets a *[RemoteError]. See [Sentinels].
	Errors ErrorCodec

	// Secrets, if there are any, seal what is stored in the engine, and hide which keys
	// there are. The first seals and makes the names of records, so a change of the
	// first is like one of Version. All open. Each has at least 16 bytes.
	Secrets [][]byte

	// Lease is how long after the last sign of life of a leader another process takes
	// over. A leader gives three signs in a Lease. Zero means 3 seconds; less than 30
	// milliseconds or more than an hour panics.
	Lease time.Duration

	// MaxAge is how long fn may run before another process, or another call of the same
	// process, may run it as well. fn is not canceled. Zero means 5 minutes, and
	// [coalesce.Forever] no limit.
	MaxAge time.Duration

	// Linger is how long a value answers calls that come after fn has returned it. Zero
	// means that only those calls get it which came before; an error never lingers.
	Linger time.Duration

	// Grace is how long a call waits, in all, for an engine that does not answer. Zero
	// means a second; with a negative Grace no operation is tried twice. A replicated
	// engine takes seconds to find another leader.
	Grace time.Duration

	// OnOutage says what a call does when Grace is over. RunLocally, the zero value,
	// runs fn in this process. Fail returns ErrEngine.
	OnOutage Policy

	// Oversize says what a call of another process does if the value cannot be stored.
	// RunLocally, the zero value, runs fn in this process. Fail returns ErrOversize.
	Oversize Policy

	// MaxResult is the most bytes of an encoded value. Zero means 256 KiB, or what the
	// engine can store if that is less.
	MaxResult int

	// MaxTakeovers is how many processes may take over a key one after the other before
	// its calls get ErrTakeovers. Zero means 3; more than 200 panics.
	MaxTakeovers int

	// Strict ends fn's context if the lease could not be renewed for its whole length.
	// Without it fn goes on, and its callers get its value.
	Strict bool

	// CancelAbandoned ends fn's context when all callers in its own process have left,
	// as a coalesce.Group does. Without it fn goes on, as processes elsewhere may wait.
	CancelAbandoned bool

	// Process is the name of this process in messages and Infos, of at most 64 bytes.
	// Empty means the name of the host, the number of the process, and a random part.
	Process string

	// Observer is called when something happens.
	Observer Observer

	// MaxWaiters, Clone, Shards and Hash are those of a [coalesce.Group]: they are about
	// the calls of this process.
	MaxWaiters int
	Clone      func(V) V
	Shards     int
	Hash       func(K) uint64

	clock clock // set by simulations; else nil

	mu    sync.Mutex // held while state is made
	state atomic.Pointer[state[K, V]]
}

// A Policy says what a call does that cannot get the value of another process.
type Policy uint8

// The policies.
const (
	RunLocally Policy = iota // run fn in this process
	Fail                     // return an error
)

// The values of fields that are zero.
const (
	defaultLease     = 3 * time.Second
	defaultMaxAge    = 5 * time.Minute
	defaultGrace     = time.Second
	defaultMaxResult = 256 << 10
	defaultTakeovers = 3
	leastLease       = 30 * time.Millisecond
	mostTakeovers    = 200
)

// A state is a Group's, from its first use on.
type state[K comparable, V any] struct {
	core    coalesce.Group[K, answer[V]]
	engine  Engine
	clock   clock
	vault   vault
	key     func([]byte, K) []byte
	codec   Codec[V]
	errors  ErrorCodec
	process string

	lease, maxAge, linger, grace time.Duration // maxAge is 0 for no limit
	onOutage, oversize           Policy
	tryFor                       time.Duration // the limit of one try of an operation
	maxResult, maxTakeovers      int
	strict, cancelAbandoned      bool
	observer                     Observer

	slots    slots // of operations of runs
	renewals slots // of renewals, which must not wait for those
	breaker  breaker
	hints    hints
	fresh    freshCalls[K]
	runs     runs[K]
	stats    counters
}

// An answer is a value and how it came about.
type answer[V any] struct {
	val  V
	info Info
}

// use returns the state of g, which it makes at the first use.
func (g *Group[K, V]) use() *state[K, V] {
	if s := g.state.Load(); s != nil {
		return s
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.state.Load(); s != nil {
		return s
	}
	s := g.newState()
	g.state.Store(s)
	return s
}

// must panics if ok is false.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic("fleet: Group." + fmt.Sprintf(format, args...))
	}
}

// isName reports whether s may be a Name or a Version.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(s) <= 64
}

// orDefault returns v, or d if v is zero.
func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func (g *Group[K, V]) newState() *state[K, V] {
	must(g.Engine != nil, "Engine is nil")
	must(g.Name != "" && isName(g.Name), "Name is %q, want 1 to 64 letters, digits, - and _", g.Name)
	must(isName(g.Version), "Version is %q, want at most 64 letters, digits, - and _", g.Version)
	s := &state[K, V]{
		engine: g.Engine, clock: g.clock, key: g.Key, codec: g.Codec, errors: g.Errors, process: g.Process,
		lease: orDefault(g.Lease, defaultLease), maxAge: orDefault(g.MaxAge, defaultMaxAge),
		linger: g.Linger, grace: max(0, orDefault(g.Grace, defaultGrace)),
		onOutage: g.OnOutage, oversize: g.Oversize,
		maxResult: g.MaxResult, maxTakeovers: orDefault(g.MaxTakeovers, defaultTakeovers),
		strict: g.Strict, cancelAbandoned: g.CancelAbandoned, observer: g.Observer,
	}
	must(s.lease >= leastLease && s.lease <= maxLease, "Lease is %v, want %v to %v", s.lease, leastLease, maxLease)
	must(s.maxAge > 0, "MaxAge is %v, want a positive time", s.maxAge)
	must(s.linger >= 0, "Linger is %v, want a positive time", s.linger)
	must(s.onOutage <= Fail, "OnOutage is %d, want RunLocally or Fail", s.onOutage)
	must(s.oversize <= Fail, "Oversize is %d, want RunLocally or Fail", s.oversize)
	must(s.maxTakeovers > 0 && s.maxTakeovers <= mostTakeovers, "MaxTakeovers is %d, want 1 to %d", s.maxTakeovers, mostTakeovers)
	most := g.Engine.Caps().MaxValue - maxOverhead
	if g.MaxResult == 0 {
		s.maxResult = min(defaultMaxResult, most)
	}
	must(s.maxResult > 0 && s.maxResult <= most, "MaxResult is %d, want 1 to %d, which %s can store", s.maxResult, most, g.Engine.Caps().Name)
	must(len(s.process) <= maxProcess, "Process has %d bytes, want at most %d", len(s.process), maxProcess)
	for i, secret := range g.Secrets {
		must(len(secret) >= 16, "Secrets[%d] has %d bytes, want at least 16", i, len(secret))
	}
	s.tryFor = min(mostTry, s.lease/heartbeats) // so that one lost request costs no lease
	s.vault = vault{name: g.Name, version: g.Version, secrets: g.Secrets}
	if s.clock == nil {
		s.clock = monotonic{time.Now()}
	}
	if s.key == nil {
		s.key = defaultKey[K]()
	}
	if s.codec == nil {
		s.codec = defaultCodec[V]{}
	}
	if s.errors == nil {
		s.errors = plainErrors{}
	}
	if s.process == "" {
		s.process = processName()
	}
	s.core.MaxWaiters, s.core.Shards, s.core.Hash = g.MaxWaiters, g.Shards, g.Hash
	if s.maxAge == coalesce.Forever {
		s.maxAge = 0
	}
	s.core.MaxAge = s.maxAge
	if clone := g.Clone; clone != nil {
		s.core.Clone = func(a answer[V]) answer[V] { return answer[V]{clone(a.val), a.info} }
	}
	s.slots, s.renewals = make(slots, mostSlots), make(slots, mostSlots)
	s.breaker.each, s.breaker.grace, s.breaker.probe = probeEach, s.grace, s.probe
	s.core.Len() // a field of it that cannot be served panics now
	return s
}

// newBudget returns the budget of a run that begins.
func (s *state[K, V]) newBudget() budget {
	b := budget{clock: s.clock, breaker: &s.breaker, stats: &s.stats, slots: s.slots, tryFor: s.tryFor, left: s.grace}
	if s.breaker.isOpen(b.clock.now()) {
		b.left, b.failed = 0, errBreaker
	}
	return b
}

// ownBudget returns the budget of writes that go on after their run.
func (s *state[K, V]) ownBudget(left time.Duration) *budget {
	return &budget{clock: s.clock, stats: &s.stats, slots: s.slots, tryFor: s.tryFor, left: max(0, left)}
}

// processName returns a name that no other process has.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.32s-%d-%.6s", host, os.Getpid(), rand.Text())
}

// DoContext returns the result of fn for key. If a process of the fleet runs fn for the
// key already, DoContext waits for its result. Otherwise this process runs fn, on a
// goroutine of its own. The calls of one process share one run.
//
// shared reports whether the value came from another process, or more than one call of
// this process took part. A leader cannot know whether other processes wait.
//
// If ctx ends, DoContext returns its error at once. fn's context has the values of that
// of the call which leads in its process, and [Token], and no deadline. It goes on though
// all callers have left, unless CancelAbandoned is set. It ends when the lease is lost to
// another process (cause ErrLeaseLost), or when a Shutdown has run out of time (ErrClosed).
//
// Errors: that of fn, which in another process is a *[RemoteError]; that of ctx; ErrClosed
// after Shutdown; ErrEngine, ErrOversize and ErrTakeovers; [coalesce.ErrSaturated] and
// *[coalesce.DeadlockError] as in package coalesce. If fn panics, the calls of its process
// panic, and those of others get a RemoteError. DoContext panics if ctx or fn is nil.
//
// When no other process takes part, it costs two writes to the engine; for a call that
// waits for another process, one write that fails and one read.
func (g *Group[K, V]) DoContext(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	a, shared, err := g.use().do(ctx, key, fn, false)
	return a.val, shared, err
}

// DoFresh is DoContext with a result of an execution that has begun after the call.
func (g *Group[K, V]) DoFresh(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	a, shared, err := g.use().do(ctx, key, fn, true)
	return a.val, shared, err
}

// DoInfo is DoContext, and says how the result came about. After a panic or a Goexit of
// fn, or the end of ctx, the Info is zero.
func (g *Group[K, V]) DoInfo(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, Info, error) {
	a, _, err := g.use().do(ctx, key, fn, false)
	return a.val, a.info, err
}

// do is the common part of the calls.
func (s *state[K, V]) do(ctx context.Context, key K, fn func(context.Context) (V, error), fresh bool) (a answer[V], shared bool, err error) {
	if ctx == nil || fn == nil {
		panic("fleet: nil context or fn")
	}
	if ctx.Done() == nil { // else fn would run on this goroutine, out of reach of Shutdown
		c, cancel := context.WithCancel(ctx)
		defer cancel()
		ctx = c
	}
	s.runs.called(key, s.clock.now())
	call := s.core.DoContext
	if fresh {
		call = s.core.DoFresh
		s.fresh.enter(key)
		defer s.fresh.leave(key)
	}
	a, shared, err = call(ctx, key, func(fctx context.Context) (answer[V], error) {
		return s.run(fctx, key, fn, fresh || s.fresh.has(key))
	})
	return a, shared || a.info.Role == Followed || a.info.Role == Adopted, err
}

// freshCalls are the DoFresh calls that wait. A run is fresh if there is one for its key,
// whichever call leads: calls of both kinds may be queued behind the same flight.
type freshCalls[K comparable] struct {
	mu sync.Mutex
	n  map[K]int
}

func (c *freshCalls[K]) enter(key K) {
	if key != key { // it shares no run
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[K]int{}
	}
	c.n[key]++
}

func (c *freshCalls[K]) leave(key K) {
	if key != key {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key]--; c.n[key] <= 0 {
		delete(c.n, key)
	}
}

func (c *freshCalls[K]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[key] > 0
}

// Detach is [coalesce.Detach].
func Detach(ctx context.Context) context.Context { return coalesce.Detach(ctx) }

// tokenKey is the key of the token in fn's context.
type tokenKey struct{}

// Token returns the number of the execution of the fn that ctx was given to, and whether
// there is one: an fn that runs because the engine does not answer has none. Of two
// executions for a key, the later one has the greater number. A resource that remembers
// the greatest it has seen and refuses lower ones is safe from a leader that was replaced
// and does not know it yet.
func Token(ctx context.Context) (uint64, bool) {
	token, ok := ctx.Value(tokenKey{}).(uint64)
	return token, ok
}

// RecordName returns the name of the record of a key in the engine.
func (g *Group[K, V]) RecordName(key K) string {
	s := g.use()
	return s.recordName(key)
}

func (s *state[K, V]) recordName(key K) string { return s.vault.recordName(s.key(nil, key)) }
