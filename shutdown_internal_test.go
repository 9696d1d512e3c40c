package coalesce

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestShutdown_RejectedIsNotKept: a successor that Shutdown has rejected is not behind
// another any more, nor does a timer keep it (G12).
func TestShutdown_RejectedIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Group[int, int]{Shards: 1, MaxAge: time.Hour}
		release := make(chan struct{})
		go g.DoContext(t.Context(), 1, func(context.Context) (int, error) { <-release; return 1, nil })
		synctest.Wait()
		go g.DoFresh(t.Context(), 1, nothing)
		synctest.Wait()
		s := g.use().shards[0]
		var q *flight[int, int]
		s.mu.Lock()
		for f := range s.all() {
			q = f.queue()
		}
		s.mu.Unlock()
		x := q.more.extra
		if x.timer == nil || x.before == nil || q.more.ctx.ahead.Load() == nil {
			t.Fatal("nothing is queued behind the flight")
		}
		go g.Shutdown(t.Context())
		synctest.Wait()
		if q.state != finished {
			t.Error("the successor has not been rejected")
		}
		if x.timer != nil || x.before != nil || q.more.ctx.ahead.Load() != nil {
			t.Error("the successor keeps its timer, or what it was queued behind")
		}
		close(release)
	})
}

// TestShutdown_BusyAtAnyMoment: a shard that always has a flight, be it in the slot or
// in the table, is always busy. The race detector judges, too.
func TestShutdown_BusyAtAnyMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	tab := g.use()
	s := tab.shards[0]
	s.count = 1
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			s.solo.taken, s.count = !s.solo.taken, 1-s.count
			s.mu.Unlock()
		}
	})
	for range 20_000 {
		if !tab.busy() {
			t.Error("it is not busy")
			break
		}
	}
	close(stop)
	wg.Wait()
}
