package rules_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the parts of a PanicError, and how it differs from other errors.

// TestG10_NilPanicError: an fn that panics with a nil *PanicError has panicked, and the
// callers get a *PanicError that is not nil.
func TestG10_NilPanicError(t *testing.T) {
	kit.CaptureLog(t)
	for _, f := range kit.Forms {
		t.Run(f.Name, func(t *testing.T) {
			var g kit.Group
			var none *coalesce.PanicError
			a := f.Call(t.Context(), &g, "k", func(context.Context) (int, error) { panic(none) })
			e, _ := a.Err.(*coalesce.PanicError)
			if e == nil {
				e, _ = a.Panic.(*coalesce.PanicError)
			}
			if e == nil || e.Value != any(none) || len(e.Stack) == 0 {
				t.Errorf("got %+v, want a *PanicError with the nil one and a stack", e)
			}
		})
	}
}

// TestG9_PanicInGoexitGoesOn: if fn panics during Goexit on the leader's own goroutine,
// that goroutine goes on panicking, and goes on exiting if the panic is recovered.
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
		t.Errorf("got the panic %v, exited %v, want that during Goexit, true", got, exited)
	}
}

// TestG10_ReturnedPanicErrorIsAnError: a *PanicError that fn returns is an error like any
// other, and one that comes from a nested group is passed on as it is.
func TestG10_ReturnedPanicErrorIsAnError(t *testing.T) {
	var inner, outer kit.Group
	returned := &coalesce.PanicError{Value: 1}
	if _, _, err := outer.Do("k", func() (int, error) { return 0, returned }); err != returned {
		t.Errorf("returned: got %v, want %v", err, returned)
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
		t.Errorf("nested: got %v, want the inner one, %v", got, innermost)
	}
}

// TestG10_PanicValues: nil, errors and runtime errors keep their values.
func TestG10_PanicValues(t *testing.T) {
	var g kit.Group
	catch := func(fn func() (int, error)) (pe *coalesce.PanicError) {
		defer func() { pe, _ = recover().(*coalesce.PanicError) }()
		g.Do("k", fn)
		return nil
	}
	var none *runtime.PanicNilError
	if pe := catch(func() (int, error) { panic(nil) }); !errors.As(pe, &none) && !nilPanics() {
		t.Errorf("panic(nil): got %v, want a *runtime.PanicNilError", pe)
	}
	var m map[string]int
	var re runtime.Error
	if pe := catch(func() (int, error) { m["k"] = 1; return 0, nil }); !errors.As(pe, &re) {
		t.Errorf("runtime error: got %v, want a runtime.Error", pe)
	}
	pe := catch(func() (int, error) { panic("text") })
	if errors.Unwrap(pe) != nil || !strings.HasPrefix(pe.Error(), "coalesce: panic: text\n") {
		t.Errorf("text: got %v, want the text, which wraps no error", pe)
	}
}

// TestErrorsAreComparable: each sentinel is itself and none of the others.
func TestErrorsAreComparable(t *testing.T) {
	all := []error{
		coalesce.ErrInFlight, coalesce.ErrSaturated, coalesce.ErrClosed,
		coalesce.ErrGoexit, coalesce.ErrAbsent, coalesce.ErrDeadlock,
	}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("errors.Is(%v, %v): got %v, want %v", a, b, i != j, i == j)
			}
		}
	}
}

// TestPanicError_GoString: the verb %#v shows the value and not the bytes of the stack.
func TestPanicError_GoString(t *testing.T) {
	var e *coalesce.PanicError
	for _, c := range []struct {
		v    any
		want string
	}{
		{&coalesce.PanicError{Value: "boom", Stack: make([]byte, 20_000)}, `&coalesce.PanicError{Value:"boom", Stack:[]byte{/* 20000 bytes */}}`},
		{&coalesce.PanicError{}, `&coalesce.PanicError{Value:<nil>, Stack:[]byte{/* 0 bytes */}}`},
		{&coalesce.PanicError{Value: e}, `&coalesce.PanicError{Value:(*coalesce.PanicError)(nil), Stack:[]byte{/* 0 bytes */}}`},
		{&coalesce.PanicError{Value: &coalesce.PanicError{Value: 7}, Stack: []byte("s")}, `&coalesce.PanicError{Value:&coalesce.PanicError{Value:7, Stack:[]byte{/* 0 bytes */}}, Stack:[]byte{/* 1 bytes */}}`},
		{e, "(*coalesce.PanicError)(nil)"},
	} {
		if got := fmt.Sprintf("%#v", c.v); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	kit.CaptureLog(t)
	var g kit.Group
	r := <-g.DoChan(t.Context(), "k", func(context.Context) (int, error) { panic("boom") })
	if got := fmt.Sprintf("%#v", r); len(got) > 200 || !strings.Contains(got, `Value:"boom"`) {
		t.Errorf("got %s, want the value, and not the stack", got)
	}
}

// TestG9_PanicNil: under GODEBUG=panicnil=1, where a panic(nil) cannot be distinguished
// from a Goexit, no caller gets a zero value with a nil error for it.
func TestG9_PanicNil(t *testing.T) {
	t.Setenv("GODEBUG", "panicnil=1")
	if !nilPanics() {
		t.Fatal("got no effect of GODEBUG, want panicnil=1")
	}
	t.Run("matrix", TestG9_EveryExitCompletes)
	t.Run("DoMulti", TestDoMulti_EveryExitCompletes)
	fn := func(context.Context) (int, error) { panic(nil) }
	for _, f := range kit.Forms {
		var g kit.Group
		if a := f.Call(t.Context(), &g, "k", fn); a.Err != coalesce.ErrGoexit {
			t.Errorf("%s: got %+v, want %v", f.Name, a, coalesce.ErrGoexit)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Clone: func(int) int { panic(nil) }}
		for i := range 8 {
			a, done := kit.Go(t.Context(), kit.Joining[i%len(kit.Joining)], &g, "k", func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return 7, nil
			})
			defer func() {
				if <-done; a.Err != coalesce.ErrGoexit {
					t.Errorf("Clone, %s: got %+v, want %v", kit.Joining[i%len(kit.Joining)].Name, a, coalesce.ErrGoexit)
				}
			}()
		}
	})
}

// TestG10_NilPanicErrorIs: errors.Is and errors.As work on the error of a panic with a
// nil *PanicError.
func TestG10_NilPanicErrorIs(t *testing.T) {
	var g kit.Group
	r := <-g.DoChan(t.Context(), "k", func(context.Context) (int, error) { panic((*coalesce.PanicError)(nil)) })
	var e *coalesce.PanicError
	if !errors.As(r.Err, &e) || e == nil || errors.Is(r.Err, coalesce.ErrGoexit) {
		t.Errorf("got %v, want a *PanicError that is no ErrGoexit", r.Err)
	}
}
