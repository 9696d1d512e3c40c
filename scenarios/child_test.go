package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds how one scenario is run against one library: in a process of
// its own, as some of them hang for ever or take the process with them.

const (
	// pairVar and answerVar tell the child what to run, and where to leave the
	// answer.
	pairVar   = "COALESCE_SCENARIO"
	answerVar = "COALESCE_ANSWER"

	passed = "passed"
)

// How long a child may take. The runtime finds by itself most of those that
// hang, save in a build with the race detector. Who is not expected to pass is
// waited for less.
const (
	patience   = 2 * time.Minute
	impatience = 10 * time.Second
)

// runPair runs s against p in a child, which is the running test binary with
// TestChild as its only test, for as long as limit. It returns how p failed, or
// "".
func runPair(dir string, s *Scenario, p *Peer, limit time.Duration) (string, error) {
	answer, err := os.CreateTemp(dir, "answer")
	if err != nil {
		return "", err
	}
	answer.Close()
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run", "^TestChild$", "-test.timeout", "0")
	// The race detector would have every child sleep for a second at its end.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"), pairVar+"="+s.Name+" "+p.Name, answerVar+"="+answer.Name())
	out, exit := cmd.CombinedOutput()
	said, err := os.ReadFile(answer.Name())
	if err != nil {
		return "", err
	}
	switch ended := errors.As(exit, new(*exec.ExitError)); {
	case exit != nil && !ended && ctx.Err() == nil:
		return "", exit
	case string(said) == passed && exit == nil:
		return "", nil
	case len(said) > 0 && string(said) != passed:
		return string(said), nil
	case ctx.Err() != nil:
		return stuck, nil
	}
	return verdict(string(out)), nil
}

// fatal is how the runtime begins to tell of an error that nothing recovers.
var fatal = regexp.MustCompile(`(?m)^fatal error: .*$`)

// verdict says how a child ended from what it printed.
func verdict(out string) string {
	switch {
	case strings.Contains(out, "WARNING: DATA RACE"):
		return "data race\n" + out
	case strings.Contains(out, "main bubble goroutine has exited but blocked goroutines remain"):
		return "leaves goroutines that are blocked for ever"
	case strings.Contains(out, "all goroutines in bubble are blocked"), strings.Contains(out, "all goroutines are asleep"):
		return stuck
	case fatal.MatchString(out):
		return fatal.FindString(out)
	case strings.Contains(out, "panic: "):
		return crashes
	}
	return "the process ended: " + out
}

// child is the test that runs in the child: with what the environment names, out
// of the given scenarios and peers. It skips where that names nothing.
func child(t *testing.T, all []Scenario, peers []*Peer) {
	name, peer, ok := strings.Cut(os.Getenv(pairVar), " ")
	if !ok {
		t.Skip("this runs in a child process")
	}
	for i := range all {
		for _, p := range peers {
			if s := &all[i]; s.Name == name && p.Name == peer {
				if s.Outside {
					report(t, s, p)
				} else {
					synctest.Test(t, func(t *testing.T) { report(t, s, p) })
				}
				tell(passed) // nor was a goroutine left behind
				return
			}
		}
	}
	t.Fatalf("no scenario %s, or no peer %s", name, peer)
}

// report runs s and leaves the answer if p fails. Then the process ends without
// waiting for what hangs.
func report(t *testing.T, s *Scenario, p *Peer) {
	if err := s.Run(t, p); err != nil {
		tell(err.Error())
		os.Exit(1)
	}
}

func tell(answer string) {
	if err := os.WriteFile(os.Getenv(answerVar), []byte(answer), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
