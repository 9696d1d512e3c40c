package constraint

import (
	"golang.org/x/sync/singleflight" // want `cannot be replaced by .*: UseAny of other\.org/cache has its types$`
	"other.org/cache"
)

var group singleflight.Group

func init() { cache.UseAny(&group) }
