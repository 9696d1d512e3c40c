package doer

import (
	"golang.org/x/sync/singleflight" // want `cannot be replaced by .*: UseDoer of other\.org/cache has its types$`
	"other.org/cache"
)

var group singleflight.Group

func init() { cache.UseDoer(&group) }
