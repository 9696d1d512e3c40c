package fleettest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
)

// This file checks that the suite finds what may be wrong with an engine. Each broken
// engine is in memory, but for what it does wrong, and is checked by a process of its own,
// as its test fails.

// A faulty engine replaces what is not nil.
type faulty struct {
	*fleet.Memory
	swap   func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error)
	load   func(ctx context.Context, key string) (fleet.Record, error)
	notify func(ctx context.Context, key string, f func(fleet.Record)) (func(), error)
	grain  time.Duration
}

func (f *faulty) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
	if f.swap != nil {
		return f.swap(ctx, key, prev, val, ttl)
	}
	return f.Memory.Swap(ctx, key, prev, val, ttl)
}

func (f *faulty) Load(ctx context.Context, key string) (fleet.Record, error) {
	if f.load != nil {
		return f.load(ctx, key)
	}
	return f.Memory.Load(ctx, key)
}

func (f *faulty) Notify(ctx context.Context, key string, g func(fleet.Record)) (func(), error) {
	if f.notify != nil {
		return f.notify(ctx, key, g)
	}
	return f.Memory.Notify(ctx, key, g)
}

func (f *faulty) Caps() fleet.Caps {
	c := f.Memory.Caps()
	c.TTLGrain = f.grain
	return c
}

// brokenEngines has for each the part of the suite that finds it, and what breaks an engine.
var brokenEngines = map[string]struct {
	part string
	make func(e *faulty, o *fleettest.Options)
}{
	"compares nothing": {"Shared/Swap", func(e *faulty, _ *fleettest.Options) {
		e.swap = func(ctx context.Context, key string, _ uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, _ := e.Memory.Load(ctx, key)
			return e.Memory.Swap(ctx, key, rec.Rev, val, ttl)
		}
	}},
	"names another revision": {"Shared/Swap", func(e *faulty, _ *fleettest.Options) {
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			if c, ok := err.(*fleet.Conflict); ok {
				c.Record.Rev++
			}
			return rec, err
		}
	}},
	"writes over what is later": {"Shared/Swap", func(e *faulty, _ *fleettest.Options) {
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			if rec, _ := e.Memory.Load(ctx, key); rec.Rev < prev && rec.Rev > 0 {
				prev = rec.Rev
			}
			return e.Memory.Swap(ctx, key, prev, val, ttl)
		}
	}},
	"keeps the value": {"Shared/Keeps", func(e *faulty, _ *fleettest.Options) {
		var kept []byte
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			kept = val
			return e.Memory.Swap(ctx, key, prev, val, ttl)
		}
		e.load = func(ctx context.Context, key string) (fleet.Record, error) {
			rec, err := e.Memory.Load(ctx, key)
			rec.Val = kept
			return rec, err
		}
	}},
	"compares, and then writes": {"Shared/OneWins", func(e *faulty, _ *fleettest.Options) {
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, _ := e.Memory.Load(ctx, key)
			if rec.Rev == prev {
				time.Sleep(time.Millisecond)
				rec, _ = e.Memory.Load(ctx, key)
				prev = rec.Rev
			}
			return e.Memory.Swap(ctx, key, prev, val, ttl)
		}
	}},
	"loses writes that it has acknowledged": {"Shared/History", func(e *faulty, _ *fleettest.Options) {
		var n atomic.Int32
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			if rec, _ := e.Memory.Load(ctx, key); rec.Rev == prev && n.Add(1)%30 == 0 {
				return fleet.Record{Rev: rec.Rev + 1}, nil
			}
			return e.Memory.Swap(ctx, key, prev, val, ttl)
		}
	}},
	"makes swaps that it has refused": {"Shared/History", func(e *faulty, _ *fleettest.Options) {
		var n atomic.Int32
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			if err == nil && n.Add(1)%30 == 0 {
				return fleet.Record{}, &fleet.Conflict{Record: rec}
			}
			return rec, err
		}
	}},
	"conflicts with what there was before": {"Shared/History", func(e *faulty, _ *fleettest.Options) {
		var mu sync.Mutex
		before := map[string]uint64{}
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			if c, ok := err.(*fleet.Conflict); ok && before[key] > prev {
				c.Record.Rev = before[key]
			}
			if err == nil {
				before[key] = prev
			}
			return rec, err
		}
	}},
	"stores what is too long": {"Shared/Limit", func(e *faulty, _ *fleettest.Options) {
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			return e.Memory.Swap(ctx, key, prev, val[:min(len(val), e.Memory.Caps().MaxValue)], ttl)
		}
	}},
	"leaves a tombstone": {"Shared/Expired", func(e *faulty, _ *fleettest.Options) {
		var last sync.Map
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			if rev, ok := last.Load(key); ok && rev != prev {
				return fleet.Record{}, &fleet.Conflict{Record: fleet.Record{Rev: rev.(uint64)}}
			}
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			if err == nil {
				last.Store(key, rec.Rev)
			}
			return rec, err
		}
	}},
	"rounds a ttl down": {"Shared/ExpiredOdd", func(e *faulty, _ *fleettest.Options) {
		e.grain = 400 * time.Millisecond
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			return e.Memory.Swap(ctx, key, prev, val, ttl.Truncate(e.grain))
		}
	}},
	"says that all is new": {"Shared/Age", func(e *faulty, _ *fleettest.Options) {
		e.load = func(ctx context.Context, key string) (fleet.Record, error) {
			rec, err := e.Memory.Load(ctx, key)
			rec.Age = 0
			return rec, err
		}
	}},
	"takes the end of a context for absence": {"Shared/Context", func(e *faulty, _ *fleettest.Options) {
		e.load = func(ctx context.Context, key string) (fleet.Record, error) {
			rec, err := e.Memory.Load(ctx, key)
			if err != nil {
				err = fleet.ErrAbsent
			}
			return rec, err
		}
	}},
	"pushes nothing": {"Shared/Notify", func(e *faulty, _ *fleettest.Options) {
		e.notify = func(context.Context, string, func(fleet.Record)) (func(), error) { return func() {}, nil }
	}},
	"pushes other keys": {"Shared/Notify", func(e *faulty, _ *fleettest.Options) {
		var mu sync.Mutex
		all := map[*func(fleet.Record)]bool{}
		e.notify = func(_ context.Context, _ string, f func(fleet.Record)) (func(), error) {
			mu.Lock()
			defer mu.Unlock()
			all[&f] = true
			return func() {
				mu.Lock()
				defer mu.Unlock()
				delete(all, &f)
			}, nil
		}
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			mu.Lock()
			defer mu.Unlock()
			for f := range all {
				(*f)(rec)
			}
			return rec, err
		}
	}},
	"subscribes later and reads what there was": {"Shared/NotifyEarly", func(e *faulty, _ *fleettest.Options) {
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) { return func() {}, nil }
		var old sync.Map
		e.load = func(ctx context.Context, key string) (fleet.Record, error) {
			rec, err := e.Memory.Load(ctx, key)
			if was, ok := old.LoadOrStore(key, rec); ok {
				return was.(fleet.Record), nil
			}
			return rec, err
		}
		e.swap = func(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
			rec, err := e.Memory.Swap(ctx, key, prev, val, ttl)
			if err == nil {
				_, _ = e.load(ctx, key)
			}
			return rec, err
		}
	}},
	"does not stop": {"Shared/Stop", func(e *faulty, _ *fleettest.Options) {
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			_, err := e.Memory.Notify(ctx, key, f)
			return func() {}, err
		}
	}},
	"stops all of a key": {"Shared/Stop", func(e *faulty, _ *fleettest.Options) {
		var mu sync.Mutex
		stops := map[string][]func(){}
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			stop, err := e.Memory.Notify(ctx, key, f)
			mu.Lock()
			defer mu.Unlock()
			stops[key] = append(stops[key], stop)
			return func() {
				mu.Lock()
				defer mu.Unlock()
				for _, stop := range stops[key] {
					stop()
				}
				stops[key] = nil
			}, err
		}
	}},
	"does not come back": {"Disconnected", func(e *faulty, o *fleettest.Options) {
		var cut atomic.Bool
		o.Disconnect = func(testing.TB, fleet.Engine) { cut.Store(true) }
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			return e.Memory.Notify(ctx, key, func(rec fleet.Record) {
				if !cut.Load() {
					f(rec)
				}
			})
		}
	}},
	"says that it is back too early": {"Disconnected", func(e *faulty, o *fleettest.Options) {
		var cut atomic.Bool
		var last func(fleet.Record)
		o.Disconnect = func(testing.TB, fleet.Engine) {
			cut.Store(true)
			last(fleet.Record{})
		}
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			last = f
			return e.Memory.Notify(ctx, key, func(rec fleet.Record) {
				if !cut.Load() {
					f(rec)
				}
			})
		}
	}},
	"leaves a goroutine for each watch": {"Held", func(e *faulty, _ *fleettest.Options) {
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			go func() { select {} }()
			return e.Memory.Notify(ctx, key, f)
		}
	}},
	"has a connection for each watch": {"Held", func(e *faulty, o *fleettest.Options) {
		var n atomic.Int32
		o.Held = func(testing.TB) (connections, subscriptions int) { return int(n.Load()), int(n.Load()) }
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			stop, err := e.Memory.Notify(ctx, key, f)
			n.Add(1)
			return func() {
				n.Add(-1)
				stop()
			}, err
		}
	}},
	"leaves subscriptions": {"Held", func(e *faulty, o *fleettest.Options) {
		var n atomic.Int32
		o.Held = func(testing.TB) (connections, subscriptions int) { return 1, int(n.Load()) }
		e.notify = func(ctx context.Context, key string, f func(fleet.Record)) (func(), error) {
			n.Add(1)
			return e.Memory.Notify(ctx, key, f)
		}
	}},
	"begins again with revision 1 after a loss": {"Lost", func(e *faulty, o *fleettest.Options) {
		o.Lose = func(testing.TB) { e.Memory = new(fleet.Memory) }
	}},
}

const brokenVariable = "FLEETTEST_BROKEN"

// TestEngine_Broken: the suite finds each broken engine.
func TestEngine_Broken(t *testing.T) {
	for name, b := range brokenEngines {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			pattern := "^TestChild$/^" + strings.ReplaceAll(b.part, "/", "$/^") + "$"
			cmd := exec.Command(os.Args[0], "-test.run="+pattern, "-test.timeout=60s")
			cmd.Env = append(os.Environ(), brokenVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if _, failed := err.(*exec.ExitError); !failed || !strings.Contains(string(out), "--- FAIL: TestChild/"+b.part) {
				t.Errorf("an engine that %s: got %v and\n%s\nwant %s to fail", name, err, out, b.part)
			}
		})
	}
}

// TestChild checks a broken engine, in a process of its own.
func TestChild(t *testing.T) {
	b, ok := brokenEngines[os.Getenv(brokenVariable)]
	if !ok {
		t.Skip("this is for TestEngine_Broken")
	}
	fleettest.SetPatience(time.Second)
	e := &faulty{Memory: new(fleet.Memory)}
	var o fleettest.Options
	b.make(e, &o)
	fleettest.Engine(t, func(testing.TB) fleet.Engine { return e }, o)
}
