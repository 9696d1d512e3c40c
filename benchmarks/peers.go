// Package benchmarks measures package coalesce beside golang.org/x/sync's
// singleflight and resenje.org/singleflight, doing the same work in the same
// run.
//
// The workloads are defined once, in [Workloads], and used twice: by go test
// -bench, and by the command cmd/ratios, which prints the table of ratios.
package benchmarks

import (
	"context"

	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// A page is what the benchmarked functions return. It is passed as a pointer
// throughout: x/sync's functions return any, and a pointer goes into an any
// without an allocation that would then be held against it.
type page string

// A peer is one implementation as the storms see it, in which a call takes
// microseconds and one through an interface makes no difference.
//
// Where a whole call takes some tens of nanoseconds it makes all of it: a
// closure that goes through an interface escapes, so every call would pay for
// an allocation that a program which calls the package directly does not have.
// A type parameter in the interface's place does not help, as the compiler
// shares one body between all pointer-shaped implementations and calls them
// through a table. Those workloads are therefore written out for each
// implementation (distinct.go, nest.go).
type peer interface {
	// do runs fn for key, or waits for a call that does, and reports the
	// result and whether it was shared. The context of the call, for an
	// implementation that takes one, can never end.
	do(key string, fn func() (*page, error)) (p *page, shared bool, err error)
}

// coalescePeer is package coalesce, through Do: fn runs on the goroutine of
// the caller.
type coalescePeer struct {
	group coalesce.Group[string, *page]
}

func (c *coalescePeer) do(key string, fn func() (*page, error)) (*page, bool, error) {
	return c.group.Do(key, fn)
}

// xsyncPeer is golang.org/x/sync/singleflight, through Do: fn runs on the
// goroutine of the caller, and there are no contexts.
type xsyncPeer struct {
	group singleflight.Group
}

func (x *xsyncPeer) do(key string, fn func() (*page, error)) (*page, bool, error) {
	v, err, shared := x.group.Do(key, func() (any, error) { return fn() })
	p, _ := v.(*page)
	return p, shared, err
}

// resenjePeer is resenje.org/singleflight, whose only Do takes a context and
// runs fn on a goroutine of its own, whatever the context.
type resenjePeer struct {
	group resenje.Group[string, *page]
}

func (r *resenjePeer) do(key string, fn func() (*page, error)) (*page, bool, error) {
	return r.group.Do(context.Background(), key, func(context.Context) (*page, error) { return fn() })
}

// The names of the implementations, as they are in a benchmark's name.
const (
	Coalesce = "coalesce"
	XSync    = "x-sync"  // golang.org/x/sync/singleflight
	Resenje  = "resenje" // resenje.org/singleflight
)
