package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/verify/mutate"
)

// TestBugs_AreMutants: each bug is a mutant of the package as it is now, no two are the same
// one, and each has a detector that must find it.
func TestBugs_AreMutants(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	p, err := mutate.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := find(p); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range columns {
		for _, s := range c.stages {
			names[s.Name] = true
		}
	}
	seen := map[string]string{}
	for _, b := range bugs {
		if other, ok := seen[b.key]; ok {
			t.Errorf("got %q and %q as %s, want one", other, b.name, b.key)
		}
		seen[b.key] = b.name
		if len(b.by) == 0 {
			t.Errorf("%s: got no detector, want one", b.name)
		}
		for _, name := range b.by {
			if !names[name] {
				t.Errorf("%s: got the detector %q, want one of a column", b.name, name)
			}
		}
	}
}

// TestFind_NamesTheBug: an error about a key that is no mutant says whose it is, and what
// there is in its place.
func TestFind_NamesTheBug(t *testing.T) {
	_, err := find(&mutate.Package{Mutants: []*mutate.Mutant{
		{File: "limits.go", Line: 7, Func: "shard.full", Kind: mutate.Boundary, Nth: 1, Of: 2, Text: "n >= m"},
	}})
	if err == nil {
		t.Fatal("got no error, want one")
	}
	lines := strings.Split(err.Error(), "\n")
	want := `"one waiter too many" in bugs.go: there is no mutant "shard.full boundary 1/1"; of its kind in its function there are:`
	if i := slices.Index(lines, want); i < 0 || lines[i+1] != "\tlimits.go:7 shard.full boundary 1/2: n >= m" {
		t.Errorf("got %s, want a line %s and below it that mutant", err, want)
	}
}
