package benchmarks

import (
	"context"
	"testing"

	"github.com/creachadair/msync/throttle"
	"github.com/maypok86/otter/v2"
	"github.com/puzpuzpuz/xsync/v3"
	samber "github.com/samber/go-singleflightx"
	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"
	tailscale "tailscale.com/util/singleflight"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the implementations of a call that ends with its context. A package
// without one gets the code of its users: DoChan, and a select.

// A contextImplementation is one whose callers can leave.
type contextImplementation struct {
	name    string
	note    string
	newCall func() contextCall
}

// contextImplementations returns them all.
func contextImplementations() []contextImplementation {
	const (
		selects = "DoChan and a select: the work is never canceled"
		inline  = "fn runs on the leader's goroutine: the leader cannot leave"
	)
	return []contextImplementation{
		{Coalesce, "", newCoalesceContext},
		{XSync, selects, newXSyncContext},
		{Resenje, "", newResenjeContext},
		{Samber, selects, newSamberContext},
		{SamberSharded, selects, newSamberShardedContext},
		{Msync, inline, newMsyncContext},
		{Tailscale, "DoChanContext: two goroutines", newTailscaleContext},
		{Otter, "a cache whose loads fail; " + inline, newOtterContext},
		{MapOf, "the rejected design; the work is never canceled", newMapOfContext},
	}
}

// contextRuns returns a run of bench for each of them. bench makes its groups
// itself.
func contextRuns(bench func(b *testing.B, newCall func() contextCall)) []Run {
	var runs []Run
	for _, impl := range contextImplementations() {
		runs = append(runs, Run{Impl: impl.name, Note: impl.note, Bench: func(b *testing.B) {
			bench(b, impl.newCall)
		}})
	}
	return runs
}

func newCoalesceContext() contextCall {
	g := new(coalesce.Group[string, *page])
	return func(ctx context.Context, key string, t *task) (*page, error) {
		p, _, err := g.DoContext(ctx, key, func(context.Context) (*page, error) { return t.do() })
		return p, err
	}
}

func newXSyncContext() contextCall {
	g := new(singleflight.Group)
	return func(ctx context.Context, key string, t *task) (*page, error) {
		select {
		case r := <-g.DoChan(key, func() (any, error) { return t.do() }):
			p, _ := r.Val.(*page)
			return p, r.Err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func newResenjeContext() contextCall {
	g := new(resenje.Group[string, *page])
	return func(ctx context.Context, key string, t *task) (*page, error) {
		p, _, err := g.Do(ctx, key, func(context.Context) (*page, error) { return t.do() })
		return p, err
	}
}

func newSamberContext() contextCall {
	return samberContext(new(samber.Group[string, *page]).DoChan)
}

func newSamberShardedContext() contextCall {
	return samberContext(samberSharded[string]().DoChan)
}

func samberContext(doChan func(string, func() (*page, error)) <-chan samber.Result[*page]) contextCall {
	return func(ctx context.Context, key string, t *task) (*page, error) {
		select {
		case r := <-doChan(key, t.do):
			return r.Value.Value, r.Err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func newMsyncContext() contextCall {
	s := throttle.NewSet[string, *page]()
	return func(ctx context.Context, key string, t *task) (*page, error) {
		return s.Call(ctx, key, func(context.Context) (*page, error) { return t.do() })
	}
}

func newTailscaleContext() contextCall {
	g := new(tailscale.Group[string, *page])
	return func(ctx context.Context, key string, t *task) (*page, error) {
		r := <-g.DoChanContext(ctx, key, func(context.Context) (*page, error) { return t.do() })
		return r.Val, r.Err
	}
}

func newOtterContext() contextCall {
	c := otter.Must(&otter.Options[string, *page]{})
	return func(ctx context.Context, key string, t *task) (*page, error) {
		return pageOf(c.Get(ctx, key, otter.LoaderFunc[string, *page](func(context.Context, string) (*page, error) {
			return t.load()
		})))
	}
}

func newMapOfContext() contextCall {
	m := xsync.NewMapOf[string, *mapOfFlight]()
	return func(ctx context.Context, key string, t *task) (*page, error) {
		c, joined := m.LoadOrCompute(key, newMapOfFlight)
		if !joined {
			go func() {
				defer func() {
					m.Delete(key)
					close(c.done)
				}()
				c.page, c.err = t.do()
			}()
		}
		select {
		case <-c.done:
			return c.page, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
