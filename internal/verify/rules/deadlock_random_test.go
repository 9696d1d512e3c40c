package rules_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds cycles that close at the same moment, and random webs of nested calls.

// TestDeadlock_CrossingWaits: if two fns call for each other's keys at the same moment,
// exactly one of the calls is refused. The same holds for three.
func TestDeadlock_CrossingWaits(t *testing.T) {
	kit.SetProcs(t, 4)
	for _, n := range []int{2, 3} {
		for i := range nested {
			t.Run(fmt.Sprint(n, " flights, ", nested[i].Name), func(t *testing.T) {
				crossing(300, func() {
					groups := make([]kit.Group, n)
					var refused atomic.Int32
					var ready, done sync.WaitGroup
					ready.Add(n)
					for j := range n {
						f := nested[i]
						if j > 0 {
							f = nested[rand.IntN(len(nested))]
						}
						done.Go(func() {
							a := nested[j].Call(t.Context(), &groups[j], "k", func(ctx context.Context) (int, error) {
								ready.Done()
								ready.Wait()
								a := f.Call(ctx, &groups[(j+1)%n], "k", kit.CtxValue(1))
								if deadlocked(a.Err) {
									refused.Add(1)
								} else if a.Err != nil {
									t.Errorf("got %+v, want a refusal or no error", a)
								}
								return 1, nil
							})
							if a.V != 1 || a.Err != nil {
								t.Errorf("got %+v, want 1", a)
							}
						})
					}
					done.Wait()
					if refused.Load() != 1 {
						t.Errorf("got %d refusals, want 1", refused.Load())
					}
				})
			})
		}
	}
}

// TestDeadlock_CrossingBatches: the same for two DoMultis, each of which leads the keys
// that the fn of the other calls for.
func TestDeadlock_CrossingBatches(t *testing.T) {
	kit.SetProcs(t, 4)
	crossing(500, func() {
		var g kit.Group
		var refused atomic.Int32
		var ready, done sync.WaitGroup
		ready.Add(2)
		for _, keys := range [][]string{{"a", "b"}, {"c", "d"}} {
			done.Go(func() {
				g.DoMulti(t.Context(), keys, func(ctx context.Context, own []string) (map[string]int, error) {
					ready.Done()
					ready.Wait()
					for _, r := range g.DoMulti(ctx, []string{"c", "a", "d", "b"}, nothingMulti) {
						if deadlocked(r.Err) {
							refused.Add(1)
						}
					}
					return nil, nil
				})
			})
		}
		done.Wait()
		// Each is refused its own two keys. One is refused the other's two; the other may
		// be refused one of them before it is.
		if n := refused.Load(); n < 6 || n > 7 {
			t.Errorf("got %d refusals, want 6 or 7", n)
		}
	})
}

// crossing runs a test n times, fifty at once, because each takes as long as a cycle goes
// unseen.
func crossing(n int, test func()) {
	for ; n > 0; n -= 50 {
		var all sync.WaitGroup
		for range 50 {
			all.Go(test)
		}
		all.Wait()
	}
}

// A web is a crowd of calls whose fns call for each other's keys at random. It records
// which execution waits for which key, to judge the cycles that calls report.
type web struct {
	t       *testing.T
	groups  [2]coalesce.Group[int, int]
	keys    int
	ordered bool // fns call for greater keys only: there is no cycle
	flows   bool // calls leave, flights are forgotten, work is detached

	mu      sync.Mutex
	runs    map[*webRun]bool // executions, also those that have ended
	refused int
}

// A webRun is an execution of fn.
type webRun struct {
	keys  []int
	asked map[int]int       // calls for each key that have not returned
	ended map[int]time.Time // when one for each key returned last
	depth int
}

// fn runs for the given keys.
func (w *web) fn(ctx context.Context, depth int, keys []int) {
	r := &webRun{keys: keys, asked: map[int]int{}, ended: map[int]time.Time{}, depth: depth}
	w.mu.Lock()
	w.runs[r] = true
	w.mu.Unlock()
	if depth < 4 {
		var calls sync.WaitGroup
		for range rand.IntN(4) {
			if rand.IntN(2) == 0 {
				calls.Go(func() { w.call(ctx, r) })
			} else {
				w.call(ctx, r)
			}
		}
		calls.Wait()
	}
}

// call makes a call with the context of r.
func (w *web) call(ctx context.Context, r *webRun) {
	least := 0
	if w.ordered {
		least = slices.Max(r.keys) + 1
	}
	if least >= w.keys {
		return
	}
	keys := rand.Perm(w.keys - least)
	for i := range keys {
		keys[i] += least
	}
	if w.flows {
		switch rand.IntN(8) {
		case 0:
			w.groups[keys[0]%2].Forget(keys[0])
		case 1:
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(50))*time.Microsecond)
			defer cancel()
		case 2:
			if w.ordered { // or it might hang
				ctx = coalesce.Detach(ctx)
			}
		}
	}
	form := rand.IntN(4)
	if form < 3 {
		keys = keys[:1]
	} else {
		keys = slices.DeleteFunc(keys[:min(len(keys), 1+rand.IntN(4))], func(k int) bool { return k%2 != keys[0]%2 })
	}
	w.mu.Lock()
	for _, k := range keys {
		r.asked[k]++
	}
	w.mu.Unlock()
	looked := time.Now().Add(lookAfter)
	results := w.do(ctx, form, keys, r.depth+1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, res := range results {
		var e *coalesce.DeadlockError
		if errors.As(res.Err, &e) {
			w.judge(r, k, e.Keys, looked)
		}
	}
	for _, k := range keys {
		r.asked[k]--
		r.ended[k] = time.Now()
	}
}

// do makes a call in the given form.
func (w *web) do(ctx context.Context, form int, keys []int, depth int) map[int]coalesce.Result[int] {
	g, key := &w.groups[keys[0]%2], keys[0]
	fn := func(ctx context.Context) (int, error) { w.fn(ctx, depth, []int{key}); return key, nil }
	var res coalesce.Result[int]
	switch form {
	case 0:
		res.Val, res.Shared, res.Err = g.DoContext(ctx, key, fn)
	case 1:
		res.Val, res.Shared, res.Err = g.DoFresh(ctx, key, fn)
	case 2:
		res = <-g.DoChan(ctx, key, fn)
	case 3:
		return g.DoMulti(ctx, keys, func(ctx context.Context, keys []int) (map[int]int, error) {
			w.fn(ctx, depth, keys)
			m := map[int]int{}
			for _, k := range keys {
				m[k] = k
			}
			return m, nil
		})
	}
	return map[int]coalesce.Result[int]{key: res}
}

// judge checks that each of the keys of a cycle has an execution that waits for the next
// one, or did at the earliest moment at which the refused call may have looked: other
// calls of the cycle may have been refused since. w.mu must be held.
func (w *web) judge(r *webRun, key int, cycle []any, looked time.Time) {
	w.refused++
	first, last := cycle[0], cycle[len(cycle)-1]
	if first != last || cycle[1] != any(key) || !slices.Contains(r.keys, first.(int)) {
		w.t.Errorf("fn of %v called for %d: got the cycle %v, want one from one of its keys through %d", r.keys, key, cycle, key)
	}
	if w.flows {
		return // the others may have left, or been promoted, since
	}
	for i := 1; i+1 < len(cycle); i++ {
		found := false
		for r := range w.runs {
			found = found || slices.Contains(r.keys, cycle[i].(int)) &&
				(r.asked[cycle[i+1].(int)] > 0 || !r.ended[cycle[i+1].(int)].Before(looked))
		}
		if !found {
			w.t.Errorf("got the cycle %v, want an fn of %v that waits for %v", cycle, cycle[i], cycle[i+1])
		}
	}
}

// run makes calls from outside and waits until all have ended.
func (w *web) run(callers int) {
	w.runs = map[*webRun]bool{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(w.t.Context())
			defer cancel()
			if w.flows && rand.IntN(3) == 0 {
				ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(200))*time.Microsecond)
				defer cancel()
			}
			w.do(ctx, rand.IntN(4), []int{rand.IntN(w.keys)}, 0)
		})
	}
	wg.Wait()
	for i := range w.groups {
		if err := w.groups[i].Shutdown(w.t.Context()); err != nil {
			w.t.Error(err)
		}
		if n := w.groups[i].Len(); n != 0 {
			w.t.Errorf("got Len %d, want 0", n)
		}
	}
}

// TestDeadlock_RandomCycles: whichever calls wait for which flights, all calls end, and
// each cycle that a call reports is there. In a bubble, a cycle that was missed ends the
// test at once.
func TestDeadlock_RandomCycles(t *testing.T) {
	kit.SetProcs(t, 4)
	refused := 0
	for round := range 150 {
		for _, keys := range []int{2, 5, 20} {
			w := &web{t: t, keys: keys}
			if round%2 == 0 {
				w.run(10)
			} else {
				synctest.Test(t, func(t *testing.T) { w.t = t; w.run(10) })
			}
			refused += w.refused
		}
	}
	if refused < 100 {
		t.Errorf("got %d refusals, want 100 at least", refused)
	}
	t.Logf("%d calls were refused", refused)
}

// TestDeadlock_RandomOrder: where there is no cycle, no call is refused, though calls
// leave and flights are abandoned, forgotten and taken over.
func TestDeadlock_RandomOrder(t *testing.T) {
	kit.SetProcs(t, 4)
	for range 150 {
		w := &web{t: t, keys: 12, ordered: true, flows: true}
		w.groups[1].MaxAge = 100 * time.Microsecond
		w.groups[0].Linger = 50 * time.Microsecond
		w.run(30)
		if w.refused != 0 {
			t.Fatalf("got %d refusals, want none", w.refused)
		}
	}
}

// TestDeadlock_RandomFlow: with all of these, and cycles, every call ends unless only a
// context can end it.
func TestDeadlock_RandomFlow(t *testing.T) {
	kit.SetProcs(t, 4)
	for range 150 {
		synctest.Test(t, func(t *testing.T) {
			w := &web{t: t, keys: 6, flows: true}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for range 20 {
						w.groups[rand.IntN(2)].Forget(rand.IntN(w.keys))
						for range w.groups[rand.IntN(2)].Flights() {
							runtime.Gosched()
						}
					}
				})
			}
			w.run(15)
			wg.Wait()
		})
	}
}
