// Package own has calls with a context for fn.
package own

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/seed342dcb2d/coalesce"
	"resenje.org/singleflight"
)

type group = coalesce.Group[string, int]

func load(ctx context.Context) (int, error) { return 0, ctx.Err() }

func unnamed(ctx context.Context, g *group) {
	g.DoContext(ctx, "k", func(context.Context) (int, error) {
		return load(ctx) // want `^function passed to DoContext uses its caller's ctx instead of its own context: if this caller leaves, it fails for all$`
	})
}

func blank(ctx context.Context, g *group) {
	g.DoFresh(ctx, "k", func(_ context.Context) (int, error) {
		slog.InfoContext(ctx, "loading") // want `function passed to DoFresh uses its caller's ctx instead`
		return load(ctx)                 // want `function passed to DoFresh uses its caller's ctx instead`
	})
}

func named(ctx context.Context, g *group) {
	g.DoChan(ctx, "k", func(own context.Context) (int, error) {
		select {
		case <-ctx.Done(): // want `function passed to DoChan uses its caller's ctx instead`
		case <-own.Done():
		}
		return load(own)
	})
}

func multi(ctx context.Context, g *group) {
	g.DoMulti(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) {
		v, err := load(ctx) // want `function passed to DoMulti uses its caller's ctx instead`
		return map[string]int{"a": v}, err
	})
}

func variable(ctx context.Context, g *group) {
	fn := func(context.Context) (int, error) {
		return load(ctx) // want `function passed to DoContext uses its caller's ctx instead`
	}
	g.DoContext(ctx, "k", fn)
}

func request(w http.ResponseWriter, r *http.Request, g *group) {
	g.DoContext(r.Context(), "k", func(context.Context) (int, error) {
		return load(r.Context()) // want `function passed to DoContext uses its caller's r\.Context\(\) instead`
	})
}

func derived(parent context.Context, g *group) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	g.DoContext(ctx, "k", func(own context.Context) (int, error) {
		if _, err := load(parent); err != nil { // want `its caller's parent instead`
			return 0, err
		}
		return load(ctx) // want `its caller's ctx instead`
	})
}

// The call's own context is a caller's wherever it comes from.
func given(g *group) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g.DoContext(ctx, "k", func(context.Context) (int, error) {
		return load(ctx) // want `its caller's ctx instead`
	})
}

func peer(ctx context.Context, g *singleflight.Group[string, int]) {
	g.Do(ctx, "k", func(context.Context) (int, error) {
		return load(ctx) // want `function passed to Do uses its caller's ctx instead`
	})
}

// fn's context gets the name of the caller's, so that what is inside may stay.
func likeIt(parent context.Context, g *group) {
	g.DoContext(parent, "k", func(context.Context) (int, error) {
		ctx := parent // want `its caller's parent instead`
		return load(ctx)
	})
}

// fn assigns the variable, so it cannot have its name.
func assigned(ctx context.Context, g *group) {
	g.DoContext(ctx, "k", func(context.Context) (int, error) {
		v, err := load(ctx) // want `its caller's ctx instead`
		ctx = nil
		return v, err
	})
}

func assignedToo(parent context.Context, g *group) {
	g.DoContext(parent, "k", func(context.Context) (int, error) {
		v, err := load(parent) // want `its caller's parent instead`
		parent = nil
		return v, err
	})
}

// The variable would be left without a use: no fix.
func onlyInside(ctx context.Context, g *group) {
	valued := context.WithValue(ctx, "k", 1)
	g.DoContext(ctx, "k", func(own context.Context) (int, error) {
		return load(valued) // want `its caller's valued instead`
	})
}

// fn's context is hidden where the caller's is used: no fix.
func hidden(parent context.Context, g *group) {
	g.DoContext(parent, "k", func(ctx context.Context) (int, error) {
		{
			ctx := 1
			_ = ctx
			return load(parent) // want `its caller's parent instead`
		}
	})
}

func nested(ctx context.Context, g, h *group) {
	g.DoContext(ctx, "k", func(outer context.Context) (int, error) {
		v, _, err := h.DoContext(outer, "k", func(context.Context) (int, error) {
			return load(outer) // want `its caller's outer instead`
		})
		return v, err
	})
}

// A context that has more than that of the call, or another one: no fix, as fn's own lacks the
// values.
func more(ctx, other context.Context, g *group) {
	valued := context.WithValue(ctx, "k", 1)
	fn := func(own context.Context) (int, error) {
		if _, err := load(other); err != nil { // want `its caller's other instead`
			return 0, err
		}
		return load(valued) // want `its caller's valued instead`
	}
	g.DoContext(ctx, "a", fn)
	g.DoFresh(ctx, "b", fn) // it has been looked at
	g.DoContext(context.Background(), "c", func(own context.Context) (int, error) {
		return load(ctx) // want `its caller's ctx instead`
	})
	g.DoContext(valued, "d", func(own context.Context) (int, error) {
		return load(ctx) // want `its caller's ctx instead`
	})
}

// Neither fix may leave a variable without a use.
func both(parent context.Context, g *group) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	g.DoContext(parent, "a", func(own context.Context) (int, error) {
		return load(ctx) // want `its caller's ctx instead`
	})
	g.DoContext(parent, "b", func(own context.Context) (int, error) {
		return load(ctx) // want `its caller's ctx instead`
	})
}

// A context that is made inside another fn.
func deeper(ctx context.Context, g, h *group) {
	g.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		v, _, err := h.DoContext(short, "k", func(own context.Context) (int, error) {
			return load(short) // want `its caller's short instead`
		})
		return v, err
	})
}

// fn's context does not get the name of one that stays.
func stays(ctx, other context.Context, g *group) {
	g.DoContext(ctx, "k", func(context.Context) (int, error) {
		if _, err := load(other); err != nil { // want `its caller's other instead`
			return 0, err
		}
		return load(ctx) // want `its caller's ctx instead`
	})
}

// A context of a framework, which has more than a context has: no fix where that would not
// compile, and nothing to report where it is no use as a context.
type webContext struct {
	context.Context
	params map[string]string
}

func (c *webContext) Param(name string) string { return c.params[name] }

func show(c *webContext, g *group) {
	g.DoContext(c, c.Param("id"), func(context.Context) (int, error) {
		if c.Param("id") == "" || c.params == nil || c.Err() != nil { // want `its caller's c instead`
			return 0, nil
		}
		return load(c) // want `its caller's c instead`
	})
}

func generic[K comparable, V any](ctx context.Context, g *struct{ coalesce.Group[K, V] }, key K, load func(context.Context, K) (V, error)) {
	g.DoContext(ctx, key, func(context.Context) (V, error) {
		return load(ctx, key) // want `its caller's ctx instead`
	})
}

func silent(ctx context.Context, r *http.Request, g *group) {
	g.DoContext(ctx, "k", func(ctx context.Context) (int, error) { return load(ctx) })
	g.DoContext(ctx, "k", load)
	g.DoContext(ctx, "k", func(own context.Context) (int, error) {
		go load(context.WithoutCancel(ctx))
		go load(coalesce.Detach(ctx))
		if ctx.Value("user") == nil || own == ctx {
			return 0, nil
		}
		_ = ctx
		return load(own)
	})
	background := context.Background()
	g.DoContext(background, "k", func(context.Context) (int, error) { return load(background) })
	kept := context.WithoutCancel(ctx)
	g.DoContext(kept, "k", func(context.Context) (int, error) { return load(kept) })
}
