package kit

// HookLives are the hooks that may be called for a call, one after another, except
// Finish, which is called after the call may have returned. A key that a DoMulti leads
// has no Start unless it is the first that fn gets.
var HookLives = map[string]bool{
	"": true, "leave": true, "start": true, "start leave": true,
	"join receive": true, "join leave": true, "join start": true, "join start leave": true,
}
