package coalesce

import (
	"context"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file holds batches. A batch is one execution of fn for the flights of several
// keys, which all belong to one call of DoMulti. Each flight is registered in the shard
// of its key, can be joined, forgotten and taken over from like any other, and has
// callers of its own. The flights share fn's context, and they are abandoned and finish
// together:
//
//	DoMulti    newLoad, add for each key, counted, then a goroutine for run
//	run        the Start hook, fn, LingerFor, then finish
//	finish     conclude         from here on, a departure does not cancel fn's context
//	           end              each flight, under the lock of its own shard
//	           complete done    the DoMulti goes on
//	           wake             the calls that joined single flights
//	           hooks            Finish for each flight
//
// The state of a batch is in two parts. The flights refer to the one that is called batch
// below. The other is the load, which the DoMulti shares with the goroutine of run: the
// flights, and the results of fn. A caller of one flight must not keep the values of the
// others, nor must a value that refers to fn's context. So neither a flight nor a context
// refers to the load.
//
// Most flights of a batch are joined by no other call, and a DoMulti may lead hundreds of
// them. So the work for each of these is little:
//
//   - It has a record such as a Do uses, taken from the shard's list and put back there
//     by retire, in the critical sections in which it is registered and finished.
//   - That record has no cold part of its own, but that of the batch.
//   - The result stays in the load, and is not copied into the record.
//   - multi.lead claims its key, without a caller.
//
// A DoMulti for a hundred keys executes 129,000 instructions. Without multi.lead it is
// 146,000; if results are copied into records that the garbage collector gets, 178,000,
// and nearly a hundred allocations more. (For samber's DoX it is 291,000. These are the
// differences between 50 and 250 calls, with the GC off.)
//
//	GOMAXPROCS=1 GOGC=off GODEBUG=asyncpreemptoff=1 valgrind --tool=callgrind \
//		./benchmarks.test -test.run - -test.bench /^work=multi -test.benchtime 250x
//
// Invariants, true whenever no lock is held:
//  M1. All flights of a batch finish before any waiter is woken. Only a goroutine that
//      takes a shard's lock meanwhile, or finds an outcome that lingers, can see some
//      finished and others not.
//  M2. callers of a batch is the sum of those of its flights from counted until they
//      finish. (Before counted, the DoMulti counts once for all its keys.) If it is 0
//      while fn runs, the batch is held (hold.go), or it is abandoned, for good, and all
//      its flights with it.
//  M3. A batch's lock is taken under a shard's lock or under none. Under it, only the
//      lock of a flightContext is taken.
//  M4. claim.flight is nil if and only if the flight has finished and its record is used
//      again. It is guarded by the lock of the flight's shard until the flight has
//      finished, and does not change later.
//  M5. The cold part of a batch does not change, as it would be guarded by the locks of
//      all its flights' shards. A flight that needs its own gets a copy from extend, under
//      its shard's lock, which is therefore needed to read flight.cold.

// A batch is the common part of the flights of a batch.
type batch[K comparable, V any] struct {
	ctx  flightContext // fn's; has a lock of its own
	cold cold[K, V]    // of the flights that have none of their own; see M5

	// The goroutine of the DoMulti sets these with the first claim, before other goroutines
	// know the batch, and only if there are hooks: the ID of the first flight, for which
	// Start is called, and the started of the stories of all flights (see hooks.go).
	first   uint64
	started sched.Completion

	mu      sched.Mutex // guards the rest
	callers int         // see M2
	n       uint64      // how many flights there are; set by counted

	// panickers is, after fn has panicked, how many calls are about to panic with that, and
	// one more until finish has ended all flights.
	panickers int
}

// A load is the execution of fn for a batch.
type load[K comparable, V any] struct {
	// The goroutine of the DoMulti writes these until it has started that of run.
	batch  *batch[K, V]
	claims []claim[K, V]    // in the order of the keys
	done   sched.Completion // complete when all flights have finished
	born   int64            // sched.Now at the first claim

	fn func(context.Context, []K) (map[K]V, error) // run clears it when it calls it

	// run writes answers before the first flight finishes. The DoMulti reads it when it
	// has found, under a lock or by done, that one has.
	answers answers[K, V]

	asked   []*lingerer[K, V] // by ask, one for each claim; nil if fn has not returned, or nothing can linger
	lingers bool              // set by endKnown if a value lingers
}

// A claim is one flight of a load.
type claim[K comparable, V any] struct {
	flight *flight[K, V] // see M4
	shard  *shard[K, V]
}

// newLoad returns a load for a new batch, with room for n flights and the values of ctx
// for fn's context.
func newLoad[K comparable, V any](ctx context.Context, fn func(context.Context, []K) (map[K]V, error), n int) *load[K, V] {
	b := &batch[K, V]{callers: 1}
	b.ctx.values = ctx
	b.cold = cold[K, V]{ctx: &b.ctx, batch: b, common: true}
	return &load[K, V]{batch: b, fn: fn, claims: make([]claim[K, V], 0, n), done: sched.NewCompletion(), born: sched.Now()}
}

// add registers a new flight of l for key in s, which must be locked and have no flight
// for the key. It returns the flight. Other calls can join that as soon as the lock is
// released, although fn starts only after the last key has been claimed.
func (l *load[K, V]) add(s *shard[K, V], h uint64, key K) *flight[K, V] {
	f := s.take()
	f.cold = &l.batch.cold
	f.born = l.born
	s.register(f, h, key)
	l.claims = append(l.claims, claim[K, V]{f, s})
	return f
}

// counted makes the DoMulti count in b for each of the n flights that it leads, once it
// has claimed its last key. No lock may be held. (To count each when it is claimed would
// take one lock more for each key.)
func (b *batch[K, V]) counted(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n = uint64(n)
	b.callers += n - 1
}

// run runs fn and finishes the flights of l. It is the goroutine that DoMulti starts for
// l, after it has claimed its last key. A panic of fn ends there, in the results of the
// callers; a Goexit, also of a Start hook, goes on when the flights have finished.
func (l *load[K, V]) run() {
	fn := l.fn
	l.fn = nil
	normal := false
	defer func() {
		if normal {
			return
		}
		if r := recover(); r != nil {
			l.answers = answers[K, V]{how: panicked, err: newPanicError(r)}
		} else {
			l.answers = answers[K, V]{how: exited, err: ErrGoexit}
		}
		l.finish()
	}()
	ctx := &l.batch.ctx
	if c := l.claims[0]; c.shard.group.hooks != nil {
		c.shard.callStartOwn(c.flight, ctx) // once for all of them
	}
	l.answers = returnedBy(fn(ctx, l.keys()))
	l.ask()
	normal = true
	l.finish()
}

// ask is shard.ask for all flights of l, if an outcome may linger in the group. All are
// asked before the first flight finishes, as LingerFor is part of fn. No lock may be held.
func (l *load[K, V]) ask() {
	if l.claims[0].shard.group.lingering == nil {
		return
	}
	asked := make([]*lingerer[K, V], len(l.claims))
	for i, c := range l.claims {
		how, v, err := l.answers.of(c.flight.key)
		asked[i] = c.shard.ask(c.flight, how, v, err)
	}
	l.asked = asked
}

// finish ends all flights of l with l.answers, and then wakes all callers. No lock may be
// held. Its frame is small, as are those of end and retire: if fn needs little stack, the
// goroutine does with the stack that it begins with.
//
// Every flight is ended in a critical section of its own: two shards are never locked at
// once (S3). Between two of these sections other calls go on as usual. A call may join a
// flight that has not ended yet, or leave it; or find the key of an ended one free, and
// lead the next flight for it.
func (l *load[K, V]) finish() {
	var keys []K // for a log: a record that is used again loses its key
	if l.answers.how == panicked {
		keys = l.keys()
	}
	l.batch.conclude()
	l.wake(l.end(), keys)
}

// end ends all flights of l, and returns the work that is left. Most flights have no
// callers but the DoMulti, and leave none. No lock may be held.
func (l *load[K, V]) end() (endings []ending[K, V]) {
	for i := range l.claims {
		c := &l.claims[i]
		c.shard.mu.Lock()
		if c.flight.known || c.shard.group.lingering != nil {
			endings = l.endKnown(i, endings)
		} else {
			endings = c.retire(l.answers.how, endings)
		}
	}
	return endings
}

// endKnown ends the flight of claim i, which other goroutines know, or whose outcome may
// linger. It is entered with the lock of the flight's shard held and releases it. It
// returns endings, with the work that is left appended.
//
// A flight that no other goroutine knows is retired, unless its value lingers and has to
// be cloned for the DoMulti, which finds that out from the flight.
func (l *load[K, V]) endKnown(i int, endings []ending[K, V]) []ending[K, V] {
	c := &l.claims[i]
	f, s := c.flight, c.shard
	how, v, err := l.answers.of(f.key)
	var p, gone *lingerer[K, V]
	if l.asked != nil {
		p = l.asked[i]
	}
	if s.group.lingering != nil {
		how, gone = s.keep(f, how, p)
		l.lingers = l.lingers || how.lingers()
	}
	if !f.known && (!how.lingers() || s.group.clone == nil) {
		endings = c.retire(how, endings)
		gone.unindex()
		return endings
	}
	e := s.end(f, how, v, err)
	s.mu.Unlock()
	gone.unindex()
	if e.concerns() {
		endings = append(endings, e)
	}
	return endings
}

// retire is endKnown for a flight that no other goroutine knows. It needs no result, as
// the DoMulti has that from the load, and its record is used again.
func (c *claim[K, V]) retire(how outcome, endings []ending[K, V]) []ending[K, V] {
	f, s := c.flight, c.shard
	if how != returned {
		s.noteEnd(f, how)
	}
	f.cold = nil
	s.retire(f)
	c.flight = nil
	idle := s.idle()
	s.mu.Unlock()
	if idle != nil {
		endings = append(endings, ending[K, V]{shard: s, idle: idle})
	}
	return endings
}

// wake lets the DoMulti go on, and then does the work that the endings leave. keys are
// those of the batch, if fn has panicked. No lock may be held.
func (l *load[K, V]) wake(endings []ending[K, V], keys []K) {
	s, b := l.claims[0].shard, l.batch
	alone := b.deserted()
	// A panic that no blocking call receives is logged once for the whole batch. In
	// Stats.Panics each of its flights counts.
	logs := l.answers.how == panicked && b.forgone()
	if logs {
		s.mu.Lock()
		s.note(panicLogged, nil, nil)
		s.mu.Unlock()
	}
	sched.Complete(l.done)
	// All callers are woken before a hook runs. The last argument lets wake leave many
	// waiters to a goroutine, so that those of the next flight do not wait for them.
	for _, e := range endings {
		e.wake(s.group.clone, true)
	}
	if logs {
		defer logPanic(l.answers.err.(*PanicError), keys...)
	}
	if len(endings) > 0 {
		defer callAll(0, len(endings), func(i int) { endings[i].report(s.group.hooks) })
	}
	if alone && !l.lingers && !b.ctx.abandoned() {
		b.ctx.cancel(context.Canceled) // no call got any of the values
	}
}

// share returns the flight of claim i, which its caller keeps, or nil if that has
// finished and its record is used again. No lock may be held.
func (l *load[K, V]) share(i int32) *flight[K, V] {
	c := &l.claims[i]
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	f := c.flight
	if f != nil && f.state != finished { // known does not change once it has (see giveBack)
		f.known = true
	}
	return f
}

// keys returns the keys of the flights of l, none of which may have finished, in order.
func (l *load[K, V]) keys() []K {
	keys := make([]K, len(l.claims))
	for i := range keys {
		keys[i] = l.claims[i].flight.key
	}
	return keys
}

// conclude freezes whether b is abandoned, and begins to count its panickers. It is called
// before the first flight finishes.
//
// The value of that flight may linger even if all callers of the flight have left, and
// answer calls at once. fn's context, which the value may use, must not be canceled after
// that, when the callers of the other flights leave. No lock may be held.
func (b *batch[K, V]) conclude() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx.finished.Store(true)
	b.panickers = 1
}

// depart counts a call that leaves a flight of b, and reports whether its departure
// abandons b: the call was the last of all flights, b is not held, and fn has not
// returned (see conclude). The lock of the flight's shard must be held.
func (b *batch[K, V]) depart() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callers--
	return b.callers == 0 && b.ctx.abandon()
}

// expect counts n calls in that are about to panic with the panic of fn.
func (b *batch[K, V]) expect(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.panickers += n
}

// forgone counts one of the panickers out, and reports whether that was the last, so that
// the panic is to be logged.
func (b *batch[K, V]) forgone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.panickers--
	return b.panickers == 0
}

// deserted reports whether no caller is left.
func (b *batch[K, V]) deserted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.callers == 0
}

// size returns the number of flights of b.
func (b *batch[K, V]) size() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}
