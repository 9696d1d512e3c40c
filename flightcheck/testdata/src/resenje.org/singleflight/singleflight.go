// Package singleflight has the API of resenje.org/singleflight.
package singleflight

import "context"

type Group[K comparable, V any] struct{ _ [0]func() }

func (*Group[K, V]) Do(ctx context.Context, key K, fn func(ctx context.Context) (V, error)) (v V, shared bool, err error) {
	v, err = fn(ctx)
	return v, false, err
}

func (*Group[K, V]) Forget(key K) {}
