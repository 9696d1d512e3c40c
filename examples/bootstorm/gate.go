package main

// This file makes the storm's arrivals overlap: the gates that hold a load open
// until everybody who will ask for its file has asked.
//
// Why every gate opens in the end. Each worker walks its list, and all lists are
// increasing in one common order of the files (see storm.settleOrder). Suppose
// that some loads are held and nobody can go on. Among the files that workers
// are held at, take the one that is first in the common order, F. F's gate waits
// for a worker that will ask for F and has not: that one is held, too, at a file
// that is in its list before F, so before F in the common order. But F was the
// first. Hence some worker can always go on. A worker that finds F's module
// live, or fails, says so to every gate that still counts on it; and between
// asking and joining, or reading, a worker waits for nobody.

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// A gate holds the loads of one file open. A nil gate holds nothing.
//
// Each worker that has the file in its list is first expected; it then asks and
// is present, or withdraws. The present either load the file themselves and are
// held here, or follow a load that is, or are refused and leave.
type gate struct {
	accounted chan struct{} // closed once nobody is expected
	opened    chan struct{} // closed once all who are present are held or follow

	mu       sync.Mutex // protects what is below
	expected int
	present  int
	held     int
	open     bool
}

func newGate() *gate {
	return &gate{accounted: make(chan struct{}), opened: make(chan struct{})}
}

// ask turns one who is expected into one who is present.
func (g *gate) ask() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.present++
	g.account()
}

// withdraw takes back one who is expected and will never ask.
func (g *gate) withdraw() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account()
}

// account strikes one who was expected off the list. g.mu must be held.
func (g *gate) account() {
	g.expected--
	if g.expected == 0 {
		close(g.accounted)
	}
	g.settle(0)
}

// refuse takes away one who is present and was told to go.
func (g *gate) refuse() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.present--
	g.settle(0)
}

// settle opens the gate if nobody is expected and all who are present are held,
// or follow one who is. g.mu must be held.
func (g *gate) settle(followers int) {
	if !g.open && g.expected == 0 && g.held > 0 && g.held+followers == g.present {
		g.open = true
		close(g.opened)
	}
}

// hold keeps the calling load until the gate opens or ctx ends. It is given a
// function that tells how many follow the load, or nil if none ever does: who
// has joined can only be seen from outside, by looking.
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
