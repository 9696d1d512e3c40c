package benchmarks

import (
	"context"
	"fmt"
	"testing"

	"github.com/maypok86/otter/v2"
	samber "github.com/samber/go-singleflightx"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the workload of a call for many keys at once. A package without such a
// call makes a call for each key, one after the other.

// multiKeys is the number of keys of a call.
const multiKeys = 100

func multiWorkloads() []Workload {
	type pages = map[string]*page
	runs := []Run{
		{Impl: Coalesce, Bench: func(b *testing.B) {
			g, ctx := new(coalesce.Group[string, *page]), context.Background()
			multi(b, func(keys []string, loaded pages) int {
				return len(g.DoMulti(ctx, keys, func(context.Context, []string) (pages, error) { return loaded, nil }))
			})
		}},
		{Impl: Samber, Note: "DoX, on the caller's goroutine: no caller can leave", Bench: func(b *testing.B) {
			g := new(samber.Group[string, *page])
			multi(b, func(keys []string, loaded pages) int {
				return len(g.DoX(keys, func([]string) (pages, error) { return loaded, nil }))
			})
		}},
		{Impl: SamberSharded, Note: "DoX, which calls fn once for each shard", Bench: func(b *testing.B) {
			g := samberSharded[string]()
			multi(b, func(keys []string, loaded pages) int {
				return len(g.DoX(keys, func([]string) (pages, error) { return loaded, nil }))
			})
		}},
	}
	runs = append(runs, Run{
		Impl: Otter, Note: "BulkGet of a cache that forgets at once; fn runs on the caller's goroutine",
		Bench: func(b *testing.B) {
			// Its loads must succeed, as a failure has room for one result only.
			c, ctx := otter.Must(&otter.Options[string, *page]{}), context.Background()
			multi(b, func(keys []string, loaded pages) int {
				results, err := c.BulkGet(ctx, keys, otter.BulkLoaderFunc[string, *page](
					func(context.Context, []string) (pages, error) { return loaded, nil }))
				if err != nil {
					b.Fatal(err)
				}
				c.InvalidateAll()
				return len(results)
			})
		},
	})
	for _, impl := range implementations[string](nil) {
		switch impl.name {
		case XSync, Resenje, Tailscale, MapOf:
			note := join(fmt.Sprintf("%d times Do, with an fn for one key", multiKeys), impl.note)
			runs = append(runs, Run{Impl: impl.name, Note: note, Bench: func(b *testing.B) {
				do, tasks := impl.newCall(), makeTasks(multiKeys)
				multi(b, func(keys []string, _ pages) int {
					results := make(pages, len(keys))
					for i, key := range keys {
						results[key], _ = do(key, &tasks[i])
					}
					return len(results)
				})
			}})
		}
	}
	return []Workload{{
		Name:  fmt.Sprintf("work=multi/keys=%d", multiKeys),
		Title: fmt.Sprintf("`DoMulti`, %d keys that no other call wants", multiKeys),
		Units: []string{nsPerOp},
		Quick: true,
		Without: "Without the others that have no call for many keys: the table shows how such a call" +
			" compares with a loop.",
		Runs: runs,
	}}
}

// multi calls do, which returns the number of its results.
func multi(b *testing.B, do func(keys []string, loaded map[string]*page) int) {
	keys, loaded := makeKeys(0, multiKeys), make(map[string]*page, multiKeys)
	for _, key := range keys {
		loaded[key] = new(page)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := do(keys, loaded); n != multiKeys {
			b.Fatalf("got %d results, want %d", n, multiKeys)
		}
	}
}
