//go:build coalesceexplore

package coalesce

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file explores single steps that the schedules of whole programs do not
// distinguish: state under a lock must not change while another goroutine holds the lock.

// A guard is a lock, the state under it, and an operation that runs at the same time.
type guard struct {
	mu    *sched.Mutex
	state func() any // the state under mu
	op    func()
}

// explored returns an error if, in some order, the guard's op changes the state while
// another goroutine holds the lock.
func (make guardMaker) explored() error {
	return sched.Explorer{Preemptions: 2, Releases: true}.Explore(func() (err error) {
		g := make()
		sched.Go(func() {
			g.mu.Lock()
			before := g.state()
			sched.Point()
			if after := g.state(); after != before {
				err = fmt.Errorf("while the lock is held, %+v becomes %+v", before, after)
			}
			g.mu.Unlock()
		})
		sched.Go(g.op)
		sched.Join()
		return err
	}).Err
}

// A guardMaker makes a guard for each run.
type guardMaker func() guard

// TestExplore_ReleasesOfGuards: the state under a lock does not change while another
// goroutine holds it.
func TestExplore_ReleasesOfGuards(t *testing.T) {
	l := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() { slog.SetDefault(l) })

	const key = 1
	// batched returns the load of a batch with one key, whose fn panics.
	batched := func() (*shard[int, int], *load[int, int], *flight[int, int]) {
		g := &Group[int, int]{Shards: 1}
		l := newLoad[int, int](context.Background(), func(context.Context, []int) (map[int]int, error) { panic("fn") }, 2)
		s := g.use().at(0)
		return s, l, l.add(s, 0, key)
	}
	// received returns a receiver with an ended context that leads a flight, called by
	// the fn of another.
	received := func() *caller[int, int] {
		s := (&Group[int, int]{Shards: 1}).use().at(0)
		r := &caller[int, int]{
			shard: s, ch: make(chan Result[int], 1), ctx: endedBy(ErrClosed),
			edge: &edge{from: new(flightContext)},
		}
		r.lead(0, key)
		r.list()
		return r
	}
	// kept1 returns the lingerers of a group, and one that may be kept there.
	kept1 := func() (*lingerers[int, int], *lingerer[int, int]) {
		gs := (&Group[int, int]{Shards: 1, Linger: time.Second}).use()
		s := gs.at(0)
		p := &lingerer[int, int]{key: key, shard: s, end: never, place: -1}
		s.makeIndex().Store(slot[int]{p.key, p.hash}, p)
		return gs.lingering, p
	}
	for name, make := range map[string]guardMaker{
		"Done": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.done }, func() { c.Done() }}
		},
		"AfterFunc": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.after }, func() { c.AfterFunc(func() {}) }}
		},
		"stop": func() guard {
			c := new(flightContext)
			stop := c.AfterFunc(func() {})
			return guard{&c.mu, func() any { return c.after }, func() { stop() }}
		},
		"mark": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.end }, func() { c.mark(endedBy(ErrClosed)) }}
		},
		"mark unfinished": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.end }, func() { c.markUnfinished(endedBy(ErrClosed)) }}
		},
		"hold": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.held }, func() { c.hold() }}
		},
		"abandon": func() guard {
			c := new(flightContext)
			return guard{&c.mu, func() any { return c.gone.Load() }, func() { c.abandon() }}
		},
		"a look refuses": func() guard { // a call of an fn that waits for its own flight
			c := new(flightContext)
			e := &edge{from: c, to: c, key: key}
			c.edges.push(e)
			c.awaited.Store(true)
			return guard{&c.mu, func() any { return [...]any{e.to, e.refusal, c.edges} }, func() { _ = e.search(nil) }}
		},
		"a call leads that a look may refuse": func() guard {
			e := &edge{from: new(flightContext)}
			return guard{&e.from.mu, func() any { return e.leads }, func() { _ = e.exempt() }}
		},
		"begin to linger": func() guard {
			l, p := kept1()
			return guard{&l.mu, func() any { return [...]any{l.order.n, p.place} }, func() { l.begin(p, nil) }}
		},
		"drop a lingerer": func() guard {
			l, p := kept1()
			l.begin(p, nil)
			return guard{&l.mu, func() any { return [...]any{l.order.n, p.place} }, func() { l.drop(p) }}
		},
		"sweep": func() guard {
			l, p := kept1()
			p.end = sched.Now()
			l.begin(p, nil)
			return guard{&l.mu, func() any { return [...]any{l.order.n, p.place, len(l.sweeps)} }, func() { l.expired() }}
		},
		"cancel": func() guard {
			c := new(flightContext)
			done := c.Done()
			return guard{&c.settling, func() any { return sched.IsComplete(done) }, func() { c.cancel(ErrClosed) }}
		},
		"count a batch": func() guard {
			_, l, _ := batched()
			b := l.batch
			return guard{&b.mu, func() any { return [...]any{b.callers, b.n} }, func() { b.counted(2) }}
		},
		"leave a batch": func() guard {
			_, l, _ := batched()
			b := l.batch
			return guard{&b.mu, func() any { return b.callers }, func() { b.depart() }}
		},
		"conclude a batch": func() guard {
			_, l, _ := batched()
			b := l.batch
			return guard{&b.mu, func() any { return b.ctx.finished.Load() }, b.conclude}
		},
		"reveal a flight of a batch": func() guard {
			s, l, f := batched()
			return guard{&s.mu, func() any { return f.known }, func() { l.share(0) }}
		},
		"finish a batch": func() guard {
			s, l, _ := batched()
			return guard{&s.mu, func() any { return [...]any{s.counts, s.count, s.nfree, l.claims[0].flight} }, l.run}
		},
		"finish an abandoned batch": func() guard {
			s, l, f := batched()
			l.batch.callers, f.callers, f.leading, f.known = 0, 0, false, true
			return guard{&s.mu, func() any { return [...]any{s.counts, s.count, f.state} }, l.run}
		},
		"a receiver leaves the graph": func() guard {
			r := received()
			return guard{&r.edge.from.mu, func() any { return r.edge.from.edges }, func() { r.withdraw(r.ctx) }}
		},
		"a receiver leaves its flight": func() guard {
			r := received()
			return guard{&r.shard.mu, func() any { return [...]any{r.gone, r.flight.callers} }, func() { r.withdraw(r.ctx) }}
		},
	} {
		if err := make.explored(); err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
		}
	}
	if err := guardMaker(func() guard {
		var mu sched.Mutex
		n := 0
		return guard{&mu, func() any { return n }, func() { mu.Lock(); n++; mu.Unlock(); n++ }}
	}).explored(); err == nil {
		t.Error("an operation after the release of the lock: got nil, want an error")
	}
}

// TestExplore_ReleasesOfAbandoned: the number of callers of a batch is read under its
// lock.
func TestExplore_ReleasesOfAbandoned(t *testing.T) {
	rep := sched.Explorer{Preemptions: 2, Releases: true}.Explore(func() (err error) {
		b := &batch[int, int]{callers: 1}
		sched.Go(func() {
			b.mu.Lock()
			b.callers = 0
			sched.Point()
			b.callers = 1
			b.mu.Unlock()
		})
		sched.Go(func() {
			if b.deserted() {
				err = fmt.Errorf("callers is read outside of the lock")
			}
		})
		sched.Join()
		return err
	})
	if rep.Err != nil {
		t.Errorf("got %v, want nil\n%s", rep.Err, rep.Trace)
	}
}

// A lateThread is a context that a thread of its own ends. It calls found when a
// call asks it for a value, which is after that call has looked for an outcome
// without the lock.
type lateThread struct {
	context.Context
	found func()
	done  chan struct{}
	ended bool
}

func newLateThread(found func()) *lateThread {
	c := &lateThread{Context: context.Background(), found: found, done: make(chan struct{})}
	sched.Go(func() {
		sched.Point()
		c.ended = true
		close(c.done)
	})
	return c
}

func (c *lateThread) Done() <-chan struct{} { return c.done }

func (c *lateThread) Err() error {
	sched.Point()
	if c.ended {
		return context.Canceled
	}
	return nil
}

func (c *lateThread) Value(any) any {
	if found := c.found; found != nil {
		c.found = nil
		found()
	}
	return nil
}

// TestExplore_LingerReceivesOnce: a receiver whose call is answered under the lock by a
// lingering outcome, or refused, while its context ends, gets one result, and is counted
// once.
func TestExplore_LingerReceivesOnce(t *testing.T) {
	for _, closed := range []bool{false, true} {
		run := func() error {
			g := &Group[int, int]{Shards: 1, Linger: Forever}
			late := func() { _, _, _ = g.Do(1, func() (int, error) { return 7, nil }) }
			calls := uint64(1)
			if closed {
				_ = g.Shutdown(context.Background())
			}
			var ch <-chan Result[int]
			sched.Go(func() {
				ch = g.DoChan(newLateThread(func() { late(); calls++ }), 1, func(context.Context) (int, error) { return 8, nil })
			})
			sched.Join()
			res := <-ch
			if res.Err == nil && (closed || res.Val != 7) || len(ch) > 0 {
				return fmt.Errorf("received %+v, and %d more", res, len(ch))
			}
			if st := g.Stats(); st.Calls != calls {
				return fmt.Errorf("%d calls are counted as %+v", calls, st)
			}
			return nil
		}
		found := make(chan sched.Report, 1)
		go func() { found <- sched.Explorer{Preemptions: 1, Releases: true}.Explore(run) }()
		select {
		case rep := <-found:
			if rep.Err != nil {
				t.Errorf("closed %t: got %v, want nil\n%s", closed, rep.Err, rep.Trace)
			}
		case <-time.After(20 * time.Second): // the explorer does not see goroutines that wait at a channel
			t.Fatalf("closed %t: got a second result that waits, want one", closed)
		}
	}
}

// TestExplore_LingerAnswersDoMulti: a DoMulti that finds no outcome without the lock, and
// one under the lock, is answered by that, whether an fn made the call or not.
func TestExplore_LingerAnswersDoMulti(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, nested := range []bool{false, true} {
		rep := sched.Explorer{Preemptions: 1}.Explore(func() error {
			g, outer := &Group[int, int]{Shards: 1, Linger: Forever}, &Group[int, int]{Shards: 1}
			sched.Go(func() { _, _, _ = g.Do(1, func() (int, error) { return 7, nil }) })
			var res Result[int]
			many := func(ctx context.Context) (int, error) {
				res = g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) {
					return map[int]int{1: 7}, nil
				})[1]
				return 0, nil
			}
			sched.Go(func() {
				if nested {
					_, _, _ = outer.DoContext(ctx, 2, many)
				} else {
					_, _ = many(ctx)
				}
			})
			sched.Join()
			if st := g.Stats(); res.Val != 7 || res.Err != nil || st.Calls != 2 {
				return fmt.Errorf("got %+v; two calls are counted as %+v", res, st)
			}
			return nil
		})
		if rep.Err != nil {
			t.Errorf("nested %t: got %v, want nil\n%s", nested, rep.Err, rep.Trace)
		}
	}
}
