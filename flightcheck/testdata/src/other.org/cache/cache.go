// Package cache belongs to another module, and has groups in its API.
package cache

import (
	peer "resenje.org/singleflight"

	"golang.org/x/sync/singleflight" // want `^golang\.org/x/sync/singleflight can be replaced by github\.com/seed342dcb2d/coalesce/singleflight$`
)

func New(*singleflight.Group) int { return 0 }

func Use(map[string]*peer.Group[string, int]) {}

func Each(func() (struct{ R chan []singleflight.Result }, error)) {}
