package scenarios

import (
	"context"
	"testing"
	"time"
)

// This file holds the scenarios about fns that wait for themselves.

// waits is the outcome of a cycle that is not found and whose callers give up.
const waits = "it is waited for until the deadline; no call of these keys is ever answered again"

var deadlocks = []Scenario{
	{
		Name: "12",
		Requires: "fn calls for its own key with the context that it has, itself or from a goroutine that it waits for: " +
			"it is refused at once, and the key works afterwards. (A call without a context cannot be refused: " +
			"Do waits forever, also that of coalesce.)",
		Run:   ownKey,
		Fails: map[string]string{XSync: stuck, Resenje: waits},
	},
	{
		Name:     "13",
		Requires: "The fn of one key calls for another, whose fn calls for the first, with the contexts that they have: the same.",
		Run:      twoKeys,
		Fails:    map[string]string{XSync: stuck, Resenje: waits},
	},
}

func ownKey(_ *testing.T, p *Peer) error {
	var f faults
	inCycle(&f, p, []string{"k"}, false)
	inCycle(&f, p, []string{"k"}, true)
	return f.err()
}

func twoKeys(_ *testing.T, p *Peer) error {
	var f faults
	inCycle(&f, p, []string{"a", "b"}, false)
	return f.err()
}

// inCycle makes a call for the first key, whose fn calls for the next, and so
// on, and that of the last for the first.
func inCycle(f *faults, p *Peer, keys []string, fromGoroutine bool) {
	g := p.New()
	if p.Has&Contexts == 0 {
		var fnOf func(i int) func() (any, error)
		fnOf = func(i int) func() (any, error) {
			return func() (any, error) {
				v, _, err := g.Do(keys[(i+1)%len(keys)], fnOf((i+1)%len(keys)))
				return v, err
			}
		}
		_, _, _ = g.Do(keys[0], fnOf(0))
		return
	}
	var fnOf func(i int) func(context.Context) (any, error)
	fnOf = func(i int) func(context.Context) (any, error) {
		return func(ctx context.Context) (any, error) {
			next := (i + 1) % len(keys)
			if fromGoroutine {
				c := g.doContext(ctx, keys[next], fnOf(next))
				<-c.done
				return c.v, c.err
			}
			v, _, err := g.DoContext(ctx, keys[next], fnOf(next))
			return v, err
		}
	}
	limited := func(key string, fn func(context.Context) (any, error)) (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		v, _, err := g.DoContext(ctx, key, fn)
		return v, err
	}
	if _, err := limited(keys[0], fnOf(0)); err == nil {
		f.add("the call gets a nil error")
	} else if err == context.DeadlineExceeded {
		f.add("it is waited for until the deadline")
	}
	for _, key := range keys {
		if v, err := limited(key, ctxValue(1)); v != 1 || err != nil {
			f.add("no call of these keys is ever answered again")
		}
	}
}
