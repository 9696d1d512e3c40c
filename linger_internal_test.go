package coalesce

import (
	"context"
	"testing"
	"time"
)

// TestLinger_TakesNoLock: a call that a success answers does not wait for its
// shard's lock.
func TestLinger_TakesNoLock(t *testing.T) {
	g := Group[string, int]{Shards: 1, Linger: Forever}
	fn := func() (int, error) { return 1, nil }
	withContext := func(context.Context) (int, error) { return 1, nil }
	_, _, _ = g.Do("k", fn)
	s := g.use().shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, call := range map[string]func(){
		"Do":        func() { _, _, _ = g.Do("k", fn) },
		"TryDo":     func() { _, _ = g.TryDo("k", fn) },
		"DoContext": func() { _, _, _ = g.DoContext(t.Context(), "k", withContext) },
		"DoChan":    func() { <-g.DoChan(t.Context(), "k", withContext) },
		"DoMulti": func() {
			g.DoMulti(t.Context(), []string{"k"}, func(context.Context, []string) (map[string]int, error) { return nil, nil })
		},
	} {
		returned := make(chan struct{})
		go func() {
			call()
			close(returned)
		}()
		select {
		case <-returned:
		case <-time.After(2 * time.Second): // whatever waits for the lock never returns
			t.Errorf("%s waits for the shard's lock", name)
		}
	}
}
