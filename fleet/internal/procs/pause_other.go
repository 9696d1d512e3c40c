//go:build !unix

package procs

// Pause stops the child until Resume, and reports whether the system can do that.
func (p *Process) Pause() bool { return false }

// Resume lets a child go on.
func (p *Process) Resume() {}
