package debugflight_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestMillion: the page of a group with a million flights has MaxRows rows, and holds up no
// call for longer than it takes to describe the flights of one shard: some 7 ms, on an idle
// machine with two cores.
func TestMillion(t *testing.T) {
	if testing.Short() || kit.RaceEnabled {
		t.Skip("takes a gigabyte and seconds")
	}
	const n = 1_000_000
	var r debugflight.Registry
	var g coalesce.Group[int, int]
	add(t, &r, "g", debugflight.Of(&g, nil))
	keys := make([]int, n)
	for i := range keys {
		keys[i] = i
	}
	started, release, done := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		g.DoMulti(context.Background(), keys, func(context.Context, []int) (map[int]int, error) {
			close(started)
			<-release
			return nil, nil
		})
	}()
	<-started

	var slowest []time.Duration
	for range 5 {
		page := make(chan int)
		began := time.Now()
		go func() { page <- get(t, &r, "").Body.Len() }()
		var worst time.Duration
		size, calls := 0, 0
		for size == 0 {
			select {
			case size = <-page:
			default:
				call := time.Now()
				_, _, _ = g.Do(n+calls%1000, func() (int, error) { return 0, nil })
				worst = max(worst, time.Since(call))
				calls++
			}
		}
		t.Logf("the page took %v and has %d bytes; the slowest of %d calls beside it took %v", time.Since(began), size, calls, worst)
		slowest = append(slowest, worst)
		if size > 1<<20 {
			t.Errorf("got a page of %d bytes, want less than a mebibyte", size)
		}
	}
	if least := slices.Min(slowest); least > 100*time.Millisecond { // other work may hold it up as well
		t.Errorf("got calls that waited %v beside the page, want less than 100 ms", least)
	}
	if got := report(t, &r, ""); got.Found != n || len(got.Flights) != 1000 || got.NotShown != n-1000 {
		t.Errorf("got %d flights, %d shown, %d not, want a million and 1,000", got.Found, len(got.Flights), got.NotShown)
	}
	close(release)
	<-done
}
