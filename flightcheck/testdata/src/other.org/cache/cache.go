// Package cache belongs to another module, and has groups in its API.
package cache

import (
	peer "resenje.org/singleflight"

	"golang.org/x/sync/singleflight" // want `^golang\.org/x/sync/singleflight can be replaced by github\.com/seed342dcb2d/coalesce/singleflight$`
)

func New(*singleflight.Group) int { return 0 }

func Use(map[string]*peer.Group[string, int]) {}

func Each(func() (struct{ R chan []singleflight.Result }, error)) {}

// A Doer has a method with one of the types.
type Doer interface {
	DoChan(string, func() (interface{}, error)) <-chan singleflight.Result
}

func UseDoer(Doer) {}

func UseAny[D Doer](D) {}

type Options struct{ Group *singleflight.Group }

// A Private has a group of its own, which does not matter to others.
type Private struct{ group singleflight.Group }

func (p *Private) Forget() { p.group.Forget("k") }
