package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestFlight_EndedKeepsNothingElse: what still refers to a flight that has
// finished, as a follower that clones the value does, keeps neither fn nor the
// flight's neighbor in the table (G12).
func TestFlight_EndedKeepsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		s := g.use().shards[0]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		// Some of these share a bucket. Each is joined, so that its record is not used
		// again, which would clear it.
		var nest func(key int)
		var all []*flight[int, int]
		nest = func(key int) {
			g.DoContext(ctx, key, func(context.Context) (int, error) {
				go g.DoContext(ctx, key, func(context.Context) (int, error) { return 0, nil })
				synctest.Wait()
				if key < 8*keptBuckets {
					nest(key + 1)
					return 0, nil
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for f := range s.all() {
					all = append(all, f)
				}
				return 0, nil
			})
		}
		nest(1)
		if len(all) != 8*keptBuckets {
			t.Fatalf("%d flights", len(all))
		}
		for _, f := range all {
			if f.key == 0 || f.next != nil || f.more.fn != nil {
				t.Fatalf("key %d: keeps a neighbor: %v, fn: %v", f.key, f.next != nil, f.more.fn != nil)
			}
		}
	})
}
