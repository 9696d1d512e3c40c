package scenarios

import (
	"runtime"
	"sync"
	"testing"
)

// TestOutcomes runs every scenario against every library, each in a process of
// its own, and checks that they pass or fail as is recorded.
func TestOutcomes(t *testing.T) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	dir := t.TempDir()
	for _, s := range All() {
		for _, p := range Peers() {
			if !s.Applies(p) {
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				want, limit := s.Fails[p.Name], patience
				if want == stuck {
					limit = impatience
				}
				if got, err := runPair(dir, &s, p, limit); err != nil || got != want {
					t.Errorf("%s, %s: got %q, %v, want %q, nil", s.Name, p.Name, got, err, want)
				}
			})
		}
	}
	wg.Wait()
}
