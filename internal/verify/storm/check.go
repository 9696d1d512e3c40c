package storm

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// Group is a group in the storms: each execution returns a token of its own.
type Group = coalesce.Group[int, history.Token]

// Hashes are the placements of keys that the storms try. The degenerate ones pile keys up
// in one bucket, or in sixteen.
var Hashes = []Placement{
	{"default", nil, 0},
	{"constant", func(int) uint64 { return 42 }, 1},
	{"and15", func(k int) uint64 { return uint64(k) & 15 }, 16},
}

// Placement is a way in which keys are hashed.
type Placement struct {
	Name   string
	Hash   func(int) uint64
	Values int // the greatest number of hashes, 0 for as many as keys
}

// CountFlights returns the number of flights of g.
func CountFlights(g *Group) (n int) {
	for range g.Flights() {
		n++
	}
	return n
}

// WantQuiet checks that g comes to rest and keeps nothing: no flight, no key, no record
// outside the free lists, no goroutine more than there were before.
func WantQuiet(t *testing.T, g *Group, goroutines int) {
	t.Helper()
	if !kit.Eventually(func() bool { return CountFlights(g) == 0 }) {
		t.Errorf("got %d flights after the storm, want none", CountFlights(g))
	}
	if n := g.Len(); n != 0 {
		t.Errorf("got Len %d after the storm, want 0", n)
	}
	if !kit.Eventually(func() bool { return runtime.NumGoroutine() <= goroutines }) {
		buf := make([]byte, 1<<16)
		t.Errorf("got %d goroutines after the storm, want %d as before:\n%s", runtime.NumGoroutine(), goroutines,
			buf[:runtime.Stack(buf, true)])
	}
	if err := AtRest(g); err != nil {
		t.Error(err)
	}
}

// WantStats checks g's counters against the history of all calls that were made. g must
// be quiescent.
func WantStats(t *testing.T, g *Group, h *history.History) {
	t.Helper()
	st := g.Stats()
	var want coalesce.Stats
	received := map[history.Token]int{} // by execution, or batch
	panicked := map[history.Token]int{} // the calls that panicked with it
	batches := map[history.Token]history.Token{}
	for _, client := range h.Calls {
		for _, c := range client {
			if c.Exec.Batch != (history.Token{}) {
				batches[c.Token] = c.Exec.Batch
			}
		}
	}
	name := func(of history.Token) history.Token {
		if b, ok := batches[of]; ok {
			return b
		}
		return of
	}
	var left, nameless uint64
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Inv == 0 {
				continue
			}
			want.Calls++
			if c.Exec.Runs > 0 {
				want.Led++
				switch c.Exec.How {
				case history.ExitPanic:
					want.Panics++
				case history.ExitGoexit:
					want.Goexits++
				}
			}
			switch c.Got {
			case history.GotResult:
				received[name(c.From)]++
				if c.How == history.ExitPanic && c.Mute {
					panicked[name(c.From)]++
				}
			case history.GotGoexit, history.GotAbsent:
				received[name(c.Token)]++
				nameless++
			case history.GotOwnEnd:
				left++
			case history.GotInFlight, history.GotClosed:
				want.Rejected++
			}
		}
	}
	var alone, aloneNameless, aloneBatched uint64 // executions that no call received, and that were not held
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Exec.Runs > 0 && c.Exec.How == history.ExitPanic && panicked[name(c.Token)] == 0 && name(c.Token) == c.Token {
				want.PanicsLogged++ // once for a batch
			}
			if c.Exec.Runs == 0 || received[name(c.Token)] > 0 || c.Exec.Held {
				continue
			}
			alone++
			if c.Exec.Batch != (history.Token{}) {
				aloneBatched++ // its last caller may have left when others had finished
			}
			if c.Exec.How == history.ExitGoexit || c.Exec.How == history.ExitAbsent {
				aloneNameless++ // or received by followers that do not know it
			}
		}
	}
	if st.Calls != st.Led+st.Joined+st.Rejected+st.EndedOnEntry {
		t.Errorf("got %+v, want classes that add up to Calls", st)
	}
	if left != st.Left+st.EndedOnEntry {
		t.Errorf("got %d Left and %d EndedOnEntry, want %d, the calls that got their context's error", st.Left, st.EndedOnEntry, left)
	}
	if st.Abandoned > alone || st.Abandoned+aloneBatched+min(aloneNameless, nameless) < alone {
		t.Errorf("got %d Abandoned, want about %d, the executions that no call received", st.Abandoned, alone)
	}
	var forgets, unshared uint64 // ForgetUnshared does not report which flights it dropped
	for _, client := range h.Forgets {
		for _, f := range client {
			switch {
			case f.Func:
				forgets += uint64(f.Count)
			case f.Done && f.Unshared:
				unshared++
			case f.Done:
				forgets++
			}
		}
	}
	if st.Forgotten < forgets || st.Forgotten > forgets+unshared {
		t.Errorf("got %d Forgotten, want %d and up to %d unshared ones more", st.Forgotten, forgets, unshared)
	}
	want.Joined, want.EndedOnEntry, want.Left = st.Joined, st.EndedOnEntry, st.Left
	want.Abandoned, want.Forgotten = st.Abandoned, st.Forgotten
	if st != want {
		t.Errorf("got %+v, want %+v", st, want)
	}
}

// Check runs s on g and checks everything that is known of the outcome.
func Check(t *testing.T, s *Storm, g *Group, procs, hashes int) coalesce.Stats {
	kit.SetProcs(t, procs)
	if g.Hash != nil {
		seen := map[uint64]bool{}
		for k := range s.Keys {
			seen[g.Hash(k)] = true
		}
		if len(seen) > hashes {
			t.Fatalf("%d keys: got %d hashes, want at most %d, or the storm is not the one that is meant", s.Keys, len(seen), hashes)
		}
	}
	s.Seed = rand.Uint64()
	if s.Forget == 0 {
		s.Runs = make([]int, s.Keys)
	}
	goroutines := runtime.NumGoroutine()
	h := s.Start(g)()
	WantQuiet(t, g, goroutines)
	if err := h.Check(); err != nil {
		t.Errorf("seed %d: got %v, want nil", s.Seed, err)
	}
	WantStats(t, g, h)
	if s.Runs != nil {
		n := 0
		for _, r := range s.Runs {
			n += r
		}
		if led := g.Stats().Led; uint64(n) != led {
			t.Errorf("got %d executions counted one after the other, want %d as Stats.Led", n, led)
		}
	}
	return g.Stats()
}
