package main

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestCurrent: the drawings in docs show the behavior of the callers.
func TestCurrent(t *testing.T) {
	for _, s := range scenes {
		synctest.Test(t, func(t *testing.T) {
			want, err := os.ReadFile("../../docs/" + s.file)
			if err != nil {
				t.Fatal(err)
			}
			if got := draw(record(s, time.Second)); got != string(want) {
				t.Errorf("got %s, want that of docs/%s", got, s.file)
			}
		})
	}
}
