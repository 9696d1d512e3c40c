package coalesce

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestDistinct: each key occurs once, at its first place, with its hash, however many
// there are and whichever their hashes; a key that does not equal itself occurs each
// time.
func TestDistinct(t *testing.T) {
	for name, hash := range map[string]func(float64) uint64{
		"default":  nil,
		"constant": func(float64) uint64 { return 7 },
	} {
		for _, n := range []int{0, 1, 2, fewKeys - 1, fewKeys, fewKeys + 1, 4 * fewKeys, 4*fewKeys + 1, 3000} {
			for _, times := range []int{1, 3} {
				g := Group[float64, int]{Hash: hash}
				var keys []float64
				for i := range n {
					for range times {
						keys = append(keys, float64(i))
					}
				}
				rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
				nans := 0
				for i := range keys {
					if i%7 == 3 {
						keys = slices.Insert(keys, i, math.NaN())
						nans++
					}
				}
				var want []float64
				seen := map[float64]bool{}
				for _, k := range keys {
					if !seen[k] { // never, if it is NaN
						want = append(want, k)
					}
					seen[k] = true
				}
				parts := g.use().distinct(keys)
				if len(parts) != len(want) {
					t.Fatalf("%s hash, %d keys %d times and %d NaNs: got %d parts, want %d", name, n, times, nans, len(parts), len(want))
				}
				for i := range parts {
					p := &parts[i]
					h, reflexive := g.use().hash(want[i])
					if p.key != want[i] && reflexive || p.reflexive != reflexive || reflexive && p.hash != h {
						t.Fatalf("%s hash, part %d of %d: got %+v, want key %v, hash %d, reflexive %v", name, i, len(parts), p, want[i], h, reflexive)
					}
				}
			}
		}
	}
}

// TestDoMulti_LeavesWhileItsBatchFinishes: the context ends when the first flight of the
// batch has finished, and the second has not. The call gets the result of the first,
// which is only in the load, and for the second its result or the error.
func TestDoMulti_LeavesWhileItsBatchFinishes(t *testing.T) {
	for range 20 {
		g := Group[int, int]{Shards: 2}
		gs := g.use()
		var keys [2]int // one for each shard
		for k := range 1000 {
			h, _ := gs.hash(k)
			keys[h>>gs.shift] = k
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		results := make(chan map[int]Result[int])
		go func() {
			results <- g.DoMulti(ctx, keys[:], func(context.Context, []int) (map[int]int, error) {
				<-ended
				return map[int]int{keys[0]: 1, keys[1]: 2}, nil
			})
		}()
		first, second := gs.shard(0), gs.shard(1<<63)
		await := func(s *shard[int, int], busy bool) {
			for is := !busy; is != busy; time.Sleep(time.Microsecond) {
				s.mu.Lock()
				is = s.busy()
				s.mu.Unlock()
			}
		}
		await(second, true)
		second.mu.Lock() // finish has to wait here
		close(ended)
		await(first, false)
		cancel()
		time.Sleep(time.Millisecond)
		second.mu.Unlock()
		r := <-results
		if want := (Result[int]{Val: 1}); r[keys[0]] != want {
			t.Errorf("got %+v for the key whose flight has finished, want %+v", r[keys[0]], want)
		}
		if got := r[keys[1]]; got != (Result[int]{Val: 2}) && got != (Result[int]{Err: context.Canceled}) {
			t.Errorf("got %+v for the other key, want its value or the error of the context", got)
		}
		await(second, false)
		if st := g.Stats(); st.Led != 2 || st.Abandoned != 0 {
			t.Errorf("got %+v, want 2 led and none abandoned", st)
		}
	}
}
