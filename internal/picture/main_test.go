package main

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestCurrent: the drawing in docs is what the callers do.
func TestCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want, err := os.ReadFile("../../docs/flight.svg")
		if err != nil {
			t.Fatal(err)
		}
		if got := draw(record(time.Second)); got != string(want) {
			t.Errorf("docs/flight.svg is not as the callers do; got %s", got)
		}
	})
}
