package scenarios

import (
	"runtime"
	"sync"
	"testing"
)

// TestChild is what runs in the child processes.
func TestChild(t *testing.T) { child(t, All(), append(Peers(), brokenPeers()...)) }

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
				if want != "" {
					limit = impatience
				}
				if got, err := runPair(dir, &s, p, limit); err != nil || got != want {
					t.Errorf("%s, %s: %q, %v; want %q", s.Name, p.Name, got, err, want)
				}
			})
		}
	}
	wg.Wait()
}
