package method

import (
	"context"

	"resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: \*pages has a DoContext of its own$`
)

type pages struct {
	singleflight.Group[string, int]
}

func (p *pages) DoContext(ctx context.Context, key string) (int, error) {
	v, _, err := p.Do(ctx, key, nil)
	return v, err
}
