package moved

import (
	"context"
	"fmt"

	"resenje.org/singleflight" // want `^resenje\.org/singleflight can be replaced by github\.com/seed342dcb2d/coalesce, which does not cancel fn's context when Do returns$`
)

type key struct{ tenant, name string }

type Loader struct {
	Group singleflight.Group[key, string]
}

type embedded struct {
	*singleflight.Group[string, int]
}

func (l *Loader) load(ctx context.Context, k key) (string, error) {
	v, shared, err := l.Group.Do(ctx, k, func(ctx context.Context) (string, error) {
		return k.name, ctx.Err()
	})
	if shared {
		l.Group.Forget(k)
	}
	return v, err
}

func values(ctx context.Context, e embedded) {
	do := e.Do
	do(ctx, "k", nil)
	e.Group.Do(ctx, "k", nil)
	(*singleflight.Group[string, int]).Do(e.Group, ctx, "k", nil)
	defer e.Forget("k")
	fmt.Println(e.Group)
}
