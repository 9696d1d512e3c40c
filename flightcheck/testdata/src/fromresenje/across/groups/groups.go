package groups

import "resenje.org/singleflight"

var Pages singleflight.Group[string, int]
