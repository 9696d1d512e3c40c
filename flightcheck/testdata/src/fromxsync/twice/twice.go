package twice

import (
	"golang.org/x/sync/singleflight"    // want `can be replaced by`
	sf "golang.org/x/sync/singleflight" // want `can be replaced by`
)

var group *singleflight.Group = new(sf.Group)
