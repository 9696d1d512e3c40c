package moved

import (
	"errors"

	"golang.org/x/sync/singleflight" // want `^golang\.org/x/sync/singleflight can be replaced by github\.com/seed342dcb2d/coalesce/singleflight$`
)

type cache struct {
	group singleflight.Group
}

type doer interface {
	DoChan(string, func() (interface{}, error)) <-chan singleflight.Result
	Forget(string)
}

var _ doer = new(singleflight.Group)

func (c *cache) get(key string) (interface{}, error, bool) {
	v, err, shared := c.group.Do(key, func() (interface{}, error) { return 1, errors.New("no") })
	r := singleflight.Result{v, err, shared}
	return r.Val, r.Err, r.Shared
}
