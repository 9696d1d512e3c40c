//go:build never

package tags

import "golang.org/x/sync/singleflight"

var same *singleflight.Group = &group
