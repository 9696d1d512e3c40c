package fleet

import (
	"fmt"
	"testing"
	"time"
)

// This file tests Memory; package fleettest does so, too.

// TestMemory_Sweep: records of keys that are not used any more are removed.
func TestMemory_Sweep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := new(Memory)
		for i := range 10000 {
			if _, err := m.Swap(t.Context(), fmt.Sprint(i), 0, []byte("v"), time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			if n := len(m.records); n > 300 {
				t.Fatalf("got %d records, of which 100 have not expired", n)
			}
		}
	})
}
