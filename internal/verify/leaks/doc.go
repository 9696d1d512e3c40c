// Package leaks holds only tests: that calls of a coalesce.Group leave no goroutine
// behind. They use two detectors, each of which finds goroutines that the other does not.
// goleak finds every goroutine that is left, but also one that is only late. The
// runtime's leak profile finds those that nothing can ever wake, but not one that waits
// on an object of a package variable. It exists in binaries that are built with
//
//	GOEXPERIMENT=goroutineleakprofile go test ./...
package leaks
