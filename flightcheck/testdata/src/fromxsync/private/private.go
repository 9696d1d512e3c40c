package private

import (
	"golang.org/x/sync/singleflight" // want `can be replaced by`
	"other.org/cache"
)

var group singleflight.Group

var others cache.Private

func init() { others.Forget() }
