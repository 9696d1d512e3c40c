package guide

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for batches.

// TestChunksOfABatch: where a store takes a thousand keys at most, there is
// a DoMulti for each thousand, all at once.
func TestChunksOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, all = 1000, 2500
		var g coalesce.Group[int, int]
		var calls, largest atomic.Int64
		load := func(_ context.Context, keys []int) (map[int]int, error) {
			calls.Add(1)
			largest.Store(max(largest.Load(), int64(len(keys))))
			time.Sleep(time.Second)
			squares := make(map[int]int)
			for _, key := range keys {
				squares[key] = key * key
			}
			return squares, nil
		}
		var keys []int
		for key := range all {
			keys = append(keys, key)
		}
		var mu sync.Mutex
		got := make(map[int]int)
		var wg sync.WaitGroup
		ctx := t.Context()
		for chunk := range slices.Chunk(keys, most) {
			wg.Go(func() {
				for key, r := range g.DoMulti(ctx, chunk, load) {
					mu.Lock()
					got[key] = r.Val
					mu.Unlock()
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if len(got) != all || got[all-1] != (all-1)*(all-1) || time.Since(began) != time.Second {
			t.Errorf("got %d values in %v, want %d in 1s", len(got), time.Since(began), all)
		}
		if calls.Load() != 3 || largest.Load() != most {
			t.Errorf("got %d calls with at most %d keys, want 3 with %d", calls.Load(), largest.Load(), most)
		}
	})
}

// TestSomeKeysAgain: the keys of a batch that failed for a temporary reason are loaded
// again, and only these.
func TestSomeKeysAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := coalesce.Group[int, int]{Linger: time.Hour}
		errBusy := errors.New("busy")
		var asked [][]int
		load := func(_ context.Context, keys []int) (map[int]int, error) {
			keys = slices.Sorted(slices.Values(keys))
			asked = append(asked, keys)
			found, failed := make(map[int]int), make(coalesce.KeyErrors[int])
			for _, key := range keys {
				if key == 21 && len(asked) < 3 {
					failed[key] = errBusy
				} else {
					found[key] = key
				}
			}
			return found, failed
		}
		keys := []int{1, 2, 21}
		got := make(map[int]int)
		for wait := time.Second; len(keys) > 0; wait *= 2 {
			results := g.DoMulti(t.Context(), keys, load)
			keys = slices.DeleteFunc(keys, func(key int) bool { return !errors.Is(results[key].Err, errBusy) })
			for key, r := range results {
				if r.Err == nil {
					got[key] = r.Val
				}
			}
			time.Sleep(wait)
		}
		if want := [][]int{{1, 2, 21}, {21}, {21}}; !slices.EqualFunc(asked, want, slices.Equal[[]int]) || len(got) != 3 {
			t.Errorf("got %v by asking for %v, want three by %v", got, asked, want)
		}
	})
}
