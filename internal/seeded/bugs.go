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
		old:  "\t\tf.settle(how, v, err)\n\t\ts.unlink(f)\n\t\tf.next = nil\n\t\tdone := f.done\n\t\ts.mu.Unlock()\n",
		new: "\t\tif seeded(\"woken before unlinked\") {\n\t\t\tf.outcome, f.val, f.err = how, v, err\n\t\t\ts.mu.Unlock()\n" +
			"\t\t\tif f.done != nil {\n\t\t\t\tsched.Complete(f.done)\n\t\t\t}\n\t\t\tsched.Yield()\n\t\t\ts.mu.Lock()\n\t\t\tf.done = nil\n\t\t}\n" +
			"\t\tf.settle(how, v, err)\n\t\ts.unlink(f)\n\t\tf.next = nil\n\t\tdone := f.done\n\t\ts.mu.Unlock()\n",
		by: []string{explored},
	},
	{
		name: "two leaders",
		what: "the lock is released between the look for a flight and the registration of another",
		file: "coalesce.go",
		old:  "\t\tf := s.lead(h, key) // as admit would say\n",
		new: "\t\tif seeded(\"two leaders\") {\n\t\t\ts.mu.Unlock()\n\t\t\tsched.Yield()\n\t\t\ts.mu.Lock()\n\t\t}\n" +
			"\t\tf := s.lead(h, key) // as admit would say\n",
		by: []string{explored, stormed},
	},
	{
		name: "unconditional delete",
		what: "a forgotten flight that ends removes whatever its key has",
		file: "flight.go",
		old:  "\tif f.detached {\n\t\ts.detached.remove(f)\n",
		new: "\tif f.detached {\n\t\tif other := s.lookup(uint64(f.hash), f.key, true); other != nil && seeded(\"unconditional delete\") {\n" +
			"\t\t\ts.unlink(other)\n\t\t\tother.detached = true\n\t\t\tother.extend()\n\t\t\ts.detached.add(other)\n\t\t}\n\t\ts.detached.remove(f)\n",
		by: []string{explored, stormed, tested},
	},
	{
		name: "missed waiters",
		what: "those who wait beyond the first block are not woken",
		file: "waiter.go",
		old:  "\t\tw.blocks, w.entries = x.blocks, x.first\n",
		new:  "\t\tw.blocks, w.entries = x.blocks, x.first\n\t\tif seeded(\"missed waiters\") {\n\t\t\tw.blocks = nil\n\t\t}\n",
		by:   []string{tested},
	},
	{
		name: "lost hand-over",
		what: "the end of an abandoned flight does not promote its successor",
		file: "flight.go",
		old:  "\tf.next = nil // what still refers to f must not keep its neighbor\n",
		new: "\tf.next = nil // what still refers to f must not keep its neighbor\n" +
			"\tif f.callers == 0 && seeded(\"lost hand-over\") {\n\t\treturn nil\n\t}\n",
		by: []string{explored, tested},
	},
	{
		name: "abandoned joined",
		what: "a call joins a flight that everybody has left and whose context has ended",
		file: "admit.go",
		old:  "\tif wants != fresh && f.state == running && ",
		new: "\tif f.state == abandoned && b == nil && wants != fresh && seeded(\"abandoned joined\") {\n\t\tf.state = running\n\t}\n" +
			"\tif wants != fresh && f.state == running && ",
		by: []string{explored, tested},
	},
	{
		name: "record used again",
		what: "the record of a flight that was joined goes to the free list while followers have yet to read it",
		file: "flight.go",
		old:  "\t\tif done != nil {\n\t\t\tsched.Complete(done)\n\t\t}\n\t\treturn shared, alias\n",
		new: "\t\tif done != nil {\n\t\t\tsched.Complete(done)\n\t\t}\n\t\tif !own && seeded(\"record used again\") {\n\t\t\ts.mu.Lock()\n" +
			"\t\t\tf.callers, f.leading, f.state, f.joined, f.known, f.done, f.seated = 1, true, running, false, false, nil, 0\n" +
			"\t\t\tf.next, s.free = s.free, f\n\t\t\ts.nfree++\n\t\t\ts.mu.Unlock()\n\t\t}\n\t\treturn shared, alias\n",
		by: []string{explored, stormed},
	},
	{
		name: "record given back",
		what: "the record of a flight that was joined is given back by its leader while followers have yet to read it",
		file: "record.go",
		old:  "\tif f.joined || m.extra != nil {\n",
		new:  "\tif f.joined && !seeded(\"record given back\") || m.extra != nil {\n",
		by:   []string{explored, stormed},
	},
	{
		name: "leave not counted",
		what: "a caller that leaves still counts, so that the flight is never abandoned",
		file: "waiter.go",
		old:  "\tf.callers--\n\tif leads {\n",
		new:  "\tif !seeded(\"leave not counted\") {\n\t\tf.callers--\n\t}\n\tif leads {\n",
		by:   []string{tested, fuzzed},
	},
	{
		name: "left too early",
		what: "a flight is abandoned although one caller still waits",
		file: "waiter.go",
		old:  "\tlast := f.callers == 0\n",
		new:  "\tlast := f.callers == 0 || f.callers == 1 && seeded(\"left too early\")\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "completed twice",
		what: "a promoted call that has left is told of its turn all the same, when that has been told already",
		file: "waiter.go",
		old:  "\tafter.next.notify()\n\tif after.cancel != nil {\n",
		new: "\tafter.next.notify()\n\tif seeded(\"completed twice\") {\n\t\tafter.next.notify()\n\t}\n" +
			"\tif after.cancel != nil {\n",
		by: []string{explored, tested},
	},
	{
		name: "turn not handed on",
		what: "a call that was promoted and leaves does not hand the flight on",
		file: "waiter.go",
		old:  "\t\tif r.promoted { // every call in a flight that has not started has one\n",
		new:  "\t\tif r.promoted && !seeded(\"turn not handed on\") {\n",
		by:   []string{explored, tested},
	},
	{
		name: "cancellation beats the result",
		what: "a call whose context has ended gets its error, though there is a result",
		file: "waiter.go",
		old:  "\tc.edge.drop()\n\ts.mu.Lock()\n\tif f.state == finished {\n",
		new:  "\tc.edge.drop()\n\ts.mu.Lock()\n\tif f.state == finished && seeded(\"cancellation beats the result\") {\n\t\ts.mu.Unlock()\n\t\treturn v, f.joined, reasonOf(c.ctx)\n\t}\n\tif f.state == finished {\n",
		by:   []string{tested},
	},
	{
		name: "Goexit is a success",
		what: "after a Goexit, followers get a zero value and no error",
		file: "flight.go",
		old:  "\t\ts.mu.Lock()\n\t\ts.finish(f, exited, zero, ErrGoexit)\n",
		new:  "\t\ts.mu.Lock()\n\t\tif seeded(\"Goexit is a success\") {\n\t\t\ts.finish(f, exited, zero, nil)\n\t\t\treturn nil\n\t\t}\n\t\ts.finish(f, exited, zero, ErrGoexit)\n",
		by:   []string{explored, stormed, tested, fuzzed},
	},
	{
		name: "key dead after a panic",
		what: "a panic of fn on the leader's goroutine leaves the flight in the table",
		file: "flight.go",
		old:  "\tif e := s.unwindOwn(f, recovered); e != nil {\n",
		new:  "\tif f != nil && recovered != nil && seeded(\"key dead after a panic\") {\n\t\tpanic(newPanicError(recovered))\n\t}\n\tif e := s.unwindOwn(f, recovered); e != nil {\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "lingers past Forget",
		what: "Forget leaves the success that lingers where it is",
		file: "forget.go",
		old:  "l != nil && l.drop(key) {\n\t\tforgotten = true\n",
		new:  "l != nil && (seeded(\"lingers past Forget\") || l.drop(key)) {\n\t\tforgotten = true\n",
		by:   []string{explored, tested, fuzzed},
	},
	{
		name: "batch key left dead",
		what: "after a panic the last key of a batch is not finished",
		file: "batch.go",
		old:  "\tfor _, f := range parts {\n\t\tv, ok := m[f.key]\n",
		new: "\tif how == panicked && len(parts) > 1 && seeded(\"batch key left dead\") {\n\t\tparts = parts[:len(parts)-1]\n\t}\n" +
			"\tfor _, f := range parts {\n\t\tv, ok := m[f.key]\n",
		by: []string{explored, tested},
	},
	{
		name: "keys mixed up",
		what: "flights are looked up by the hash alone",
		file: "shard.go",
		old:  "s.solo.hash == uint32(h) && s.solo.key == key:\n",
		new:  "s.solo.hash == uint32(h) && (s.solo.key == key || seeded(\"keys mixed up\")):\n",
		by:   []string{tested},
	},
	{
		name: "shared not told",
		what: "a leader that was joined is told that it was not",
		file: "admit.go",
		old:  "\tif !f.joined {\n\t\tf.joined, f.known = true, true\n",
		new:  "\tif !f.joined {\n\t\tf.joined, f.known = !seeded(\"shared not told\"), true\n",
		by:   []string{explored, stormed, tested, fuzzed},
	},
	{
		name: "one waiter too many",
		what: "MaxWaiters lets one more in",
		file: "limits.go",
		old:  "\treturn f.followers() >= limit\n",
		new:  "\tif seeded(\"one waiter too many\") {\n\t\treturn f.followers() > limit\n\t}\n\treturn f.followers() >= limit\n",
		by:   []string{explored, fuzzed},
	},
	{
		name: "no timer for the age",
		what: "what is queued behind a flight that never ends is not promoted at MaxAge",
		file: "limits.go",
		old:  "\tif s.table.maxAge == 0 {\n\t\treturn\n",
		new:  "\tif s.table.maxAge == 0 || seeded(\"no timer for the age\") {\n\t\treturn\n",
		by:   []string{tested, fuzzed},
	},
	{
		name: "queue forgotten with the flight",
		what: "Forget does not promote the successor",
		file: "forget.go",
		old:  "\ts.detached.add(f)\n\treturn s.promote(f)\n",
		new:  "\ts.detached.add(f)\n\tif seeded(\"queue forgotten with the flight\") {\n\t\treturn nil\n\t}\n\treturn s.promote(f)\n",
		by:   []string{explored, fuzzed},
	},
	{
		name: "Shutdown leaves the forgotten",
		what: "Shutdown does not wait for forgotten flights",
		file: "shard.go",
		old:  "\treturn s.solo.taken || s.count > 0 || s.detached.first != nil\n",
		new:  "\treturn s.solo.taken || s.count > 0 || s.detached.first != nil && !seeded(\"Shutdown leaves the forgotten\")\n",
		by:   []string{tested},
	},
	{
		name: "queued behind Shutdown",
		what: "Shutdown does not reject what is queued",
		file: "shutdown.go",
		old:  "\t\tif f.queue() != nil {\n\t\t\tq := ",
		new:  "\t\tif f.queue() != nil && !seeded(\"queued behind Shutdown\") {\n\t\t\tq := ",
		by:   []string{tested, fuzzed},
	},
	{
		name: "context ended late",
		what: "a Shutdown that is out of time ends the contexts of flights that have finished since it looked",
		file: "shutdown.go",
		old: "\t\t\tif c := f.context(); c != nil && c.markUnfinished(end) {\n\t\t\t\tmarked = append(marked, c)\n\t\t\t}\n\t\t}\n\t\ts.mu.Unlock()\n" +
			"\t\tfor _, c := range marked {\n\t\t\tc.tell()\n",
		new: "\t\t\tif c := f.context(); c != nil && (seeded(\"context ended late\") || c.markUnfinished(end)) {\n\t\t\t\tmarked = append(marked, c)\n\t\t\t}\n\t\t}\n\t\ts.mu.Unlock()\n" +
			"\t\tfor _, c := range marked {\n\t\t\tc.mark(end)\n\t\t\tc.tell()\n",
		by: []string{explored},
	},
}
