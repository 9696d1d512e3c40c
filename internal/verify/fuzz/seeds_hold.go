package fuzz

// holdSeeds are programs in which a flight is held.
var holdSeeds = []fuzzSeed{
	{0, [][]byte{
		// All callers leave, and others join; one that joins and leaves.
		{opContext, argCancel, opHold, 0, opCancel, 0, opDo, 0, opTry, 0, opChan, argCancel, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opContext, argCancel, opCancel, 0, opForgetUnshared, 0, opMulti, argTwo, opFail, 0, opReturn, 0},
		{opContext, argCancel, opContext, argCancel, opHold, 0, opCancel, 0, opCancel, 0, opForgetUnshared, 0, opForget, 0, opDo, 0, opReturn, 0, opReturn, 0},
		// No call gets the outcome: the context ends with it. Or a call does.
		{opContext, argCancel, opHold, argUncanceled, opCancel, 0, opReturn, 0},
		{opFresh, argCancel, opHold, argDerived, opCancel, 0, opFail, 0, opContext, argCancel, opHold, argDerived, opReturn, 0},
		{opChan, argCancel, opHold, 0, opCancel, 0, opPanic, 0, opChan, argCancel, opHold, 0, opCancel, 0, opExit, 0},
		{opChan, argCancel, opHold, 0, opPanic, 0, opChan, argCancel, opHold, 0, opDo, 0, opCancel, 0, opPanic, 0},
		// Without effect: by a detached context, in an fn that has no context of its own,
		// or when all callers have left, or fn has returned.
		{opChan, argCancel, opHold, argDetached, opCancel, 0, opHold, 0, opHold, argUncanceled, opDo, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opHold, 0, opContext, 1, opHold, 1, opTry, 2, opHold, 2 | argDerived, opReturn, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opReturn, 0, opHold, argPast, opContext, argCancel, opHold, 0, opReturn, 0, opHold, argPast | 1, opHold, argPast},
		// Twice; and when the first caller has left, but not the last.
		{opContext, argCancel, opDo, 0, opCancel, 0, opHold, 0, opHold, argDerived, opReturn, 0},
		{opContext, argCancel, opContext, argCancel, opCancel, 0, opHold, 0, opCancel, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel, opForget, 0, opCancel, 0, opHold, 0, opDo, 0, opReturn, 0, opReturn, 0},
		{opChan, argCancel, opShutdown, 0, opCancel, 0, opHold, 0, opReturn, 0},
		// DoFresh queues behind it.
		{opContext, argCancel, opFresh, 0, opHold, 0, opCancel, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel, opReturn, 0, opCancel, 0, opHold, 0, opDo, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opFresh, argCancel, opDo, 0, opCancel, 0, opFresh, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel, opReturn, 0, opHold, 0, opCancel, 0, opDo, 0, opFresh, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argHonors, opFresh, argCancel, opReturn, 0, opCancel, 0, opHold, 0, opCancel, 0, opReturn, 0},
		// Forgotten before it is held, and after.
		{opContext, argCancel, opHold, 0, opForget, 0, opCancel, 0, opDo, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opForget, 0, opHold, 0, opCancel, 0, opDo, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opForgetFlight, 0, opDo, 0, opForgetFunc, 1, opReturn, 0, opReturn, 0},
		// Shutdown waits for it, and ends its context when it is out of time.
		{opContext, argCancel, opHold, 0, opCancel, 0, opShutdown, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel | argHonors, opHold, 0, opCancel, 0, opShutdown, 0, opOutOfTime, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opShutdown, 0, opOutOfTime, 0, opHold, 0, opReturn, 0},
		{opContext, argCancel | argHonors, opHold, 0, opCancel, 0, opReturn, 0},
		// A caller that is slow to leave.
		{opContext, argCancel | argSlow, opHold, 0, opCancel, 0, opDo, 0, opResume, 0, opReturn, 0},
		{opContext, argCancel | argSlow, opCancel, 0, opHold, 0, opDo, 0, opResume, 0, opHold, 0, opReturn, 0, opReturn, 0},
		{opChan, argCancel | argSlow, opHold, 0, opCancel, 0, opReturn, 0, opResume, 0},
		// A batch is held as a whole.
		{opMulti, argCancel | argTwo, opHold, 0, opCancel, 0, opDo, 1, opChan, 0, opReturn, 0},
		{opMulti, argCancel | argTwo, opHold, 0, opCancel, 0, opReturn, 0, opMulti, argCancel | argAll, opHold, argUncanceled, opCancel, 0, opDo, 2, opReturn, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel | 1, opHold, 0, opCancel, 0, opCancel, 0, opFresh, 0, opForgetUnshared, 1, opPanic, 0, opReturn, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel | 1, opCancel, 0, opHold, 0, opCancel, 0, opForget, 0, opDo, 0, opMulti, argDown, opExit, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opCancel, 0, opHold, 0, opMulti, argAll, opKeyErrors, argOdd, opReturn, 0},
		{opMulti, argCancel | argTwo, opHold, 0, opCancel, 0, opKeyErrors, argEach},
		// Batches.
		{opContext, argCancel, opWait, 0, opHold, 0, opCancel, 0, opDo, 0, opWait, 0, opReturn, 0},
		{opChan, argCancel, opWait, 0, opCancel, 0, opHold, 0, opContext, argCancel, opReturn, 0, opWait, 0, opHold, argPast, opReturn, 0},
		{opMulti, argCancel | argTwo, opContext, argCancel, opWait, 0, opCancel, 0, opCancel, 0, opHold, 0, opFresh, 1, opWait, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opWait, 0, opHold, 0, opCancel, 0, opWait, 0, opDo, 1, opPanic, 0, opForgetFlight, 0, opWait, 0},
	}},
	{fuzzNaN, [][]byte{
		{opContext, argCancel | 3, opCancel, 0, opHold, 0, opDo, 3, opReturn, 0, opReturn, 0},
		{opContext, argCancel | 3, opHold, 0, opCancel, 0, opDo, 3, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argTwo | 2, opHold, 0, opCancel, 0, opDo, 2, opDo, 3, opForgetFlight, 1, opReturn, 0, opReturn, 0},
	}},
	{fuzzWaiters, [][]byte{
		// A hold is not one of the waiters.
		{opContext, argCancel, opHold, 0, opDo, 0, opDo, 0, opDo, 0, opCancel, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opDo, 0, opDo, 0, opDo, 0, opReturn, 0},
	}},
	{fuzzAge, [][]byte{
		{opContext, argCancel, opWait, argLong, opHold, 0, opCancel, 0, opTry, 0, opReturn, 0, opReturn, 0},
		// Past MaxAge it is taken over, by a call or by the timer.
		{opContext, argCancel, opHold, 0, opCancel, 0, opWait, argLong, opDo, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opWait, argTicks, opDo, 0, opFresh, 0, opWait, argTick, opTry, 0, opReturn, 1, opReturn, 0},
		{opMulti, argCancel | argTwo, opHold, 0, opCancel, 0, opFresh, 1, opWait, argTicks, opWait, argTick, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0},
	}},
	{fuzzLinger, [][]byte{
		// Its outcome lingers, unless a successor is queued or it was forgotten.
		{opContext, argCancel, opHold, 0, opCancel, 0, opReturn, 0, opDo, 0, opChan, 0, opTry, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opFail, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opFresh, argCancel, opReturn, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opForget, 0, opReturn, 0, opDo, 0, opReturn, 0},
		{opMulti, argCancel | argTwo | argAbsent, opHold, 0, opCancel, 0, opReturn, 0, opMulti, argTwo, opReturn, 0},
		{opMulti, argCancel | argTwo, opHold, 0, opForget, 1, opCancel, 0, opFresh, 0, opReturn, 0, opMulti, argTwo, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opWait, 0, opHold, 0, opCancel, 0, opWait, 0, opReturn, 0, opDo, 0, opFresh, 0, opWait, 0, opReturn, 0},
	}},
	{fuzzLingerFor, [][]byte{
		{opContext, argCancel, opHold, 0, opCancel, 0, opFail, 2 * argLife, opDo, 0, opWait, argTicks, opDo, 0, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opReturn, argLife, opDo, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opHold, 0, opCancel, 0, opKeyErrors, argOdd | 3*argLife, opMulti, argAll, opReturn, 0},
		{opContext, argCancel, opHold, 0, opCancel, 0, opPanic, argAsked, opDo, 0, opReturn, 0},
	}},
}
