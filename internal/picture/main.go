// Picture runs a few callers that want the same thing, and draws when each of them came,
// waited and went: the pictures of the README and of the guide.
//
//	go run ./internal/picture docs
//
// It draws the real behavior of the package; the times are rounded to a tenth of the time
// that fn takes. The test of this command runs the same callers in a synctest bubble,
// where time is exact, and compares the results with the files.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/picture DIR")
		os.Exit(2)
	}
	for _, s := range scenes {
		if err := os.WriteFile(filepath.Join(os.Args[1], s.file), []byte(draw(record(s, 100*time.Millisecond))), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "picture:", err)
			os.Exit(1)
		}
	}
}
