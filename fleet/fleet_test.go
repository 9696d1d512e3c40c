package fleet

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds what the tests of this package share: a fleet of processes on one
// Memory, each with faults of its own, and calls that run meanwhile.

type group = Group[string, string]

// processes returns the Groups of n processes, "a", "b" and so on, and their engines. set
// may be nil.
func processes(n int, set func(*group)) (groups []*group, engines []*faulty) {
	memory := new(Memory)
	for i := range n {
		e := &faulty{Memory: memory}
		g := &group{Engine: e, Name: "test", Process: string(rune('a' + i))}
		if set != nil {
			set(g)
		}
		groups, engines = append(groups, g), append(engines, e)
	}
	return groups, engines
}

// A faulty is the engine as one process sees it.
type faulty struct {
	*Memory
	swaps, loads, arms atomic.Int32
	cut                atomic.Bool // nothing is answered
	mute               atomic.Bool // nothing is pushed

	// Each, if it is set, stands in for the operation, which do makes.
	swap func(ctx context.Context, prev uint64, rec record, do func() (Record, error)) (Record, error)
	load func(ctx context.Context, do func() (Record, error)) (Record, error)
	arm  func(ctx context.Context) error
}

var errCut = errors.New("cut off")

func (e *faulty) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (Record, error) {
	e.swaps.Add(1)
	if e.cut.Load() {
		<-ctx.Done()
		return Record{}, errCut
	}
	do := func() (Record, error) { return e.Memory.Swap(ctx, key, prev, val, ttl) }
	if e.swap == nil {
		return do()
	}
	rec, _ := box{}.decode(val, 0)
	return e.swap(ctx, prev, rec, do)
}

func (e *faulty) Load(ctx context.Context, key string) (Record, error) {
	e.loads.Add(1)
	if e.cut.Load() {
		<-ctx.Done()
		return Record{}, errCut
	}
	do := func() (Record, error) { return e.Memory.Load(ctx, key) }
	if e.load == nil {
		return do()
	}
	return e.load(ctx, do)
}

func (e *faulty) Notify(ctx context.Context, key string, f func(Record)) (func(), error) {
	e.arms.Add(1)
	if e.arm != nil {
		if err := e.arm(ctx); err != nil {
			return nil, err
		}
	}
	return e.Memory.Notify(ctx, key, func(r Record) {
		if !e.cut.Load() && !e.mute.Load() {
			f(r)
		}
	})
}

// ops returns the counts of operations, and resets them.
func (e *faulty) ops() [3]int32 {
	return [3]int32{e.swaps.Swap(0), e.arms.Swap(0), e.loads.Swap(0)}
}

// An outcome is that of a call that runs on a goroutine of its own.
type outcome struct {
	v        string
	info     Info
	err      error
	panicked any
	exited   bool
	took     time.Duration
	done     chan struct{}
}

// call makes a call of g. The outcome is valid after get.
func call(ctx context.Context, g *group, key string, fn func(context.Context) (string, error)) *outcome {
	o := &outcome{done: make(chan struct{}), exited: true}
	begin := time.Now()
	go func() {
		defer close(o.done)
		defer func() {
			o.panicked, o.took = recover(), time.Since(begin)
		}()
		o.v, o.info, o.err = g.DoInfo(ctx, key, fn)
		o.exited = false
	}()
	return o
}

// get waits for the outcome.
func (o *outcome) get() *outcome {
	<-o.done
	return o
}

// is fails the test unless the outcome is a value in a role.
func (o *outcome) is(t *testing.T, v string, role Role) {
	t.Helper()
	o.get()
	if o.v != v || o.err != nil || o.info.Role != role || o.panicked != nil {
		t.Errorf("got %q, %v, %+v, panic %v, want %q, %v", o.v, o.err, o.info, o.panicked, v, role)
	}
}

// between fails the test unless the call took so long.
func (o *outcome) between(t *testing.T, least, most time.Duration) {
	t.Helper()
	if o.get(); o.took < least || o.took > most {
		t.Errorf("took %v, want %v to %v", o.took, least, most)
	}
}

// A work is an fn that counts its executions.
type work struct{ n atomic.Int32 }

// after returns an fn that returns v when d has passed.
func (w *work) after(d time.Duration, v string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		w.n.Add(1)
		time.Sleep(d)
		return v, nil
	}
}

// obeying is after, and ends with its context.
func (w *work) obeying(d time.Duration, v string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		w.n.Add(1)
		if err := wait(ctx, d); err != nil {
			return "", err
		}
		return v, nil
	}
}

// wait waits until d has passed, or for the cause of ctx.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ran fails the test unless there have been n executions.
func (w *work) ran(t *testing.T, n int32) {
	t.Helper()
	if got := w.n.Load(); got != n {
		t.Errorf("got %d executions, want %d", got, n)
	}
}

// bubble runs f in a bubble, with time that passes at once when all goroutines wait. At
// the end it waits until nothing goes on.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}

// later waits so long in a bubble, and until all other goroutines wait.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// left fails the test if a Group or the engine holds anything.
func left(t *testing.T, e *faulty, groups ...*group) {
	t.Helper()
	for _, g := range groups {
		for f := range g.Flights() {
			t.Errorf("process %s has %+v left", g.Process, f)
		}
		st := g.Stats()
		if sum := st.Led + st.Followed + st.Adopted + st.Local + st.Left + st.Refused; sum != st.Runs {
			t.Errorf("process %s: %d of %d runs are in a class: %+v", g.Process, sum, st.Runs, st)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.watches) > 0 {
		t.Errorf("%d records are watched", len(e.watches))
	}
}

// panics returns what f panics with.
func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// exit is an fn that exits its goroutine.
func exit(context.Context) (string, error) {
	runtime.Goexit()
	return "", nil
}

// all waits for the outcomes.
func all(outcomes ...*outcome) {
	for _, o := range outcomes {
		o.get()
	}
}
