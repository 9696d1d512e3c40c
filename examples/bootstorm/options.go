package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// The values of -storm and -arrivals.
const (
	stormCPU        = "cpu"
	stormEverything = "everything"

	arriveOverlap = "overlap"
	arriveBurst   = "burst"
	arrivePoisson = "poisson"
)

// maxWorkers is the number that udev starts at most. Under the policy none each worker
// holds a buffer of its own, so that many more would fill the memory of most machines.
const maxWorkers = 2048

// maxInit is longer than any module takes to come up.
const maxInit = time.Minute

// options is the command line, checked.
type options struct {
	root     string // a module tree; empty for the embedded set
	storm    string
	workers  int      // of the cpu storm
	modules  []string // the modules that a worker of the cpu storm loads; nil for the embedded list
	arrivals string
	rate     float64 // arrivals per second, for poisson
	seed     uint64  // of the arrivals, for poisson
	init     time.Duration
	policies []string
	cycle    bool // demonstrate a cycle instead of a storm
	json     bool
}

// newFlags binds the flags to o; the comma-separated lists are left in policies
// and modules.
func newFlags(o *options, policies, modules *string) *flag.FlagSet {
	fs := flag.NewFlagSet("bootstorm", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.root, "root", "",
		"run on the module tree in `DIR` (as /lib/modules/VERSION) instead of the embedded one")
	fs.StringVar(&o.storm, "storm", stormCPU,
		"cpu: every worker loads the modules of one CPU;\neverything: one worker for each module of the tree")
	fs.IntVar(&o.workers, "workers", 255, "number of workers of the cpu storm")
	fs.StringVar(modules, "modules", "",
		"`names` of modules, separated by commas, that a worker of the cpu storm\n"+
			"loads with their prerequisites (default: those of a real CPU)")
	fs.StringVar(&o.arrivals, "arrivals", arriveOverlap,
		"overlap: a load is held open until every worker that will ask for its file has asked;\n"+
			"burst: all workers start at once and run freely;\npoisson: they arrive one by one, at random")
	fs.Float64Var(&o.rate, "rate", 5000, "arrivals per second, on average (poisson)")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the random arrivals (poisson)")
	fs.DurationVar(&o.init, "init", 2*time.Millisecond,
		"time that a module takes to come up after its file was read (burst, poisson)")
	fs.StringVar(policies, "policy", strings.Join(policyNames, ","),
		"policies to compare, separated by commas")
	fs.BoolVar(&o.cycle, "cycle", false,
		"instead of a storm, load two modules that need each other, and show which policy\n"+
			"reports the cycle, and which hangs (takes -policy and -json only)")
	fs.BoolVar(&o.json, "json", false, "write one JSON document instead of the table")
	return fs
}

// usage returns the text that -h prints.
func usage() string {
	var o options
	var policies, modules string
	var b strings.Builder
	b.WriteString("usage: bootstorm [flags]\n\n" +
		"Replays the module loads of a boot under several policies and reports how much each wastes.\n\n")
	fs := newFlags(&o, &policies, &modules)
	fs.SetOutput(&b)
	fs.PrintDefaults()
	b.WriteString("\nThe exit status is 0 if every check held, 1 if one failed or the report could not be\n" +
		"written, 2 if there was nothing to run, and 130 after an interrupt; a second one ends it.\n")
	return b.String()
}

// parseOptions reads and checks the command line. The error is flag.ErrHelp if
// help was asked for.
func parseOptions(args []string) (options, error) {
	var o options
	var policies, modules string
	fs := newFlags(&o, &policies, &modules)
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })

	if given["root"] && o.root == "" {
		return o, errors.New("-root is empty")
	}
	if given["modules"] {
		o.modules = splitList(modules)
		if len(o.modules) == 0 {
			return o, errors.New("-modules names no module")
		}
	}
	o.policies = splitList(policies)
	if o.cycle {
		for _, name := range slices.Sorted(maps.Keys(given)) {
			if name != "cycle" && name != "policy" && name != "json" {
				return o, fmt.Errorf("-%s has no effect with -cycle, which is no storm", name)
			}
		}
	}
	return o, o.check(given)
}

// check returns the first error in o. A flag that was given but would have no effect is
// an error, too: its user expects one.
func (o *options) check(given map[string]bool) error {
	switch o.storm {
	case stormCPU:
	case stormEverything:
		for _, name := range []string{"workers", "modules"} {
			if given[name] {
				return fmt.Errorf("-%s needs -storm cpu:"+
					" the storm everything has one worker for each module", name)
			}
		}
	default:
		return fmt.Errorf("unknown storm %q (want cpu or everything)", o.storm)
	}
	if o.workers < 1 || o.workers > maxWorkers {
		return fmt.Errorf("-workers is %d (want 1 to %d)", o.workers, maxWorkers)
	}

	if err := o.checkArrivals(given); err != nil {
		return err
	}

	if len(o.policies) == 0 {
		return errors.New("-policy names no policy")
	}
	for i, name := range o.policies {
		if !slices.Contains(policyNames, name) {
			return fmt.Errorf("unknown policy %q (want some of %s)",
				name, strings.Join(policyNames, ", "))
		}
		if slices.Contains(o.policies[:i], name) {
			return fmt.Errorf("policy %s is named twice", name)
		}
	}
	return nil
}

// checkArrivals returns the first error in the arrivals of o.
func (o *options) checkArrivals(given map[string]bool) error {
	switch o.arrivals {
	case arrivePoisson:
	case arriveOverlap, arriveBurst:
		for _, name := range []string{"rate", "seed"} {
			if given[name] {
				return fmt.Errorf("-%s needs -arrivals poisson", name)
			}
		}
	default:
		return fmt.Errorf("unknown arrivals %q (want overlap, burst or poisson)", o.arrivals)
	}
	if o.arrivals == arriveOverlap {
		if given["init"] {
			return errors.New("-init needs -arrivals burst or poisson:" +
				" with overlap, a load takes until all have asked")
		}
		o.init = 0
	}
	if o.init < 0 || o.init > maxInit {
		return fmt.Errorf("-init is %v (want 0s to %v)", o.init, maxInit)
	}
	// Written so that NaN fails, too.
	if !(o.rate >= 0.1 && o.rate <= 1e9) {
		return fmt.Errorf("-rate is %v (want 0.1 to 1e9 arrivals per second)", o.rate)
	}
	return nil
}

// splitList splits a list at its commas and drops empty elements.
func splitList(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}
