package coalesce_test

import "github.com/seed342dcb2d/coalesce/internal/model"

// The ends of an fn, as steps. The argument picks the fn, by age.
const (
	opReturn = opFinish + byte(model.Return)
	opFail   = opFinish + byte(model.Error)
	opPanic  = opFinish + byte(model.Panic)
	opExit   = opFinish + byte(model.Goexit)
)

// fuzzSeeds are the steps of programs that FuzzGroup starts from: a few for each
// row and column of the state table.
var fuzzSeeds = [][]byte{
	// Lead, join in all forms, every exit.
	{opDo, 0, opDo, 0, opContext, 0, opContext, argCancel, opChan, 0, opTry, 0, opReturn, 0},
	{opContext, 0, opDo, 0, opContext, argCancel, opChan, argCancel, opFail, 0},
	{opContext, argCancel, opDo, 0, opContext, 0, opChan, 0, opPanic, 0},
	{opChan, 0, opDo, 0, opContext, argCancel, opChan, argCancel, opExit, 0},
	{opFresh, 0, opFresh, 0, opDo, 0, opReturn, 0, opChan, 0, opReturn, 0},
	{opTry, 0, opDo, 0, opChan, 0, opExit, 0, opDo, 0, opPanic, 0},
	// Two keys, each with its own exits.
	{opDo, 0, opDo, 1, opContext, 0, opContext, 1, opPanic, 1, opReturn, 0},
	// Nobody joins, one key beside the other: records are used again.
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
	// A panic that nobody is left to be told of.
	{opContext, argCancel, opCancel, 0, opPanic, 0, opDo, 0, opReturn, 0},
	// Forget: running, joined, abandoned, with a queue, forgotten twice.
	{opDo, 0, opForget, 0, opDo, 0, opForget, 0, opDo, 0, opReturn, 1, opReturn, 0, opReturn, 0},
	{opChan, argCancel, opFresh, 0, opForget, 0, opCancel, 0, opContext, 0, opReturn, 0, opReturn, 0},
	{opContext, argCancel, opCancel, 0, opDo, 0, opForget, 0, opContext, 0, opReturn, 1, opReturn, 0},
	{opDo, 0, opForget, argInside, opDo, 0, opForgetUnshared, argInside, opTry, 0, opReturn, 0},
	// The replacement outlives the forgotten flight.
	{opDo, 0, opForget, 0, opContext, 0, opReturn, 0, opDo, 0, opTry, 0, opFail, 0},
	// ForgetUnshared: alone, joined, joined and left, abandoned, nothing there.
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
	// Batches: what lies between two waits happens at once.
	{opContext, argTimeout, opChan, argTimeout, opFresh, argTimeout, opDo, 0, opWait, 0, opWait, 1, opReturn, 0, opContext, 0, opWait, 0, opReturn, 0},
	{opContext, argCancel, opWait, 0, opReturn, 0, opCancel, 0, opDo, 0, opFresh, 0, opForget, 0, opWait, 0, opDo, 0, opExit, 0, opPanic, 0},
	{opChan, argCancel, opFresh, argCancel, opFresh, 0, opWait, 0, opCancel, 1, opReturn, 0, opChan, 0, opShutdown, 0, opWait, 0, opReturn, 0},
}
