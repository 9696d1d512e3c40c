// Picture runs three callers that want the same thing, and draws when each of them came,
// waited and went: the picture of the README.
//
//	go run ./internal/picture docs/flight.svg
//
// It draws the real behavior of the package; the times are rounded to a tenth of the time
// that fn takes. The test of this command runs the same callers in a synctest bubble,
// where time is exact, and compares the result with the file.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/picture FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(draw(record(100*time.Millisecond))), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}
