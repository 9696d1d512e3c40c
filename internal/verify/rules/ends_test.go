package rules_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds single ways in which fn can end, and misuse. All of them together are in
// matrix_test.go.

// TestG10_UntoldPanicIsLogged: all callers have left when fn panics; the
// process goes on, the panic is logged with its stack, and counted.
func TestG10_UntoldPanicIsLogged(t *testing.T) {
	for _, f := range kit.Forms[2:] {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := kit.CaptureLog(t)
				var g kit.Group
				ctx, cancel := context.WithCancel(t.Context())
				a, _ := kit.Go(ctx, f, &g, "k", func(ctx context.Context) (int, error) {
					<-ctx.Done()
					panic("no caller listens")
				})
				synctest.Wait()
				cancel()
				synctest.Wait()
				if a.Err != context.Canceled {
					t.Errorf("%+v", a)
				}
				for _, want := range []string{"level=ERROR", "no caller listens", "ends_test.go"} {
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
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		kit.Go(ctx, kit.Forms[2], &g, "k", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			panic("no caller listens")
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
	var g kit.Group
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
	var inner, outer kit.Group
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
	var g kit.Group
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
		var g kit.Group
		h := kit.Hold()
		go g.Do("busy", h.Fn(1))
		<-h.Started
		var none context.Context
		for _, key := range []string{"busy", "idle"} {
			tests := []struct {
				name, want string
				call       func()
			}{
				{"Do", "coalesce: nil fn", func() { g.Do(key, nil) }},
				{"TryDo", "coalesce: nil fn", func() { g.TryDo(key, nil) }},
				{"DoContext", "coalesce: nil fn", func() { g.DoContext(t.Context(), key, nil) }},
				{"DoContext ctx", "coalesce: nil context", func() { g.DoContext(none, key, kit.CtxValue(1)) }},
				{"DoFresh", "coalesce: nil fn", func() { g.DoFresh(t.Context(), key, nil) }},
				{"DoFresh ctx", "coalesce: nil context", func() { g.DoFresh(none, key, kit.CtxValue(1)) }},
				{"DoChan", "coalesce: nil fn", func() { g.DoChan(t.Context(), key, nil) }},
				{"DoChan ctx", "coalesce: nil context", func() { g.DoChan(none, key, kit.CtxValue(1)) }},
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
		close(h.Release)
		synctest.Wait()
		if st := g.Stats(); st.Calls != 1 || g.Len() != 0 {
			t.Errorf("%+v, Len %d", st, g.Len())
		}
		bad := kit.Group{Shards: -1}
		if got := panicOf(func() { bad.Do("k", kit.Value(1)) }); got != "coalesce: Group.Shards is -1, and must not be negative" {
			t.Errorf("negative Shards: %v", got)
		}
	})
}

func panicOf(fn func()) (r any) {
	defer func() { r = recover() }()
	fn()
	return nil
}

// TestErrorsAreComparable: the sentinels are themselves and tell apart.
func TestErrorsAreComparable(t *testing.T) {
	all := []error{
		coalesce.ErrInFlight, coalesce.ErrSaturated, coalesce.ErrClosed,
		coalesce.ErrGoexit, coalesce.ErrAbsent, coalesce.ErrDeadlock,
	}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}
