package deep

import (
	"golang.org/x/sync/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce/singleflight: Each of other\.org/cache has its types$`
	"other.org/cache"
)

var group singleflight.Group

func init() { cache.Each(nil) }
