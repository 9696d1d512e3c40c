package main

// This file plans a storm: the modules of each worker, their order, and its time of
// arrival.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A storm is the work of the workers, the same under every policy.
type storm struct {
	set      *moduleSet
	arrivals string
	init     time.Duration   // the time that a module takes to come up
	lists    [][]int         // the modules that each worker loads, as indexes into set.modules
	delays   []time.Duration // when each worker arrives; nil: all at once
	used     []int           // the modules in lists, each once
	notes    []string        // notes for the reader of the report
}

// newStorm plans the storm that opts ask for. Its files have yet to be written
// and inspected, and its order settled.
func newStorm(opts options, set *moduleSet) (*storm, error) {
	s := &storm{set: set, arrivals: opts.arrivals, init: opts.init, notes: set.notes}
	switch opts.storm {
	case stormCPU:
		list, err := s.cpuList(opts)
		if err != nil {
			return nil, err
		}
		s.lists = slices.Repeat([][]int{list}, opts.workers)
	case stormEverything:
		for i := range set.modules {
			s.lists = append(s.lists, set.withPrereqs(i))
		}
	}

	seen := make([]bool, len(set.modules))
	for _, list := range s.lists {
		for _, i := range list {
			seen[i] = true
		}
	}
	for i := range seen {
		if seen[i] {
			s.used = append(s.used, i)
		}
	}
	if opts.arrivals == arrivePoisson {
		s.delays = poissonDelays(len(s.lists), opts.rate, opts.seed)
	}
	return s, nil
}

// cpuList returns the modules that each worker of the cpu storm loads.
func (s *storm) cpuList(opts options) ([]int, error) {
	byName := make(map[string]int)
	for i, m := range slices.Backward(s.set.modules) {
		byName[m.name] = i
	}
	if opts.modules != nil {
		var list []int
		for _, name := range opts.modules {
			i, ok := byName[moduleName(name)]
			if !ok {
				return nil, fmt.Errorf("no module %s in %s", name, s.set.source)
			}
			list = append(list, s.set.withPrereqs(i)...)
		}
		return list, nil
	}

	paths, err := cpuOrder()
	if err != nil {
		return nil, err
	}
	if opts.root != "" {
		return s.adaptCPUList(paths, byName)
	}
	list := make([]int, len(paths))
	for k, p := range paths {
		i, ok := s.set.byPath[p]
		if !ok {
			return nil, fmt.Errorf("embedded cpu storm: no module %s", p)
		}
		list[k] = i
	}
	return list, nil
}

// adaptCPUList returns the modules that a worker of the embedded cpu storm would load
// from the tree of another kernel: those of its modules that are there, each with the
// prerequisites that it has there.
func (s *storm) adaptCPUList(paths []string, byName map[string]int) ([]int, error) {
	var list []int
	wanted, found := make(map[string]bool), 0
	for _, p := range paths {
		name := moduleName(p)
		i, ok := byName[name]
		if ok {
			list = append(list, s.set.withPrereqs(i)...)
			if !wanted[name] {
				found++
			}
		}
		wanted[name] = true
	}
	if found == 0 {
		return nil, fmt.Errorf("%s has none of the %d modules of the cpu storm:"+
			" name some with -modules, or try -storm everything", s.set.source, len(wanted))
	}
	s.notes = append(s.notes, fmt.Sprintf("The tree has %d of the %d modules of the cpu storm.",
		found, len(wanted)))
	return list, nil
}

// checkBuffers reports an error if the loads of one of the policies might hold
// too much at one time. The sizes of the files have to be known.
func (s *storm) checkBuffers(policies []string) error {
	var all int64 // if each worker loads its largest file
	for _, list := range s.lists {
		var largest int64
		for _, i := range list {
			largest = max(largest, s.set.modules[i].size)
		}
		all += largest
	}
	var once int64 // if each file is loaded, by one worker
	for _, i := range s.used {
		once += s.set.modules[i].size
	}
	for _, name := range policies {
		held := all
		if name != "none" {
			held = min(all, once)
		}
		if held > maxBuffered {
			return fmt.Errorf("under the policy %s, %s may hold %s bytes in buffers (want at most %s)",
				name, count(int64(len(s.lists)), "worker"), grouped(held), grouped(maxBuffered))
		}
	}
	return nil
}

// poissonDelays returns the arrival times of n workers: the gaps between them
// are exponential, and the workers come in random order.
func poissonDelays(n int, rate float64, seed uint64) []time.Duration {
	rng := rand.New(rand.NewPCG(seed, 0))
	delays := make([]time.Duration, n)
	var now float64 // seconds
	for _, i := range rng.Perm(n) {
		now += rng.ExpFloat64() / rate
		delays[i] = time.Duration(now * float64(time.Second))
	}
	return delays
}

// settleOrder makes all lists increasing in one common order of the files, which the
// gates need in order to open (see gate.go). The lists that depmod makes of one tree have
// such an order among themselves, as far as known, and stay as they are. If they do not,
// each is sorted by an order that keeps prerequisites before the modules that need them,
// and a note reports that.
//
// The order is one of files: modules whose paths are of one file share a gate.
func (s *storm) settleOrder() error {
	if s.arrivals != arriveOverlap {
		return nil
	}
	file := s.fileNumbers()
	if _, ok := commonOrder(renumber(s.lists, file), len(file)); ok {
		return nil
	}
	var chains [][]int
	for _, i := range s.used {
		for _, p := range s.set.modules[i].prereqs {
			chains = append(chains, []int{p, i})
		}
	}
	place, ok := commonOrder(renumber(chains, file), len(file))
	if !ok {
		return errors.New("links make some modules need each other in a cycle:" +
			" they cannot overlap, but try -arrivals burst")
	}
	changed := 0
	for w, list := range s.lists {
		sorted := slices.Clone(list)
		slices.SortStableFunc(sorted, func(a, b int) int { return place[file[a]] - place[file[b]] })
		if !slices.Equal(sorted, list) {
			s.lists[w] = sorted
			changed++
		}
	}
	s.notes = append(s.notes, fmt.Sprintf("The prerequisite lists contradict each other:"+
		" %d of %d workers load theirs in another order, one that all have in common.",
		changed, len(s.lists)))
	return nil
}

// fileNumbers returns for each module the number of its file: the first module
// in use that has the same one.
func (s *storm) fileNumbers() []int {
	first := make(map[fileID]int)
	numbers := make([]int, len(s.set.modules))
	for _, i := range s.used {
		id := s.set.modules[i].id
		if _, ok := first[id]; !ok {
			first[id] = i
		}
		numbers[i] = first[id]
	}
	return numbers
}

// renumber returns lists with each number replaced by its entry in numbers.
func renumber(lists [][]int, numbers []int) [][]int {
	renumbered := make([][]int, len(lists))
	for l, list := range lists {
		for _, i := range list {
			renumbered[l] = append(renumbered[l], numbers[i])
		}
	}
	return renumbered
}

// gates returns a gate for each file that a worker will ask for, which expects every
// worker that has it in its list; nil if loads are not to be held open.
func (s *storm) gates() map[fileID]*gate {
	if s.arrivals != arriveOverlap {
		return nil
	}
	gates := make(map[fileID]*gate)
	for _, list := range s.lists {
		counted := make(map[*gate]bool)
		for _, i := range list {
			id := s.set.modules[i].id
			g, ok := gates[id]
			if !ok {
				g = newGate()
				gates[id] = g
			}
			if !counted[g] {
				counted[g] = true
				g.expected++
			}
		}
	}
	return gates
}
