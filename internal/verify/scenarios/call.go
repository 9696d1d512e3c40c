package scenarios

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// This file holds the parts of scenarios: calls, fns and faults.

var errTest = errors.New("test error")

// A call is one that was made on a goroutine of its own, with its answer. It may be read
// when it is over.
type call struct {
	v      any
	shared bool
	err    error
	panic  any
	exited bool // its goroutine exited
	done   chan struct{}
}

// start makes a call.
func start(do func() (any, bool, error)) *call {
	c := &call{exited: true, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		func() {
			defer func() { c.panic = recover() }()
			c.v, c.shared, c.err = do()
		}()
		c.exited = false
	}()
	return c
}

// do starts a call of Do.
func (g *Group) do(key any, fn func() (any, error)) *call {
	return start(func() (any, bool, error) { return g.Do(key, fn) })
}

// doContext starts a call of DoContext.
func (g *Group) doContext(ctx context.Context, key any, fn func(context.Context) (any, error)) *call {
	return start(func() (any, bool, error) { return g.DoContext(ctx, key, fn) })
}

// over reports whether c has got an answer.
func (c *call) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// got reports whether c is over and was answered with v and without an error.
func (c *call) got(v any) bool {
	return c.over() && c.v == v && c.err == nil && c.panic == nil && !c.exited
}

// gave reports whether c is over and returned err with no value.
func (c *call) gave(err error) bool {
	return c.over() && c.v == nil && c.err == err && c.panic == nil && !c.exited
}

// value returns an fn that yields v.
func value(v any) func() (any, error) { return func() (any, error) { return v, nil } }

// ctxValue is value for fns with a context.
func ctxValue(v any) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return v, nil }
}

// A gate holds fns until it is opened.
type gate struct {
	open chan struct{}
	runs atomic.Int32
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// then returns an fn that ends, in the way of end, when the gate is opened.
func (h *gate) then(end func() (any, error)) func() (any, error) {
	return func() (any, error) {
		h.runs.Add(1)
		<-h.open
		return end()
	}
}

// ctxThen is then for fns with a context, which they ignore.
func (h *gate) ctxThen(end func() (any, error)) func(context.Context) (any, error) {
	fn := h.then(end)
	return func(context.Context) (any, error) { return fn() }
}

// faults are the errors of a scenario, each once, in the order in which they were found.
type faults struct {
	mu   sync.Mutex
	list []string
}

func (f *faults) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := fmt.Sprintf(format, args...); !slices.Contains(f.list, s) {
		f.list = append(f.list, s)
	}
}

func (f *faults) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == 0 {
		return nil
	}
	return errors.New(strings.Join(f.list, "; "))
}

// usable checks that a key works: that a call is answered by its own fn.
func (f *faults) usable(g *Group, key any) {
	if v, _, err := g.Do(key, value("usable")); v != "usable" || err != nil {
		f.add("the key does not work afterwards")
	}
}

// heap returns the number of bytes in use on the heap.
func heap() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
