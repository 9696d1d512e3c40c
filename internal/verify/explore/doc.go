// Package explore holds the programs that the explorer of package sched runs in all
// orders, within bounds:
//
//	go test -tags coalesceexplore -cpu 1 ./internal/verify/explore
//
// Without the tag it is empty.
package explore
