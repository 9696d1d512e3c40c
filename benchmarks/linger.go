package benchmarks

import (
	"context"
	"testing"
	"time"

	"github.com/Yiling-J/theine-go"
	"github.com/maypok86/otter/v2"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the workload in which no call has anything to do: the value
// is there. It is what caches are made for, and the peers are caches.

// lingerFor is the time for which values are kept, longer than any run takes.
const lingerFor = time.Hour

func lingerWorkloads() []Workload {
	const note = "a cache that loads, with a bound and an eviction policy"
	return []Workload{{
		Name:    "work=linger/keys=string16",
		Title:   "`Do`, answered by an outcome that lingers",
		Units:   []string{nsPerOp},
		Quick:   true,
		Without: "Without the packages that keep nothing.",
		Runs: []Run{
			{Impl: Coalesce, Bench: func(b *testing.B) { linger(b, newLingering()) }},
			{Impl: Otter, Note: note, Bench: func(b *testing.B) {
				do, stop := newOtterCache()
				defer stop()
				linger(b, do)
			}},
			{Impl: Theine, Note: note, Bench: func(b *testing.B) {
				do, stop := newTheineCache(b)
				defer stop()
				linger(b, do)
			}},
		},
	}}
}

func newLingering() call[string] {
	g := &coalesce.Group[string, *page]{Linger: lingerFor}
	return func(key string, t *task) (*page, error) {
		p, _, err := g.Do(key, t.do)
		return p, err
	}
}

func newOtterCache() (do call[string], stop func()) {
	c := otter.Must(&otter.Options[string, *page]{
		MaximumSize:      10 * nkeys,
		ExpiryCalculator: otter.ExpiryWriting[string, *page](lingerFor),
	})
	ctx := context.Background()
	return func(key string, t *task) (*page, error) {
		return c.Get(ctx, key, otter.LoaderFunc[string, *page](func(context.Context, string) (*page, error) {
			return t.do()
		}))
	}, func() { c.StopAllGoroutines() }
}

// newTheineCache returns a cache whose loader gets the task through the context.
func newTheineCache(tb testing.TB) (do call[string], stop func()) {
	load := func(ctx context.Context, _ string) (theine.Loaded[*page], error) {
		p, err := ctx.(*taskContext).task.do()
		return theine.Loaded[*page]{Value: p, Cost: 1, TTL: lingerFor}, err
	}
	c, err := theine.NewBuilder[string, *page](10 * nkeys).BuildWithLoader(load)
	if err != nil {
		tb.Fatal(err)
	}
	ctx := taskContext{Context: context.Background()}
	return func(key string, t *task) (*page, error) {
		ctx.task = t // there is one goroutine
		return c.Get(&ctx, key)
	}, c.Close
}

// A taskContext carries a task.
type taskContext struct {
	context.Context
	task *task
}

func linger(b *testing.B, do call[string]) {
	keys, tasks := makeKeys(0, nkeys), makeTasks(nkeys)
	for i, key := range keys {
		do(key, &tasks[i])
	}
	for i := range tasks {
		tasks[i].fn = func() (*page, error) {
			b.Error("got a load, want the value kept")
			return nil, nil
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		do(keys[i&(nkeys-1)], &tasks[i&(nkeys-1)])
		i++
	}
}
