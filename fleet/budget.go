package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// This file holds how long a Group waits for an engine that does not answer.
//
// A run has one budget, Grace. It is spent only while an operation has failed or is
// unanswered, and that of all operations of the run together. Each try has a time limit,
// so that one lost request does not cost all. When a budget is spent, or nothing was
// answered to any run for Grace, the breaker opens: runs that begin after that do not try
// the engine, until a probe, of which there is one in a second, or another run has been
// answered.

const (
	mostTry   = 250 * time.Millisecond // the limit of one try, so that a lost request costs no more
	firstWait = 20 * time.Millisecond  // before the second try; each wait is up to twice as long, at random
	mostWait  = 250 * time.Millisecond
	probeEach = time.Second
)

// A budget is that of one run. Only one goroutine uses it at a time.
type budget struct {
	clock   clock
	breaker *breaker // nil for writes that go on after their run
	stats   *counters
	slots   slots
	tryFor  time.Duration
	left    time.Duration
	failed  error // the last failure, or nil; errBreaker for a run that is not to try
	misses  int   // tries that were not answered
}

// slots bound the operations of a Group that are under way at once. A thousand that begin
// in one moment keep a busy machine from answering any of them within the time of a try, and
// trying again makes it worse. The time that one waits for a slot is not the engine's, but
// as far as that has not answered those that have one.
type slots chan struct{}

const mostSlots = 64

// enter takes a slot, and reports whether it has waited for it.
func (s slots) enter(ctx context.Context) (waited bool, err error) {
	select {
	case s <- struct{}{}:
		return false, nil
	default:
	}
	select {
	case s <- struct{}{}:
		return true, nil
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

func (s slots) leave() { <-s }

// spentError is the error of do when the budget is spent.
type spentError struct{ last error }

func (e *spentError) Error() string        { return fmt.Sprintf("%v: %v", ErrEngine, e.last) }
func (e *spentError) Is(target error) bool { return target == ErrEngine }
func (e *spentError) Unwrap() error        { return e.last }

// errTooLate is the error of a write that is not made, as others may have come and gone.
var errTooLate = errors.New("fleet: too late")

// answered reports whether err, of an operation, is an answer of the engine.
func answered(err error) bool {
	var c *Conflict
	return err == nil || errors.Is(err, ErrAbsent) || errors.As(err, &c)
}

// do calls op until the engine has answered, and returns that answer. It returns a
// *spentError once the budget is spent, and the cause of ctx if that ends first; op gets
// another context, as a write must not be cut off because a caller has left. If must is
// set, or nothing has failed yet, op is tried at least once, whatever is left.
func (b *budget) do(ctx context.Context, must bool, op func(context.Context) error) error {
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		limit := min(b.tryFor, b.left)
		if must || limit <= 0 && b.failed == nil {
			limit = b.tryFor
		}
		if limit <= 0 {
			if b.failed != errBreaker && b.breaker != nil {
				b.breaker.open(b.clock.now())
			}
			return &spentError{b.failed}
		}
		begin := b.clock.now()
		waited, err := b.slots.enter(ctx)
		if err != nil {
			return err
		}
		if waited && b.breaker != nil {
			now := b.clock.now()
			b.spend(min(now-begin, b.breaker.silence(now)))
			if b.breaker.isOpen(now) {
				b.slots.leave()
				return &spentError{errBreaker}
			}
			begin = now
		}
		must = false
		tryCtx, cancel := context.WithTimeout(context.Background(), limit)
		err = op(tryCtx)
		cancel()
		b.slots.leave()
		if err == errTooLate {
			return err
		}
		if answered(err) {
			if b.breaker != nil {
				b.breaker.close()
			}
			if wait > firstWait { // it has failed before
				b.spend(b.clock.now() - begin)
			}
			return err
		}
		b.failed = err
		b.misses++
		b.stats.engineErrors.Add(1)
		now := b.clock.now()
		b.spend(now - begin)
		if b.breaker != nil {
			b.breaker.missed(begin, now)
		}
		if b.left <= 0 {
			continue
		}
		begin = b.clock.now()
		if err := pause(ctx, b.clock, min(wait+b.clock.random(wait), b.left)); err != nil {
			return err
		}
		b.spend(b.clock.now() - begin)
		b.stats.retries.Add(1)
	}
}

func (b *budget) spend(d time.Duration) {
	d = min(d, b.left)
	b.left -= d
	if b.breaker != nil {
		b.stats.graceSpent.Add(int64(d))
	}
}

var errBreaker = errors.New("it has not answered a call before this one")

// pause blocks for d, or until ctx ends, whose cause it returns then.
func pause(ctx context.Context, c clock, d time.Duration) error {
	over := make(chan struct{})
	stop := c.after(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A breaker keeps the runs of a Group from waiting for an engine that has just used up a
// budget.
type breaker struct {
	probe func() bool   // asks the engine, and reports whether it has answered
	each  time.Duration // the time between two probes
	grace time.Duration

	mu    sync.Mutex
	isSet bool
	next  time.Duration // when the next probe is due

	// silent is set if no try was answered since the given time. The last one that was not
	// has ended at last.
	silent      bool
	since, last time.Duration
}

// missed notes that a try was not answered, and opens the breaker if no other was for Grace.
func (k *breaker) missed(begin, now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.silent || begin-k.last > k.grace {
		k.silent, k.since = true, begin
	}
	k.last = now
	if now-k.since >= k.grace {
		k.set(now)
	}
}

// set opens the breaker. k.mu must be held.
func (k *breaker) set(now time.Duration) {
	if !k.isSet {
		k.isSet, k.next = true, now+k.each
	}
}

// silence returns for how long no try was answered.
func (k *breaker) silence(now time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.silent {
		return 0
	}
	return now - k.since
}

// isOpen reports whether the breaker is open, and starts a probe if that is due.
func (k *breaker) isOpen(now time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isSet && now >= k.next {
		k.next = now + k.each
		go func() {
			if k.probe() {
				k.close()
			}
		}()
	}
	return k.isSet
}

func (k *breaker) open(now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set(now)
}

func (k *breaker) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.isSet, k.silent = false, false
}
