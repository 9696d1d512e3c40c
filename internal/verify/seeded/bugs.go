package main

// This file holds the bugs: mistakes that are easily made in package coalesce, most of
// which have been made in a package like it. Each is a mutant of the package.

// A bug is a mistake.
type bug struct {
	name string   // in few words
	what string   // goes wrong, for a reader
	key  string   // of the mutant, as in internal/verify/mutate
	by   []string // the detectors that must find it
}

var bugs = []bug{
	{
		name: "ended without the lock",
		what: "a flight ends after its lock has been released: a call can join it meanwhile, and is not woken",
		key:  "shard.finish swap 3/4",
		by:   []string{pairs},
	},
	{
		name: "two leaders",
		what: "the lock is released between the look for a flight and the registration of another",
		key:  "shard.doSlow window 1/3",
		by:   []string{releases, stormed},
	},
	{
		name: "unconditional delete",
		what: "a forgotten flight that ends is taken out of the table, where another flight has its key",
		key:  "shard.takeOut false 2/2",
		by:   []string{inlines, stormed, tested},
	},
	{
		name: "missed waiters",
		what: "waiters beyond the first block are not woken",
		key:  "ending.wakeMany false 1/8",
		by:   []string{tested},
	},
	{
		name: "lost hand-over",
		what: "the end of a flight does not promote its successor",
		key:  "shard.takeOut delete 5/5",
		by:   []string{pairs, tested},
	},
	{
		name: "abandoned joined",
		what: "a call joins a flight that all callers have left and whose context has ended",
		key:  "flightContext.abandon delete 3/3",
		by:   []string{pairs, tested},
	},
	{
		name: "record used again",
		what: "the record of a lone flight that was joined is used again while followers have yet to read it",
		key:  "shard.unregister delete 2/4",
		by:   []string{inlines, stormed},
	},
	{
		name: "record given back",
		what: "the record of a flight that was joined is given back while callers have yet to read it",
		key:  "flight.giveBack false 1/4",
		by:   []string{inlines, stormed},
	},
	{
		name: "leave not counted",
		what: "a caller that leaves still counts, so that the flight is never abandoned",
		key:  "shard.depart delete 1/12",
		by:   []string{tested, fuzzed},
	},
	{
		name: "left too early",
		what: "a flight is abandoned while one caller still waits",
		key:  "shard.depart plus-one 1/1",
		by:   []string{pairs, tested, fuzzed},
	},
	{
		name: "completed twice",
		what: "when a call leaves a promoted flight, the caller whose turn it is is notified once more",
		key:  "shard.depart ignore 5/7",
		by:   []string{triples, tested},
	},
	{
		name: "turn not handed on",
		what: "a call that was promoted and leaves does not hand the flight on",
		key:  "shard.depart false 8/11",
		by:   []string{triples, tested},
	},
	{
		name: "cancellation beats the result",
		what: "a call whose context has ended gets its error, though there is a result",
		key:  "caller.awaitLeft false 1/1",
		by:   []string{tested},
	},
	{
		name: "Goexit is a success",
		what: "after a Goexit, followers get a zero value and no error",
		key:  "shard.unwindOwn nil 1/1",
		by:   []string{inlines, stormed, tested, fuzzed},
	},
	{
		name: "key dead after a panic",
		what: "a panic of fn on the leader's goroutine leaves its flight in the table",
		key:  "shard.runInline delete 2/6",
		by:   []string{inlines, tested, fuzzed},
	},
	{
		name: "lingers past Forget",
		what: "Forget leaves the outcome that lingers where it is",
		key:  "shard.drop true 1/1",
		by:   []string{lingering, tested, fuzzed},
	},
	{
		name: "batch keys left dead",
		what: "after a panic the flights of a batch are not finished",
		key:  "load.run delete 5/10",
		by:   []string{pairs, tested},
	},
	{
		name: "keys mixed up",
		what: "flights are looked up by the hash alone",
		key:  "shard.lookup ignore 3/3",
		by:   []string{tested},
	},
	{
		name: "shared not reported",
		what: "a leader that was joined returns that it was not",
		key:  "shard.join delete 1/7",
		by:   []string{inlines, stormed, tested, fuzzed},
	},
	{
		name: "one waiter too many",
		what: "MaxWaiters lets one more in",
		key:  "shard.full boundary 1/1",
		by:   []string{maxWaiters, fuzzed},
	},
	{
		name: "no timer for the age",
		what: "a call that is queued behind a flight that never ends is not promoted at MaxAge",
		key:  "shard.watchAge true 1/2",
		by:   []string{tested, fuzzed},
	},
	{
		name: "queue forgotten with the flight",
		what: "Forget does not notify the caller to which it hands the successor",
		key:  "Group.forget delete 8/8",
		by:   []string{pairs, fuzzed},
	},
	{
		name: "Shutdown leaves the forgotten",
		what: "Shutdown does not wait for forgotten flights",
		key:  "shard.busy ignore 3/3",
		by:   []string{tested},
	},
	{
		name: "queued behind Shutdown",
		what: "Shutdown does not reject queued calls",
		key:  "shard.rejectAll false 1/2",
		by:   []string{tested, fuzzed},
	},
	{
		name: "context ended late",
		what: "a Shutdown that is out of time ends the contexts of flights that have finished since it looked",
		key:  "flightContext.markUnfinished ignore 2/2",
		by:   []string{pairs},
	},
	{
		name: "hold ignored",
		what: "the last caller that leaves abandons its flight though that is held",
		key:  "flightContext.abandon ignore 1/2",
		by:   []string{stormed, tested},
	},
	{
		name: "held context left open",
		what: "fn's context does not end when a flight that was held finishes without a caller",
		key:  "flight.lost true 1/1",
		by:   []string{stormed, tested},
	},
	{
		name: "an ID for each key",
		what: "flights of a key have the same ID, one after the other: ForgetFlight forgets the one that has come since",
		key:  "shard.idOf delete 2/3",
		by:   []string{stormed, tested},
	},
	{
		name: "answers at its end",
		what: "an outcome that lingers still answers at the very moment when its time has come",
		key:  "lingerer.live boundary 2/2",
		by:   []string{tested},
	},
	{
		name: "failed key absent",
		what: "a key of a batch that has an error and no value counts as absent: LingerFor and the caller get another error",
		key:  "answers.of ignore 3/4",
		by:   []string{stormed, tested},
	},
	{
		name: "Receive for a leader",
		what: "a call that was queued and has come to lead has its Receive hook called as well as Start",
		key:  "caller.hears ignore 2/3",
		by:   []string{stormed, tested},
	},
}
