package rules_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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

// This file holds the outcomes of single keys of a batch.

type keyErrors = coalesce.KeyErrors[string]

// returns returns an fn for DoMulti that returns m and err for any keys.
func returns(m map[string]int, err error) loader {
	return func(context.Context, []string) (map[string]int, error) { return m, err }
}

// TestKeyErrors_OneBadKey: one bad key of a batch costs the others nothing: they have
// their values, which linger, and it has its own error.
func TestKeyErrors_OneBadKey(t *testing.T) {
	g := coalesce.Group[int, string]{Linger: coalesce.Forever}
	var loaded [][]int
	fn := func(_ context.Context, keys []int) (map[int]string, error) {
		loaded = append(loaded, keys)
		users, failed := map[int]string{}, coalesce.KeyErrors[int]{}
		for _, k := range keys {
			if k == 21 {
				failed[k] = fs.ErrNotExist
			} else {
				users[k] = fmt.Sprint("user ", k)
			}
		}
		return users, failed
	}
	for _, shared := range []bool{false, true} {
		r := g.DoMulti(t.Context(), []int{1, 2, 21}, fn)
		for k, want := range map[int]coalesce.Result[string]{
			1: {Val: "user 1", Shared: shared}, 2: {Val: "user 2", Shared: shared}, 21: {Err: fs.ErrNotExist},
		} {
			if r[k] != want {
				t.Errorf("key %d: got %+v, want %+v", k, r[k], want)
			}
		}
	}
	if got := fmt.Sprint(loaded); got != "[[1 2 21] [21]]" {
		t.Errorf("got %s as the keys of the executions, want [[1 2 21] [21]]", got)
	}
}

// TestKeyErrors_Outcomes: the result of each key, for each form that the error of fn can
// have. The keys are a, with a value; b, with a value and an error; c, with an error
// alone; and d, with neither. The queued form loads each of them alone, with the same
// results.
func TestKeyErrors_Outcomes(t *testing.T) {
	values := map[string]int{"a": 1, "b": 2, "z": 26}
	b, c := errors.New("b failed"), errors.New("c failed")
	single := keyErrors{"b": b, "c": c}
	own := results{"a": {Val: 1}, "b": {Val: 2, Err: b}, "c": {Err: c}, "d": {Err: coalesce.ErrAbsent}}
	none := results{"a": {Val: 1}, "b": {Val: 2}, "c": {Err: coalesce.ErrAbsent}, "d": {Err: coalesce.ErrAbsent}}
	all := func(err error) results {
		return results{"a": {Val: 1, Err: err}, "b": {Val: 2, Err: err}, "c": {Err: err}, "d": {Err: err}}
	}
	overEmpty := fmt.Errorf("db: %w", keyErrors{})
	overNil := fmt.Errorf("db: %w", keyErrors(nil))
	overNilErrors := fmt.Errorf("db: %w", keyErrors{"a": nil, "c": nil})
	overOtherKeys := fmt.Errorf("db: %w", coalesce.KeyErrors[int]{1: c})
	over := &keyErrors{"b": b}
	for name, tt := range map[string]struct {
		err  error
		want results
	}{
		"as it is":                 {single, own},
		"with nil errors":          {keyErrors{"a": nil, "b": b, "c": c, "d": nil}, own},
		"with keys of others":      {keyErrors{"b": b, "c": c, "z": io.EOF, "y": io.EOF}, own},
		"wrapped":                  {fmt.Errorf("db: %w", single), own},
		"wrapped twice":            {fmt.Errorf("db: %w", fmt.Errorf("table: %w", single)), own},
		"joined, the rest is lost": {errors.Join(io.EOF, single, io.ErrShortWrite), own},
		"found by As":              {asError{single}, own},
		"empty":                    {keyErrors{}, none},
		"nil":                      {keyErrors(nil), none},
		"of nil errors":            {keyErrors{"a": nil, "c": nil}, none},
		"of keys of others":        {keyErrors{"z": io.EOF}, none},
		"wrapped, keys of others":  {fmt.Errorf("db: %w", keyErrors{"z": io.EOF}), none},
		"empty, wrapped":           {overEmpty, all(overEmpty)},
		"nil, wrapped":             {overNil, all(overNil)},
		"of nil errors, wrapped":   {overNilErrors, all(overNilErrors)},
		"of another type of key":   {overOtherKeys, all(overOtherKeys)},
		"a pointer to one":         {over, all(over)},
	} {
		t.Run(name, func(t *testing.T) {
			var g kit.Group
			wantResults(t, "led", g.DoMulti(t.Context(), []string{"a", "b", "c", "d"}, returns(values, tt.err)), tt.want)
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				old := abandonMany(t, &g, "a", "b", "c", "d")
				var calls atomic.Int32
				many, _ := goMulti(t.Context(), &g, func(ctx context.Context, keys []string) (map[string]int, error) {
					if calls.Add(1); len(keys) != 1 {
						t.Errorf("fn: got %q, want one queued key", keys)
					}
					return values, tt.err
				}, "a", "b", "c", "d")
				synctest.Wait()
				close(old.Release)
				synctest.Wait()
				wantResults(t, "queued", many.results, tt.want)
				if n := calls.Load(); n != 4 {
					t.Errorf("got %d executions, want one for each key", n)
				}
			})
		})
	}
}

// An asError is found by its As method.
type asError struct{ keyErrors }

func (e asError) Error() string { return "as" }

func (e asError) As(target any) bool {
	to, ok := target.(*keyErrors)
	if ok {
		*to = e.keyErrors
	}
	return ok
}

// TestKeyErrors_Followers: calls of every form that joined a key get the result of that
// key; the errors of other keys do not reach them.
func TestKeyErrors_Followers(t *testing.T) {
	for _, f := range kit.Joining {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g kit.Group
				h, many := leadMany(&g, returns(map[string]int{"a": 1, "b": 2}, keyErrors{"b": kit.ErrTest}), "a", "b", "c")
				got := map[string]*kit.Answer{}
				for _, k := range []string{"a", "b", "c"} {
					got[k], _ = kit.Go(t.Context(), f, &g, k, kit.CtxValue(0))
				}
				synctest.Wait()
				close(h.Release)
				synctest.Wait()
				want := results{
					"a": {Val: 1, Shared: true}, "b": {Val: 2, Err: kit.ErrTest, Shared: true}, "c": {Err: coalesce.ErrAbsent, Shared: true},
				}
				wantResults(t, "DoMulti", many.results, want)
				for k, a := range got {
					if (result{Val: a.V, Err: a.Err, Shared: a.Shared}) != want[k] || a.Panic != nil {
						t.Errorf("follower of %s: got %+v, want %+v", k, a, want[k])
					}
				}
			})
		})
	}
}

// TestKeyErrors_Clone: values beside an error are cloned like those without; the zero
// values of absent keys are not.
func TestKeyErrors_Clone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever, Clone: func(v int) int { return v + 100 }}
		h, many := leadMany(&g, returns(map[string]int{"a": 1, "b": 2}, keyErrors{"b": kit.ErrTest}), "a", "b", "c")
		second, _ := goMulti(t.Context(), &g, loads(0), "a", "b", "c")
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		want := results{
			"a": {Val: 101, Shared: true}, "b": {Val: 102, Err: kit.ErrTest, Shared: true}, "c": {Err: coalesce.ErrAbsent, Shared: true},
		}
		wantResults(t, "first", many.results, want)
		wantResults(t, "second", second.results, want)
		alone := g.DoMulti(t.Context(), []string{"d", "e"}, returns(map[string]int{"d": 4, "e": 5}, keyErrors{"e": kit.ErrTest}))
		wantResults(t, "alone", alone, results{"d": {Val: 104}, "e": {Val: 5, Err: kit.ErrTest}})
	})
}

// TestKeyErrors_Linger: a key with an error of its own drops its lingering outcome, like
// any failure. Keys without a value do not linger, nor do forgotten keys.
func TestKeyErrors_Linger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: lingering}
		first := g.DoMulti(t.Context(), []string{"a", "b", "c", "d"}, func(context.Context, []string) (map[string]int, error) {
			g.Forget("d")
			return valuesFrom(1, "a", "b", "d"), keyErrors{"b": kit.ErrTest}
		})
		wantResults(t, "first", first, results{
			"a": {Val: 1}, "b": {Val: 2, Err: kit.ErrTest}, "c": {Err: coalesce.ErrAbsent}, "d": {Val: 4},
		})
		second := g.DoMulti(t.Context(), []string{"a", "b", "c", "d"}, loads(50))
		wantResults(t, "second", second, results{"a": {Val: 1, Shared: true}, "b": {Val: 51}, "c": {Val: 52}, "d": {Val: 53}})
		time.Sleep(lingering)
		third := g.DoMulti(t.Context(), []string{"a"}, loads(80))
		wantResults(t, "third", third, results{"a": {Val: 80}})
	})
}

// TestKeyErrors_MaxAge: a key that another call has taken over still gets its own error
// from the first execution, for the calls that had joined that.
func TestKeyErrors_MaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{MaxAge: time.Minute}
		h, many := leadMany(&g, returns(nil, keyErrors{"a": kit.ErrTest}), "a", "b")
		follower, _ := kit.Go(t.Context(), kit.Forms[0], &g, "a", kit.CtxValue(0))
		time.Sleep(time.Minute)
		wantResults(t, "second", g.DoMulti(t.Context(), []string{"a"}, loads(50)), results{"a": {Val: 50}})
		close(h.Release)
		synctest.Wait()
		wantResults(t, "first", many.results, results{"a": {Err: kit.ErrTest, Shared: true}, "b": {Err: coalesce.ErrAbsent}})
		if follower.Err != kit.ErrTest || follower.V != 0 {
			t.Errorf("follower: got %+v, want %v", follower, kit.ErrTest)
		}
	})
}

// TestKeyErrors_Abandoned: if all callers of most keys of a batch have left, the caller
// that stayed gets the error of its key, and the others the errors of their contexts.
// When all have left, calls that were queued behind load their keys anew.
func TestKeyErrors_Abandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g kit.Group
		ctx, cancel := context.WithCancel(t.Context())
		h := holdLoader()
		many, _ := goMulti(ctx, &g, h.then(returns(map[string]int{"a": 1}, keyErrors{"b": kit.ErrTest})), "a", "b", "c")
		<-h.Started
		stays, _ := kit.Go(t.Context(), kit.Forms[2], &g, "b", kit.CtxValue(0))
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(h.Release)
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Err: context.Canceled}, "b": {Err: context.Canceled, Shared: true}, "c": {Err: context.Canceled},
		})
		if stays.Err != kit.ErrTest || !stays.Shared {
			t.Errorf("the call that stayed: got %+v, want %v", stays, kit.ErrTest)
		}
		old := abandonMany(t, &g, "a", "b")
		behind, _ := goMulti(t.Context(), &g, returns(map[string]int{"a": 7}, keyErrors{"b": io.EOF}), "a", "b")
		synctest.Wait()
		close(old.Release)
		synctest.Wait()
		wantResults(t, "behind", behind.results, results{"a": {Val: 7}, "b": {Err: io.EOF}})
	})
}

// TestKeyErrors_Shutdown: a batch that Shutdown waits for, or has canceled, ends with the
// error of each key.
func TestKeyErrors_Shutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Linger: coalesce.Forever}
		many, _ := goMulti(t.Context(), &g, func(ctx context.Context, keys []string) (map[string]int, error) {
			<-ctx.Done()
			return valuesFrom(1, "a"), keyErrors{"b": context.Cause(ctx)}
		}, "a", "b", "c")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: got %v, want %v", err, context.DeadlineExceeded)
		}
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{
			"a": {Val: 1}, "b": {Err: coalesce.ErrClosed}, "c": {Err: coalesce.ErrAbsent},
		})
	})
}

// TestKeyErrors_NaN: a KeyErrors may hold NaN, but an error for it cannot be found, like
// a value: the key gets ErrAbsent. An error of all keys is also the error of NaN.
func TestKeyErrors_NaN(t *testing.T) {
	nan := math.NaN()
	whole := fmt.Errorf("all: %w", coalesce.KeyErrors[float64]{})
	for _, tt := range []struct{ err, want error }{
		{coalesce.KeyErrors[float64]{nan: kit.ErrTest, 1: io.EOF}, coalesce.ErrAbsent},
		{whole, whole},
	} {
		var g coalesce.Group[float64, int]
		r := g.DoMulti(t.Context(), []float64{nan, 1, nan}, func(context.Context, []float64) (map[float64]int, error) {
			return nil, tt.err
		})
		n := 0
		for k, v := range r {
			if k != k {
				n++
				if v.Err != tt.want {
					t.Errorf("NaN: got %v, want %v", v.Err, tt.want)
				}
			}
		}
		if n != 2 || len(r) != 3 {
			t.Errorf("got %v, want two results for NaN and one for 1", r)
		}
	}
}

// TestKeyErrors_Finish: the Finish hook of each flight is called with the error that the
// callers of its key get.
func TestKeyErrors_Finish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, queued := range []bool{false, true} {
			got := map[string]error{}
			g := kit.Group{}
			var old *heldLoader
			var mu sync.Mutex // queued keys finish on goroutines of their own
			g.Hooks.Finish = func(_ context.Context, e coalesce.Event[string]) {
				mu.Lock()
				defer mu.Unlock()
				got[e.Key] = e.Err
			}
			if queued {
				old = abandonMany(t, &g, "a", "b", "c")
			}
			go func() {
				g.DoMulti(t.Context(), []string{"a", "b", "c"}, returns(map[string]int{"a": 1}, fmt.Errorf("some: %w", keyErrors{"b": kit.ErrTest})))
			}()
			synctest.Wait()
			if queued {
				clear(got)
				close(old.Release)
				synctest.Wait()
			}
			for k, want := range map[string]error{"a": nil, "b": kit.ErrTest, "c": coalesce.ErrAbsent} {
				if err, ok := got[k]; err != want || !ok {
					t.Errorf("queued %v, %s: Finish got %v (called: %v), want %v", queued, k, err, ok, want)
				}
			}
		}
	})
}

// TestKeyErrors_OtherForms: for the other forms of call, a KeyErrors is an error like any
// other.
func TestKeyErrors_OtherForms(t *testing.T) {
	for _, f := range kit.Forms[:5] {
		var g kit.Group
		for _, err := range []error{keyErrors{"k": kit.ErrTest}, keyErrors{}} {
			a := f.Call(t.Context(), &g, "k", func(context.Context) (int, error) { return 7, err })
			if got, ok := a.Err.(keyErrors); !ok || len(got) != len(err.(keyErrors)) || a.V != 7 || a.Panic != nil {
				t.Errorf("%s: got %+v, want 7 and the KeyErrors itself", f.Name, a)
			}
		}
	}
	var g kit.Group
	if _, err := g.TryDo("k", func() (int, error) { return 7, keyErrors{} }); err == nil {
		t.Error("TryDo: got no error, want the KeyErrors itself")
	}
}

// A hostileError runs code when errors.As examines it.
type hostileError struct {
	unwrap func() error
	as     func(any) bool
}

func (e *hostileError) Error() string  { return "hostile" }
func (e *hostileError) Unwrap() error  { return e.unwrap() }
func (e *hostileError) As(to any) bool { return e.as(to) }

// hostile returns an error that runs code when it is unwrapped, and that wraps none.
func hostile(code func()) *hostileError {
	return &hostileError{
		unwrap: func() error { code(); return nil },
		as:     func(any) bool { return false },
	}
}

// TestKeyErrors_LookedAtAsAPartOfFn: if a method of the error panics or exits, so does
// fn: all keys get that result, and are usable at once. The method may call the group,
// and runs outside all locks: other keys, and Flights, are not held up.
func TestKeyErrors_LookedAtAsAPartOfFn(t *testing.T) {
	for name, code := range map[string]func(){"panics": func() { panic(kit.ErrTest) }, "exits": runtime.Goexit} {
		for method, err := range map[string]error{
			"Unwrap": hostile(code),
			"As":     &hostileError{as: func(any) bool { code(); return true }},
		} {
			for _, queued := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s in %s/queued=%v", name, method, queued), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testHostileError(t, err, name == "panics", queued) })
				})
			}
		}
	}
}

func testHostileError(t *testing.T, err error, panics, queued bool) {
	kit.CaptureLog(t)
	g := kit.Group{Linger: coalesce.Forever}
	var old *heldLoader
	if queued {
		old = abandonMany(t, &g, "a", "b")
	}
	h := holdLoader()
	many, _ := goMulti(t.Context(), &g, h.then(returns(map[string]int{"a": 1, "b": 2}, err)), "a", "b")
	synctest.Wait()
	follower, _ := kit.Go(t.Context(), kit.Forms[0], &g, "a", kit.CtxValue(0))
	synctest.Wait()
	if queued {
		close(old.Release)
	}
	close(h.Release)
	synctest.Wait()
	for _, k := range []string{"a", "b"} {
		r := many.results[k]
		var pe *coalesce.PanicError
		if panics && (!errors.As(r.Err, &pe) || pe.Value != kit.ErrTest || !strings.Contains(string(pe.Stack), "keyerrors_test.go")) {
			t.Errorf("%s: got %+v, want a *PanicError", k, r)
		}
		if !panics && r.Err != coalesce.ErrGoexit || r.Val != 0 {
			t.Errorf("%s: got %+v, want ErrGoexit", k, r)
		}
	}
	if panics && follower.Panic == nil || !panics && follower.Err != coalesce.ErrGoexit {
		t.Errorf("follower: got %+v, want the result of fn", follower)
	}
	wantResults(t, "afterwards", g.DoMulti(t.Context(), []string{"a", "b"}, loads(50)), results{"a": {Val: 50}, "b": {Val: 51}})
}

// TestKeyErrors_LookedAtOutsideLocks: a method of the error that blocks holds up no call
// for another key, and calls for the same keys join.
func TestKeyErrors_LookedAtOutsideLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := kit.Group{Shards: 1}
		resume := make(chan struct{})
		err := hostile(func() {
			if v, _, err := g.Do("other", kit.Value(3)); v != 3 || err != nil {
				t.Errorf("a call made by the error: got %v, %v, want 3", v, err)
			}
			<-resume
		})
		many, _ := goMulti(t.Context(), &g, returns(nil, err), "a", "b")
		synctest.Wait()
		joined, _ := kit.Go(t.Context(), kit.Forms[2], &g, "a", kit.CtxValue(0))
		synctest.Wait()
		if got := flightsOf(&g)["a"]; got != "running 1" {
			t.Errorf("got flight %q, want one that runs and was joined", got)
		}
		close(resume)
		synctest.Wait()
		wantResults(t, "DoMulti", many.results, results{"a": {Err: err, Shared: true}, "b": {Err: err}})
		if joined.Err != error(err) {
			t.Errorf("got %v for the call that joined, want %v", joined.Err, err)
		}
	})
}

// TestKeyErrors_Error: the text has the number of errors and the first of them in order,
// the same each time, and no key.
func TestKeyErrors_Error(t *testing.T) {
	many := coalesce.KeyErrors[string]{}
	for i := range 100 {
		many[fmt.Sprint("secret ", i)] = fmt.Errorf("error %02d", 99-i)
	}
	many["secret nil"] = nil
	for _, tt := range []struct {
		err  error
		want string
	}{
		{keyErrors(nil), "coalesce: no key failed"},
		{keyErrors{"secret": nil}, "coalesce: no key failed"},
		{keyErrors{"secret": kit.ErrTest, "secret nil": nil}, "coalesce: 1 key failed: test error"},
		{keyErrors{"secret": errors.New("")}, "coalesce: 1 key failed: "},
		{keyErrors{"secret 1": kit.ErrTest, "secret 2": io.EOF}, "coalesce: 2 keys failed, one of them: EOF"},
		{keyErrors{"secret 1": io.EOF, "secret 2": errors.New("")}, "coalesce: 2 keys failed, one of them: "},
		{many, "coalesce: 100 keys failed, one of them: error 00"},
	} {
		for range 20 {
			if got := tt.err.Error(); got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
		}
	}
}
