package twice

import (
	"context"
	"sync"

	"resenje.org/singleflight"    // want `can be replaced by`
	sf "resenje.org/singleflight" // want `can be replaced by`
)

type pages struct {
	sync.Mutex // has none of the names
	singleflight.Group[string, int]
}

func load(ctx context.Context, p *pages) {
	var same *sf.Group[string, int] = &p.Group
	same.Do(ctx, "k", nil)
}
