// Package plain has calls without a context for fn.
package plain

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed342dcb2d/coalesce"
	dropin "github.com/seed342dcb2d/coalesce/singleflight"
	"golang.org/x/sync/singleflight"
)

type server struct {
	group singleflight.Group
	ctx   context.Context
}

var root, stop = context.WithCancel(context.Background())

func load(ctx context.Context) (any, error) { return nil, ctx.Err() }

func claimsFromContext(ctx context.Context) (any, error) { return ctx.Value("claims"), nil }

func detach(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func extend(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(detach(ctx), time.Second)
}

type span struct{}

func start(ctx context.Context) (context.Context, span) { return ctx, span{} }

func (s *server) parameter(ctx context.Context) {
	s.group.Do("k", func() (any, error) {
		slog.InfoContext(ctx, "loading")
		v, err := load(ctx) // want `^function passed to Do uses its caller's ctx: if that ends, it fails for all callers$`
		if err != nil {
			return load(ctx) // the first use is enough
		}
		return v, err
	})
}

func (s *server) channel(ctx context.Context) {
	select {
	case <-s.group.DoChan("k", func() (any, error) { return load(ctx) }): // want `function passed to DoChan uses its caller's ctx: if`
	case <-ctx.Done():
	}
}

func (s *server) request(w http.ResponseWriter, r *http.Request) {
	s.group.Do("k", func() (any, error) {
		return load(r.Context()) // want `function passed to Do uses its caller's r\.Context\(\): if`
	})
}

func (s *server) traced(ctx context.Context) {
	ctx, span := start(ctx)
	_ = span
	s.group.Do("k", func() (any, error) {
		return load(ctx) // want `uses its caller's ctx: if`
	})
}

func (s *server) tracedInside(ctx context.Context) {
	s.group.Do("k", func() (any, error) {
		ctx, span := start(ctx) // want `uses its caller's ctx: if`
		_ = span
		return load(ctx)
	})
}

func (s *server) limited(ctx context.Context) {
	ctx2, cancel := context.WithTimeout(context.WithValue(ctx, "k", 1), time.Second)
	defer cancel()
	s.group.Do("k", func() (any, error) {
		return load(ctx2) // want `uses its caller's ctx2: if`
	})
}

func (s *server) done(ctx context.Context) {
	s.group.Do("k", func() (any, error) {
		<-ctx.Done() // want `uses its caller's ctx: if`
		return nil, nil
	})
}

func core(ctx context.Context, g *coalesce.Group[string, any]) {
	g.Do("k", func() (any, error) { return load(ctx) })    // want `function passed to Do uses its caller's ctx: if`
	g.TryDo("k", func() (any, error) { return load(ctx) }) // want `function passed to TryDo uses its caller's ctx: if`
}

func moved(ctx context.Context, g *dropin.Group) {
	g.Do("k", func() (any, error) { return load(ctx) }) // want `function passed to Do uses its caller's ctx: if`
}

func (s *server) chained(r *http.Request) {
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), "k", 1))
	defer cancel()
	mine := ctx
	s.group.Do("k", func() (any, error) {
		return load(mine) // want `uses its caller's mine: if`
	})
}

func (s *server) changed(ctx context.Context, other *http.Request) {
	r := other
	p := &ctx
	_ = p
	s.group.Do("address", func() (any, error) { return load(ctx) })
	s.group.Do("variable", func() (any, error) { return load(r.Context()) })
	other = nil
	s.group.Do("assigned", func() (any, error) { return load(other.Context()) })
	value := <-make(chan context.Context)
	s.group.Do("received", func() (any, error) { return load(value) })
}

func (s *server) silent(ctx context.Context, r *http.Request) {
	s.group.Do("field", func() (any, error) { return load(s.ctx) })
	s.group.Do("package", func() (any, error) { return load(root) })
	s.group.Do("inside", func() (any, error) { return load(context.WithoutCancel(ctx)) })
	s.group.Do("log", func() (any, error) {
		slog.InfoContext(ctx, "loading", "user", ctx.Value("user"))
		return nil, nil
	})
	s.group.Do("span", func() (any, error) {
		_, span := start(ctx)
		return span, nil
	})
	s.group.Do("values", func() (any, error) {
		return claimsFromContext(ctx)
	})
	s.group.Do("late", func() (any, error) {
		ctx = context.WithoutCancel(ctx)
		return load(ctx)
	})
	s.group.Do("own", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return load(ctx)
	})
	func(ctx context.Context) {
		ctx, cancel := extend(ctx)
		defer cancel()
		s.group.Do("k", func() (any, error) { return load(ctx) })
	}(ctx)
	func(ctx context.Context) {
		ctx = detach(ctx)
		s.group.Do("k", func() (any, error) { return load(ctx) })
	}(ctx)
	func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		s.group.Do("k", func() (any, error) { return load(ctx) })
	}(ctx)
}
