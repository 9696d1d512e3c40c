package rules_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds LingerFor for the keys of a batch.

// An asking is a call of LingerFor: its arguments.
type asking struct {
	v   int
	err error
}

// TestLingerFor_DoMulti: it is called once for each key, with the result of the key's
// callers, before any of these get it. Values, the errors of single keys and absence
// linger.
func TestLingerFor_DoMulti(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []asking
		last := make(chan struct{})
		g := kit.Group{LingerFor: func(v int, err error) time.Duration {
			if asked = append(asked, asking{v, err}); len(asked) == 4 {
				<-last
			}
			return time.Minute
		}}
		many, done := goMulti(contextThatCanEnd(t), &g, func(context.Context, []string) (map[string]int, error) {
			time.Sleep(time.Second)
			return map[string]int{"a": 1, "b": 2, "c": 3}, coalesce.KeyErrors[string]{"b": errLinger}
		}, "a", "b", "a", "c", "d")
		synctest.Wait()
		a, doneA := kit.Go(t.Context(), kit.Forms[0], &g, "a", kit.CtxValue(0))
		time.Sleep(time.Second)
		synctest.Wait()
		if kit.IsDone(done) || kit.IsDone(doneA) || g.Len() != 4 {
			t.Errorf("got answered %v and %v, Len %d, want no answer and 4 before LingerFor was called for the last key", kit.IsDone(done), kit.IsDone(doneA), g.Len())
		}
		close(last)
		<-done
		<-doneA
		if want := []asking{{1, nil}, {2, errLinger}, {3, nil}, {0, coalesce.ErrAbsent}}; !slices.Equal(asked, want) {
			t.Errorf("got LingerFor called with %v, want %v", asked, want)
		}
		want := results{"a": {Val: 1, Shared: true}, "b": {Val: 2, Err: errLinger}, "c": {Val: 3}, "d": {Err: coalesce.ErrAbsent}}
		wantResults(t, "first", many.results, want)
		if a.V != 1 {
			t.Errorf("the follower: got %+v, want 1", *a)
		}
		for key, r := range want {
			r.Shared = true
			want[key] = r
		}
		again := g.DoMulti(t.Context(), []string{"a", "b", "c", "d"}, loads(90))
		wantResults(t, "second", again, want)
		if v, shared, err := g.Do("d", kit.Value(1)); v != 0 || !shared || err != coalesce.ErrAbsent {
			t.Errorf("Do of an absent key: got %d, %t, %v, want 0, true, %v", v, shared, err, coalesce.ErrAbsent)
		}
		if len(asked) != 4 {
			t.Errorf("got %d calls of LingerFor, want 4", len(asked))
		}
	})
}

// TestLingerFor_AbsentIsNotCloned: a key that is absent has no value to clone, for the calls of
// its flight and for those that it answers later.
func TestLingerFor_AbsentIsNotCloned(t *testing.T) {
	for _, f := range kit.Joining {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := kit.CaptureLog(t)
				g := kit.Group{LingerFor: livesFor(60, 60), Clone: func(int) int { panic("a clone of nothing") }}
				many, _ := goMulti(t.Context(), &g, func(context.Context, []string) (map[string]int, error) {
					time.Sleep(time.Second)
					return nil, nil
				}, "j", "k")
				synctest.Wait()
				joined, _ := kit.Go(t.Context(), f, &g, "k", kit.CtxValue(1))
				time.Sleep(time.Second)
				synctest.Wait()
				wantResults(t, "DoMulti", many.results, results{"j": {Err: coalesce.ErrAbsent}, "k": {Err: coalesce.ErrAbsent, Shared: true}})
				for _, a := range []kit.Answer{*joined, f.Call(t.Context(), &g, "k", kit.CtxValue(1))} {
					if a.V != 0 || !a.Shared || a.Err != coalesce.ErrAbsent || a.Panic != nil {
						t.Errorf("got %+v, want ErrAbsent, shared", a)
					}
				}
				wantLogged(t, &g, log, 0)
			})
		})
	}
}

// TestLingerFor_DoMultiError: an error of all keys lingers for each of them, with the
// values in the map.
func TestLingerFor_DoMultiError(t *testing.T) {
	g := kit.Group{LingerFor: livesFor(0, 3600)}
	for i := range 2 {
		got := g.DoMulti(t.Context(), []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
			return map[string]int{"a": 1}, errLinger
		})
		wantResults(t, "all", got, results{"a": {Val: 1, Err: errLinger, Shared: i > 0}, "b": {Err: errLinger, Shared: i > 0}})
	}
}

// TestLingerFor_DoMultiEnds: if it panics or exits for one key, that holds for all keys,
// and no outcome lingers.
func TestLingerFor_DoMultiEnds(t *testing.T) {
	logToNowhere(t)
	for _, goexit := range []bool{false, true} {
		g := kit.Group{LingerFor: func(v int, _ error) time.Duration {
			switch {
			case v == 2 && goexit:
				runtime.Goexit()
			case v == 2:
				panic("LingerFor")
			}
			return time.Hour
		}}
		for key, r := range g.DoMulti(t.Context(), []string{"a", "b", "c"}, loads(1)) {
			var e *coalesce.PanicError
			if r.Val != 0 || goexit && r.Err != coalesce.ErrGoexit || !goexit && (!errors.As(r.Err, &e) || e.Value != "LingerFor") {
				t.Errorf("Goexit %t, %s: got %+v, want 0 and the panic or %v", goexit, key, r, coalesce.ErrGoexit)
			}
		}
		if st := g.Stats(); st.Lingering != 0 || st.Panics+st.Goexits != 3 {
			t.Errorf("Goexit %t: got %d lingering, %d panics, %d Goexits, want none and 3 in all", goexit, st.Lingering, st.Panics, st.Goexits)
		}
	}
}

// TestLingerFor_QueuedKey: absence also lingers if fn is called for one queued key.
func TestLingerFor_QueuedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{LingerFor: livesFor(60, 60)}
		h := kit.Abandon(t, &g, "k")
		many, done := goMulti(contextThatCanEnd(t), &g, func(context.Context, []string) (map[string]int, error) { return nil, nil }, "k")
		synctest.Wait()
		close(h.Release)
		<-done
		wantResults(t, "queued", many.results, results{"k": {Err: coalesce.ErrAbsent}})
		if v, shared, err := g.Do("k", kit.Value(1)); v != 0 || !shared || err != coalesce.ErrAbsent {
			t.Errorf("then: got %d, %t, %v, want 0, true, %v", v, shared, err, coalesce.ErrAbsent)
		}
	})
}
