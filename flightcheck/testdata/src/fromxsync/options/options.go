package options

import (
	"golang.org/x/sync/singleflight" // want `cannot be replaced by .*: Options of other\.org/cache has its types$`
	"other.org/cache"
)

var group singleflight.Group

var _ = cache.Options{&group}
