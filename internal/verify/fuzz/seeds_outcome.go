package fuzz

// outcomeSeeds are programs in which single keys of a DoMulti have errors, and in which
// the outcomes have lives of their own.
var outcomeSeeds = []fuzzSeed{
	{0, [][]byte{
		// Errors of some keys; other calls have joined them.
		{opMulti, argAll, opDo, 1, opChan, 2, opContext, argCancel | 3, opKeyErrors, argOdd},
		{opMulti, argAll, opDo, 1, opChan, 2, opMulti, argDown, opKeyErrors, argEven | argWrapped},
		{opMulti, argAll | argAbsent, opDo, 1, opChan, 2, opKeyErrors, argEven, opMulti, argAll | argAbsent, opDo, 3, opKeyErrors, argEach | argWrapped},
		// An empty one is no error, unless it is wrapped.
		{opMulti, argTwo, opDo, 1, opChan, 0, opKeyErrors, argNone, opMulti, argTwo | argAbsent, opDo, 1, opKeyErrors, argNone},
		{opMulti, argTwo, opDo, 1, opChan, 0, opKeyErrors, argNone | argWrapped, opMulti, argTwo | argAbsent, opKeyErrors, argNone | argWrapped},
		// No key of fn's has one, but another key.
		{opDo, 1, opMulti, argTwo, opKeyErrors, 1 | argOdd, opReturn, 0, opDo, 1, opMulti, argTwo, opKeyErrors, 1 | argOdd | argWrapped, opFail, 0},
		// A key that is queued, and led alone.
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo, opChan, 1, opKeyErrors, 1 | argOdd, opReturn, 0, opKeyErrors, argOdd},
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo, opChan, 1, opReturn, 1, opReturn, 0, opKeyErrors, argEven},
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo | argAbsent, opDo, 1, opReturn, 1, opReturn, 0, opKeyErrors, argNone | argWrapped},
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo | argAbsent, opDo, 1, opReturn, 1, opReturn, 0, opKeyErrors, argEach | argWrapped},
		// The batch is abandoned; a key of it was forgotten.
		{opMulti, argCancel | argTwo, opCancel, 0, opMulti, argTwo, opKeyErrors, argEach, opKeyErrors, argEven},
		{opMulti, argCancel | argAll, opForget, 1, opDo, 1, opDo, 2, opCancel, 0, opKeyErrors, argEach, opReturn, 0},
		{opMulti, argTwo, opForget, 0, opDo, 0, opDo, 1, opShutdown, 0, opKeyErrors, argOdd, opReturn, 0},
		// From another fn it is an error like any other.
		{opDo, 0, opChan, 0, opMulti, argTwo, opKeyErrors, argOdd, opReturn, 0},
		{opContext, argCancel, opDo, 0, opKeyErrors, argEven | argWrapped, opFresh, 0, opKeyErrors, argNone, opTry, 0, opKeyErrors, argEach},
		// Batches.
		{opMulti, argCancel | argAll, opDo, 1, opWait, 0, opKeyErrors, argOdd, opMulti, argDown, opChan, argCancel | 1, opWait, 0, opKeyErrors, argEach},
		{opContext, argCancel | 1, opWait, 0, opCancel, 0, opMulti, argTwo, opDo, 1, opWait, 0, opKeyErrors, argOdd, opKeyErrors, 1 | argOdd, opWait, 0, opKeyErrors, argEach | argWrapped},
	}},
	{fuzzNaN, [][]byte{
		{opMulti, argTwice | 2, opDo, 3, opDo, 2, opKeyErrors, argEach, opReturn, 0},
		{opMulti, argAll, opKeyErrors, argOdd, opMulti, argTwice | 3, opKeyErrors, argNone, opMulti, argAll, opFail, 0},
	}},
	{fuzzLinger, [][]byte{
		// The values linger, the errors do not.
		{opMulti, argAll, opKeyErrors, argOdd, opMulti, argAll, opReturn, 0, opMulti, argAll},
		{opMulti, argAll | argAbsent, opKeyErrors, argNone, opDo, 0, opDo, 1, opKeyErrors, argNone},
		{opDo, 0, opKeyErrors, argNone | argWrapped, opDo, 0, opReturn, 0},
	}},
	{fuzzLingerFor, [][]byte{
		// An error answers all forms but DoFresh, until it expires.
		{opDo, 0, opFail, 2 * argLife, opDo, 0, opContext, 0, opChan, 0, opTry, 0, opMulti, argTwo, opReturn, argLife, opWait, argTick, opDo, 0, opWait, argTick, opDo, 0, opReturn, 0},
		{opContext, argCancel, opChan, 0, opFail, 0, opContext, argEnded, opFresh, 0, opDo, 0, opReturn, 2 * argLife, opTry, 0, opWait, argTicks, opTry, 0, opFail, 3 * argLife, opWait, argLong, opChan, 0},
		// One that does not linger replaces one that does.
		{opDo, 0, opReturn, 3 * argLife, opFresh, 0, opReturn, argLife, opDo, 0, opFail, 3 * argLife, opFresh, 0, opPanic, 0, opDo, 0, opFail, 0},
		// LingerFor panics or exits in place of fn.
		{opDo, 0, opChan, 0, opContext, argCancel, opPanic, argAsked, opDo, 0, opChan, 0, opExit, argAsked, opChan, 0, opPanic, argAsked, opTry, 0, opExit, argAsked},
		{opContext, argCancel, opCancel, 0, opPanic, argAsked, opChan, argCancel, opFresh, 0, opExit, argAsked, opReturn, 0},
		{opMulti, argTwo, opDo, 0, opPanic, argAsked, opMulti, argTwo | argAbsent, opChan, 1, opExit, argAsked, opMulti, argAbsent | 1, opPanic, argAsked},
		// Each key of a batch has a life of its own; an absence has one, too.
		{opMulti, argAll, opReturn, 0, opMulti, argAll, opReturn, argLife, opWait, argTicks, opMulti, argAll, opReturn, 2 * argLife, opWait, argLong, opMulti, argAll, opKeyErrors, argEven | 3*argLife, opMulti, argAll},
		{opMulti, argTwo | argAbsent, opReturn, 0, opDo, 1, opChan, 1, opTry, 1, opWait, argTick, opMulti, argTwo, opWait, argTick, opDo, 1, opReturn, 0},
		{opMulti, argTwo | argAbsent, opFail, 2 * argLife, opMulti, argTwo, opWait, argTicks, opMulti, argTwo | argAbsent, opKeyErrors, argOdd | argWrapped, opMulti, argTwo},
		{opContext, argCancel | 1, opCancel, 0, opMulti, argTwo | argAbsent, opReturn, 1, opReturn, 0, opReturn, 0, opDo, 1, opWait, argTicks, opDo, 1, opReturn, 0},
		// Outcomes that do not linger, but for which LingerFor is called: forgotten,
		// abandoned, with a queue, or when the group is closed.
		{opDo, 0, opForget, 0, opReturn, 3 * argLife, opDo, 0, opFresh, 0, opFail, 3 * argLife, opDo, 0, opForgetFlight, 0, opReturn, 0, opDo, 0, opReturn, 0},
		{opContext, argCancel | argHonors, opCancel, 0, opContext, argCancel, opCancel, 0, opFail, 3 * argLife, opDo, 0, opShutdown, 0, opReturn, 0},
		// Forget drops an error; Shutdown does.
		{opDo, 0, opFail, 0, opForget, 0, opDo, 0, opFail, 0, opForgetUnshared, 0, opDo, 0, opFail, 0, opForgetFunc, 1, opDo, 0, opFail, 0, opShutdown, 0, opDo, 0},
		// Batches.
		{opDo, 0, opWait, 0, opFail, 2 * argLife, opDo, 0, opFresh, 0, opWait, argTick, opDo, 0, opWait, argTick, opDo, 0, opReturn, 0, opWait, argLong, opDo, 0},
		{opMulti, argAll, opWait, 0, opKeyErrors, argOdd | 2*argLife, opDo, 1, opMulti, argDown, opWait, argTick, opDo, 1, opDo, 3, opWait, argLong, opMulti, argAll, opWait, 0, opPanic, argAsked},
	}},
	{fuzzLingerFor | fuzzMax, [][]byte{
		// The one with the least time left is evicted, of equals the oldest.
		{opDo, 0, opReturn, 0, opDo, 1, opReturn, 2 * argLife, opDo, 2, opReturn, 3 * argLife, opDo, 1, opFail, 2 * argLife, opTry, 0, opReturn, 0, opDo, 2, opDo, 1},
		{opDo, 0, opReturn, 3 * argLife, opDo, 1, opFail, 3 * argLife, opDo, 2, opReturn, 3 * argLife, opDo, 1, opDo, 2, opDo, 0, opReturn, 0, opDo, 3, opFail, 0, opDo, 2},
		{opDo, 0, opReturn, 0, opWait, argTick, opDo, 1, opReturn, 0, opFresh, 0, opReturn, 0, opDo, 2, opReturn, 2 * argLife, opDo, 1, opReturn, 0, opDo, 0, opDo, 2},
		// Expired outcomes do not count.
		{opDo, 0, opReturn, 2 * argLife, opDo, 1, opReturn, 3 * argLife, opWait, argTicks, opDo, 2, opFail, 0, opDo, 1, opDo, 0, opReturn, 0, opDo, 1},
		{opMulti, argAll, opReturn, 0, opMulti, argAll, opKeyErrors, argEach | 2*argLife, opMulti, argAll | argAbsent, opReturn, 3 * argLife},
	}},
	{fuzzLingerFor | fuzzLinger | fuzzAge, [][]byte{
		// LingerFor decides alone. The outcome of a flight that was taken over does not
		// linger.
		{opDo, 0, opReturn, argLife, opDo, 0, opWait, argLong, opDo, 0, opFail, 3 * argLife, opDo, 0, opFail, 3 * argLife, opDo, 0},
		{opDo, 0, opFail, 3 * argLife, opFresh, 0, opFresh, 0, opWait, argTicks, opTry, 0, opWait, argTick, opDo, 0, opReturn, 1, opReturn, 0, opDo, 0},
	}},
	{fuzzLingerFor | fuzzNaN, [][]byte{
		{opDo, 3, opReturn, 3 * argLife, opDo, 3, opFail, 3 * argLife, opMulti, argTwo | 2, opReturn, 3 * argLife, opMulti, argTwo | 2, opReturn, 3 * argLife},
	}},
}
