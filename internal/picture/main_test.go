package main

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestCurrent: the drawing in docs shows the behavior of the callers.
func TestCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want, err := os.ReadFile("../../docs/flight.svg")
		if err != nil {
			t.Fatal(err)
		}
		if got := draw(record(time.Second)); got != string(want) {
			t.Errorf("got %s, want that of docs/flight.svg", got)
		}
	})
}
