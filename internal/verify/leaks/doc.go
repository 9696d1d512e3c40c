// Package leaks holds nothing but tests: that calls of a coalesce.Group leave no
// goroutine behind. They look in two ways, each of which finds what the other does
// not. goleak finds every goroutine that is left, but also one that is only
// late. The runtime's leak profile finds those that nothing can ever wake, but not
// one that waits on what a package variable holds. It is there in binaries that are
// built with
//
//	GOEXPERIMENT=goroutineleakprofile go test ./...
package leaks
