package benchmarks

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// This file holds the sizes of the workloads, and decides for which of them the machine
// has the memory.

// sizes are those of all workloads.
type sizes struct {
	procs          []int // GOMAXPROCS of the variants
	yieldProcs     []int // those of the hot key whose fn yields
	firstProcs     []int // those of a group's first call
	zipfKeys       []int
	zipfGoroutines []int
	fanIn          []int // waiters
	stop           int   // waiters
	bystanders     int   // waiters
	inFlight       int   // keys
	nests          int   // goroutines that share those keys
	leave          int   // calls
	batch          int   // of those, at once
	cancelStorm    int   // waiters
}

// sizesFor returns the usual sizes, or smaller ones.
func sizesFor(short bool) sizes {
	if short {
		return sizes{
			procs:          []int{1, 2},
			yieldProcs:     []int{2},
			firstProcs:     []int{64},
			zipfKeys:       []int{1_000, 10_000},
			zipfGoroutines: []int{64, 1_000},
			fanIn:          []int{10, 100, 1_000},
			stop:           5_000,
			bystanders:     2_000,
			inFlight:       10_000,
			nests:          100,
			leave:          2_000,
			batch:          1_000,
			cancelStorm:    1_000,
		}
	}
	return sizes{
		procs:          []int{1, 2, 4, 8, 16},
		yieldProcs:     []int{2, 4, 16},
		firstProcs:     []int{2, 64, 128},
		zipfKeys:       []int{1_000, 1_000_000},
		zipfGoroutines: []int{64, 10_000},
		fanIn:          []int{10, 100, 1_000, 10_000, 100_000, 1_000_000},
		stop:           100_000,
		bystanders:     20_000,
		inFlight:       1_000_000,
		nests:          1_000,
		leave:          100_000,
		batch:          1_000,
		cancelStorm:    10_000,
	}
}

// needs returns the memory that w should find available, in bytes: a good deal
// more than it takes, where that is much, and otherwise nothing.
func needs(w Workload) uint64 {
	switch {
	case strings.Contains(w.Name, "/waiters=1000000"):
		return 6 << 30
	case strings.Contains(w.Name, "work=in-flight/keys=1000000"):
		return 3 << 30
	}
	return 0
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }

// availableMemory returns the memory that the process may still take: the memory that the
// machine has available and, if it has a control group, the rest of the group's limit. If
// neither is known, it is more than any workload needs.
func availableMemory() uint64 {
	available := ^uint64(0)
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if v, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
				if kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64); err == nil {
					available = kib << 10
				}
			}
		}
	}
	limit, limited := readNumber("/sys/fs/cgroup/memory.max")
	used, known := readNumber("/sys/fs/cgroup/memory.current")
	if limited && known {
		available = min(available, limit-min(used, limit))
	}
	return available
}

// readNumber returns the number in a file that holds nothing else.
func readNumber(name string) (uint64, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
