//go:build !coalesceexplore

// Package sched is the one seam between package coalesce and the scheduler.
//
// Every lock, atomic word, goroutine start, park, yield, timer, clock reading and random
// number of the core goes through the names below. The exceptions are the counters and
// the concurrent map of package xsync, and the buffered channels of receivers, which
// never block the sender: the explorer takes an operation on one of these, or on a
// [Counter], for a single step.
//
// In this build the names are aliases and small functions, nearly all of which are
// inlined. With the build tag coalesceexplore, controlled.go takes the place of this
// file, and an [Explorer] decides at each of them which goroutine goes on.
package sched

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a lock of the core. While one is held, no code of the user's runs.
type Mutex = sync.Mutex

// A Pointer is an atomic pointer of the core.
type Pointer[T any] = atomic.Pointer[T]

// A SetOnce is an atomic pointer that is set once, by CompareAndSwap.
type SetOnce[T any] = atomic.Pointer[T]

// A Bool is an atomic flag of the core.
type Bool = atomic.Bool

// An Int64 is an atomic integer of the core.
type Int64 = atomic.Int64

// A Completion is a channel that wakes its waiters when it is closed. It is closed once,
// and nothing is ever sent on it.
//
// A Completion is made when it is needed and never pooled. A channel belongs to the
// testing/synctest bubble in which it was made. If it outlived the bubble in a pool, its
// next use would be a fatal error.
type Completion = chan struct{}

// NewCompletion returns a Completion that is not complete.
func NewCompletion() Completion { return make(chan struct{}) }

// Complete completes c: it wakes all goroutines that wait on c, and no later wait on c
// blocks. c must not be complete.
func Complete(c Completion) { close(c) }

// IsComplete reports whether c is closed: a Completion, or the Done channel of a
// context.
func IsComplete(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Wait blocks until c is complete.
func Wait(c Completion) { <-c }

// WaitEither blocks until c is complete or done is closed, and reports whether it has
// found c complete. If both are, it may report either: it is for the caller to find out
// which came first. A nil done is never closed.
func WaitEither(c Completion, done <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-done:
		return false
	}
}

// WaitAny blocks until one of a, b and done is closed. A nil done is never closed.
func WaitAny(a, b Completion, done <-chan struct{}) {
	select {
	case <-a:
	case <-b:
	case <-done:
	}
}

// Yield lets other goroutines run.
func Yield() { runtime.Gosched() }

// Go starts a goroutine that runs fn.
func Go(fn func()) { go fn() }

// AfterFunc is [context.AfterFunc]: it arranges for fn to run in its own goroutine once
// ctx has ended.
func AfterFunc(ctx context.Context, fn func()) (stop func() bool) {
	return context.AfterFunc(ctx, fn)
}

// A Timer is a one-shot timer of the core. It may be stopped, but is never reset: a reset
// from another testing/synctest bubble is a fatal error.
//
// A stopped Timer keeps nothing alive. A [time.Timer] may: the runtime keeps it, and so
// its function, among its timers until it is due or a quarter of them have been stopped.
type Timer = *timer

type timer struct {
	real *time.Timer
	fn   func() // nil once Stop has kept the timer from firing
}

// After arranges for fn to run in its own goroutine once d has passed.
func After(d time.Duration, fn func()) Timer {
	t := &timer{fn: fn}
	t.real = time.AfterFunc(d, func() { t.fn() })
	return t
}

// Stop keeps the timer from firing, and reports whether it has: false means that the
// timer has fired or was stopped before.
func (t *timer) Stop() bool {
	stopped := t.real.Stop()
	if stopped {
		t.fn = nil // nobody else reads it any more
	}
	return stopped
}

// epoch is the time at which Now is 1.
var epoch = time.Now()

// Now returns a reading of the monotonic clock, in nanoseconds. It is never zero, so that
// zero can stand for a clock that has not been read.
func Now() int64 { return int64(time.Since(epoch)) + 1 }

// Random returns a random number.
func Random() uint64 { return rand.Uint64() }
