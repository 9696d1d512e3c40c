package coalesce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// edgesOf returns the number of edges from c, and checks the links between
// them.
func edgesOf(t *testing.T, c *flightContext) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var prev *edge
	for e := c.edges.first; e != nil; e = e.next {
		if e.prev != prev || e.from != c || e.to == nil || e.key == nil {
			t.Errorf("edge %d of %p: got %+v, want it linked", n, c, e)
		}
		prev, n = e, n+1
	}
	return n
}

// callIn makes a nested call in one of the forms and waits for its answer.
func callIn(form int, ctx context.Context, g *Group[int, int], keys []int, fn func(context.Context, int) (int, error)) {
	key := keys[0]
	one := func(ctx context.Context) (int, error) { return fn(ctx, key) }
	switch form {
	case 0:
		_, _, _ = g.DoContext(ctx, key, one)
	case 1:
		_, _, _ = g.DoFresh(ctx, key, one)
	case 2:
		<-g.DoChan(ctx, key, one)
	case 3:
		g.DoMulti(ctx, keys, func(ctx context.Context, keys []int) (map[int]int, error) {
			m := map[int]int{}
			for _, k := range keys {
				m[k], _ = fn(ctx, k)
			}
			return m, nil
		})
	}
}

// timersOf returns the timers of the calls whose edges begin at c.
func timersOf(c *flightContext) (timers []sched.Timer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.edges.first; e != nil; e = e.next {
		if e.timer != nil {
			timers = append(timers, e.timer)
		}
	}
	return timers
}

// TestDeadlock_EdgesAreRemoved: while a call waits, there is an edge to each flight that
// it takes part in, and when it has been answered, or has left, there is none, and its
// timer has been stopped.
func TestDeadlock_EdgesAreRemoved(t *testing.T) {
	type scene struct {
		name  string
		fresh bool // of the calls in the path
		enter func(g *Group[int, int], hold chan struct{})
		leave bool
	}
	held := func(hold chan struct{}) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { <-hold; return 1, nil }
	}
	var scenes []scene
	for _, leave := range []bool{false, true} {
		scenes = append(scenes,
			scene{"leads", false, func(*Group[int, int], chan struct{}) {}, leave},
			scene{"joins", false, func(g *Group[int, int], hold chan struct{}) {
				for k := 1; k <= 2; k++ {
					go g.DoFresh(context.Background(), k, held(hold))
				}
			}, leave},
			scene{"queues", false, func(g *Group[int, int], hold chan struct{}) {
				ctx, cancel := context.WithCancel(context.Background())
				for k := 1; k <= 2; k++ {
					go g.DoContext(ctx, k, held(hold))
				}
				synctest.Wait()
				cancel() // abandons them
			}, leave},
		)
	}
	for _, sc := range scenes {
		for form := range 4 {
			t.Run(fmt.Sprint(sc.name, ", form ", form, ", leaves: ", sc.leave), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g, outer Group[int, int]
					hold := make(chan struct{})
					sc.enter(&g, hold)
					synctest.Wait()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					keys := []int{1, 2}
					want := 1
					if form == 3 {
						want = 2
					}
					_, _, _ = outer.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
						c := ctx.(*flightContext)
						nested, cancelNested := context.WithCancel(ctx)
						defer cancelNested()
						var wg sync.WaitGroup
						wg.Go(func() {
							callIn(form, nested, &g, keys, func(context.Context, int) (int, error) { <-hold; return 2, nil })
						})
						synctest.Wait()
						if n := edgesOf(t, c); n != want {
							t.Errorf("got %d edges, want %d", n, want)
						}
						timers := timersOf(c)
						if sc.leave {
							cancelNested()
							wg.Wait()
							if n := edgesOf(t, c); n != 0 {
								t.Errorf("a call that has left: got %d edges, want none", n)
							}
						}
						close(hold)
						wg.Wait()
						synctest.Wait()
						if n := edgesOf(t, c); n != 0 {
							t.Errorf("a call that was answered: got %d edges, want none", n)
						}
						for _, timer := range timers {
							if timer.Stop() {
								t.Error("got a timer that has not been stopped")
							}
						}
						return 0, nil
					})
				})
			})
		}
	}
}

// TestDeadlock_NoEdges: a call that cannot be part of a cycle has no edge: one that a
// lingering outcome answers, one that is refused, and one that follows a flight without a
// context.
func TestDeadlock_NoEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Linger: Forever, MaxWaiters: 1}
		var outer, shut Group[int, int]
		_, _, _ = g.Do(1, func() (int, error) { return 1, nil }) // lingers
		hold := make(chan struct{})
		for range 3 { // one runs, two are queued
			go g.DoFresh(context.Background(), 2, func(context.Context) (int, error) { <-hold; return 0, nil })
			synctest.Wait()
		}
		go g.DoContext(t.Context(), 2, nothing)
		go g.Do(3, func() (int, error) { <-hold; return 0, nil }) // has no context
		synctest.Wait()
		_ = shut.Shutdown(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, _, _ = outer.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
			c := ctx.(*flightContext)
			for form := range 4 {
				for _, key := range []int{1, 2, 3} {
					if form == 1 && key != 2 {
						continue // it would lead, and would be queued
					}
					go callIn(form, ctx, &g, []int{key}, nil2)
				}
				go callIn(form, ctx, &shut, []int{0}, nil2)
			}
			synctest.Wait()
			if n := edgesOf(t, c); n != 0 {
				t.Errorf("got %d edges, want none", n)
			}
			close(hold)
			return 0, nil
		})
	})
}

func nil2(context.Context, int) (int, error) { return 0, nil }

// An endingContext ends right after it has been asked for the first time.
type endingContext struct {
	context.Context
	asked bool
}

func (c *endingContext) Done() <-chan struct{} { return endedBy(context.Canceled).Done() }

func (c *endingContext) Err() error {
	if !c.asked {
		c.asked = true
		return nil
	}
	return context.Canceled
}

// TestDeadlock_GraphIsEmptyWhenAllIsOver: after a storm of calls that wait for each
// other, of all forms and with all ends, no flight's context has an edge, and no queued
// flight is behind another.
func TestDeadlock_GraphIsEmptyWhenAllIsOver(t *testing.T) {
	const keys, calls, depth = 6, 400, 4
	for _, procs := range []int{1, 4} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			g := Group[int, int]{Shards: 1, MaxWaiters: 20, MaxAge: 5 * time.Millisecond}
			var mu sync.Mutex
			seen := map[*flightContext]bool{}
			var fn func(ctx context.Context, key int) (int, error)
			var nest func(ctx context.Context, depth int)
			type level struct{}
			fn = func(ctx context.Context, key int) (int, error) {
				mu.Lock()
				seen[ctx.Value(flightKey{}).(*flightContext)] = true
				mu.Unlock()
				depth, _ := ctx.Value(level{}).(int)
				nest(ctx, depth+1)
				return key, nil
			}
			nest = func(ctx context.Context, d int) {
				if d > depth {
					return
				}
				var wg sync.WaitGroup
				for range rand.IntN(3) {
					wg.Go(func() {
						ctx := context.WithValue(ctx, level{}, d)
						if rand.IntN(3) == 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
							defer cancel()
						}
						callIn(rand.IntN(4), ctx, &g, rand.Perm(keys)[:1+rand.IntN(3)], func(ctx context.Context, k int) (int, error) {
							if rand.IntN(20) == 0 {
								g.Forget(k)
							}
							return fn(ctx, k)
						})
					})
				}
				wg.Wait()
			}
			var wg sync.WaitGroup
			for range calls {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
					defer cancel()
					nest(ctx, 1)
				})
			}
			wg.Wait()

			if err := g.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
				left := 0
				for c := range seen {
					left += edgesOf(t, c)
					if !c.finished.Load() {
						t.Fatal("got a flight that has not finished, want none")
					}
				}
				if left == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("got %d edges, want none", left)
				}
			}
			t.Logf("%d flights", len(seen))
		}()
	}
}

// TestDeadlock_Walk: the search finds a path if and only if there is one along edges that
// count, in any graph. It is compared with the closure of the edges.
func TestDeadlock_Walk(t *testing.T) {
	for round := range 2000 {
		rng := rand.New(rand.NewPCG(uint64(round), 1))
		n := 1 + rng.IntN(8)
		nodes := make([]*cold[int, int], n)
		for i := range nodes {
			nodes[i] = &cold[int, int]{ctx: new(flightContext)}
		}
		reach := make([][]bool, n)
		var all []*edge
		for i := range reach {
			reach[i] = make([]bool, n)
			reach[i][i] = true
		}
		over := make([]bool, n)
		for i := range over {
			over[i] = rng.IntN(6) == 0
			if over[i] {
				nodes[i].ctx.finished.Store(true)
			}
		}
		for range rng.IntN(2 * n) {
			i, j := rng.IntN(n), rng.IntN(n)
			f := &flight[int, int]{key: j, cold: nodes[j]}
			e := &edge{from: nodes[i].ctx}
			point(e, f)
			if rng.IntN(4) == 0 {
				e.drop()
				e.drop()
				continue
			}
			all = append(all, e)
			if !over[i] && !over[j] {
				reach[i][j] = true
			}
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		for i := range n {
			for j := range n {
				if over[j] || over[i] {
					continue
				}
				f := &flight[int, int]{key: i, cold: nodes[i]}
				own := &edge{from: nodes[j].ctx}
				point(own, f)
				err := own.search(nil)
				if err == nil {
					own.drop()
				}
				if own.to != nil || own.refusal != err {
					t.Fatalf("round %d: from %d to %d: got the edge %+v after %v, want it refused", round, i, j, own, err)
				}
				if (err != nil) != reach[i][j] {
					t.Fatalf("round %d: from %d to %d: got %v, want a cycle %v", round, i, j, err, reach[i][j])
				}
				if err == nil {
					continue
				}
				keys := err.(*DeadlockError).Keys
				if keys[0] != any(j) || keys[1] != any(i) || keys[len(keys)-1] != any(j) {
					t.Fatalf("round %d: from %d to %d: got the keys %v, want a path between them", round, i, j, keys)
				}
				for k := 1; k+1 < len(keys); k++ {
					from, to := keys[k].(int), keys[k+1].(int)
					if !slices.ContainsFunc(all, func(e *edge) bool { return e.from == nodes[from].ctx && e.key == any(to) }) {
						t.Fatalf("round %d: %v: got no edge from %d to %d, want one", round, keys, from, to)
					}
				}
			}
		}
		for _, e := range all {
			e.drop()
		}
		for _, o := range nodes {
			c := o.ctx
			if c.edges.first != nil {
				t.Fatalf("round %d: got an edge, want none", round)
			}
		}
	}
}

// TestDetach_LeavesNothing: a context derived from a detached one is no longer kept by
// the flight's once it is canceled.
func TestDetach_LeavesNothing(t *testing.T) {
	var g Group[int, int]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, _, _ = g.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
		c := ctx.(*flightContext)
		for range 10 {
			derived, cancel := context.WithCancel(Detach(ctx))
			if c.after.first == nil {
				t.Error("got no registered function, want one")
			}
			cancel()
			if derived.Err() == nil || c.after.first != nil {
				t.Error("got the derived context kept, want it gone")
			}
		}
		return 0, nil
	})
}

// TestDeadlock_SearchesWhereThereMayBeACycle: calls of flights that no call has waited
// for do not search the edges of the flight that they join: many of them would take turns
// at the lock of all looks (D6).
func TestDeadlock_SearchesWhereThereMayBeACycle(t *testing.T) {
	node := func() *flight[int, int] { return &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}} }
	to, from, behind := node(), node(), node()
	behind.cold.ctx.ahead.Store(from.cold.ctx)
	for range 1000 {
		point(&edge{from: to.cold.ctx}, node())
	}
	e := &edge{from: from.cold.ctx}
	point(e, to)
	searched := func() bool {
		before := looks
		if err := e.search(nil); err != nil {
			t.Error(err)
		}
		return looks > before
	}
	if searched() {
		t.Error("a flight that no call waits for: got a search, want none")
	}
	point(&edge{from: new(flightContext)}, behind)
	if !searched() {
		t.Error("a flight that others wait for: got no search, want one")
	}
}

// TestDeadlock_LooksInStretches: a look that passes many edges releases their lock again
// and again, and passes each edge once, even if others are added and removed meanwhile.
func TestDeadlock_LooksInStretches(t *testing.T) {
	node := func() *flight[int, int] { return &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}} }
	from, to := node(), node()
	var edges []*edge
	for range 3*lookStretch + 1 {
		e := &edge{from: to.cold.ctx}
		point(e, node())
		edges = append(edges, e)
	}
	point(&edge{from: to.cold.ctx}, from) // the last
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			edges[i%len(edges)].drop()
			edges[i%len(edges)] = &edge{from: to.cold.ctx}
			point(edges[i%len(edges)], node())
		}
	}()
	for range 100 {
		e := &edge{from: from.cold.ctx}
		point(e, to)
		if err := e.search(nil); err == nil {
			t.Error("got no error, want a *DeadlockError")
		}
	}
	close(stop)
	<-stopped
	if n := edgesOf(t, to.cold.ctx); n != len(edges)+1 {
		t.Errorf("got %d edges, want %d", n, len(edges)+1)
	}
}

// TestDeadlock_LeaverHasNoEdge: a call that has left waits for nothing by the time that
// the Leave hook is called (D4).
func TestDeadlock_LeaverHasNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var node *flightContext
		left := 0
		inner := Group[int, int]{Hooks: Hooks[int]{Leave: func(context.Context, Event[int]) {
			left++
			if n := edgesOf(t, node); n != 0 {
				t.Errorf("the call that has left: got %d edges, want none", n)
			}
		}}}
		release := make(chan struct{})
		go inner.DoContext(ctx, 2, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		var outer Group[int, int]
		_, _, _ = outer.DoContext(ctx, 0, func(ctx context.Context) (int, error) {
			node = ctx.(*flightContext)
			nested, cancel := context.WithCancel(ctx)
			defer cancel()
			go inner.DoContext(nested, 2, nothing)
			synctest.Wait()
			if n := edgesOf(t, node); n != 1 {
				t.Errorf("the call that waits: got %d edges, want 1", n)
			}
			cancel()
			synctest.Wait()
			return 0, nil
		})
		if left != 1 {
			t.Errorf("got %d calls that left, want 1", left)
		}
		close(release)
	})
}

// TestDeadlock_DoMultiWithHooks: the search finds a cycle through a DoMulti with hooks as
// it does without.
func TestDeadlock_DoMultiWithHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Hooks: Hooks[int]{Join: func(context.Context, Event[int]) {}}}
		var found error
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
			g.DoMulti(ctx, []int{2, 3}, func(ctx context.Context, _ []int) (map[int]int, error) {
				_, _, found = g.DoContext(ctx, 1, nothing)
				return nil, nil
			})
			return 0, nil
		})
		if _, ok := found.(*DeadlockError); !ok {
			t.Errorf("the call that closes the cycle: got %v, want a *DeadlockError", found)
		}
	})
}

// TestDeadlock_DoMultiThatExitsHasNoEdge: a DoMulti whose goroutine a hook has exited no
// longer waits for anything (D4).
func TestDeadlock_DoMultiThatExitsHasNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := Group[int, int]{Hooks: Hooks[int]{Join: func(context.Context, Event[int]) { runtime.Goexit() }}}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		held := func(context.Context) (int, error) { <-release; return 1, nil }
		go inner.DoContext(ctx, 2, held)
		synctest.Wait()
		var outer Group[int, int]
		_, _, _ = outer.DoContext(ctx, 1, func(ctx context.Context) (int, error) {
			go inner.DoMulti(ctx, []int{2, 3}, func(context.Context, []int) (map[int]int, error) { <-release; return nil, nil })
			synctest.Wait()
			if n := edgesOf(t, ctx.(*flightContext)); n != 0 {
				t.Errorf("the call that was exited: got %d edges, want none", n)
			}
			return 0, nil
		})
		close(release)
	})
}

// TestDeadlock_NoCallTakesTheLockOfLooks: all calls return while a look is under way,
// whether they are nested or not, and whether they lead, join, queue or leave (D3).
func TestDeadlock_NoCallTakesTheLockOfLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looking.Lock()
		defer looking.Unlock()
		var outer, g Group[int, int]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		release := make(chan struct{})
		held := func(context.Context) (int, error) { <-release; return 1, nil }
		outer.DoChan(ctx, 0, func(ctx context.Context) (int, error) {
			// A call that looks waits for looking: a mutex, so that the bubble's clock
			// would not advance. So the looks are kept from firing by calls that return.
			for form := range 4 {
				callIn(form, ctx, &g, []int{1, 2}, nil2) // leads
				joined, left := make(chan struct{}), make(chan struct{})
				go g.DoFresh(context.Background(), 1, held)
				synctest.Wait()
				nested, end := context.WithCancel(ctx)
				go func() { callIn(form, ctx, &g, []int{1}, nil2); close(joined) }()
				go func() { callIn(form, nested, &g, []int{1}, nil2); close(left) }()
				synctest.Wait()
				end()
				<-left
				close(release)
				<-joined
				release = make(chan struct{})
			}
			return 0, nil
		})
	})
}

// TestDeadlock_DroppedUnderTheLock: an edge is not removed before its lock is held.
func TestDeadlock_DroppedUnderTheLock(t *testing.T) {
	from, to := new(flightContext), &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}}
	e := &edge{from: from}
	point(e, to)
	from.mu.Lock()
	dropped := make(chan struct{})
	go func() {
		e.drop()
		close(dropped)
	}()
	untilLocked(t, ".(*edge).drop(")
	if from.edges.first != e {
		t.Error("got the edge removed under the lock, want it kept")
	}
	from.mu.Unlock()
	<-dropped
	if from.edges.first != nil {
		t.Error("got the edge kept, want it removed")
	}
}

// TestDeadlock_DroppedTogether: calls of one fn that return at the same time leave no
// edge. The race detector judges as well.
func TestDeadlock_DroppedTogether(t *testing.T) {
	const each = 5_000
	from, to := new(flightContext), &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}}
	var wg sync.WaitGroup
	for range 4 {
		edges := make([]*edge, each)
		for i := range edges {
			edges[i] = &edge{from: from}
			point(edges[i], to)
		}
		wg.Go(func() {
			for _, e := range edges {
				e.drop()
			}
		})
	}
	wg.Wait()
	if n := edgesOf(t, from); n != 0 {
		t.Errorf("got %d edges, want none", n)
	}
}

// TestDeadlock_CallOfACanceledFn: a call whose context can end, and is derived from that
// of an fn whose context has ended, is about to leave, even if its own context has not
// ended yet: that may be the task of a goroutine of package context.
func TestDeadlock_CallOfACanceledFn(t *testing.T) {
	c := flightContext{values: context.Background()}
	ctx, cancel := context.WithCancel(context.WithValue(&c, valueKey{}, 1))
	defer cancel()
	e, endless := nestedIn(ctx), nestedIn(context.WithoutCancel(&c))
	stale := func(e *edge) bool {
		e.from.mu.Lock()
		defer e.from.mu.Unlock()
		return e.stale()
	}
	if stale(e) || stale(endless) {
		t.Error("got a stale edge before any context has ended, want none")
	}
	go c.mark(endedBy(ErrClosed)) // the race detector judges as well
	for begun := time.Now(); !stale(e); runtime.Gosched() {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("got an edge that counts, want it stale")
		}
	}
	if stale(endless) {
		t.Error("a call that cannot leave: got a stale edge, want one that counts")
	}
}

// A valueKey is the key of a context's value.
type valueKey struct{}

// TestDeadlock_QueuedInlineKeepsNoEdge: a nested call with a context that can never end,
// which was queued and then ran fn on its own goroutine, leaves no edge behind.
func TestDeadlock_QueuedInlineKeepsNoEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outer, g Group[int, int]
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel() // so that later calls are queued
		synctest.Wait()
		live, end := context.WithCancel(t.Context())
		defer end()
		go outer.DoContext(live, 1, func(ctx context.Context) (int, error) {
			v, _, err := g.DoContext(context.WithoutCancel(ctx), 1, func(context.Context) (int, error) { return 2, nil })
			if v != 2 || err != nil {
				t.Errorf("got %d, %v, want 2, nil", v, err)
			}
			c := ctx.(*flightContext)
			if n := edgesOf(t, c); n != 0 {
				t.Errorf("got %d edges, want none", n)
			}
			return 0, nil
		})
		synctest.Wait()
		close(release)
		synctest.Wait()
	})
}
