// Package coalesce has the API of the package of that name, as far as the analyzers know it.
package coalesce

import "context"

type Group[K comparable, V any] struct{ _ [0]func() }

type Result[V any] struct {
	Val    V
	Err    error
	Shared bool
}

func (g *Group[K, V]) Do(key K, fn func() (V, error)) (v V, shared bool, err error) {
	v, err = fn()
	return v, false, err
}

func (g *Group[K, V]) TryDo(key K, fn func() (V, error)) (v V, err error) { return fn() }

func (g *Group[K, V]) DoContext(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	v, err = fn(ctx)
	return v, false, err
}

func (g *Group[K, V]) DoFresh(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	return g.DoContext(ctx, key, fn)
}

func (g *Group[K, V]) DoChan(ctx context.Context, key K, fn func(context.Context) (V, error)) <-chan Result[V] {
	return nil
}

func (g *Group[K, V]) DoMulti(ctx context.Context, keys []K, fn func(context.Context, []K) (map[K]V, error)) map[K]Result[V] {
	return nil
}

func (g *Group[K, V]) Forget(key K) bool { return false }

func (g *Group[K, V]) ForgetUnshared(key K) bool { return false }

func (g *Group[K, V]) ForgetFunc(match func(K) bool) int { return 0 }

func Detach(ctx context.Context) context.Context { return ctx }
