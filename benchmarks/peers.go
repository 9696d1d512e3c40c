package benchmarks

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"testing"

	"github.com/creachadair/msync/throttle"
	groupcache "github.com/golang/groupcache/singleflight"
	"github.com/maypok86/otter/v2"
	samber "github.com/samber/go-singleflightx"
	"github.com/zeromicro/go-zero/core/syncx"
	"golang.org/x/sync/singleflight"
	resenje "resenje.org/singleflight"
	tailscale "tailscale.com/util/singleflight"

	"github.com/seed342dcb2d/coalesce"
	dropin "github.com/seed342dcb2d/coalesce/singleflight"
)

// This file holds the implementations: for each, a function that makes a new
// group and returns a function that makes one call in it. The contexts, for
// those that take one, can never end; see peers_context.go for the others.

// The names of the implementations, as they are in a benchmark's name.
const (
	Coalesce      = "coalesce"
	DropIn        = "drop-in"        // package singleflight of the same module
	XSync         = "x-sync"         // golang.org/x/sync/singleflight
	Resenje       = "resenje"        // resenje.org/singleflight
	Samber        = "samber"         // github.com/samber/go-singleflightx
	SamberSharded = "samber-sharded" // the same, ShardedGroup
	Msync         = "msync"          // github.com/creachadair/msync/throttle
	GoZero        = "go-zero"        // github.com/zeromicro/go-zero/core/syncx
	Groupcache    = "groupcache"     // github.com/golang/groupcache/singleflight
	Tailscale     = "tailscale"      // tailscale.com/util/singleflight
	Otter         = "otter"          // github.com/maypok86/otter/v2
	Theine        = "theine"         // github.com/Yiling-J/theine-go
	Seed          = "seed"           // the kernel's patch, see seed.go
	MapOf         = "mapof"          // the rejected design, see mapof.go
)

// Modules are the modules of the peers, for a report that names their versions.
var Modules = map[string]string{
	XSync:         "golang.org/x/sync",
	Resenje:       "resenje.org/singleflight",
	Samber:        "github.com/samber/go-singleflightx",
	SamberSharded: "github.com/samber/go-singleflightx",
	Msync:         "github.com/creachadair/msync",
	GoZero:        "github.com/zeromicro/go-zero",
	Groupcache:    "github.com/golang/groupcache",
	Tailscale:     "tailscale.com",
	Otter:         "github.com/maypok86/otter/v2",
	Theine:        "github.com/Yiling-J/theine-go",
	MapOf:         "github.com/puzpuzpuz/xsync/v3",
}

// An implementation makes groups for keys of type K.
type implementation[K comparable] struct {
	name    string
	note    string
	newCall func() call[K]
}

// implementations returns all implementations of Do. text makes a string of a
// key, for those that know no other type; it is not used if K is string.
func implementations[K comparable](text func(K) string) []implementation[K] {
	note := ""
	if _, ok := any(text).(func(string) string); !ok {
		note = "takes strings only: one is made of the key for each call"
	}
	return []implementation[K]{
		{Coalesce, "", newCoalesce[K]},
		{XSync, note, byText(newXSync, text)},
		{Resenje, "runs every fn on a goroutine of its own", newResenje[K]},
		{Samber, "", newSamber[K]},
		{SamberSharded, "the user chooses: as many shards as coalesce has, and its hash", newSamberSharded[K]},
		{Msync, "throttle.Set; it may run two executions for a key at once", newMsync[K]},
		{GoZero, note, byText(newGoZero, text)},
		{Groupcache, join(note, "wakes its waiters before it deletes the call; a panic blocks the key forever"), byText(newGroupcache, text)},
		{Tailscale, "", newTailscale[K]},
		{Otter, "a cache: its loads fail, so that it keeps nothing", newOtter[K]},
		{Seed, "the kernel's patch; a panic blocks the key forever", newSeed[K]},
		{MapOf, "the rejected design, a table on xsync.MapOf", newMapOf[K]},
	}
}

// join joins two notes.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// byText returns the implementation for keys of type K that uses one for strings.
func byText[K comparable](newCall func() call[string], text func(K) string) func() call[K] {
	if same, ok := any(newCall).(func() call[K]); ok {
		return same
	}
	return func() call[K] {
		do := newCall()
		return func(key K, t *task) (*page, error) { return do(text(key), t) }
	}
}

// doRuns returns a run of bench for each implementation except those named, on a new
// group each.
func doRuns(bench func(b *testing.B, do call[string]), except ...string) []Run {
	var runs []Run
	for _, impl := range implementations[string](nil) {
		if !slices.Contains(except, impl.name) {
			runs = append(runs, Run{Impl: impl.name, Note: impl.note, Bench: func(b *testing.B) {
				bench(b, impl.newCall())
			}})
		}
	}
	return runs
}

// withFloorFn is doRuns with the cost of the workload without coalescing.
func withFloorFn(bench func(b *testing.B, do call[string])) []Run {
	return append(doRuns(bench), floorRun(floorFn, func(b *testing.B) { bench(b, newFloorFn()) }))
}

func newCoalesce[K comparable]() call[K] {
	g := new(coalesce.Group[K, *page])
	return func(key K, t *task) (*page, error) {
		p, _, err := g.Do(key, t.do)
		return p, err
	}
}

func newXSync() call[string] {
	g := new(singleflight.Group)
	return func(key string, t *task) (*page, error) {
		v, err, _ := g.Do(key, func() (any, error) { return t.do() })
		p, _ := v.(*page)
		return p, err
	}
}

func newDropIn() call[string] {
	g := new(dropin.Group)
	return func(key string, t *task) (*page, error) {
		v, err, _ := g.Do(key, func() (any, error) { return t.do() })
		p, _ := v.(*page)
		return p, err
	}
}

func newResenje[K comparable]() call[K] {
	g, ctx := new(resenje.Group[K, *page]), context.Background()
	return func(key K, t *task) (*page, error) {
		p, _, err := g.Do(ctx, key, func(context.Context) (*page, error) { return t.do() })
		return p, err
	}
}

func newSamber[K comparable]() call[K] {
	g := new(samber.Group[K, *page])
	return func(key K, t *task) (*page, error) {
		p, err, _ := g.Do(key, t.do)
		return p, err
	}
}

func newSamberSharded[K comparable]() call[K] {
	g := samberSharded[K]()
	return func(key K, t *task) (*page, error) {
		p, err, _ := g.Do(key, t.do)
		return p, err
	}
}

// samberSharded returns a ShardedGroup with the default number of shards and the default
// hash of a coalesce.Group.
func samberSharded[K comparable]() *samber.ShardedGroup[K, *page] {
	seed := maphash.MakeSeed()
	return samber.NewShardedGroup[K, *page](uint(shards()), func(key K) uint64 {
		return maphash.Comparable(seed, key)
	})
}

func newMsync[K comparable]() call[K] {
	s, ctx := throttle.NewSet[K, *page](), context.Background()
	return func(key K, t *task) (*page, error) {
		return s.Call(ctx, key, func(context.Context) (*page, error) { return t.do() })
	}
}

func newGoZero() call[string] {
	g := syncx.NewSingleFlight()
	return func(key string, t *task) (*page, error) {
		v, err := g.Do(key, func() (any, error) { return t.do() })
		p, _ := v.(*page)
		return p, err
	}
}

func newGroupcache() call[string] {
	g := new(groupcache.Group)
	return func(key string, t *task) (*page, error) {
		v, err := g.Do(key, func() (any, error) { return t.do() })
		p, _ := v.(*page)
		return p, err
	}
}

func newTailscale[K comparable]() call[K] {
	g := new(tailscale.Group[K, *page])
	return func(key K, t *task) (*page, error) {
		p, err, _ := g.Do(key, t.do)
		return p, err
	}
}

// A failure is the error of a load of otter's: it has the page, which is then not cached,
// but passed to all callers that wait for the load.
type failure struct{ page *page }

func (failure) Error() string { return "not to be cached" }

// pageOf returns the page that a load of otter's ended with.
func pageOf(p *page, err error) (*page, error) {
	var f failure
	if errors.As(err, &f) {
		return f.page, nil
	}
	return p, err
}

// load does t as a load that fails.
func (t *task) load() (*page, error) {
	p, err := t.do()
	if err == nil {
		err = failure{p}
	}
	return nil, err
}

func newOtter[K comparable]() call[K] {
	c, ctx := otter.Must(&otter.Options[K, *page]{}), context.Background()
	return func(key K, t *task) (*page, error) {
		return pageOf(c.Get(ctx, key, otter.LoaderFunc[K, *page](func(context.Context, K) (*page, error) {
			return t.load()
		})))
	}
}
