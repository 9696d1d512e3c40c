package benchmarks

import (
	"context"
	"sync/atomic"
)

// This file holds the form in which the workloads see an implementation: as a function
// that makes one call.
//
// A workload cannot pass an fn in any form. Where a whole call takes some tens of
// nanoseconds, a closure that goes through an interface or a function value escapes, so
// every call would pay for an allocation that a program which uses the package directly
// does not have. A task goes through, as a pointer, to the function of the
// implementation, and there becomes a closure that captures it, as those of real callers
// do. That closure goes to the heap if the implementation itself makes it, and not
// otherwise. The detour only adds an indirect call, about a nanosecond.

// A page is the result of the benchmarked functions. It is passed as a pointer
// throughout: x/sync's functions return any, and a pointer goes into an any without an
// allocation that would then be held against it.
type page struct {
	body uint64
	over atomic.Int64 // see clock
}

// A task is the work of a call: page is returned, unless there is an fn.
type task struct {
	page *page
	fn   func() (*page, error)
}

// do does t. The implementations run it.
func (t *task) do() (*page, error) {
	if t.fn != nil {
		return t.fn()
	}
	return t.page, nil
}

// A call makes one call for key: it does t, or waits for another call for the key that
// does its own.
type call[K comparable] func(key K, t *task) (*page, error)

// A contextCall is a call that ends with ctx, if that ends first.
type contextCall func(ctx context.Context, key string, t *task) (*page, error)

// makeTasks returns n tasks, each with a page of its own.
func makeTasks(n int) []task {
	tasks, pages := make([]task, n), make([]page, n)
	for i := range tasks {
		tasks[i].page = &pages[i]
	}
	return tasks
}

// keyLen is the length of the keys that makeKeys returns.
const keyLen = 16

// makeKeys returns n distinct keys, which differ from those of other owners.
// All of them lie in one string, so that a million are made quickly.
func makeKeys(owner, n int) []string {
	text := make([]byte, 0, n*keyLen)
	for i := range n {
		text = append(text, "key-00-000000000"...)
		for at, v := len(text)-1, i; v > 0; at, v = at-1, v/10 {
			text[at] += byte(v % 10)
		}
		for at, v := len(text)-keyLen+5, owner; v > 0; at, v = at-1, v/10 {
			text[at] += byte(v % 10)
		}
	}
	keys, all := make([]string, n), string(text)
	for i := range keys {
		keys[i] = all[i*keyLen : (i+1)*keyLen]
	}
	return keys
}
