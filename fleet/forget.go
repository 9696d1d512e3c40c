package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// This file holds what is no call: Forget, Shutdown, Peek and Check.

// Forget makes later calls for key, in all processes, neither wait for an execution that
// has begun before nor get its result, and reports whether there was anything to forget.
// Calls that wait for another process start over. fn goes on for the calls of its own
// process, unless another process leads before it has ended: then fn's context ends. Those
// calls get fn's value, which is not stored, or that of the later execution.
//
// It returns the error of ctx, or ErrEngine after Grace; then this process has forgotten
// the key, and others may not have.
func (g *Group[K, V]) Forget(ctx context.Context, key K) (bool, error) {
	s := g.use()
	if ctx == nil {
		panic("fleet: nil context")
	}
	forgotten, err := s.forget(ctx, key)
	return s.core.Forget(key) || forgotten, endOr(ctx, err)
}

// endOr returns the error of ctx, if it has one, in the place of another.
func endOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// forget replaces what the engine has for key.
func (s *state[K, V]) forget(ctx context.Context, key K) (bool, error) {
	r := s.bystander(key)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	seen, err := r.load(&r.budget, ctx)
	if err != nil {
		return false, err
	}
	own := newNonce()
	for {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// What was read may be old, also that there is nothing: only a swap tells.
		rec := record{kind: released, token: seen.rec.token, nonce: own, process: s.process}
		got, err := r.swap(ctx, seen.rev, r.box.encode(&rec), 2*s.lease, own)
		switch {
		case err != nil:
			return false, err
		case got.mine:
			s.hints.put(r.name, got.rev, got.at)
			return seen.rev > 0 && seen.rec.kind != released, nil
		}
		seen = got.sight
		if seen.rev > 0 && !seen.read {
			if seen, err = r.find(&r.budget, ctx, seen.rev); err != nil {
				return false, err
			}
		}
	}
}

// bystander returns a run that only looks at the record of a key.
func (s *state[K, V]) bystander(key K) *run[K, V] {
	r := &run[K, V]{s: s, key: key, name: s.recordName(key), began: s.clock.now(), budget: s.newBudget()}
	r.box = s.vault.box(r.name)
	return r
}

// Shutdown makes later calls of this process get ErrClosed, and waits for those that are
// under way. If ctx ends first, it ends the contexts of their fn, with ErrClosed as the
// cause, waits at most Grace for the leases to be given up, and returns the error of ctx.
// A process that exits without it leaves leases, for whose expiry others wait.
func (g *Group[K, V]) Shutdown(ctx context.Context) error {
	s := g.use()
	err := s.core.Shutdown(ctx)
	over := make(chan struct{})
	stop := s.clock.after(s.grace, func() { close(over) })
	defer stop()
	select {
	case <-s.runs.ended():
	case <-over:
	}
	return err
}

// A Holder is the process that leads a key, or has led it last.
type Holder struct {
	Leads     bool // whether there is a lease; it may have expired
	Process   string
	Token     uint64
	Takeovers int
	Age       time.Duration // since its last sign of life; negative if the engine does not tell
}

// Peek returns who leads a key. It may be what was true some time ago. It returns
// ErrAbsent if there is no record, the error of ctx, or ErrEngine after Grace.
func (g *Group[K, V]) Peek(ctx context.Context, key K) (Holder, error) {
	s := g.use()
	if ctx == nil {
		panic("fleet: nil context")
	}
	r := s.bystander(key)
	if ctx.Err() != nil {
		return Holder{}, ctx.Err()
	}
	seen, err := r.load(&r.budget, ctx)
	switch {
	case err != nil:
		return Holder{}, endOr(ctx, err)
	case seen.rev == 0:
		return Holder{}, ErrAbsent
	}
	return Holder{
		Leads: seen.rec.kind == lease || seen.rec.kind == unreadable, Process: seen.rec.process,
		Token: seen.rec.token, Takeovers: int(seen.rec.attempt), Age: seen.age,
	}, nil
}

// A Checker is an [Engine] that can find mistakes in its settings.
type Checker interface {
	// Check returns an error that says which setting of the engine is wrong. sealed says
	// whether the records are.
	Check(ctx context.Context, sealed bool) error
}

// checkFor is how long a Check without a deadline takes at most.
const checkFor = 10 * time.Second

// Check finds out whether the Group can do what it is for: whether it may read, write and
// be notified, which some engines do not report otherwise, whether a swap compares
// revisions, and what a [Checker] knows. Call it when the process starts. It takes as long
// as a few operations, and at most 5 seconds and Grace. It writes one record of its own,
// which expires.
func (g *Group[K, V]) Check(ctx context.Context) error {
	s := g.use()
	if ctx == nil {
		panic("fleet: nil context")
	}
	if _, ok := ctx.Deadline(); !ok {
		c, cancel := context.WithTimeout(ctx, checkFor)
		defer cancel()
		ctx = c
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second+s.grace)
	defer cancel()
	if c, ok := s.engine.(Checker); ok {
		if err := c.Check(ctx, len(s.vault.secrets) > 0); err != nil {
			return fmt.Errorf("fleet: check of %s: %w", s.engine.Caps().Name, err)
		}
	}
	own := newNonce()
	name := s.vault.recordName(append([]byte("check "), own[:]...))
	if err := s.check(ctx, name); err != nil {
		return fmt.Errorf("fleet: check of %s, record %s: %w", s.engine.Caps().Name, name, err)
	}
	return nil
}

func (s *state[K, V]) check(ctx context.Context, name string) error {
	pushed := make(chan struct{}, 1)
	stop, err := s.engine.Notify(ctx, name, func(Record) {
		select {
		case pushed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("Notify: %w", err)
	}
	defer stop()
	val := s.vault.box(name).encode(&record{kind: released, process: s.process, payload: make([]byte, s.maxResult)})
	first, err := s.engine.Swap(ctx, name, 0, val, 2*s.lease)
	if err != nil {
		return fmt.Errorf("Swap: %w", err)
	}
	var c *Conflict
	switch _, err := s.engine.Swap(ctx, name, 0, val, 2*s.lease); {
	case err == nil:
		return errors.New("Swap does not compare revisions: two processes would lead at once")
	case !errors.As(err, &c):
		return fmt.Errorf("Swap for a wrong revision: %w", err)
	}
	for {
		rec, err := s.engine.Load(ctx, name)
		if err == nil && rec.Rev == first.Rev {
			break
		}
		if err != nil && !errors.Is(err, ErrAbsent) {
			return fmt.Errorf("Load: %w", err)
		}
		if err := pause(ctx, s.clock, firstWait); err != nil {
			return fmt.Errorf("Load does not find the record: %w", err)
		}
	}
	if !s.engine.Caps().Push {
		return nil
	}
	// A subscription may take a moment until it is in force: swap until something comes.
	for rev := first.Rev; ; {
		select {
		case <-pushed:
			return nil
		case <-ctx.Done():
		case <-time.After(secondRead):
		}
		if ctx.Err() != nil {
			return fmt.Errorf("nothing is pushed, perhaps for lack of a permission to subscribe: %w", ctx.Err())
		}
		rec, err := s.engine.Swap(ctx, name, rev, val[:headerSize+len(s.process)], 2*s.lease)
		if err != nil {
			return fmt.Errorf("Swap: %w", err)
		}
		rev = rec.Rev
	}
}

// probe asks the engine anything, for the breaker.
func (s *state[K, V]) probe() bool {
	ctx, cancel := context.WithTimeout(context.Background(), s.tryFor)
	defer cancel()
	_, err := s.engine.Load(ctx, s.vault.recordName([]byte("probe")))
	return answered(err)
}
