//go:build !js

package main

import (
	"os"
	"syscall"
)

// endSignals are those that end a process which does not handle them.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
