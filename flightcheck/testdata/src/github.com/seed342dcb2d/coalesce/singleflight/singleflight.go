// Package singleflight has the API of the package of that name in coalesce.
package singleflight

import "github.com/seed342dcb2d/coalesce"

type Group struct {
	group coalesce.Group[string, any]
}

type Result = coalesce.Result[any]

func (g *Group) Do(key string, fn func() (any, error)) (v any, err error, shared bool) {
	v, shared, err = g.group.Do(key, fn)
	return v, err, shared
}

func (g *Group) DoChan(key string, fn func() (any, error)) <-chan Result { return nil }

func (g *Group) Forget(key string) {}

func (g *Group) ForgetUnshared(key string) bool { return false }

func (g *Group) Coalesce() *coalesce.Group[string, any] { return &g.group }
