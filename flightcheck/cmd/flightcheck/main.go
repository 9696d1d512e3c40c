// Flightcheck checks, and moves, programs that share executions. It is run by the go
// command:
//
//	go vet -vettool=$(which flightcheck) ./...
//	go fix -fixtool=$(which flightcheck) ./...
//
// What it checks is described in package
// [github.com/seed342dcb2d/coalesce/flightcheck], and by flightcheck help.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/seed342dcb2d/coalesce/flightcheck"
)

func main() {
	unitchecker.Main(flightcheck.Analyzers...)
}
