package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestFlight_EndedKeepsNothingElse: a finished flight that code still refers to, as a
// follower that clones the value does, keeps neither fn nor the flight's neighbor in the
// table (G12).
func TestFlight_EndedKeepsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		s := g.use().at(0)
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
			t.Fatalf("got %d flights, want %d", len(all), 8*keptBuckets)
		}
		for _, f := range all {
			if f.key == 0 || f.next != nil || f.cold.fn != nil {
				t.Fatalf("key %d: got neighbor kept %v, fn kept %v, want none", f.key, f.next != nil, f.cold.fn != nil)
			}
		}
	})
}

// TestFlight_EndedKeepsNoEntries: a flight that has finished keeps no receiver, nor does
// one receiver keep the next (G12).
func TestFlight_EndedKeepsNoEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		release := make(chan struct{})
		go g.Do(1, func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		for range 3 {
			g.DoChan(t.Context(), 1, nothing)
		}
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		f := s.lookup(h, 1, reflexive)
		var entries []*caller[int, int]
		for r := f.cold.callers.first; r != nil; r = r.next {
			entries = append(entries, r)
		}
		s.mu.Unlock()
		if len(entries) != 3 {
			t.Fatalf("got %d entries, want 3", len(entries))
		}
		close(release)
		synctest.Wait()
		if x := f.cold; x.callers.first != nil || x.callers.last != nil || x.blocks.first != nil {
			t.Error("got entries kept by the flight, want none")
		}
		for i, r := range entries {
			if r.prev != nil || r.next != nil {
				t.Errorf("entry %d: got neighbors kept, want none", i)
			}
		}
	})
}

// TestFlight_RetiredKeepsNoKey: a record that is kept to be used again does not keep the
// key (G12).
func TestFlight_RetiredKeepsNoKey(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	g.Do(1, func() (int, error) {
		// The slot for one flight is taken, so this one has a record.
		v, _, err := g.Do(2, func() (int, error) { return 2, nil })
		return v, err
	})
	f := g.use().at(0).free
	if f == nil {
		t.Fatal("got no record kept, want one")
	}
	if f.key != 0 {
		t.Errorf("got the key %d kept, want none", f.key)
	}
}

// TestForget_EndedKeepsNoNeighbor: a forgotten flight that has finished does not keep
// another that was forgotten (G12).
func TestForget_EndedKeepsNoNeighbor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		var release [3]chan struct{}
		for i := range release {
			release[i] = make(chan struct{})
			go g.Do(1, func() (int, error) { <-release[i]; return 1, nil })
			synctest.Wait()
			g.Forget(1)
		}
		middle := g.use().at(0).detached.first.cold.forgotten.next
		close(release[1])
		synctest.Wait()
		if middle.state != finished {
			t.Fatal("got a flight that has not finished, want the middle one finished")
		}
		if middle.cold.forgotten.prev != nil || middle.cold.forgotten.next != nil {
			t.Error("got neighbors kept, want none")
		}
		close(release[0])
		close(release[2])
	})
}

// TestFlight_WithEntriesKeepsNoNeighbor: a flight that had receivers does not keep the
// next in its bucket when it has finished (G12).
func TestFlight_WithEntriesKeepsNoNeighbor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, Hash: func(int) uint64 { return 1 }}
		tab := g.use()
		s := tab.at(0)
		var release [3]chan struct{} // the first is alone, the others are in the table
		var f *flight[int, int]
		for key := range release {
			release[key] = make(chan struct{})
			go g.Do(key, func() (int, error) { <-release[key]; return 1, nil })
			synctest.Wait()
			g.DoChan(t.Context(), key, nothing)
			h, reflexive := tab.hash(key)
			s.mu.Lock()
			f = s.lookup(h, key, reflexive)
			s.mu.Unlock()
		}
		if f.next == nil {
			t.Fatal("got the last two in two buckets, want one")
		}
		close(release[2])
		synctest.Wait()
		if f.next != nil {
			t.Error("got the neighbor kept, want none")
		}
		close(release[0])
		close(release[1])
	})
}
