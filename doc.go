// Package coalesce lets concurrent calls with equal keys share one execution of
// a function. The first call runs the function; the others wait for it and
// return the same result.
//
//	var group coalesce.Group[string, *Page]
//
//	page, shared, err := group.Do(url, func() (*Page, error) { return fetch(url) })
//
// A [Group] works within one process: nothing is shared with other processes
// or machines.
//
// # Which call do I want
//
//   - [Group.Do], if no caller needs to give up. It is the simplest form and
//     the cheapest, and it runs fn on the caller's goroutine.
//   - [Group.DoContext], if the caller has a ctx with a deadline, or one that
//     may be canceled.
//   - [Group.DoChan], to wait for several things in one select statement.
//   - [Group.DoFresh], if the caller has just written something that fn reads.
//   - [Group.TryDo], if the caller would rather do without the result than
//     wait for it.
//   - [Group.DoMulti], for many keys and a backend that loads them in bulk.
//   - [Group.Forget], if the result of a running execution is no longer good
//     enough for new calls: the next one starts another execution.
//   - [Group.Linger], a field, to let a success answer calls for some time
//     after its execution.
//
// # Words
//
// A call is one caller's invocation; a flight is one execution of fn with its
// result and its waiters. The call that starts a flight leads it: its caller is
// the leader. Calls that find the flight and wait for its result join it: their
// callers are followers. A call leaves if its context ends before the flight
// does. A flight is abandoned if all its callers have left while fn still runs.
// A successor is a flight that is queued behind one that new calls must not
// join; it is promoted when its turn comes. To forget a flight is to let the
// next call start another while the first still runs. A success lingers if it
// goes on answering calls after its flight has finished. A batch is one
// execution for the flights of several keys.
//
// # Contract
//
// One at a time (G1). At most one execution of fn for a key runs at any
// instant, unless [Group.Forget], [Group.ForgetUnshared] or [Group.MaxAge] lets
// another start.
// This holds even when every caller has left and fn ignores its context: a call
// that comes then waits, under its own context if it has one, for the abandoned
// execution to end, and is answered by another one. That wait is the price of
// the promise.
//
// One answer (G2). Everyone who joined a flight gets the same value and the
// same error, compared with ==, unless its own context ended first. Errors are
// shared, and nothing is retried. With [Group.Clone] set, every caller of a
// flight that was joined, the leader too, gets a clone of its own and the
// original goes to nobody, as does everybody whose value lingers; Clone may run concurrently, and if it panics, that
// caller alone is told.
//
// Never stale (G3). A call never gets the result of a flight that had finished
// before the call began, unless [Group.Linger] lets that success answer.
//
// Isolation (G4). The end of one caller's context never fails, delays or
// poisons another caller. A leader that gives up returns at once, and the
// flight goes on for the rest.
//
// A result beats a cancellation (G5). If the flight had finished when a caller
// noticed the end of its context, the caller gets the result.
//
// An ended context starts nothing (G6): no execution, no joining, no leading
// of a successor. The call returns ctx.Err().
//
// fn's context (G7), in the forms that give it one, carries the values of the
// leader's context and has no deadline. It is canceled when the last caller
// has left, with that caller's [context.Cause] as the cause, or by a Shutdown
// that has run out of time, and never because fn returned.
//
// Where fn runs (G8). [Group.Do] and [Group.TryDo] run it on the goroutine of
// the caller that leads, and so does [Group.DoContext] with a context that can
// never end. All else runs it on a goroutine of the flight's own, so that the
// caller can leave.
//
// Every exit completes (G9). Whether fn returns, panics, or calls
// [runtime.Goexit], be it by t.FailNow, and even if it panics during Goexit:
// the flight is finished once, the key is usable at once, nobody hangs, and
// nobody gets a zero value with a nil error.
//
// Panics are told (G10). Callers that block panic with a *[PanicError], to be
// recovered like any panic; receivers and callers of DoMulti find it in their
// Result. On a goroutine of the package's own a panic never ends the process. If
// nobody is left to be told, the panic is logged to [log/slog.Default] at error
// level with its stack, and counted. A Goexit goes on in the goroutine that fn
// ran on; all others get [ErrGoexit].
//
// Any comparable key (G11). Equality is that of the whole key, never of its
// hash. A key that holds an unhashable dynamic type panics before any lock is
// taken. NaN equals nothing: such calls never coalesce, and leave nothing
// behind. The default hash is seeded for each group, so that nobody can craft
// keys that pile up in one shard.
//
// Nothing is kept (G12). When a flight has finished and its callers have
// returned, the group holds no reference to its key, value, error, fn or
// context, but to the values and keys of successes that linger, until they
// expire, in a quiet group too. A caller that leaves takes its memory with it, also from a flight
// that never ends.
//
// User code runs outside every lock (G13): fn, Clone, Hash, the [Hooks], and the
// methods of the callers' contexts. All may use the group, [Hooks] not for the keys
// that they are called for. Hash and the contexts' methods must not panic.
//
// The zero Group is ready to use (G14) and must not be copied. A Group in a
// package variable may be used in testing/synctest bubbles, one after another,
// and outside them; one flight must not be shared by callers inside and outside
// of a bubble.
//
// Forget (G15) lets the next call start a fresh flight. The forgotten one
// answers its own callers, and never removes or disturbs its replacement.
//
// Keys do not disturb each other (G16). No lock is held while waiters are
// woken, and waking thousands does not delay the leader's own return.
//
// Memory model (G17). The return of fn “synchronizes before” the return of
// every call that shares its result, and before a nil return of
// [Group.Shutdown].
//
// # What it does not do
//
// Time limits for fn: use [context.WithTimeout] inside fn; when it returns the
// error, all callers get it. Retries: errors are shared; a caller that gets one
// calls again, and one of those who do leads. Streams: share a value that can
// be read many times instead.
//
// # Deadlocks
//
// An fn that calls for its own key, or for a key whose fn calls for its own,
// would wait for itself. A call made with the context that fn was given is
// refused with a *[DeadlockError] then, which names the keys; groups of different
// types may be part of the circle. So is one that MaxAge would release, as a
// DoFresh for fn's own key. [Detach] exempts work that fn does not wait for.
//
// What cannot be seen is a call that does not carry such a context: a
// [Group.Do] or [Group.TryDo], whichever end of the wait it is; a DoContext that
// runs fn on its caller's goroutine, as with [context.WithoutCancel]; and a wait
// for something that is not a flight. The check costs nothing where the context
// is [context.Background], one look-up of a value in any other, and for a call
// from inside an fn a lock that all such calls of the process share.
//
// # Origin
//
// The package descends from a filter for concurrent module loads in the Linux
// kernel (commit 9b9879fc0327, "modules: catch concurrent module loads, treat
// them as idempotent"), which has one global spinlock.
package coalesce
