package coalesce

import (
	"errors"
	"fmt"
)

// This file holds KeyErrors and how the outcomes of single keys follow from the results
// of the fn of a DoMulti.

// KeyErrors is the error that the fn of [Group.DoMulti] returns if some of its keys
// have failed, or each in its own way. It holds the errors of those keys:
//
//	func load(ctx context.Context, ids []int) (map[int]*User, error) {
//		users, failed := map[int]*User{}, coalesce.KeyErrors[int]{}
//		for _, id := range ids {
//			if user, err := read(ctx, id); err != nil {
//				failed[id] = err
//			} else {
//				users[id] = user
//			}
//		}
//		return users, failed
//	}
//
// A key in it gets its own error, together with the value that fn's map holds for it.
// The other keys get their values, which may linger, or [ErrAbsent] if the map lacks
// them, as if fn had returned no error. A nil error is none, and keys that fn was not
// given are ignored. The same holds if fn is called for one key that was queued.
//
// A KeyErrors without an error in it is no error if fn returns it as it is: load above
// need not ask whether failed is empty.
//
// The error of fn may also wrap a KeyErrors: [errors.As] finds it, as part of fn and on
// fn's goroutine. The keys then get the errors in it, and the rest of the error is
// lost. If the wrapped KeyErrors is without an error, all keys get the error that wraps
// it.
//
// The group reads a KeyErrors when fn has returned; fn must not keep it and change it
// later. If it is returned by the fn of another form of call, or if its key type is not the
// group's, it is an error like any other.
type KeyErrors[K comparable] map[K]error

// Error returns how many keys have failed, and the text of one of their errors: that
// which sorts first, so that the text is the same each time. It contains no key, unless
// the error does.
func (e KeyErrors[K]) Error() string {
	n, first := 0, ""
	for _, err := range e {
		if err == nil {
			continue
		}
		if text := err.Error(); n == 0 || text < first {
			first = text
		}
		n++
	}
	switch n {
	case 0:
		return "coalesce: no key failed"
	case 1:
		return "coalesce: 1 key failed: " + first
	}
	return fmt.Sprintf("coalesce: %d keys failed, one of them: %s", n, first)
}

// empty reports whether no key has an error.
func (e KeyErrors[K]) empty() bool {
	for _, err := range e {
		if err != nil {
			return false
		}
	}
	return true
}

// answers are the outcomes of all keys of one execution of a DoMulti's fn.
type answers[K comparable, V any] struct {
	how    outcome // of the execution
	values map[K]V
	errs   KeyErrors[K] // of single keys
	err    error        // of all keys, unless it is nil
}

// returnedBy returns the answers of an fn that has returned m and err. It is a part of
// fn: it calls methods of err, which may panic or exit, so that no lock may be held.
func returnedBy[K comparable, V any](m map[K]V, err error) answers[K, V] {
	a := answers[K, V]{how: returned, values: m, err: err}
	if err == nil {
		return a
	}
	errs, asItIs := err.(KeyErrors[K])
	if asItIs || errors.As(err, &errs) && !errs.empty() {
		a.errs, a.err = errs, nil
	}
	return a
}

// of returns the outcome of key, which must be one that fn was given.
func (a *answers[K, V]) of(key K) (how outcome, v V, err error) {
	v, ok := a.values[key]
	if a.how != returned || a.err != nil {
		return a.how, v, a.err
	}
	if err = a.errs[key]; err == nil && !ok {
		return absent, v, ErrAbsent
	}
	return returned, v, err
}
