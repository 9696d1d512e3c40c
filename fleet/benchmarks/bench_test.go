package main

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		serve()
		return
	}
	os.Exit(m.Run())
}

// TestTables: each table can be measured.
func TestTables(t *testing.T) {
	*rounds = 2
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
