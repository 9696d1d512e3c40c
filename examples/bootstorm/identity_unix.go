//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"syscall"
)

// openNonblock makes the opening of a pipe return at once.
const openNonblock = syscall.O_NONBLOCK

// identify returns the identity of the file that info is about.
func identify(info fs.FileInfo) (fileID, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("%s: the system reports no device and inode number", info.Name())
	}
	// The widths and signs of the fields differ from system to system.
	return fileID{dev: uint64(st.Dev), ino: uint64(st.Ino)}, nil //nolint:unconvert // see above
}

// checkFileLimit reports an error if the process may not have as many files open
// as that many workers need, each of which holds the one it is loading.
func checkFileLimit(workers int) error {
	const spare = 32 // standard streams, the poller, and the like
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // unknown: a load that fails will report it
	}
	if uint64(limit.Cur) < uint64(workers+spare) { //nolint:unconvert // likewise
		return fmt.Errorf("%d workers hold a file open each,"+
			" but this process may only open %d (see ulimit -n)", workers, limit.Cur)
	}
	return nil
}
