//go:build unix

package procs

import "syscall"

// Pause stops the child until Resume, and reports whether the system can do that.
func (p *Process) Pause() bool { return p.cmd.Process.Signal(syscall.SIGSTOP) == nil }

// Resume lets a child go on.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
