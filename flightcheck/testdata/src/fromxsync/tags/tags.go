package tags

import "golang.org/x/sync/singleflight" // want `cannot be replaced by .*: never\.go imports it, which is not in this build$`

var group singleflight.Group
