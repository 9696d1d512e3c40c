package storm_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the storms on groups in which outcomes linger, each for a time of its own.

// TestStorm_LingerFor checks that values, errors and absent keys answer later calls while
// they linger and no longer, until they are forgotten, with callers, contexts and fns at
// work at once; and that LingerMax is exact.
func TestStorm_LingerFor(t *testing.T) {
	storm.SilenceLog(t)
	var lingered, evicted, forgotten uint64
	late := map[history.Exit]int{} // calls that got the outcome of a call that had ended before they began
	for i := range storm.Scaled(t, 12) {
		kit.SetProcs(t, []int{2, 1, 8, 4}[i%4])
		s := storm.Storm{
			Clients: 8, Calls: 200, Keys: []int{1, 3, 64}[i%3], Cancel: 20 * (i % 2), Forget: 2 * (i % 4),
			Lives: true, Seed: rand.Uint64(),
		}
		g := &storm.Group{LingerFor: storm.LingerFor, LingerMax: []int{0, 2}[i/2%2]}
		goroutines := runtime.NumGoroutine()
		h := s.Start(g)()
		storm.WantQuiet(t, g, goroutines)
		if err := h.Check(); err != nil {
			t.Errorf("seed %d: got %v, want nil", s.Seed, err)
		}
		st := g.Stats()
		if made := countCalls(h); st.Calls != made {
			t.Errorf("got %+v, want %d calls", st, made)
		}
		if g.LingerMax > 0 && st.Lingering > uint64(g.LingerMax) {
			t.Errorf("got %d outcomes that linger, want at most %d", st.Lingering, g.LingerMax)
		}
		if n := g.ForgetFunc(func(int) bool { return true }); uint64(n) > st.Lingering || g.Stats().Lingering != 0 {
			t.Errorf("got %d of %d outcomes forgotten, %d lingering, want all and none", n, st.Lingering, g.Stats().Lingering)
		}
		countLate(h, late)
		lingered, evicted, forgotten = lingered+st.Lingered, evicted+st.Evicted, forgotten+st.Forgotten
		if t.Failed() {
			return
		}
	}
	t.Logf("lingering outcomes answered %d calls, of those with a name %v; %d evicted, %d forgotten", lingered, late, evicted, forgotten)
	if min(lingered, evicted, forgotten) == 0 || late[history.ExitReturn] == 0 || late[history.ExitError] == 0 {
		t.Errorf("got %d lingered, %d evicted, %d forgotten, %v late, want some of each", lingered, evicted, forgotten, late)
	}
}

// countCalls returns the number of calls that were made, one for each key of a DoMulti.
func countCalls(h *history.History) (n uint64) {
	for _, client := range h.Calls {
		for _, c := range client {
			if c.Inv != 0 {
				n++
			}
		}
	}
	return n
}

// countLate counts, for each way in which fn ended, the calls that began after the call
// that led had its result.
func countLate(h *history.History, late map[history.Exit]int) {
	for _, client := range h.Calls {
		for _, c := range client {
			if c.Got != history.GotResult || c.From == c.Token {
				continue
			}
			leader := h.Calls[c.From.Client][c.From.Call-1]
			if leader.Got == history.GotResult && leader.Ret < c.Inv {
				late[c.How]++
			}
		}
	}
}
