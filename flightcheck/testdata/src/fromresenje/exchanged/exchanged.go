package exchanged

import (
	"other.org/cache"
	"resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: Use of other\.org/cache has its types$`
)

var groups map[string]*singleflight.Group[string, int]

func init() { cache.Use(groups) }
