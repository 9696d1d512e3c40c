package coalesce

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// locked reports whether a goroutine that has called the function of the given name
// waits for a lock.
func locked(name string) bool {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		state, calls, _ := strings.Cut(g, "\n")
		if strings.Contains(state, "[sync.Mutex.Lock") && strings.Contains(calls, name) {
			return true
		}
	}
	return false
}

// untilLocked waits until locked returns true.
func untilLocked(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if locked(name) {
			return
		}
	}
	t.Fatalf("got no goroutine that waits for a lock in %s, want one", name)
}

// TestStats_ReadUnderTheLock: Stats and Len read nothing before they have the lock.
func TestStats_ReadUnderTheLock(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s, l := g.use().at(0), g.use().lingering
	stats, length := make(chan Stats), make(chan int)

	s.mu.Lock()
	go func() { stats <- g.Stats() }()
	untilLocked(t, ").Stats(")
	s.counts[callLed]++
	s.mu.Unlock()
	if st := <-stats; st.Led != 1 {
		t.Errorf("got Led %d, want 1", st.Led)
	}

	l.mu.Lock()
	go func() { stats <- g.Stats() }()
	untilLocked(t, ").Stats(")
	l.evicted++
	l.mu.Unlock()
	if st := <-stats; st.Evicted != 1 {
		t.Errorf("got Evicted %d, want 1", st.Evicted)
	}

	s.mu.Lock()
	go func() { length <- g.Len() }()
	untilLocked(t, ").Len(")
	s.count++
	s.mu.Unlock()
	if n := <-length; n != 1 {
		t.Errorf("got Len %d, want 1", n)
	}
}

// TestStats_OfAMoment: the counters of one shard are those of one moment. If the values
// do not show that, the race detector judges.
func TestStats_OfAMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s, l := g.use().at(0), g.use().lingering
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			s.mu.Lock()
			for i := range s.counts {
				s.counts[i] = n
			}
			s.mu.Unlock()
			l.mu.Lock()
			l.evicted++
			l.mu.Unlock()
		}
	})
	for range 20_000 {
		st := g.Stats()
		n := st.Joined
		st.Evicted = 0
		want := Stats{
			Calls: 5 * n, Led: 2 * n, Joined: n, Rejected: 2 * n, Left: n, Abandoned: n, Forgotten: n,
			TakenOver: n, Panics: n, Goexits: n, PanicsLogged: n,
		}
		if st != want {
			t.Errorf("got %+v, want %+v", st, want)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestFlights_OfAMoment: the flights of one shard are those of one moment: a flight that
// moves from the first bucket to the last and back occurs once.
func TestFlights_OfAMoment(t *testing.T) {
	g := Group[int, int]{Shards: 1}
	s := g.use().at(0)
	const last = 99
	flights := make([]flight[int, int], last+2)
	for i := range flights {
		f := &flights[i]
		f.key, f.hash, f.callers = i, uint32(i%last), 1
		s.link(f)
	}
	one := &flights[0]
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
			s.unlink(one)
			one.hash = last - one.hash
			s.link(one)
			s.mu.Unlock()
		}
	})
	var seen []Flight[int]
	for range 2_000 {
		seen = s.appendFlights(seen[:0])
		if len(seen) != len(flights) {
			t.Errorf("got %d flights, want %d", len(seen), len(flights))
			break
		}
	}
	close(stop)
	wg.Wait()
}
