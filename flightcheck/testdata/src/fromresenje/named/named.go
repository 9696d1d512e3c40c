// Package named has names that stay.
package named

import (
	"context"

	"resenje.org/singleflight" // want `can be replaced by`
)

// coalesce is in the way.
func coalesce(ctx context.Context, group *singleflight.Group[int, int]) (int, error) {
	v, _, err := group.Do(ctx, 1, nil)
	return v, err
}
