package scenarios

import (
	"context"

	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the libraries that are compared, behind one interface.

// The names of the libraries: for the peers, those of their modules.
const (
	Coalesce = "coalesce"
	XSync    = "golang.org/x/sync"
	Resenje  = "resenje.org/singleflight"
)

// The versions of the peers, as in go.mod.
const (
	XSyncVersion   = "v0.24.0"
	ResenjeVersion = "v0.4.3"
)

// A Feature is something that not every library has.
type Feature uint

const (
	Contexts Feature = 1 << iota // callers that give up, and fn with a context
	Channels                     // calls that answer through a channel
	AnyKeys                      // keys of any comparable type, not only strings
)

// A Peer is one of the libraries.
type Peer struct {
	Name string
	Has  Feature
	New  func() *Group

	// Colliding returns a group in which all keys have one hash. It is nil
	// where the library does not hash keys itself.
	Colliding func() *Group
}

// A Group is a group of a library. The forms of call that the library lacks
// are nil.
type Group struct {
	Do        func(key any, fn func() (any, error)) (v any, shared bool, err error)
	DoContext func(ctx context.Context, key any, fn func(context.Context) (any, error)) (v any, shared bool, err error)
	DoChan    func(key any, fn func() (any, error)) (receive func() (v any, shared bool, err error))
	Forget    func(key any)
}

// Peers returns the libraries, this one first.
func Peers() []*Peer {
	return []*Peer{
		{Coalesce, Contexts | Channels | AnyKeys, newCoalesce, newColliding},
		{XSync, Channels, newXSync, nil},
		{Resenje, Contexts | AnyKeys, newResenje, nil},
	}
}

func newCoalesce() *Group { return coalesceGroup(new(coalesce.Group[any, any])) }

func newColliding() *Group {
	return coalesceGroup(&coalesce.Group[any, any]{Hash: func(any) uint64 { return 0 }})
}

func coalesceGroup(g *coalesce.Group[any, any]) *Group {
	return &Group{
		Do:        g.Do,
		DoContext: g.DoContext,
		DoChan: func(key any, fn func() (any, error)) func() (any, bool, error) {
			c := g.DoChan(context.Background(), key, func(context.Context) (any, error) { return fn() })
			return func() (any, bool, error) {
				r := <-c
				return r.Val, r.Shared, r.Err
			}
		},
		Forget: func(key any) { g.Forget(key) },
	}
}

func newXSync() *Group {
	g := new(singleflight.Group)
	return &Group{
		Do: func(key any, fn func() (any, error)) (any, bool, error) {
			v, err, shared := g.Do(key.(string), fn)
			return v, shared, err
		},
		DoChan: func(key any, fn func() (any, error)) func() (any, bool, error) {
			c := g.DoChan(key.(string), fn)
			return func() (any, bool, error) {
				r := <-c
				return r.Val, r.Shared, r.Err
			}
		},
		Forget: func(key any) { g.Forget(key.(string)) },
	}
}

func newResenje() *Group {
	g := new(resenje.Group[any, any])
	return &Group{
		Do: func(key any, fn func() (any, error)) (any, bool, error) {
			ctxFn := func(context.Context) (any, error) { return fn() }
			if fn == nil {
				ctxFn = nil
			}
			return g.Do(context.Background(), key, ctxFn)
		},
		DoContext: g.Do,
		Forget:    g.Forget,
	}
}
