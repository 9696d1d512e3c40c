// Bootstorm replays the boot storm that taught the Linux kernel to coalesce
// module loads, on real files, and compares four ways to meet it.
//
// At boot, every CPU of a large machine is announced as a device, and a worker
// for each of them loads the modules that match it. The workers share nothing,
// so hundreds of them read the same files at the same time, only to learn that
// another was faster. Bootstorm starts such workers as goroutines, lets
// each walk its list of modules, prerequisites first, and counts the bytes read
// and the bytes wasted, under each policy:
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
// instead, and shows the outcome under each policy.
//
// The exit status is 0 when every check held, 1 when one failed or the report
// could not be written, and 130 when the run was interrupted. It is 2 when there
// was nothing to run, and one line says why: a flag is wrong, a file of the tree
// is not a module, or the files of the storm cannot be written.
//
// The first ^C stops the run and removes its files; the second ends the process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// The exit statuses of the command.
const (
	exitOK          = 0
	exitFailed      = 1   // a check of the run did not hold, or its report is lost
	exitUsage       = 2   // there was nothing to run: a flag or a file is wrong
	exitInterrupted = 130 // as a shell reports a command ended by ^C
)

func main() {
	ctx, release := interruptible()
	os.Exit(run(ctx, release, os.Args[1:], os.Stdout, os.Stderr, isTerminal(os.Stderr)))
}

// run is the whole command except for the process around it: it writes the report to
// stdout and everything else to stderr, and returns the exit status. It calls release
// when nothing is left to clean up.
func run(ctx context.Context, release func(), args []string, stdout, stderr io.Writer, terminal bool) int {
	tell := func(status int, format string, args ...any) int {
		fmt.Fprintf(stderr, "bootstorm: %s\n", oneLine(fmt.Sprintf(format, args...)))
		return status
	}
	opts, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		release()
		if _, err := io.WriteString(stdout, usage()); err != nil {
			return tell(exitFailed, "cannot write the help: %v", err)
		}
		return exitOK
	}
	if err != nil {
		release()
		return tell(exitUsage, "%v; see bootstorm -h", err)
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
	// A write may wait for a reader who never comes, and a reader that has gone
	// away (bootstorm | head -1) ends the process: thus only now.
	release()
	switch {
	case err != nil && ctx.Err() != nil:
		return tell(exitInterrupted, "stopped: %v", err)
	case err != nil:
		return tell(exitUsage, "%v", err)
	}
	if err := rep.write(stdout, opts.json); err != nil {
		return tell(exitFailed, "cannot write the report: %v", err)
	}
	status := exitOK
	for _, p := range rep.problems() {
		status = tell(exitFailed, "check failed: %s", p)
	}
	return status
}

// oneLine returns text without line ends and other control characters, which may
// come from a file's name.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ReplaceAll(text, "\n", "; "))
}

// An outcome is the report of the command.
type outcome interface {
	write(w io.Writer, asJSON bool) error
	problems() []string // the checks that did not hold
}

// execute prepares the files of the storm, runs it once under each policy, and
// leaves nothing behind.
func execute(ctx context.Context, opts options, prog *progress) (rep report, err error) {
	set, err := openModules(ctx, opts.root)
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
	if err := s.checkBuffers(opts.policies); err != nil {
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
