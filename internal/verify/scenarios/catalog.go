package scenarios

import "strings"

// This file holds the catalog of bugs that libraries of this kind, the two peers and
// others, have or had, and for each of them the tests that exclude it here.

// A Bug is a bug of the catalog.
type Bug struct {
	Name string
	What string
	By   string // the scenarios, and the tests of package coalesce, that show it
	Not  string // or the reason why this library cannot have it
}

// Scenarios returns the names of the scenarios that show b.
func (b *Bug) Scenarios() []string { return b.by(false) }

// Tests returns the names of the tests of package coalesce that show b.
func (b *Bug) Tests() []string { return b.by(true) }

func (b *Bug) by(tests bool) []string {
	var names []string
	for name := range strings.FieldsSeq(b.By) {
		isTest := strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
		if isTest == tests {
			names = append(names, name)
		}
	}
	return names
}

// Catalog holds the bugs.
var Catalog = []Bug{
	{
		"B1", "A finished execution goes on answering calls.",
		"8 31 TestG3_NeverStale TestStorm", "",
	},
	{
		"B2", "All callers have left, and a second execution starts beside the first.",
		"18 TestG1_NewcomerWaitsBehindAbandoned", "",
	},
	{
		"B3", "A leader gives up, and several waiting callers start executions.",
		"21 TestG4_LeaderLeaves TestPromoted_TakenByAnother", "",
	},
	{
		"B4", "A hand-over leaves a finished entry in the table.",
		"TestPromoted_TakenByAnother TestStorm", "",
	},
	{
		"B5", "A forgotten execution removes the one that replaced it.",
		"14 15 TestG15_Forget", "",
	},
	{
		"B6", "A call that finishes removes the entry that a newcomer has just begun to use: two executions at once.",
		"31 TestStorm TestStorm_HotKey", "",
	},
	{
		"B7", "A caller looks into its cache, misses, and leads although another has filled it meanwhile.",
		"", "the cache is the caller's; fn can look into it again, and Linger closes the gap",
	},
	{
		"B8", "ForgetUnshared answers by an execution that is over.",
		"TestStateTable TestStorm_Everything FuzzGroup", "",
	},
	{
		"B9", "A newcomer joins an execution that has been canceled.",
		"18 19 TestG1_NewcomerWaitsBehindAbandoned", "",
	},
	{
		"B10", "The end of the leader's context fails the followers.",
		"21 TestG4_LeaderLeaves", "",
	},
	{
		"B11", "All callers have left, and fn's context does not end.",
		"18 22 TestG7_CanceledWhenLastCallerLeaves", "",
	},
	{
		"B12", "A caller whose context has ended waits for fn.",
		"28 TestG4_FollowerLeaves TestG4_LeaderLeaves", "",
	},
	{
		"B13", "One form of call joins an execution that another form leads, and it crashes.",
		"TestG4_LeaderLeaves TestG9_EveryExitCompletes FuzzGroup", "",
	},
	{
		"B14", "fn's context is canceled though no caller has left.",
		"TestG7_CanceledWhenLastCallerLeaves TestG7_NotCanceledByReturn", "",
	},
	{
		"B15", "fn's context is canceled as soon as the call returns, and so are the objects that depend on it.",
		"B15 TestG7_NotCanceledByReturn", "",
	},
	{
		"B16", "fn's context lacks the caller's values, or has its deadline.",
		"21 TestG7_ValuesButNoDeadline", "",
	},
	{
		"B17", "Result and end of the context are both there, and a toss decides.",
		"1 B17 TestG5_ResultBeatsCancellation TestG5_SameInstant", "",
	},
	{
		"B18", "Callers that have left spoil the accounts.",
		"23 TestG4_FollowerLeaves TestStorm", "",
	},
	{
		"B19", "Callers whose contexts have ended lead one after another, and fail.",
		"20 TestG6_EndedContextStartsNothing TestG6_EndedContextLeadsNoSuccessor", "",
	},
	{
		"B20", "A call that waits behind many that give up fails after so many attempts, or recurses.",
		"B20 TestG1_WaitBehindAbandonedIsUnderOwnContext", "",
	},
	{
		"B21", "A key stays in the table when its call has ended by its context.",
		"TestG9_EveryExitCompletes TestG12_NothingIsKept", "",
	},
	{
		"B22", "After a panic the key is dead, and waiting callers hang.",
		"2 TestG9_EveryExitCompletes", "",
	},
	{
		"B23", "After a panic in a call for many keys all but the first are dead.",
		"TestDoMulti_EveryExitCompletes", "",
	},
	{
		"B24", "After a panic or Goexit callers get a zero value and a nil error.",
		"3 TestG9_EveryExitCompletes TestDoMulti_FailNow TestG9_PanicNil", "",
	},
	{
		"B25", "A panic ends the process, and no caller can recover it.",
		"5 TestG9_EveryExitCompletes TestG10_LogHandlerPanics", "",
	},
	{
		"B26", "After Goexit a channel never gets its result.",
		"4 TestG9_EveryExitCompletes", "",
	},
	{
		"B27", "A panic that fn has recovered and returns as an error is thrown again.",
		"B27 TestG10_ReturnedPanicErrorIsAnError", "",
	},
	{
		"B28", "panic(nil), panic(error), a runtime.Error, or a panic during Goexit arrives as something else.",
		"7 TestG10_PanicValues TestG9_PanicInGoexitGoesOn TestG9_PanicNil", "",
	},
	{
		"B29", "A panic is lost because no caller waits any more.",
		"6 TestG10_UnreceivedPanicIsLogged TestDoMulti_UnreceivedPanicIsLogged TestG10_LoggedUnlessACallPanics TestG10_ExitBeforeThePanic", "",
	},
	{
		"B30", "A key that cannot be hashed panics under the lock, and the group is dead.",
		"10 TestG11_UnhashableKey TestG11_UnhashableBehindNaN TestDoMulti_UnhashableKey", "",
	},
	{
		"B31", "Every call with NaN for a key leaves an entry behind.",
		"9 TestG11_NaN TestDoMulti_NaN FuzzKeys", "",
	},
	{
		"B32", "The same key goes to different shards, as the hash has a new seed each time.",
		"27 TestG11_EqualityDecides TestHashString TestGroupState_HashMixesUserHash", "",
	},
	{
		"B33", "No shards, or no hash function: the first call crashes.",
		"TestMisuse TestGroupState_Shards", "",
	},
	{
		"B34", "Keys that were made into strings collide.",
		"", "keys are compared by ==, whole; a key that is made of a part of them is the caller's",
	},
	{
		"B35", "An execution that hangs keeps the memory of all callers that have given up.",
		"B35 TestG12_LeaversTakeTheirMemory", "",
	},
	{
		"B36", "A key that comes twice in one call counts as shared, goes to fn twice, or blocks.",
		"TestDoMulti_LoadsKeysWithoutFlight", "",
	},
	{
		"B37", "A key that fn's answer lacks looks like a success to the calls that joined.",
		"TestDoMulti_Absent", "",
	},
	{
		"B38", "The caller changes its slice of keys meanwhile.",
		"TestDoMulti_KeysMayChange", "",
	},
	{
		"B39", "Calls for the same keys in opposite orders wait for each other.",
		"TestStorm_OppositeOrders TestDeadlock_CrossingBatches", "",
	},
	{
		"B40", "A nil value of an interface type hides fn's error.",
		"32 TestG2_OneAnswer", "",
	},
	{
		"B41", "A call that joined gets nil where the execution failed.",
		"32 TestG2_OneAnswer TestStorm", "",
	},
	{
		"B42", "A data race on the shared flag.",
		"31 TestStorm TestG17_MemoryModel", "",
	},
	{
		"B43", "The shared flag is wrong, or taken for a count.",
		"23 TestG1_OneAtATime TestStorm", "",
	},
	{
		"B44", "Callers change a value that they share.",
		"33 TestG2_Clone", "",
	},
	{
		"B45", "Forget in the middle closes a channel twice.",
		"16 TestG15_Forget TestG15_ForgetInsideFn", "",
	},
	{
		"B46", "A record is used again, and a late reader sees another call's value.",
		"24 31 TestStorm TestStorm_JoinAndLeave", "",
	},
	{
		"B47", "The bound on waiters lets more through, or answers with nothing and a nil error.",
		"TestMaxWaiters_Exact TestMaxWaiters_RoomIsMade TestMaxWaiters_Storm", "",
	},
	{
		"B48", "Waiters are woken one by one, or poll.",
		"17 TestG16_LeaderDoesNotWaitForWaking TestG16_OtherKeysWhileWaking TestWaiter_Blocks", "",
	},
	{
		"B49", "fn calls for its own key, or two fns for each other's, and they hang.",
		"12 13 TestDeadlock_OwnKey TestDeadlock_TwoKeys TestDeadlock_LongCycle", "",
	},
	{
		"B50", "An execution starts after the group was closed.",
		"TestShutdown_ClosesAllBeforeItReturns TestShutdown_Waits TestStorm_Shutdown", "",
	},
}
