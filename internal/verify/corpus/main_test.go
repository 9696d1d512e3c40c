package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	one := func(name string, kept bool, size int, blocks ...string) *input {
		in := &input{name: name, kept: kept, text: []byte(name + string(make([]byte, size))), reaches: map[feature]bool{}}
		for _, b := range blocks {
			in.reaches[feature{b, 1}] = true
		}
		return in
	}
	var names []string
	for _, in := range choose([]*input{
		one("reaches two", false, 9, "b", "c"),
		one("long", false, 9, "b", "c", "d"),
		one("short", false, 1, "b", "c", "d"),
		one("useless", false, 1, "a"),
		one("kept", true, 1, "a"),
		one("the rest", false, 1, "e"),
	}) {
		names = append(names, in.name)
	}
	if want := []string{"kept", "short", "the rest"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestFeatures(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile")
	text := "mode: count\nf.go:1.1,2.2 1 0\nf.go:3.1,4.2 2 5\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := features(profile)
	if err != nil || len(got) != 3 {
		t.Errorf("got %v, %v, want three features, nil", got, err)
	}
	for n := 1; n <= 3; n++ { // 5 is three bits long
		if !got[feature{"f.go:3.1,4.2", n}] {
			t.Errorf("got %v, want a run of length %d", got, n)
		}
	}
	if err := os.WriteFile(profile, []byte("mode: count\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := features(profile); err == nil {
		t.Errorf("nonsense: got %v, want an error", got)
	}
}
