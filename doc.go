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
//     [Group.ForgetFunc] does that for all keys that match,
//     [Group.ForgetFlight] for one flight out of [Group.Flights], and
//     [Group.ForgetUnshared] for a key unless other calls wait.
//   - [Group.Linger], a field, to let a value answer calls for some time after
//     its execution.
//   - [Group.LingerFor], a field, if that time depends on the value, or to let
//     an error answer calls, so that a failure holds off others for a while.
//   - [Hold], inside fn, if fn is to go on though all its callers have left.
//
// # Words
//
// A call is one caller's invocation; a flight is one execution of fn with its
// result and its waiters. The call that starts a flight leads it: its caller is
// the leader. Calls that find the flight and wait for its result join it: their
// callers are followers. A call leaves if its context ends before the flight
// does. A flight is abandoned if all its callers have left while fn still runs,
// unless fn has called [Hold]: then it is held, and goes on.
// A successor is a flight that is queued behind one that new calls must not
// join; it is promoted when its turn comes. To forget a flight is to let the
// next call start another while the first still runs. An outcome is the value
// and the error that fn returned; it lingers if it goes on answering calls
// after its flight has finished. A batch is one execution for the flights of
// several keys.
//
// # Contract: one execution, one result
//
//   - One at a time (G1). At most one execution of fn for a key runs at any
//     instant, unless a Forget of any form or [Group.MaxAge] lets another
//     start. This holds even when every caller has left and fn ignores its
//     context: a call that arrives then waits, under its own context if it has
//     one, until the abandoned execution has ended, and a later execution
//     answers it. That wait is the price of the promise.
//
//   - One answer (G2). Every caller of a flight gets the same value and the
//     same error, equal by ==, unless its own context ended first. Errors are
//     shared, and nothing is retried. With [Group.Clone] set, each caller of a
//     flight that was joined, the leader included, gets its own clone, and no
//     caller gets the original. The same holds for an outcome that lingers: the
//     callers of its flight, and those that it answers later, all get clones.
//     Clone may run concurrently. If it panics, only the caller that the clone
//     was for gets the panic, as a *[PanicError].
//
//   - Never stale (G3). A call never gets the result of a flight that had
//     finished before the call began, unless [Group.Linger] or
//     [Group.LingerFor] lets that outcome answer. One that lingers does not
//     answer at or after its end.
//
// # Contract: contexts
//
//   - Isolation (G4). The end of one caller's context never fails, delays or
//     poisons another caller. A leader whose context ends returns at once, and
//     the flight goes on for the other callers.
//
//   - A result beats a cancellation (G5). If the flight had finished when a
//     caller noticed the end of its context, the caller gets the result.
//
//   - An ended context starts nothing (G6). A call whose context has ended
//     starts no execution, joins no flight and leads no successor. It returns
//     ctx.Err().
//
//   - fn's context (G7). If fn runs on a goroutine of the flight's own (G8), it
//     gets a context that carries the values of the leader's context, or of the
//     one that [Hooks].Start has returned, and has no deadline. It is canceled
//     when the last caller has left and the flight is not held, with that
//     caller's [context.Cause] as its cause; by a Shutdown that has run out of
//     time, with [ErrClosed] as its cause; or when a flight that is held has
//     finished without a caller and without lingering (G18). It is never
//     canceled because fn returned a result that a call gets. A batch counts as
//     one flight here: its context is canceled when the last caller of all its
//     keys has left.
//
//   - Hold (G18). If fn calls [Hold], departures neither abandon its flight nor
//     cancel its context: fn goes on though all callers have left, calls that
//     arrive join it, and its outcome lingers if it may. A hold is not a call:
//     no limit and no counter counts it. If such a flight has no caller when it
//     finishes, and its outcome does not linger, its context is canceled then,
//     with [context.Canceled] as the cause.
//
// # Contract: how fn runs and ends
//
//   - Where fn runs (G8). [Group.Do] and [Group.TryDo] run fn on the goroutine
//     of the caller that leads, and so does [Group.DoContext] with a context
//     that can never end, which it passes to fn as it is, unless [Hooks].Start
//     has returned another for fn to get the values of. All other calls run
//     fn on a goroutine of the flight's own, so that the caller can leave.
//
//   - Every exit completes (G9). fn may return, panic, call [runtime.Goexit],
//     as t.FailNow does, or panic during Goexit. In each case the flight
//     finishes exactly once, the key is usable at once, no caller hangs, and
//     no caller gets a zero value with a nil error that fn did not return.
//
//   - Panics are reported (G10). Callers that block panic with a *[PanicError],
//     which they can recover like any panic; receivers of DoChan and callers of
//     DoMulti find it in their Result. A panic on a goroutine that the package
//     started never ends the process. A panic is never silent: if no call that
//     blocks is there to panic with it when the flight finishes, because all
//     have left or because only DoChan and DoMulti asked for the key, it is
//     logged to [log/slog.Default] at error level with its stack, and counted.
//     That happens once for a flight, and once for a batch. A panic of Clone is
//     logged if a receiver or a DoMulti gets it. A Goexit goes on in the
//     goroutine that fn ran on; all other callers get [ErrGoexit].
//
// # Contract: keys, memory and locks
//
//   - Any comparable key (G11). Keys are compared as a whole, with ==, and
//     never by their hashes alone. A call whose key holds a dynamic type that
//     is not comparable panics before any lock is taken. NaN does not equal
//     itself: calls with such a key never coalesce, and they leave nothing
//     behind; only [Group.ForgetFlight] and [Group.ForgetFunc] find their
//     flights. The default hash is seeded for each group, so that no outsider
//     can craft keys that pile up in one shard.
//
//   - Nothing is kept (G12). When a flight has finished and its callers have
//     returned, the group holds no reference to its key, value, error, fn or
//     context. The exception is an outcome that lingers: its key, its value and
//     its error are kept until it expires. They are freed within a second after
//     that, or a sixteenth of the time for which it has lingered if that is
//     longer, even if the group gets no more calls. A caller that leaves takes
//     its memory with it, even if the flight never ends.
//
//   - User code runs outside every lock (G13): fn, LingerFor, Clone, Hash, the
//     match of [Group.ForgetFunc], the [Hooks] and the methods of the callers'
//     contexts. All of these but Hash may use the group. fn, LingerFor and a
//     hook must not wait for the key that they are called for, nor for the
//     other keys of the same DoMulti. A hook that panics is recovered, logged
//     and counted.
//     Hash and the methods of contexts must not panic. Hooks and the methods of
//     contexts must not call [runtime.Goexit]. If one does, its own call leaves,
//     if it still takes part, and other callers are not affected, except that a
//     Goexit of the Start hook counts as one of fn; see [Hooks].
//
//   - The zero Group is ready to use (G14). It must not be copied. A Group in a
//     package variable may be used in [testing/synctest] bubbles, one after
//     another, and outside them; callers inside and outside a bubble must not
//     share a flight.
//
//   - Forget (G15), in each of its forms, lets the next call start a new flight.
//     The forgotten flight answers its own callers, and never removes or
//     disturbs its replacement. No execution that began before a [Group.Forget]
//     or a [Group.ForgetFunc] answers a call that begins after it.
//
//   - Keys do not disturb each other (G16). No lock is held while waiters are
//     woken, and waking thousands of them does not delay the leader's own
//     return.
//
//   - Memory model (G17). The return of fn “synchronizes before” the return of
//     every call that shares its result, and before a nil return of
//     [Group.Shutdown].
//
// # What it does not do
//
//   - Time limits for fn: use [context.WithTimeout] inside fn. If fn returns
//     the error of that context, all callers get it.
//   - Retries: errors are shared. A caller that gets an error may call again;
//     of the callers that do, one leads.
//   - Streams: let fn return a value that can be read many times.
//   - Sharing between processes: each process runs fn for itself.
//
// # Keys that hold secrets
//
// Two texts contain keys: that of a *[DeadlockError], and the log of a panic,
// which has the key of the flight, or up to sixteen keys of a batch. In both of
// them a key looks as [fmt.Print] shows it, and is cut at 256 bytes, with an
// ellipsis. A pointer without such a method as below is not followed. To hide a secret, give the type of the key a String method, or a
// Format method, that leaves the secret out. The method must not have a pointer
// receiver if the key is no pointer. The type of a field does not suffice if
// the field is not exported, as package fmt then calls no method of it.
//
// These methods of the key are the only ones that are called, whatever the log
// handler is: the log has the text of the key, and not the key. The panic's
// value is logged as it is. The fields [DeadlockError.Keys], Event.Key and
// Flight.Key are the keys themselves, and a program that logs or encodes one of
// them has to look after its secrets.
//
// # Deadlocks
//
// An fn that waits for its own flight, directly or through other flights, waits
// for itself: the waits form a cycle. A call that is made with the context that
// an fn was given, and that has waited for 10 ms for a flight of another call,
// is checked for this. If it is part of a cycle, it leaves its flight and gets a
// *[DeadlockError], which names the keys. One call of a cycle is refused in this
// way. In a DoMulti, it is refused for the key that closes the cycle alone. The
// groups on a cycle may have different types. The end of a flight, a Forget or
// [Group.MaxAge] may come before the check, and answer the call instead.
// [Detach] exempts work that fn starts but does not wait for.
//
// The check misses a cycle if
//   - one of its calls was not made with the context of an fn, as [Group.Do]
//     and [Group.TryDo] never are;
//   - one of its flights is led by a Do, a TryDo, or a DoContext that runs fn
//     on its caller's goroutine, as with [context.WithoutCancel];
//   - one of its calls was made with a context that has the values of fn's but
//     an end of its own, as from [context.WithTimeout] over
//     [context.WithoutCancel], and fn's context has been canceled;
//   - one of its calls was made with a context from [Detach];
//   - one of its waits is for something other than a flight.
//
// # Cost
//
// The table lists allocations, apart from those made by fn, Clone, the hooks
// and the methods of contexts. The tests TestAllocs_* check the commonest.
//
//	The first call of a group                4 more, with no option set
//	A call that leads
//	  Do, TryDo                              0
//	  DoContext, if ctx can never end        0
//	  DoContext otherwise, DoFresh           2: fn's context and a channel
//	  DoChan                                 6
//	  DoMulti, for any number of keys        7 and the map of results
//	A call that follows or is queued
//	  Do, DoContext, if it follows           0
//	  Do, DoContext, DoFresh, if queued      2; the first makes the successor
//	  DoChan, if it follows and its ctx
//	    can never end                        2
//	  DoChan otherwise                       3
//	  DoMulti, for eight keys that it joins  1
//	  DoMulti, for each queued key           a few
//	In addition
//	  fn captures variables                  1, but 0 in Do and TryDo
//	  fn asks its context for Done           1
//	  DoChan, if ctx can end                 3 with a ctx of package context
//	  a call with the context of an fn       2 for each key, and about 5 more for
//	                                         one that follows or is queued
//	  a flight that is joined                2, in a batch up to 3
//	  a flight for which no record is kept   1, 2 on a goroutine of its own
//	  a flight that Flights looks at         1, and 1 for a later flight, as its
//	                                         record is not used again
//	  each 128 waiters after the first 128   2, the first time 3
//	  a leader with more than 16 waiters     1: a goroutine that wakes them
//	  an outcome that lingers                2
//	  any hook is set                        2 to 5 for each flight, and 1 for
//	                                         each call that joins, is queued
//	                                         or leaves; 1 more for a DoChan
//	                                         that joins or is queued; 1 more
//	                                         if Start returns a context to a
//	                                         DoContext that runs fn itself;
//	                                         a few more if a flight has
//	                                         receivers and Receive is set
//
// The cost of a group depends on its use. Its first call allocates 8 bytes for
// each of its [Group.Shards] and less than 1.5 KiB for the rest; a shard is made
// when a call first comes to one of its keys.
//
// A flight has a record, which holds a V. When no flight is left, each shard that
// was used keeps at most four records for use again, and keeps more than one only
// if they have 512 bytes or less together. So with a V of 32 KiB an idle group
// keeps 32 KiB and more for each of these shards, and each flight that begins while
// another of its shard runs allocates as much. A pointer to a large value costs
// none of this.
//
// A DoMulti that leads 100 keys allocates 16 KB, the map of results included. An
// outcome that lingers takes some 170 bytes with its place in the index, apart
// from the objects to which its key, value and error refer, and each shard with
// outcomes 2 KB at least. A context that fn derives from its own costs no
// goroutine, unless a [context.WithValue] comes between the two: then it costs
// one until it is canceled.
//
// MaxAge, Linger, LingerFor and Hooks put each flight into a hash table; without
// them, a flight of Do that is alone in its shard needs none. MaxAge and Hooks
// also read the clock when a flight starts, and Hooks read it again when a call
// joins or leaves and when the flight ends. The Receive hook reads it once more
// for each call that it is called for. The clock is also read twice when an
// outcome begins to linger, and once when one is to answer a call, unless it
// lingers [Forever].
//
// The check for deadlocks is free if the call's context is
// [context.Background]. With any other context it looks up one value. A call
// from inside an fn also takes a lock that the calls of that fn share, and one
// that follows or is queued arms a timer. Only a call that has waited for 10 ms,
// and whose fn's flight other flights wait for, searches the graph of waits: one
// such call of the process at a time, and no call waits for it. Where thousands
// of such calls search a graph of thousands of waits at once, a cycle may be
// found seconds later than after 10 ms.
//
// # Origin
//
// The package descends from a filter for concurrent module loads in the Linux
// kernel (commit 9b9879fc0327, "modules: catch concurrent module loads, treat
// them as idempotent"), which has one global spinlock.
package coalesce
