package guide

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for values that change while they are loaded.

// TestJoinersOfAForgottenLoad: calls that have joined a load before it was forgotten get
// its value. A caller that must not get it compares a generation and calls again.
func TestJoinersOfAForgottenLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int64]
		var stored, generation, loads atomic.Int64
		stored.Store(1)
		load := func(context.Context) (int64, error) {
			loads.Add(1)
			v := stored.Load()
			time.Sleep(time.Second)
			return v, nil
		}
		get := func(ctx context.Context) (int64, error) {
			for {
				before := generation.Load()
				v, _, err := g.DoContext(ctx, "k", load)
				if err != nil || generation.Load() == before {
					return v, err
				}
			}
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if v, err := get(t.Context()); v != 2 || err != nil {
					t.Errorf("got %d, %v, want 2", v, err)
				}
			})
		}
		synctest.Wait()
		stored.Store(2)
		generation.Add(1)
		g.Forget("k")
		wg.Wait()
		if loads.Load() != 2 {
			t.Errorf("got %d loads, want 2", loads.Load())
		}
	})
}

// TestCacheBehindForget: an fn that fills a cache of the program's own cannot know that
// its flight was forgotten. A generation, compared under the lock of the cache, keeps the
// old value out.
func TestCacheBehindForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, int]
		var mu sync.Mutex // protects the variables below
		cache, generation, stored := map[string]int{}, map[string]int{}, 1
		fill := func(context.Context) (int, error) {
			mu.Lock()
			before, v := generation["k"], stored
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if generation["k"] == before {
				cache["k"] = v
			}
			return v, nil
		}
		set := func(v int) {
			mu.Lock()
			stored = v
			generation["k"]++
			delete(cache, "k")
			mu.Unlock()
			g.Forget("k")
		}
		old := g.DoChan(t.Context(), "k", fill)
		synctest.Wait()
		set(2)
		if r := <-old; r.Val != 1 {
			t.Errorf("the forgotten load: got %+v, want 1", r)
		}
		if v, ok := cache["k"]; ok {
			t.Errorf("got %d in the cache from the forgotten load, want none", v)
		}
		if v, _, err := g.DoContext(t.Context(), "k", fill); v != 2 || err != nil || cache["k"] != 2 {
			t.Errorf("got %d, %v, cached %d, want 2", v, err, cache["k"])
		}
	})
}

// TestKeyIsTheOldToken: where a token is to be replaced, the old one is the key. A late
// caller with the old token gets the new one as well, and starts no execution.
func TestKeyIsTheOldToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[string, string]{Linger: time.Minute}
		var issued atomic.Int64
		replace := func(old string) (string, error) {
			v, _, err := g.DoContext(t.Context(), old, func(context.Context) (string, error) {
				time.Sleep(50 * time.Millisecond)
				return "token " + string(rune('0'+issued.Add(1))), nil
			})
			return v, err
		}
		var wg sync.WaitGroup
		for range 200 { // some of them after the 50 ms
			wg.Go(func() {
				if v, err := replace("token 0"); v != "token 1" || err != nil {
					t.Errorf("got %q, %v, want token 1", v, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if v, err := replace("token 1"); v != "token 2" || err != nil {
			t.Errorf("got %q, %v, want token 2", v, err)
		}
	})
}

// TestRefreshAhead: a value that has lingered for most of its time is loaded again before
// it expires, by one call and at no caller's cost.
func TestRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type page struct {
			number int64
			at     time.Time
		}
		pages := coalesce.Group[string, page]{Linger: time.Minute}
		var refreshes coalesce.Group[string, page] // so that one call starts each
		var loads atomic.Int64
		load := func(context.Context) (page, error) {
			n := loads.Add(1)
			time.Sleep(5 * time.Second)
			return page{n, time.Now()}, nil
		}
		get := func(ctx context.Context) (page, error) {
			p, _, err := pages.DoContext(ctx, "k", load)
			if err == nil && time.Since(p.at) >= 50*time.Second {
				refreshes.DoChan(context.WithoutCancel(ctx), "k", func(ctx context.Context) (page, error) {
					p, _, err := pages.DoFresh(ctx, "k", load)
					return p, err
				})
			}
			return p, err
		}
		if _, err := get(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			p, err := get(ctx)
			cancel() // with the request
			if err != nil || time.Since(began) != 0 || began.Sub(p.at) >= time.Minute {
				t.Fatalf("got %+v, %v after %v; want one that lingers, at once", p, err, time.Since(began))
			}
			time.Sleep(time.Second)
		}
		// One each 55 s: it is asked for after 50, and takes five.
		if loads.Load() != 1+600/55 {
			t.Errorf("got %d loads, want %d", loads.Load(), 1+600/55)
		}
	})
}

// TestIdempotencyKey: the first request of a key is carried out, and its answer,
// including the client's errors, is that of all others with the same payload, even if the
// first client has hung up meanwhile. With another payload the key is refused. A failure
// of the server is no answer.
func TestIdempotencyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			payload string // or its digest
			status  int
		}
		answers := coalesce.Group[string, answer]{Linger: 24 * time.Hour}
		var charged atomic.Int64
		charge := func(payload string) (int, error) {
			charged.Add(1)
			time.Sleep(time.Second)
			if payload == "too much" {
				return 402, nil
			}
			return 201, nil
		}
		post := func(ctx context.Context, key, payload string) int {
			a, _, err := answers.DoContext(ctx, key, func(ctx context.Context) (answer, error) {
				coalesce.Hold(ctx) // or the answer is lost if all clients hang up
				status, err := charge(payload)
				return answer{payload, status}, err
			})
			switch {
			case err != nil:
				return 503
			case a.payload != payload:
				return 422
			}
			return a.status
		}
		var wg sync.WaitGroup
		hungUp, hangUp := context.WithTimeout(t.Context(), time.Millisecond)
		defer hangUp()
		wg.Go(func() {
			if got := post(hungUp, "one", "10 €"); got != 503 {
				t.Errorf("the client that hung up: got %d, want 503", got)
			}
		})
		wg.Wait()
		for range 5 { // it sends its request again, as others do
			wg.Go(func() {
				if got := post(t.Context(), "one", "10 €"); got != 201 {
					t.Errorf("at the same time: got %d, want 201", got)
				}
			})
		}
		wg.Wait()
		for _, tt := range []struct {
			key, payload string
			want         int
		}{
			{"one", "10 €", 201}, {"one", "20 €", 422}, {"two", "too much", 402}, {"two", "too much", 402},
		} {
			if got := post(t.Context(), tt.key, tt.payload); got != tt.want {
				t.Errorf("%s, %s: got %d, want %d", tt.key, tt.payload, got, tt.want)
			}
			time.Sleep(time.Hour)
		}
		if charged.Load() != 2 {
			t.Errorf("got %d charges, want 2", charged.Load())
		}
	})
}
