package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds Group with its configuration, and the forms of call that block for one
// key. DoChan is in chan.go and DoMulti in multi.go; the part that all forms have in
// common is in caller.go.

// A Group coalesces concurrent calls that have equal keys: fn runs once, and
// every call that joins that run receives its result.
//
// The zero Group is empty and ready to use. A Group must not be copied after
// first use. All its methods may be called concurrently, including from inside fn.
//
// The exported fields configure the Group. They are read at its first use,
// which is the first call of any method, and must not be changed after that.
// The cost of MaxAge, Linger and Hooks is given under “Cost” in the package
// documentation.
//
// On 64-bit machines V may have at most 65,504 bytes, because DoChan sends a
// [Result] through a channel and the elements of a channel are limited to 64
// KiB. A program with a larger V does not compile, even if it never calls
// DoChan. The compiler reports “channel element type too large” at a line of
// this package or of the standard library, and not at the line that uses the
// Group. If you see this message, look at the size of V, and use a pointer
// instead. A V of more than about a hundred bytes costs memory, too; see “Cost”
// in the package documentation.
//
// In the terminology of [the Go memory model], the return of fn “synchronizes
// before” the return of every call that shares its result, and before a nil
// return of [Group.Shutdown]. A call that returns its context's error is
// synchronized with nothing.
//
// [the Go memory model]: https://go.dev/ref/mem
type Group[K comparable, V any] struct {
	// Shards is the number of locks over which the keys are spread. It is
	// rounded up to a power of two. Zero means sixteen times GOMAXPROCS; a
	// negative number, or more than 1,048,576, panics at first use. On a 64-bit
	// machine each shard takes 8 bytes from the first use of the group. When a
	// call first comes to one of its keys, it takes another 256 bytes, apart
	// from its hash table, if K has up to 16 bytes, as a string has. With a
	// larger K it takes more.
	Shards int

	// Hash determines where a key is placed. Equal keys must have equal hashes.
	// Hash is called on the caller's goroutine, outside all locks. It may be
	// called concurrently and must not panic. Its result is mixed with a secret
	// of the group. It affects speed only: whether two calls share a flight is
	// decided by ==. Nil means [hash/maphash.Comparable] with a seed of the
	// group's own, which withstands keys that were chosen to collide. See
	// [HashString].
	Hash func(K) uint64

	// Clone, if not nil, copies a value for one caller. If more than one call
	// took part in a flight, each of its callers, the leader included, gets its
	// own clone, and no caller gets the original. The same holds for an outcome
	// that lingers, of whose value the group keeps the original: the callers of
	// its flight, and all calls that it answers later, get clones.
	//
	// Clone gets the value that fn returned, even if fn also returned an error.
	// It is called on the caller's goroutine or, in DoChan, on a goroutine of
	// its own, and may run concurrently on the same value. If it panics, only
	// the caller that the clone was for gets the panic, as a *[PanicError]. In
	// DoChan and DoMulti, which do not panic, it is logged as a panic of fn is.
	//
	// Nil means that all callers share one value and everything that it points
	// to.
	Clone func(V) V

	// MaxWaiters limits the number of calls that wait for one flight, not
	// counting the call that leads it. The calls of a queued successor are
	// counted separately, without the one that will lead it. A call that would
	// exceed the limit gets [ErrSaturated] at once. The limit is exact: a
	// caller that leaves makes room for another. Zero means as many as can be
	// counted, which is 2,147,483,646; a negative number, or a greater one than
	// that, panics at first use.
	MaxWaiters int

	// MaxAge limits how long a flight, counted from its start, keeps other
	// flights of its key from starting. The first call that finds a flight of
	// that age takes over: it forgets the flight, as Forget does, and leads a
	// new one, which then has the same time. The old flight runs on and answers
	// its own callers.
	//
	// A DoFresh does not take over but is queued, as ever. A successor that is
	// queued starts when the flight in front of it reaches MaxAge, even if no
	// further call arrives; so if a DoFresh finds a flight of that age, its own
	// flight starts at once. While a successor is queued, no call takes over:
	// calls that find the flight too old are queued in the successor, and TryDo
	// returns [ErrInFlight].
	//
	// Zero means no limit; a negative duration panics at first use.
	MaxAge time.Duration

	// Linger is how long an outcome, which is the value and the error that fn
	// returned, goes on answering calls after its flight, if the error is nil.
	// See LingerFor for an outcome that has an error, or a time of its own.
	//
	// An outcome that lingers answers calls of all forms but DoFresh with its
	// value and its error, at once and without a lock. These calls report that
	// it is shared. It never answers a call at or after its end.
	//
	// A Forget of any form but [Group.ForgetFlight] drops the outcome. So do
	// [Group.Shutdown] and the end of a later flight of its key. While the
	// outcome lingers, only a DoFresh starts such a flight, and other calls
	// still get the old outcome until that flight ends. When it ends, the old
	// outcome is dropped in any case, and that of the flight may linger in its
	// place. The old outcome is also dropped when that flight reaches MaxAge
	// while a successor is queued behind it.
	//
	// Panics and Goexit never linger. Neither does an outcome if its flight has
	// been forgotten or abandoned, if a successor is queued behind the flight,
	// or if the key does not equal itself.
	//
	// Zero means that nothing lingers, unless LingerFor is set; a negative
	// duration panics at first use. With [Forever] and no LingerMax, each key is
	// loaded once; after an error, the next call runs its fn.
	Linger time.Duration

	// LingerFor, if not nil, decides in place of Linger how long the outcome
	// (v, err) lingers. Use it if the value says how long it is good, or to let
	// a failure hold off other calls for a while.
	// Zero or a negative duration means that it does not linger; [Forever],
	// that it does not expire.
	//
	// LingerFor is called once for each flight whose fn has returned, with the
	// results of fn and not a clone, even if its outcome will not linger for a
	// reason given at Linger, but not after a panic or a Goexit. In
	// [Group.DoMulti] it is called once for each key, with the result of its
	// callers, before the first of them gets it: an absent key has the zero
	// value and [ErrAbsent]. The time counts from just before the call.
	//
	// LingerFor is called outside all locks, as a part of fn: on its goroutine,
	// while the callers wait. If it panics or calls [runtime.Goexit], fn has
	// done so, in a DoMulti for all keys that fn was given. It may be called
	// concurrently for different keys. It may use the group, but not for the
	// same key nor, in a DoMulti, for its other keys.
	LingerFor func(v V, err error) time.Duration

	// LingerMax limits the number of outcomes that linger in the group. When
	// one more begins to linger, the one with the least time left is dropped;
	// of several, the one that has lingered longest. The limit is exact. Zero
	// means no limit; a negative number panics at first use.
	LingerMax int

	// Hooks are called when something happens to a flight. If all of them are
	// nil, they cost nothing.
	Hooks Hooks[K]

	state sched.SetOnce[groupState[K, V]] `rest:"stays"` // set once, by useSlow; read by use and Do
}

// A Result is the answer to one call. [Group.DoChan] sends one to its channel,
// and [Group.DoMulti] returns one for each key.
type Result[V any] struct {
	Val V     // the zero value if Err is an error that fn did not return
	Err error // a *PanicError where a call that blocks would panic

	// Shared reports whether more than one call took part in the flight, or
	// whether the answer is an outcome that lingers.
	Shared bool
}

// Do runs fn and returns its results, unless the key has a flight already: then
// Do waits for that flight and returns its result. shared reports whether more
// than one call took part, or whether the result is an outcome that lingers
// (see [Group.Linger]), which Do returns at once.
//
// A call that leads runs fn on its own goroutine and returns when fn has
// returned. A call that follows blocks until the flight has finished, whatever
// happens to the contexts of other callers. A call that finds an abandoned
// flight (see [Group.DoContext]) is queued: it blocks until that fn has ended,
// or until that flight is forgotten or reaches MaxAge, and then leads or
// follows the next flight.
//
// If fn panics, Do panics with a *[PanicError], the same for all callers of the
// flight. If fn calls [runtime.Goexit], the goroutine that it runs on exits, and
// the other callers get [ErrGoexit]. An error that fn returns is shared like a
// value. Do returns [ErrClosed] if [Group.Shutdown] has begun, or begins while
// the call is queued, and [ErrSaturated] if MaxWaiters calls already wait. If the error is not one that fn returned, v is the zero
// value. Do panics if fn is nil, or if key holds a dynamic type that is not
// comparable.
//
// fn must not call Do with the same key: such a call waits for itself, forever.
// Calls of Do are not checked for this (see “Deadlocks” in the package
// documentation). To limit the time that fn takes, use a context with a timeout
// inside fn.
//
// For allocations, see “Cost” in the package documentation.
func (g *Group[K, V]) Do(key K, fn func() (V, error)) (v V, shared bool, err error) {
	must(fn != nil, "fn")
	gs := g.state.Load() // g.use, written out, as it is not inlined
	if gs == nil {
		gs = g.useSlow()
	}
	h, reflexive := gs.hash(key)
	s := gs.shards[h>>gs.shift].Load() // gs.shard, written out, as it is not inlined
	if s == nil {
		s = gs.makeShard(h)
	}
	if gs.lingering != nil {
		if p := s.hit(h, key); p != nil {
			return gs.answer(p)
		}
	}
	s.mu.Lock()
	if !s.empty() {
		return s.doSlow(h, key, reflexive, fn)
	}
	f := s.leadAlone(h, key)
	s.mu.Unlock()
	// f is registered: from here on, other goroutines may find it. Any that does sets
	// f.known, under the lock.
	//
	// The rest is runInline, written out. It makes a call take 24.4 ns instead of 33.6
	// (go test -run - -bench Do/key=string$ .).
	normal := false
	defer func() {
		if !normal {
			s.unwind(f, recover())
		}
	}()
	err = ErrGoexit
	v, err = fn()
	normal = true
	s.mu.Lock()
	if !f.known && s.plain {
		// No other goroutine has looked at f, so no call waits for it, and the shard has
		// not been closed, so no Shutdown does. The record stays in the shard for the
		// next Do.
		s.clearLone()
		s.mu.Unlock()
		return v, false, err
	}
	return s.finishInline(f, v, err, nil)
}

// doSlow is Do for a shard that has other flights or is not plain. It is a separate
// function so that the code that most leaders run is short. It is entered with s.mu held
// and releases it. The part of a call that follows is not split off: with one frame
// more, its goroutine outgrows the stack that it began with, and the last of ten
// thousand returned after twice the time (work=fan-in in benchmarks/).
func (s *shard[K, V]) doSlow(h uint64, key K, reflexive bool, fn func() (V, error)) (v V, shared bool, err error) {
	if s.plain && s.lookup(h, key, reflexive) == nil {
		f := s.lead(h, key) // admit would decide the same
		s.mu.Unlock()
		return s.runInline(f, fn)
	}
	c := caller[K, V]{shard: s, inline: true}
	switch c.arriveLocked(h, key, reflexive, anything) {
	case leads:
		c.lead(h, key)
		s.mu.Unlock()
		return c.runInline(fn)
	case joins:
		c.seat = c.flight.sit()
		s.mu.Unlock()
		c.announce()
		sched.Wait(c.seat.done)
		c.receive()
		// c.result would do no more: a flight that was running when c joined it cannot be
		// rejected, and the record of a flight that was joined is not given back.
		return c.flight.result(s.group.clone)
	case queues:
		return c.queue(fn)
	}
	return c.immediate()
}

// TryDo runs fn and returns its results, unless the key has a flight: then it
// returns the zero value and [ErrInFlight] at once. It never waits for another
// call.
//
// If an outcome lingers for the key, TryDo returns its value and its error.
// A flight that has reached MaxAge does not count, unless a successor is queued
// behind it: TryDo takes over from it, as Do does. Calls that arrive while fn
// runs join its flight, as they join that of a Do.
//
// fn runs on the caller's goroutine. Panics, Goexit, Shutdown and misuse are as
// in [Group.Do]. For allocations, see “Cost” in the package documentation.
//
// TryDo suits work that need not be done by this caller, or not now. It does
// not suit a caller that needs the outcome, to which ErrInFlight looks like a
// failure; such a caller should use Do. (The kernel's first attempt at
// coalescing module loads answered in this way, with -ETXTBSY.)
func (g *Group[K, V]) TryDo(key K, fn func() (V, error)) (v V, err error) {
	must(fn != nil, "fn")
	c := caller[K, V]{inline: true}
	if c.arrive(g.use(), key, now) != leads {
		v, _, err = c.immediate()
		return v, err
	}
	c.shard.mu.Unlock()
	v, _, err = c.runInline(fn)
	return v, err
}

// DoContext is like [Group.Do], but its caller can give up: if ctx ends before
// the flight does, DoContext returns the error of ctx at once, and the flight
// goes on for the other callers.
//
// A caller that leaves gets the zero value, ctx.Err(), and whether more than
// one call took part. A result beats the end of ctx if the flight had finished
// when the caller noticed that end. A call whose ctx has ended on entry starts
// nothing and joins nothing.
//
// fn runs on a goroutine of the flight's own. Its context carries the values of
// the leader's ctx (see also [Hooks].Start) and has no deadline. It is canceled
// when the last caller has left, with the [context.Cause] of that caller's ctx
// as its cause, or by a [Group.Shutdown] that has run out of time, with
// [ErrClosed] as its cause. It is not canceled because fn returned, so a
// response body or database rows in the value stay usable. With [Hold], fn goes
// on when the last caller has left.
//
// If ctx can never end, as [context.Background], a call that leads runs fn on
// the caller's goroutine instead and gives it ctx itself, unless a Start hook
// supplies other values.
//
// After the last caller has left, fn may take its time to notice: the flight is
// abandoned. A call that finds it neither joins it nor starts a second
// execution beside it. It waits, under its own ctx, until the abandoned
// execution has ended, and then leads or follows another flight. [Group.Forget]
// and [Group.MaxAge] shorten that wait. If the abandoned fn panics, no call is
// left to panic with it: the panic is logged to [log/slog.Default] at error
// level and counted.
//
// If fn calls [runtime.Goexit], the callers get [ErrGoexit], except that a
// caller whose own goroutine ran fn exits. A call made with the context of an
// fn gets a *[DeadlockError] after 10 ms if it waits for itself. Panics, other
// errors and misuse are as in Do, and a nil ctx panics. The methods of ctx must
// not panic and must not exit the goroutine. Use Do if fn must not outlive the
// call, for example because it uses a transaction of the caller's.
//
// For allocations, see “Cost” in the package documentation.
func (g *Group[K, V]) DoContext(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	c := newCaller[K](ctx, fn)
	switch c.arrive(g.use(), key, anything) {
	case leads:
		return c.run()
	case queues:
		return c.queue(nil)
	case answered, refused:
		return c.immediate()
	}
	if c.edge != nil {
		return c.queue(nil) // its look must find it on the heap
	}
	// The rest is await, written out, so that the frames of a follower fit into the two
	// KiB of stack that its goroutine starts with (TestMemory_StackOfAFollower).
	c.seat = c.flight.sit()
	c.shard.mu.Unlock()
	c.announce()
	if !sched.WaitEither(c.seat.done, c.done) {
		return c.awaitLeft()
	}
	return c.result()
}

// DoFresh is like [Group.DoContext] but never joins an execution that began
// before it: its result comes from one that started after the call began. It
// suits a caller that has just changed data that fn reads.
//
// If the key has a flight, calls of DoFresh queue behind it, all in one
// successor. The successor starts when the flight ends, is forgotten or reaches
// MaxAge; until then calls of the other forms go on joining the running flight.
// An outcome that lingers does not answer a DoFresh, and is dropped when the
// execution that a DoFresh leads ends, even with an error. fn always runs on a
// goroutine of the flight's own, even if ctx can never end.
//
// For allocations, see “Cost” in the package documentation.
func (g *Group[K, V]) DoFresh(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	c := newCaller[K](ctx, fn)
	switch c.arrive(g.use(), key, fresh) {
	case leads:
		return c.run()
	case queues:
		return c.queue(nil)
	}
	return c.immediate()
}

// use returns the group's state and makes it at the first use.
func (g *Group[K, V]) use() *groupState[K, V] {
	gs := g.state.Load()
	if gs == nil {
		gs = g.useSlow()
	}
	return gs
}

// useSlow makes the state from the group's fields. It panics if one of them cannot be served.
// It is a separate function to keep its callers short.
//
//go:noinline
func (g *Group[K, V]) useSlow() *groupState[K, V] {
	gs := newGroupState(g)
	if !g.state.CompareAndSwap(nil, gs) {
		gs = g.state.Load() // another call was first; no goroutine has seen ours
	}
	return gs
}

// must panics if an argument of the given name is nil. It is called before anything is
// changed.
func must(given bool, name string) {
	if !given {
		panic("coalesce: nil " + name)
	}
}
