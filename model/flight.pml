/*
 * The protocol of package coalesce for one key, as a model for SPIN.
 *
 * A critical section of a shard's lock is one atomic step here, and so is what
 * follows it where nobody else can tell. All else is interleaved in every way:
 * what fns do, wakes, the ends of contexts, Forget. The comment at a step names
 * the function that it abstracts.
 *
 * CALLERS callers make CALLS calls each: Do, which stays until it has an answer,
 * DoContext, DoFresh and DoChan, whose contexts may end. FORGETS calls of Forget
 * come at any time. run.sh says how to run it, README.md what is left out.
 *
 * What is checked:
 *  A1  at most one flight runs that is not forgotten                    (G1)
 *  A2  nobody joins a flight whose result somebody has had, or that all
 *      its callers have left                                        (G3, G4)
 *  A3  DoFresh gets a flight that was registered after the call began
 *  A4  a flight finishes once and its completion is closed once     (G9, F1)
 *  A5  a record is used again only if nobody can see it any more    (F4, R1)
 *  A6  every call is answered, every fn ends: where nothing can go on, all
 *      processes are over                                               (G9)
 *  A7  at the end nothing is registered, in the slot, or unfinished    (G12)
 *  A8  fn's context is canceled once nobody is interested, not before   (G7)
 *  A9  a channel is sent to once                                        (W4)
 *  A10 the leader in the solo slot finds its own flight there           (S4)
 *
 * What only the checks look at is a ghost. Ghosts are kept by those who know
 * without the protocol: a caller knows that it is interested, and who it is. A
 * call decides when it begins whether its context is to end, and an fn whether
 * it waits for its own: what could always go on would never be stuck.
 *
 * BUG=1 to 20 plant a mistake, which must be found.
 */

#ifndef CALLERS
#define CALLERS 2
#endif
#ifndef CALLS
#define CALLS 1
#endif
#ifndef FORGETS
#define FORGETS 1
#endif
#ifndef BUG
#define BUG 0
#endif

#ifndef FIRST
#define FIRST 0 /* kind of call */
#endif
#ifndef LAST
#define LAST 6
#endif

#define ALL     (CALLERS * CALLS) /* calls; each makes at most one record */
#define NONE    255
#define ITS_END 254               /* in a channel: the context's error */

mtype = { unused, running, abandoned, queued, promoted, finished };
mtype = { byDo, byContext, byFresh, byChan };

/* flight.go: flight */
typedef record {
	mtype state = unused;
	byte callers;
	bool known, detached;
	bool joined;            /* a second call has taken part */
	bool extra;             /* it has listed callers, a queue, or is forgotten: record.go */
	bool done;              /* the completion */
	bool canceled;          /* fn's context */
	byte queue = NONE;      /* the successor */
	byte before = NONE;     /* queued: the predecessor */
	byte line[ALL];         /* the entries, in order of arrival */
	byte length;

	/* ghosts */
	byte interest;          /* calls that take part and have not left */
	byte seen;              /* processes that can see it outside the lock */
	bool answered;          /* somebody has had its result */
	bool forgotten;
	byte since;             /* the DoFresh that had begun when it was registered */
};

/* caller.go: caller */
typedef invocation {
	byte flight = NONE;
	bool picked, gone;
	bool turn;              /* the completion of a blocked call */
	bool receives;          /* from DoChan */
	bool ends;              /* its context */
	byte result = NONE;     /* what is in its channel */
};

record flight[ALL];
invocation call[ALL];
byte registered = NONE;     /* the table, or the slot */
byte solo = NONE;           /* whose flight took the slot; a leader does not know it */

/* ghosts */
byte live = NONE;           /* what runs and is not forgotten */
byte begun;                 /* the DoFresh that have begun, a bit for each call */

/* record.go: take, takeOwn; callers is 1. The garbage collector
   leaves records as they are in the beginning (see release). */
inline get(r, how) {
	r = 0;
	do
	:: flight[r].state == unused -> break
	:: else -> r++; assert(r < ALL)
	od;
	assert(flight[r].seen == 0 && registered != r && solo != r); /* A5 */
	flight[r].state = how
}

inline clear(r) {
	flight[r].state = unused; flight[r].callers = 0;
	flight[r].known = false; flight[r].detached = false;
	flight[r].joined = false; flight[r].extra = false;
	flight[r].done = false; flight[r].canceled = false;
	flight[r].interest = 0; flight[r].answered = false;
	flight[r].forgotten = false; flight[r].since = 0;
	do
	:: flight[r].length > 0 -> flight[r].length--; flight[r].line[flight[r].length] = 0
	:: else -> break
	od
}

/* A process forgets r. What has finished and nobody sees is garbage. */
inline release(r) {
	flight[r].seen--;
	if
	:: flight[r].seen == 0 && flight[r].state == finished ->
		assert(registered != r && flight[r].queue == NONE && flight[r].before == NONE); /* A7 */
		clear(r)
	:: else
	fi;
	r = NONE
}

/* r is registered: table.go: link, or the lone flight */
inline register(r) {
	assert(registered == NONE);
	registered = r;
	flight[r].since = begun
}

/* Execution counts from where the flight is running to where it has finished. */
inline begin(r) {
	if
	:: !flight[r].forgotten -> assert(live == NONE); live = r /* A1 */
	:: else
	fi
}

/* queue.go: list */
inline addEntry(r, c) {
	flight[r].extra = true;
	flight[r].line[flight[r].length] = c;
	flight[r].length++
}

/* queue.go: unlist. It has to be there. */
inline removeEntry(r, c) {
	k = 0;
	do
	:: flight[r].line[k] != c -> k++; assert(k < flight[r].length)
	:: else -> break
	od;
	flight[r].length--;
	do
	:: k < flight[r].length -> flight[r].line[k] = flight[r].line[k+1]; k++
	:: else -> break
	od;
	flight[r].line[k] = 0;
	k = 0
}

/* queue.go: promote, hand. next is to be notified outside the lock. */
inline promote(r) {
	if
	:: flight[r].queue != NONE ->
		k = flight[r].queue;
		flight[r].queue = NONE;
		flight[k].before = NONE;
		flight[k].state = promoted;
		register(k);
		hand(k);
		k = 0
	:: else
	fi
}

inline hand(q) {
	next = flight[q].line[0];
	call[next].picked = true;
	if
	:: call[next].receives -> flight[q].seen++ /* lead's, which is about to run */
	:: else
	fi
}

/* queue.go: notify */
inline notify() {
	if
	:: next != NONE && call[next].receives -> run lead(next)
	:: next != NONE && !call[next].receives -> call[next].turn = true
	:: else
	fi;
	next = NONE
}

/* flight.go: remove */
inline remove(r) {
	if
	:: BUG != 1 && flight[r].detached
	:: BUG == 1 && registered != r -> registered = NONE /* whosever it is */
	:: else ->
		assert(registered == r);
		registered = NONE;
		if
		:: BUG == 2 /* nobody promotes the successor */
		:: else -> promote(r)
		fi
	fi
}

/* flight.go: finish, its critical section. The leader in the slot does not know r,
   but takes what it finds there. */
inline finish(r, inSlot) {
	assert(flight[r].state == running || flight[r].state == abandoned); /* A4 */
	if
	:: inSlot -> assert(solo == r); solo = NONE /* A10; shard.go: vacate */
	:: else
	fi;
	if
	:: live == r -> live = NONE
	:: else
	fi;
	if
	:: !flight[r].known || BUG == 3 -> /* record.go: retire */
		assert(registered == r && flight[r].queue == NONE);
		registered = NONE;
		flight[r].seen--;
		clear(r);
		r = NONE
	:: else ->
		flight[r].state = finished;
		remove(r)
	fi
}

/* flight.go: tell, outside the lock: waiter.go: wake, chan.go: deliver. The list of
   a finished flight is left to who wakes. */
inline wake(r) {
	assert(!flight[r].done); /* A4 */
	flight[r].done = true;
	do
	:: k < flight[r].length ->
		if
		:: call[flight[r].line[k]].receives -> send(flight[r].line[k], r)
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0
}

inline tell(r) {
	notify();
	wake(r)
}

inline send(c, what) {
	assert(call[c].result == NONE); /* A9 */
	call[c].result = what
}

/* waiter.go: depart: c, which has an entry if listed says so, leaves r. */
inline depart(r, c, listed) {
	flight[r].interest--;
	if
	:: BUG == 4 /* does not count */
	:: else -> flight[r].callers--
	fi;
	if
	:: listed && !(BUG == 5 && call[c].receives) -> removeEntry(r, c)
	:: else
	fi;
	if
	:: flight[r].callers > 0 ->
		if
		:: flight[r].state == promoted && call[c].picked && BUG != 6 -> hand(r)
		:: else
		fi
	:: flight[r].callers == 0 && flight[r].state == running ->
		flight[r].state = abandoned;
		cancels = (BUG != 7)
	:: flight[r].callers == 0 && flight[r].state == queued -> /* queue.go: evaporate */
		flight[r].state = finished;
		if
		:: BUG == 8
		:: else -> flight[flight[r].before].queue = NONE; flight[r].before = NONE
		fi
	:: else -> /* promoted: evaporate */
		flight[r].state = finished;
		remove(r)
	fi
}

/* waiter.go: departure.run, outside the lock */
inline cancel(r) {
	if
	:: cancels ->
		assert(flight[r].interest == 0); /* A8 */
		flight[r].canceled = true;
		cancels = false
	:: else
	fi
}

/* A flight's own goroutine: flight.go, runOwn. An fn that is patient returns when
   its context ends, or else because somebody waits for it. What only its leader
   waits for it does not look at once the lock is released: flight.go, finish. */
proctype own(byte f) {
	byte k, next = NONE;
	bool patient;

	atomic {
		select(patient : 0 .. 1);
		(!patient || flight[f].canceled || flight[f].interest > 0);
#if BUG == 9
		wake(f)
	};
	atomic {
		finish(f, false)
	};
	atomic {
		notify();
		release(f)
#elif BUG == 10
		flight[f].seen-- /* one of fn's exits does not finish */
#else
		finish(f, false);
		if
		:: f != NONE && !flight[f].extra -> wake(f); release(f)
		:: else
		fi
	};
	atomic {
		if
		:: f != NONE -> tell(f); release(f)
		:: else /* no longer there */
		fi
#endif
	}
}

/* waiter.go: wake, by a leader or, as it may leave that to one, by a goroutine */
proctype waker(byte f, next) {
	byte k;

	atomic { tell(f); release(f) }
}

/* chan.go: entry.leave, by a process that sees c's flight */
inline leaveChan() {
	atomic {
		f = call[c].flight;
		if
		:: call[c].gone || flight[f].state == finished && BUG != 11 ->
			/* A result beats the end of a context; it is about to be sent. */
			release(f);
			goto over
		:: else ->
			call[c].gone = true;
			depart(f, c, true)
		fi
	};
	atomic { notify(); cancel(f); send(c, ITS_END); release(f) }
}

/* The goroutine that a context starts when it ends: context.AfterFunc */
proctype leave(byte c) {
	byte f, k, next = NONE;
	bool cancels;

	leaveChan();
over:	skip
}

/* chan.go: entry.lead, the goroutine of a flight that was handed to c */
proctype lead(byte c) {
	byte f, k, next = NONE;
	bool cancels;

	if
	:: call[c].ends -> leaveChan()
	:: true ->
		atomic {
			f = call[c].flight;
			if
			:: !call[c].gone || BUG == 12 -> /* queue.go: start */
				assert(flight[f].state == promoted && call[c].picked);
				flight[f].state = running;
				begin(f);
				run own(f) /* it goes on as that */
			:: else -> release(f)
			fi
		}
	fi;
over:	skip
}

/* The kinds of call: Do, and each of the others with a context that does not end and
   with one that does. A caller is given its first. */
proctype caller(byte me, kind) {
	byte f = NONE, c, k, n, next = NONE;
	bool leads, listed, inSlot, cancels;
	mtype form;

	do
	:: n == CALLS -> break
	:: n < CALLS ->
#if BUG == 13
		f = registered; /* and believes it later, under the lock */
#endif
		atomic {
			c = me * CALLS + n;
			n++;
			if
			:: n > 1 -> select(kind : FIRST .. LAST)
			:: else
			fi;
			if
			:: kind == 0 -> form = byDo
			:: kind == 1 || kind == 2 -> form = byContext
			:: kind == 3 || kind == 4 -> form = byFresh; begun = begun | (1 << c)
			:: kind == 5 || kind == 6 -> form = byChan; call[c].receives = true
			fi;
			call[c].ends = (kind == 2 || kind == 4 || kind == 6);
			kind = 0;
			if
			:: form == byChan && call[c].ends -> send(c, ITS_END); goto answered /* it ended at once */
			:: true
			fi;

			/* admit.go: admit, and what each form does by the verdict, under one lock */
#if BUG != 13
			f = registered;
#endif
			if
			:: f == NONE -> /* shard.go: lead, leadOwn */
				get(f, running);
				register(f);
				flight[f].callers = 1;
				leads = true;
				if
				:: form == byDo && (solo == NONE || BUG == 14) -> solo = f; inSlot = true
				:: form == byDo && !(solo == NONE || BUG == 14)
				:: else ->
					flight[f].known = true;
					flight[f].seen++; run own(f);
					if
					:: form == byChan -> addEntry(f, c); call[c].picked = true
					:: else
					fi
				fi;
				begin(f)
			:: f != NONE && form != byFresh &&
			   (flight[f].state == running || BUG == 15 && flight[f].state == abandoned) -> /* join */
				flight[f].callers++;
				flight[f].known = true; flight[f].joined = true;
				assert(!flight[f].answered && flight[f].interest > 0); /* A2 */
				if
				:: form == byChan -> addEntry(f, c)
				:: else
				fi
			:: else -> /* queue.go: enqueue, successor */
				assert(flight[f].state == running || flight[f].state == abandoned || flight[f].state == promoted);
				if
				:: flight[f].state == promoted && (form != byFresh || BUG == 16)
				:: else ->
					if
					:: flight[f].queue == NONE ->
						k = f;
						flight[k].known = true; flight[k].extra = (BUG != 20);
						get(f, queued);
						flight[f].known = true; flight[f].extra = true;
						flight[f].before = k;
						flight[k].queue = f;
						k = 0
					:: else -> f = flight[f].queue
					fi
				fi;
				flight[f].callers++;
				addEntry(f, c);
				listed = true
			fi;
			flight[f].interest++;
			flight[f].seen++;
			call[c].flight = f;
			if
			:: form == byChan && call[c].ends -> flight[f].seen++; run leave(c)
			:: else
			fi
		};

		if
		:: form == byChan ->
			atomic {
				(call[c].result != NONE);
				if
				:: call[c].result != ITS_END -> assert(call[c].result == f); flight[f].answered = true
				:: else
				fi;
				/* The entry lives as long as somebody has it; what reads it now looks at
				   gone, or finds the flight finished. */
				goto answered
			}
		:: form == byDo && leads -> goto inline_
		:: else
		fi;

		/* queue.go: awaitTurn; waiter.go: await */
await:
		if
		:: flight[f].done ->
			atomic {
				assert(form != byFresh || (flight[f].since & (1 << c))); /* A3 */
				flight[f].answered = true;
				goto answered
			}
		:: call[c].turn ->
			atomic {
				/* queue.go: start. Who was picked stays so until it leaves. */
				call[c].turn = false;
				assert(flight[f].state == promoted && call[c].picked);
				flight[f].state = running;
				begin(f);
				removeEntry(f, c);
				listed = false;
				leads = true;
				if
				:: form != byDo -> flight[f].seen++; run own(f)
				:: else
				fi
			};
			if
			:: form == byDo -> goto inline_
			:: else -> goto await
			fi
		:: call[c].ends ->
			/* waiter.go: leave */
			atomic {
				if
				:: flight[f].state == finished && BUG != 11 ->
					flight[f].answered = true; /* a result beats the end of a context */
					goto answered
				:: else -> call[c].gone = true; depart(f, c, listed)
				fi
			};
			atomic { notify(); cancel(f); goto answered }
		fi;

		/* flight.go: runInline; fn has started */
inline_:
		atomic {
			finish(f, inSlot);
			inSlot = false;
			if
			:: f != NONE -> flight[f].seen++; flight[f].answered = true; run waker(f, next)
			:: else /* nobody else had to do with it */
			fi
		};

answered:
		atomic {
			if
			:: f != NONE && !call[c].gone -> flight[f].interest--
			:: else
			fi;
			if
			:: f != NONE && !call[c].gone && leads && (form == byContext || form == byFresh) &&
			   (!flight[f].joined || BUG == 19) && !flight[f].extra -> /* record.go: giveBack */
				assert(flight[f].state == finished && flight[f].seen == 1); /* A5 */
				flight[f].seen--;
				clear(f);
				f = NONE
			:: else
			fi;
			if
			:: f != NONE -> release(f)
			:: else
			fi;
			if
			:: !call[c].receives -> call[c].flight = NONE; call[c].picked = false; call[c].gone = false; call[c].ends = false
			:: else
			fi;
			leads = false; listed = false; c = 0; next = NONE; form = 0
		}
	od
}

/* forget.go: Forget, detach */
proctype forgetter() {
	byte f, k, n, next = NONE;

again:	do
	:: n == FORGETS -> break
	:: n < FORGETS ->
		atomic {
			n++;
			if
			:: registered == NONE
			:: else ->
				f = registered;
				flight[f].forgotten = true;
				if
				:: live == f -> live = NONE
				:: else
				fi;
				flight[f].known = (BUG != 17);
				flight[f].detached = true; flight[f].extra = true;
				registered = NONE;
				if
				:: BUG == 18
				:: else -> promote(f)
				fi;
				f = 0
			fi;
			if
			:: next == NONE -> goto again
			:: else
			fi
		};
		atomic { notify() }
	od
}

init {
	byte k, kind = FIRST;

	atomic {
		do
		:: k < CALLERS ->
			/* in order: callers who differ in nothing else can be exchanged */
			select(kind : kind .. LAST);
			run caller(k, kind);
			k++
		:: else -> break
		od;
		run forgetter()
	};
	(_nr_pr == 1); /* A6 */
	assert(registered == NONE && solo == NONE && live == NONE); /* A7 */
	k = 0;
	do
	:: k < ALL -> assert(flight[k].state == unused && flight[k].seen == 0); k++
	:: else -> break
	od
}
