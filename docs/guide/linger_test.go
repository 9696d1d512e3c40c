package guide

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes with LingerFor: the time for which an outcome is good is in the
// outcome.

// TestTokenUntilItExpires: a token lingers until ten seconds before its end.
// No caller reads one that has expired, so none has to make others load at once.
func TestTokenUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type token struct{ expires time.Time }
		g := coalesce.Group[string, token]{LingerFor: func(tok token, err error) time.Duration {
			if err != nil {
				return 0
			}
			return time.Until(tok.expires) - 10*time.Second
		}}
		lives := []time.Duration{time.Minute, time.Hour, 5 * time.Second}
		var issued atomic.Int64
		get := func() (token, error) {
			tok, _, err := g.DoContext(t.Context(), "k", func(context.Context) (token, error) {
				time.Sleep(50 * time.Millisecond)
				life := lives[(issued.Add(1)-1)%int64(len(lives))]
				return token{time.Now().Add(life)}, nil
			})
			return tok, err
		}
		hundred := func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if tok, err := get(); err != nil || !time.Now().Before(tok.expires) {
						t.Errorf("got a token that expires in %v, %v, want one that has not expired, nil", time.Until(tok.expires), err)
					}
				})
				time.Sleep(time.Microsecond)
			}
			wg.Wait()
		}
		for _, tt := range []struct {
			later time.Duration
			want  int64
		}{
			{0, 1},
			{49 * time.Second, 1},
			{2 * time.Second, 2},
			{58 * time.Minute, 2},
			{2 * time.Minute, 3}, // this one is good for too short to be kept
			{0, 4},
		} {
			time.Sleep(tt.later)
			hundred()
			if got := issued.Load(); got != tt.want {
				t.Errorf("%v later: got %d issued, want %d", tt.later, got, tt.want)
			}
		}
	})
}

// TestFailureHoldsOff: a failure answers for a second, so that a store that is down is
// not called more often, and the first success after it ends that.
func TestFailureHoldsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[string, int]{LingerFor: func(_ int, err error) time.Duration {
			if err != nil {
				return time.Second
			}
			return time.Minute
		}}
		errDown, down, asked := errors.New("down"), true, 0
		get := func() error {
			_, _, err := g.Do("feed", func() (int, error) {
				asked++
				if down {
					return 0, errDown
				}
				return 1, nil
			})
			return err
		}
		for i := range 200 {
			if err := get(); !errors.Is(err, errDown) {
				t.Fatalf("call %d: got %v, want %v", i, err, errDown)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if asked != 2 {
			t.Errorf("got %d asked in two seconds, want 2", asked)
		}
		down = false
		for range 60 {
			if err := get(); err != nil {
				t.Fatalf("got %v after it was up again, want nil", err)
			}
			time.Sleep(999 * time.Millisecond)
		}
		if asked != 3 {
			t.Errorf("got %d asked, want one more", asked)
		}
	})
}

// TestFailuresOfTwoKinds: a missing row is loaded again after a minute, even as a key of
// a batch, and one that the caller may not see is loaded again at once.
func TestFailuresOfTwoKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errDenied := errors.New("denied")
		g := coalesce.Group[int, string]{LingerFor: func(_ string, err error) time.Duration {
			switch {
			case err == nil:
				return time.Hour
			case errors.Is(err, coalesce.ErrAbsent):
				return time.Minute
			}
			return 0
		}}
		asked := make(map[int]int)
		get := func() map[int]coalesce.Result[string] {
			return g.DoMulti(t.Context(), []int{1, 2, 3}, func(_ context.Context, keys []int) (map[int]string, error) {
				found, failed := make(map[int]string), make(coalesce.KeyErrors[int])
				for _, key := range keys {
					asked[key]++
					switch key {
					case 1:
						found[key] = "one"
					case 2:
						failed[key] = errDenied
					}
				}
				return found, failed
			})
		}
		for range 61 {
			got := get()
			if got[1].Val != "one" || got[1].Err != nil || got[2].Err != errDenied || !errors.Is(got[3].Err, coalesce.ErrAbsent) {
				t.Fatalf("got %v, want one, denied and absent", got)
			}
			time.Sleep(time.Second)
		}
		if asked[1] != 1 || asked[2] != 61 || asked[3] != 2 {
			t.Errorf("got loads %v, want 1 once, 2 61 times, 3 twice", asked)
		}
	})
}

// TestStaleIfError: as long as a page cannot be loaded, its last text answers. The store
// is called once a second in that time, and then once a minute.
func TestStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type page struct {
			number int
			stale  bool
		}
		g := coalesce.Group[string, page]{LingerFor: func(p page, err error) time.Duration {
			if err != nil || p.stale {
				return time.Second
			}
			return time.Minute
		}}
		var last sync.Map // the last page of each key
		down, asked := false, 0
		get := func() (page, error) {
			p, _, err := g.DoContext(t.Context(), "k", func(context.Context) (page, error) {
				if asked++; down {
					old, ok := last.Load("k")
					if !ok {
						return page{}, errors.New("down, and there is no old page")
					}
					return page{number: old.(page).number, stale: true}, nil
				}
				p := page{number: asked}
				last.Store("k", p)
				return p, nil
			})
			return p, err
		}
		seconds := func(n int, want page, wantAsked int) {
			t.Helper()
			for range 10 * n {
				if got, err := get(); got != want || err != nil {
					t.Fatalf("got %+v, %v, want %+v", got, err, want)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if asked != wantAsked {
				t.Errorf("got %d asked, want %d", asked, wantAsked)
			}
		}
		seconds(60, page{number: 1}, 1)
		down = true
		seconds(30, page{number: 1, stale: true}, 31)
		down = false
		seconds(60, page{number: 32}, 32)
	})
}
