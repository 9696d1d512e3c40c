package coalesce

import (
	"context"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// A Group coalesces concurrent calls that have equal keys: fn runs once, and
// every call that joins that run receives its result.
//
// The zero Group is empty and ready to use. A Group must not be copied after
// first use. All its methods may be called concurrently, from inside fn too. As
// DoChan sends values of type V through a channel, V is limited to 64 KiB; use a
// pointer to what is larger.
//
// The exported fields configure the Group. They are read at its first use and
// must not be changed after it.
//
// In the terminology of [the Go memory model], the return of fn “synchronizes
// before” the return of every call that shares its result, and before a nil
// return of [Group.Shutdown]. A call that returns its context's error is
// synchronized with nothing.
//
// [the Go memory model]: https://go.dev/ref/mem
type Group[K comparable, V any] struct {
	// Shards is the number of locks that the keys are spread over. It is
	// rounded up to a power of two; a negative number panics at first use.
	// Zero means sixteen for each of GOMAXPROCS. Each takes 256 bytes.
	Shards int

	// Hash places keys: equal keys must have equal hashes, and it must be safe
	// for concurrent use. Its result is mixed with a secret of the group's.
	// It runs on the caller's goroutine, outside all locks. It decides about
	// speed only: whether two calls share a flight is a matter of ==.
	// Nil means [hash/maphash.Comparable] with a seed of the group's own,
	// which withstands keys that were chosen to collide. See [HashString].
	Hash func(K) uint64

	// Clone, if not nil, gives every caller of a flight that was joined, the
	// leader too, a copy of its own of the value; the original goes to nobody.
	// The same holds for a value that lingers, of which the group keeps the
	// original. Clone gets whatever fn returned, beside an error too, and may run
	// concurrently on that one value. If it panics, that caller alone is told.
	// Nil means that all callers share one value, as they do what it points to.
	Clone func(V) V

	// MaxWaiters bounds the calls that wait for one flight beside the one that
	// leads it; calls of a queued successor count apart. The next call gets
	// [ErrSaturated] at once, exactly: a caller that leaves makes room. Zero
	// means no bound; a negative number panics at first use.
	MaxWaiters int

	// MaxAge is how long a flight keeps others from starting. The first call
	// that finds a flight of that age takes over: it forgets that flight, as
	// Forget does, and leads another, which then has the same time; a DoFresh
	// queues, and leads at once. The old flight answers its own callers. A
	// successor that is queued is started when the flight before it reaches
	// that age, though no further call comes.
	// Zero means no limit; a negative duration panics at first use. With a
	// limit, every flight reads the clock when it starts and has a record.
	MaxAge time.Duration

	// Linger is for how long a success, a value that fn returned with a nil
	// error, goes on answering calls after its flight has finished. Calls of all
	// forms but DoFresh are answered by it at once, without a lock, and are told
	// that it is shared. [Group.Forget] and Shutdown drop it, and so does the
	// next flight of its key, which a DoFresh has led, when it ends or is taken
	// over from because of MaxAge. Errors, panics and Goexit never linger, nor
	// does what was returned by a flight that had been forgotten or abandoned,
	// or that a successor was queued behind.
	//
	// Zero means not at all; a negative duration panics at first use. With
	// [Forever] and no LingerMax, each key is loaded once, and errors are
	// retried by the next call. With Linger, every flight has a record, and a
	// success makes two allocations, which are freed when it has expired or, if
	// there are many, up to a sixteenth of Linger later.
	Linger time.Duration

	// LingerMax bounds the number of successes that linger. One more drops the
	// one that has lingered longest. Zero means no bound; a negative number
	// panics at first use.
	LingerMax int

	// Hooks are told of what happens to flights. Without any, they cost nothing.
	Hooks Hooks[K]

	state sched.SetOnce[groupState[K, V]] // set once, by useSlow; loaded by use and Do
}

// A Result is what a receiver of [Group.DoChan] gets, and what [Group.DoMulti]
// returns for each key.
type Result[V any] struct {
	Val V
	Err error // a *PanicError where a blocked call would panic

	// Shared reports whether more than one call took part in the flight, or
	// whether it was answered by a success that lingers.
	Shared bool
}

// Do runs fn and returns what it returns, unless a call with an equal key is
// running its own: then Do waits for that one to end and returns its result.
// shared reports whether more than one call took part, or whether the result is
// a success that lingers (see [Group.Linger]), which Do returns at once.
//
// A call that leads runs fn on its own goroutine, and returns when fn has. A
// call that follows blocks until then, whatever contexts other callers have. A
// call that finds a flight abandoned (see [Group.DoContext]) blocks until the
// fn of that one has ended, or has reached MaxAge, and then leads or follows the
// next.
//
// If fn panics, every Do panics with a *[PanicError]. If fn calls
// [runtime.Goexit], its goroutine exits and the others get [ErrGoexit]. An
// error of fn's is shared like a value. After [Group.Shutdown] Do returns
// [ErrClosed], and where MaxWaiters wait already [ErrSaturated]. Where an error
// is not fn's, v is the zero value. Do panics if fn is nil, or if key holds a
// dynamic type that cannot be compared.
//
// fn must not call Do with the same key: that waits for itself, for ever (see
// [DeadlockError] for the forms that are told). To bound the time that fn takes,
// give it a context of its own with a timeout.
//
// Do allocates nothing when nobody joins, however much fn captures, nor for a
// call that follows. The first to follow adds a channel and keeps the flight's
// record from being used again: two allocations for a flight that was joined.
// Beyond 128, each 128 waiters have a channel of their own, two allocations more;
// a leader with more than 16 waiters starts a goroutine to wake them and does not
// wait for it; and a call that is queued makes two allocations.
func (g *Group[K, V]) Do(key K, fn func() (V, error)) (v V, shared bool, err error) {
	if fn == nil {
		panicNil(false)
	}
	gs := g.state.Load() // g.use, which is not inlined
	if gs == nil {
		gs = g.useSlow()
	}
	if gs.lingering != nil {
		if p := gs.lingering.hit(key); p != nil {
			return gs.answer(p)
		}
	}
	h, reflexive := gs.hash(key)
	s := gs.shard(h)
	s.mu.Lock()
	if !s.empty() {
		return s.doSlow(h, key, reflexive, fn)
	}
	f := s.leadAlone(h, key)
	s.mu.Unlock()
	// This is runInline, written out: 24.4 ns a call instead of 33.6
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
		s.clearLone()
		s.mu.Unlock()
		return v, false, err
	}
	return s.finishInline(f, v, err)
}

// doSlow is Do where the shard has other flights, or is not plain. It is
// outlined so that the code of most leaders is short. It is entered with s.mu held
// and releases it.
func (s *shard[K, V]) doSlow(h uint64, key K, reflexive bool, fn func() (V, error)) (v V, shared bool, err error) {
	if s.plain && s.lookup(h, key, reflexive) == nil {
		f := s.lead(h, key) // as admit would say
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
		return c.flight.result(s.group.clone)
	case queues:
		return c.queue(fn)
	}
	return c.immediate()
}

// TryDo runs fn and returns what it returns, unless the key has a flight (one
// that has reached MaxAge does not count, if nobody is queued behind it): then
// it returns the zero value and [ErrInFlight] at once. A success that lingers it
// returns. Calls that come while fn runs join it, as they would a Do.
//
// fn runs on the caller's goroutine. Panics, Goexit, Shutdown, cost and
// misuse are as for [Group.Do].
//
// This is what the kernel tried first, with -ETXTBSY for an answer. It suits
// work that need not be done by this caller, or now; a caller who needs the
// outcome takes the answer for a failure. Use Do for that.
func (g *Group[K, V]) TryDo(key K, fn func() (V, error)) (v V, err error) {
	if fn == nil {
		panicNil(false)
	}
	c := caller[K, V]{inline: true}
	if c.arrive(g.use(), key, now, nil) != leads {
		v, _, err = c.immediate()
		return v, err
	}
	c.shard.mu.Unlock()
	v, _, err = c.runInline(fn)
	return v, err
}

// DoContext is like [Group.Do] for callers that can give up: when ctx ends
// before the flight does, DoContext returns ctx's error at once and the flight
// goes on for the others. A result that is there when the caller notices the
// end of ctx wins over it. A caller that leaves gets the zero value, ctx.Err()
// and whether it was shared. A ctx that has ended on entry starts nothing and
// joins nothing. The methods of ctx must not panic.
//
// fn runs on a goroutine of the flight's own. Its context carries the values
// of the leader's ctx, but not its deadline: it is canceled when the last
// caller has left, with the [context.Cause] of that caller's ctx for its
// cause, or by a [Group.Shutdown] that has run out of time, with [ErrClosed].
// It is not canceled because fn returned, so a response body or rows that are
// part of the value stay usable. If ctx can never end, as
// [context.Background], and the call leads, fn runs on the caller's goroutine
// with that very ctx.
//
// When the last caller has left, fn may take its time to notice. A call that
// comes meanwhile does not join it, nor does it start a second execution
// beside it: it waits, under its own ctx, until the abandoned one has ended,
// and is then answered by an execution of its own (see [Group.Forget] and
// [Group.MaxAge] for not waiting so long). If fn then panics and nobody is left
// to tell, the panic is logged to [log/slog.Default] at error level and counted.
//
// Panics, Goexit, Shutdown and misuse are as for Do; where fn runs on the
// flight's goroutine, all callers get [ErrGoexit]. A nil ctx panics. A caller
// whose fn must not outlive the call, because it uses the caller's
// transaction, say, uses Do.
//
// A call that leads with a ctx that can end makes two allocations: fn's context
// and the channel that it waits on; one more if fn asks its context for Done. Being joined keeps the flight
// from being used again, with what starts its goroutine: two more. A call that
// follows makes none. A context that fn derives from its own costs no
// goroutine; one derived through a [context.WithValue]
// does, until it is canceled.
func (g *Group[K, V]) DoContext(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	c := newCaller[K](ctx, fn)
	switch c.arrive(g.use(), key, anything, nil) {
	case leads:
		return c.run()
	case queues:
		return c.queue(nil)
	case answered, refused:
		return c.immediate()
	}
	// This is await, written out: so the frames of a follower fit into the two KiB
	// of stack that its goroutine was born with (TestMemory_StackOfAFollower).
	c.seat = c.flight.sit()
	c.shard.unlock(c.edge)
	c.announce()
	if !sched.WaitEither(c.seat.done, c.done) {
		return c.withdrawn()
	}
	c.edge.drop()
	return c.result()
}

// DoFresh is like [Group.DoContext] but never joins an execution that began
// before it: the result is of one that started after this call began. It suits
// a caller that has just changed what fn reads.
//
// While an execution is running, calls of DoFresh queue behind it, all in one
// successor, which starts when that execution ends or is forgotten; calls of
// the other forms go on joining the running one. fn always runs on a goroutine
// of the flight's own, even if ctx can never end.
func (g *Group[K, V]) DoFresh(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	c := newCaller[K](ctx, fn)
	switch c.arrive(g.use(), key, fresh, nil) {
	case leads:
		return c.run()
	case queues:
		return c.queue(nil)
	}
	return c.immediate()
}

// use returns the group's state, which is made at the first use.
func (g *Group[K, V]) use() *groupState[K, V] {
	gs := g.state.Load()
	if gs == nil {
		gs = g.useSlow()
	}
	return gs
}

// useSlow makes the state. It is outlined to keep its callers short.
//
//go:noinline
func (g *Group[K, V]) useSlow() *groupState[K, V] {
	gs := newGroupState(g)
	if !g.state.CompareAndSwap(nil, gs) {
		gs = g.state.Load() // another call was first; nobody has seen ours
	}
	return gs
}

// panicNil reports a misuse, before anything is touched.
func panicNil(ctx bool) {
	if ctx {
		panic("coalesce: nil context")
	}
	panic("coalesce: nil fn")
}
