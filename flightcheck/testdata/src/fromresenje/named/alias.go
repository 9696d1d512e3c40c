package named

import (
	"context"

	sf "resenje.org/singleflight" // want `can be replaced by`
)

func alias(ctx context.Context, group *sf.Group[int, int]) { group.Do(ctx, 1, nil) }
