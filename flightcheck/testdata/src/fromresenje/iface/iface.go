package iface

import (
	"context"

	"resenje.org/singleflight" // want `cannot be replaced by github\.com/seed342dcb2d/coalesce: it is used as doer, which has Do$`
)

type doer interface {
	Do(context.Context, string, func(context.Context) (int, error)) (int, bool, error)
}

type embedded struct {
	singleflight.Group[string, int]
}

func run(d doer) {
	d.Do(context.Background(), "k", nil)
}

func use(e *embedded) { run(e) }
