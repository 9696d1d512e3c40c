package coalesce_test

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// Each test here is named after the rule of the contract (doc.go) that it shows. Rules
// about fn's context are in internal/verify/rules, about memory in internal/verify/costs.

// TestG1_OneAtATime: a thousand calls of all forms for one key, while fn runs,
// are one execution.
func TestG1_OneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		var running, runs atomic.Int32
		fn := func(context.Context) (int, error) {
			if running.Add(1) > 1 {
				t.Error("got two executions at once, want one")
			}
			defer running.Add(-1)
			time.Sleep(time.Second)
			return int(runs.Add(1)), nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 1000 {
			go func() {
				f := kit.Joining[i%len(kit.Joining)]
				if a := f.Call(ctx, &g, "k", fn); a.V != 1 || !a.Shared || a.Err != nil {
					t.Errorf("%s: got %+v, want 1, shared", f.Name, a)
				}
			}()
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("got %d executions, want 1", runs.Load())
		}
	})
}

// TestG1_NewcomerWaitsBehindAbandoned: when all callers have left and fn ignores that, a
// newcomer of any form neither joins it nor runs beside it. It starts in the instant in
// which the old one ends.
func TestG1_NewcomerWaitsBehindAbandoned(t *testing.T) {
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start := time.Now()
				var oldRuns atomic.Bool
				first, cancelFirst := context.WithTimeout(ctx, time.Second)
				defer cancelFirst()
				_, _, err := g.DoContext(first, "k", func(context.Context) (int, error) {
					oldRuns.Store(true)
					defer oldRuns.Store(false)
					time.Sleep(time.Minute)
					return 1, nil
				})
				if err != context.DeadlineExceeded || time.Since(start) != time.Second {
					t.Fatalf("abandoning call: got %v after %v, want %v after 1s", err, time.Since(start), context.DeadlineExceeded)
				}
				a := f.Call(ctx, &g, "k", func(context.Context) (int, error) {
					if oldRuns.Load() {
						t.Error("got two executions at once, want one")
					}
					return 2, nil
				})
				if a.V != 2 || a.Shared || a.Err != nil || a.At.Sub(start) != time.Minute {
					t.Errorf("newcomer: got %+v after %v, want 2 after 1m", a, a.At.Sub(start))
				}
				if n := g.Len(); n != 0 {
					t.Errorf("got Len %d, want 0", n)
				}
			})
		})
	}
}

// TestG1_WaitBehindAbandonedIsUnderOwnContext: a newcomer behind an abandoned flight can
// give up; when all have, no flight is started for them.
func TestG1_WaitBehindAbandonedIsUnderOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		old := kit.Abandon(t, &g, "k")
		start := time.Now()
		for i := range 10 {
			for _, f := range kit.Forms[2:] {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				go func() {
					a := f.Call(ctx, &g, "k", func(context.Context) (int, error) {
						t.Error("got an execution for a caller that has left, want none")
						return 0, nil
					})
					if a.Err != context.DeadlineExceeded || a.At.Sub(start) != time.Duration(i+1)*time.Second {
						t.Errorf("%s: got %+v, want %v in time", f.Name, a, context.DeadlineExceeded)
					}
				}()
			}
		}
		time.Sleep(20 * time.Second)
		close(old.Release)
		synctest.Wait()
		if g.Len() != 0 {
			t.Errorf("got Len %d, want 0", g.Len())
		}
		if st := g.Stats(); st.Joined != 40 || st.Left != 41 || st.Led != 1 {
			t.Errorf("got %+v, want 1 led, 40 joined, 41 left", st)
		}
	})
}

// TestG2_OneAnswer: all callers of a flight get the same value and the very same error,
// even one of a type that hides a nil pointer.
func TestG2_OneAnswer(t *testing.T) {
	for _, want := range []error{nil, kit.ErrTest, fmt.Errorf("wrapped: %w", kit.ErrTest), (*typedNil)(nil)} {
		synctest.Test(t, func(t *testing.T) {
			var g kit.Group
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range 40 {
				go func() {
					a := kit.Joining[i%len(kit.Joining)].Call(ctx, &g, "k", func(context.Context) (int, error) {
						time.Sleep(time.Second)
						return 7, want
					})
					if a.V != 7 || a.Err != want || !a.Shared {
						t.Errorf("%s: got %+v, want error %v", kit.Joining[i%len(kit.Joining)].Name, a, want)
					}
				}()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
		})
	}
}

type typedNil struct{}

func (*typedNil) Error() string { return "typed nil" }

// TestG2_Clone: with Clone, every caller of a joined flight gets a value of its own and
// no caller gets the original; a call alone gets the original.
func TestG2_Clone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clones atomic.Int32
		g := coalesce.Group[string, *int]{Clone: func(p *int) *int {
			clones.Add(1)
			q := *p
			return &q
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		original := new(int)
		*original = 42
		var mu sync.Mutex
		seen := map[*int]int{}
		got := func(p *int, shared bool, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil || *p != 42 || !shared {
				t.Errorf("got %v, %v, %v, want 42, shared, nil", p, shared, err)
			}
			seen[p]++
		}
		slow := func(context.Context) (*int, error) {
			time.Sleep(time.Second)
			return original, nil
		}
		for i := range 40 {
			go func() {
				switch i % 4 {
				case 0:
					got(g.Do("k", func() (*int, error) { return slow(ctx) }))
				case 1:
					got(g.DoContext(ctx, "k", slow))
				case 2:
					got(g.DoContext(context.Background(), "k", slow))
				case 3:
					r := <-g.DoChan(ctx, "k", slow)
					got(r.Val, r.Shared, r.Err)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(seen) != 40 || clones.Load() != 40 || seen[original] != 0 {
			t.Errorf("got %d values from %d clones, the original %d times, want 40, 40, 0", len(seen), clones.Load(), seen[original])
		}
		p, shared, err := g.Do("k", func() (*int, error) { return original, nil })
		if p != original || shared || err != nil {
			t.Errorf("alone: got %v, %v, %v, want the original, false, nil", p, shared, err)
		}
	})
}

// TestG3_NeverStale: a caller that has its answer and calls again gets a new execution,
// even if others have not yet been scheduled to take theirs.
func TestG3_NeverStale(t *testing.T) {
	var g kit.Group
	var runs atomic.Int64
	var stale atomic.Int64
	var wg sync.WaitGroup
	var newest atomic.Int64 // the newest result that any call has returned
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				before := newest.Load()
				v, _, _ := g.Do("k", func() (int, error) {
					runtime.Gosched()
					return int(runs.Add(1)), nil
				})
				if int64(v) <= before {
					stale.Add(1)
				}
				for n := newest.Load(); int64(v) > n && !newest.CompareAndSwap(n, int64(v)); n = newest.Load() {
				}
			}
		})
	}
	wg.Wait()
	if stale.Load() > 0 {
		t.Errorf("got %d stale calls of 16000, want none", stale.Load())
	}
}

// TestG4_LeaderLeaves: when the leader's context ends, the leader returns at once, and
// the followers get their result.
func TestG4_LeaderLeaves(t *testing.T) {
	for _, lead := range kit.Forms[2:] {
		for _, follow := range kit.Joining {
			t.Run(lead.Name+" then "+follow.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					h := kit.Hold()
					ctx, cancel := context.WithCancel(t.Context())
					other, cancelOther := context.WithCancel(t.Context())
					defer cancelOther()
					leader, _ := kit.Go(ctx, lead, &g, "k", h.CtxFn(3))
					synctest.Wait()
					follower, done := kit.Go(other, follow, &g, "k", kit.CtxValue(4))
					synctest.Wait()
					cancel()
					synctest.Wait()
					if leader.Err != context.Canceled || !leader.Shared {
						t.Errorf("leader: got %+v, want %v, shared", leader, context.Canceled)
					}
					if kit.IsDone(done) {
						t.Fatalf("follower: got %+v, want no answer yet", follower)
					}
					close(h.Release)
					synctest.Wait()
					if follower.V != 3 || !follower.Shared || follower.Err != nil {
						t.Errorf("follower: got %+v, want 3, shared", follower)
					}
				})
			})
		}
	}
}

// TestG4_FollowerLeaves: when a follower's context ends, the follower returns at once,
// and no other call is affected.
func TestG4_FollowerLeaves(t *testing.T) {
	for _, lead := range kit.Forms {
		for _, follow := range kit.Leaving {
			t.Run(lead.Name+" then "+follow.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g kit.Group
					h := kit.Hold()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					mine, cancelMine := context.WithCancel(t.Context())
					leader, _ := kit.Go(ctx, lead, &g, "k", h.CtxFn(3))
					synctest.Wait()
					follower, _ := kit.Go(mine, follow, &g, "k", kit.CtxValue(4))
					synctest.Wait()
					cancelMine()
					synctest.Wait()
					if follower.Err != context.Canceled || !follower.Shared {
						t.Errorf("follower: got %+v, want %v, shared", follower, context.Canceled)
					}
					close(h.Release)
					synctest.Wait()
					if leader.V != 3 || !leader.Shared || leader.Err != nil {
						t.Errorf("leader: got %+v, want 3, shared", leader)
					}
				})
			})
		}
	}
}

// TestG5_ResultBeatsCancellation: the flight finishes, then the follower's context ends,
// and only then is the follower scheduled: it gets the result, every time.
func TestG5_ResultBeatsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		for range 2000 {
			h := kit.Hold()
			ctx, cancel := context.WithCancel(t.Context())
			var followers [3]*kit.Answer
			var done [3]<-chan struct{}
			go func() {
				g.Do("k", h.Fn(6))
				cancel() // the flight has finished, its waiters may not have run
			}()
			<-h.Started
			for i, f := range kit.Leaving {
				followers[i], done[i] = kit.Go(ctx, f, &g, "k", kit.CtxValue(0))
			}
			synctest.Wait()
			close(h.Release)
			for i, f := range kit.Leaving {
				<-done[i]
				if a := followers[i]; a.V != 6 || a.Err != nil {
					t.Fatalf("%s: got %+v, want 6", f.Name, a)
				}
			}
		}
	})
}

// TestG5_SameInstant: if a result and the end of a context come in the same instant of a
// fake clock, the call gets one or the other, whole.
func TestG5_SameInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		var won, lost int
		for range 2000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			v, shared, err := g.DoContext(ctx, "k", func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return 6, nil
			})
			switch {
			case v == 6 && !shared && err == nil:
				won++
			case v == 0 && !shared && err == context.DeadlineExceeded:
				lost++
			default:
				t.Fatalf("got %v, %v, %v, want the result or the deadline", v, shared, err)
			}
			cancel()
			synctest.Wait()
			if g.Len() != 0 {
				t.Fatalf("got Len %d, want 0", g.Len())
			}
		}
		t.Logf("result %d, deadline %d", won, lost)
	})
}

// TestG6_EndedContextStartsNothing: a call with an ended context neither leads nor joins,
// even as the first of a queue.
func TestG6_EndedContextStartsNothing(t *testing.T) {
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(kit.ErrTest)
	must := func(context.Context) (int, error) {
		t.Error("got a call of fn, want none")
		return 0, nil
	}
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				for range 1000 {
					if a := f.Call(ended, &g, "k", must); a.Err != context.Canceled || a.Shared {
						t.Fatalf("leading: got %+v, want %v", a, context.Canceled)
					}
				}
				h := kit.Hold()
				go g.Do("k", h.Fn(1))
				<-h.Started
				if a := f.Call(ended, &g, "k", must); a.Err != context.Canceled || a.Shared {
					t.Errorf("joining: got %+v, want %v", a, context.Canceled)
				}
				close(h.Release)
				synctest.Wait()
				if st := g.Stats(); st.EndedOnEntry != 1001 || st.Led != 1 || st.Joined != 0 {
					t.Errorf("got %+v, want 1 led, 1001 ended on entry", st)
				}
			})
		})
	}
}

// TestG6_EndedContextLeadsNoSuccessor: the context of the first in the queue ends in the
// instant before the queue is promoted; the next one leads.
func TestG6_EndedContextLeadsNoSuccessor(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		for _, next := range kit.Forms {
			t.Run(f.Name+" then "+next.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for range 50 {
						var g kit.Group
						old := kit.Abandon(t, &g, "k")
						ctx, cancel := context.WithCancel(t.Context())
						live, cancelLive := context.WithCancel(t.Context())
						first, _ := kit.Go(ctx, f, &g, "k", func(context.Context) (int, error) {
							t.Error("got a caller whose context has ended as the leader, want another")
							return 0, nil
						})
						synctest.Wait()
						second, _ := kit.Go(live, next, &g, "k", kit.CtxValue(2))
						synctest.Wait()
						cancel()
						close(old.Release)
						synctest.Wait()
						if first.Err != context.Canceled || !first.Shared {
							t.Fatalf("first: got %+v, want %v, shared", first, context.Canceled)
						}
						if second.V != 2 || second.Err != nil || !second.Shared {
							t.Fatalf("second: got %+v, want 2, shared", second)
						}
						if g.Len() != 0 {
							t.Fatalf("got Len %d, want 0", g.Len())
						}
						cancelLive()
					}
				})
			})
		}
	}
}

// TestG8_WhereFnRuns: fn runs on the caller's goroutine for Do, TryDo and DoContext with
// a context that cannot end, which fn then gets as it is, and on another one otherwise.
func TestG8_WhereFnRuns(t *testing.T) {
	var g kit.Group
	live, cancel := context.WithCancel(t.Context())
	defer cancel()
	type key struct{}
	never := context.WithValue(context.Background(), key{}, 1)
	var ran string
	var got context.Context
	note := func(ctx context.Context) (int, error) {
		ran, got = goroutine(), ctx
		return 0, nil
	}
	plain := func() (int, error) { return note(context.Background()) }
	tests := []struct {
		name   string
		call   func()
		inline bool
		ctx    context.Context
	}{
		{"Do", func() { g.Do("k", plain) }, true, context.Background()},
		{"TryDo", func() { g.TryDo("k", plain) }, true, context.Background()},
		{"DoContext never ends", func() { g.DoContext(never, "k", note) }, true, never},
		{"DoContext", func() { g.DoContext(live, "k", note) }, false, nil},
		{"DoChan", func() { <-g.DoChan(live, "k", note) }, false, nil},
		{"DoChan never ends", func() { <-g.DoChan(never, "k", note) }, false, nil},
		{"DoFresh", func() { g.DoFresh(live, "k", note) }, false, nil},
		{"DoFresh never ends", func() { g.DoFresh(never, "k", note) }, false, nil},
		{"DoMulti", func() { kit.Forms[5].Call(live, &g, "k", note) }, false, nil},
		{"DoMulti never ends", func() { kit.Forms[5].Call(never, &g, "k", note) }, false, nil},
	}
	for _, tt := range tests {
		tt.call()
		if inline := ran == goroutine(); inline != tt.inline {
			t.Errorf("%s: got the caller's goroutine %v, want %v", tt.name, inline, tt.inline)
		}
		if tt.ctx != nil && got != tt.ctx {
			t.Errorf("%s: fn: got %v, want the very context", tt.name, got)
		}
	}
}

// goroutine returns the name of the calling goroutine.
func goroutine() string {
	b := make([]byte, 64)
	b = b[:runtime.Stack(b, false)]
	return strings.Fields(string(b))[1]
}

// TestG13_UserCodeOutsideLocks: Hash, Clone, fn and the methods of contexts call back
// into the group, which has one shard, so that a lock held around any of them hangs the
// test.
func TestG13_UserCodeOutsideLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		touch := func() {
			g.Len()
			for range g.Flights() {
				g.Stats()
			}
		}
		g.Shards = 1
		g.Clone = func(v int) int { touch(); return v }
		g.Hash = func(string) uint64 {
			if g.Len() < 0 {
				panic("unreachable")
			}
			return 0
		}
		for _, lead := range kit.Forms {
			for _, follow := range kit.Forms {
				for _, leave := range []bool{false, true} {
					inner, cancel := context.WithCancel(t.Context())
					ctx := touchingContext{inner, touch}
					h := kit.Hold()
					fn := func(ctx context.Context) (int, error) {
						touch()
						c, stop := context.WithCancel(ctx)
						defer stop()
						c.Value("nothing")
						return h.CtxFn(1)(ctx)
					}
					_, d1 := kit.Go(ctx, lead, &g, "k", fn)
					synctest.Wait()
					_, d2 := kit.Go(ctx, follow, &g, "k", fn)
					synctest.Wait()
					if leave {
						cancel()
						synctest.Wait()
					}
					close(h.Release)
					<-d1
					<-d2
					synctest.Wait()
					cancel()
				}
			}
		}
	})
}

// A touchingContext uses the group in each of its methods.
type touchingContext struct {
	context.Context
	touch func()
}

func (c touchingContext) Done() <-chan struct{} { c.touch(); return c.Context.Done() }
func (c touchingContext) Err() error            { c.touch(); return c.Context.Err() }
func (c touchingContext) Value(key any) any     { c.touch(); return nil } // hides the standard context, so that AfterFunc is used
func (c touchingContext) AfterFunc(fn func()) func() bool {
	c.touch()
	stop := context.AfterFunc(c.Context, fn)
	return func() bool { c.touch(); return stop() }
}

var packageGroup kit.Group

// TestG14_BubblesOneAfterAnother: a package-level group works outside, inside a bubble,
// inside the next, and outside again, with flights that were joined and records that are
// used again.
func TestG14_BubblesOneAfterAnother(t *testing.T) {
	use := func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, f := range kit.Forms {
			packageGroup.Do("warm", kit.Value(1))
			h := kit.Hold()
			a, d1 := kit.Go(ctx, f, &packageGroup, "k", h.CtxFn(1))
			<-h.Started
			before := packageGroup.Stats().Joined
			b, d2 := kit.Go(ctx, kit.Forms[2], &packageGroup, "k", kit.CtxValue(2))
			for packageGroup.Stats().Joined == before {
				runtime.Gosched()
			}
			close(h.Release)
			<-d1
			<-d2
			if a.V != 1 || a.Err != nil || b.V != 1 || b.Err != nil || !b.Shared {
				t.Errorf("%s: got %+v and %+v, want 1 for both", f.Name, a, b)
			}
		}
	}
	use(t)
	synctest.Test(t, use)
	synctest.Test(t, use)
	use(t)
}

// TestG14_VetSeesCopies: go vet rejects a copied Group.
func TestG14_VetSeesCopies(t *testing.T) {
	out, err := exec.Command("go", "vet", "./testdata/copied").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "passes lock by value") {
		t.Errorf("go vet: got %v, want an error about a copied lock\n%s", err, out)
	}
}

// TestG17_MemoryModel: every call that shares the result of fn sees the writes that fn
// made without synchronization, and so does code after Shutdown. The race detector
// judges.
func TestG17_MemoryModel(t *testing.T) {
	for _, lead := range kit.Forms {
		for _, follow := range kit.Joining {
			var g kit.Group
			written := 0
			h := kit.Hold()
			ctx, cancel := context.WithCancel(t.Context())
			fn := func(ctx context.Context) (int, error) {
				v, err := h.CtxFn(1)(ctx)
				written = 42
				return v, err
			}
			var wg sync.WaitGroup
			read := func(f kit.Form) {
				wg.Go(func() {
					if a := f.Call(ctx, &g, "k", fn); a.Err != nil || written != 42 {
						t.Errorf("%s: got %+v and the write %d, want no error, 42", f.Name, a, written)
					}
				})
			}
			read(lead)
			<-h.Started
			for range 3 {
				read(follow)
			}
			for g.Stats().Joined < 3 {
				runtime.Gosched()
			}
			shut := make(chan struct{})
			go func() {
				defer close(shut)
				if err := g.Shutdown(context.Background()); err != nil || written != 42 {
					t.Errorf("Shutdown: got %v and the write %d, want nil, 42", err, written)
				}
			}()
			close(h.Release)
			wg.Wait()
			<-shut
			cancel()
		}
	}
}
