// Table writes the outcomes of the libraries in the scenarios into a document:
//
//	go run ./cmd/table -write README.md
//
// It runs all of them first, and writes nothing unless the outcomes are those that are
// recorded.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/seed342dcb2d/coalesce/internal/verify/scenarios"
)

func main() {
	file := flag.String("write", "", "replace the tables in this `file`, in place of printing them")
	flag.Parse()
	if err := run(*file); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	test := exec.Command("go", "test", "-count=1", "-run=^TestOutcomes$", "github.com/seed342dcb2d/coalesce/internal/verify/scenarios")
	test.Stdout, test.Stderr = os.Stderr, os.Stderr
	if err := test.Run(); err != nil {
		return fmt.Errorf("the outcomes are not those recorded: %w", err)
	}
	if file == "" {
		fmt.Print(scenarios.Markdown())
		return nil
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err := scenarios.Replace(string(old))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}
