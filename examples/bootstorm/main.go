// Bootstorm replays the boot storm that taught the Linux kernel to coalesce
// module loads, on real files, and compares four ways to meet it.
//
// At boot, every CPU of a large machine is announced as a device, and a worker
// for each of them loads the modules that match it. The workers share nothing,
// so hundreds of them read the same files at the same time, only to learn that
// somebody else was faster. Bootstorm starts such workers as goroutines, lets
// each walk its list of modules, prerequisites first, and counts what is read
// and what of it was read in vain, under each policy:
//
//	none      every load reads its file, and all but the first get EEXIST
//	etxtbsy   a load of a file in flight fails at once: the kernel's first
//	          attempt, here coalesce.Group.TryDo
//	seed      the kernel's second attempt, ported: one lock, 256 buckets
//	coalesce  coalesce.Group.Do, keyed by the identity of the file
//
// Run it with
//
//	go run ./examples/bootstorm
//
// and see the flags with -h. With -cycle it loads two modules that need each other
// instead, and shows what each policy makes of that. The exit status is 0 when every check held, 1 when
// one failed, 2 when a flag or an input is wrong, and 130 when the run was
// interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit statuses of the command.
const (
	exitOK          = 0
	exitFailed      = 1   // a check of the run did not hold
	exitUsage       = 2   // a flag or an input is wrong
	exitInterrupted = 130 // as a shell reports a command ended by ^C
)

func main() {
	// The handler stays for the whole run: a second ^C must not end the process
	// in the middle of removing what it has written.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, isTerminal(os.Stderr)))
}

// run is the whole command but for the process around it: it writes the report
// to stdout and everything else to stderr, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) int {
	opts, err := parseOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage())
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "bootstorm: %v\nbootstorm -h tells the flags\n", err)
		return exitUsage
	}

	var prog *progress
	if terminal {
		prog = &progress{w: stderr}
	}
	var rep outcome
	if opts.cycle {
		rep, err = executeCycle(ctx, opts)
	} else {
		rep, err = execute(ctx, opts, prog)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintf(stderr, "bootstorm: stopped: %v\n", err)
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(stderr, "bootstorm: %v\n", err)
		return exitUsage
	}

	// Only now, when nothing is left to clean up: a reader that has gone away
	// (bootstorm | head -1) ends the process at the first write.
	if err := rep.write(stdout, opts.json); err != nil {
		fmt.Fprintf(stderr, "bootstorm: cannot write the report: %v\n", err)
		return exitFailed
	}
	if problems := rep.problems(); len(problems) > 0 {
		for _, p := range problems {
			fmt.Fprintf(stderr, "bootstorm: check failed: %s\n", p)
		}
		return exitFailed
	}
	return exitOK
}

// An outcome is what the command has to tell.
type outcome interface {
	write(w io.Writer, asJSON bool) error
	problems() []string // the checks that did not hold
}

// execute prepares the files of the storm, runs it once under each policy, and
// leaves nothing behind.
func execute(ctx context.Context, opts options, prog *progress) (rep report, err error) {
	set, err := openModules(opts.root)
	if err != nil {
		return report{}, err
	}
	s, err := newStorm(opts, set)
	if err != nil {
		return report{}, err
	}
	if err := checkFileLimit(len(s.lists)); err != nil {
		return report{}, err
	}

	if opts.root == "" {
		dir, mkErr := os.MkdirTemp("", "bootstorm-")
		if mkErr != nil {
			return report{}, fmt.Errorf("cannot make a directory for the modules: %w", mkErr)
		}
		defer func() {
			if rmErr := os.RemoveAll(dir); rmErr != nil {
				err = errors.Join(err, fmt.Errorf("cannot remove the modules: %w", rmErr))
			}
		}()
		set.root = dir
		if err := set.writeFiles(ctx, s.used, prog); err != nil {
			return report{}, err
		}
	}
	if err := set.inspectFiles(ctx, s.used, prog); err != nil {
		return report{}, err
	}
	if err := s.settleOrder(); err != nil {
		return report{}, err
	}

	rep = newReport(opts, s)
	for _, name := range opts.policies {
		res, err := s.run(ctx, name, prog)
		if err != nil {
			return report{}, err
		}
		rep.Results = append(rep.Results, res)
	}
	return rep, nil
}
