//go:build unix

package mutate

import (
	"os/exec"
	"syscall"
)

// endWhole makes the end of the command's context also end the processes that it has
// started: tests start the binary again.
func endWhole(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
