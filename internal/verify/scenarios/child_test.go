package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// This file holds the run of one scenario against one library: in a process of its own,
// as some of them hang forever or end the process with them.

const (
	// pairVar and answerVar are the variables by which the child finds the scenario to
	// run, and the file for the answer.
	pairVar   = "COALESCE_SCENARIO"
	answerVar = "COALESCE_ANSWER"

	passed = "passed"
)

// The time that a child may take. The runtime finds by itself most of those that hang,
// except in a build with the race detector. A child that is expected to hang, or only to
// fail, gets less time.
const (
	patience   = 2 * time.Minute
	impatience = 5 * time.Second
)

// runPair runs s against p in a child, which is the running test binary with TestChild as
// its only test, for at most limit. It returns how p failed, or "".
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
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"), pairVar+"="+s.Name+"/"+p.Name, answerVar+"="+answer.Name())
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

// fatal is the beginning of the runtime's report of an error that nothing recovers.
var fatal = regexp.MustCompile(`(?m)^fatal error: .*$`)

// verdict returns how a child ended, from its output.
func verdict(out string) string {
	switch {
	case strings.Contains(out, "WARNING: DATA RACE"):
		return "data race\n" + out
	case strings.Contains(out, "main bubble goroutine has exited but blocked goroutines remain"):
		return leaks
	case strings.Contains(out, "all goroutines in bubble are blocked"), strings.Contains(out, "all goroutines are asleep"):
		return stuck
	case fatal.MatchString(out):
		return fatal.FindString(out)
	case strings.Contains(out, "panic: "):
		return crashes
	}
	return "the process ended: " + out
}

// child is the test that runs in the child: with the scenario and the peer that the
// environment names. It is skipped if that names none.
func child(t *testing.T, all []Scenario, peers []*Peer) {
	name, peer, ok := strings.Cut(os.Getenv(pairVar), "/")
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
				leave(passed) // nor was a goroutine left behind
				return
			}
		}
	}
	t.Fatalf("got scenario %s and peer %s, want existing ones", name, peer)
}

// report runs s and leaves the answer if p fails. Then the process ends without waiting
// for calls that hang.
func report(t *testing.T, s *Scenario, p *Peer) {
	if err := s.Run(t, p); err != nil {
		leave(err.Error())
		os.Exit(1)
	}
}

func leave(answer string) {
	if err := os.WriteFile(os.Getenv(answerVar), []byte(answer), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// trials end in every way that runPair distinguishes.
var trials = []struct {
	Scenario
	want string
}{
	{Scenario{Name: "passes", Run: func(*testing.T, *Peer) error { return nil }}, ""},
	{Scenario{Name: "fails", Run: func(*testing.T, *Peer) error { return errTest }}, errTest.Error()},
	{Scenario{Name: "leaks", Run: func(*testing.T, *Peer) error {
		go func() { select {} }()
		return nil
	}}, leaks},
	{Scenario{Name: "hangs", Run: func(*testing.T, *Peer) error { select {} }}, stuck},
	{Scenario{Name: "hangs outside", Outside: true, Run: func(*testing.T, *Peer) error { select {} }}, stuck},
	{Scenario{Name: "hangs at a lock", Run: func(*testing.T, *Peer) error {
		var mu sync.Mutex
		mu.Lock()
		mu.Lock()
		return nil
	}}, stuck},
	{Scenario{Name: "spins", Outside: true, Run: func(*testing.T, *Peer) error {
		for {
			runtime.Gosched()
		}
	}}, stuck},
	{Scenario{Name: "crashes", Run: func(*testing.T, *Peer) error {
		go panic(errTest)
		select {}
	}}, crashes},
	{Scenario{Name: "is fatal", Run: func(*testing.T, *Peer) error {
		new(sync.Mutex).Unlock()
		return nil
	}}, "fatal error: sync: unlock of unlocked mutex"},
	{Scenario{Name: "ends", Run: func(*testing.T, *Peer) error {
		os.Exit(0)
		return nil
	}}, "the process ended: "},
}

// TestRunPair checks that runPair returns the end of a child.
func TestRunPair(t *testing.T) {
	dir := t.TempDir()
	for i := range trials {
		t.Run(trials[i].Name, func(t *testing.T) {
			t.Parallel()
			limit := patience
			if trials[i].want == stuck {
				limit = impatience
			}
			got, err := runPair(dir, &trials[i].Scenario, Peers()[0], limit)
			if err != nil || got != trials[i].want {
				t.Errorf("got %q, %v, want %q, nil", got, err, trials[i].want)
			}
		})
	}
}

// TestChild is the test that runs in the children.
func TestChild(t *testing.T) {
	all := All()
	for _, trial := range trials {
		all = append(all, trial.Scenario)
	}
	child(t, all, append(Peers(), brokenPeers()...))
}
