package scenarios

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"weak"
)

// This file holds the scenarios about the memory that is kept when all calls are over.

func name(i int) string { return strconv.Itoa(i) }

var memory = []Scenario{
	{
		Name: "25",
		Requires: "Value, error, fn and the leader's context can be collected when the last caller has its answer, " +
			"even if a caller left.",
		Run: nothingIsKept,
	},
	{
		Name:     "26",
		Requires: "4,000 keys with values of 1 KiB in flight at once, and then none: less than 1 MiB stays.",
		Run:      manyKeys,
	},
	{
		Name: "B35",
		Requires: "20,000 callers join an execution that hangs and give up, by their contexts or else by no longer " +
			"waiting for their channels: less than 512 KiB stay.",
		Outside: true,
		Run:     leaversTakeTheirMemory,
		Fails:   map[string]string{XSync: "more than 512 KiB stay"},
	},
}

// A witness reports whether an object that a group was given is still there.
type witness struct {
	what  string
	there func() bool
}

// watched returns an object to give to a group, and the witness of it.
func watched(what string) (*[256]byte, witness) {
	x := new([256]byte)
	w := weak.Make(x)
	return x, witness{what, func() bool { return w.Value() != nil }}
}

func (x *watchedError) Error() string { return "watched" }

type watchedError [256]byte

func nothingIsKept(_ *testing.T, p *Peer) error {
	g := p.New()
	var witnesses []witness
	for i := range 10 {
		witnesses = append(witnesses, give(g, p, name(i))...)
	}
	for range 5 {
		runtime.GC()
	}
	var f faults
	for _, w := range witnesses {
		if w.there() {
			f.add("%s is kept", w.what)
		}
	}
	f.usable(g, "k")
	return f.err()
}

// give makes calls of one execution, with a value, an error, an fn and a context
// that are reachable through nothing else when it has returned.
//
//go:noinline
func give(g *Group, p *Peer, key string) []witness {
	v, ofValue := watched("the value")
	e, ofError := watched("the error")
	captured, ofFn := watched("fn")
	witnesses := []witness{ofValue, ofError, ofFn}
	h := newGate()
	end := func() (any, error) {
		captured[0]++
		return v, (*watchedError)(e)
	}
	if p.Has&Contexts == 0 {
		g.do(key, h.then(end))
	} else {
		x, ofContext := watched("the leader's context")
		witnesses = append(witnesses, ofContext)
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), g, x))
		defer cancel()
		g.doContext(ctx, key, h.ctxThen(end))
		synctest.Wait()
		leaves, leave := context.WithCancel(context.Background())
		g.doContext(leaves, key, h.ctxThen(end))
		synctest.Wait()
		leave()
	}
	synctest.Wait()
	g.do(key, h.then(end))
	synctest.Wait()
	close(h.open)
	synctest.Wait()
	return witnesses
}

func manyKeys(_ *testing.T, p *Peer) error {
	const n = 4000 // two goroutines each must not be too many for the race detector
	open := make(chan struct{})
	for range 2 * n { // the runtime keeps the memory of goroutines
		go func() { <-open }()
	}
	synctest.Wait()
	close(open)
	synctest.Wait()
	g := p.New()
	var f faults
	f.usable(g, "k")
	before := heap()
	inFlight(&f, g, n)
	if heap() > before+1<<20 {
		f.add("more than 1 MiB stays")
	}
	f.usable(g, "k")
	return f.err()
}

// inFlight makes n calls of different keys that end together.
func inFlight(f *faults, g *Group, n int) {
	h := newGate()
	for i := range n {
		g.do(name(i), h.then(func() (any, error) { return new([1024]byte), nil }))
	}
	synctest.Wait()
	if int(h.runs.Load()) != n {
		f.add("%d executions of %d keys", h.runs.Load(), n)
	}
	close(h.open)
	synctest.Wait()
}

func leaversTakeTheirMemory(_ *testing.T, p *Peer) error {
	const n = 20000
	g, h := p.New(), newGate()
	leader := g.do("k", h.then(value(1)))
	for h.runs.Load() == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(context.Background())
	join := func() {
		if p.Has&Contexts == 0 {
			g.DoChan("k", value(2))
			return
		}
		c := g.doContext(ctx, "k", ctxValue(2))
		runtime.Gosched()
		cancel()
		<-c.done
		ctx, cancel = context.WithCancel(context.Background())
	}
	var f faults
	join()
	before := heap()
	for range n {
		join()
	}
	if heap() > before+512<<10 {
		f.add("more than 512 KiB stay")
	}
	cancel()
	close(h.open)
	<-leader.done
	f.usable(g, "k")
	return f.err()
}
