package main

import (
	"testing"
)

// TestBugs: each bug can be planted: the sources have the text that it replaces.
func TestBugs(t *testing.T) {
	t.Chdir("../..")
	seen := map[string]bool{}
	for _, b := range bugs {
		if seen[b.name] {
			t.Errorf("two bugs are named %q", b.name)
		}
		seen[b.name] = true
		if _, err := apply(b); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
}
