package generated

import "golang.org/x/sync/singleflight" // want `cannot be replaced by .*: made\.go imports it, which is generated$`

var group *singleflight.Group = made()
