// Package commandtest tests commands by running the test binary as the command.
package commandtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// variable in the environment makes a test binary behave as the command that it tests.
const variable = "COALESCE_TEST_AS_COMMAND"

// Init is to be called by an init function of the tests of a command. If the test binary
// is to be the command, it calls main and exits.
func Init(main func()) {
	if os.Getenv(variable) != "" {
		main()
		os.Exit(0)
	}
}

// Absurd checks, for each of the command lines, that a value which makes no sense is not
// taken for another: the command exits with 2, and prints one line to its standard error
// which names the first argument.
func Absurd(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		t.Run(line, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(line)...)
			cmd.Env = append(os.Environ(), variable+"=1")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
			_ = cmd.Wait() // the status is looked at below
			name, _, _ := strings.Cut(line, " ")
			status, text := cmd.ProcessState.ExitCode(), stderr.String()
			if status != 2 || strings.Count(text, "\n") != 1 || !strings.Contains(text, name) {
				t.Errorf("got status %d, stderr %q; want 2 and one line about %s", status, text, name)
			}
		})
	}
}
