package main

// This file holds the bugs: mistakes that somebody could make in package coalesce,
// most of which somebody has made in a package like it. Each is a change to the
// text of one file, in which seeded("name") says whether it is switched on.

// A bug is a mistake.
type bug struct {
	name string // in few words
	what string // goes wrong, for a reader
	file string
	old  string // occurs once in the file
	new  string
	by   []string // the detectors that must find it
}

var bugs = []bug{
	{
		name: "woken before unlinked",
		what: "waiters are woken before their flight is taken out of the table: who has been answered can join it again",
		file: "flight.go",
		old:  "\tnext := s.takeOut(f)\n\tf.setOutcome(how, v, err)\n",
		new:  "\tif seeded(\"woken before unlinked\") && f.state == running && f.done != nil {\n\t\tf.outcome, f.val, f.err = how, v, err\n\t\ts.mu.Unlock()\n\t\tsched.Complete(f.done)\n\t\tsched.Yield()\n\t\ts.mu.Lock()\n\t\tf.done = nil\n\t}\n\tnext := s.takeOut(f)\n\tf.setOutcome(how, v, err)\n",
		by:   []string{explored},
	},
	{
		name: "two leaders",
		what: "the lock is released between the look for a flight and the registration of another",
		file: "coalesce.go",
		old:  "\tif s.plain && s.lookup(h, key, reflexive) == nil {\n",
		new:  "\tif s.plain && s.lookup(h, key, reflexive) == nil {\n\t\tif seeded(\"two leaders\") {\n\t\t\ts.mu.Unlock()\n\t\t\tsched.Yield()\n\t\t\ts.mu.Lock()\n\t\t}\n",
		by:   []string{explored, stormed},
	},
	{
		name: "unconditional delete",
		what: "a forgotten flight that ends removes whatever its key has",
		file: "flight.go",
		old:  "\tcase f.detached:\n\t\ts.detached.remove(f)\n",
		new:  "\tcase f.detached:\n\t\tif other := s.lookup(uint64(f.hash), f.key, true); other != nil && seeded(\"unconditional delete\") {\n\t\t\ts.unregister(other)\n\t\t\tother.detached = true\n\t\t\tother.extend()\n\t\t\ts.detached.push(other)\n\t\t}\n\t\ts.detached.remove(f)\n",
		by:   []string{explored, stormed, tested},
	},
	{
		name: "missed waiters",
		what: "those who wait beyond the first block are not woken",
		file: "flight.go",
		old:  "\t\te.blocks, e.first = c.blocks.last, c.callers.first\n",
		new:  "\t\te.blocks, e.first = c.blocks.last, c.callers.first\n\t\tif seeded(\"missed waiters\") {\n\t\t\te.blocks = nil\n\t\t}\n",
		by:   []string{tested},
	},
	{
		name: "lost hand-over",
		what: "the end of an abandoned flight does not promote its successor",
		file: "flight.go",
		old:  "\t\ts.unregister(f)\n\t\tnext = s.promote(f)\n",
		new:  "\t\ts.unregister(f)\n\t\tif f.callers == 0 && seeded(\"lost hand-over\") {\n\t\t\treturn nil\n\t\t}\n\t\tnext = s.promote(f)\n",
		by:   []string{explored, tested},
	},
	{
		name: "abandoned joined",
		what: "a call joins a flight that everybody has left and whose context has ended",
		file: "admit.go",
		old:  "f.state == running && !f.abandoned() && !s.overdue(f)\n",
		new:  "f.state == running && (!f.abandoned() || b == nil && seeded(\"abandoned joined\")) && !s.overdue(f)\n",
		by:   []string{explored, tested},
	},
	{
		name: "record used again",
		what: "the record of a flight that was joined goes to the free list while followers have yet to read it",
		file: "flight.go",
		old:  "\te.wake(s.group.clone, !own)",
		new: "\tdefer func() {\n\t\tif f.joined && f.cold == nil && seeded(\"record used again\") {\n\t\t\ts.mu.Lock()\n" +
			"\t\t\tf.callers, f.leading, f.state, f.joined, f.known, f.done, f.seated = 1, true, running, false, false, nil, 0\n" +
			"\t\t\tf.next, s.free = s.free, f\n\t\t\ts.nfree++\n\t\t\ts.mu.Unlock()\n\t\t}\n\t}()\n\te.wake(s.group.clone, !own)",
		by: []string{explored, stormed},
	},
	{
		name: "record given back",
		what: "the record of a flight that was joined is given back by its leader while followers have yet to read it",
		file: "record.go",
		old:  "\tif f.known {\n\t\treturn\n",
		new:  "\tif f.known && !(f.joined && f.cold != nil && f.cold.shard != nil && seeded(\"record given back\")) {\n\t\treturn\n",
		by:   []string{explored, stormed},
	},
	{
		name: "leave not counted",
		what: "a caller that leaves still counts, so that the flight is never abandoned",
		file: "caller.go",
		old:  "\tf.callers--\n\tif c.leads {\n",
		new:  "\tif !seeded(\"leave not counted\") {\n\t\tf.callers--\n\t}\n\tif c.leads {\n",
		by:   []string{tested, fuzzed},
	},
	{
		name: "left too early",
		what: "a flight is abandoned although one caller still waits",
		file: "caller.go",
		old:  "\tlast, b := f.callers == 0, f.batch()\n",
		new:  "\tlast, b := f.callers == 0 || f.callers == 1 && f.context() != nil && seeded(\"left too early\"), f.batch()\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "completed twice",
		what: "a promoted call that has left is told of its turn all the same, when that has been told already",
		file: "caller.go",
		old:  "\tnext.notify()\n\treturn true\n",
		new:  "\tnext.notify()\n\tif seeded(\"completed twice\") {\n\t\tnext.notify()\n\t}\n\treturn true\n",
		by:   []string{explored, tested},
	},
	{
		name: "turn not handed on",
		what: "a call that was promoted and leaves does not hand the flight on",
		file: "caller.go",
		old:  "\tcase !last && f.state == promoted && c.promoted:\n",
		new:  "\tcase !last && f.state == promoted && c.promoted && !seeded(\"turn not handed on\"):\n",
		by:   []string{explored, tested},
	},
	{
		name: "cancellation beats the result",
		what: "a call whose context has ended gets its error, though there is a result",
		file: "caller.go",
		old:  "\tif !c.withdraw(c.ctx) {\n\t\treturn c.result()\n",
		new:  "\tif !c.withdraw(c.ctx) && !seeded(\"cancellation beats the result\") {\n\t\treturn c.result()\n",
		by:   []string{tested},
	},
	{
		name: "Goexit is a success",
		what: "after a Goexit, followers get a zero value and no error",
		file: "flight.go",
		old:  "\t\ts.mu.Lock()\n\t\ts.finish(f, exited, zero, ErrGoexit, nil)\n",
		new:  "\t\ts.mu.Lock()\n\t\tif seeded(\"Goexit is a success\") {\n\t\t\ts.finish(f, exited, zero, nil, nil)\n\t\t\treturn nil\n\t\t}\n\t\ts.finish(f, exited, zero, ErrGoexit, nil)\n",
		by:   []string{explored, stormed, tested, fuzzed},
	},
	{
		name: "key dead after a panic",
		what: "a panic of fn on the leader's goroutine leaves the flight in the table",
		file: "flight.go",
		old:  "\tif e := s.unwindOwn(f, recovered); e != nil {\n",
		new:  "\tif f != s.lone && recovered != nil && seeded(\"key dead after a panic\") {\n\t\tpanic(newPanicError(recovered))\n\t}\n\tif e := s.unwindOwn(f, recovered); e != nil {\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "lingers past Forget",
		what: "Forget leaves the outcome that lingers where it is",
		file: "forget.go",
		old:  "s.group.lingering != nil && s.drop(uint32(h), key) {\n\t\tforgotten = true\n",
		new:  "s.group.lingering != nil && (seeded(\"lingers past Forget\") || s.drop(uint32(h), key)) {\n\t\tforgotten = true\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "batch key left dead",
		what: "after a panic the last key of a batch is not finished",
		file: "batch.go",
		old:  "\tl.wake(l.end(), keys)\n",
		new: "\tif l.answers.how == panicked && len(l.claims) > 1 && seeded(\"batch key left dead\") {\n" +
			"\t\tl.claims = l.claims[:len(l.claims)-1]\n\t}\n\tl.wake(l.end(), keys)\n",
		by: []string{explored, tested},
	},
	{
		name: "keys mixed up",
		what: "flights are looked up by the hash alone",
		file: "shard.go",
		old:  "s.loneHash == uint32(h) && s.loneKey == key:\n",
		new:  "s.loneHash == uint32(h) && (s.loneKey == key || seeded(\"keys mixed up\")):\n",
		by:   []string{tested},
	},
	{
		name: "shared not told",
		what: "a leader that was joined is told that it was not",
		file: "admit.go",
		old:  "\t\tf.joined, f.known = true, true\n",
		new:  "\t\tf.joined, f.known = !seeded(\"shared not told\"), true\n",
		by:   []string{explored, stormed, tested, fuzzed},
	},
	{
		name: "one waiter too many",
		what: "MaxWaiters lets one more in",
		file: "limits.go",
		old:  "\treturn waiters >= s.group.maxWaiters\n",
		new:  "\tif seeded(\"one waiter too many\") {\n\t\treturn waiters > s.group.maxWaiters\n\t}\n\treturn waiters >= s.group.maxWaiters\n",
		by:   []string{explored, fuzzed},
	},
	{
		name: "no timer for the age",
		what: "what is queued behind a flight that never ends is not promoted at MaxAge",
		file: "limits.go",
		old:  "\tif s.group.maxAge == 0 {\n\t\treturn\n",
		new:  "\tif s.group.maxAge == 0 || seeded(\"no timer for the age\") {\n\t\treturn\n",
		by:   []string{tested, fuzzed},
	},
	{
		name: "queue forgotten with the flight",
		what: "Forget does not promote the successor",
		file: "forget.go",
		old:  "\ts.detached.push(f)\n\treturn s.promote(f)\n",
		new:  "\ts.detached.push(f)\n\tif seeded(\"queue forgotten with the flight\") {\n\t\treturn nil\n\t}\n\treturn s.promote(f)\n",
		by:   []string{explored, fuzzed},
	},
	{
		name: "Shutdown leaves the forgotten",
		what: "Shutdown does not wait for forgotten flights",
		file: "shard.go",
		old:  "\treturn s.alone || s.count > 0 || s.detached.first != nil\n",
		new:  "\treturn s.alone || s.count > 0 || s.detached.first != nil && !seeded(\"Shutdown leaves the forgotten\")\n",
		by:   []string{tested},
	},
	{
		name: "queued behind Shutdown",
		what: "Shutdown does not reject what is queued",
		file: "shutdown.go",
		old:  "\t\tif q := f.queue(); q != nil {\n",
		new:  "\t\tif q := f.queue(); q != nil && !seeded(\"queued behind Shutdown\") {\n",
		by:   []string{tested, fuzzed},
	},
	{
		name: "context ended late",
		what: "a Shutdown that is out of time ends the contexts of flights that have finished since it looked",
		file: "shutdown.go",
		old:  "\t\t\tif c := f.context(); c != nil && c.markUnfinished(end) {\n\t\t\t\tmarked = append(marked, c)\n\t\t\t}\n\t\t}\n\t})\n\tfor _, c := range marked {\n",
		new:  "\t\t\tif c := f.context(); c != nil && (seeded(\"context ended late\") || c.markUnfinished(end)) {\n\t\t\t\tmarked = append(marked, c)\n\t\t\t}\n\t\t}\n\t})\n\tfor _, c := range marked {\n\t\tc.mark(end)\n",
		by:   []string{explored},
	},
}
