package coalesce_test

import (
	"context"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds tests of promises about hooks, contexts and errors that a mutant of the code
// broke and no other test saw (see internal/mutate).

// TestHooks_EachAlone: each hook is called though no other is set.
func TestHooks_EachAlone(t *testing.T) {
	told := map[string]int{}
	hook := func(name string) func(coalesce.Event[string]) {
		return func(coalesce.Event[string]) { told[name]++ }
	}
	for name, hooks := range map[string]coalesce.Hooks[string]{
		"Start":  {Start: hook("Start")},
		"Join":   {Join: hook("Join")},
		"Leave":  {Leave: hook("Leave")},
		"Finish": {Finish: hook("Finish")},
		"Labels": {Labels: func(string) pprof.LabelSet { told["Labels"]++; return pprof.Labels() }},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := group{Hooks: hooks}
			h := hold()
			_, done := goCall(t.Context(), forms[2], &g, "k", h.ctxFn(1))
			<-h.started
			ctx, cancel := context.WithCancel(t.Context())
			_, left := goCall(ctx, forms[2], &g, "k", ctxValue(0))
			synctest.Wait()
			cancel()
			<-left
			close(h.release)
			<-done
			synctest.Wait()
			if told[name] != 1 {
				t.Errorf("%s was called %d times, want once", name, told[name])
			}
		})
	}
}

// TestHooks_NoPanic: a hook that returns, or exits its goroutine, has not panicked: it
// is neither logged nor counted.
func TestHooks_NoPanic(t *testing.T) {
	logs := captureLog(t)
	g := group{Hooks: coalesce.Hooks[string]{
		Start:  func(coalesce.Event[string]) {},
		Finish: func(coalesce.Event[string]) { runtime.Goexit() },
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Do("k", value(1))
	}()
	<-done
	if n, s := g.Stats().HookPanics, logs.String(); n != 0 || strings.Contains(s, "panicked") {
		t.Errorf("%d panics are counted, and the log says %q", n, s)
	}
}

// TestG10_NilPanicError: an fn that panics with a nil *PanicError has panicked, and the
// callers are told by one that is not nil.
func TestG10_NilPanicError(t *testing.T) {
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

// A deniesContext has ended, but has no error.
type deniesContext struct{ context.Context }

func (c deniesContext) Done() <-chan struct{} { return endedContext.Done() }

func (c deniesContext) Err() error { return nil }

// TestContext_DeniesItsEnd: a caller whose context closes Done and has no error gets
// one all the same.
func TestContext_DeniesItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		h := lead(t, &g)
		ctx := deniesContext{t.Context()}
		for _, f := range leaving {
			if f.name == "DoChan" {
				continue // package context does not take it
			}
			if a := f.call(ctx, &g, "k", ctxValue(2)); a.v != 0 || a.err != context.Canceled {
				t.Errorf("%s: %+v", f.name, a)
			}
		}
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: %v", err)
		}
		close(h.release)
	})
}
