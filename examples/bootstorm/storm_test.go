package main

import (
	"context"
	"slices"
	"testing"
	"time"
)

const (
	cpuBytes   = 4_937_094 // in the distinct files of the cpu storm
	cpuLargest = 2_378_193 // kvm.ko
)

// runStorm writes the files of set, unless it has some, runs the storm and fails
// the test if a check of the report does.
func runStorm(t *testing.T, set *moduleSet, args ...string) report {
	t.Helper()
	rep := runStormUnchecked(t, set, nil, args...)
	for _, p := range rep.problems() {
		t.Errorf("got the failed check %q, want none", p)
	}
	return rep
}

// runStormUnchecked is runStorm without the checks; tamper, if any, is called
// when the files have been inspected.
func runStormUnchecked(t *testing.T, set *moduleSet, tamper func(), args ...string) report {
	t.Helper()
	opts, err := parseOptions(args)
	if err != nil {
		t.Fatal(err)
	}
	opts.root = set.root
	s, err := newStorm(opts, set)
	if err != nil {
		t.Fatal(err)
	}
	// A gate that does not open fails the test, but does not hang it.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if set.root == "" {
		set.root = t.TempDir()
		if err := set.writeFiles(ctx, s.used, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.inspectFiles(ctx, s.used, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.settleOrder(); err != nil {
		t.Fatal(err)
	}
	if tamper != nil {
		tamper()
	}
	rep := newReport(opts, s)
	for _, name := range opts.policies {
		res, err := s.run(ctx, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		rep.Results = append(rep.Results, res)
	}
	return rep
}

// embedded returns the embedded set, with all sizes divided by shrink.
func embedded(t *testing.T, shrink int64) *moduleSet {
	t.Helper()
	set, err := openModules(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.modules {
		set.modules[i].size /= shrink
	}
	return set
}

// counts are the figures of a result that are the same in every run.
type counts struct {
	attempts, leaders, joined, busy, late, skipped int64
	failed, live                                   int
	read, wasted                                   int64
}

func (r result) counts() counts {
	return counts{
		r.Attempts, r.Leaders, r.Joined, r.Busy, r.Late, r.Skipped,
		r.FailedWorkers, r.LiveModules, r.BytesRead, r.BytesWasted,
	}
}

// The waste of a policy when all loads overlap is exact, not luck.
func TestStorm_CPUOverlapIsExact(t *testing.T) {
	const workers = 8
	want := map[string]counts{
		"none": {
			attempts: 22 * workers, leaders: 22 * workers, late: 22 * (workers - 1), skipped: 11 * workers,
			live: 22, read: workers * cpuBytes, wasted: (workers - 1) * cpuBytes,
		},
		// One worker gets the first file; all others are refused as busy.
		"etxtbsy": {
			attempts: 22 + workers - 1, leaders: 22, busy: workers - 1, skipped: 11,
			failed: workers - 1, live: 22, read: cpuBytes,
		},
		"seed": {
			attempts: 22 * workers, leaders: 22, joined: 22 * (workers - 1), skipped: 11 * workers,
			live: 22, read: cpuBytes,
		},
		"coalesce": {
			attempts: 22 * workers, leaders: 22, joined: 22 * (workers - 1), skipped: 11 * workers,
			live: 22, read: cpuBytes,
		},
	}
	rep := runStorm(t, embedded(t, 1), "-workers", "8")
	if rep.Steps != 33*workers || rep.StepBytes != 1_382_377_695/255*workers {
		t.Errorf("got %d steps of %d bytes, want %d", rep.Steps, rep.StepBytes, 33*workers)
	}
	for _, r := range rep.Results {
		if got := r.counts(); got != want[r.Policy] {
			t.Errorf("%s:\n got %+v\nwant %+v", r.Policy, got, want[r.Policy])
		}
		peak := int64(cpuLargest)
		if r.Policy == "none" {
			peak *= workers
		}
		if r.PeakBytesLive != peak {
			t.Errorf("%s: got a peak of %d bytes, want %d", r.Policy, r.PeakBytesLive, peak)
		}
	}
}

func TestStorm_SingleWorkerWastesNothing(t *testing.T) {
	rep := runStorm(t, embedded(t, 64), "-workers", "1")
	for _, r := range rep.Results {
		if r.Leaders != 22 || r.Attempts != 22 || r.Late != 0 || r.FailedWorkers != 0 {
			t.Errorf("got %+v, want 22 leaders and no waste", r)
		}
	}
}

// The prerequisites of 1,121 modules are shared in every way that a real tree
// has: the gates must open, and each file be read once.
func TestStorm_EverythingOverlapIsExact(t *testing.T) {
	set := embedded(t, 64)
	rep := runStorm(t, set, "-storm", "everything")
	if rep.Workers != 1121 || rep.Steps != 2870 || rep.Files != 1121 {
		t.Errorf("got %d workers, %d steps, %d files, want 1121, 2870, 1121", rep.Workers, rep.Steps, rep.Files)
	}
	if len(rep.Notes) > 0 {
		t.Errorf("got notes %q, want none", rep.Notes)
	}
	shared := counts{attempts: 2870, leaders: 1121, joined: 1749, live: 1121, read: rep.Bytes}
	want := map[string]counts{
		"none": {
			attempts: 2870, leaders: 2870, late: 1749,
			live: 1121, read: rep.StepBytes, wasted: rep.StepBytes - rep.Bytes,
		},
		"seed":     shared,
		"coalesce": shared,
	}
	for _, r := range rep.Results {
		if r.Policy == "etxtbsy" {
			// The refused workers depend on the order of arrival, but they are many: the
			// modules that others need have a worker of their own.
			if r.FailedWorkers < 100 || r.LiveModules == 1121 || r.BytesWasted != 0 {
				t.Errorf("etxtbsy: got %+v, want many failed workers and no waste", r)
			}
			continue
		}
		if got := r.counts(); got != want[r.Policy] {
			t.Errorf("%s:\n got %+v\nwant %+v", r.Policy, got, want[r.Policy])
		}
	}
}

// The figures that the embedded set is known by.
func TestModules_EmbeddedFigures(t *testing.T) {
	set := embedded(t, 1)
	var sum, withPrereqs int64
	for i, m := range set.modules {
		sum += m.size
		for _, j := range set.withPrereqs(i) {
			withPrereqs += set.modules[j].size
		}
	}
	if len(set.modules) != 1121 || sum != 91_512_937 || withPrereqs != 374_491_678 {
		t.Errorf("got %d modules of %d bytes, %d with prerequisites, want 1121, 91,512,937, 374,491,678", len(set.modules), sum, withPrereqs)
	}
}

// When the workers run freely, the waste is luck, but every worker succeeds unless
// refused, and the waste is that of the late; the report checks the rest.
func TestStorm_FreeArrivals(t *testing.T) {
	for _, arrivals := range [][]string{
		{"-arrivals", "burst"},
		{"-arrivals", "burst", "-init", "0"},
		{"-arrivals", "poisson", "-rate", "5000", "-init", "500us"},
	} {
		rep := runStorm(t, embedded(t, 16), append(arrivals, "-workers", "60")...)
		for _, r := range rep.Results {
			if (r.Late == 0) != (r.BytesWasted == 0) {
				t.Errorf("%v: got %d late and %d bytes wasted, want both or neither", arrivals, r.Late, r.BytesWasted)
			}
			if r.Policy == "etxtbsy" {
				continue
			}
			if r.FailedWorkers != 0 || r.Leaders != 22+r.Late {
				t.Errorf("%v: got %+v, want no failed worker", arrivals, r)
			}
		}
	}
}

func TestStorm_NamedModules(t *testing.T) {
	rep := runStorm(t, embedded(t, 64), "-workers", "4", "-policy", "coalesce", "-modules", "kvm-intel,xfs")
	// irqbypass, kvm and kvm_intel; libcrc32c and xfs.
	if r := rep.Results[0]; rep.Steps != 4*5 || r.Leaders != 5 || r.Joined != 15 {
		t.Errorf("got %d steps, %+v, want 20, 5 leaders, 15 joined", rep.Steps, r)
	}
}

func TestPoissonDelays(t *testing.T) {
	const n, rate = 10_000, 500
	delays := poissonDelays(n, rate, 7)
	if !slices.Equal(delays, poissonDelays(n, rate, 7)) {
		t.Error("the same seed: got other delays, want the same")
	}
	if slices.Equal(delays, poissonDelays(n, rate, 8)) {
		t.Error("another seed: got the same delays, want others")
	}
	if slices.IsSorted(delays) {
		t.Error("got workers that arrive in their own order, want another")
	}
	// The sum of n gaps has a relative deviation of 1/sqrt(n), here 1 %.
	last := slices.Max(delays)
	if want := time.Duration(n) * time.Second / rate; last < want*95/100 || last > want*105/100 {
		t.Errorf("got the last arrival after %v, want about %v", last, want)
	}
}
