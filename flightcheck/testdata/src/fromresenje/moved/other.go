package moved

import "context"

func (l *Loader) again(ctx context.Context, k key) {
	l.Group.Do(ctx, k, nil) // want `^Do of resenje\.org/singleflight is DoContext of github\.com/seed342dcb2d/coalesce$`
}
