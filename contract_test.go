package coalesce_test

import (
	"context"
	"errors"
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
)

// Each test here is named after the rule of the contract (doc.go) that it
// shows. Rules about fn's context are in context_test.go, about how fn ends in
// matrix_test.go, about memory in memory_test.go.

type group = coalesce.Group[string, int]

var errTest = errors.New("test error")

// A held fn runs until it is released.
type held struct {
	started, release chan struct{}
	runs             atomic.Int32
}

func hold() *held {
	return &held{started: make(chan struct{}, 16), release: make(chan struct{})}
}

// fn returns a fn for Do that yields v once h is released.
func (h *held) fn(v int) func() (int, error) {
	return func() (int, error) {
		h.runs.Add(1)
		h.started <- struct{}{}
		<-h.release
		return v, nil
	}
}

// ctxFn is fn for the forms that give a context, which it ignores.
func (h *held) ctxFn(v int) func(context.Context) (int, error) {
	fn := h.fn(v)
	return func(context.Context) (int, error) { return fn() }
}

func value(v int) func() (int, error) { return func() (int, error) { return v, nil } }

func ctxValue(v int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return v, nil }
}

// An answer is what one call got.
type answer struct {
	v      int
	shared bool
	err    error
	panic  any
	at     time.Time
}

// A form is one way to call, with its differences evened out.
type form struct {
	name string
	call func(ctx context.Context, g *group, key string, fn func(context.Context) (int, error)) answer
}

var forms = []form{
	{"Do", func(_ context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		a.v, a.shared, a.err = g.Do(key, func() (int, error) { return fn(context.Background()) })
		return a
	}},
	{"DoContext background", func(_ context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		a.v, a.shared, a.err = g.DoContext(context.Background(), key, fn)
		return a
	}},
	{"DoContext", func(ctx context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		a.v, a.shared, a.err = g.DoContext(ctx, key, fn)
		return a
	}},
	{"DoChan", func(ctx context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		r := <-g.DoChan(ctx, key, fn)
		a.v, a.shared, a.err = r.Val, r.Shared, r.Err
		return a
	}},
	{"DoFresh", func(ctx context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		a.v, a.shared, a.err = g.DoFresh(ctx, key, fn)
		return a
	}},
	{"DoMulti", func(ctx context.Context, g *group, key string, fn func(context.Context) (int, error)) (a answer) {
		defer a.recover()
		r := g.DoMulti(ctx, []string{key}, func(ctx context.Context, keys []string) (map[string]int, error) {
			v, err := fn(ctx)
			return map[string]int{keys[0]: v}, err
		})[key]
		a.v, a.shared, a.err = r.Val, r.Shared, r.Err
		return a
	}},
}

// joining are the forms that join a flight that runs, and leaving those of them
// whose callers can give up.
var (
	joining = append(forms[:4:4], forms[5])
	leaving = joining[2:]
)

func (a *answer) recover() {
	a.panic = recover()
	a.at = time.Now()
}

// goCall makes a call on a goroutine of its own. The answer may be read after
// synctest.Wait, or when the channel is closed.
func goCall(ctx context.Context, f form, g *group, key string, fn func(context.Context) (int, error)) (*answer, <-chan struct{}) {
	a, done := new(answer), make(chan struct{})
	go func() {
		defer close(done)
		a.err = errors.New("the goroutine of the call exited")
		*a = f.call(ctx, g, key, fn)
	}()
	return a, done
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// TestG1_OneAtATime: a thousand calls of all forms for one key, while fn runs,
// are one execution.
func TestG1_OneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		var running, runs atomic.Int32
		fn := func(context.Context) (int, error) {
			if running.Add(1) > 1 {
				t.Error("two executions at once")
			}
			defer running.Add(-1)
			time.Sleep(time.Second)
			return int(runs.Add(1)), nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 1000 {
			go func() {
				f := joining[i%len(joining)]
				if a := f.call(ctx, &g, "k", fn); a.v != 1 || !a.shared || a.err != nil {
					t.Errorf("%s: %+v", f.name, a)
				}
			}()
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d executions, want 1", runs.Load())
		}
	})
}

// TestG1_NewcomerWaitsBehindAbandoned: when all callers have left and fn
// ignores that, a newcomer of any form neither joins it nor runs beside it. It
// starts in the instant in which the old one ends.
func TestG1_NewcomerWaitsBehindAbandoned(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g group
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
					t.Fatalf("abandoning call: %v after %v", err, time.Since(start))
				}
				a := f.call(ctx, &g, "k", func(context.Context) (int, error) {
					if oldRuns.Load() {
						t.Error("two executions at once")
					}
					return 2, nil
				})
				if a.v != 2 || a.shared || a.err != nil || a.at.Sub(start) != time.Minute {
					t.Errorf("newcomer: %+v after %v", a, a.at.Sub(start))
				}
				if n := g.Len(); n != 0 {
					t.Errorf("Len = %d", n)
				}
			})
		})
	}
}

// TestG1_WaitBehindAbandonedIsUnderOwnContext: a newcomer behind an abandoned
// flight can give up; when all have, nothing is started for them.
func TestG1_WaitBehindAbandonedIsUnderOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		old := abandon(t, &g, "k")
		start := time.Now()
		for i := range 10 {
			for _, f := range forms[2:] {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				go func() {
					a := f.call(ctx, &g, "k", func(context.Context) (int, error) {
						t.Error("started for a caller that has left")
						return 0, nil
					})
					if a.err != context.DeadlineExceeded || a.at.Sub(start) != time.Duration(i+1)*time.Second {
						t.Errorf("%s: %+v", f.name, a)
					}
				}()
			}
		}
		time.Sleep(20 * time.Second)
		close(old.release)
		synctest.Wait()
		if g.Len() != 0 {
			t.Errorf("Len = %d", g.Len())
		}
		if st := g.Stats(); st.Joined != 40 || st.Left != 41 || st.Led != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// abandon leaves key with an abandoned flight, whose fn ignores its context
// until it is released.
func abandon(t *testing.T, g *group, key string) *held {
	t.Helper()
	h := hold()
	ctx, cancel := context.WithCancel(t.Context())
	a, done := goCall(ctx, forms[2], g, key, h.ctxFn(1))
	<-h.started
	cancel()
	<-done
	if a.err != context.Canceled {
		t.Fatalf("abandoning call: %+v", *a)
	}
	return h
}

// TestG2_OneAnswer: all callers of a flight get the same value and the very
// same error, of a type that hides a nil pointer too.
func TestG2_OneAnswer(t *testing.T) {
	for _, want := range []error{nil, errTest, fmt.Errorf("wrapped: %w", errTest), (*typedNil)(nil)} {
		synctest.Test(t, func(t *testing.T) {
			var g group
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range 40 {
				go func() {
					a := joining[i%len(joining)].call(ctx, &g, "k", func(context.Context) (int, error) {
						time.Sleep(time.Second)
						return 7, want
					})
					if a.v != 7 || a.err != want || !a.shared {
						t.Errorf("%s: got %+v, want error %v", joining[i%len(joining)].name, a, want)
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

// TestG2_Clone: with Clone, every caller of a joined flight gets a value of its
// own and the original goes to nobody; a call on its own gets the original.
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
				t.Errorf("got %v, %v, %v", p, shared, err)
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
			t.Errorf("%d values from %d clones, original %d times", len(seen), clones.Load(), seen[original])
		}
		p, shared, err := g.Do("k", func() (*int, error) { return original, nil })
		if p != original || shared || err != nil {
			t.Errorf("alone: %v, %v, %v", p, shared, err)
		}
	})
}

// TestG2_ClonePanics: a Clone that panics, or exits, harms the caller it was
// to clone for and nobody else.
func TestG2_ClonePanics(t *testing.T) {
	captureLog(t)
	for _, exits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			g := coalesce.Group[string, int]{Clone: func(v int) int {
				if n.Add(1)%2 == 0 {
					if exits {
						runtime.Goexit()
					}
					panic("no clone")
				}
				return v
			}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var answers [40]*answer
			var panics, gone, good int
			for i := range answers {
				answers[i], _ = goCall(ctx, joining[i%len(joining)], &g, "k", func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return 5, nil
				})
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for i, a := range answers {
				var pe *coalesce.PanicError
				e, _ := a.panic.(error)
				switch {
				case errors.As(e, &pe), errors.As(a.err, &pe):
					panics++
					if pe.Value != "no clone" || len(pe.Stack) == 0 {
						t.Errorf("%s: %v", joining[i%len(joining)].name, pe)
					}
				case a.err != nil:
					gone++ // ErrGoexit in a channel, or an exited goroutine
				case a.v == 5:
					good++
				default:
					t.Errorf("%s: %+v", joining[i%len(joining)].name, a)
				}
			}
			if good != 20 || exits && gone != 20 || !exits && panics != 20 {
				t.Errorf("exits %v: %d good, %d panics, %d gone", exits, good, panics, gone)
			}
			if g.Len() != 0 {
				t.Errorf("Len = %d", g.Len())
			}
		})
	}
}

// TestG3_NeverStale: a caller that has its answer and calls again gets a new
// execution, although others have not yet been scheduled to take theirs.
func TestG3_NeverStale(t *testing.T) {
	var g group
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
		t.Errorf("%d of 16000 calls were stale", stale.Load())
	}
}

// TestG4_LeaderLeaves: the leader's context ends; the leader returns at once,
// the followers get their result.
func TestG4_LeaderLeaves(t *testing.T) {
	for _, lead := range forms[2:] {
		for _, follow := range joining {
			t.Run(lead.name+" then "+follow.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g group
					h := hold()
					ctx, cancel := context.WithCancel(t.Context())
					other, cancelOther := context.WithCancel(t.Context())
					defer cancelOther()
					leader, _ := goCall(ctx, lead, &g, "k", h.ctxFn(3))
					synctest.Wait()
					follower, done := goCall(other, follow, &g, "k", ctxValue(4))
					synctest.Wait()
					cancel()
					synctest.Wait()
					if leader.err != context.Canceled || !leader.shared {
						t.Errorf("leader: %+v", leader)
					}
					if isDone(done) {
						t.Fatalf("follower was answered: %+v", follower)
					}
					close(h.release)
					synctest.Wait()
					if follower.v != 3 || !follower.shared || follower.err != nil {
						t.Errorf("follower: %+v", follower)
					}
				})
			})
		}
	}
}

// TestG4_FollowerLeaves: a follower's context ends; it returns at once, and
// nobody else notices.
func TestG4_FollowerLeaves(t *testing.T) {
	for _, lead := range forms {
		for _, follow := range leaving {
			t.Run(lead.name+" then "+follow.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g group
					h := hold()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					mine, cancelMine := context.WithCancel(t.Context())
					leader, _ := goCall(ctx, lead, &g, "k", h.ctxFn(3))
					synctest.Wait()
					follower, _ := goCall(mine, follow, &g, "k", ctxValue(4))
					synctest.Wait()
					cancelMine()
					synctest.Wait()
					if follower.err != context.Canceled || !follower.shared {
						t.Errorf("follower: %+v", follower)
					}
					close(h.release)
					synctest.Wait()
					if leader.v != 3 || !leader.shared || leader.err != nil {
						t.Errorf("leader: %+v", leader)
					}
				})
			})
		}
	}
}

// TestG5_ResultBeatsCancellation: the flight has finished, then the follower's
// context ends, and only then is the follower scheduled: it gets the result,
// every time.
func TestG5_ResultBeatsCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		for range 2000 {
			h := hold()
			ctx, cancel := context.WithCancel(t.Context())
			var followers [3]*answer
			var done [3]<-chan struct{}
			go func() {
				g.Do("k", h.fn(6))
				cancel() // the flight has finished, its waiters may not have run
			}()
			<-h.started
			for i, f := range leaving {
				followers[i], done[i] = goCall(ctx, f, &g, "k", ctxValue(0))
			}
			synctest.Wait()
			close(h.release)
			for i, f := range leaving {
				<-done[i]
				if a := followers[i]; a.v != 6 || a.err != nil {
					t.Fatalf("%s: %+v", f.name, a)
				}
			}
		}
	})
}

// TestG5_SameInstant: a result and the end of a context in the same instant of
// a fake clock give one or the other, whole.
func TestG5_SameInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
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
				t.Fatalf("got %v, %v, %v", v, shared, err)
			}
			cancel()
			synctest.Wait()
			if g.Len() != 0 {
				t.Fatal("flight left behind")
			}
		}
		t.Logf("result %d, deadline %d", won, lost)
	})
}

// TestG6_EndedContextStartsNothing: neither leading nor joining, and not as
// the head of a queue either.
func TestG6_EndedContextStartsNothing(t *testing.T) {
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errTest)
	must := func(context.Context) (int, error) {
		t.Error("fn ran")
		return 0, nil
	}
	for _, f := range forms[2:] {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g group
				for range 1000 {
					if a := f.call(ended, &g, "k", must); a.err != context.Canceled || a.shared {
						t.Fatalf("leading: %+v", a)
					}
				}
				h := hold()
				go g.Do("k", h.fn(1))
				<-h.started
				if a := f.call(ended, &g, "k", must); a.err != context.Canceled || a.shared {
					t.Errorf("joining: %+v", a)
				}
				close(h.release)
				synctest.Wait()
				if st := g.Stats(); st.EndedOnEntry != 1001 || st.Led != 1 || st.Joined != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestG6_EndedContextLeadsNoSuccessor: the context of the first in the queue
// ends in the instant before the queue is promoted; the next one leads.
func TestG6_EndedContextLeadsNoSuccessor(t *testing.T) {
	for _, f := range forms[2:] {
		for _, next := range forms {
			t.Run(f.name+" then "+next.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					for range 50 {
						var g group
						old := abandon(t, &g, "k")
						ctx, cancel := context.WithCancel(t.Context())
						live, cancelLive := context.WithCancel(t.Context())
						first, _ := goCall(ctx, f, &g, "k", func(context.Context) (int, error) {
							t.Error("a caller whose context has ended leads")
							return 0, nil
						})
						synctest.Wait()
						second, _ := goCall(live, next, &g, "k", ctxValue(2))
						synctest.Wait()
						cancel()
						close(old.release)
						synctest.Wait()
						if first.err != context.Canceled || !first.shared {
							t.Fatalf("first: %+v", first)
						}
						if second.v != 2 || second.err != nil || !second.shared {
							t.Fatalf("second: %+v", second)
						}
						if g.Len() != 0 {
							t.Fatalf("Len = %d", g.Len())
						}
						cancelLive()
					}
				})
			})
		}
	}
}

// TestG8_WhereFnRuns: on the caller's goroutine for Do, TryDo and DoContext
// with a context that cannot end, which fn then gets as it is; on another one
// otherwise.
func TestG8_WhereFnRuns(t *testing.T) {
	var g group
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
		{"DoMulti", func() { forms[5].call(live, &g, "k", note) }, false, nil},
		{"DoMulti never ends", func() { forms[5].call(never, &g, "k", note) }, false, nil},
	}
	for _, tt := range tests {
		tt.call()
		if inline := ran == goroutine(); inline != tt.inline {
			t.Errorf("%s: on the caller's goroutine: %v, want %v", tt.name, inline, tt.inline)
		}
		if tt.ctx != nil && got != tt.ctx {
			t.Errorf("%s: fn got %v", tt.name, got)
		}
	}
}

// goroutine names the calling goroutine.
func goroutine() string {
	b := make([]byte, 64)
	b = b[:runtime.Stack(b, false)]
	return strings.Fields(string(b))[1]
}

// TestG13_UserCodeOutsideLocks: Hash, Clone, fn and the methods of contexts
// call back into the group, which has one shard, so that a lock held around
// any of them hangs the test.
func TestG13_UserCodeOutsideLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
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
		for _, lead := range forms {
			for _, follow := range forms {
				for _, leave := range []bool{false, true} {
					inner, cancel := context.WithCancel(t.Context())
					ctx := touchingContext{inner, touch}
					h := hold()
					fn := func(ctx context.Context) (int, error) {
						touch()
						c, stop := context.WithCancel(ctx)
						defer stop()
						c.Value("nothing")
						return h.ctxFn(1)(ctx)
					}
					_, d1 := goCall(ctx, lead, &g, "k", fn)
					synctest.Wait()
					_, d2 := goCall(ctx, follow, &g, "k", fn)
					synctest.Wait()
					if leave {
						cancel()
						synctest.Wait()
					}
					close(h.release)
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
func (c touchingContext) Value(key any) any     { c.touch(); return nil } // hides the standard context, or AfterFunc is not used
func (c touchingContext) AfterFunc(fn func()) func() bool {
	c.touch()
	stop := context.AfterFunc(c.Context, fn)
	return func() bool { c.touch(); return stop() }
}

var packageGroup group

// TestG14_BubblesOneAfterAnother: a package-level group works outside, inside a
// bubble, inside the next, and outside again, with flights that were joined and
// records that are used again.
func TestG14_BubblesOneAfterAnother(t *testing.T) {
	use := func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, f := range forms {
			packageGroup.Do("warm", value(1))
			h := hold()
			a, d1 := goCall(ctx, f, &packageGroup, "k", h.ctxFn(1))
			<-h.started
			before := packageGroup.Stats().Joined
			b, d2 := goCall(ctx, forms[2], &packageGroup, "k", ctxValue(2))
			for packageGroup.Stats().Joined == before {
				runtime.Gosched()
			}
			close(h.release)
			<-d1
			<-d2
			if a.v != 1 || a.err != nil || b.v != 1 || b.err != nil || !b.shared {
				t.Errorf("%s: %+v %+v", f.name, a, b)
			}
		}
	}
	use(t)
	synctest.Test(t, use)
	synctest.Test(t, use)
	use(t)
}

// TestG14_VetSeesCopies: go vet refuses a copied Group.
func TestG14_VetSeesCopies(t *testing.T) {
	out, err := exec.Command("go", "vet", "./testdata/copied").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "passes lock by value") {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}

// TestG15_Forget: the next call runs beside the forgotten flight, which answers
// its own callers and leaves its replacement alone when it ends, even if all
// its callers leave first.
func TestG15_Forget(t *testing.T) {
	for _, f := range forms {
		for _, leave := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s leave=%v", f.name, leave), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var g group
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					rest, cancelRest := context.WithCancel(t.Context())
					defer cancelRest()
					h1, h2 := hold(), hold()
					a1, _ := goCall(ctx, f, &g, "k", h1.ctxFn(1))
					<-h1.started
					b1, _ := goCall(ctx, forms[2], &g, "k", ctxValue(0))
					synctest.Wait()
					if !g.Forget("k") || g.Forget("k") || g.Len() != 0 {
						t.Error("Forget")
					}
					a2, _ := goCall(rest, f, &g, "k", h2.ctxFn(2))
					<-h2.started
					if leave {
						cancel()
						synctest.Wait()
					}
					close(h1.release)
					synctest.Wait()
					inline := f.name == "Do" || f.name == "DoContext background"
					if leave && !inline && a1.err != context.Canceled ||
						(!leave || inline) && (a1.v != 1 || a1.err != nil || !a1.shared) {
						t.Errorf("first: %+v", a1)
					}
					if leave && b1.err != context.Canceled || !leave && (b1.v != 1 || b1.err != nil) {
						t.Errorf("follower of the first: %+v", b1)
					}
					b2, _ := goCall(rest, forms[0], &g, "k", ctxValue(3))
					synctest.Wait()
					close(h2.release)
					synctest.Wait()
					if a2.v != 2 || b2.v != 2 || !b2.shared {
						t.Errorf("second: %+v, joined by %+v", a2, b2)
					}
					if g.Len() != 0 {
						t.Errorf("Len = %d", g.Len())
					}
				})
			})
		}
	}
}

// TestG15_ForgetInsideFn: fn forgets its own key, twice, and a key that nobody
// uses.
func TestG15_ForgetInsideFn(t *testing.T) {
	var g group
	v, shared, err := g.Do("k", func() (int, error) {
		if !g.Forget("k") || g.Forget("k") || g.Forget("other") {
			t.Error("Forget")
		}
		v, _, err := g.Do("k", value(2)) // no recursion: the key is free
		return v + 1, err
	})
	if v != 3 || shared || err != nil || g.Len() != 0 {
		t.Errorf("got %v, %v, %v, Len %d", v, shared, err, g.Len())
	}
}

// TestG16_LeaderDoesNotWaitForWaking: the leader of a flight with ten thousand
// waiters returns in at most five times what it takes with a hundred.
func TestG16_LeaderDoesNotWaitForWaking(t *testing.T) {
	for try := 1; ; try++ {
		few, many := leaderReturn(t, 100), leaderReturn(t, 10_000)
		t.Logf("leader's return: %v with 100 waiters, %v with 10000", few, many)
		limit := 5 * max(few, 5*time.Microsecond)
		if many <= limit {
			return
		}
		if try == 3 { // a busy machine can do that once
			t.Fatalf("%v with 10000 waiters, more than %v", many, limit)
		}
	}
}

// leaderReturn is the median time from the end of fn to the return of Do.
func leaderReturn(t *testing.T, waiters int) time.Duration {
	var took []time.Duration
	for range 15 {
		var g group
		var end time.Time
		var wg sync.WaitGroup
		g.Do("k", func() (int, error) {
			for range waiters {
				wg.Go(func() { g.Do("k", value(0)) })
			}
			for waitersOf(&g, "k") < waiters {
				runtime.Gosched()
			}
			time.Sleep(time.Millisecond) // all are parked by now
			end = time.Now()
			return 1, nil
		})
		took = append(took, time.Since(end))
		wg.Wait()
	}
	return median(took)
}

func waitersOf(g *group, key string) int {
	for f := range g.Flights() {
		if f.Key == key && !f.Forgotten {
			return f.Waiters
		}
	}
	return 0
}

// TestG16_OtherKeysWhileWaking: while ten thousand waiters of one key are
// woken, a call for another key of the same shard goes through.
func TestG16_OtherKeysWhileWaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{Shards: 1}
		h := hold()
		go g.Do("hot", h.fn(1))
		<-h.started
		for range 10_000 {
			go func() {
				g.Do("hot", value(0))
				g.Do("cold", value(0)) // from inside the waking, so to speak
			}()
		}
		synctest.Wait()
		close(h.release)
		synctest.Wait()
		if st := g.Stats(); st.Calls != 20_001 || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
	})
}

// TestG16_WakingGoesOnWhereOthersWork: goroutines that never block, two for each P,
// do not keep the waker from going on. If it gave way to them after every block,
// the last of ten thousand would return after more than a second.
func TestG16_WakingGoesOnWhereOthersWork(t *testing.T) {
	if raceEnabled {
		t.Log("what is slower under the race detector has no such bound")
		return
	}
	setProcs(t, 2)
	for try := 1; ; try++ {
		took := lastReturnAmongHogs(10_000, 4)
		t.Logf("the last returned after %v", took)
		if took < 700*time.Millisecond {
			return
		}
		if try == 3 {
			t.Fatalf("%v until the last had returned", took)
		}
	}
}

// lastReturnAmongHogs is the time from the end of fn to the return of the last
// waiter, while so many goroutines use the processors.
func lastReturnAmongHogs(waiters, hogs int) time.Duration {
	var g group
	var calls, work sync.WaitGroup
	var enough atomic.Bool
	var end time.Time
	g.Do("k", func() (int, error) {
		for range waiters {
			calls.Go(func() { g.Do("k", value(0)) })
		}
		for waitersOf(&g, "k") < waiters {
			runtime.Gosched()
		}
		for range hogs {
			work.Go(func() {
				for !enough.Load() {
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		end = time.Now()
		return 1, nil
	})
	calls.Wait()
	took := time.Since(end)
	enough.Store(true)
	work.Wait()
	return took
}

// TestG17_MemoryModel: what fn wrote without synchronization is seen by every
// call that shares its result, and after Shutdown. The race detector judges.
func TestG17_MemoryModel(t *testing.T) {
	for _, lead := range forms {
		for _, follow := range joining {
			var g group
			written := 0
			h := hold()
			ctx, cancel := context.WithCancel(t.Context())
			fn := func(ctx context.Context) (int, error) {
				v, err := h.ctxFn(1)(ctx)
				written = 42
				return v, err
			}
			var wg sync.WaitGroup
			read := func(f form) {
				wg.Go(func() {
					if a := f.call(ctx, &g, "k", fn); a.err != nil || written != 42 {
						t.Errorf("%s: %+v, sees %d", f.name, a, written)
					}
				})
			}
			read(lead)
			<-h.started
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
					t.Errorf("Shutdown: %v, sees %d", err, written)
				}
			}()
			close(h.release)
			wg.Wait()
			<-shut
			cancel()
		}
	}
}

// TestG10_NilPanicError: an fn that panics with a nil *PanicError has panicked, and the
// callers are told by one that is not nil.
func TestG10_NilPanicError(t *testing.T) {
	captureLog(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			var g group
			var none *coalesce.PanicError
			a := f.call(t.Context(), &g, "k", func(context.Context) (int, error) { panic(none) })
			e, _ := a.err.(*coalesce.PanicError)
			if e == nil {
				e, _ = a.panic.(*coalesce.PanicError)
			}
			if e == nil || e.Value != any(none) || len(e.Stack) == 0 {
				t.Errorf("told by %+v", e)
			}
		})
	}
}
