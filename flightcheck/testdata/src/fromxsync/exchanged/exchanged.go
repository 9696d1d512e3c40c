package exchanged

import (
	"golang.org/x/sync/singleflight" // want `^golang\.org/x/sync/singleflight cannot be replaced by github\.com/seed342dcb2d/coalesce/singleflight: New of other\.org/cache has its types$`
	"other.org/cache"
)

var group singleflight.Group

var _ = cache.New(&group)
