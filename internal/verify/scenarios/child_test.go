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
// hang, save in a build with the race detector. Who is expected to hang, or only
// to fail, is waited for less.
const (
	patience   = 2 * time.Minute
	impatience = 5 * time.Second
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

// fatal is how the runtime begins to tell of an error that nothing recovers.
var fatal = regexp.MustCompile(`(?m)^fatal error: .*$`)

// verdict says how a child ended from what it printed.
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

// child is the test that runs in the child: with what the environment names, out
// of the given scenarios and peers. It skips where that names nothing.
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

// trials end in every way that runPair can tell from others.
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

// TestRunPair checks that what happens in a child is told as it is.
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
				t.Errorf("%q, %v; want %q", got, err, trials[i].want)
			}
		})
	}
}

// TestChild is what runs in the children.
func TestChild(t *testing.T) {
	all := All()
	for _, trial := range trials {
		all = append(all, trial.Scenario)
	}
	child(t, all, append(Peers(), brokenPeers()...))
}
