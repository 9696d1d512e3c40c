package main

// This file runs a storm: it starts the workers and collects their results.

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A worker walks one list of modules, as libkmod does for one device.
type worker struct {
	loader  *loader
	list    []int
	gates   map[fileID]*gate
	settled map[*gate]bool // those that no longer expect this worker
}

// walk loads the modules of the list in order. It skips those that are live, takes EEXIST
// for success, and stops at any other error: the rest may need a missing module.
func (w *worker) walk(ctx context.Context, prog *progress) error {
	w.settled = make(map[*gate]bool)
	// No gate may ever wait for a worker that has gone.
	defer func() {
		for _, i := range w.list {
			w.withdraw(w.gate(i))
		}
	}()
	for k, i := range w.list {
		m := &w.loader.set.modules[i]
		g := w.gate(i)
		if w.loader.live.has(m.name) {
			w.loader.meter.skipped.Add(1)
			w.withdraw(g)
			prog.step()
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := w.loader.load(ctx, m, g, func() { w.ask(g) })
		if err != nil && !errors.Is(err, errExist) {
			prog.steps(len(w.list) - k)
			return err
		}
		prog.step()
	}
	return nil
}

// gate returns the gate of module i, nil if loads are not held open.
func (w *worker) gate(i int) *gate {
	return w.gates[w.loader.set.modules[i].id]
}

// ask notifies g that this worker is there. A list may have a file several times, of
// which g expects the first.
func (w *worker) ask(g *gate) {
	if !w.settled[g] {
		w.settled[g] = true
		g.ask()
	}
}

// withdraw notifies g that this worker will not come, unless it has.
func (w *worker) withdraw(g *gate) {
	if !w.settled[g] {
		w.settled[g] = true
		g.withdraw()
	}
}

// run runs the storm under the policy of that name.
func (s *storm) run(ctx context.Context, policyName string, prog *progress) (result, error) {
	steps := 0
	for _, list := range s.lists {
		steps += len(list)
	}
	done := prog.begin("policy "+policyName, steps)
	defer done()
	runtime.GC() // no policy pays for the garbage of the one before

	l := &loader{set: s.set, policy: newPolicy(policyName), init: s.init}
	gates := s.gates()
	errs := make([]error, len(s.lists))
	start := make(chan struct{})
	var workers sync.WaitGroup
	for i, list := range s.lists {
		workers.Go(func() {
			<-start
			if s.delays != nil && !sleep(ctx, s.delays[i]) {
				errs[i] = context.Cause(ctx)
				return
			}
			w := &worker{loader: l, list: list, gates: gates}
			errs[i] = w.walk(ctx, prog)
		})
	}
	begin := time.Now()
	close(start)
	workers.Wait()
	wall := time.Since(begin)
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}
	return l.result(policyName, errs, wall), nil
}

// sleep waits for d and reports whether it has: not if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// result sums up a run whose workers ended with errs.
func (l *loader) result(policyName string, errs []error, wall time.Duration) result {
	res := result{
		Policy:        policyName,
		Attempts:      l.meter.attempts.Load(),
		Leaders:       l.meter.leaders.Load(),
		Joined:        l.meter.joined.Load(),
		Busy:          l.meter.busy.Load(),
		Late:          l.meter.late.Load(),
		Skipped:       l.meter.skipped.Load(),
		LiveModules:   l.live.len(),
		BytesRead:     l.meter.bytesRead.Load(),
		BytesWasted:   l.meter.bytesWasted.Load(),
		PeakBytesLive: l.meter.peakBuffered.Load(),
		WallSeconds:   wall.Seconds(),

		bytesLive: l.meter.bytesLive.Load(),
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		res.FailedWorkers++
		// A refusal is the point of etxtbsy, and the figures show it.
		if text := err.Error(); !errors.Is(err, errBusy) && !slices.Contains(res.Errors, text) {
			res.Errors = append(res.Errors, text)
		}
	}
	slices.Sort(res.Errors)
	return res
}
