package singleflight_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/singleflight"
)

// The signatures are those of x/sync.
var _ interface {
	Do(key string, fn func() (interface{}, error)) (v interface{}, err error, shared bool)
	DoChan(key string, fn func() (interface{}, error)) <-chan singleflight.Result
	Forget(key string)
} = new(singleflight.Group)

// The fields of a Result are those of x/sync, in the same order.
var _ = struct {
	Val    any
	Err    error
	Shared bool
}(singleflight.Result{})

var errFn = errors.New("fn failed")

// An outcome is what comes of one call.
type outcome struct {
	v        any
	err      error
	shared   bool
	panicked any
	exited   bool // its goroutine has
}

// An ending is a way in which fn ends, and what calls have of it.
type ending struct {
	name string
	fn   func() (any, error)

	do   func(outcome) bool // whether it is what Do has of it
	chn  func(outcome) bool // likewise for a receiver
	logs func(blocked bool) int
}

func isPanic(err any, value any) bool {
	e, ok := err.(*coalesce.PanicError)
	return ok && e.Value == value && bytes.Contains(e.Stack, []byte("singleflight_test.go"))
}

func never(bool) int { return 0 }

func unlessBlocked(blocked bool) int {
	if blocked {
		return 0
	}
	return 1
}

var endings = []ending{
	{
		"returns", func() (any, error) { return "v", nil },
		func(o outcome) bool { return o.v == "v" && o.err == nil },
		func(o outcome) bool { return o.v == "v" && o.err == nil },
		never,
	},
	{
		"fails", func() (any, error) { return "partial", errFn },
		func(o outcome) bool { return o.v == "partial" && o.err == errFn },
		func(o outcome) bool { return o.v == "partial" && o.err == errFn },
		never,
	},
	{
		"returns ErrGoexit", func() (any, error) { return "v", coalesce.ErrGoexit },
		func(o outcome) bool { return o.v == "v" && o.err == coalesce.ErrGoexit },
		func(o outcome) bool {
			return o.v == "v" && errors.Is(o.err, coalesce.ErrGoexit) && o.err.Error() == coalesce.ErrGoexit.Error()
		},
		never,
	},
	{
		"panics", func() (any, error) { panic("apple") },
		func(o outcome) bool { return isPanic(o.panicked, "apple") },
		func(o outcome) bool { return o.v == nil && isPanic(o.err, "apple") },
		unlessBlocked,
	},
	{
		"panics while it exits", func() (any, error) {
			defer panic("apple")
			runtime.Goexit()
			return "v", nil
		},
		func(o outcome) bool { return isPanic(o.panicked, "apple") },
		func(o outcome) bool { return o.v == nil && isPanic(o.err, "apple") },
		unlessBlocked,
	},
	{
		"exits", func() (any, error) { runtime.Goexit(); return "v", nil },
		func(o outcome) bool { return o.exited },
		func(o outcome) bool { return o.v == nil && o.err == coalesce.ErrGoexit },
		never,
	},
}

// do calls Do on a goroutine of its own. What the channel yields is there when it is over.
func do(g *singleflight.Group, fn func() (any, error)) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		o := outcome{exited: true}
		defer func() {
			o.panicked = recover()
			done <- o
		}()
		o.v, o.err, o.shared = g.Do("k", fn)
		o.exited = false
	}()
	return done
}

// TestMatrix crosses how fn ends with the call that leads and the one that follows. The
// third kind of follower abandons its channel.
func TestMatrix(t *testing.T) {
	for _, e := range endings {
		for _, lead := range []string{"Do", "DoChan"} {
			for _, follow := range []string{"Do", "DoChan", "abandoned DoChan"} {
				t.Run(fmt.Sprintf("%s/%s leads/%s follows", e.name, lead, follow), func(t *testing.T) {
					log := kit.CaptureLog(t)
					synctest.Test(t, func(t *testing.T) {
						var g singleflight.Group
						release := make(chan struct{})
						fn := func() (any, error) {
							<-release
							return e.fn()
						}
						var calls []<-chan outcome
						var receivers []<-chan singleflight.Result
						for i, form := range []string{lead, follow} {
							switch form {
							case "Do":
								calls = append(calls, do(&g, fn))
							case "DoChan":
								receivers = append(receivers, g.DoChan("k", fn))
							default:
								g.DoChan("k", fn)
							}
							synctest.Wait()
							if n := g.Coalesce().Stats(); n.Led != 1 || n.Joined != uint64(i) {
								t.Fatalf("after %d calls: got %d that led and %d that joined, want 1 and %d", i+1, n.Led, n.Joined, i)
							}
						}
						close(release)
						synctest.Wait()
						for _, c := range calls {
							if o := <-c; !e.do(o) || o.panicked == nil && !o.exited && !o.shared {
								t.Errorf("Do: got %+v, want an fn that %s, shared", o, e.name)
							}
						}
						for _, c := range receivers {
							if r := <-c; !e.chn(outcome{v: r.Val, err: r.Err}) || !r.Shared {
								t.Errorf("DoChan: got %+v, want an fn that %s, shared", r, e.name)
							}
						}
						if got, want := strings.Count(log.String(), "level=ERROR"), e.logs(len(calls) > 0); got != want {
							t.Errorf("got %d lines in the log, want %d:\n%s", got, want, log)
						}
						if n := g.Coalesce().Len(); n != 0 {
							t.Errorf("got %d flights in the end, want 0", n)
						}
					})
				})
			}
		}
	}
}

// TestMatrix_Alone: likewise for a call that no other joins.
func TestMatrix_Alone(t *testing.T) {
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			kit.CaptureLog(t)
			var g singleflight.Group
			if o := <-do(&g, e.fn); !e.do(o) || o.shared {
				t.Errorf("Do: got %+v, want an fn that %s, not shared", o, e.name)
			}
			if r := <-g.DoChan("k", e.fn); !e.chn(outcome{v: r.Val, err: r.Err}) || r.Shared {
				t.Errorf("DoChan: got %+v, want an fn that %s, not shared", r, e.name)
			}
		})
	}
}

// TestReturnedErrGoexit: an fn that returns ErrGoexit, as it gets it from a nested call,
// makes no goroutine exit, though it is wrapped; and an error that wraps it is that error.
func TestReturnedErrGoexit(t *testing.T) {
	var g, nested singleflight.Group
	wrapped := fmt.Errorf("nested: %w", coalesce.ErrGoexit)
	o := <-do(&g, func() (any, error) {
		r := <-nested.DoChan("k", func() (any, error) { runtime.Goexit(); return nil, nil })
		return nil, r.Err
	})
	if o.exited || o.err != coalesce.ErrGoexit {
		t.Errorf("got %+v, want ErrGoexit", o)
	}
	if o = <-do(&g, func() (any, error) { return nil, wrapped }); o.exited || o.err != wrapped {
		t.Errorf("got %+v, want the error %v", o, wrapped)
	}
}

// TestReturnedErrGoexit_Beneath: a call of the group beneath finds such an error with errors.Is.
// Whether an fn of the group beneath has exited or returned it, Do cannot know: it exits.
func TestReturnedErrGoexit_Beneath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g singleflight.Group
		release := make(chan struct{})
		returns := func() (any, error) {
			<-release
			return nil, coalesce.ErrGoexit
		}
		call := do(&g, returns)
		synctest.Wait()
		receiver := g.Coalesce().DoChan(t.Context(), "k", nil2)
		synctest.Wait()
		close(release)
		if o, r := <-call, <-receiver; o.err != coalesce.ErrGoexit || !errors.Is(r.Err, coalesce.ErrGoexit) {
			t.Errorf("got %+v and %+v, want ErrGoexit for both", o, r)
		}

		release = make(chan struct{})
		receiver = g.Coalesce().DoChan(t.Context(), "k", func(context.Context) (any, error) { return returns() })
		synctest.Wait()
		call = do(&g, returns)
		synctest.Wait()
		close(release)
		if o, r := <-call, <-receiver; !o.exited || r.Err != coalesce.ErrGoexit {
			t.Errorf("got %+v and %+v, want an exit and ErrGoexit", o, r)
		}
	})
}

func nil2(context.Context) (any, error) { return nil, nil }

// TestForget: after Forget, the next call runs its fn beside the one that runs; both calls
// get the results of their own.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g singleflight.Group
		first, release := hold(1)
		old := do(&g, first)
		synctest.Wait()
		joined := do(&g, first)
		synctest.Wait()
		g.Forget("k")
		second, releaseSecond := hold(2)
		fresh := do(&g, second)
		synctest.Wait()
		close(release)
		for _, c := range []<-chan outcome{old, joined} {
			if o := <-c; o.v != 1 || !o.shared {
				t.Errorf("got %+v of the forgotten fn, want 1, shared", o)
			}
		}
		close(releaseSecond)
		if o := <-fresh; o.v != 2 || o.shared {
			t.Errorf("got %+v after Forget, want 2, not shared", o)
		}
		g.Forget("no such key")
	})
}

// hold returns an fn that returns v once the channel is closed.
func hold(v any) (fn func() (any, error), release chan struct{}) {
	release = make(chan struct{})
	return func() (any, error) {
		<-release
		return v, nil
	}, release
}

// TestForgetUnshared: a key that only its leader waits for is forgotten, once; a second
// ForgetUnshared finds nothing of it, and says that the next call will run its fn.
func TestForgetUnshared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g singleflight.Group
		first, release := hold(1)
		old := do(&g, first)
		synctest.Wait()
		if !g.ForgetUnshared("k") {
			t.Error("got false for a key that only its leader waits for, want true")
		}
		second, releaseSecond := hold(2)
		fresh := g.DoChan("k", second)
		synctest.Wait()
		close(release)
		if o := <-old; o.v != 1 {
			t.Errorf("got %+v of the forgotten fn, want 1", o)
		}
		// What has ended was forgotten: it must not take the fn that runs with it.
		joined := g.DoChan("k", first)
		close(releaseSecond)
		for _, c := range []<-chan singleflight.Result{fresh, joined} {
			if r := <-c; r.Val != 2 || !r.Shared {
				t.Errorf("got %+v, want 2, shared", r)
			}
		}
		if !g.ForgetUnshared("k") {
			t.Error("got false for a key for which nothing runs, want true")
		}
	})
}

// TestForgetUnshared_Shared: a key that a second call waits for is not forgotten, and the
// next call waits for the same fn.
func TestForgetUnshared_Shared(t *testing.T) {
	for _, second := range []string{"Do", "DoChan"} {
		synctest.Test(t, func(t *testing.T) {
			var g singleflight.Group
			fn, release := hold(1)
			calls := []<-chan outcome{do(&g, fn)}
			synctest.Wait()
			if second == "Do" {
				calls = append(calls, do(&g, fn))
			} else {
				g.DoChan("k", fn)
			}
			synctest.Wait()
			if g.ForgetUnshared("k") {
				t.Errorf("%s: got true for a key that two calls wait for, want false", second)
			}
			calls = append(calls, do(&g, func() (any, error) { return "another", nil }))
			synctest.Wait()
			close(release)
			for _, c := range calls {
				if o := <-c; o.v != 1 || !o.shared {
					t.Errorf("%s: got %+v, want 1, shared", second, o)
				}
			}
		})
	}
}

// TestCoalesce: calls of the group beneath share flights with those of Do and DoChan.
func TestCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g singleflight.Group
		var runs atomic.Int32
		fn, release := hold(1)
		counted := func() (any, error) {
			runs.Add(1)
			return fn()
		}
		call := do(&g, counted)
		synctest.Wait()
		receiver := g.DoChan("k", counted)
		beneath := make(chan outcome, 1)
		go func() {
			v, shared, err := g.Coalesce().Do("k", counted)
			beneath <- outcome{v: v, shared: shared, err: err}
		}()
		synctest.Wait()
		if n := g.Coalesce().Len(); n != 1 {
			t.Errorf("got %d flights, want 1", n)
		}
		close(release)
		r := <-receiver
		for _, o := range []outcome{<-call, <-beneath, {v: r.Val, shared: r.Shared, err: r.Err}} {
			if o.v != 1 || !o.shared || o.err != nil || runs.Load() != 1 {
				t.Errorf("got %+v after %d executions, want 1, shared, after one", o, runs.Load())
			}
		}
	})
}

// TestDo_Allocs: a call that no other joins allocates nothing, though its fn captures.
func TestDo_Allocs(t *testing.T) {
	if kit.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	var g singleflight.Group
	n, result := 0, any("v")
	if allocs := testing.AllocsPerRun(1000, func() {
		v, err, shared := g.Do("k", func() (any, error) {
			n++
			return result, nil
		})
		if v != result || err != nil || shared {
			t.Fatalf("got %v, %v, %v, want %v, nil, false", v, err, shared, result)
		}
	}); allocs != 0 {
		t.Errorf("got %v allocations, want 0", allocs)
	}
}

// TestNilFn: a nil fn is refused with a message that says so, and leaves nothing behind.
func TestNilFn(t *testing.T) {
	var g singleflight.Group
	fn, release := hold(1)
	running := g.DoChan("runs", fn)
	for name, call := range map[string]func(){
		"Do":             func() { _, _, _ = g.Do("k", nil) },
		"DoChan":         func() { g.DoChan("k", nil) },
		"Do follows":     func() { _, _, _ = g.Do("runs", nil) },
		"DoChan follows": func() { g.DoChan("runs", nil) },
	} {
		func() {
			defer func() {
				if r := recover(); r != "singleflight: nil fn" {
					t.Errorf("%s: got %v, want a panic that says nil fn", name, r)
				}
			}()
			call()
		}()
	}
	close(release)
	if r := <-running; r.Val != 1 || r.Shared {
		t.Errorf("got %+v of the flight, want 1, not shared", r)
	}
	if n := g.Coalesce().Len(); n != 0 {
		t.Errorf("got %d flights, want 0", n)
	}
}

// TestVetSeesCopies: go vet reports a copied Group.
func TestVetSeesCopies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "vet", "./testdata/copied").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "passes lock by value") {
		t.Errorf("got %v, want a report:\n%s", err, out)
	}
}
