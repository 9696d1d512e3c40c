package scenarios

// This file holds the catalogue of bugs that libraries of this kind, peers and
// others, have or had, and what keeps each of them out of this one.

// A Bug is one of them.
type Bug struct {
	Name      string
	What      string
	Scenarios []string // that show it
	Tests     []string // of package coalesce that do
	Not       string   // or why it cannot be had here
}

// Catalogue returns the bugs.
func Catalogue() []Bug {
	return []Bug{
		{Name: "B1", What: "A finished execution goes on answering calls.", Scenarios: []string{"8", "31"}, Tests: []string{"TestG3_NeverStale", "TestStorm"}},
		{Name: "B2", What: "All callers have left, and a second execution starts beside the first.", Scenarios: []string{"18"}, Tests: []string{"TestG1_NewcomerWaitsBehindAbandoned"}},
		{Name: "B3", What: "A leader gives up, and several who waited start executions.", Scenarios: []string{"21"}, Tests: []string{"TestG4_LeaderLeaves", "TestPromoted_TakenByAnother"}},
		{Name: "B4", What: "A hand-over leaves a finished entry in the table.", Tests: []string{"TestPromoted_TakenByAnother", "TestStorm"}},
		{Name: "B5", What: "A forgotten execution removes the one that replaced it.", Scenarios: []string{"14", "15"}, Tests: []string{"TestG15_Forget"}},
		{Name: "B6", What: "Who finishes removes the entry that a newcomer has just begun to use: two executions at once.", Scenarios: []string{"31"}, Tests: []string{"TestStorm", "TestStorm_HotKey"}},
		{Name: "B7", What: "A caller looks into its cache, misses, and leads although another has filled it meanwhile.", Not: "the cache is the caller's; fn can look into it again, and Linger closes the gap"},
		{Name: "B8", What: "ForgetUnshared answers by an execution that is over.", Tests: []string{"TestStateTable", "TestStorm_Everything", "FuzzGroup"}},
		{Name: "B9", What: "A newcomer joins an execution that has been canceled.", Scenarios: []string{"18", "19"}, Tests: []string{"TestG1_NewcomerWaitsBehindAbandoned"}},
		{Name: "B10", What: "The end of the leader's context fails the followers.", Scenarios: []string{"21"}, Tests: []string{"TestG4_LeaderLeaves"}},
		{Name: "B11", What: "All callers have left, and fn is not told.", Scenarios: []string{"18", "22"}, Tests: []string{"TestG7_CanceledWhenLastCallerLeaves"}},
		{Name: "B12", What: "A caller whose context has ended waits for fn.", Scenarios: []string{"28"}, Tests: []string{"TestG4_FollowerLeaves", "TestG4_LeaderLeaves"}},
		{Name: "B13", What: "One form of call joins an execution that another form leads, and it crashes.", Tests: []string{"TestG4_LeaderLeaves", "TestG9_EveryExitCompletes", "FuzzGroup"}},
		{Name: "B14", What: "fn's context is canceled though nobody has left.", Tests: []string{"TestG7_CanceledWhenLastCallerLeaves", "TestG7_NotCanceledByReturn"}},
		{Name: "B15", What: "fn's context is canceled as soon as the call returns, and what is bound to it with it.", Scenarios: []string{"B15"}, Tests: []string{"TestG7_NotCanceledByReturn"}},
		{Name: "B16", What: "fn's context lacks the caller's values, or has its deadline.", Scenarios: []string{"21"}, Tests: []string{"TestG7_ValuesButNoDeadline"}},
		{Name: "B17", What: "Result and end of the context are both there, and a toss decides.", Scenarios: []string{"1", "B17"}, Tests: []string{"TestG5_ResultBeatsCancellation", "TestG5_SameInstant"}},
		{Name: "B18", What: "Callers that have left spoil the accounts.", Scenarios: []string{"23"}, Tests: []string{"TestG4_FollowerLeaves", "TestStorm"}},
		{Name: "B19", What: "Callers whose contexts have ended lead one after another, and fail.", Scenarios: []string{"20"}, Tests: []string{"TestG6_EndedContextStartsNothing", "TestG6_EndedContextLeadsNoSuccessor"}},
		{Name: "B20", What: "Who waits behind many that give up fails after so many attempts, or recurses.", Scenarios: []string{"B20"}, Tests: []string{"TestG1_WaitBehindAbandonedIsUnderOwnContext"}},
		{Name: "B21", What: "A key stays in the table when its call has ended by its context.", Tests: []string{"TestG9_EveryExitCompletes", "TestG12_NothingIsKept"}},
		{Name: "B22", What: "After a panic the key is dead, and who waits hangs.", Scenarios: []string{"2"}, Tests: []string{"TestG9_EveryExitCompletes"}},
		{Name: "B23", What: "After a panic in a call for many keys all but the first are dead.", Tests: []string{"TestDoMulti_EveryExitCompletes"}},
		{Name: "B24", What: "After a panic or Goexit callers get a zero value and a nil error.", Scenarios: []string{"3"}, Tests: []string{"TestG9_EveryExitCompletes", "TestDoMulti_FailNow", "TestG9_PanicNil"}},
		{Name: "B25", What: "A panic ends the process, and no caller can recover it.", Scenarios: []string{"5"}, Tests: []string{"TestG9_EveryExitCompletes", "TestG10_LogHandlerPanics"}},
		{Name: "B26", What: "After Goexit a channel never gets its result.", Scenarios: []string{"4"}, Tests: []string{"TestG9_EveryExitCompletes"}},
		{Name: "B27", What: "A panic that fn has recovered and returns as an error is thrown again.", Scenarios: []string{"B27"}, Tests: []string{"TestG10_ReturnedPanicErrorIsAnError"}},
		{Name: "B28", What: "panic(nil), panic(error), a runtime.Error, or a panic during Goexit is told as something else.", Scenarios: []string{"7"}, Tests: []string{"TestG10_PanicValues", "TestG9_PanicInGoexitGoesOn", "TestG9_PanicNil"}},
		{Name: "B29", What: "A panic is lost because nobody waits any more.", Scenarios: []string{"6"}, Tests: []string{"TestG10_UntoldPanicIsLogged", "TestDoMulti_UntoldPanicIsLogged"}},
		{Name: "B30", What: "A key that cannot be hashed panics under the lock, and the group is dead.", Scenarios: []string{"10"}, Tests: []string{"TestG11_UnhashableKey", "TestG11_UnhashableBehindNaN", "TestDoMulti_UnhashableKey"}},
		{Name: "B31", What: "Every call with NaN for a key leaves an entry behind.", Scenarios: []string{"9"}, Tests: []string{"TestG11_NaN", "TestDoMulti_NaN", "FuzzKeys"}},
		{Name: "B32", What: "The same key goes to different shards, as the hash has a new seed each time.", Scenarios: []string{"27"}, Tests: []string{"TestG11_EqualityDecides", "TestHashString", "TestTable_HashMixesUserHash"}},
		{Name: "B33", What: "No shards, or no hash function: the first call crashes.", Tests: []string{"TestMisuse", "TestTable_Shards"}},
		{Name: "B34", What: "Keys that were made into strings collide.", Not: "keys are compared by ==, whole; one that is made of less is the caller's"},
		{Name: "B35", What: "An execution that hangs keeps the memory of all callers that have given up.", Scenarios: []string{"B35"}, Tests: []string{"TestG12_LeaversTakeTheirMemory"}},
		{Name: "B36", What: "A key that comes twice in one call counts as shared, goes to fn twice, or blocks.", Tests: []string{"TestDoMulti_LoadsWhatNobodyLoads"}},
		{Name: "B37", What: "A key that fn's answer lacks looks like a success to those who joined.", Tests: []string{"TestDoMulti_Absent"}},
		{Name: "B38", What: "The caller changes its slice of keys meanwhile.", Tests: []string{"TestDoMulti_KeysMayChange"}},
		{Name: "B39", What: "Calls for the same keys in opposite orders wait for each other.", Tests: []string{"TestStorm_OppositeOrders", "TestDeadlock_CrossingBatches"}},
		{Name: "B40", What: "A nil value of an interface type hides fn's error.", Scenarios: []string{"32"}, Tests: []string{"TestG2_OneAnswer"}},
		{Name: "B41", What: "Who joined gets nil where the execution failed.", Scenarios: []string{"32"}, Tests: []string{"TestG2_OneAnswer", "TestStorm"}},
		{Name: "B42", What: "A data race on the shared flag.", Scenarios: []string{"31"}, Tests: []string{"TestStorm", "TestG17_MemoryModel"}},
		{Name: "B43", What: "The shared flag is wrong, or taken for a count.", Scenarios: []string{"23"}, Tests: []string{"TestG1_OneAtATime", "TestStorm"}},
		{Name: "B44", What: "Callers change a value that they share.", Scenarios: []string{"33"}, Tests: []string{"TestG2_Clone"}},
		{Name: "B45", What: "Forget in the middle closes a channel twice.", Scenarios: []string{"16"}, Tests: []string{"TestG15_Forget", "TestG15_ForgetInsideFn"}},
		{Name: "B46", What: "A record is used again, and a late reader sees another call's value.", Scenarios: []string{"24", "31"}, Tests: []string{"TestStorm", "TestStorm_JoinAndLeave"}},
		{Name: "B47", What: "The bound on waiters lets more through, or answers with nothing and a nil error.", Tests: []string{"TestMaxWaiters_Exact", "TestMaxWaiters_RoomIsMade", "TestMaxWaiters_Storm"}},
		{Name: "B48", What: "Waiters are woken one by one, or poll.", Scenarios: []string{"17"}, Tests: []string{"TestG16_LeaderDoesNotWaitForWaking", "TestG16_OtherKeysWhileWaking", "TestWaiter_Blocks"}},
		{Name: "B49", What: "fn calls for its own key, or two fns for each other's, and they hang.", Scenarios: []string{"12", "13"}, Tests: []string{"TestDeadlock_OwnKey", "TestDeadlock_TwoKeys", "TestDeadlock_LongCircle"}},
		{Name: "B50", What: "An execution starts after the group was closed.", Tests: []string{"TestShutdown_ClosesAllBeforeItTells", "TestShutdown_Waits", "TestStorm_Shutdown"}},
	}
}
