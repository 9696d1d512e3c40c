package fuzz

// forgetSeeds are programs that forget single flights, or keys by a condition, and
// programs with NaN, for which there is no other way.
var forgetSeeds = []fuzzSeed{
	{0, [][]byte{
		// ForgetFunc: some keys, all, none; from inside fn; a flight that it promotes
		// stays.
		{opForgetFunc, 15, opDo, 0, opDo, 1, opChan, 2, opForgetFunc, 3, opDo, 0, opDo, 2, opForgetFunc, 0, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opDo, 1, opForgetFunc, argMatchInside | 15, opDo, 0, opForgetFunc, argMatchInside | 2, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opFresh, 0, opDo, 1, opForgetFunc, 1, opDo, 0, opForgetFunc, 3, opReturn, 0, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opCancel, 0, opDo, 0, opForgetFunc, 1, opDo, 0, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opForgetFunc, 5, opMulti, argAll, opCancel, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opShutdown, 0, opForgetFunc, 15, opForgetFunc, 15, opReturn, 0},
		// ForgetFlight: one that runs, is queued, is forgotten, has finished, is not
		// there.
		{opDo, 0, opForgetFlight, 0, opDo, 0, opForgetFlight, 0, opForgetFlight, 1, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, 0, opForgetFlight, 1, opForgetFlight, 0, opForgetFlight, 1, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opDo, 0, opForgetFlight, argPast, opDo, 0, opForgetFlight, argPast | 1, opReturn, 0, opForgetFlight, argPast | 1},
		{opForgetFlight, 0, opForgetFlight, argZero, opDo, 0, opForgetFlight, argZero, opForgetFlight, 1, opReturn, 0},
		{opDo, 0, opDo, 0, opDo, 1, opForgetFlight, 1, opForgetFlight, 0, opDo, 1, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		// A key that has another flight by now keeps that.
		{opDo, 0, opForgetFlight, 0, opDo, 0, opReturn, 0, opForgetFlight, argPast, opTry, 0, opReturn, 0},
		// Abandoned; with a queue; one whose turn has come; of a batch; after Shutdown.
		{opContext, argCancel, opCancel, 0, opDo, 0, opForgetFlight, 0, opForgetFlight, 1, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opReturn, 0, opFresh, 0, opForgetFlight, 0, opForgetFlight, 1, opResume, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opFresh, argCancel | argSlow, opFresh, argCancel, opReturn, 0, opForgetFunc, 1, opCancel, 0, opResume, 0, opReturn, 0},
		{opMulti, argCancel | argAll, opForgetFlight, 2, opForgetFlight, 0, opMulti, argAll, opForgetFlight, 4, opCancel, 0, opForgetFlight, 1, opReturn, 0, opReturn, 0},
		{opContext, argCancel, opDo, 1, opShutdown, 0, opForgetFlight, 0, opForgetFlight, 0, opCancel, 0, opReturn, 0, opReturn, 0},
		// Batches.
		{opDo, 0, opMulti, argAll, opWait, 0, opForgetFlight, 1, opForgetFunc, 5, opDo, 0, opReturn, 0, opWait, 0, opForgetFlight, 0, opForgetFlight, argPast, opReturn, 0},
		{opContext, argCancel, opWait, 0, opCancel, 0, opForgetFlight, 0, opFresh, 0, opForgetFunc, 15, opWait, 0, opForgetFunc, 1, opReturn, 0},
	}},
	{fuzzAge, [][]byte{
		{opDo, 0, opFresh, 0, opWait, argTicks, opForgetFlight, 0, opFresh, 0, opWait, argTicks, opWait, argTick, opForgetFlight, 1, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opWait, argLong, opForgetFunc, 1, opDo, 0, opFresh, 0, opWait, argLong, opForgetFlight, argPast | 2, opReturn, 0, opReturn, 0, opReturn, 0},
	}},
	{fuzzLinger, [][]byte{
		// ForgetFunc drops lingering outcomes, beside a flight or not; expired ones are
		// not counted. ForgetFlight leaves them.
		{opDo, 0, opReturn, 0, opDo, 1, opReturn, 0, opDo, 2, opReturn, 0, opFresh, 0, opForgetFunc, 3, opDo, 1, opDo, 2, opDo, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opFresh, 0, opForgetFunc, 15, opDo, 0, opReturn, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, argLong, opDo, 1, opReturn, 0, opWait, argTicks, opWait, argTick, opForgetFunc, 15, opForgetFunc, 15, opDo, 0, opReturn, 0},
		{opDo, 0, opReturn, 0, opFresh, 0, opForgetFlight, 0, opDo, 0, opFresh, 0, opForgetFlight, 1, opReturn, 0, opDo, 0, opReturn, 0, opTry, 0},
		{opMulti, argAll, opReturn, 0, opForgetFunc, 9, opMulti, argAll, opForgetFlight, 0, opReturn, 0, opMulti, argAll, opReturn, 0},
		{opDo, 0, opReturn, 0, opWait, 0, opFresh, 0, opForgetFunc, 1, opDo, 0, opWait, 0, opForgetFlight, 0, opReturn, 0, opWait, 0, opDo, 0},
	}},
	{fuzzNaN, [][]byte{
		// Each call leads a flight of its own, which only its ID finds.
		{opDo, 3, opContext, argCancel | 3, opChan, argCancel | 3, opFresh, 3, opTry, 3, opForget, 3, opForgetUnshared, 3, opCancel, 0, opCancel, 0, opReturn, 0, opFail, 0, opPanic, 0, opExit, 0},
		{opDo, 3, opDo, 3, opForgetFlight, 1, opForgetFlight, 1, opForget, 3, opReturn, 1, opForgetFlight, argPast | 1, opReturn, 0},
		{opDo, 3, opDo, 3, opDo, 2, opForgetFunc, 8, opForgetFunc, 12, opDo, 3, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opChan, 3, opDo, 3, opForgetFunc, argMatchInside | 15, opReturn, 0, opReturn, 0},
		// In a DoMulti it is never there twice, and always absent.
		{opMulti, argTwice | 2, opDo, 3, opDo, 2, opReturn, 0, opReturn, 0},
		{opMulti, argCancel | argTwice | 3, opForgetFlight, 1, opForgetFunc, 8, opCancel, 0, opMulti, argAll, opPanic, 0, opFail, 0},
		{opMulti, argCancel | argHonors | argTwo | 3, opContext, argCancel, opCancel, 0, opDo, 0, opCancel, 0, opReturn, 0},
		{opMulti, argTwice | argAbsent | 2, opShutdown, 0, opForgetFunc, 8, opMulti, argAll, opExit, 0},
		// Batches.
		{opDo, 3, opChan, argCancel | 3, opMulti, argTwice | 3, opWait, 0, opForgetFunc, 8, opCancel, 0, opReturn, 0, opDo, 3, opWait, 0, opForgetFlight, 0, opForgetFlight, 2, opReturn, 0},
	}},
	{fuzzNaN | fuzzAge | fuzzLinger, [][]byte{
		{opDo, 3, opWait, argLong, opDo, 3, opFresh, 3, opTry, 3, opReturn, 0, opDo, 3, opForgetFunc, 8, opReturn, 0, opReturn, 0, opReturn, 0, opReturn, 0},
		{opMulti, argAll, opWait, argTicks, opFresh, 3, opWait, argLong, opReturn, 0, opMulti, argAll, opReturn, 0, opReturn, 0},
	}},
}
