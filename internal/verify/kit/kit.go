package kit

import (
	"context"
	"errors"

	"github.com/seed342dcb2d/coalesce"
)

// CtxKey is a key of the tests' own for values in a context.
type CtxKey struct{}

// Group is the group of most tests.
type Group = coalesce.Group[string, int]

// ErrTest is the error of an fn that fails.
var ErrTest = errors.New("test error")

// Value returns an fn for Do that returns v at once.
func Value(v int) func() (int, error) { return func() (int, error) { return v, nil } }

// CtxValue is Value for the forms that give a context.
func CtxValue(v int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return v, nil }
}
