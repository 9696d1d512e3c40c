package benchmarks

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// This file holds the workload that is most like a program's: many goroutines, many keys,
// some of which are used far more often than others.

const (
	// zipfSkew is the exponent of the distribution of the keys.
	zipfSkew = 1.01

	// zipfPicks is how many keys are drawn beforehand. Each goroutine begins
	// elsewhere among them. It is a power of two.
	zipfPicks = 1 << 20

	// zipfYields is how many executions of a goroutine's there are for one in
	// which it yields. Each goroutine begins elsewhere among them. It is a power
	// of two.
	zipfYields = 16
)

func zipfWorkloads(s sizes) []Workload {
	var all []Workload
	for _, keys := range s.zipfKeys {
		picks := sync.OnceValue(func() []uint32 { return drawKeys(keys) })
		for _, goroutines := range s.zipfGoroutines {
			all = append(all, Workload{
				Name: fmt.Sprintf("work=zipf/keys=%d/goroutines=%d", keys, goroutines),
				Title: fmt.Sprintf("`Do`, %s goroutines, %s keys, Zipf-distributed",
					grouped(goroutines), grouped(keys)),
				Units: []string{nsPerOp},
				Quick: keys == s.zipfKeys[1] && goroutines == s.zipfGoroutines[1],
				Runs: withFloorFn(func(b *testing.B, do call[string]) {
					zipf(b, do, makeKeys(0, keys), picks(), goroutines)
				}),
			})
		}
	}
	return all
}

// drawKeys draws the numbers of keys.
func drawKeys(keys int) []uint32 {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), zipfSkew, 1, uint64(keys-1))
	picks := make([]uint32, zipfPicks)
	for i := range picks {
		picks[i] = uint32(z.Uint64())
	}
	return picks
}

// zipf makes b.N calls on so many goroutines, for the keys that were picked, and counts
// the stale results. Each goroutine has made one call before, uncounted: with ten
// thousand of them, a short run would otherwise measure mostly the growth of their
// stacks.
func zipf(b *testing.B, do call[string], keys []string, picks []uint32, goroutines int) {
	var (
		ready, done sync.WaitGroup
		start       = make(chan struct{})
		clocks      = make([]clock, len(keys))
		tallies     = make([]tally, goroutines)
	)
	ready.Add(goroutines)
	for i := range goroutines {
		calls := b.N / goroutines
		if i < b.N%goroutines {
			calls++
		}
		done.Go(func() {
			n := &tallies[i]
			at := i * (len(picks) / goroutines)
			t := &task{fn: func() (*page, error) {
				n.executions++
				p := work()
				if (i+n.executions)&(zipfYields-1) == 0 {
					runtime.Gosched()
				}
				return p, nil
			}}
			if _, err := do(keys[picks[at]], t); err != nil {
				b.Error(err)
			}
			n.executions = 0
			ready.Done()
			<-start
			for ; n.calls < calls; at++ {
				k := picks[at&(zipfPicks-1)]
				began := clocks[k].Load()
				p, err := do(keys[k], t)
				if err != nil {
					b.Error(err)
					return
				}
				n.calls++
				if clocks[k].stale(p, began) {
					n.stale++
				}
			}
		})
	}
	ready.Wait()
	b.ReportAllocs()
	b.ResetTimer()
	close(start)
	done.Wait()
	b.StopTimer()
	report(b, tallies)
}
