package coalesce_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
)

// The ways in which fn can end.
type ending struct {
	name string
	end  func() (int, error)
	is   func(a *answer) bool // what everybody is told, but see the leader
}

var endings = []ending{
	{"returns", func() (int, error) { return 5, nil }, func(a *answer) bool {
		return a.v == 5 && a.err == nil && a.panic == nil
	}},
	{"errs", func() (int, error) { return 5, errTest }, func(a *answer) bool {
		return a.v == 5 && a.err == errTest && a.panic == nil
	}},
	{"panics", func() (int, error) { panic(errTest) }, func(a *answer) bool {
		return a.v == 0 && a.toldOf(errTest)
	}},
	{"panics with nil", func() (int, error) { panic(nil) }, func(a *answer) bool {
		return a.v == 0 && a.toldOfNil()
	}},
	{"exits", func() (int, error) { runtime.Goexit(); return 5, nil }, func(a *answer) bool {
		return a.v == 0 && a.err == coalesce.ErrGoexit && a.panic == nil
	}},
	{"panics in Goexit", func() (int, error) {
		defer func() { panic(errTest) }()
		runtime.Goexit()
		return 5, nil
	}, func(a *answer) bool {
		return a.v == 0 && a.toldOf(errTest)
	}},
	{"exits in a panic", func() (int, error) {
		defer runtime.Goexit()
		panic(errTest)
	}, func(a *answer) bool {
		return a.v == 0 && a.err == coalesce.ErrGoexit && a.panic == nil
	}},
}

// exits reports whether the goroutine that ran fn goes on exiting.
func (e ending) exits() bool { return strings.Contains(strings.ToLower(e.name), "exit") }

// told returns the panic that a tells of, in the way of its form, or nil.
func (a *answer) told() *coalesce.PanicError {
	told := a.err
	if a.panic != nil {
		told, _ = a.panic.(error)
	}
	var pe *coalesce.PanicError
	if !errors.As(told, &pe) || told != error(pe) || !strings.Contains(string(pe.Stack), "matrix_test.go") {
		return nil
	}
	return pe
}

// toldOf reports whether a tells of a panic with a given error.
func (a *answer) toldOf(err error) bool {
	pe := a.told()
	return pe != nil && pe.Value == err && errors.Is(pe, err)
}

// nilPanics reports whether panic(nil) is what it was before Go 1.21, as
// GODEBUG=panicnil=1 has it.
func nilPanics() bool {
	panicked, value := recovered(func() { panic(nil) })
	return panicked && value == nil
}

// toldOfNil reports whether a tells of a panic(nil).
func (a *answer) toldOfNil() bool {
	if nilPanics() {
		return a.err == coalesce.ErrGoexit && a.panic == nil
	}
	pe := a.told()
	var none *runtime.PanicNilError
	return pe != nil && errors.As(pe, &none) && pe.Value == any(none)
}

// A role is what the call under test is to the flight that ends.
type role int

const (
	leader role = iota
	follower
	successor        // queued behind an abandoned flight, then promoted
	successorWaiting // queued behind it as the second, a follower in the end
)

var roles = []string{"leader", "follower", "queued successor", "queued second"}

// When the caller's context ends.
var cancels = []string{"never", "on entry", "as fn ends", "before fn ends"}

// TestG9_EveryExitCompletes is the matrix of how fn ends, what the call is to
// the flight, how it was called, and when its context ends. Each cell checks
// what the call under test gets and what another call of the flight gets, and
// that the key is usable at once.
//
// TestG10_PanicsAreTold is the same matrix: its panicking rows.
func TestG9_EveryExitCompletes(t *testing.T) {
	for _, e := range endings {
		for r, roleName := range roles {
			for _, f := range forms {
				for c, cancelName := range cancels {
					if c > 0 && (f.name == "Do" || f.name == "DoContext background") {
						continue // it has no context that could end
					}
					if role(r) == follower && f.name == "DoFresh" {
						continue // it follows nobody
					}
					t.Run(strings.Join([]string{e.name, roleName, f.name, cancelName}, "/"), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { testCell(t, e, role(r), f, c) })
					})
				}
			}
		}
	}
}

func testCell(t *testing.T, e ending, r role, f form, cancelAt int) {
	log := captureLog(t)
	var g group
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	live, cancelLive := context.WithCancel(t.Context())
	defer cancelLive()
	if cancelAt == 1 {
		cancel(nil)
	}

	h := hold()
	fn := func(context.Context) (int, error) {
		h.started <- struct{}{}
		<-h.release
		if cancelAt == 2 {
			cancel(nil)
		}
		return e.end()
	}
	unused := func(context.Context) (int, error) {
		t.Error("the fn of a call that does not lead ran")
		return 0, nil
	}

	// Whoever does not lead joins; another call, with a context that goes on,
	// is in the flight as well, so that there is always somebody to tell.
	var mine, other *answer
	var old *held
	switch r {
	case leader:
		mine, _ = goCall(ctx, f, &g, "k", fn)
		synctest.Wait()
		if cancelAt == 1 {
			wantEnded(t, &g, mine)
			return
		}
		other, _ = goCall(live, forms[2], &g, "k", unused)
	case follower:
		other, _ = goCall(live, forms[2], &g, "k", fn)
		synctest.Wait()
		mine, _ = goCall(ctx, f, &g, "k", unused)
	case successor:
		old = abandon(t, &g, "k")
		mine, _ = goCall(ctx, f, &g, "k", fn)
		synctest.Wait()
		if cancelAt == 1 {
			close(old.release)
			synctest.Wait()
			wantEnded(t, &g, mine)
			return
		}
		other, _ = goCall(live, forms[2], &g, "k", unused)
	case successorWaiting:
		old = abandon(t, &g, "k")
		other, _ = goCall(live, forms[2], &g, "k", fn)
		synctest.Wait()
		mine, _ = goCall(ctx, f, &g, "k", unused)
	}
	synctest.Wait()
	if old != nil {
		close(old.release)
		synctest.Wait()
	}
	if cancelAt == 3 {
		cancel(nil)
		synctest.Wait()
		if mine.err != context.Canceled || !mine.shared {
			t.Errorf("left: %+v", mine)
		}
	}
	close(h.release)
	synctest.Wait()

	leads := r == leader || r == successor
	inline := leads && (f.name == "Do" || f.name == "DoContext background")
	switch {
	case cancelAt == 1 || cancelAt == 3:
		if mine.err != context.Canceled || mine.v != 0 || mine.panic != nil {
			t.Errorf("mine: %+v", mine)
		}
	case inline && e.exits():
		if mine.err == nil || mine.err.Error() != "the goroutine of the call exited" {
			t.Errorf("the leader's goroutine did not exit: %+v", mine)
		}
	case cancelAt == 2 && mine.err == context.Canceled:
		// Its context ended while fn was still about to end: either may win.
	case !e.is(mine):
		t.Errorf("mine: %+v", mine)
	}
	if !e.is(other) {
		t.Errorf("other: %+v", other)
	}
	if log.Len() > 0 {
		t.Errorf("a panic that callers were told of was logged: %s", log)
	}
	wantUsable(t, &g)
}

// wantEnded checks the answer to a call whose context had ended on entry.
func wantEnded(t *testing.T, g *group, a *answer) {
	t.Helper()
	if a.err != context.Canceled || a.shared || a.v != 0 || a.panic != nil {
		t.Errorf("ended on entry: %+v", a)
	}
	wantUsable(t, g)
}

// wantUsable checks that nothing is left of the key's flights and that the
// next call for it is answered by an execution of its own.
func wantUsable(t *testing.T, g *group) {
	t.Helper()
	synctest.Wait()
	if g.Len() != 0 {
		t.Errorf("Len = %d", g.Len())
	}
	if v, shared, err := g.Do("k", value(9)); v != 9 || shared || err != nil {
		t.Errorf("the next call: %v, %v, %v", v, shared, err)
	}
	st := g.Stats()
	if st.Calls != st.Led+st.Joined+st.Rejected+st.EndedOnEntry {
		t.Errorf("%+v does not add up", st)
	}
}

// captureLog makes slog.Default write to the returned buffer for one test.
func captureLog(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

// TestG10_UntoldPanicIsLogged: all callers have left when fn panics; the
// process goes on, the panic is logged with its stack, and counted.
func TestG10_UntoldPanicIsLogged(t *testing.T) {
	for _, f := range forms[2:] {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := captureLog(t)
				var g group
				ctx, cancel := context.WithCancel(t.Context())
				a, _ := goCall(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					panic("nobody listens")
				})
				synctest.Wait()
				cancel()
				synctest.Wait()
				if a.err != context.Canceled {
					t.Errorf("%+v", a)
				}
				for _, want := range []string{"level=ERROR", "nobody listens", "matrix_test.go"} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("no %q in the log: %s", want, log)
					}
				}
				if st := g.Stats(); st.Panics != 1 || st.PanicsLogged != 1 {
					t.Errorf("%+v", st)
				}
				wantUsable(t, &g)
			})
		})
	}
}

// TestG10_LogHandlerPanics: a log handler that panics does not end the process
// either.
func TestG10_LogHandlerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := slog.Default()
		slog.SetDefault(slog.New(panickingHandler{slog.DiscardHandler}))
		defer slog.SetDefault(old)
		var g group
		ctx, cancel := context.WithCancel(t.Context())
		goCall(ctx, forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			panic("nobody listens")
		})
		synctest.Wait()
		cancel()
		wantUsable(t, &g)
	})
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool { panic("no log") }

// TestG9_PanicInGoexitGoesOn: where fn panicked during Goexit on the leader's
// own goroutine, that goroutine panics on, and goes on exiting when that is
// recovered.
func TestG9_PanicInGoexitGoesOn(t *testing.T) {
	var g group
	var got any
	exited := true
	done := make(chan struct{})
	go func() {
		defer close(done)
		func() {
			defer func() { got = recover() }()
			g.Do("k", func() (int, error) {
				defer func() { panic("during Goexit") }()
				runtime.Goexit()
				return 0, nil
			})
		}()
		exited = false
	}()
	<-done
	if pe, ok := got.(*coalesce.PanicError); !ok || pe.Value != "during Goexit" || !exited {
		t.Errorf("recovered %v, exited %v", got, exited)
	}
}

// TestG10_ReturnedPanicErrorIsAnError: a *PanicError that fn returns is an
// error like any other, and one that comes from a nested group is passed on as
// it is.
func TestG10_ReturnedPanicErrorIsAnError(t *testing.T) {
	var inner, outer group
	returned := &coalesce.PanicError{Value: 1}
	if _, _, err := outer.Do("k", func() (int, error) { return 0, returned }); err != returned {
		t.Errorf("returned: %v", err)
	}
	var innermost any
	got := func() (r any) {
		defer func() { r = recover() }()
		outer.Do("k", func() (int, error) {
			defer func() {
				innermost = recover()
				panic(innermost)
			}()
			v, _, err := inner.Do("k", func() (int, error) { panic("origin") })
			return v, err
		})
		return nil
	}()
	pe, _ := got.(*coalesce.PanicError)
	if pe == nil || got != innermost || pe.Value != "origin" {
		t.Errorf("nested: %v, inside %v", got, innermost)
	}
}

// TestG10_PanicValues: nil, errors and runtime errors come through.
func TestG10_PanicValues(t *testing.T) {
	var g group
	catch := func(fn func() (int, error)) (pe *coalesce.PanicError) {
		defer func() { pe, _ = recover().(*coalesce.PanicError) }()
		g.Do("k", fn)
		return nil
	}
	var none *runtime.PanicNilError
	if pe := catch(func() (int, error) { panic(nil) }); !errors.As(pe, &none) && !nilPanics() {
		t.Errorf("panic(nil): %v", pe)
	}
	var m map[string]int
	var re runtime.Error
	if pe := catch(func() (int, error) { m["k"] = 1; return 0, nil }); !errors.As(pe, &re) {
		t.Errorf("runtime error: %v", pe)
	}
	pe := catch(func() (int, error) { panic("text") })
	if errors.Unwrap(pe) != nil || !strings.HasPrefix(pe.Error(), "coalesce: panic: text\n") {
		t.Errorf("text: %v", pe)
	}
}

// TestMisuse: a nil fn or context panics with a clear message and leaves the
// group as it was, also for a key in flight.
func TestMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		h := hold()
		go g.Do("busy", h.fn(1))
		<-h.started
		var none context.Context
		for _, key := range []string{"busy", "idle"} {
			tests := []struct {
				name, want string
				call       func()
			}{
				{"Do", "coalesce: nil fn", func() { g.Do(key, nil) }},
				{"TryDo", "coalesce: nil fn", func() { g.TryDo(key, nil) }},
				{"DoContext", "coalesce: nil fn", func() { g.DoContext(t.Context(), key, nil) }},
				{"DoContext ctx", "coalesce: nil context", func() { g.DoContext(none, key, ctxValue(1)) }},
				{"DoFresh", "coalesce: nil fn", func() { g.DoFresh(t.Context(), key, nil) }},
				{"DoFresh ctx", "coalesce: nil context", func() { g.DoFresh(none, key, ctxValue(1)) }},
				{"DoChan", "coalesce: nil fn", func() { g.DoChan(t.Context(), key, nil) }},
				{"DoChan ctx", "coalesce: nil context", func() { g.DoChan(none, key, ctxValue(1)) }},
				{"DoMulti", "coalesce: nil fn", func() { g.DoMulti(t.Context(), []string{key}, nil) }},
				{"DoMulti ctx", "coalesce: nil context", func() { g.DoMulti(none, []string{key}, loads(1)) }},
				{"Shutdown", "coalesce: nil context", func() { g.Shutdown(none) }},
			}
			for _, tt := range tests {
				if got := panicOf(tt.call); got != tt.want {
					t.Errorf("%s(%q): %v, want %q", tt.name, key, got, tt.want)
				}
			}
		}
		close(h.release)
		synctest.Wait()
		if st := g.Stats(); st.Calls != 1 || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
		bad := group{Shards: -1}
		if got := panicOf(func() { bad.Do("k", value(1)) }); got != "coalesce: Group.Shards is negative" {
			t.Errorf("negative Shards: %v", got)
		}
	})
}

func panicOf(fn func()) (r any) {
	defer func() { r = recover() }()
	fn()
	return nil
}
