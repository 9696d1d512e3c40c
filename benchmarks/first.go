package benchmarks

import (
	"runtime"
	"testing"
)

// This file holds the workload of a group that is used once: the cost of a group for each
// request or each tenant.

func firstWorkloads(s sizes) []Workload {
	const key = "key-00-000000000"
	var runs []Run
	for _, impl := range implementations[string](nil) {
		switch impl.name {
		case SamberSharded, Otter: // made for one group in a process
			continue
		}
		runs = append(runs, Run{Impl: impl.name, Note: impl.note, Bench: func(b *testing.B) {
			t := &makeTasks(1)[0]
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				if _, err := impl.newCall()(key, t); err != nil {
					b.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), bytesPerGroup)
		}})
	}
	w := Workload{
		Name:    "work=first/keys=1",
		Title:   "a new group and its first `Do`",
		Units:   []string{nsPerOp, bytesPerGroup},
		Without: "Without those that are made for one group in a process.",
		Runs:    runs,
	}
	return append([]Workload{w}, onProcs(w, s.firstProcs)...)
}
