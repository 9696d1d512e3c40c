package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// asCommand in the environment makes the test binary behave as the command.
const asCommand = "SEEDED_TEST_AS_COMMAND"

func init() {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
}

// TestFlags_AbsurdExits2: a value that makes no sense is not taken for another,
// and one line says what is wrong with it.
func TestFlags_AbsurdExits2(t *testing.T) {
	for _, args := range []string{
		"-parallel 0",
		"-parallel -1",
		"-parallel 1000000000",
		"-modes -1",
		"-modes 2000000000",
		"more",
	} {
		t.Run(args, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(args)...)
			cmd.Env = append(os.Environ(), asCommand+"=1")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
			_ = cmd.Wait() // the status is looked at below
			name, _, _ := strings.Cut(args, " ")
			if status := cmd.ProcessState.ExitCode(); status != 2 || strings.Count(stderr.String(), "\n") != 1 ||
				!strings.Contains(stderr.String(), name) {
				t.Errorf("got status %d, stderr %q; want 2 and one line about %s", status, stderr.String(), name)
			}
		})
	}
}
