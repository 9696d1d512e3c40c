package main

// This file makes the storm's arrivals overlap: the gates that hold a load open until
// every worker that will ask for its file has asked.
//
// Why every gate opens in the end. Each worker walks its list, and all lists are
// increasing in one common order of the files (see storm.settleOrder). Suppose that some
// loads are held and no worker can go on. Among the files that workers are held at, take
// the one that is first in the common order, F. F's gate waits for a worker that will ask
// for F and has not: that worker is held as well, at a file that is before F in its list,
// and so before F in the common order. But F was the first. Hence some worker can always
// go on. A worker that finds F's module live, or fails, reports that to every gate that
// still counts on it; and between asking and joining, or reading, a worker waits for no
// other.

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// A gate holds the loads of one file open. A nil gate holds nothing.
//
// Each worker that has the file in its list is first expected; it then asks and is
// present, or withdraws. The present workers either load the file themselves and are held
// here, or follow a load that is, or are refused and leave.
type gate struct {
	accounted chan struct{} // closed once no worker is expected
	opened    chan struct{} // closed once all present workers are held or follow

	mu       sync.Mutex // protects the fields below
	expected int
	present  int
	held     int
	open     bool
}

func newGate() *gate {
	return &gate{accounted: make(chan struct{}), opened: make(chan struct{})}
}

// ask turns an expected worker into a present one.
func (g *gate) ask() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.present++
	g.account()
}

// withdraw removes an expected worker that will never ask.
func (g *gate) withdraw() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account()
}

// account removes a worker from the expected ones. g.mu must be held.
func (g *gate) account() {
	g.expected--
	if g.expected == 0 {
		close(g.accounted)
	}
	g.settle(0)
}

// refuse removes a present worker that was refused.
func (g *gate) refuse() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.present--
	g.settle(0)
}

// settle opens the gate if no worker is expected and all present workers are held, or
// follow one that is. g.mu must be held.
func (g *gate) settle(followers int) {
	if !g.open && g.expected == 0 && g.held > 0 && g.held+followers == g.present {
		g.open = true
		close(g.opened)
	}
}

// hold keeps the calling load until the gate opens or ctx ends. followers returns the
// number of workers that follow the load, or is nil if none ever does: only by polling
// can a worker that has joined be seen from outside.
func (g *gate) hold(ctx context.Context, followers func() int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.held++
	g.settle(0)
	g.mu.Unlock()

	watched := g.accounted
	if followers == nil {
		watched = nil
	}
	select {
	case <-g.opened:
		return
	case <-ctx.Done():
		return
	case <-watched:
	}

	// All have asked, so that they are about to join: this is short.
	for tries := 0; ctx.Err() == nil; tries++ {
		n := followers()
		g.mu.Lock()
		g.settle(n)
		open := g.open
		g.mu.Unlock()
		if open {
			return
		}
		if tries < 64 {
			runtime.Gosched()
		} else {
			time.Sleep(100 * time.Microsecond)
		}
	}
}
