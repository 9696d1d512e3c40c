package ctxkey

import (
	"context"
	"net/http"

	"github.com/seed342dcb2d/coalesce"
	"resenje.org/singleflight"
)

type key struct {
	id  int
	ctx context.Context
}

type deep struct {
	key [2]struct{ r *http.Request }
}

type session struct{ context.Context }

type server struct {
	a   coalesce.Group[key, int]                 // want `^key has a context in field ctx: only calls with the same one share a flight$`
	b   coalesce.Group[*http.Request, int]       // want `^key has an \*http\.Request: only calls`
	c   coalesce.Group[deep, *http.Request]      // want `key has an \*http\.Request in field r: only`
	d   singleflight.Group[context.Context, int] // want `key has a context: only`
	e   *coalesce.Group[*session, int]           // want `key has a context: only`
	any coalesce.Group[any, int]
}

func (s *server) calls(ctx context.Context, r *http.Request) {
	s.any.Do(ctx, nil)   // want `key has a context: only`
	s.any.Do(key{}, nil) // want `key has a context in field ctx: only`
	s.any.Do(r.Host, nil)
	s.any.DoContext(ctx, r, nil) // want `key has an \*http\.Request: only`
	s.b.Do(r, nil)               // the group is reported
}

type fine struct {
	host string
	p    *key
}

type silent struct {
	a coalesce.Group[fine, context.Context]
	b coalesce.Group[string, *http.Request]
	c map[*http.Request]int
}

type wrapper[K comparable] struct {
	group coalesce.Group[K, int]
}

var _ wrapper[*http.Request] // not seen
