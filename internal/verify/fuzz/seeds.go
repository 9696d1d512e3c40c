package fuzz

import (
	"slices"

	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// The ends of an fn, as steps. The argument picks the fn, by age.
const (
	opReturn = opFinish + byte(model.Return)
	opFail   = opFinish + byte(model.Error)
	opPanic  = opFinish + byte(model.Panic)
	opExit   = opFinish + byte(model.Goexit)
)

// fuzzSeeds are the programs that FuzzGroup starts from, by configuration.
var fuzzSeeds = slices.Concat(tableSeeds, holdSeeds, outcomeSeeds, forgetSeeds)

// A fuzzSeed is some programs with the same configuration.
type fuzzSeed struct {
	conf  int
	steps [][]byte
}

// tableSeeds are a few programs for each row and column of the state table.
var tableSeeds = []fuzzSeed{
	{0, [][]byte{
		// Lead, join in all forms, every exit.
		{opDo, 0, opDo, 0, opContext, 0, opContext, argCancel, opChan, 0, opTry, 0, opReturn, 0},
		{opContext, 0, opDo, 0, opContext, argCancel, opChan, argCancel, opFail, 0},
		{opContext, argCancel, opDo, 0, opContext, 0, opChan, 0, opPanic, 0},
		{opChan, 0, opDo, 0, opContext, argCancel, opChan, argCancel, opExit, 0},
		{opFresh, 0, opFresh, 0, opDo, 0, opReturn, 0, opChan, 0, opReturn, 0},
		{opTry, 0, opDo, 0, opChan, 0, opExit, 0, opDo, 0, opPanic, 0},
		// Two keys, each with its own exits.
		{opDo, 0, opDo, 1, opContext, 0, opContext, 1, opPanic, 1, opReturn, 0},
		// No call joins, one key beside the other: records are used again.
		{opDo, 0, opDo, 1, opReturn, 1, opTry, 1, opFail, 1, opContext, 2, opPanic, 1, opDo, 1, opExit, 1, opReturn, 0},
		// Contexts that have ended on entry.
		{opContext, argEnded, opDo, 0, opContext, argEnded, opChan, argEnded, opFresh, argEnded, opReturn, 0},
		// The leader leaves, then the follower; a newcomer waits behind them.
		{opContext, argCancel, opContext, argCancel, opCancel, 0, opCancel, 1, opDo, 0, opTry, 0, opChan, 0, opReturn, 0, opReturn, 0},
		{opChan, argCancel, opCancel, 0, opContext, argCancel, opChan, argCancel, opDo, 0, opFail, 0, opCancel, 1, opReturn, 0},
		// fn that honors its context.
		{opContext, argCancel | argHonors, opFresh, argCancel, opCancel, 0, opReturn, 0},
		{opChan, argCancel | argHonors, opDo, 0, opCancel, 0, opPanic, 0},
		// All leave a queue: it evaporates.
		{opDo, 0, opFresh, argCancel, opFresh, argCancel, opCancel, 0, opCancel, 1, opReturn, 0, opDo, 0, opReturn, 0},
		// The first in the queue leaves, the next is promoted.
		{opContext, 0, opFresh, argCancel, opFresh, 0, opCancel, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opFresh, 0, opReturn, 0, opExit, 0},
		// A panic that no call is left to get.
		{opContext, argCancel, opCancel, 0, opPanic, 0, opDo, 0, opReturn, 0},
		// Forget: running, joined, abandoned, with a queue, forgotten twice.
		{opDo, 0, opForget, 0, opDo, 0, opForget, 0, opDo, 0, opReturn, 1, opReturn, 0, opReturn, 0},
		{opChan, argCancel, opFresh, 0, opForget, 0, opCancel, 0, opContext, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opDo, 0, opForget, 0, opContext, 0, opReturn, 1, opReturn, 0},
		{opDo, 0, opForget, argInside, opDo, 0, opForgetUnshared, argInside, opTry, 0, opReturn, 0},
		// The replacement outlives the forgotten flight.
		{opDo, 0, opForget, 0, opContext, 0, opReturn, 0, opDo, 0, opTry, 0, opFail, 0},
		// ForgetUnshared: alone, joined, joined and left, abandoned, no flight.
		{opForgetUnshared, 0, opDo, 0, opForgetUnshared, 0, opDo, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opDo, 0, opForgetUnshared, 0, opReturn, 0},
		{opContext, argCancel, opContext, argCancel, opCancel, 1, opForgetUnshared, 0, opCancel, 0, opForgetUnshared, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opForgetUnshared, 0, opReturn, 0, opReturn, 0},
		// Shutdown: idle, running, with a queue, out of time.
		{opDo, 0, opShutdown, 0, opReturn, 0},
		{opDo, 0, opChan, 1, opDo, 2, opContext, 3, opShutdown, 0, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opShutdown, 0, opDo, 0, opContext, argCancel, opChan, 0, opFresh, 0, opTry, 0, opContext, argEnded},
		{opContext, argCancel, opDo, 0, opFresh, 0, opFresh, argCancel, opShutdown, 0, opForget, 0, opChan, 0, opReturn, 0},
		{opContext, argCancel | argHonors, opDo, 1, opForget, 0, opFresh, 0, opChan, argCancel, opShutdown, 0, opOutOfTime, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opDo, 0, opShutdown, 0, opOutOfTime, 0, opReturn, 0},
		// Slow contexts: the one whose turn has come does not go on yet. Meanwhile
		// others come, leave, forget, shut down.
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opDo, 0, opTry, 0, opFresh, 0, opResume, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opContext, argCancel, opReturn, 0, opDo, 0, opCancel, 0, opResume, 0, opReturn, 0},
		{opChan, argCancel, opCancel, 0, opChan, argCancel | argSlow, opChan, argCancel, opReturn, 0, opCancel, 1, opResume, 0, opReturn, 0},
		{opChan, argCancel, opCancel, 0, opChan, argCancel | argSlow, opChan, argCancel | argSlow, opReturn, 0, opFresh, 0, opForget, 0, opResume, 0, opResume, 0, opReturn, 1, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opFresh, argCancel, opCancel, 0, opForgetUnshared, 0, opResume, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opChan, 0, opForgetUnshared, 0, opShutdown, 0, opResume, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opForget, 0, opFresh, 0, opShutdown, 0, opResume, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opChan, argCancel | argSlow, opDo, 0, opPanic, 0, opCancel, 1, opResume, 0, opReturn, 0},
		{opContext, argCancel | argSlow, opDo, 0, opCancel, 0, opForgetUnshared, 0, opReturn, 0, opResume, 0},
		// DoMulti: leads some keys, joins others, each once; every exit, absent keys.
		{opMulti, argTwo, opDo, 1, opTry, 0, opChan, 0, opReturn, 0},
		{opDo, 1, opMulti, argTwice, opDo, 2, opReturn, 1, opReturn, 0},
		{opDo, 0, opDo, 1, opMulti, argTwo, opReturn, 0, opReturn, 0, opMulti, argEnded | argAll},
		{opMulti, argAll | argAbsent, opDo, 1, opChan, 2, opContext, argCancel | 3, opReturn, 0},
		{opMulti, argDown | argAbsent, opDo, 1, opChan, 2, opFail, 0, opMulti, argTwo, opExit, 0},
		{opMulti, argAll, opDo, 1, opChan, 2, opMulti, argDown, opPanic, 0, opMulti, argTwo, opContext, 1, opExit, 0},
		{opMulti, argTwo, opMulti, argDown, opFresh, 0, opFresh, 1, opReturn, 1, opReturn, 0, opReturn, 0, opReturn, 0},
		// It leaves: it gets the results of finished flights; the flights of others go
		// on.
		{opDo, 1, opMulti, argCancel | argTwo, opReturn, 1, opCancel, 0, opReturn, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel | 1, opCancel, 0, opTry, 0, opDo, 0, opChan, 1, opPanic, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel | 1, opCancel, 0, opForgetUnshared, 0, opForgetUnshared, 1, opCancel, 0, opTry, 1, opReturn, 0},
		// A batch is abandoned when its last caller has left its last flight.
		{opMulti, argCancel | argTwo, opCancel, 0, opDo, 0, opFresh, 1, opTry, 1, opForgetUnshared, 1, opPanic, 0, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argHonors | argTwo, opContext, argCancel | 1, opMulti, argCancel | argDown, opCancel, 0, opCancel, 0, opFresh, 1, opCancel, 0, opReturn, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel, opCancel, 0, opForgetUnshared, 0, opCancel, 0, opForgetUnshared, 0, opDo, 0, opDo, 1, opReturn, 0, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argTwo, opForget, 0, opDo, 0, opCancel, 0, opDo, 1, opReturn, 0, opReturn, 0, opReturn, 0},
		// A key whose flight is abandoned is queued, and led alone.
		{opContext, argCancel, opCancel, 0, opMulti, argTwo | argAbsent, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo | argAbsent, opChan, 1, opReturn, 1, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opMulti, argCancel | argTwo, opChan, 0, opReturn, 1, opCancel, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opChan, argCancel | argSlow, opMulti, argCancel | argTwo, opReturn, 0, opCancel, 0, opResume, 0, opPanic, 1, opReturn, 0},
		{opMulti, argCancel | argTwo, opCancel, 0, opMulti, argCancel | argDown, opReturn, 0, opPanic, 0, opCancel, 0, opExit, 0, opFail, 0},
		{opContext, argCancel, opCancel, 0, opMulti, argTwo, opShutdown, 0, opMulti, argAll, opReturn, 1, opReturn, 0},
		{opMulti, argAll | argHonors, opForget, 1, opMulti, argTwo, opShutdown, 0, opOutOfTime, 0, opReturn, 0},
		{opMulti, argTimeout | argAll, opMulti, argTimeout | argDown, opWait, 0, opChan, 2, opWait, argTick, opMulti, argTwo, opDo, 2, opWait, 0, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opChan, argCancel | 2, opWait, 0, opReturn, 0, opCancel, 0, opDo, 0, opMulti, argDown, opForget, 1, opWait, 0, opPanic, 0, opShutdown, 0},
		// Batches: the steps between two waits happen at once.
		{opContext, argTimeout, opChan, argTimeout, opFresh, argTimeout, opDo, 0, opWait, 0, opWait, 1, opReturn, 0, opContext, 0, opWait, 0, opReturn, 0},
		{opContext, argCancel, opWait, 0, opReturn, 0, opCancel, 0, opDo, 0, opFresh, 0, opForget, 0, opWait, 0, opDo, 0, opExit, 0, opPanic, 0},
		{opChan, argCancel, opFresh, argCancel, opFresh, 0, opWait, 0, opCancel, 1, opReturn, 0, opChan, 0, opShutdown, 0, opWait, 0, opReturn, 0},
	}},
	{fuzzWaiters, [][]byte{
		// A flight that runs, with a leader and without; one that leaves makes room.
		{opDo, 0, opContext, argCancel, opDo, 0, opDo, 0, opChan, 0, opTry, 0, opCancel, 0, opChan, 0, opReturn, 0},
		{opContext, argCancel, opDo, 0, opDo, 0, opCancel, 0, opDo, 0, opFresh, 0, opReturn, 0, opReturn, 0},
		// A queue: one more fits, as one is to lead it.
		{opDo, 0, opFresh, argCancel, opFresh, 0, opFresh, 0, opFresh, 0, opCancel, 0, opFresh, 0, opDo, 0, opReturn, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opDo, 0, opChan, argCancel, opContext, 0, opDo, 0, opChan, 0, opReturn, 0, opChan, 0, opCancel, 0, opChan, 0, opReturn, 0},
		// One whose turn has come, and a queue behind it.
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opDo, 0, opDo, 0, opDo, 0, opFresh, 0, opFresh, 0, opFresh, 0, opFresh, 0, opResume, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opDo, 0, opDo, 0, opMulti, argTwo, opMulti, argDown, opMulti, argTwo, opMulti, argDown, opReturn, 1, opReturn, 0},
		{opContext, argEnded, opDo, 0, opDo, 0, opDo, 0, opContext, argEnded, opShutdown, 0, opDo, 0, opReturn, 0},
	}},
	{fuzzAge, [][]byte{
		// A call takes over, in all forms, and others join its flight.
		{opDo, 0, opWait, argTick, opDo, 0, opWait, argTicks, opDo, 0, opContext, 0, opTry, 0, opReturn, 1, opReturn, 0},
		{opContext, argCancel, opWait, argTicks, opTry, 0, opWait, argTick, opTry, 0, opDo, 0, opCancel, 0, opReturn, 0, opReturn, 0},
		{opChan, 0, opWait, argLong, opChan, 0, opWait, argLong, opContext, argCancel, opWait, argTicks, opDo, 0, opPanic, 0, opFail, 0, opReturn, 0},
		// The timer takes over for a queue; a newcomer joins the flight that it started.
		{opDo, 0, opFresh, 0, opWait, argTicks, opFresh, 0, opWait, argTick, opDo, 0, opReturn, 1, opReturn, 0},
		{opDo, 0, opFresh, argCancel, opWait, argTick, opFresh, 0, opCancel, 0, opWait, argTicks, opReturn, 0, opWait, argLong, opDo, 0, opReturn, 0},
		// A queue behind a flight that is past MaxAge starts at once.
		{opDo, 0, opWait, argLong, opFresh, argCancel | argSlow, opFresh, 0, opResume, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opWait, argLong, opFresh, argCancel | argSlow, opReturn, 1, opContext, argCancel | argSlow, opCancel, 1, opReturn, 0},
		// A queue that has evaporated; one whose flight finished, or was forgotten.
		{opDo, 0, opFresh, argCancel, opCancel, 0, opWait, argLong, opDo, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opWait, argTick, opReturn, 0, opFresh, 0, opWait, argTicks, opDo, 0, opWait, argTick, opDo, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opWait, argTick, opForget, 0, opFresh, 0, opWait, argTicks, opTry, 0, opWait, argTick, opReturn, 2, opReturn, 1, opReturn, 0},
		// Abandoned flights: a queue waits for their age, a newcomer for nothing.
		{opContext, argCancel, opCancel, 0, opDo, 0, opChan, argCancel, opWait, argTicks, opWait, argTick, opCancel, 0, opReturn, 1, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opWait, argLong, opDo, 0, opDo, 0, opReturn, 1, opReturn, 0},
		// A queue behind one whose turn has come: its age counts from its start.
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opWait, argTick, opFresh, 0, opWait, argTicks, opResume, 0, opWait, argTicks, opTry, 0, opWait, argTick, opReturn, 1, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opFresh, 0, opWait, argLong, opCancel, 0, opFresh, 0, opWait, argLong, opResume, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opWait, argLong, opDo, 0, opTry, 0, opResume, 0, opReturn, 0},
		// Forgotten flights grow old as well; Shutdown rejects the queue.
		{opDo, 0, opForget, 0, opDo, 0, opWait, argLong, opDo, 0, opForget, 0, opDo, 0, opReturn, 3, opReturn, 2, opReturn, 1, opReturn, 0},
		{opDo, 0, opFresh, 0, opShutdown, 0, opWait, argLong, opDo, 0, opReturn, 0},
		{opContext, argCancel, opFresh, argCancel, opWait, argTicks, opWait, argTick, opTry, 0, opDo, 0, opChan, 0, opReturn, 0, opWait, argLong, opDo, 0, opWait, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opContext, argCancel, opWait, argTicks, opWait, argTick, opDo, 0, opTry, 0, opChan, 0, opWait, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opChan, 0, opWait, argTicks, opWait, argTick, opDo, 0, opWait, 0, opReturn, 0},
		// Key by key of a DoMulti.
		{opMulti, argCancel | argTwo, opFresh, 1, opWait, argTicks, opTry, 0, opWait, argTick, opDo, 0, opCancel, 0, opMulti, argDown, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opContext, argCancel | 1, opCancel, 0, opWait, argTick, opMulti, argTwo, opWait, argTicks, opMulti, argTwo, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		// Batches.
		{opContext, argTimeout, opFresh, 0, opFresh, argTimeout, opWait, argTicks, opDo, 0, opWait, argTick, opDo, 0, opChan, 0, opWait, argLong, opDo, 0, opTry, 0, opChan, 0, opWait, 0, opReturn, 0},
	}},
	{fuzzLinger, [][]byte{
		// It answers all forms but DoFresh, until it expires.
		{opDo, 0, opReturn, 0, opDo, 0, opContext, 0, opChan, 0, opTry, 0, opContext, argEnded, opWait, argLong, opWait, argTicks, opDo, 0, opWait, argTick, opDo, 0, opReturn, 0},
		{opContext, argCancel, opDo, 0, opCancel, 0, opReturn, 0, opTry, 0, opFresh, 0, opChan, argCancel, opReturn, 0, opTry, 0},
		// DoFresh replaces it: by its value, or by nothing.
		{opDo, 0, opReturn, 0, opFresh, 0, opDo, 0, opFresh, 0, opReturn, 0, opDo, 0, opReturn, 0, opDo, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opFail, 0, opDo, 0, opPanic, 0, opDo, 0, opExit, 0, opDo, 0, opFail, 0},
		{opTry, 0, opReturn, 0, opFresh, argCancel, opCancel, 0, opDo, 0, opReturn, 0, opDo, 0, opReturn, 0},
		// Forget drops it, and the flight as well.
		{opDo, 0, opReturn, 0, opForget, 0, opForget, 0, opDo, 0, opReturn, 0, opForgetUnshared, 0, opForgetUnshared, 0, opDo, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opForget, 0, opDo, 0, opReturn, 0, opDo, 0, opReturn, 0, opDo, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opWait, argLong, opForgetUnshared, 0, opFresh, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, argLong, opFresh, 0, opWait, argTicks, opWait, argTick, opDo, 0, opForgetUnshared, 0, opReturn, 0, opForgetUnshared, 0},
		// An expired outcome is not forgotten, nor does it answer.
		{opDo, 0, opReturn, 0, opWait, argTick, opDo, 1, opReturn, 0, opWait, argTicks, opWait, argLong, opWait, argTick, opForget, 1, opForget, 0, opDo, 1, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, argTick, opDo, 1, opReturn, 0, opWait, argTicks, opWait, argLong, opWait, argTick, opDo, 1, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, argTick, opDo, 1, opReturn, 0, opWait, argTicks, opWait, argLong, opDo, 1, opDo, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opDo, 0, opReturn, 0, opReturn, 0, opDo, 0},
		// Values that do not linger: forgotten, abandoned, with a queue.
		{opDo, 0, opForget, 0, opReturn, 0, opDo, 0, opFresh, 0, opReturn, 0, opDo, 0, opReturn, 0, opDo, 0},
		{opContext, argCancel, opCancel, 0, opReturn, 0, opDo, 0, opReturn, 0},
		// The keys that a DoMulti has loaded linger one by one, the others do not.
		{opMulti, argTwo | argAbsent, opReturn, 0, opDo, 0, opDo, 1, opMulti, argAll, opReturn, 1, opReturn, 0, opMulti, argAll},
		{opMulti, argCancel | argTwo, opContext, argCancel | 1, opCancel, 0, opReturn, 0, opDo, 0, opDo, 1},
		{opMulti, argCancel | argTwo, opCancel, 0, opReturn, 0, opMulti, argTwo, opForget, 0, opFail, 0, opMulti, argTwo, opExit, 0},
		// Shutdown drops all.
		{opDo, 0, opDo, 1, opReturn, 0, opShutdown, 0, opDo, 0, opForget, 0, opReturn, 0, opDo, 1},
		// Batches.
		{opDo, 0, opContext, 0, opWait, 0, opReturn, 0, opDo, 0, opFresh, 0, opWait, 0, opReturn, 0, opFresh, 0, opForget, 0, opDo, 0, opWait, argLong, opDo, 0, opWait, argTicks, opDo, 0, opReturn, 0},
	}},
	{fuzzLinger | fuzzMax, [][]byte{
		// The third evicts the oldest; expired outcomes do not count.
		{opDo, 0, opDo, 1, opDo, 2, opReturn, 1, opReturn, 0, opReturn, 0, opDo, 1, opReturn, 0, opDo, 0, opReturn, 0, opDo, 2, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, argTick, opDo, 1, opReturn, 0, opWait, argTicks, opWait, argLong, opWait, argTick, opDo, 2, opReturn, 0, opDo, 3, opReturn, 0, opDo, 2, opDo, 1, opReturn, 0},
		{opMulti, argAll, opReturn, 0, opMulti, argTwo, opMulti, argDown, opReturn, 0, opPanic, 0},
		// One that is replaced is the newest again.
		{opDo, 0, opReturn, 0, opDo, 1, opReturn, 0, opFresh, 0, opReturn, 0, opDo, 2, opReturn, 0, opDo, 0, opDo, 1, opReturn, 0},
	}},
	{fuzzLinger | fuzzForever | fuzzMax, [][]byte{
		{opDo, 0, opReturn, 0, opWait, argLong, opChan, 1, opReturn, 0, opWait, argLong, opDo, 0, opDo, 2, opReturn, 0, opDo, 1, opDo, 0, opFail, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opReturn, 0, opFresh, 1, opReturn, 0, opForget, 0, opDo, 2, opReturn, 0, opDo, 1, opShutdown, 0, opDo, 1},
	}},
	{fuzzWaiters | fuzzAge | fuzzLinger, [][]byte{
		// A lingering outcome answers beside a flight that is past MaxAge, or full.
		{opDo, 0, opReturn, 0, opFresh, 0, opWait, argLong, opDo, 0, opWait, argTicks, opTry, 0, opWait, argTick, opTry, 0, opReturn, 1, opReturn, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opFresh, 0, opFresh, 0, opFresh, 0, opFresh, 0, opDo, 0, opWait, argTicks, opWait, argTick, opDo, 0, opReturn, 1, opDo, 0, opReturn, 0},
		// The outcome of a flight that was taken over does not linger.
		{opDo, 0, opWait, argLong, opDo, 0, opReturn, 0, opDo, 0, opReturn, 0, opDo, 0},
		{opDo, 0, opFresh, 0, opWait, argTicks, opWait, argTick, opReturn, 1, opDo, 0, opReturn, 0, opDo, 0},
	}},
}
