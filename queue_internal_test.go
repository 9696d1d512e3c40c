package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
)

// A brokenContext panics in its Err method.
type brokenContext struct {
	context.Context
	broken bool
}

func (c *brokenContext) Err() error {
	if c.broken {
		panic("broken")
	}
	return nil
}

// TestQueue_RejectedAndBroken: a queued call that Shutdown has rejected does not leave as
// well if its context panics.
func TestQueue_RejectedAndBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		alive, end := context.WithCancel(t.Context())
		defer end()
		queued := &brokenContext{Context: alive}
		go func() {
			defer func() { _ = recover() }()
			_, _, _ = g.DoContext(queued, 1, nothing)
		}()
		synctest.Wait()
		queued.broken = true
		if err := g.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown: got %v, want %v", err, context.Canceled)
		}
		synctest.Wait()
		if st := g.Stats(); st.Left != 1 || st.Rejected != 1 {
			t.Errorf("got %d left and %d rejected, want the first call and the second", st.Left, st.Rejected)
		}
		close(release)
	})
}

// TestQueue_UnlistedKeepsNoNeighbor: a caller that leads, or has left, does not keep its
// former neighbors in the list.
func TestQueue_UnlistedKeepsNoNeighbor(t *testing.T) {
	var f flight[int, int]
	var r [3]caller[int, int]
	for i := range r {
		r[i].flight = &f
		r[i].list()
	}
	r[1].unlist()
	x := f.cold.callers
	if r[1].prev != nil || r[1].next != nil {
		t.Error("the caller that was removed: got neighbors kept, want none")
	}
	if x.first != &r[0] || r[0].next != &r[2] || r[2].prev != &r[0] || x.last != &r[2] {
		t.Error("the others: got them not linked, want them linked")
	}
}

// TestPromoted_RejectedBeforeItsReceiverLeads: a Shutdown that comes between the
// promotion of a flight and the goroutine that is to lead it ends the flight for good,
// and fn is not called (F1).
func TestPromoted_RejectedBeforeItsReceiverLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		go g.DoContext(ctx, 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		cancel()
		synctest.Wait()
		ch := g.DoChan(t.Context(), 1, func(context.Context) (int, error) { t.Error("got a call of fn, want none"); return 0, nil })
		tab := g.use()
		h, reflexive := tab.hash(1)
		s := tab.shard(h)
		s.mu.Lock()
		q := s.lookup(h, 1, reflexive).queue()
		r := q.cold.callers.first
		r.promoted = true
		s.mu.Unlock()
		_ = g.Shutdown(ctx)
		if res := <-ch; res.Err != ErrClosed {
			t.Errorf("got %+v, want %v", res, ErrClosed)
		}
		before := g.Stats()
		go r.leadQueued()
		synctest.Wait()
		if q.outcome != rejected || q.err != ErrClosed || g.Stats() != before {
			t.Errorf("got outcome %d, %v, %+v, want rejected, %v, %+v", q.outcome, q.err, g.Stats(), ErrClosed, before)
		}
		if q.cold.fn != nil {
			t.Error("got fn kept by the flight, want none (G12)")
		}
		close(release)
	})
}
