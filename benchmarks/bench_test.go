package benchmarks_test

import (
	"testing"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

// BenchmarkDo runs every workload on every implementation. The names are made
// for benchstat -col /impl.
func BenchmarkDo(b *testing.B) {
	for _, w := range benchmarks.Workloads(testing.Short()) {
		for _, r := range w.Runs {
			b.Run(w.Name+"/impl="+r.Impl, r.Bench)
		}
	}
	for _, why := range benchmarks.LeftOut(testing.Short()) {
		b.Log("left out: " + why)
	}
}
