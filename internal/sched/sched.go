//go:build !coalesceexplore

// Package sched is the one seam between package coalesce and the scheduler.
//
// Every lock, atomic word, goroutine start, park, yield, clock reading and random
// number of the core goes through the names below, but for its counter of calls that
// take no part, which nothing depends on. In this build they are aliases and small
// functions, nearly all of which are inlined; with the build tag coalesceexplore, controlled.go takes
// the place of this file, and an explorer decides who goes on at each of them.
package sched

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a lock of the core. No code outside the core runs under one.
type Mutex = sync.Mutex

// A Pointer is an atomic pointer of the core.
type Pointer[T any] = atomic.Pointer[T]

// A SetOnce is an atomic pointer that is set once.
type SetOnce[T any] = atomic.Pointer[T]

// A Bool is an atomic flag of the core.
type Bool = atomic.Bool

// An Int64 is an atomic integer of the core.
type Int64 = atomic.Int64

// A Completion is the channel through which waiters are told: nothing is ever
// sent on it, it is closed once.
//
// It is made where it is needed and never pooled. A channel belongs to the
// testing/synctest bubble in which it was made, and one that outlived its
// bubble in a pool would kill the next user with a fatal error.
type Completion = chan struct{}

// NewCompletion returns a completion that nobody has been told through.
func NewCompletion() Completion { return make(chan struct{}) }

// Complete wakes everyone who waits on c, now or later. c must not be complete.
func Complete(c Completion) { close(c) }

// IsComplete reports whether c is complete, or whatever else it tells of by being
// closed has come.
func IsComplete(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Wait parks until c is complete.
func Wait(c Completion) { <-c }

// WaitEither parks until c is complete or done is closed, and reports whether
// it saw c. Both may have happened: the caller decides what that means. A nil
// done never closes.
func WaitEither(c Completion, done <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-done:
		return false
	}
}

// WaitAny parks until one of a, b and done is closed.
func WaitAny(a, b Completion, done <-chan struct{}) {
	select {
	case <-a:
	case <-b:
	case <-done:
	}
}

// Yield lets other goroutines run.
func Yield() { runtime.Gosched() }

// Go starts a goroutine.
func Go(fn func()) { go fn() }

// AfterFunc arranges for fn to run in its own goroutine once ctx has ended, as
// [context.AfterFunc] does.
func AfterFunc(ctx context.Context, fn func()) (stop func() bool) {
	return context.AfterFunc(ctx, fn)
}

// A Timer is a one-shot timer of the core. It is stopped, never reset: a reset
// from another testing/synctest bubble is a fatal error.
type Timer = *time.Timer

// After starts a goroutine that runs fn once d has passed.
func After(d time.Duration, fn func()) Timer { return time.AfterFunc(d, fn) }

// epoch is what Now counts from.
var epoch = time.Now()

// Now returns a reading of the monotonic clock that is never zero, so that
// zero can mean "not read yet".
func Now() int64 { return int64(time.Since(epoch)) + 1 }

// Random returns a random number.
func Random() uint64 { return rand.Uint64() }
